//! `zepto-host drain, member, pin, unpin, weight, zone, recover`: what an operator does.
//!
//! Any node takes an operation and brings it to the control log. An operation is done when the log
//! has it; what follows from it, such as partitions that move, goes on in the cluster by itself.

mod drain;
mod member;
mod recover;

use core::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use zepto_client::message::{Operation, PluginRequest, Request, Response, Status};
use zepto_client::{ClientError, ask_once, unexpected};
use zepto_core::Refusal;
use zepto_core::limits::WEIGHT_MAX;

use crate::argument::TableArgs;
use crate::failure::Failure;
use crate::format;
use crate::secret::SecretArgs;

pub use drain::{DrainArgs, drain};
pub use member::{MemberArgs, MemberCommand, RemoveArgs, member};
pub use recover::{RecoverArgs, recover};

/// Time for the cluster to decide.
const DECIDE_WITHIN: Duration = Duration::from_secs(15);
/// Time for a node to say how it is.
const STATUS_WITHIN: Duration = Duration::from_secs(5);

/// Whom to ask, and how to tell the answer.
#[derive(Args, Clone, Debug)]
pub struct ClusterArgs {
    /// Address of a node, host:port; may be repeated, one that answers is enough
    #[arg(long, value_name = "ADDR", required = true)]
    pub at: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// What this command proves to the nodes
    #[command(flatten)]
    pub secret: SecretArgs,
}

impl ClusterArgs {
    /// Asks one node after the other until one of them can be reached. What a reached one says,
    /// stands.
    async fn ask(&self, request: &Request, within: Duration) -> Result<Response, Asked> {
        let secret = self.secret.read().map_err(Asked::Failure)?;
        let mut last = ClientError::Unreachable("there is no address to ask".into());
        for address in &self.at {
            match ask_once(address, secret, request, within).await {
                Ok(response) => return Ok(response),
                Err(
                    error @ (ClientError::Unreachable(_)
                    | ClientError::Refused { reason: Refusal::Draining, .. }),
                ) => last = error,
                Err(error) => return Err(Asked::Client(error)),
            }
        }
        Err(Asked::Client(last))
    }

    pub(crate) fn doing(&self, what: &str) -> String {
        format!("{what} at {}", self.at.join(", "))
    }

    /// The status of a node.
    pub(crate) async fn status(&self, what: &str) -> Result<Box<Status>, Failure> {
        match self.ask(&Request::Status, STATUS_WITHIN).await {
            Ok(Response::Status(status)) => Ok(status),
            Ok(other) => Err(Failure::of_client(&self.doing(what), &unexpected(&other))),
            Err(asked) => Err(asked.failure(&self.doing(what))),
        }
    }

    /// Has an operation done; the index of its entry in the log.
    async fn operate(&self, what: &str, operation: Operation) -> Result<u64, Failure> {
        match self.ask(&Request::Operate(operation), DECIDE_WITHIN).await {
            Ok(Response::Operated { index }) => Ok(index),
            Ok(other) => Err(Failure::of_client(&self.doing(what), &unexpected(&other))),
            Err(asked) => Err(asked.failure(&self.doing(what))),
        }
    }

    /// Has something done about the plugins of the node; what it says.
    pub(crate) async fn about_plugins(
        &self,
        what: &str,
        request: PluginRequest,
    ) -> Result<String, Failure> {
        match self.ask(&Request::Plugin(request), DECIDE_WITHIN).await {
            Ok(Response::Plugin(text)) => Ok(text),
            Ok(other) => Err(Failure::of_client(&self.doing(what), &unexpected(&other))),
            Err(asked) => Err(asked.failure(&self.doing(what))),
        }
    }

    /// Says what was done: a sentence, or the object with the entry's index.
    fn tell(&self, index: u64, object: Value, sentence: &str) -> Result<(), Failure> {
        if !self.json {
            return format::print(&format!("{sentence}\n"));
        }
        let mut object = object;
        object["index"] = json!(index);
        format::print(&format!("{object}\n"))
    }
}

/// Why there is no answer.
enum Asked {
    Failure(Failure),
    Client(ClientError),
}

impl Asked {
    /// The failure, with what to do where the node's own words do not say it.
    fn failure(self, doing: &str) -> Failure {
        let error = match self {
            Self::Failure(failure) => return failure,
            Self::Client(error) => error,
        };
        let hint = match &error {
            ClientError::Refused { reason: Refusal::NoLeader, .. } => {
                "nothing can be decided without a majority of the voters; `zepto-host status` \
                 shows who is missing"
            }
            ClientError::Refused { reason: Refusal::UnknownSymbol, .. } => {
                "`zepto-host query summary` shows those there are"
            }
            ClientError::Unknown(_) => {
                "it may or may not have been done; `zepto-host status` shows what is"
            }
            _ => return Failure::of_client(doing, &error),
        };
        Failure::Failed(format!("{doing}: {error}; {hint}"))
    }
}

