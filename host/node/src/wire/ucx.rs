//! Lanes over UCX: their ends tell each other over RPC where their memory is. Producers come by the
//! door, or over RPC.

use super::{Met, Way, Wire};
use crate::agent::shard::{Command, SourceTerms};
use crate::config::Config;
use crate::shards::ShardPort;
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::time::Instant;
use zepto_client::message::{LaneOffer, LanePurpose, LaneRequest, Request, Response};
use zepto_client::producer::{Link, Opened};
use zepto_client::real::random_128;
use zepto_client::{ClientError, ask, open_rpc_lane};
use zepto_core::Refusal;
use zepto_core::limits::LANE_OPEN_TIMEOUT_MS;
use zepto_core::view::Destination;
use zepto_transport::mailbox::{LaneSpec, Offer};
use zepto_transport::ucx::{UcxOptions, UcxTicket, report};
use zepto_transport::{LaneError, Receiver, Sender, Ucx};

/// Time for one lane to open.
const OPEN_WITHIN: Duration = Duration::from_millis(LANE_OPEN_TIMEOUT_MS);
/// Time between two looks at whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// What is said where UCX has no way to a peer, or no room.
const OUT_OF_REACH: &str = "UCX cannot have a lane; it goes over RPC";
/// What Linux calls the way from a machine to itself.
const LOOPBACK_DEVICE: &str = "lo";

/// The lane of an offer, once its receiver has been heard of: UCX takes what is sent into the void,
/// too, and says so late or never.
async fn opened(ends: &Ucx, offer: Offer<Ucx>, ticket: UcxTicket) -> Result<Sender<Ucx>, String> {
    let ends = ends.clone();
    // UCX may take its time.
    let completed = tokio::task::spawn_blocking(move || offer.complete(&ends, ticket)).await;
    let completed = completed.map_err(|error| error.to_string())?;
    let mut sender = completed.map_err(|error| error.to_string())?;
    let until = Instant::now() + OPEN_WITHIN;
    loop {
        match sender.open() {
            Ok(_) if sender.is_left() => return Err("its way broke".into()),
            Ok(true) => return Ok(sender),
            Ok(false) if Instant::now() > until => return Err("it was not heard of".into()),
            Ok(false) => tokio::time::sleep(LOOK_EVERY).await,
            Err(error) => return Err(error.to_string()),
        }
    }
}

impl Wire for Ucx {
    const NAME: &'static str = "ucx";
    // Its workers listen wherever its devices lead, and know no secret.
    const IS_GUARDED: bool = false;
    const MET: Option<Met<Self>> = None;

    fn open(config: &Config, address: IpAddr) -> Result<Self, String> {
        // A node on loopback has UCX there, too, and nowhere else.
        let devices = address.is_loopback().then(|| LOOPBACK_DEVICE.to_owned());
        let options = UcxOptions { library: config.ucx_library.clone(), devices };
        Self::open(&options).map_err(|error| error.to_string())
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
        let share = LaneOffer { lane: lane.clone(), nonce: spec.nonce, ticket: ticket.0 };
        let asked = ask(&way.peers, &address, &Request::Share(share), OPEN_WITHIN).await;
        let opened = match asked {
            Ok(Response::Share { ticket }) if ticket.is_empty() => Err("it has none".to_owned()),
            Ok(Response::Share { ticket }) => opened(self, offer, UcxTicket(ticket)).await,
            Ok(_) => {
                return Err(ClientError::Protocol("another answer than to a lane's offer".into()));
            }
            Err(ClientError::Unknown(late)) => Err(late),
            Err(error) => return Err(error),
        };
        match opened {
            // Who sleeps over there looks again by itself after a while: nothing here can wake it.
            Ok(sender) => Ok(Opened { to, incarnation, link: Link::peer(sender, None, None) }),
            Err(why) => {
                tracing::warn!(address, why, "{OUT_OF_REACH}");
                open_rpc_lane(&way.peers, &address, lane).await
            }
        }
    }

    fn share(port: &ShardPort<Self>, offer: LaneOffer) -> Result<Vec<u8>, (Refusal, String)> {
        let LaneOffer { lane, nonce, ticket } = offer;
        let LanePurpose::Replica { owner: node, incarnation } = lane.purpose else {
            let text = "producers share memory at a node's door, or come over RPC";
            return Err((Refusal::NotReady, text.into()));
        };
        let spec = LaneSpec { nonce, slots: lane.slots };
        let accepted = Receiver::accept(port.transport(), UcxTicket(ticket), spec);
        let (receiver, ticket) = match accepted {
            Ok(accepted) => accepted,
            // What is no ticket here may be one of another version.
            Err(LaneError::Transport(error)) => {
                tracing::warn!(owner = %node, %error, "{OUT_OF_REACH}");
                return Ok(Vec::new());
            }
            Err(error) => return Err((Refusal::Malformed, error.to_string())),
        };
        // The transport knows when its sender is gone, or the log does; or it does not open.
        let terms = SourceTerms { node, incarnation, hung_up: Arc::default() };
        if !port.send(Command::Source(receiver, terms)) {
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
        let ways = ends.iter().map(Self::ways);
        let (mapped, carried) = ways.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        let hooks =
            if ucx.is_hooked { "mmap and its like (UCX_MEM_EVENTS=n: none)" } else { "none" };
        let or_none = |list: Vec<String>| {
            if list.is_empty() { "none".to_owned() } else { list.join(", ") }
        };
        vec![
            format!("UCX {}", ucx.version),
            format!("endpoints by transport: {}", or_none(lanes)),
            format!("ends of lanes: {mapped} by mapped memory, {carried} by message"),
            format!("network devices: {}", ucx.devices.as_deref().unwrap_or("all")),
            format!("hooks: {hooks}"),
            format!("environment: {}", or_none(ucx.variables)),
        ]
    }
}
