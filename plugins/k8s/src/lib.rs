//! The nodes are the pods behind a Kubernetes Service: listed, and then watched.
//!
//! Configured by `{"api": "https://10.96.0.1:443", "namespace": "trading", "service": "zepto"}`;
//! README.md has all of it. What is asked when, and what is told, is decided by [`machine`], which
//! knows no host; this file carries out what it wants. The token is the host's to add: the plugin
//! never sees it.
#![deny(unsafe_code)]

mod api;
mod backoff;
mod config;
mod lines;
mod machine;
mod member;
mod objects;
mod page;
mod port;
mod set;
mod url;

use config::Config;
use machine::{Action, Get, Machine, PAGE_BYTES_MAX, Part, Timer};
use std::collections::VecDeque;
use zepto_sdk::{
    About, Error, Host, Open, Plugin, Request, Response, Status, Token, abi, capability,
};

const NS_PER_MS: u64 = 1_000_000;

/// The plugin: the machine, and what it has at the host.
#[derive(Debug)]
pub struct K8s {
    machine: Machine,
    /// What the machine is made with.
    made: Made,
    /// Whether requests carry the token.
    has_token: bool,
    /// The request that is under way.
    asked: Option<Token>,
    revision: u64,
}

/// What is known of the node from the beginning.
#[derive(Debug)]
struct Made {
    node: String,
    memory_bytes: u64,
    nodes_max: u32,
}

impl Made {
    fn machine(&self, config: Config) -> Machine {
        Machine::new(config, &self.node, self.memory_bytes, self.nodes_max)
    }
}

fn now_ms(host: &Host) -> u64 {
    host.moment().mono_ns / NS_PER_MS
}

impl K8s {
    /// Does what the machine wants. What fails is told once all is done.
    fn carry_out(&mut self, host: &Host, actions: Vec<Action>) -> Result<(), Error> {
        let (mut actions, mut result) = (VecDeque::from(actions), Ok(()));
        while let Some(action) = actions.pop_front() {
            let done = match action {
                Action::Get(get) => {
                    self.cancel(host);
                    let asked = self.get(host, &get);
                    if let Err(error) = &asked {
                        actions.extend(self.machine.not_asked(&error.text));
                    }
                    asked
                }
                Action::Cancel => {
                    self.cancel(host);
                    Ok(())
                }
                Action::Emit => self.tell(host),
                Action::Set(timer, ms) => host.set_timer(timer.id(), ms * NS_PER_MS, 0),
                Action::Clear(timer) => {
                    host.clear_timer(timer.id());
                    Ok(())
                }
                Action::Log(level, text) => {
                    host.log(level, &text);
                    Ok(())
                }
            };
            result = result.and(done);
        }
        result
    }

    fn get(&mut self, host: &Host, get: &Get) -> Result<(), Error> {
        let mut headers = vec![("accept", "application/json"), ("user-agent", USER_AGENT)];
        if self.has_token {
            headers.push(("authorization", "Bearer ${secret:token}"));
        }
        let request = Request {
            method: "GET",
            url: &get.url,
            headers,
            timeout_ms: get.timeout_ms,
            max_body: PAGE_BYTES_MAX,
            is_stream: get.is_stream,
            ..Request::default()
        };
        self.asked = Some(host.http(&request)?);
        Ok(())
    }

    fn cancel(&mut self, host: &Host) {
        if let Some(token) = self.asked.take() {
            host.cancel(token);
        }
    }

    fn tell(&mut self, host: &Host) -> Result<(), Error> {
        self.revision += 1;
        let told = host.emit_all(self.revision, &self.machine.nodes());
        if told.is_err() {
            self.machine.not_told();
        }
        told
    }
}

const USER_AGENT: &str = concat!("zepto-k8s/", env!("CARGO_PKG_VERSION"));

impl Plugin for K8s {
    const ABOUT: About =
        About::discovery("k8s", env!("CARGO_PKG_VERSION"), "zepto").needs(capability::HTTP);

    fn open(_: &Host, open: &Open<'_>) -> Result<Self, Error> {
        let config = Config::parse(open.config).map_err(Error::invalid)?;
        let made = Made {
            node: open.node_id.to_owned(),
            memory_bytes: open.mem_limit_bytes,
            nodes_max: open.max_nodes,
        };
        let has_token = config.token;
        Ok(Self { machine: made.machine(config), made, has_token, asked: None, revision: 0 })
    }

    fn start(&mut self, host: &Host) -> Result<(), Error> {
        let actions = self.machine.start(now_ms(host));
        self.carry_out(host, actions)
    }

    fn stop(&mut self, _: &Host) -> Result<(), Error> {
        self.machine.stop();
        self.asked = None;
        Ok(())
    }

    fn timer(&mut self, host: &Host, id: u64) -> Result<(), Error> {
        let Some(timer) = Timer::ALL.into_iter().find(|timer| timer.id() == id) else {
            return Err(Error::unsupported());
        };
        let actions = self.machine.timer(now_ms(host), timer);
        self.carry_out(host, actions)
    }

    fn http(
        &mut self,
        host: &Host,
        token: Token,
        status: Status,
        response: &Response<'_>,
    ) -> Result<(), Error> {
        if self.asked != Some(token) {
            return Ok(());
        }
        if response.is_last() {
            self.asked = None;
        }
        let failed = (status != Status::Ok)
            .then(|| format!("{status}: {}", String::from_utf8_lossy(response.body)));
        let retry = response.headers.iter().find(|(name, _)| *name == "retry-after");
        let part = Part {
            failed: failed.as_deref(),
            code: response.code,
            is_last: response.is_last(),
            is_truncated: response.flags & abi::HTTP_TRUNCATED != 0,
            retry_after_s: retry.and_then(|(_, value)| value.parse().ok()),
            body: response.body,
        };
        let actions = self.machine.part(now_ms(host), &part);
        self.carry_out(host, actions)
    }

    fn resync(&mut self, host: &Host) -> Result<(), Error> {
        let actions = self.machine.resync(now_ms(host));
        self.carry_out(host, actions)
    }

    fn config(&mut self, host: &Host, json: &str) -> Result<(), Error> {
        let config = Config::parse(json).map_err(Error::invalid)?;
        let was_started = self.machine.is_started();
        self.cancel(host);
        for timer in Timer::ALL {
            host.clear_timer(timer.id());
        }
        self.has_token = config.token;
        self.machine = self.made.machine(config);
        if was_started { self.start(host) } else { Ok(()) }
    }
}

zepto_sdk::export!(K8s);
