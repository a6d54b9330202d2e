//! One question to one member: over a pool, over a connection of its own, or with an eye on
//! whether the member is still there.

use crate::error::ClientError;
use crate::message::{self, Leg, Request, Response};
use crate::real::random;
use core::time::Duration;
use zepto_rpc::{CallError, ClusterSecret, Config, Hello, Identity, NotSent, Peers, Unknown};

/// Time between two looks at whether a member that has not answered yet is there at all.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Time for a member to say that it is there.
const ALIVE_WITHIN: Duration = Duration::from_millis(500);

/// Asks one member once, without following anything: for tools that ask one question.
///
/// # Errors
/// When it does not answer, or refuses.
pub async fn ask_once(
    address: &str,
    secret: Option<&ClusterSecret>,
    request: &Request,
    deadline: Duration,
) -> Result<Response, ClientError> {
    let hello = || Hello::new(Identity::client("zepto"));
    let peers = Peers::new(config(secret.cloned()), random(), hello);
    ask(&peers, address, request, deadline).await
}

pub(crate) fn config(secret: Option<ClusterSecret>) -> Config {
    Config { secret, ..Config::default() }
}

/// Sends a request over a pool and decodes the answer.
///
/// # Errors
/// How the call ended when it brought no answer.
pub async fn ask(
    peers: &Peers,
    address: &str,
    request: &Request,
    deadline: Duration,
) -> Result<Response, ClientError> {
    let answer = peers.call(address, message::encode(request), deadline).await?;
    Ok(message::decode(&answer)?)
}

/// As [`ask`], but gives up a member that stops answering altogether: a process that is stopped, or
/// a machine that is gone, keeps its connections open and takes whatever is sent to it. To be used
/// where there is somebody else to ask, and asking twice does no harm.
///
/// # Errors
/// As [`ask`].
pub(crate) async fn ask_living(
    peers: &Peers,
    address: &str,
    request: &Request,
    deadline: Duration,
) -> Result<Response, ClientError> {
    tokio::select! {
        biased;
        answer = ask(peers, address, request, deadline) => answer,
        error = silence(peers, address) => Err(error),
    }
}

/// Returns when a member does not even say that it is there.
async fn silence(peers: &Peers, address: &str) -> ClientError {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let asked = peers.call(address, message::encode(&Request::Ping), ALIVE_WITHIN).await;
        // Any other outcome is an answer, or this side was too busy to ask.
        if let Err(
            CallError::NotSent(
                NotSent::Deadline | NotSent::Unreachable { .. } | NotSent::Closed(_),
            )
            | CallError::Unknown(Unknown::Deadline | Unknown::ConnectionLost(_)),
        ) = asked
        {
            return ClientError::Unknown(format!("{address} is silent"));
        }
    }
}

/// The part of a leg's answer.
///
/// # Errors
/// As [`ask`].
pub async fn ask_leg(
    peers: &Peers,
    address: &str,
    leg: Leg,
    deadline: Duration,
) -> Result<message::Part, ClientError> {
    match ask(peers, address, &Request::Leg(leg), deadline).await? {
        Response::Part(part) => Ok(part),
        other => Err(unexpected(&other)),
    }
}

/// An answer to another question than the one that was asked.
pub fn unexpected(response: &Response) -> ClientError {
    let text = format!("{response:?}");
    ClientError::Protocol(text.chars().take(100).collect())
}
