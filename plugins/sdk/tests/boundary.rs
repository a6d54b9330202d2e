//! The boundary of the SDK, without a host: what comes in as bytes reaches the right method, and a
//! panic of the author's stops there.

use zepto_abi::plugin::{self as abi, PluginStatus};
use zepto_message::Event;
use zepto_sdk::glue::Slot;
use zepto_sdk::{About, Error, Host, Open, Plugin};

/// Panics where its configuration says.
struct Brittle(String);

impl Plugin for Brittle {
    const ABOUT: About = About::discovery("brittle", "0.1.0", "tests");

    fn open(_: &Host, open: &Open<'_>) -> Result<Self, Error> {
        match open.config {
            "open" => panic!("in open"),
            "refuse" => Err(Error::invalid("no")),
            config => Ok(Self(config.to_owned())),
        }
    }

    fn start(&mut self, _: &Host) -> Result<(), Error> {
        assert!(self.0 != "start", "in start");
        Ok(())
    }

    fn health(&mut self, _: &Host) -> Result<(), Error> {
        assert!(self.0 != "health", "in health");
        Ok(())
    }
}

impl Drop for Brittle {
    fn drop(&mut self) {
        assert!(self.0 != "close", "in close");
    }
}

static SLOT: Slot<Brittle> = Slot::new();

fn open(config: &str) -> i64 {
    SLOT.open(1, &Open { config, ..Open::default() }.write())
}

fn event(instance: i64, kind: u32) -> i32 {
    SLOT.event(instance, &Event { kind, ..Event::default() }.write())
}

#[test]
fn a_panic_is_a_status_and_the_end_of_the_instance() {
    assert_eq!(open("open"), i64::from(PluginStatus::Panic.code()));
    for (config, kind) in [("start", abi::EV_START), ("health", abi::EV_HEALTH)] {
        let instance = open(config);
        assert!(instance > 0);
        assert_eq!(event(instance, kind), PluginStatus::Panic.code());
        assert_eq!(event(instance, abi::EV_WAKE), PluginStatus::Panic.code(), "nothing is called");
        assert_eq!(SLOT.close(instance), 0);
    }
    let instance = open("close");
    assert_eq!(SLOT.close(instance), PluginStatus::Panic.code());
}

#[test]
fn other_instances_are_as_they_were() {
    let (good, bad) = (open("good"), open("start"));
    assert_eq!(event(bad, abi::EV_START), PluginStatus::Panic.code());
    assert_eq!(event(good, abi::EV_START), 0);
    assert_eq!(event(good, abi::EV_TIMER), PluginStatus::Unsupported.code(), "not overridden");
    assert_eq!(event(good, 0x999), PluginStatus::Unsupported.code(), "of the future");
    assert_eq!(SLOT.event(good, b"no message"), PluginStatus::Invalid.code());
    assert_eq!((SLOT.close(good), SLOT.close(bad)), (0, 0));
    assert_eq!(event(good, abi::EV_START), PluginStatus::BadHandle.code());
    assert_eq!(SLOT.close(good), PluginStatus::BadHandle.code());
}

#[test]
fn what_does_not_open_says_so() {
    assert_eq!(open("refuse"), i64::from(PluginStatus::Invalid.code()));
    assert_eq!(SLOT.open(1, b"no message"), i64::from(PluginStatus::Invalid.code()));
}
