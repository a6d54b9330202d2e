//! What connections count: per peer on the side that asks, in total on the side that answers.
//!
//! Relaxed atomics that any task adds to and anybody reads; a reader may see one number a moment
//! before another, and every number is exact once its connection is quiet. Then the books balance:
//! of a peer, `requests = answered + refused + timed_out + unknown + not_sent`, of a server,
//! `requests = answered + refused + unknown + in_flight`. Nothing here is ever reset, so a rate
//! is the difference of two readings. Lacks histograms: a round trip is the last one and a mean
//! that forgets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zepto_core::refusals::{Refusals, place_of};

use crate::budget::ByteBudget;
use crate::call::{CallError, Outcome, Unknown};
use crate::close::CloseReason;
use crate::config::Config;
use crate::drain::Load;
use crate::hello::HelloRefusal;

/// A counter that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    pub(crate) fn one(&self) {
        self.add(1);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What sockets took and gave, and how long pings took.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    sent_bytes: Count,
    received_bytes: Count,
    rtt_last_ns: AtomicU64,
    rtt_smoothed_ns: AtomicU64,
}

impl Traffic {
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent_bytes.add(bytes as u64);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.received_bytes.add(bytes as u64);
    }

    /// A ping was answered. The mean moves by an eighth, as TCP's does.
    pub(crate) fn round_trip(&self, time: Duration) {
        // A round trip of zero would look like none at all.
        let last = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
        let old = self.rtt_smoothed_ns.load(Relaxed);
        let smoothed = if old == 0 { last } else { old - old / 8 + last / 8 };
        self.rtt_last_ns.store(last, Relaxed);
        self.rtt_smoothed_ns.store(smoothed, Relaxed);
    }
}

/// What one peer of a pool came to so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerCounters {
    /// Where it is reached; its name in the pool.
    pub address: String,
    /// Whether there is a connection that can be used now.
    pub connected: bool,
    /// Requests that were handed over for it. One that is certainly not sent and goes out again
    /// over a new connection counts again.
    pub requests: u64,
    /// Of these, written to a connection, or about to be.
    pub sent: u64,
    /// Answered.
    pub answered: u64,
    /// Refused by the peer, which did not execute them.
    pub refused: u64,
    /// Sent, and no answer before the deadline, or the caller waited no longer.
    pub timed_out: u64,
    /// Sent, and the connection ended or the peer does not know the outcome.
    pub unknown: u64,
    /// Certainly not executed: no connection, no room, or the connection ended before.
    pub not_sent: u64,
    /// Connections made after the first one.
    pub reconnects: u64,
    /// Attempts to connect that failed.
    pub connect_failures: u64,
    /// Idle connections that were found closed by the peer when the next request wanted them.
    pub stale_connections: u64,
    /// Bytes written to its sockets, hand-shakes apart.
    pub sent_bytes: u64,
    /// Bytes read from its sockets, hand-shakes apart.
    pub received_bytes: u64,
    /// Last round trip of a ping, in nanoseconds; 0 before the first.
    pub rtt_last_ns: u64,
    /// Mean round trip, in nanoseconds, of which the last ping is an eighth.
    pub rtt_smoothed_ns: u64,
}

/// Counts for one peer, over all its connections.
#[derive(Debug, Default)]
pub(crate) struct PeerTally {
    pub traffic: Traffic,
    requests: Count,
    sent: Count,
    answered: Count,
    refused: Count,
    timed_out: Count,
    unknown: Count,
    not_sent: Count,
    connects: Count,
    connect_failures: Count,
    stale_connections: Count,
}

impl PeerTally {
    pub(crate) fn began(&self) {
        self.requests.one();
    }

    pub(crate) fn committed(&self) {
        self.sent.one();
    }

    pub(crate) fn ended(&self, outcome: &Outcome) {
        match outcome {
            Ok(_) => self.answered.one(),
            Err(CallError::Refused { .. }) => self.refused.one(),
            Err(CallError::Unknown(Unknown::Deadline)) => self.timed_out.one(),
            Err(CallError::Unknown(_)) => self.unknown.one(),
            Err(CallError::NotSent(_)) => self.not_sent.one(),
        }
    }

    /// A request for which there was no connection.
    pub(crate) fn unreachable(&self) {
        self.began();
        self.not_sent.one();
    }

    pub(crate) fn connected(&self) {
        self.connects.one();
    }

    pub(crate) fn connect_failed(&self) {
        self.connect_failures.one();
    }

    pub(crate) fn found_stale(&self) {
        self.stale_connections.one();
    }

