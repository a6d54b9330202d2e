//! One node that gossips, without a clock and without a socket: it is told the time and what
//! arrived, and says what is to be sent and when it wants to be called again.

use crate::config::Settings;
use crate::identity::Peer;
use crate::join::Join;
use crate::memory::Memory;
use crate::protocol::{Outbox, Protocol, config, find};
use crate::queue::Due;
use crate::wire;
use core::net::SocketAddr;
use foca::{Error, Foca, Identity, Member, PostcardCodec, State, Timer};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

/// Timers that one call sees to; the others are seen to at once in the next.
const TIMERS_AT_ONCE: usize = 64;
/// Members that one datagram may bring.
const NEWS_MAX: usize = 64;
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
    memory_bytes: u64,
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
        let mut swim = Self {
            foca: Foca::new(me, config(settings.interval), own, PostcardCodec),
            out: Outbox::new(&settings.cluster, now),
            join: Join::new(settings.seeds.clone(), settings.interval, now),
            memory,
            random,
            others_max: settings.others_max,
            memory_bytes: settings.memory,
            interval: settings.interval.as_nanos() as u64,
            returns_at: None,
            returned: None,
            hiccups: 0,
        };
        let known = members.into_iter().take(settings.others_max);
        let applied = swim.foca.apply_many(known, false, &mut swim.out);
        swim.count(applied);
        swim.settle();
        swim.call(now);
        swim
    }

    /// Lets others know at once that it is there: whoever is known, and, for they may all be gone,
    /// those who may let it in.
    pub fn call(&mut self, now: u64) {
        self.out.now = now;
        let said = self.foca.gossip(&mut self.out);
        self.count(said);
        self.join.hurry(now);
        self.tick(now);
    }

    /// A datagram came.
    pub fn receive(&mut self, datagram: &[u8], now: u64) -> Received {
        self.out.now = now;
        let Some(body) = self.out.head.open(datagram) else { return Received::Foreign };
        self.make_room();
        let (foca, me, room) = (&self.foca, self.foca.identity(), self.room());
        let knows = |id: u64| me.addr() == id || find(foca, id).is_some();
        let Some(body) = wire::admit(body, me, room, knows) else {
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
            match self.out.queue.pop(now) {
                Some(Due::Timer(timer)) => self.handle(timer),
                Some(Due::Forget(id)) => self.forget(id),
                None => break,
            }
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
        if self.out.is_changed {
            self.memory.note(self.foca.iter_members().map(|member| member.id().gossip));
        }
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

    fn handle(&mut self, timer: Timer<Peer>) {
        let handled = self.foca.handle_timer(timer, &mut self.out);
        self.count(handled);
        self.settle();
    }

    /// Forgets a node, if it is down.
    fn forget(&mut self, id: u64) {
        if let Some(gone) = find(&self.foca, id) {
            let gone = gone.id().clone();
            self.handle(Timer::RemoveDown(gone));
        }
    }

    /// Members that there is room for, whatever they are called.
    fn room(&self) -> usize {
        let members = self.foca.iter_membership_state();
        let room = self.others_max.saturating_sub(members.len());
        let used: u64 = members.map(|member| member.id().cost()).sum();
        let fit = self.memory_bytes.saturating_sub(used) / Peer::COST_MAX;
        room.min(fit.try_into().unwrap_or(usize::MAX))
    }

    /// Those that are gone make room for those that come.
    fn make_room(&mut self) {
        // Where few fit, those that are gone are not worth less than those that may come.
        let wanted = NEWS_MAX.min(self.others_max / 4);
        while self.room() < wanted
            && let Some(id) = self.out.queue.pop_forget()
        {
            self.forget(id);
        }
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

/// Members that are there, of those that another instance told of, if they are sound.
pub fn inherited(members: Vec<Member<Peer>>) -> Vec<Member<Peer>> {
    let is_there = |member: &Member<Peer>| member.state() != State::Down && member.id().is_sound();
    members.into_iter().filter(is_there).collect()
}
