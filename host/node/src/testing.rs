//! A control log that answers as a test wants.

use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::sync::{Arc, Mutex};
use zepto_control::state::Applier;
use zepto_control::{BarrierError, Command, ControlLog, Outcome, Reason, State, Subject, entry};

/// The log.
pub struct StubLog {
    state: Arc<State>,
    applier: Mutex<Applier>,
    /// What the next barrier brings.
    coming: Mutex<Vec<Command>>,
    refusals: AtomicU32,
    leads: bool,
}

impl StubLog {
    /// One that refuses so many proposals first, because another one is in flight, and then takes
    /// each at index 7.
    pub fn new(refusals: u32) -> Self {
        let (state, applier) = State::new(Box::new(|_, _| {}));
        let (applier, coming) = (Mutex::new(applier), Mutex::default());
        Self { state, applier, coming, refusals: AtomicU32::new(refusals), leads: true }
    }

    /// Applies a command as the next entry.
    pub fn apply(&self, command: &Command) {
        let bytes = entry::encode(command).expect("encodes");
        let next = self.state.index() + 1;
        self.applier.lock().unwrap().apply_entry(next, &bytes).expect("the next entry");
    }

    /// Applies a command when somebody next makes sure that this node has caught up.
    pub fn at_barrier(&self, command: Command) {
        self.coming.lock().unwrap().push(command);
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
        let coming = core::mem::take(&mut *self.coming.lock().unwrap());
        coming.iter().for_each(|command| self.apply(command));
        if self.leads { Ok(0) } else { Err(BarrierError::NoLeader("none is known".into())) }
    }

    fn state(&self) -> &Arc<State> {
        &self.state
    }
}
