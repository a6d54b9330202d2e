//! What one schedule will be: the cluster, its load, its faults and when they strike, all drawn
//! from the seed before anything runs.
//!
//! A *focus* tilts the dice towards one mechanism, so that a few thousand short schedules reach
//! what a million unguided ones would not.

use super::rng::Rng;
use super::transport::Travel;

const US: u64 = 1_000;
const MS: u64 = 1_000 * US;
const SECOND: u64 = 1_000 * MS;

/// What a schedule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Focus {
    /// Owners crash and are paused; replicas take over.
    Failover,
    /// Replicas crash, are paused and are accused falsely.
    Replicas,
    /// Views come late, lost and out of order.
    Views,
    /// Producers' lanes break and are opened again.
    Lanes,
    /// Refusals come faster than they are read.
    Refusals,
    /// The store's budget is small.
    Overload,
    /// Partitions move to other owners, data and all.
    Moves,
    /// One copy only: a crash loses it.
    OneCopy,
    /// A replica falls behind while others go on, and then its owner goes.
    Laggards,
    /// Pauses of seconds to an hour.
    Sleep,
    /// Everything at once.
    Mixed,
}

impl Focus {
    /// Every focus; a schedule without one takes its seed's.
    pub const ALL: &'static [Self] = &[
        Self::Failover,
        Self::Replicas,
        Self::Views,
        Self::Lanes,
        Self::Refusals,
        Self::Overload,
        Self::Moves,
        Self::OneCopy,
        Self::Laggards,
        Self::Sleep,
        Self::Mixed,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failover => "failover",
            Self::Replicas => "replicas",
            Self::Views => "views",
            Self::Lanes => "lanes",
            Self::Refusals => "refusals",
            Self::Overload => "overload",
            Self::Moves => "moves",
            Self::OneCopy => "one-copy",
            Self::Laggards => "laggards",
            Self::Sleep => "sleep",
            Self::Mixed => "mixed",
        }
    }

    /// The focus with a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|focus| focus.name() == name)
    }
}

/// Something that goes wrong, or is done to the cluster. Nodes are numbered from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The node's agents do not run for a while; what others send it arrives in its memory.
    PauseNode {
        /// Which.
        node: u32,
        /// How long.
        for_ns: u64,
    },
    /// The node's memory is gone; it comes back as a new incarnation after a while.
    CrashNode {
        /// Which.
        node: u32,
        /// How long it is down.
        down_ns: u64,
    },
    /// The producer's thread does not run for a while.
    PauseProducer {
        /// Which.
        producer: usize,
        /// How long.
        for_ns: u64,
    },
    /// Nothing of one party arrives in the other's memory for a while.
    Stall {
        /// Whose writes.
        from: u32,
        /// In whose memory.
        to: u32,
        /// How long.
        for_ns: u64,
    },
    /// A stall, and no message of the log reaches the second node either.
    Partition {
        /// Whose writes.
        from: u32,
        /// Who is cut off.
        to: u32,
        /// How long.
        for_ns: u64,
    },
    /// A producer's lanes break.
    Reconnect {
        /// Whose.
        producer: usize,
    },
    /// The operator declares a node dead that is not.
    Accuse {
        /// Which.
        node: u32,
    },
    /// An operator wants a partition at a node.
    Pin {
        /// Which, among any number.
        partition: u32,
        /// Where.
        node: u32,
    },
    /// An operator changes a node's share.
    Weigh {
        /// Which.
        node: u32,
        /// Its new weight.
        weight: u16,
    },
    /// The lanes from a node to its replicas break.
    Sever {
        /// Which.
        node: u32,
    },
}

/// One producer.
#[derive(Clone, Copy, Debug)]
pub struct ProducerPlan {
    /// Acknowledged once the owner has it.
    pub memory_only: bool,
    /// Ticks until the faults are over.
    pub ticks: u64,
    /// Ticks at a time.
    pub burst_max: u64,
    /// Slots of its lanes.
    pub lane_slots: u32,
    /// Mean time between two steps, in nanoseconds.
    pub step_ns: u64,
    /// When it begins.
    pub begin_ns: u64,
}

