//! One node that gossips, without a clock and without a socket: it is told the time and what
//! arrived, and says what is to be sent and when it wants to be called again.

use crate::config::Settings;
use crate::identity::{Peer, Text};
use crate::join::Join;
use crate::memory::Memory;
use crate::queue::Queue;
use crate::wire::{self, BODY_BYTES_MAX, Head};
use core::net::SocketAddr;
use core::num::{NonZeroU8, NonZeroUsize};
use core::time::Duration;
use foca::{
    Config, Error, Foca, Member, NoCustomBroadcast, Notification, PeriodicParams, PostcardCodec,
    Runtime, State, Timer,
};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

/// Timers that one call sees to; the others are seen to at once in the next.
const TIMERS_AT_ONCE: usize = 64;
/// Members that are told of a node that leaves; they tell the others.
const FAREWELLS: usize = 3;

/// Where foca puts what it wants.
#[derive(Debug)]
struct Outbox {
    now: u64,
    head: Head,
    queue: Queue,
    datagrams: Vec<(SocketAddr, Vec<u8>)>,
    /// Somebody came, went, or is another.
    is_changed: bool,
    /// Somebody knows this node, or nobody does any more.
    is_joined: Option<bool>,
    /// The others think that this node is gone.
    is_given_up: bool,
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
type Protocol = Foca<Peer, PostcardCodec, Xoshiro256PlusPlus, NoCustomBroadcast>;

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// It was of this cluster.
    Taken,
    /// It was dropped.
    Foreign,
}

/// One node that gossips.
pub struct Swim {
    foca: Protocol,
    out: Outbox,
    join: Join,
    memory: Memory,
    random: Xoshiro256PlusPlus,
    others_max: usize,
    interval: u64,
    /// When it comes back, after it was given up.
    returns_at: Option<u64>,
    returned: Option<u64>,
    hiccups: u64,
}

impl Swim {
    /// A node that begins, and what it knows already.
    pub fn new(
        settings: &Settings,
        life: u64,
        (members, memory): (Vec<Member<Peer>>, Memory),
        seed: [u8; 32],
        now: u64,
    ) -> Self {
        let mut random = Xoshiro256PlusPlus::from_seed(seed);
        let own = Xoshiro256PlusPlus::from_rng(&mut random);
        let me = Peer { life, ..settings.me.clone() };
        let out = Outbox {
            now,
            head: Head::of(&settings.cluster),
            queue: Queue::default(),
            datagrams: Vec::new(),
            is_changed: false,
            is_joined: None,
            is_given_up: false,
        };
        let mut swim = Self {
            foca: Foca::new(me, config(settings.interval), own, PostcardCodec),
            out,
            join: Join::new(settings.seeds.clone(), settings.interval, now),
            memory,
            random,
            others_max: settings.others_max,
            interval: settings.interval.as_nanos() as u64,
            returns_at: None,
            returned: None,
            hiccups: 0,
        };
        let known = members.into_iter().take(settings.others_max);
        let applied = swim.foca.apply_many(known, false, &mut swim.out);
        swim.count(applied);
        swim.settle();
        // Also when it knows somebody from before: they may all be gone.
        swim.join.hurry(now);
        swim.tick(now);
        swim
    }

