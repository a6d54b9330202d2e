//! Proposals on their way through this leader: bounded, and one per subject (C7).

use crate::claims::Claims;
use crate::outcome::{Reason, Subject};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use zepto_core::limits::PROPOSALS_MAX;

/// All that have no outcome yet.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    claims: Claims,
    count: usize,
    /// Set once, when nothing more is taken in.
    over: Option<Reason>,
}

/// One of them; its claims are free when it is dropped. It lives until the fate of its entry is
/// known here, however long its proposer waits.
#[derive(Debug)]
pub(crate) struct Flight {
    flights: Arc<Flights>,
    bytes: usize,
    subjects: Vec<Subject>,
}

impl Flights {
    /// Lets a proposal in.
    ///
    /// # Errors
    /// Stopped, failed, in flight or overloaded.
    pub fn take(self: &Arc<Self>, bytes: usize, subjects: Vec<Subject>) -> Result<Flight, Reason> {
        let mut inner = self.lock();
        if let Some(over) = &inner.over {
            return Err(over.clone());
        }
        let full = inner.count >= PROPOSALS_MAX;
        inner.claims.take(bytes, &subjects, full)?;
        inner.count += 1;
        Ok(Flight { flights: Arc::clone(self), bytes, subjects })
    }

    /// Lets nothing more in; the first reason stands.
    pub fn close(&self, reason: Reason) {
        self.lock().over.get_or_insert(reason);
    }

    /// Why nothing more is let in, when it is so.
    pub fn over(&self) -> Option<Reason> {
        self.lock().over.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut inner = self.flights.lock();
        inner.claims.release(self.bytes, &self.subjects);
        inner.count -= 1;
    }
}
