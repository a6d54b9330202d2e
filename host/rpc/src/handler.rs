//! What a server is for: the trait that answers, and what it is told about its peers.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;
use zepto_abi::Refusal;

use crate::hello::{Hello, HelloRefusal, Welcome};
use crate::lane::LaneSink;
use crate::secure::Authentication;

/// The peer of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Counts the connections of this server; never used twice.
    pub connection: u64,
    /// Where it connected from. No identity: that is in the HELLO.
    pub address: SocketAddr,
    /// What it said about itself, within the session that it opened.
    pub hello: Hello,
    /// What it proved about itself.
    pub authentication: Authentication,
}

/// How a request ended when there is no answer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It was certainly not executed.
    Refused(Refusal, String),
    /// It may have been executed.
    Unknown(String),
}

impl From<(Refusal, String)> for Failure {
    fn from((reason, text): (Refusal, String)) -> Failure {
        Failure::Refused(reason, text)
    }
}

/// Answers the peers of a server. Called from many tasks at once.
pub trait Handler: Send + Sync + 'static {
    /// Where the slots of a peer's lanes go.
    type Sink: LaneSink;

    /// Says who we are to a peer that speaks our protocol, or why it must not come in. Must not
    /// block. [`crate::hello::admit`] has the checks that every node makes.
    fn hello(&self, hello: &Hello, from: SocketAddr) -> Result<Welcome, (HelloRefusal, String)>;

    /// Executes a request. The future is dropped when the deadline passes, the peer goes away or
    /// the server stops; the peer then hears that the outcome is unknown.
    fn call(
        &self,
        peer: Arc<PeerInfo>,
        request: Vec<u8>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Vec<u8>, Failure>> + Send;

    /// Opens a lane from the peer.
    fn open_lane(
        &self,
        peer: Arc<PeerInfo>,
        open: Vec<u8>,
    ) -> impl Future<Output = Result<Self::Sink, (Refusal, String)>> + Send;

    /// The connection of a peer that was let in is over. Must not block.
    fn closed(&self, _peer: &PeerInfo) {}
}
