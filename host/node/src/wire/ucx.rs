//! Lanes over UCX: their ends tell each other over RPC where their memory is. There is no door, so
//! producers that are no nodes come over RPC.

use super::{Meetings, Way, Wire, command};
use crate::config::Config;
use crate::shards::ShardPort;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use zepto_client::message::{LaneOffer, LaneRequest, Request, Response};
use zepto_client::producer::{Link, Opened};
use zepto_client::real::random_128;
use zepto_client::{ClientError, ask};
use zepto_core::Refusal;
use zepto_core::view::Destination;
use zepto_transport::mailbox::LaneSpec;
use zepto_transport::ucx::{UcxTicket, report};
use zepto_transport::{Receiver, Sender, Ucx};

/// Time for one lane to open.
const OPEN_WITHIN: Duration = Duration::from_secs(5);

impl Wire for Ucx {
    const NAME: &'static str = "ucx";
    // Its workers listen wherever its devices lead, and know no secret.
    const IS_GUARDED: bool = false;
    type Door = ();

    fn open(config: &Config) -> Result<Self, String> {
        Self::open(&config.ucx_library).map_err(|error| error.to_string())
    }

    fn open_door(_: &str) -> Result<Option<()>, String> {
        Ok(None)
    }

    async fn open_lane(
        &self,
        way: &Way,
        address: String,
        lane: LaneRequest,
    ) -> Result<Opened<Self>, ClientError> {
        let failed = |error: &dyn core::fmt::Display| ClientError::Unknown(error.to_string());
        let spec = LaneSpec { nonce: random_128(), slots: lane.slots };
        let (offer, ticket) = Sender::offer(self, spec).map_err(|error| failed(&error))?;
        let to = Destination { node: lane.node, shard: lane.shard };
        let incarnation = lane.incarnation;
        let share = LaneOffer { lane, nonce: spec.nonce, ticket: ticket.0 };
        let asked = ask(&way.peers, &address, &Request::Share(share), OPEN_WITHIN).await?;
        let Response::Share { ticket } = asked else {
            return Err(ClientError::Protocol("another answer than to a lane's offer".into()));
        };
        let sender = offer.complete(self, UcxTicket(ticket)).map_err(|error| failed(&error))?;
        // Who sleeps over there looks again by itself after a while: nothing here can wake it.
        Ok(Opened { to, incarnation, link: Link::peer(sender, None, None) })
    }

    fn serve_door((): (), _: &Meetings<Self>, _: &AtomicBool) {}

    fn share(port: &ShardPort<Self>, offer: LaneOffer) -> Result<Vec<u8>, (Refusal, String)> {
        let spec = LaneSpec { nonce: offer.nonce, slots: offer.lane.slots };
        let accepted = Receiver::accept(port.transport(), UcxTicket(offer.ticket), spec);
        let (receiver, ticket) =
            accepted.map_err(|error| (Refusal::NotReady, error.to_string()))?;
        // The transport knows when its sender is gone, or the log does.
        if !port.send(command(offer.lane.purpose, receiver, Arc::default())) {
            return Err((Refusal::Overloaded, "too many lanes are being opened".into()));
        }
        Ok(ticket.0)
    }

    fn report(ends: &[Self]) -> Vec<String> {
        let Some(ucx) = report() else { return Vec::new() };
        let mut lanes: BTreeMap<String, usize> = BTreeMap::new();
        for lane in ends.iter().flat_map(Self::lanes) {
            *lanes.entry(lane).or_default() += 1;
        }
        let lanes: Vec<String> =
            lanes.into_iter().map(|(name, count)| format!("{name} {count}")).collect();
        let hooks =
            if ucx.is_hooked { "mmap and its like (UCX_MEM_EVENTS=n: none)" } else { "none" };
        let or_none = |list: Vec<String>| {
            if list.is_empty() { "none".to_owned() } else { list.join(", ") }
        };
        vec![
            format!("UCX {}", ucx.version),
            format!("endpoints by transport: {}", or_none(lanes)),
            format!("hooks: {hooks}"),
            format!("environment: {}", or_none(ucx.variables)),
        ]
    }
}
