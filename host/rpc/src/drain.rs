//! Stopping in five phases: refuse connections, refuse requests, finish, report, close.
//!
//! No accepted request is dropped in silence: what the time does not suffice for is answered as
//! unknown and stands in the report. The phases themselves are in [`crate::server`]; here is what
//! they wait for and what they report.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// Requests in flight and lanes of a server.
#[derive(Debug, Default)]
pub(crate) struct Load {
    requests: AtomicUsize,
    lanes: AtomicUsize,
    fell: Notify,
}

impl Load {
    pub(crate) fn request_began(&self) {
        self.requests.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn request_ended(&self) {
        if self.requests.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.fell.notify_waiters();
        }
    }

    pub(crate) fn lane_began(&self) {
        self.lanes.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn lane_ended(&self) {
        if self.lanes.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.fell.notify_waiters();
        }
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }

    /// Waits until no request is in flight and no lane is open.
    pub(crate) async fn idle(&self) {
        loop {
            let fell = self.fell.notified();
            tokio::pin!(fell);
            // Registered before the look, so that a fall in between is not missed.
            fell.as_mut().enable();
            if self.requests() == 0 && self.lanes.load(Ordering::Acquire) == 0 {
                return;
            }
            fell.await;
        }
    }
}

/// How a server stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Connections when the stop began.
    pub connections: usize,
    /// Requests in flight when the stop began.
    pub in_flight: usize,
    /// Connections refused while draining.
    pub refused_connections: usize,
    /// Requests that were not finished in time; their callers heard that the outcome is unknown.
    pub left: usize,
    /// Age of the oldest of them.
    pub oldest_left: Option<Duration>,
    /// Lanes that were not settled in time.
    pub lanes_left: usize,
    /// Connections that had to be cut off because their peers would not close.
    pub cut_off: usize,
    /// From the signal to the end.
    pub took: Duration,
}

impl DrainReport {
    /// True when everything that was accepted was also finished.
    pub fn is_complete(&self) -> bool {
        self.left == 0 && self.lanes_left == 0
    }
}

impl fmt::Display for DrainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took_ms = self.took.as_millis();
        write!(f, "drained {} connections in {took_ms} ms", self.connections)?;
        if let Some(oldest) = self.oldest_left {
            write!(f, ", {} requests left, oldest {} ms", self.left, oldest.as_millis())?;
        }
        if self.lanes_left > 0 {
            write!(f, ", {} lanes left", self.lanes_left)?;
        }
        Ok(())
    }
}
