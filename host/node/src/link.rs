//! The way to the node that keeps the log, over RPC.

use core::time::Duration;
use std::sync::{Mutex, PoisonError};
use zepto_client::message::{Request, Response};
use zepto_client::{ClientError, ask, unexpected};
use zepto_control::entry::Entry;
use zepto_control::follower::{LeaderLink, LinkError};
use zepto_control::{BarrierError, Outcome, Position, Reason};
use zepto_rpc::Peers;

/// Time beyond the leader's own wait until a poll counts as lost.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Time to ask somebody where the leader is.
const LEADER_WITHIN: Duration = Duration::from_secs(1);

/// The link. Shared by all tasks.
pub struct Link {
    peers: Peers,
    leader: Mutex<String>,
    /// Who may know where the leader is when it does not answer.
    others: Box<dyn Fn() -> Vec<String> + Send + Sync>,
}

impl Link {
    /// A link to the leader at an address; `others` are asked when it does not answer.
    pub fn new(
        peers: Peers,
        leader: String,
        others: impl Fn() -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        Self { peers, leader: Mutex::new(leader), others: Box::new(others) }
    }

    /// Where the leader was last.
    pub fn leader(&self) -> String {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn ask(&self, request: &Request, deadline: Duration) -> Result<Response, ClientError> {
        let leader = self.leader();
        match ask(&self.peers, &leader, request, deadline).await {
            Ok(Response::Leader { address: Some(address) }) if address != leader => {
                self.follow_to(address.clone());
                ask(&self.peers, &address, request, deadline).await
            }
            Ok(Response::Leader { .. }) => {
                Err(ClientError::Unreachable(format!("{leader} does not keep the log")))
            }
            Err(ClientError::Unreachable(text)) => {
                self.look_around().await;
                Err(ClientError::Unreachable(text))
            }
            done => done,
        }
    }

    /// Asks the others where the leader is, for the next try.
    async fn look_around(&self) {
        for address in (self.others)() {
            if let Some(leader) = leader_known_by(&self.peers, &address, LEADER_WITHIN).await {
                self.follow_to(leader);
                return;
            }
        }
    }

    fn follow_to(&self, address: String) {
        *self.leader.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }
}

/// Where somebody thinks the log is kept.
pub async fn leader_known_by(peers: &Peers, address: &str, within: Duration) -> Option<String> {
    match ask(peers, address, &Request::Leader, within).await {
        Ok(Response::Leader { address }) => address,
        _ => None,
    }
}

impl LeaderLink for Link {
    async fn follow(&self, after: Position, wait: Duration) -> Result<Vec<Entry>, LinkError> {
        let request = Request::Follow { after, wait_ms: wait.as_millis() as u32 };
        match self.ask(&request, wait + ANSWER_WITHIN).await {
            Ok(Response::Entries(Ok(entries))) => Ok(entries),
            Ok(Response::Entries(Err(diverged))) => Err(LinkError::Diverged(diverged)),
            Ok(other) => Err(LinkError::Unavailable(unexpected(&other).to_string())),
            Err(error) => Err(LinkError::Unavailable(error.to_string())),
        }
    }

    async fn propose(&self, entry: Vec<u8>, deadline: Duration) -> Outcome {
        match self.ask(&Request::Propose { entry }, deadline).await {
            Ok(Response::Proposed(outcome)) => outcome,
            Ok(other) => Outcome::Unknown(unexpected(&other).to_string()),
            Err(ClientError::Unreachable(text)) => {
                Outcome::Refused { index: None, why: Reason::NoLeader(text) }
            }
            Err(error) => Outcome::Unknown(error.to_string()),
        }
    }

    async fn barrier(&self, deadline: Duration) -> Result<u64, BarrierError> {
        match self.ask(&Request::Barrier, deadline).await {
            Ok(Response::Barrier(barrier)) => barrier,
            Ok(other) => Err(BarrierError::NoLeader(unexpected(&other).to_string())),
            Err(ClientError::Unreachable(text)) => Err(BarrierError::NoLeader(text)),
            Err(error) => Err(BarrierError::Deadline(error.to_string())),
        }
    }
}