/// A schedule.
#[derive(Clone, Debug)]
pub struct Plan {
    /// 2^bits partitions.
    pub bits: u8,
    /// Declared copies of each.
    pub copies: usize,
    /// How many nodes there are.
    pub nodes: u32,
    /// The producers.
    pub producers: Vec<ProducerPlan>,
    /// Slots of replica lanes.
    pub replica_slots: u32,
    /// Mean time between two steps of a node, in nanoseconds.
    pub step_ns: u64,
    /// How long things travel.
    pub travel: Travel,
    /// Longest delay of a message of the log.
    pub message_ns_max: u64,
    /// Messages of the log that are lost.
    pub loss_ppm: u64,
    /// Time between two pulls of the log by one node.
    pub pull_ns: u64,
    /// Silence until the operator declares a node dead.
    pub detect_ns: u64,
    /// The operator also declares paused nodes dead.
    pub accuses_paused: bool,
    /// Bytes of each store.
    pub store_bytes: u64,
    /// Faults by time.
    pub faults: Vec<(u64, Fault)>,
    /// When everything heals.
    pub heal_ns: u64,
}

impl Plan {
    /// Draws a schedule.
    pub fn draw(focus: Focus, rng: &mut Rng) -> Self {
        let copies = match focus {
            Focus::OneCopy => 1,
            Focus::Moves => *rng.pick(&[1, 2, 2, 3]),
            Focus::Failover | Focus::Replicas => *rng.pick(&[2, 3, 3]),
            Focus::Laggards => 3,
            _ => *rng.pick(&[2, 2, 3]),
        };
        // One more than copies, so that there is somebody to fill; often just that.
        let nodes = (copies as u32 + 1).max(*rng.pick(&[3, 3, 3, 4, 5, 7]));
        let producers = 1 + rng.below(3);
        let producers = (0..producers).map(|_| ProducerPlan::draw(focus, rng)).collect();
        let max_ns = rng.log_within(2 * US, 400 * US);
        let travel = Travel { min_ns: 500, max_ns, slow_ppm: *rng.pick(&[0, 0, 20_000]) };
        let late = matches!(focus, Focus::Views | Focus::Mixed);
        let heal_ns = rng.within(20 * MS, 60 * MS);
        let mut plan = Self {
            // Every owner has partitions with a copy that lags, and others without.
            bits: if focus == Focus::Laggards { 4 } else { 1 + rng.below(2) as u8 },
            copies,
            nodes,
            producers,
            replica_slots: match focus {
                Focus::Refusals => 4096,
                Focus::Laggards => 64,
                _ => *rng.pick(&[64, 128, 256]),
            },
            step_ns: rng.log_within(20 * US, 300 * US),
            travel,
            message_ns_max: rng.log_within(50 * US, if late { 20 * MS } else { 3 * MS }),
            loss_ppm: *rng.pick(if late { &[100_000, 500_000] } else { &[0, 50_000] }),
            pull_ns: rng.log_within(MS, if late { 20 * MS } else { 5 * MS }),
            detect_ns: rng.log_within(MS, 10 * MS),
            accuses_paused: rng.chance(700_000),
            store_bytes: if focus == Focus::Overload {
                rng.within(30_000, 120_000)
            } else {
                64 << 20
            },
            faults: Vec::new(),
            heal_ns,
        };
        plan.draw_faults(focus, rng);
        plan
    }

    fn draw_faults(&mut self, focus: Focus, rng: &mut Rng) {
        let count = rng.within(1, if focus == Focus::Mixed { 9 } else { 5 });
        for _ in 0..count {
            // Producers have offered everything long before the end.
            let until = if focus == Focus::Laggards { 10 * MS } else { self.heal_ns };
            let at = rng.within(MS / 2, until);
            let fault = Fault::draw(focus, self.nodes, self.producers.len(), rng);
            self.faults.push((at, fault));
            if let (Focus::Laggards, Fault::Stall { from, .. }) = (focus, fault) {
                self.follow_up(at, from, rng);
            }
        }
        self.faults.sort_by_key(|(at, _)| *at);
        if focus == Focus::Sleep {
            // Whoever sleeps longest decides when it is over.
            let until = self.faults.iter().map(|(at, fault)| at + fault.length());
            self.heal_ns = until.max().unwrap_or(0).max(self.heal_ns) + 50 * MS;
        }
    }

