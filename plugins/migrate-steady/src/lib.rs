//! Migration strategy: evens out the nodes by weight, with few moves, and leaves alone what is even
//! enough. The same question always has the same answer.
#![deny(unsafe_code)]

mod steady;

pub use steady::plan;

use zepto_sdk::{About, Error, Host, Open, Plan, PlanRequest, Plugin, Status};

/// The plugin. It remembers nothing.
#[derive(Debug)]
pub struct Steady;

impl Plugin for Steady {
    const ABOUT: About = About::migration("migrate-steady", env!("CARGO_PKG_VERSION"), "zepto");

    fn open(_: &Host, open: &Open<'_>) -> Result<Self, Error> {
        if open.config.is_empty() || open.config == "{}" {
            return Ok(Self);
        }
        Err(Error::invalid("configuration: there is nothing to configure; leave it out"))
    }

    fn start(&mut self, _: &Host) -> Result<(), Error> {
        Ok(())
    }

    fn plan(&mut self, _: &Host, request: &PlanRequest<'_>) -> Result<Plan, Error> {
        Ok(plan(request))
    }

    /// The next question says where everything is, so nothing is to be learned from a result.
    fn moved(&mut self, _: &Host, _: u64, _: Status) -> Result<(), Error> {
        Ok(())
    }
}

zepto_sdk::export!(Steady);
