//! The failure detector under a bad network: heartbeats are lost, late, doubled and out of order,
//! clocks run wrong by up to 1 %, and every process stands still now and then.
//!
//! Guarantee G12 in figures: who crashes is accused within the profile's time, who is merely
//! paused for half a second is not, and an observer that was paused itself accuses nobody.
//!
//! It steps through time, not through events, so that thousands of node-hours take seconds. An
//! accusation becomes a confirmation as in the node: unless one of three witnesses has heard the
//! accused within the suspicion time.

use super::machine::Clock;
use super::oracle::{Oracle, Verdict, ensure};
use super::rng::Rng;
use std::collections::VecDeque;
use zepto_core::detect::{Detector, Profile, Transition};
use zepto_core::{Incarnation, NodeId};

const MS: u64 = 1_000_000;
/// Packets that a socket holds for a process that does not read; later ones are dropped.
const SOCKET_PACKETS: usize = 256;
/// Members asked before an accusation becomes a proposal, as in the node.
const WITNESSES: usize = 3;

/// What is done to the nodes.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// Nodes.
    pub nodes: u32,
    /// The detectors' times.
    pub profile: Profile,
    /// Packets lost, in a million.
    pub loss_ppm: u64,
    /// Longest delay of a packet.
    pub delay_ms_max: u64,
    /// Mean time between two pauses of one node; zero for none.
    pub pause_every_ms: u64,
    /// Length of a pause.
    pub pause_ms: u64,
    /// Virtual time.
    pub hours: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Nodes times hours.
    pub node_hours: u64,
    /// By observer: its accusations of nodes that had not crashed.
    pub false_accusations: Vec<u64>,
    /// Those of them that no witness refuted.
    pub false_confirmations: u64,
    /// Packets that did not count: doubled, or overtaken.
    pub ignored: u64,
    /// Times from a crash to each accusation.
    pub detected_ms: Vec<u64>,
}

struct Node {
    detector: Detector,
    clock: Clock,
    inbox: VecDeque<(u64, NodeId, u64)>,
    seq: u64,
    paused_until: u64,
    next_pause: u64,
}

struct Cluster {
    conditions: Conditions,
    rng: Rng,
    nodes: Vec<Node>,
    now: u64,
    crashed: Option<(usize, u64)>,
    report: Report,
}

/// Runs healthy nodes, which only pause, and counts who is accused.
pub fn false_accusations(seed: u64, conditions: Conditions) -> Report {
    let mut cluster = Cluster::new(seed, conditions);
    let end = conditions.hours * 3_600_000 * MS;
    while cluster.now < end {
        cluster.step();
    }
    cluster.report.node_hours = u64::from(conditions.nodes) * conditions.hours;
    cluster.report
}

/// Crashes a node, again and again, and says how long each observer took to accuse it.
pub fn detection_times(seed: u64, conditions: Conditions, crashes: u64) -> Report {
    let mut all = Report::default();
    for crash in 0..crashes {
        let mut cluster = Cluster::new(seed ^ (crash << 32), conditions);
        let steps = 40 + cluster.rng.below(40);
        (0..steps).for_each(|_| cluster.step());
        cluster.crashed = Some((0, cluster.now));
        let patience = cluster.now + conditions.profile.dead_after.as_nanos() as u64 * 3;
        while cluster.now < patience {
            cluster.step();
        }
        all.detected_ms.append(&mut cluster.report.detected_ms);
        all.false_confirmations += cluster.report.false_confirmations;
    }
    all
}

/// Pauses one observer for anything from half a second to an hour; it may accuse nobody.
pub fn paused_observer(seed: u64, profile: Profile) -> Verdict {
    let conditions = Conditions {
        nodes: 3,
        profile,
        loss_ppm: 50_000,
        delay_ms_max: 50,
        pause_every_ms: 0,
        pause_ms: 0,
        hours: 0,
    };
    let mut cluster = Cluster::new(seed, conditions);
    let steps = 20 + cluster.rng.below(40);
    (0..steps).for_each(|_| cluster.step());
    let pause = cluster.rng.log_within(500 * MS, 3_600_000 * MS);
    cluster.nodes[0].paused_until = cluster.now + pause;
    while cluster.now < cluster.nodes[0].paused_until {
        // The others go on; a long pause is not stepped through whole.
        let left = cluster.nodes[0].paused_until - cluster.now;
        cluster.now += (left / 64).saturating_sub(conditions.profile.interval.as_nanos() as u64);
        cluster.hear_all();
        cluster.step();
    }
    (0..40).for_each(|_| cluster.step());
    let accused = cluster.report.false_accusations[0];
    ensure(Oracle::Detection, accused == 0, || {
        format!("an observer that was paused for {} ms accused {accused} others", pause / MS)
    })
}

