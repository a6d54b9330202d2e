//! From bytes to the methods of a plugin, and back.

use crate::error::Error;
use crate::host::{Host, Moment, Question, Token};
use crate::plugin::Plugin;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use zepto_abi::plugin::{self as abi, PluginStatus};
use zepto_message::{Datagram, Event, Open, PlanRequest, Response, Snap};

/// Nodes and partitions of a question that are read.
const PLAN_ITEMS_MAX: u32 = 1 << 20;

/// The instances of one plugin in one library or module.
#[derive(Debug, Default)]
pub struct Slot<P>(Mutex<Instances<P>>);

#[derive(Debug)]
struct Instances<P> {
    next: i64,
    open: BTreeMap<i64, Opened<P>>,
}

#[derive(Debug)]
struct Opened<P> {
    /// The host's handle.
    ctx: u64,
    /// What is granted, `CAP_*`.
    granted: u64,
    /// Away while it is called.
    plugin: Option<P>,
}

impl<P> Default for Instances<P> {
    fn default() -> Self {
        Self { next: 0, open: BTreeMap::new() }
    }
}

impl<P> Slot<P> {
    /// No instance yet.
    pub const fn new() -> Self {
        Self(Mutex::new(Instances { next: 0, open: BTreeMap::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, Instances<P>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A panic of the author's must not leave through the host.
fn caught<R>(call: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Error::new(PluginStatus::Panic, format!("panic: {text}")))
    })
}

impl<P: Plugin> Slot<P> {
    /// `zp_plugin_open_v1`.
    pub fn open(&self, ctx: u64, message: &[u8]) -> i64 {
        super::imports::log_panics(ctx);
        let open = Open::read(message);
        let granted = open.as_ref().map_or(0, |open| open.granted_caps);
        let host = Host::new(ctx, granted, Moment::default());
        let opened = open
            .map_err(|malformed| Error::new(malformed.status(), malformed.to_string()))
            .and_then(|open| caught(|| P::open(&host, &open)));
        match opened {
            Ok(plugin) => {
                let mut instances = self.lock();
                instances.next += 1;
                let handle = instances.next;
                let opened = Opened { ctx, granted, plugin: Some(plugin) };
                instances.open.insert(handle, opened);
                handle
            }
            Err(error) => {
                host.set_error(&error);
                error.status.code().into()
            }
        }
    }

    /// `zp_plugin_event_v1`.
    pub fn event(&self, instance: i64, message: &[u8]) -> i32 {
        let Ok(event) = Event::read(message) else { return PluginStatus::Invalid.code() };
        // Taken out, so that a panic leaves nothing half done behind: it is not put back then.
        let taken = self
            .lock()
            .open
            .get_mut(&instance)
            .map(|opened| (opened.ctx, opened.granted, opened.plugin.take()));
        let Some((ctx, granted, plugin)) = taken else { return PluginStatus::BadHandle.code() };
        let Some(mut plugin) = plugin else { return PluginStatus::Panic.code() };
        let (mono_ns, wall_ns) = (event.mono_ns, event.wall_ns);
        let moment = Moment { mono_ns, wall_ns, deadline_ns: event.deadline_ns };
        let host = Host::new(ctx, granted, moment);
        let handled = caught(|| handle(&mut plugin, &host, &event));
        let status = match handled {
            Ok(()) => PluginStatus::Ok,
            Err(error) => {
                if error.status != PluginStatus::Unsupported {
                    host.set_error(&error);
                }
                error.status
            }
        };
        if status != PluginStatus::Panic
            && let Some(opened) = self.lock().open.get_mut(&instance)
        {
            opened.plugin = Some(plugin);
        }
        status.code()
    }

    /// `zp_plugin_close_v1`.
    pub fn close(&self, instance: i64) -> i32 {
        let Some(Opened { plugin, .. }) = self.lock().open.remove(&instance) else {
            return PluginStatus::BadHandle.code();
        };
        let dropped = caught(|| {
            drop(plugin);
            Ok(())
        });
        dropped.map_or_else(|error| error.status, |()| PluginStatus::Ok).code()
    }
}

fn handle<P: Plugin>(plugin: &mut P, host: &Host, event: &Event<'_>) -> Result<(), Error> {
    let malformed = |error: zepto_message::Malformed| Error::new(error.status(), error.to_string());
    let status = || PluginStatus::from_code(event.status).unwrap_or(PluginStatus::Internal);
    let snap = || Snap::read(event.body).map_err(malformed);
    let nothing = |done: Result<(), Error>| done.map(|()| Vec::new());
    match event.kind {
        abi::EV_START => plugin.start(host),
        abi::EV_STOP => answer(host, event, |host| nothing(plugin.stop(host))),
        abi::EV_CONFIG => answer(host, event, |host| {
            let json = core::str::from_utf8(event.body);
            let json = json.map_err(|error| Error::invalid(error.to_string()))?;
            nothing(plugin.config(host, json))
        }),
        abi::EV_EXPORT_STATE => answer(host, event, |host| plugin.export_state(host)),
        abi::EV_IMPORT_STATE => answer(host, event, |host| {
            nothing(plugin.import_state(host, event.status.cast_unsigned(), event.body))
        }),
        abi::EV_HEALTH => answer(host, event, |host| nothing(plugin.health(host))),
        abi::EV_TIMER => plugin.timer(host, event.token),
        abi::EV_HTTP => {
            let response = Response::read(event.body).map_err(malformed)?;
            plugin.http(host, Token(event.token), status(), &response)
        }
        abi::EV_UDP if event.status < 0 => plugin.socket_gone(host, Token(event.token)),
        abi::EV_UDP => {
            let datagram = Datagram::read(event.body).map_err(malformed)?;
            plugin.datagram(host, Token(event.token), &datagram)
        }
        abi::EV_WAKE => plugin.wake(host),
        abi::EV_DISC_RESYNC => plugin.resync(host),
        abi::EV_MIG_PLAN => answer(host, event, |host| {
            let request = PlanRequest::read(event.body, PLAN_ITEMS_MAX).map_err(malformed)?;
            plugin.plan(host, &request).map(|plan| plan.write())
        }),
        abi::EV_MIG_RESULT => plugin.moved(host, event.token, status()),
        abi::EV_SNAP_BEGIN => {
            answer(host, event, |host| nothing(plugin.snapshot_begins(host, &snap()?)))
        }
        abi::EV_SNAP_COMMIT => plugin.snapshot_done(host, &snap()?),
        abi::EV_SNAP_ABORT => plugin.snapshot_aborted(host, &snap()?, status()),
        abi::EV_SNAP_RESTORE => {
            answer(host, event, |host| nothing(plugin.snapshot_restores(host, &snap()?)))
        }
        _ => Err(Error::unsupported()),
    }
}

/// Replies to a question with what a handler returns.
fn answer(
    host: &Host,
    event: &Event<'_>,
    handler: impl FnOnce(&Host) -> Result<Vec<u8>, Error>,
) -> Result<(), Error> {
    let result = caught(|| handler(host));
    if !event.needs_reply {
        return result.map(drop);
    }
    let question = Question(event.token);
    let code = host.reply(question, result.as_ref().map(Vec::as_slice));
    match result {
        // A panic ends the instance, whatever was replied.
        Err(error) if error.status == PluginStatus::Panic => Err(error),
        _ if code < 0 => Err(Error::of_call(code, "reply")),
        _ => Ok(()),
    }
}
