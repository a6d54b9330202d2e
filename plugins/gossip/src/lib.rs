//! Discovery by gossip: the nodes tell each other who is there, and find out who is not, by SWIM.
//! No server, and no list of all nodes: a seed or two, and what is remembered from before.
//!
//! It says where to look, and nothing more: who may join is decided by the cluster's secret.
#![deny(unsafe_code)]

mod config;
mod identity;
mod join;
mod memory;
mod protocol;
mod queue;
mod swim;
mod wire;

#[cfg(test)]
mod sim;

use config::Settings;
use foca::Member;
use identity::Peer;
use memory::Memory;
use swim::{Received, Swim};
use zepto_sdk::{
    About, Datagram, Error, Host, Level, Node, Open, Plugin, Status, Token, capability,
};

/// The only timer.
const TIMER: u64 = 1;
/// Key of the remembered addresses; the number is of their form.
const PEERS: &str = "peers-1";
/// First and longest pause before the socket is asked for again, ns.
const BIND_AGAIN: (u64, u64) = (10 * MS, 5000 * MS);
/// Time between two answers for each member of the first, ns: a large one is work for both sides.
const ANSWER_AFTER: u64 = 20_000;
/// Intervals that a node which has somebody to ask waits before it says that it is alone.
const ALONE_AFTER: u32 = 5;
const MS: u64 = 1_000_000;
/// Time from the question what it knows to its end, when it is replaced by another version.
const HAND_OVER: u64 = 5000 * MS;

/// The plugin.
pub struct Gossip {
    settings: Settings,
    /// What is granted, `CAP_*`.
    granted: u64,
    swim: Option<Swim>,
    socket: Option<Token>,
    /// When the socket is asked for again, and the pause before that.
    bind: (Option<u64>, u64),
    /// This life in gossip, and what the one before knew.
    life: u64,
    inherited: Vec<Member<Peer>>,
    revision: u64,
    /// When an answer is due, and the soonest time for one.
    answer: (Option<u64>, u64),
    /// When the timer runs out.
    armed: u64,
    /// When what it knows was asked for: then it may be about to be replaced.
    asked: Option<u64>,
    /// Whether it was said that a datagram was not sent.
    is_warned: bool,
}

impl Gossip {
    fn may(&self, capability: u64) -> bool {
        self.granted & capability != 0
    }

    fn bind(&mut self, host: &Host) -> Result<(), Error> {
        let address = self.settings.bind.to_string();
        let socket = host.bind(&address).map_err(|error| {
            let text = format!(
                "{error}; the socket wants a grant: udp=bind {address} peers NETWORKS, with the \
                 networks of the other nodes"
            );
            Error::new(error.status, text)
        })?;
        self.socket = Some(socket);
        self.bind.0 = None;
        Ok(())
    }

    /// Does what has come of an event.
    fn settle(&mut self, host: &Host) -> Result<(), Error> {
        let now = host.moment().mono_ns;
        if self.bind.0.is_some_and(|at| at <= now) {
            self.bind(host)?;
            // What it has said meanwhile was not heard.
            if let Some(swim) = &mut self.swim {
                swim.call(now);
            }
        }
        self.send(host);
        let may_keep = self.may(capability::KV);
        let Some(swim) = &mut self.swim else { return Ok(()) };
        if may_keep
            && let Some(bytes) = swim.memory().take_write(now)
            && let Err(error) = host.keep(PEERS, &bytes)
        {
            host.log(Level::Warn, &format!("what it remembers is not kept: {error}"));
        }
        if swim.take_change() {
            self.answer.0 = Some(self.answer.1.max(now));
        }
        let is_due = self.answer.0.is_some_and(|at| at <= now);
        let told = if is_due { self.tell(host) } else { Ok(()) };
        self.arm(host, now)?;
        told
    }

    fn send(&mut self, host: &Host) {
        let Some(swim) = &mut self.swim else { return };
        let datagrams = swim.take_datagrams();
        let Some(socket) = self.socket else { return };
        for (to, bytes) in datagrams {
            let Err(error) = host.send(socket, &to.to_string(), &bytes) else { continue };
            if self.may(capability::METRIC) {
                host.count("gossip_unsent", 1);
            }
            if !self.is_warned && error.status == Status::Denied {
                self.is_warned = true;
                let text = format!(
                    "may not speak with {to}, and maybe others: its network is not among the \
                     peers of the grant udp=bind {} peers ...",
                    self.settings.bind
                );
                host.log(Level::Warn, &text);
            }
        }
    }

    /// Says who is there: this node and the others, each with its own address.
    fn tell(&mut self, host: &Host) -> Result<(), Error> {
        let Some(swim) = &self.swim else { return Ok(()) };
        self.revision += 1;
        let mut peers: Vec<&Peer> = swim.others().chain([swim.me()]).collect();
        peers.sort_unstable();
        let hosts: Vec<String> = peers.iter().map(|peer| peer.host()).collect();
        let nodes: Vec<Node<'_>> = peers
            .iter()
            .zip(&hosts)
            .map(|(peer, host)| Node {
                id: peer.id.as_str(),
                host,
                port: peer.port,
                incarnation: peer.incarnation,
                ..Node::default()
            })
            .collect();
        let pause = ANSWER_AFTER * nodes.len() as u64;
        self.answer = (None, host.moment().mono_ns.saturating_add(pause));
        if self.may(capability::METRIC) {
            host.gauge("gossip_members", nodes.len() as i64);
            host.gauge("gossip_hiccups", swim.hiccups().cast_signed());
        }
        host.emit_all(self.revision, &nodes)
    }

