//! The way of consensus to its peers, over RPC connections of its own: whatever else goes between
//! two nodes does not hold it up.

use core::time::Duration;
use std::sync::Arc;
use zepto_client::message::{Request, Response};
use zepto_client::{ClientError, ask, unexpected};
use zepto_control::raft::{LinkFailure, Peer, PeerLink, Raft};
use zepto_rpc::Peers;

/// The log, as every part of the node has it.
pub type Log = Arc<Raft<Link>>;

/// The link. Shared by all tasks.
pub struct Link {
    peers: Peers,
}

impl Link {
    /// Over a pool of connections that nothing else uses.
    pub fn new(peers: Peers) -> Self {
        Self { peers }
    }
}

impl PeerLink for Link {
    async fn call(
        &self,
        to: &Peer,
        request: Vec<u8>,
        deadline: Duration,
    ) -> Result<Vec<u8>, LinkFailure> {
        match ask(&self.peers, &to.address, &Request::Consensus(request), deadline).await {
            Ok(Response::Consensus(answer)) => Ok(answer),
            Ok(other) => Err(LinkFailure::Unknown(unexpected(&other).to_string())),
            Err(ClientError::Unreachable(text)) => Err(LinkFailure::Unreachable(text)),
            Err(error) => Err(LinkFailure::Unknown(error.to_string())),
        }
    }
}

/// Where somebody thinks that the log is led.
pub async fn leader_known_by(peers: &Peers, address: &str, within: Duration) -> Option<String> {
    match ask(peers, address, &Request::Leader, within).await {
        Ok(Response::Leader { address }) => address,
        _ => None,
    }
}
