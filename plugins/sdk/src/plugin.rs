//! What an author writes.

use crate::error::Error;
use crate::host::{Host, Token};
use zepto_abi::plugin::{KIND_DISCOVERY, KIND_MIGRATION, KIND_SNAPSHOT, PluginStatus};
use zepto_message::{Datagram, Info, Open, Plan, PlanRequest, Response, Snap};

/// What a plugin may ask to be granted.
pub mod capability {
    pub use zepto_abi::plugin::{
        CAP_HTTP as HTTP, CAP_KV as KV, CAP_METRIC as METRIC, CAP_RANDOM as RANDOM, CAP_UDP as UDP,
    };
}

/// What a plugin says of itself.
#[derive(Clone, Copy, Debug)]
pub struct About {
    kinds: u32,
    caps: u64,
    optional_caps: u64,
    states: (u32, u32),
    texts: (&'static str, &'static str, &'static str),
}

impl About {
    const fn of(
        kind: u32,
        name: &'static str,
        version: &'static str,
        vendor: &'static str,
    ) -> Self {
        let texts = (name, version, vendor);
        Self { kinds: 1 << kind, caps: 0, optional_caps: 0, states: (1, 1), texts }
    }

    /// A plugin that says who is in the cluster.
    pub const fn discovery(
        name: &'static str,
        version: &'static str,
        vendor: &'static str,
    ) -> Self {
        Self::of(KIND_DISCOVERY, name, version, vendor)
    }

    /// A plugin that says what moves where.
    pub const fn migration(
        name: &'static str,
        version: &'static str,
        vendor: &'static str,
    ) -> Self {
        Self::of(KIND_MIGRATION, name, version, vendor)
    }

    /// A plugin that does something around a snapshot.
    pub const fn snapshot(name: &'static str, version: &'static str, vendor: &'static str) -> Self {
        Self::of(KIND_SNAPSHOT, name, version, vendor)
    }

    /// It does not work without these [`capability`]s.
    pub const fn needs(mut self, caps: u64) -> Self {
        self.caps |= caps;
        self
    }

    /// It uses these [`capability`]s where it has them.
    pub const fn uses(mut self, caps: u64) -> Self {
        self.optional_caps |= caps;
        self
    }

    /// The version of the state that it exports, and the oldest that it imports.
    pub const fn state(mut self, version: u32, oldest: u32) -> Self {
        self.states = (version, oldest);
        self
    }

    #[doc(hidden)]
    pub const fn bytes(self) -> [u8; 256] {
        Info::bytes((self.kinds, self.caps, self.optional_caps), self.states, self.texts)
    }
}

/// A plugin. The host calls one instance from one thread at a time. What is not overridden is
/// answered as not supported, or, where the host only asks whether all is well, with yes.
pub trait Plugin: Send + Sized + 'static {
    /// What it says of itself.
    const ABOUT: About;

    /// Makes an instance. It must not begin anything yet.
    ///
    /// # Errors
    /// A configuration that it cannot work with; the text is shown to the operator.
    fn open(host: &Host, open: &Open<'_>) -> Result<Self, Error>;

    /// Begins its work. May come again after `stop`.
    ///
    /// # Errors
    /// What went wrong; it is logged and counted.
    fn start(&mut self, host: &Host) -> Result<(), Error>;

    /// Its timers, requests and sockets are gone after this.
    ///
    /// # Errors
    /// What could not be ended; it is logged and counted.
    fn stop(&mut self, _host: &Host) -> Result<(), Error> {
        Ok(())
    }

    /// A timer ran out.
    ///
    /// # Errors
    /// As for `start`.
    fn timer(&mut self, _host: &Host, _id: u64) -> Result<(), Error> {
        Err(Error::unsupported())
    }

    /// An answer came, or a part of one. When there was none, `status` says why.
    ///
    /// # Errors
    /// As for `start`.
    fn http(
        &mut self,
        _host: &Host,
        _token: Token,
        _status: PluginStatus,
        _response: &Response<'_>,
    ) -> Result<(), Error> {
        Err(Error::unsupported())
    }

    /// A datagram came.
    ///
    /// # Errors
    /// As for `start`.
    fn datagram(
        &mut self,
        _host: &Host,
        _token: Token,
        _datagram: &Datagram<'_>,
    ) -> Result<(), Error> {
        Err(Error::unsupported())
    }

    /// A socket could not be bound, or is gone.
    ///
    /// # Errors
    /// As for `start`.
    fn socket_gone(&mut self, _host: &Host, _token: Token) -> Result<(), Error> {
        Err(Error::unsupported())
    }

    /// Somebody called `wake`.
    ///
    /// # Errors
    /// As for `start`.
    fn wake(&mut self, _host: &Host) -> Result<(), Error> {
        Err(Error::unsupported())
    }

    /// The host wants a full answer soon.
    ///
    /// # Errors
    /// As for `start`.
    fn resync(&mut self, _host: &Host) -> Result<(), Error> {
        Err(Error::unsupported())
    }

    /// Another configuration.
    ///
    /// # Errors
    /// When it is not taken; the old one stays.
    fn config(&mut self, _host: &Host, _json: &str) -> Result<(), Error> {
        Err(Error::unsupported())
    }

    /// What the next version is to know.
    ///
    /// # Errors
    /// When there is nothing; the next one begins without.
    fn export_state(&mut self, _host: &Host) -> Result<Vec<u8>, Error> {
        Err(Error::unsupported())
    }

    /// Takes over what the version before knew. Nothing is begun yet.
    ///
    /// # Errors
    /// When it is not taken; this one begins without.
    fn import_state(&mut self, _host: &Host, _version: u32, _state: &[u8]) -> Result<(), Error> {
        Err(Error::unsupported())
    }

    /// Is all well?
    ///
    /// # Errors
    /// What is not.
    fn health(&mut self, _host: &Host) -> Result<(), Error> {
        Ok(())
    }

    /// What is to move where.
    ///
    /// # Errors
    /// When it has no plan; everything stays.
    fn plan(&mut self, _host: &Host, _request: &PlanRequest<'_>) -> Result<Plan, Error> {
        Err(Error::unsupported())
    }

    /// A partition has moved, or has not.
    ///
    /// # Errors
    /// As for `start`.
    fn moved(&mut self, _host: &Host, _partition: u64, _status: PluginStatus) -> Result<(), Error> {
        Err(Error::unsupported())
    }

    /// A snapshot is about to begin.
    ///
    /// # Errors
    /// A veto, and why.
    fn snapshot_begins(&mut self, _host: &Host, _snap: &Snap<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// A snapshot is complete.
    ///
    /// # Errors
    /// As for `start`.
    fn snapshot_done(&mut self, _host: &Host, _snap: &Snap<'_>) -> Result<(), Error> {
        Err(Error::unsupported())
    }

    /// A snapshot was given up.
    ///
    /// # Errors
    /// As for `start`.
    fn snapshot_aborted(
        &mut self,
        _host: &Host,
        _snap: &Snap<'_>,
        _why: PluginStatus,
    ) -> Result<(), Error> {
        Err(Error::unsupported())
    }

    /// A snapshot is about to be restored.
    ///
    /// # Errors
    /// A veto, and why.
    fn snapshot_restores(&mut self, _host: &Host, _snap: &Snap<'_>) -> Result<(), Error> {
        Ok(())
    }
}