    pub(crate) fn read(&self, address: &str, connected: bool) -> PeerCounters {
        PeerCounters {
            address: address.to_owned(),
            connected,
            requests: self.requests.get(),
            sent: self.sent.get(),
            answered: self.answered.get(),
            refused: self.refused.get(),
            timed_out: self.timed_out.get(),
            unknown: self.unknown.get(),
            not_sent: self.not_sent.get(),
            reconnects: self.connects.get().saturating_sub(1),
            connect_failures: self.connect_failures.get(),
            stale_connections: self.stale_connections.get(),
            sent_bytes: self.traffic.sent_bytes.get(),
            received_bytes: self.traffic.received_bytes.get(),
            rtt_last_ns: self.traffic.rtt_last_ns.load(Relaxed),
            rtt_smoothed_ns: self.traffic.rtt_smoothed_ns.load(Relaxed),
        }
    }
}

/// Why a connection never became one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TurnedAway {
    /// It was told why.
    Refused(HelloRefusal),
    /// It did not say HELLO in time.
    Late,
    /// It broke off, or spoke another language.
    Broken,
}

/// Names of the places in which connections that were turned away are counted.
const TURNED_AWAY: [&str; 11] = [
    "authentication",
    "broken",
    "cluster",
    "denied",
    "draining",
    "full",
    "incarnation",
    "late",
    "malformed",
    "not_ready",
    "version",
];

impl TurnedAway {
    fn name(self) -> &'static str {
        match self {
            TurnedAway::Late => "late",
            TurnedAway::Broken => "broken",
            TurnedAway::Refused(HelloRefusal::Version) => "version",
            TurnedAway::Refused(HelloRefusal::Cluster) => "cluster",
            TurnedAway::Refused(HelloRefusal::Incarnation) => "incarnation",
            TurnedAway::Refused(HelloRefusal::Full) => "full",
            TurnedAway::Refused(HelloRefusal::Draining) => "draining",
            TurnedAway::Refused(HelloRefusal::NotReady) => "not_ready",
            TurnedAway::Refused(HelloRefusal::Denied) => "denied",
            TurnedAway::Refused(HelloRefusal::Malformed) => "malformed",
            TurnedAway::Refused(HelloRefusal::Secret) => "authentication",
        }
    }
}

/// A byte budget in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetCounters {
    /// Most bytes.
    pub limit_bytes: u64,
    /// Bytes in use now.
    pub used_bytes: u64,
    /// Times there was no room.
    pub refused: u64,
}

/// What a server came to so far, all its connections together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerCounters {
    /// Connections now, those that have not yet said HELLO included.
    pub connections: u64,
    /// Connections that were accepted, whatever became of them.
    pub accepted: u64,
    /// Connections turned away before they said anything of use: (why, how many), every reason.
    pub turned_away: Vec<(String, u64)>,
    /// Connections ended because of what the peer sent.
    pub ended_faulty: u64,
    /// Connections ended because the peer was silent.
    pub ended_silent: u64,
    /// Connections ended because the peer gave or took a frame too slowly.
    pub ended_slow: u64,
    /// Times that accepting paused because the system refused.
    pub accept_pauses: u64,
    /// Requests that came in whole, or whose bytes found no room.
    pub requests: u64,
    /// Requests in flight now.
    pub in_flight: u64,
    /// Requests answered.
    pub answered: u64,
    /// Requests refused, by reason: not executed.
    pub refused: Refusals,
    /// Requests given up while they were executed, or whose answer could not be sent.
    pub unknown: u64,
    /// Bytes written, hand-shakes apart.
    pub sent_bytes: u64,
    /// Bytes read, hand-shakes apart.
    pub received_bytes: u64,
    /// Bytes of requests in flight.
    pub request_budget: BudgetCounters,
    /// Bytes of answers that wait to be sent.
    pub answer_budget: BudgetCounters,
}

/// Counts for one server. Made before the server, and read while it serves.
#[derive(Debug)]
pub struct ServerTally {
    pub(crate) traffic: Traffic,
    pub(crate) load: Load,
    pub(crate) request_budget: Arc<ByteBudget>,
    pub(crate) answer_budget: Arc<ByteBudget>,
    connections: AtomicU64,
    accepted: Count,
    turned_away: [Count; TURNED_AWAY.len()],
    ended_faulty: Count,
    ended_silent: Count,
    ended_slow: Count,
    accept_pauses: Count,
    requests: Count,
    answered: Count,
    refused: [Count; Refusals::PLACES],
    unknown: Count,
}

impl ServerTally {
    /// Counts for a server of this configuration, all zero.
    pub fn new(config: &Config) -> Arc<ServerTally> {
        Arc::new(ServerTally {
            traffic: Traffic::default(),
            load: Load::default(),
            request_budget: ByteBudget::new(config.request_bytes_max),
            answer_budget: ByteBudget::new(config.answer_bytes_max),
            connections: AtomicU64::new(0),
            accepted: Count::default(),
            turned_away: Default::default(),
            ended_faulty: Count::default(),
            ended_silent: Count::default(),
            ended_slow: Count::default(),
            accept_pauses: Count::default(),
            requests: Count::default(),
            answered: Count::default(),
            refused: Default::default(),
            unknown: Count::default(),
        })
    }

