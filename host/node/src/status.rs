//! What a node says about itself and what it thinks of the others.

use crate::service::{Joined, Service};
use crate::wire::Wire;
use std::collections::BTreeMap;
use zepto_client::message::{LogCounters, MemberStatus, PluginStatus, Status};
use zepto_control::ControlLog;
use zepto_control::raft::PeerRole;
use zepto_core::NodeId;
use zepto_core::balance;
use zepto_core::detect::Opinion;
use zepto_core::topology::{Assignment, Member, MemberState, Placement};
use zepto_plugin::manager::Report;
use zepto_plugin::plugins::Plugins;
use zepto_store::StoreCounters;
use zepto_transport::Transport;

impl<T: Wire> Service<T> {
    /// The status as of now.
    pub(crate) fn status(&self, joined: &Joined<T>) -> Status {
        let state = joined.log.state();
        // First the position: whoever has seen it finds the rest at least as new.
        let position = state.position();
        let view = state.view();
        let placement = view.placement();
        let (shares, consensus) = (shares(placement), joined.log.status());
        let members = placement.members.iter();
        let voters: Vec<String> = joined
            .log
            .peers()
            .into_iter()
            .filter(|(_, role)| *role == PeerRole::Voter)
            .map(|(peer, _)| peer.name)
            .collect();
        let members = members.map(|member| {
            let share = shares.get(&member.id).copied().unwrap_or_default();
            self.member_status(joined, member, share, voters.contains(&member.name))
        });
        let partitions = &placement.assignments;
        let short = |a: &&Assignment| a.in_sync().count() < usize::from(placement.copies);
        let moving = |a: &&Assignment| balance::is_moving(placement, a);
        Status {
            name: self.name.clone(),
            node: joined.node,
            incarnation: self.incarnation,
            cluster: format!("{:032x}", joined.cluster),
            version: env!("CARGO_PKG_VERSION").into(),
            leader: joined.log.is_leader(),
            topology_index: position.index,
            topology_hash: position.hash,
            copies: placement.copies,
            partitions: placement.assignments.len() as u32,
            offline: placement.offline().count() as u32,
            short_of_copies: partitions.iter().filter(short).count() as u32,
            moving: partitions.iter().filter(moving).count() as u32,
            symbols: state.symbols_len(),
            transport: T::NAME.into(),
            transport_notes: T::report(&self.ends),
            members: members.collect(),
            store: store_counters(joined),
            shards: joined.shards.iter().map(|port| port.counters()).collect(),
            store_limit_bytes: joined.store_limit_bytes,
            heartbeats: self.beats.counters(),
            log: LogCounters {
                applied_index: position.index,
                transactions: consensus.transactions,
                term: consensus.term,
                voters: consensus.voters.len() as u32,
                has_leader: consensus.leader.is_some(),
                calls_failed: consensus.calls_failed,
            },
            peers: self.peers.counters(),
            server: self.server.counters(),
            not_ready: self.not_ready(),
            uptime_ms: self.env.now().0 / 1_000_000,
            plugins: self.plugin_status(),
        }
    }

    fn plugin_status(&self) -> Vec<PluginStatus> {
        let reports = self.plugins.get().map(Plugins::reports).unwrap_or_default();
        let now = self.env.now();
        let status = |report: Report| {
            let discovery = report.discovery.as_ref();
            let answered = discovery.and_then(|discovery| discovery.answered);
            PluginStatus {
                state: report.state.to_string(),
                kinds: report.kinds.iter().map(|kind| (*kind).to_owned()).collect(),
                target: report.target.to_owned(),
                events: report.events,
                faults: report.faults.values().sum(),
                refused: report.refusals().values().sum(),
                restarts: report.restarts,
                rollbacks: report.rollbacks,
                nodes: discovery.map(|discovery| discovery.nodes as u32),
                answer_age_ms: answered.map(|at| now.since(at).as_millis() as u64),
                held: discovery.and_then(|d| d.held).map(|(removes, ..)| removes as u32),
                last_error: if report.last_error.is_empty() {
                    report.tally.error
                } else {
                    report.last_error
                },
                name: report.name,
                version: report.version,
                file: report.file,
                sha256: report.sha256,
            }
        };
        reports.into_iter().map(status).collect()
    }

    fn member_status(
        &self,
        joined: &Joined<T>,
        member: &Member,
        share: Share,
        votes: bool,
    ) -> MemberStatus {
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
            partitions: share.owned,
            copies: share.in_sync,
            filling: share.filling,
            weight: member.weight,
            zone: member.zone.clone(),
            votes,
        }
    }
}

/// What a member holds.
#[derive(Clone, Copy, Default)]
struct Share {
    owned: u32,
    in_sync: u32,
    filling: u32,
}

/// One pass over the partitions, however many members there are.
fn shares(placement: &Placement) -> BTreeMap<NodeId, Share> {
    let mut shares: BTreeMap<NodeId, Share> = BTreeMap::new();
    for assignment in &placement.assignments {
        if let Some(owner) = assignment.owner() {
            shares.entry(owner).or_default().owned += 1;
        }
        for node in assignment.in_sync() {
            shares.entry(node).or_default().in_sync += 1;
        }
        for node in assignment.filling() {
            shares.entry(node).or_default().filling += 1;
        }
    }
    shares
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
