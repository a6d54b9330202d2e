//! Lanes over shared memory: two processes of one host meet at the node's door.

use super::{Meetings, Way, Wire, command};
use crate::config::Config;
use crate::shards::ShardPort;
use core::time::Duration;
use std::sync::atomic::{AtomicBool, Ordering};
use zepto_client::ClientError;
use zepto_client::message::{LaneOffer, LaneRequest};
use zepto_client::producer::Opened;
use zepto_core::Refusal;
use zepto_transport::{Door, Knock, Shm};

/// How often the door looks whether the node stops.
const DOOR_TURN: Duration = Duration::from_millis(100);

impl Wire for Shm {
    const NAME: &'static str = "shm";
    // Processes of one user, by a nonce.
    const IS_GUARDED: bool = true;
    type Door = Door;

    fn open(_: &Config) -> Result<Self, String> {
        Ok(Self)
    }

    fn open_door(name: &str) -> Result<Option<Door>, String> {
        Door::bind(name).map(Some).map_err(|error| error.to_string())
    }

    async fn open_lane(
        &self,
        way: &Way,
        address: String,
        request: LaneRequest,
    ) -> Result<Opened<Self>, ClientError> {
        zepto_client::open_lane(&way.peers, &way.host, &address, request).await
    }

    fn serve_door(mut door: Door, meetings: &Meetings<Self>, stop: &AtomicBool) {
        // Lanes' sockets are watched by the runtime.
        let _entered = meetings.runtime.enter();
        while !stop.load(Ordering::Acquire) {
            match door.accept(DOOR_TURN) {
                Ok(Some(knock)) => let_in(knock, meetings),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, "the door for shared memory is closed");
                    return;
                }
            }
        }
    }
    fn share(_: &ShardPort<Self>, _: LaneOffer) -> Result<Vec<u8>, (Refusal, String)> {
        Err((Refusal::NotReady, "this node's transport is shm: its lanes are met at a door".into()))
    }

    fn report(_: &[Self]) -> Vec<String> {
        Vec::new()
    }
}

/// Lets one lane in, to the shard it was promised to.
fn let_in(knock: Knock, meetings: &Meetings<Shm>) {
    let spec = knock.spec();
    let promised = meetings.keep(spec.nonce).filter(|request| request.slots == spec.slots);
    let port = promised.as_ref().and_then(|r| meetings.shards.get(usize::from(r.shard)));
    let (Some(request), Some(port)) = (&promised, port) else {
        tracing::warn!("somebody knocked without an invitation");
        if let Err(error) = knock.refuse(Refusal::NotReady.code(), "no such lane is expected") {
            tracing::debug!(%error, "and left");
        }
        return;
    };
    match knock.accept(port.bell(), &[]) {
        Ok(met) => match zepto_client::watch_peer(met.peer) {
            Ok(hung_up) => {
                port.send(command(request.purpose, met.receiver, hung_up));
            }
            Err(error) => tracing::error!(%error, "cannot watch a lane's peer; it is dropped"),
        },
        Err(error) => tracing::warn!(%error, "a lane could not be shared"),
    }
}
