//! Both ends of a lane without a connection: the checks that a peer's payloads go through.
//!
//! For tests outside this crate, which give them hostile bytes; no part of the interface. Nothing
//! is decided here: each call is one call of what the connection's tasks use.

use std::sync::Arc;

use crate::lane::door::LaneDoor;
use crate::lane::inbox::{Inbox, Lanes};
use crate::lane::{LaneEnd, LaneSink, RefusedRange};

/// The receiver's end.
pub struct Door<S>(LaneDoor<S>);

impl<S: LaneSink> Door<S> {
    /// The end of a lane that fills `sink`.
    pub fn new(sink: S) -> Door<S> {
        Door(LaneDoor::new(sink))
    }

    /// Takes the payload of a LaneData frame.
    ///
    /// # Errors
    /// What ends the lane.
    pub fn data(&self, payload: &[u8]) -> Result<(), LaneEnd> {
        self.0.data(payload)
    }
}

/// What a sender learned from its receiver: consumed, settled, and the refusals since it last
/// asked; or how the lane ended.
pub type Learned = Result<Option<(u64, u64, Vec<RefusedRange>)>, LaneEnd>;

/// The sender's end.
pub struct Source {
    lanes: Lanes,
    id: u64,
    inbox: Arc<Inbox>,
}

impl Source {
    /// The end of a lane that its receiver opened with this payload, and on which so many slots
    /// were sent. `None` if the payload is refused.
    pub fn new(opened: &[u8], sent: u64) -> Option<Source> {
        let lanes = Lanes::default();
        let (id, inbox) = lanes.enter(1, |_| Ok(())).ok()?;
        lanes.opened(id, opened).ok()?;
        inbox.set_sent(sent);
        Some(Source { lanes, id, inbox })
    }

    /// Takes the payload of a LaneCredit frame, and says what the pump sees.
    pub fn credit(&self, payload: &[u8]) -> Learned {
        if let Err(reason) = self.lanes.credit(self.id, payload) {
            return Err(LaneEnd::Connection(reason));
        }
        self.learned()
    }

    /// Takes the payload of a LaneClose frame, and says what the pump sees.
    pub fn closed(&self, payload: &[u8]) -> Learned {
        self.lanes.closed_by_peer(self.id, payload);
        self.learned()
    }

    fn learned(&self) -> Learned {
        let news = self.inbox.take_news();
        match news.end {
            Some(end) => Err(end),
            None => Ok(news.credit.map(|new| (new.consumed, new.settled, new.refusals))),
        }
    }
}
