//! What a transport adds to be a node's: how two nodes come to share lanes.
//!
//! Over shared memory they meet at a door, as producers do whatever the transport (see [`door`]).
//! Over UCX the two ends tell each other over RPC where their memory is.

pub mod door;
mod shm;
mod ucx;

use crate::agent::shard::SourceTerms;
use crate::config::Config;
use crate::shards::{NodeCommand, ShardPort};
use std::net::IpAddr;
use zepto_client::ClientError;
use zepto_client::message::{LaneOffer, LanePurpose, LaneRequest};
use zepto_client::producer::Opened;
use zepto_core::topology::{Member, MemberState, Placement};
use zepto_core::{NodeId, Refusal};
use zepto_rpc::Peers;
use zepto_transport::{Receiver, Shm, Transport};

/// Makes a command of a replica's lane that was met at a door.
pub type Met<T> = fn(Receiver<Shm>, SourceTerms) -> NodeCommand<T>;

/// A transport that a node can be made of. Each shard has one end of it; clones share it.
pub trait Wire:
    Transport<Region: Send + 'static, Remote: Send + 'static> + Clone + Send + Sync + 'static
{
    /// Its name in the configuration.
    const NAME: &'static str;

    /// Whether nobody comes by it who has not proved to belong here.
    const IS_GUARDED: bool;

    /// What becomes of a replica's lane that was met at the node's door; nothing where none is.
    const MET: Option<Met<Self>>;

    /// One end of it, for a node that listens at this address.
    ///
    /// # Errors
    /// Why there is none, in words for who runs the node.
    fn open(config: &Config, address: IpAddr) -> Result<Self, String>;

    /// Opens a lane from here to a shard of another node, which may end up on this machine or
    /// another.
    fn open_lane(
        &self,
        way: &Way,
        address: String,
        request: LaneRequest,
    ) -> impl Future<Output = Result<Opened<Self>, ClientError>> + Send;

    /// Lets in a lane that was offered to the server; returns where its receiver is, or nothing
    /// where such lanes do not come: then it can be had over RPC.
    ///
    /// # Errors
    /// Why not.
    fn share(port: &ShardPort<Self>, offer: LaneOffer) -> Result<Vec<u8>, (Refusal, String)>;

    /// What is to be known of it, in lines for an operator.
    fn report(ends: &[Self]) -> Vec<String>;
}

/// The way to other nodes.
#[derive(Clone)]
pub struct Way {
    /// Connections.
    pub peers: Peers,
    /// Who can share memory with this process.
    pub host: Vec<u8>,
}

/// Whether a lane that is asked for can lead here.
///
/// # Errors
/// Why not.
pub fn check_lane(
    request: &LaneRequest,
    node: NodeId,
    incarnation: zepto_core::Incarnation,
    shards: usize,
) -> Result<(), (Refusal, String)> {
    if request.node != node || request.incarnation != incarnation {
        let text = format!(
            "this is node {node} incarnation {incarnation}, the lane is for node {} \
             incarnation {}",
            request.node, request.incarnation
        );
        return Err((Refusal::NotOwner, text));
    }
    if usize::from(request.shard) >= shards {
        return Err((Refusal::LimitReached, format!("there are {shards} shards here")));
    }
    Ok(())
}

/// Whether the owner whose lane this would be is known here. A transport believes what an offer
/// says of where its memory is.
///
/// # Errors
/// Why not; a newcomer may try again.
pub fn check_owner(request: &LaneRequest, placement: &Placement) -> Result<(), (Refusal, String)> {
    let LanePurpose::Replica { owner, incarnation } = request.purpose else { return Ok(()) };
    let lives = |m: &&Member| m.incarnation == incarnation && m.state != MemberState::Dead;
    match placement.member(owner).filter(lives) {
        Some(_) => Ok(()),
        None => {
            let text =
                format!("no node {owner} of incarnation {incarnation} lives, as far as known");
            Err((Refusal::NotReady, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zepto_core::Incarnation;
    use zepto_core::topology::{Command, Topology};

    #[test]
    fn only_living_members_offer_lanes_to_replicas() {
        let mut topology = Topology::empty();
        topology.apply(1, 0, &Command::Bootstrap { cluster: 1, bits: 1, copies: 1 });
        let (incarnation, zone) = (Incarnation(5), String::new());
        let (name, address) = ("a".to_owned(), "h:1".to_owned());
        let join = Command::Join { name, incarnation, address, shards: 1, weight: 1, zone };
        topology.apply(2, 0, &join);
        let is_let_in = |topology: &Topology, owner, life| {
            let (owner, incarnation) = (NodeId(owner), Incarnation(life));
            let purpose = LanePurpose::Replica { owner, incarnation };
            let request =
                LaneRequest { node: NodeId(9), incarnation, shard: 0, slots: 64, purpose };
            check_owner(&request, &topology.placement).is_ok()
        };
        assert!(is_let_in(&topology, 1, 5));
        assert!(!is_let_in(&topology, 1, 4), "an earlier life");
        assert!(!is_let_in(&topology, 2, 5), "a stranger");
        topology.apply(3, 0, &Command::Bury { node: NodeId(1), incarnation });
        assert!(!is_let_in(&topology, 1, 5), "dead");
    }
}