impl Cluster {
    fn new(seed: u64, conditions: Conditions) -> Self {
        let mut rng = Rng::new(seed);
        let members = || (1..=conditions.nodes).map(|id| (NodeId(id), Incarnation(1)));
        let nodes = members()
            .map(|(id, _)| {
                let clock = Clock::draw(&mut rng);
                let mut detector = Detector::new(id, conditions.profile);
                detector.watch(members(), clock.read(0));
                let next_pause = rng.below(conditions.pause_every_ms.max(1) * MS * 2);
                let inbox = VecDeque::new();
                Node { detector, clock, inbox, seq: 0, paused_until: 0, next_pause }
            })
            .collect();
        let false_accusations = vec![0; conditions.nodes as usize];
        let report = Report { false_accusations, ..Report::default() };
        Self { conditions, rng, nodes, now: 0, crashed: None, report }
    }

    /// One interval: everybody who runs says that it is here, listens and looks at its clock.
    fn step(&mut self) {
        self.now += self.conditions.profile.interval.as_nanos() as u64;
        for node in 0..self.nodes.len() {
            if self.runs(node) {
                self.beat(node);
            }
        }
        for node in 0..self.nodes.len() {
            if self.runs(node) {
                self.listen(node);
            }
        }
    }

    fn runs(&mut self, node: usize) -> bool {
        if self.crashed.is_some_and(|(crashed, _)| crashed == node) {
            return false;
        }
        let Conditions { pause_every_ms, pause_ms, .. } = self.conditions;
        let this = &mut self.nodes[node];
        if pause_every_ms > 0 && self.now >= this.next_pause {
            this.paused_until = self.now + pause_ms * MS;
            this.next_pause = this.paused_until + self.rng.below(pause_every_ms * MS * 2);
        }
        this.paused_until <= self.now
    }

    fn beat(&mut self, from: usize) {
        self.nodes[from].seq += 1;
        let (seq, id) = (self.nodes[from].seq, NodeId(from as u32 + 1));
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            // One in a hundred comes twice.
            for _ in 0..1 + u64::from(self.rng.chance(10_000)) {
                let lost = self.rng.chance(self.conditions.loss_ppm);
                let due = self.now + self.rng.below(self.conditions.delay_ms_max * MS + 1);
                let inbox = &mut self.nodes[to].inbox;
                if !lost && inbox.len() < SOCKET_PACKETS {
                    inbox.push_back((due, id, seq));
                }
            }
        }
    }

    fn listen(&mut self, node: usize) {
        let (now, late) = (self.now, self.rng.chance(500_000));
        let this = &mut self.nodes[node];
        let clock = this.clock.read(now);
        // Whether a process that wakes reads its clock or its socket first is chance.
        let mut changes = if late { this.detector.poll(clock) } else { Vec::new() };
        for _ in 0..this.inbox.len() {
            let Some((due, from, seq)) = this.inbox.pop_front() else { break };
            if due > now {
                this.inbox.push_back((due, from, seq));
            } else {
                // A late or doubled packet does not count, which is the detector's to say.
                let heard = this.detector.heard(from, Some(Incarnation(1)), seq, clock);
                self.report.ignored += u64::from(heard.is_err());
            }
        }
        if !late {
            changes = this.detector.poll(clock);
        }
        for change in changes {
            let Transition::Accused(accused, _) = change else { continue };
            match self.crashed {
                Some((crashed, at)) if accused.0 as usize == crashed + 1 => {
                    self.report.detected_ms.push((now - at) / MS);
                }
                _ => {
                    self.report.false_accusations[node] += 1;
                    let refuted = self.is_refuted(node, accused);
                    self.report.false_confirmations += u64::from(!refuted);
                }
            }
        }
    }

    /// Whether a witness that answers has heard the accused lately.
    fn is_refuted(&self, observer: usize, accused: NodeId) -> bool {
        let others = self.nodes.iter().enumerate();
        let others = others.filter(|(n, _)| *n != observer && *n + 1 != accused.0 as usize);
        others.take(WITNESSES).any(|(_, witness)| {
            let silence = witness.detector.silence(accused, witness.clock.read(self.now));
            let lately = |silence| silence < self.conditions.profile.suspect_after;
            witness.paused_until <= self.now && silence.is_some_and(lately)
        })
    }

    /// Everybody who runs hears everybody, once: stands for the time that is skipped.
    fn hear_all(&mut self) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].paused_until > self.now {
                continue;
            }
            for from in (0..self.nodes.len()).filter(|from| *from != node) {
                if self.nodes[from].paused_until <= self.now {
                    self.nodes[from].seq += 1;
                    let (seq, id) = (self.nodes[from].seq, NodeId(from as u32 + 1));
                    let this = &mut self.nodes[node];
                    let clock = this.clock.read(self.now);
                    let heard = this.detector.heard(id, Some(Incarnation(1)), seq, clock);
                    self.report.ignored += u64::from(heard.is_err());
                }
            }
            let this = &mut self.nodes[node];
            let clock = this.clock.read(self.now);
            this.detector.poll(clock);
        }
    }
}