    /// A datagram came.
    pub fn receive(&mut self, datagram: &[u8], now: u64) -> Received {
        self.out.now = now;
        let Some(body) = self.out.head.open(datagram) else { return Received::Foreign };
        let is_full = self.foca.iter_membership_state().len() >= self.others_max;
        let knows = |id: &Text| {
            self.foca.identity().id == *id
                || self.foca.iter_membership_state().any(|member| member.id().id == *id)
        };
        let knows: Option<&dyn Fn(&Text) -> bool> = if is_full { Some(&knows) } else { None };
        let Some(body) = wire::admit(body, self.foca.identity(), knows) else {
            return Received::Foreign;
        };
        let handled = self.foca.handle_data(&body, &mut self.out);
        self.settle();
        match handled {
            // Its own id: it asked itself by another address, or there are two of that id.
            Ok(()) | Err(Error::DataFromOurselves) => Received::Taken,
            Err(_) => Received::Foreign,
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: u64) {
        self.out.now = now;
        for _ in 0..TIMERS_AT_ONCE {
            let Some(timer) = self.out.queue.pop(now) else { break };
            let handled = self.foca.handle_timer(timer, &mut self.out);
            self.count(handled);
            self.settle();
        }
        if self.returns_at.is_some_and(|at| at <= now) {
            self.come_back(now);
        }
        for address in self.join.ask(now, self.memory.addresses(), &mut self.random) {
            if address != self.foca.identity().gossip {
                let asked = self.foca.announce(Peer::at(address), &mut self.out);
                self.count(asked);
            }
        }
    }

    /// It leaves, and says so.
    pub fn leave(&mut self, now: u64) {
        self.out.now = now;
        let left = self.foca.leave_cluster(&mut self.out);
        self.count(left);
    }

    /// When it wants to be called again.
    pub fn wakes_at(&self) -> u64 {
        let timer = self.out.queue.next().unwrap_or(u64::MAX);
        timer.min(self.join.at()).min(self.returns_at.unwrap_or(u64::MAX))
    }

    /// What is to be sent, and where to.
    pub fn take_datagrams(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        core::mem::take(&mut self.out.datagrams)
    }

    /// Whether the members are others than when it was asked last.
    pub fn take_change(&mut self) -> bool {
        core::mem::take(&mut self.out.is_changed)
    }

    /// Whether it waits for somebody to let it in.
    #[cfg(test)]
    pub fn is_alone(&self) -> bool {
        self.join.is_alone()
    }

    /// This node.
    pub fn me(&self) -> &Peer {
        self.foca.identity()
    }

    /// The other members that are there, or seem to be.
    pub fn others(&self) -> impl Iterator<Item = &Peer> {
        self.foca.iter_members().map(Member::id)
    }

    /// What another instance needs to know to go on from here.
    pub fn members(&self) -> Vec<Member<Peer>> {
        self.foca.iter_members().cloned().collect()
    }

    /// Where the others are.
    pub fn memory(&mut self) -> &mut Memory {
        &mut self.memory
    }

    /// Whether there is anybody to ask.
    pub fn has_nobody_to_ask(&self) -> bool {
        self.join.has_no_seeds() && self.memory.addresses().is_empty()
    }

    /// Mistakes in the use of foca; there are none.
    pub fn hiccups(&self) -> u64 {
        self.hiccups
    }

    fn count(&mut self, result: Result<(), Error>) {
        self.hiccups += u64::from(result.is_err());
    }

    /// Draws the conclusions from what foca has told.
    fn settle(&mut self) {
        let now = self.out.now;
        match self.out.is_joined.take() {
            Some(true) => self.join.joined(now),
            Some(false) => self.join.lost(now),
            None => {}
        }
        if self.out.is_changed {
            self.memory.note(self.foca.iter_members().map(|member| member.id().gossip));
        }
        if core::mem::take(&mut self.out.is_given_up) {
            let soonest = self.returned.map_or(now, |at| at.saturating_add(self.interval));
            self.returns_at = Some(soonest.max(now));
        }
    }

    /// It was given up while it was there: it comes back as another life.
    fn come_back(&mut self, now: u64) {
        (self.returns_at, self.returned) = (None, Some(now));
        let me = self.foca.identity();
        let next = Peer { life: me.life.saturating_add(1), ..me.clone() };
        let changed = self.foca.change_identity(next, &mut self.out);
        self.count(changed);
        self.settle();
        self.join.lost(now);
    }
}

/// The protocol's times, all of them multiples of the interval between two probes.
fn config(interval: Duration) -> Config {
    let often =
        |frequency, count| Some(PeriodicParams { frequency, num_members: at_least_one(count) });
    Config {
        probe_period: interval,
        probe_rtt: interval * 2 / 5,
        num_indirect_probes: at_least_one(FAREWELLS),
        max_transmissions: NonZeroU8::new(10).unwrap_or(NonZeroU8::MIN),
        // Enough for a node that is suspected wrongly to hear of it and to object.
        suspect_to_down_after: interval * 5,
        remove_down_after: Some(interval * 3600),
        max_packet_size: at_least_one(BODY_BYTES_MAX),
        notify_down_members: true,
        periodic_announce: often(interval * 30, 1),
        periodic_announce_to_down_members: often(interval * 60, 2),
        periodic_gossip: often(interval / 5, 3),
    }
}

fn at_least_one(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN)
}

/// Members that are there, of those that another instance told of, if they are sound.
pub fn inherited(members: Vec<Member<Peer>>) -> Vec<Member<Peer>> {
    let is_there = |member: &Member<Peer>| member.state() != State::Down && member.id().is_sound();
    members.into_iter().filter(is_there).collect()
}