    /// Has the timer run out when something is to be done.
    fn arm(&mut self, host: &Host, now: u64) -> Result<(), Error> {
        let Some(swim) = &self.swim else { return Ok(()) };
        let others = [self.answer.0, self.bind.0].into_iter().flatten();
        let at = others.fold(swim.wakes_at(), u64::min);
        if at != self.armed {
            host.set_timer(TIMER, at.saturating_sub(now), 0)?;
            self.armed = at;
        }
        Ok(())
    }
}

impl Plugin for Gossip {
    const ABOUT: About = About::discovery("gossip", env!("CARGO_PKG_VERSION"), "zepto")
        .needs(capability::UDP | capability::RANDOM)
        .uses(capability::KV | capability::METRIC)
        .state(1, 1);

    fn open(_: &Host, open: &Open<'_>) -> Result<Self, Error> {
        Ok(Self {
            settings: Settings::of(open)?,
            granted: open.granted_caps,
            swim: None,
            socket: None,
            bind: (None, BIND_AGAIN.0),
            life: 0,
            inherited: Vec::new(),
            revision: 0,
            answer: (None, 0),
            armed: 0,
            asked: None,
            is_warned: false,
        })
    }

    fn start(&mut self, host: &Host) -> Result<(), Error> {
        let (now, wall) = (host.moment().mono_ns, host.moment().wall_ns);
        let mut seed = [0; 32];
        host.random(&mut seed)?;
        self.bind(host)?;
        let kept = if self.may(capability::KV) { host.kept(PEERS)? } else { None };
        let memory = kept.map_or_else(Memory::default, |bytes| Memory::read(&bytes));
        // Later than every life before, also when that was a process that left nothing behind.
        self.life = self.life.saturating_add(1).max(wall / MS);
        let known = (core::mem::take(&mut self.inherited), memory);
        let swim = Swim::new(&self.settings, self.life, known, seed, now);
        let patience = (self.settings.interval * ALONE_AFTER).as_nanos() as u64;
        let patience = if swim.has_nobody_to_ask() { 0 } else { patience };
        self.answer = (Some(now.saturating_add(patience)), now);
        self.armed = 0;
        self.swim = Some(swim);
        let Settings { bind, me, seeds, .. } = &self.settings;
        let text = format!("at {bind}, for others at {}, with {} seeds", me.gossip, seeds.len());
        host.log(Level::Info, &text);
        self.settle(host)
    }

    fn stop(&mut self, host: &Host) -> Result<(), Error> {
        let now = host.moment().mono_ns;
        let Some(swim) = &mut self.swim else { return Ok(()) };
        (self.inherited, self.life) = (swim.members(), swim.me().life);
        // Whoever takes over takes its place, and nobody needs to think that the node was gone.
        let is_replaced = self.asked.take().is_some_and(|at| now.saturating_sub(at) < HAND_OVER);
        if !is_replaced {
            swim.leave(now);
            self.send(host);
        }
        (self.swim, self.socket) = (None, None);
        self.bind = (None, BIND_AGAIN.0);
        Ok(())
    }

    fn timer(&mut self, host: &Host, _: u64) -> Result<(), Error> {
        self.armed = 0;
        if let Some(swim) = &mut self.swim {
            swim.tick(host.moment().mono_ns);
        }
        self.settle(host)
    }

    fn datagram(&mut self, host: &Host, _: Token, datagram: &Datagram<'_>) -> Result<(), Error> {
        self.bind.1 = BIND_AGAIN.0;
        let Some(swim) = &mut self.swim else { return Ok(()) };
        let received = swim.receive(datagram.data, host.moment().mono_ns);
        if received == Received::Foreign && self.may(capability::METRIC) {
            host.count("gossip_foreign", 1);
        }
        self.settle(host)
    }

    fn socket_gone(&mut self, host: &Host, token: Token) -> Result<(), Error> {
        if self.socket == Some(token) {
            // Whoever has the port may be the version before, on its way out.
            self.socket = None;
            let (pause, longest) = (self.bind.1, BIND_AGAIN.1);
            self.bind = (Some(host.moment().mono_ns + pause), (pause * 2).min(longest));
        }
        self.settle(host)
    }

    fn resync(&mut self, host: &Host) -> Result<(), Error> {
        self.tell(host)?;
        self.settle(host)
    }

    fn export_state(&mut self, host: &Host) -> Result<Vec<u8>, Error> {
        self.asked = Some(host.moment().mono_ns);
        let state = match &self.swim {
            Some(swim) => (swim.me().life, swim.members()),
            None => (self.life, self.inherited.clone()),
        };
        let failed = |error: postcard::Error| Error::new(Status::Internal, error.to_string());
        postcard::to_allocvec(&state).map_err(failed)
    }

    fn import_state(&mut self, _: &Host, _: u32, state: &[u8]) -> Result<(), Error> {
        let (life, members) = postcard::from_bytes(state)
            .map_err(|error| Error::invalid(format!("the state before: {error}")))?;
        self.life = life;
        self.inherited = swim::inherited(members);
        Ok(())
    }

    fn health(&mut self, _: &Host) -> Result<(), Error> {
        if self.swim.is_some() && self.socket.is_none() {
            let text = format!("the socket {} is not bound", self.settings.bind);
            return Err(Error::new(Status::Io, text));
        }
        Ok(())
    }
}

zepto_sdk::export!(Gossip);
