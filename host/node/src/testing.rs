//! A control log that answers as a test wants.

use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::sync::Arc;
use zepto_control::{BarrierError, Command, ControlLog, Outcome, Reason, State, Subject};

/// The log.
pub struct StubLog {
    state: Arc<State>,
    refusals: AtomicU32,
    leads: bool,
}

impl StubLog {
    /// One that refuses so many proposals first, because another one is in flight, and then takes
    /// each at index 7.
    pub fn new(refusals: u32) -> Self {
        let (state, _applier) = State::new(Box::new(|_, _| {}));
        Self { state, refusals: AtomicU32::new(refusals), leads: true }
    }

    /// One that nobody leads.
    pub fn without_leader() -> Self {
        Self { leads: false, ..Self::new(0) }
    }
}

impl ControlLog for StubLog {
    async fn propose(&self, _command: Command, _deadline: Duration) -> Outcome {
        let one_less = |left: u32| left.checked_sub(1);
        match self.refusals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less) {
            Ok(_) => {
                let why = Reason::InFlight(Subject::Cluster);
                Outcome::Refused { index: None, why }
            }
            Err(_) => Outcome::Committed { index: 7 },
        }
    }

    async fn read_barrier(&self, _deadline: Duration) -> Result<u64, BarrierError> {
        if self.leads { Ok(0) } else { Err(BarrierError::NoLeader("none is known".into())) }
    }

    fn state(&self) -> &Arc<State> {
        &self.state
    }
}
