//! The conductor: sends this node's heartbeats, hears the others', and forms an opinion of each.
//!
//! It has its own thread and its own socket, so nothing that is slow elsewhere makes this node
//! look dead; and it sends only while every other agent makes progress, so a node that hangs falls
//! silent. What it thinks goes out as transitions over a bounded queue; deciding is the log's.

use crate::agent::beats::Beats;
use arc_swap::ArcSwap;
use core::time::Duration;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use tokio::sync::mpsc::Sender;
use zepto_control::State;
use zepto_core::detect::{Detector, Opinion, Profile, Transition};
use zepto_core::env::Env;
use zepto_core::heartbeat::{BYTES, Heartbeat, Trailer};
use zepto_core::time::Nanos;
use zepto_core::topology::MemberState;
use zepto_core::{Incarnation, NodeId};
use zepto_rpc::HeartbeatKeys;

/// What an observer thinks of one member, for others to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The incarnation it is about.
    pub incarnation: Incarnation,
    /// The opinion.
    pub opinion: Opinion,
    /// When it was last heard; `None` if never.
    pub heard: Option<Nanos>,
}

/// Opinions by member. Replaced as a whole; any thread reads.
pub type Opinions = Arc<ArcSwap<BTreeMap<NodeId, Observed>>>;

/// Where each member's heartbeats go, resolved elsewhere.
pub type Addresses = Arc<ArcSwap<BTreeMap<NodeId, SocketAddr>>>;

/// Longest time one round waits for packets: how late a heartbeat may be.
const TURN: Duration = Duration::from_millis(10);
/// Packets taken in one round, so that a flood cannot hold up our own heartbeats.
const PACKETS_PER_TURN: usize = 256;

/// What the conductor is made of.
pub struct Setup {
    /// The socket, on the RPC port.
    pub socket: UdpSocket,
    /// This node.
    pub me: NodeId,
    /// This life of it.
    pub incarnation: Incarnation,
    /// The times.
    pub profile: Profile,
    /// The applied topology.
    pub state: Arc<State>,
    /// Where the others are.
    pub addresses: Addresses,
    /// Where opinions are published.
    pub opinions: Opinions,
    /// Where changes of opinion go.
    pub transitions: Sender<Transition>,
    /// What it counts.
    pub beats: Arc<Beats>,
    /// Rounds of every other agent: each must have advanced between two heartbeats.
    pub progress: Box<dyn Fn() -> Vec<u64> + Send>,
    /// Signs and checks packets, where there is a cluster secret.
    pub keys: Option<HeartbeatKeys>,
    /// Clocks.
    pub env: Arc<dyn Env>,
}

/// The agent. Owned by one thread.
pub struct Conductor {
    setup: Setup,
    detector: Detector,
    watched: u64,
    seq: u64,
    sent: Option<Nanos>,
    held_back: Option<Nanos>,
    progressed: Vec<u64>,
    undelivered: Vec<Transition>,
}

impl Conductor {
    /// A conductor that has heard nobody yet.
    ///
    /// # Errors
    /// When the socket cannot be set up.
    pub fn new(setup: Setup) -> std::io::Result<Self> {
        setup.socket.set_nonblocking(false)?;
        setup.socket.set_read_timeout(Some(TURN))?;
        let detector = Detector::new(setup.me, setup.profile);
        Ok(Self {
            setup,
            detector,
            watched: u64::MAX,
            seq: 0,
            sent: None,
            held_back: None,
            progressed: Vec::new(),
            undelivered: Vec::new(),
        })
    }

    /// One round: hears, judges, speaks. Waits up to 10 ms for a packet.
    pub fn do_work(&mut self) {
        self.watch();
        self.hear();
        let now = self.setup.env.now();
        let changes = self.detector.poll(now);
        // Whoever is told of a change finds the opinion that it led to.
        self.publish();
        self.tell(changes);
        self.speak(now);
        self.setup.beats.round();
    }

    /// Takes up the members of the log.
    fn watch(&mut self) {
        let view = self.setup.state.view();
        if view.index() == self.watched {
            return;
        }
        self.watched = view.index();
        let members = view.placement().members.iter();
        let living = members.filter(|member| member.state != MemberState::Dead);
        let living = living.map(|member| (member.id, member.incarnation));
        self.detector.watch(living, self.setup.env.now());
    }