/// Keep a symbol's partition at a node
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  zepto-host pin spot:BTCUSDT c --at localhost:9000
  zepto-host pin spot:BTCUSDT c --table 3 --at localhost:9000 --json

The partition moves there with everything else that is in it, while it is written to and asked.
Should the node end, another one takes it until the node is back.")]
pub struct PinArgs {
    /// Name of the symbol
    pub symbol: String,
    /// Name of the node
    pub node: String,
    /// Where the symbol is
    #[command(flatten)]
    pub table: TableArgs,
    /// The cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Pins a symbol's partition.
///
/// # Errors
/// When it is refused, or no node answers.
pub async fn pin(args: PinArgs) -> Result<(), Failure> {
    let PinArgs { symbol, node, table: TableArgs { table }, cluster } = args;
    let pin = Operation::Pin { table, symbol: symbol.clone(), node: node.clone() };
    let index = cluster.operate("pin", pin).await?;
    let sentence = format!(
        "the partition of {symbol} in table {table} is pinned to {node} and moves there; \
         `zepto-host unpin` undoes it"
    );
    cluster.tell(index, json!({"symbol": symbol, "table": table, "node": node}), &sentence)
}

/// Let a symbol's partition be anywhere again
#[derive(Args, Clone, Debug)]
#[command(after_help = "Example:\n  zepto-host unpin spot:BTCUSDT --at localhost:9000")]
pub struct UnpinArgs {
    /// Name of the symbol
    pub symbol: String,
    /// Where the symbol is
    #[command(flatten)]
    pub table: TableArgs,
    /// The cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Takes a pin away.
///
/// # Errors
/// When it is refused, or no node answers.
pub async fn unpin(args: UnpinArgs) -> Result<(), Failure> {
    let UnpinArgs { symbol, table: TableArgs { table }, cluster } = args;
    let unpin = Operation::Unpin { table, symbol: symbol.clone() };
    let index = cluster.operate("unpin", unpin).await?;
    let sentence = format!("the partition of {symbol} in table {table} may be anywhere again");
    cluster.tell(index, json!({"symbol": symbol, "table": table}), &sentence)
}

/// Change a node's share of the partitions
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  zepto-host weight c 200 --at localhost:9000     twice the ordinary share
  zepto-host weight c 0 --at localhost:9000       nothing, but it stays a member

Partitions move until the shares are right. A node that starts again brings the weight of its own
configuration, so change that, too.")]
pub struct WeightArgs {
    /// Name of the node
    pub node: String,
    /// The weight: 100 is ordinary, 0 holds nothing
    #[arg(value_parser = clap::value_parser!(u16).range(..=i64::from(WEIGHT_MAX)))]
    pub weight: u16,
    /// The cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Changes a weight.
///
/// # Errors
/// When it is refused, or no node answers.
pub async fn weight(args: WeightArgs) -> Result<(), Failure> {
    let WeightArgs { node, weight, cluster } = args;
    let change = Operation::Weight { node: node.clone(), weight };
    let index = cluster.operate("weight", change).await?;
    let sentence =
        format!("{node} has weight {weight}; partitions move until the shares are right");
    cluster.tell(index, json!({"node": node, "weight": weight}), &sentence)
}

/// Change a node's failure zone
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  zepto-host zone c rack-2 --at localhost:9000
  zepto-host zone c '' --at localhost:9000        none

Copies made from now on go to different zones where there are enough; those there are stay where
they are. A node that starts again brings the zone of its own configuration, so change that, too.")]
pub struct ZoneArgs {
    /// Name of the node
    pub node: String,
    /// The zone; empty for none
    pub zone: String,
    /// The cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Changes a zone.
///
/// # Errors
/// When it is refused, or no node answers.
pub async fn zone(args: ZoneArgs) -> Result<(), Failure> {
    let ZoneArgs { node, zone, cluster } = args;
    let change = Operation::Zone { node: node.clone(), zone: zone.clone() };
    let index = cluster.operate("zone", change).await?;
    let sentence = match zone.as_str() {
        "" => format!("{node} is in no zone"),
        _ => format!("{node} is in zone {zone}"),
    };
    cluster.tell(index, json!({"node": node, "zone": zone}), &sentence)
}
