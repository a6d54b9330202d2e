//! Lanes over shared memory: two processes of one host meet at the node's door.

use super::{Way, Wire};
use crate::agent::shard::{Command, SourceTerms};
use crate::config::Config;
use crate::shards::{NodeCommand, ShardPort};
use std::net::IpAddr;
use zepto_client::ClientError;
use zepto_client::message::{LaneOffer, LaneRequest};
use zepto_client::producer::Opened;
use zepto_core::Refusal;
use zepto_transport::{Receiver, Shm};

impl Wire for Shm {
    const NAME: &'static str = "shm";
    // Processes of one user, by a nonce.
    const IS_GUARDED: bool = true;
    const MEETS_OWNERS: bool = true;

    fn open(_: &Config, _: IpAddr) -> Result<Self, String> {
        Ok(Self)
    }

    async fn open_lane(
        &self,
        way: &Way,
        address: String,
        request: LaneRequest,
    ) -> Result<Opened<Self>, ClientError> {
        zepto_client::open_lane(&way.peers, &way.host, &address, request).await
    }

    fn met(receiver: Receiver<Self>, terms: SourceTerms) -> Option<NodeCommand<Self>> {
        Some(Command::Source(receiver, terms))
    }

    fn share(_: &ShardPort<Self>, _: LaneOffer) -> Result<Vec<u8>, (Refusal, String)> {
        Ok(Vec::new())
    }

    fn report(_: &[Self]) -> Vec<String> {
        Vec::new()
    }
}