    fn hear(&mut self) {
        let mut bytes = [0; BYTES + 1];
        for _ in 0..PACKETS_PER_TURN {
            match self.setup.socket.recv_from(&mut bytes) {
                Ok((length, from)) => {
                    self.heard(&bytes[..length], from);
                    // After the first packet of a round, only what is there already is taken.
                    if self.setup.socket.set_nonblocking(true).is_err() {
                        break;
                    }
                }
                // A refused port of a member that is gone is reported on the next call.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => {
                    let usual =
                        [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::Interrupted];
                    if !usual.contains(&error.kind()) {
                        tracing::warn!(%error, "cannot receive heartbeats");
                    }
                    break;
                }
            }
        }
        if let Err(error) = self.setup.socket.set_nonblocking(false) {
            tracing::warn!(%error, "the heartbeat socket");
        }
    }

    fn heard(&mut self, bytes: &[u8], from: SocketAddr) {
        let heartbeat = match Heartbeat::decode(bytes) {
            Ok(heartbeat) => heartbeat,
            Err(error) => {
                self.setup.beats.malformed();
                tracing::debug!(%from, %error, "not a heartbeat");
                return;
            }
        };
        if let Some(keys) = &mut self.setup.keys
            && !keys.accepts(bytes)
        {
            self.setup.beats.unauthenticated();
            tracing::debug!(%from, "a heartbeat without proof of the cluster secret");
            return;
        }
        let incarnation = heartbeat.trailer.as_ref().map(|trailer| trailer.incarnation);
        let now = self.setup.env.now();
        let heard = self.detector.heard(heartbeat.node, incarnation, heartbeat.seq, now);
        self.setup.beats.heard(heard.err());
        match heard {
            Ok(change) => self.tell(change.into_iter().collect()),
            Err(why) => tracing::trace!(node = %heartbeat.node, %from, ?why, "ignored a heartbeat"),
        }
    }

    /// Sends heartbeats when they are due, if every agent advanced since the last ones.
    fn speak(&mut self, now: Nanos) {
        let due = self.sent.is_none_or(|sent| now.since(sent) >= self.setup.profile.interval);
        if !due {
            return;
        }
        let progress = (self.setup.progress)();
        let stuck = progress.len() == self.progressed.len()
            && progress.iter().zip(&self.progressed).any(|(now, before)| now == before);
        if stuck {
            // Looked at in every round; counted once per interval that is skipped.
            if self.held_back.is_none_or(|last| now.since(last) >= self.setup.profile.interval) {
                self.held_back = Some(now);
                self.setup.beats.held_back();
            }
            return;
        }
        self.progressed = progress;
        self.sent = Some(now);
        self.seq += 1;
        let position = self.setup.state.position();
        let heartbeat = Heartbeat {
            node: self.setup.me,
            seq: self.seq,
            timestamp_ns: self.setup.env.wall_ns(),
            trailer: Some(Trailer {
                incarnation: self.setup.incarnation,
                topology_index: position.index,
                topology_hash: position.hash,
                mac: [0; 16],
            }),
        };
        let (mut bytes, length) = heartbeat.encode();
        if let Some(keys) = &mut self.setup.keys {
            keys.sign(&mut bytes);
        }
        for address in self.setup.addresses.load().values() {
            // Lost ones are what the suspicion time is for.
            let sent = self.setup.socket.send_to(&bytes[..length], address);
            self.setup.beats.sent(sent.is_ok());
            if let Err(error) = sent {
                tracing::trace!(%address, %error, "a heartbeat was not sent");
            }
        }
    }

    /// Hands transitions on; what does not fit now is told next round.
    fn tell(&mut self, changes: Vec<Transition>) {
        self.undelivered.extend(changes);
        while let Some(change) = self.undelivered.first() {
            if self.setup.transitions.try_send(*change).is_err() {
                break;
            }
            self.undelivered.remove(0);
        }
        // Two changes per member at most are worth keeping: the last ones.
        let keep = 2 * zepto_core::limits::MEMBERS_MAX;
        let excess = self.undelivered.len().saturating_sub(keep);
        self.undelivered.drain(..excess);
    }

    fn publish(&self) {
        let view = self.setup.state.view();
        let now = self.setup.env.now();
        let observed = view.placement().members.iter().filter_map(|member| {
            // Of the life that is watched, which may be an earlier one than the view's.
            let (incarnation, opinion) = self.detector.opinion(member.id)?;
            let silence = self.detector.silence(member.id, now);
            let heard =
                silence.map(|silence| Nanos(now.0.saturating_sub(silence.as_nanos() as u64)));
            Some((member.id, Observed { incarnation, opinion, heard }))
        });
        self.setup.opinions.store(Arc::new(observed.collect()));
    }
}
