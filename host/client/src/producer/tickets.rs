//! What became of single ticks, for who wants to know: a ticket is a tick's number among those that
//! the producer has taken, and the last of them are remembered.

use zepto_core::Refusal;
use zepto_core::limits::TICKETS_KEPT;

/// What became of one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not known yet: on its way, or waiting for an owner.
    Waiting,
    /// It is there, with the durability that was asked for.
    Acknowledged,
    /// It is not there.
    Refused(Refusal),
    /// Too long ago, or never given out.
    Forgotten,
}

const WAITING: u16 = 0;
const ACKNOWLEDGED: u16 = 1;
/// A refusal's code is above it.
const REFUSED: u16 = 2;

/// The outcomes of the last tickets.
#[derive(Debug)]
pub(super) struct Tickets {
    outcomes: Box<[u16]>,
    /// The first ticket that was given out, and the last.
    first: u64,
    last: u64,
}

impl Tickets {
    /// Tickets from after `accepted` on.
    pub fn new(accepted: u64) -> Self {
        let outcomes = vec![WAITING; TICKETS_KEPT].into_boxed_slice();
        Self { outcomes, first: accepted + 1, last: accepted }
    }

    /// A tick was taken, as number `ticket`.
    #[inline]
    pub fn give(&mut self, ticket: u64) {
        self.last = ticket;
        self.set(ticket, WAITING);
    }

    #[inline]
    pub fn acknowledge(&mut self, ticket: u64) {
        self.note(ticket, ACKNOWLEDGED);
    }

    pub fn refuse(&mut self, ticket: u64, reason: Refusal) {
        self.note(ticket, REFUSED + reason.code());
    }

    pub fn outcome(&self, ticket: u64) -> Outcome {
        if !self.is_kept(ticket) {
            return Outcome::Forgotten;
        }
        match self.outcomes[place(ticket)] {
            WAITING => Outcome::Waiting,
            ACKNOWLEDGED => Outcome::Acknowledged,
            code => {
                Outcome::Refused(Refusal::from_code(code - REFUSED).unwrap_or(Refusal::Malformed))
            }
        }
    }

    fn is_kept(&self, ticket: u64) -> bool {
        ticket >= self.first && ticket <= self.last && self.last - ticket < TICKETS_KEPT as u64
    }

    fn note(&mut self, ticket: u64, outcome: u16) {
        // Its place may be another's by now.
        if self.is_kept(ticket) {
            self.set(ticket, outcome);
        }
    }

    #[inline]
    fn set(&mut self, ticket: u64, outcome: u16) {
        self.outcomes[place(ticket)] = outcome;
    }
}

#[inline]
fn place(ticket: u64) -> usize {
    ticket as usize & (TICKETS_KEPT - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_kept_for_the_last_tickets() {
        let mut tickets = Tickets::new(10);
        assert_eq!(tickets.outcome(10), Outcome::Forgotten, "before anybody asked");
        assert_eq!(tickets.outcome(11), Outcome::Forgotten, "not given out");
        for ticket in 11..=13 {
            tickets.give(ticket);
        }
        tickets.acknowledge(11);
        tickets.refuse(12, Refusal::LimitReached);
        assert_eq!(tickets.outcome(11), Outcome::Acknowledged);
        assert_eq!(tickets.outcome(12), Outcome::Refused(Refusal::LimitReached));
        assert_eq!(tickets.outcome(13), Outcome::Waiting);
        for ticket in 14..14 + TICKETS_KEPT as u64 {
            tickets.give(ticket);
        }
        tickets.acknowledge(13);
        assert_eq!(tickets.outcome(13), Outcome::Forgotten);
        assert_eq!(tickets.outcome(13 + TICKETS_KEPT as u64), Outcome::Waiting);
    }
}
