//! Nodes in one process that gossip over a network which loses and delays, by a clock that is told
//! what time it is.

use crate::config::Settings;
use crate::identity::Peer;
use crate::memory::Memory;
use crate::swim::Swim;
use core::net::SocketAddr;
use core::time::Duration;
use foca::Member;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;

mod cluster;
mod hostile;

const INTERVAL: Duration = Duration::from_secs(1);
const SECOND: u64 = 1_000_000_000;
const OTHERS_MAX: usize = 200;

fn at(node: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node], 7946))
}

fn settings(node: u8, incarnation: u64, seeds: &[u8]) -> Settings {
    let id = format!("n{node}");
    let me = Peer { id: id.as_str().into(), incarnation, port: 9000, ..Peer::at(at(node)) };
    Settings {
        me,
        bind: at(node),
        seeds: seeds.iter().map(|seed| at(*seed)).collect(),
        cluster: "blue".into(),
        interval: INTERVAL,
        others_max: OTHERS_MAX,
        memory: u64::MAX,
    }
}

/// The network, and who is on it.
struct World {
    now: u64,
    nodes: BTreeMap<SocketAddr, Swim>,
    /// Datagrams on their way: when they arrive, a number, where to.
    way: BTreeMap<(u64, u64), (SocketAddr, Vec<u8>)>,
    random: Xoshiro256PlusPlus,
    sent: u64,
    loss_percent: u64,
    /// Nodes up to this one and those above do not hear each other.
    cut_after: Option<u8>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            now: SECOND,
            nodes: BTreeMap::new(),
            way: BTreeMap::new(),
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
            sent: 0,
            loss_percent: 0,
            cut_after: None,
        }
    }

    /// Five nodes that are started together and have the first as their seed.
    fn of_five(seed: u64) -> Self {
        let mut world = Self::new(seed);
        for node in 1..=5 {
            world.start(node, 1, &[1]);
        }
        world
    }

    fn start(&mut self, node: u8, incarnation: u64, seeds: &[u8]) {
        self.start_knowing(node, incarnation, seeds, (Vec::new(), Memory::default()));
    }

    fn start_knowing(
        &mut self,
        node: u8,
        incarnation: u64,
        seeds: &[u8],
        known: (Vec<Member<Peer>>, Memory),
    ) {
        self.start_as(&settings(node, incarnation, seeds), known);
    }

    fn start_as(&mut self, settings: &Settings, known: (Vec<Member<Peer>>, Memory)) {
        let mut seed = [0; 32];
        self.random.fill_bytes(&mut seed);
        let at = settings.me.gossip;
        let life = settings.me.life.max(1);
        let mut swim = Swim::new(settings, life, known, seed, self.now);
        let datagrams = swim.take_datagrams();
        self.nodes.insert(at, swim);
        self.post(at, datagrams);
    }

    /// It is gone without a word.
    fn kill(&mut self, node: u8) -> Swim {
        self.nodes.remove(&at(node)).unwrap()
    }

    fn post(&mut self, from: SocketAddr, datagrams: Vec<(SocketAddr, Vec<u8>)>) {
        let side = |address: SocketAddr, after: u8| match address.ip() {
            core::net::IpAddr::V4(ip) => ip.octets()[3] > after,
            core::net::IpAddr::V6(_) => false,
        };
        for (to, bytes) in datagrams {
            self.sent += 1;
            assert!(bytes.len() <= 1400);
            let is_cut = self.cut_after.is_some_and(|after| side(from, after) != side(to, after));
            let is_lost = self.random.next_u64() % 100 < self.loss_percent;
            let arrives = self.now + 1_000_000 + self.random.next_u64() % 4_000_000;
            if !is_cut && !is_lost {
                self.way.insert((arrives, self.sent), (to, bytes));
            }
        }
    }

    /// The next thing happens, unless that is later.
    fn step(&mut self, until: u64) -> bool {
        let wakes = self.nodes.iter().map(|(at, swim)| (swim.wakes_at(), *at)).min();
        let arrives = self.way.first_key_value().map(|((at, _), _)| *at);
        let (wakes, node) = wakes.unwrap_or((u64::MAX, at(0)));
        let next = wakes.min(arrives.unwrap_or(u64::MAX));
        if next > until {
            self.now = until;
            return false;
        }
        self.now = self.now.max(next);
        if arrives.is_some_and(|arrives| arrives <= wakes) {
            let Some((_, (to, bytes))) = self.way.pop_first() else { return false };
            if let Some(swim) = self.nodes.get_mut(&to) {
                swim.receive(&bytes, self.now);
                swim.take_change();
                let datagrams = swim.take_datagrams();
                self.post(to, datagrams);
            }
        } else if let Some(swim) = self.nodes.get_mut(&node) {
            swim.tick(self.now);
            swim.take_change();
            let datagrams = swim.take_datagrams();
            self.post(node, datagrams);
        }
        true
    }

    fn run(&mut self, seconds: u64) {
        self.run_for(seconds * SECOND);
    }

    fn run_for(&mut self, ns: u64) {
        let until = self.now + ns;
        while self.step(until) {}
    }

    /// Runs until something holds, with a look every 100 ms; says after how many seconds.
    #[track_caller]
    fn run_until(&mut self, seconds: u64, holds: impl Fn(&Self) -> bool) -> f64 {
        let (begun, until) = (self.now, self.now + seconds * SECOND);
        while !holds(self) {
            assert!(self.now < until, "not within {seconds} s: {:?}", self.seen());
            self.run_for(SECOND / 10);
        }
        (self.now - begun) as f64 / SECOND as f64
    }

    /// Whom each node knows, with incarnations.
    fn seen(&self) -> BTreeMap<String, Vec<String>> {
        let told = |peer: &Peer| format!("{}@{}", peer.id, peer.incarnation);
        let of = |swim: &Swim| {
            let mut others: Vec<String> = swim.others().map(told).collect();
            others.sort_unstable();
            (told(swim.me()), others)
        };
        self.nodes.values().map(of).collect()
    }

    /// Whether everybody knows everybody, in their present life, and nobody else.
    fn is_whole(&self) -> bool {
        let seen = self.seen();
        let all = |me: &String| seen.keys().filter(|id| *id != me).cloned().collect::<Vec<_>>();
        seen.iter().all(|(me, others)| *others == all(me))
    }

    fn hiccups(&self) -> u64 {
        self.nodes.values().map(Swim::hiccups).sum()
    }
}
