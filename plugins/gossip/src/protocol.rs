//! Foca, as it is used here: its times, and where it puts what it wants.

use crate::identity::Peer;
use crate::queue::Queue;
use crate::wire::{BODY_BYTES_MAX, Head};
use core::net::SocketAddr;
use core::num::{NonZeroU8, NonZeroUsize};
use core::time::Duration;
use foca::{
    Config, Foca, Identity, Member, NoCustomBroadcast, Notification, PeriodicParams, PostcardCodec,
    Runtime, Timer,
};
use rand::rngs::Xoshiro256PlusPlus;

/// Members that are told of what is new at a time, and of a node that leaves; they tell the others.
const TOLD: usize = 3;

/// Where foca puts what it wants.
#[derive(Debug)]
pub struct Outbox {
    /// The time.
    pub now: u64,
    /// What every datagram begins with.
    pub head: Head,
    /// What it wants to be told later.
    pub queue: Queue,
    /// What is to be sent, and where to.
    pub datagrams: Vec<(SocketAddr, Vec<u8>)>,
    /// Somebody came, went, or is another.
    pub is_changed: bool,
    /// Somebody knows this node, or nobody does any more.
    pub is_joined: Option<bool>,
    /// The others think that this node is gone.
    pub is_given_up: bool,
}

impl Outbox {
    /// Nothing yet.
    pub fn new(cluster: &str, now: u64) -> Self {
        Self {
            now,
            head: Head::of(cluster),
            queue: Queue::default(),
            datagrams: Vec::new(),
            is_changed: false,
            is_joined: None,
            is_given_up: false,
        }
    }
}

impl Runtime<Peer> for Outbox {
    fn notify(&mut self, notification: Notification<'_, Peer>) {
        match notification {
            Notification::MemberUp(_)
            | Notification::MemberDown(_)
            | Notification::Rename(_, _) => self.is_changed = true,
            Notification::Active => self.is_joined = Some(true),
            Notification::Idle => self.is_joined = Some(false),
            Notification::Defunct => self.is_given_up = true,
            Notification::Rejoin(_) => {}
        }
    }

    fn send_to(&mut self, to: Peer, data: &[u8]) {
        self.datagrams.push((to.gossip, self.head.seal(data)));
    }

    fn submit_after(&mut self, event: Timer<Peer>, after: Duration) {
        self.queue.push(event, self.now, after);
    }
}

/// Foca, as it is used here.
pub type Protocol = Foca<Peer, PostcardCodec, Xoshiro256PlusPlus, NoCustomBroadcast>;

/// What is known of a node, whether it is there or not.
pub fn find(foca: &Protocol, id: u64) -> Option<&Member<Peer>> {
    foca.iter_membership_state().find(|member| member.id().addr() == id)
}

/// The protocol's times, all of them multiples of the interval between two probes.
pub fn config(interval: Duration) -> Config {
    let often =
        |frequency, count| Some(PeriodicParams { frequency, num_members: at_least_one(count) });
    Config {
        probe_period: interval,
        probe_rtt: interval * 2 / 5,
        num_indirect_probes: at_least_one(TOLD),
        max_transmissions: NonZeroU8::new(10).unwrap_or(NonZeroU8::MIN),
        // Enough for a node that is suspected wrongly to hear of it and to object.
        suspect_to_down_after: interval * 5,
        remove_down_after: Some(interval * 3600),
        max_packet_size: at_least_one(BODY_BYTES_MAX),
        notify_down_members: true,
        periodic_announce: often(interval * 30, 1),
        periodic_announce_to_down_members: often(interval * 60, 2),
        periodic_gossip: often(interval / 5, TOLD),
    }
}

fn at_least_one(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN)
}