    /// What comes after a replica began to lag: perhaps its lane breaks, then its owner goes, and
    /// producers send again what had no answer.
    fn follow_up(&mut self, at: u64, owner: u32, rng: &mut Rng) {
        let mut at = at + rng.log_within(100 * US, 5 * MS);
        if rng.chance(500_000) {
            self.faults.push((at, Fault::Sever { node: owner }));
            at += rng.log_within(100 * US, 5 * MS);
        }
        let down_ns = rng.log_within(MS, 20 * MS);
        self.faults.push((at, Fault::CrashNode { node: owner, down_ns }));
        // A survivor that slept takes much at once.
        let node = 1 + rng.below(self.nodes.into()) as u32;
        let nap = Fault::PauseNode { node, for_ns: rng.log_within(100 * US, 5 * MS) };
        if node != owner && rng.chance(500_000) {
            self.faults.push((at.saturating_sub(rng.below(5 * MS)), nap));
        }
        for producer in 0..self.producers.len() {
            self.faults.push((at + rng.log_within(MS, 10 * MS), Fault::Reconnect { producer }));
        }
    }
}

impl ProducerPlan {
    fn draw(focus: Focus, rng: &mut Rng) -> Self {
        let (ticks, burst_max, lane_slots) = match focus {
            Focus::Refusals => (rng.within(1_500, 3_000), 2_000, 4096),
            Focus::Laggards => (rng.within(1_000, 3_000), 32, 256),
            _ => (rng.log_within(30, 500), rng.log_within(2, 64), *rng.pick(&[16, 64, 128, 256])),
        };
        // What settles at once goes on beside what waits for a copy.
        let memory_only = if focus == Focus::Laggards { 500_000 } else { 200_000 };
        Self {
            memory_only: rng.chance(memory_only),
            ticks,
            burst_max,
            lane_slots,
            step_ns: rng.log_within(30 * US, 800 * US),
            begin_ns: if focus == Focus::Moves { rng.below(15 * MS) } else { rng.below(2 * MS) },
        }
    }
}

impl Fault {
    fn draw(focus: Focus, nodes: u32, producers: usize, rng: &mut Rng) -> Self {
        let node = 1 + rng.below(nodes.into()) as u32;
        let other = 1 + (node + rng.below(u64::from(nodes) - 1) as u32) % nodes;
        let producer = rng.below(producers as u64) as usize;
        let for_ns = match focus {
            Focus::Sleep => rng.log_within(10 * MS, 3_600 * SECOND),
            _ => rng.log_within(MS, 30 * MS),
        };
        let pause = Self::PauseNode { node, for_ns };
        let crash = Self::CrashNode { node, down_ns: rng.log_within(MS, 20 * MS) };
        let accuse = Self::Accuse { node };
        let reconnect = Self::Reconnect { producer };
        let stall = Self::Stall { from: node, to: other, for_ns: for_ns.min(20 * MS) };
        // Producers are parties from 100 on.
        let (near, far) = (100 + producer as u32, node);
        let (from, to) = if rng.chance(500_000) { (near, far) } else { (far, near) };
        let slow_lane = Self::Stall { from, to, for_ns: for_ns.min(20 * MS) };
        let partition = Self::Partition { from: node, to: other, for_ns: for_ns.min(20 * MS) };
        let nap = Self::PauseProducer { producer, for_ns };
        let pin = Self::Pin { partition: rng.below(4) as u32, node };
        let weigh = Self::Weigh { node, weight: *rng.pick(&[50, 100, 100, 400]) };
        let sever = Self::Sever { node };
        let faults: &[Self] = match focus {
            Focus::Failover => &[pause, pause, crash, crash, accuse, stall, sever],
            Focus::Replicas => &[pause, crash, accuse, stall, stall, sever, sever],
            Focus::Views => &[pause, accuse, partition, partition, pin, sever],
            Focus::Lanes => &[reconnect, reconnect, reconnect, slow_lane, pause, stall, crash, nap],
            Focus::Refusals => &[accuse, pause, nap, pin, sever],
            Focus::Overload => &[pause, reconnect, accuse, nap, slow_lane],
            Focus::Moves => &[pin, pin, pin, weigh, pause, partition, reconnect, sever, accuse],
            Focus::OneCopy => &[crash, pause, reconnect, pin, accuse],
            Focus::Laggards => &[stall, stall, stall, accuse, pin],
            Focus::Sleep => &[pause, pause, nap, crash],
            Focus::Mixed => &[
                pause, crash, accuse, stall, slow_lane, partition, reconnect, nap, pin, weigh,
                sever,
            ],
        };
        *rng.pick(faults)
    }

    fn length(self) -> u64 {
        match self {
            Self::PauseNode { for_ns, .. }
            | Self::PauseProducer { for_ns, .. }
            | Self::Stall { for_ns, .. }
            | Self::Partition { for_ns, .. } => for_ns,
            Self::CrashNode { down_ns, .. } => down_ns,
            _ => 0,
        }
    }
}
