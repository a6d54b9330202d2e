//! A node that runs, over the transport that its configuration names.

use ::zepto_node::config::Config;
use ::zepto_node::wire::Wire;
use ::zepto_node::{Round, Running, StartError, StopReport, start};
use tokio::sync::watch::Receiver;
use zepto_transport::{Shm, Ucx};

pub(crate) enum AnyNode {
    Shm(Running<Shm>),
    Ucx(Running<Ucx>),
}

macro_rules! either {
    ($node:expr, $running:ident => $body:expr) => {
        match $node {
            AnyNode::Shm($running) => $body,
            AnyNode::Ucx($running) => $body,
        }
    };
}

/// As the functions of [`Running`] of the same names.
impl AnyNode {
    pub async fn start(config: Config) -> Result<Self, StartError> {
        if config.transport == Ucx::NAME {
            start(config).await.map(Self::Ucx)
        } else {
            start(config).await.map(Self::Shm)
        }
    }

    pub fn advertised(&self) -> &str {
        either!(self, running => running.advertised())
    }

    pub fn failure(&self) -> Receiver<Option<String>> {
        either!(self, running => running.failure())
    }

    pub fn take_rounds(&self) -> Vec<Round> {
        either!(self, running => running.take_rounds())
    }

    pub async fn stop(self) -> StopReport {
        either!(self, running => running.stop().await)
    }
}