    /// The counts as of now. Any thread.
    pub fn counters(&self) -> ServerCounters {
        let turned_away = TURNED_AWAY.iter().zip(&self.turned_away);
        let refused = core::array::from_fn(|place| self.refused[place].get());
        ServerCounters {
            connections: self.connections.load(Relaxed),
            accepted: self.accepted.get(),
            turned_away: turned_away.map(|(why, n)| ((*why).to_owned(), n.get())).collect(),
            ended_faulty: self.ended_faulty.get(),
            ended_silent: self.ended_silent.get(),
            ended_slow: self.ended_slow.get(),
            accept_pauses: self.accept_pauses.get(),
            requests: self.requests.get(),
            in_flight: self.load.requests() as u64,
            answered: self.answered.get(),
            refused: Refusals::from_places(refused),
            unknown: self.unknown.get(),
            sent_bytes: self.traffic.sent_bytes.get(),
            received_bytes: self.traffic.received_bytes.get(),
            request_budget: self.request_budget.counters(),
            answer_budget: self.answer_budget.counters(),
        }
    }

    pub(crate) fn connection_accepted(&self) {
        self.accepted.one();
    }

    pub(crate) fn turned_away(&self, why: TurnedAway) {
        if let Some(place) = TURNED_AWAY.iter().position(|known| *known == why.name()) {
            self.turned_away[place].one();
        }
    }

    pub(crate) fn connection_ended(&self, reason: &CloseReason) {
        match reason {
            CloseReason::Silent(_) => self.ended_silent.one(),
            CloseReason::SlowFrame(_) | CloseReason::Stalled(_) => self.ended_slow.one(),
            reason if reason.is_fault() => self.ended_faulty.one(),
            _ => {}
        }
    }

    pub(crate) fn accept_paused(&self) {
        self.accept_pauses.one();
    }

    pub(crate) fn request_came(&self) {
        self.requests.one();
    }

    pub(crate) fn request_answered(&self) {
        self.answered.one();
    }

    pub(crate) fn request_refused(&self, code: u16) {
        self.refused[place_of(code)].one();
    }

    pub(crate) fn request_unknown(&self) {
        self.unknown.one();
    }
}

/// One connection of a server, as long as it is open.
pub(crate) struct Open(Arc<ServerTally>);

impl Open {
    pub(crate) fn new(tally: &Arc<ServerTally>) -> Open {
        tally.connections.fetch_add(1, Relaxed);
        Open(Arc::clone(tally))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::NotSent;

    #[test]
    fn a_mean_round_trip_starts_at_the_first_and_follows_slowly() {
        let traffic = Traffic::default();
        traffic.round_trip(Duration::from_nanos(800));
        assert_eq!(traffic.rtt_smoothed_ns.load(Relaxed), 800);
        traffic.round_trip(Duration::from_nanos(1600));
        assert_eq!(traffic.rtt_last_ns.load(Relaxed), 1600);
        assert_eq!(traffic.rtt_smoothed_ns.load(Relaxed), 900);
    }

    #[test]
    fn every_outcome_of_a_request_is_counted_in_one_place() {
        let tally = PeerTally::default();
        let reason = zepto_abi::Refusal::NotOwner;
        let outcomes = [
            Ok(Vec::new()),
            Err(CallError::Refused { reason, text: String::new() }),
            Err(CallError::Unknown(Unknown::Deadline)),
            Err(CallError::Unknown(Unknown::ConnectionLost(CloseReason::PeerClosed))),
            Err(CallError::NotSent(NotSent::Busy)),
        ];
        for outcome in &outcomes {
            tally.began();
            tally.ended(outcome);
        }
        tally.unreachable();
        let read = tally.read("peer", true);
        assert_eq!((read.requests, read.not_sent), (6, 2));
        let ends = read.answered + read.refused + read.timed_out + read.unknown + read.not_sent;
        assert_eq!(ends, read.requests);
    }

    #[test]
    fn every_way_to_be_turned_away_has_its_place() {
        let tally = ServerTally::new(&Config::default());
        let refusals = (1..=9).map(HelloRefusal::from_code).map(TurnedAway::Refused);
        for why in refusals.chain([TurnedAway::Late, TurnedAway::Broken]) {
            tally.turned_away(why);
        }
        assert!(tally.counters().turned_away.iter().all(|(_, count)| *count == 1));
    }
}
