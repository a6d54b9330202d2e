//! What a node says about itself and what it thinks of the others.

use crate::service::{Joined, Service};
use crate::wire::Wire;
use std::collections::BTreeMap;
use zepto_client::message::{LogCounters, MemberStatus, Status};
use zepto_control::ControlLog;
use zepto_core::NodeId;
use zepto_core::detect::Opinion;
use zepto_core::topology::{Assignment, Member, MemberState};
use zepto_store::StoreCounters;
use zepto_transport::Transport;

impl<T: Wire> Service<T> {
    /// The status as of now.
    pub(crate) fn status(&self, joined: &Joined<T>) -> Status {
        let state = joined.log.state();
        let (view, position) = (state.view(), state.position());
        let placement = view.placement();
        // One pass over the partitions, however many members there are.
        let mut owned: BTreeMap<NodeId, u32> = BTreeMap::new();
        for owner in placement.assignments.iter().filter_map(Assignment::owner) {
            *owned.entry(owner).or_default() += 1;
        }
        let owned = |member: &Member| owned.get(&member.id).copied().unwrap_or_default();
        let members = placement
            .members
            .iter()
            .map(|member| self.member_status(joined, member, owned(member)));
        Status {
            name: self.name.clone(),
            node: joined.node,
            incarnation: self.incarnation,
            cluster: format!("{:032x}", joined.cluster),
            version: env!("CARGO_PKG_VERSION").into(),
            leader: joined.keeper.is_some(),
            topology_index: position.index,
            topology_hash: position.hash,
            copies: placement.copies,
            partitions: placement.assignments.len() as u32,
            symbols: state.symbols_len(),
            transport: self.transport.into(),
            members: members.collect(),
            store: store_counters(joined),
            shards: joined.shards.iter().map(|port| port.counters()).collect(),
            store_limit_bytes: joined.store_limit_bytes,
            heartbeats: self.beats.counters(),
            log: LogCounters {
                applied_index: position.index,
                transactions: joined.keeper.as_ref().map(|keeper| keeper.transactions()),
            },
            peers: self.peers.counters(),
            server: self.server.counters(),
            not_ready: self.not_ready(),
            uptime_ms: self.env.now().0 / 1_000_000,
        }
    }

    fn member_status(&self, joined: &Joined<T>, member: &Member, partitions: u32) -> MemberStatus {
        let opinions = joined.opinions.load();
        let seen = opinions.get(&member.id).filter(|seen| seen.incarnation == member.incarnation);
        let silent = seen.and_then(|seen| seen.heard).map(|heard| self.env.now().since(heard));
        let suspect = seen.is_some_and(|seen| seen.opinion != Opinion::Alive);
        MemberStatus {
            name: member.name.clone(),
            node: member.id,
            incarnation: member.incarnation,
            state: member.state,
            suspect: suspect && member.state != MemberState::Dead,
            silent_ms: silent.map(|silent| silent.as_millis() as u64),
            address: member.address.clone(),
            partitions,
        }
    }
}

/// The counters of all shards' stores together.
fn store_counters<T: Transport>(joined: &Joined<T>) -> StoreCounters {
    joined.shards.iter().fold(StoreCounters::default(), |sum, port| {
        let more = port.reader().counters();
        StoreCounters {
            rows: sum.rows + more.rows,
            bytes: sum.bytes + more.bytes,
            series: sum.series + more.series,
            partitions: sum.partitions + more.partitions,
            appended: sum.appended + more.appended,
            expired_by_count: sum.expired_by_count + more.expired_by_count,
            expired_by_bytes: sum.expired_by_bytes + more.expired_by_bytes,
            expired_by_age: sum.expired_by_age + more.expired_by_age,
            refused_full: sum.refused_full + more.refused_full,
        }
    })
}
