//! The metrics page: what the node counts, in the text format that Prometheus reads.
//!
//! Made when it is asked for, out of the same numbers as the status; nothing is counted twice and
//! nothing runs in between. Every family is there from the start, also without samples, so that a
//! name that is missing is a mistake. `host/METRICS.md` lists them all, and a test compares.

mod plugins;

use crate::service::Service;
use crate::wire::Wire;
use core::fmt;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use zepto_client::message::{HeartbeatCounters, MemberStatus, ShardCounters, Status};
use zepto_control::ControlLog;
use zepto_core::PartitionId;
use zepto_core::time::Nanos;
use zepto_core::topology::MemberState;
use zepto_core::view::OFFLINE;
use zepto_plugin::manager::Report;
use zepto_plugin::plugins::Plugins;
use zepto_rpc::{BudgetCounters, PeerCounters, ServerCounters};

/// Content type of the page.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The numbers of one page.
#[derive(Debug)]
struct Numbers {
    transport: &'static str,
    started_s: f64,
    ready: bool,
    alive: bool,
    server: ServerCounters,
    peers: Vec<PeerCounters>,
    heartbeats: HeartbeatCounters,
    /// What is there once the node has joined.
    joined: Option<(Box<Status>, Placed)>,
    plugins: Vec<Report>,
    now: Nanos,
}

/// What the view says about this node.
#[derive(Debug)]
struct Placed {
    view_index: u64,
    owned: u64,
    offline: u64,
    epoch_max: u64,
}

impl<T: Wire> Service<T> {
    /// The page as of now.
    ///
    /// # Errors
    /// Never, as far as is known: a string takes all that is written to it.
    pub(crate) fn metrics(&self) -> Result<String, fmt::Error> {
        let joined = self.joined.get().map(|joined| {
            let view = joined.log.state().view();
            let owned = || view.placement().owned_by(joined.node);
            let all = (0..view.partitions() as u32).map(PartitionId);
            let placed = Placed {
                view_index: view.index(),
                owned: owned().count() as u64,
                offline: all.filter(|p| view.destination(*p) == OFFLINE).count() as u64,
                epoch_max: owned().map(|p| view.epoch(p).0).max().unwrap_or_default(),
            };
            (Box::new(self.status(joined)), placed)
        });
        let numbers = Numbers {
            transport: T::NAME,
            started_s: self.condition.started_wall_ns as f64 / 1e9,
            ready: self.not_ready().is_none(),
            alive: self.not_alive().is_none(),
            server: self.server.counters(),
            peers: self.peers.counters(),
            heartbeats: self.beats.counters(),
            joined,
            plugins: self.plugins.get().map(Plugins::reports).unwrap_or_default(),
            now: self.env.now(),
        };
        let mut registry = Registry::default();
        registry.register_collector(Box::new(numbers));
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry)?;
        Ok(page)
    }
}

impl Collector for Numbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.process(&mut page)?;
        self.topology(&mut page)?;
        self.heartbeats(&mut page)?;
        self.shards(&mut page)?;
        self.store(&mut page)?;
        self.budgets(&mut page)?;
        self.server(&mut page)?;
        self.peers(&mut page)?;
        plugins::write(&mut page, &self.plugins, self.now)
    }
}

/// The labels of a sample.
type Labels = Vec<(&'static str, String)>;

/// A family of one number of each shard or peer: its name, its help, and where the number is.
type Family<Of> = (&'static str, &'static str, fn(&Of) -> u64);

/// Writes families of samples.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counter(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                family.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
            } else {
                let mut sample = family.encode_family(&labels)?;
                sample.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
            }
        }
        Ok(())
    }

    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            if labels.is_empty() {
                family.encode_gauge(&value)?;
            } else {
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}

/// A sample without labels.
fn plain<N>(value: N) -> [(Labels, N); 1] {
    [(Labels::new(), value)]
}

/// Samples that differ in one label.
fn by<N, const LENGTH: usize>(
    label: &'static str,
    samples: [(&str, N); LENGTH],
) -> [(Labels, N); LENGTH] {
    samples.map(|(name, value)| (vec![(label, name.to_owned())], value))
}

impl Numbers {
    fn status(&self) -> Option<&Status> {
        self.joined.as_ref().map(|(status, _)| &**status)
    }

    fn process(&self, page: &mut Page<'_>) -> fmt::Result {
        let build = vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("transport", self.transport.to_owned()),
        ];
        page.gauge("zepto_build_info", "Always 1; the labels say what runs", [(build, 1.0)])?;
        let help = "When the process started, in seconds since the Unix epoch";
        page.gauge("zepto_process_start_time_seconds", help, plain(self.started_s))?;
        let help = "1 while every agent's thread advances";
        page.gauge("zepto_node_alive", help, plain(f64::from(u8::from(self.alive))))?;
        let help = "1 while the node is an active member that takes work";
        page.gauge("zepto_node_ready", help, plain(f64::from(u8::from(self.ready))))
    }

    fn topology(&self, page: &mut Page<'_>) -> fmt::Result {
        let placed = || self.joined.iter().map(|(_, placed)| placed);
        let status = || self.status().into_iter();
        let one = |value: u64| (Labels::new(), value as f64);
        let help = "Partitions of the cluster";
        let samples = status().map(|status| one(status.partitions.into()));
        page.gauge("zepto_partitions", help, samples)?;
        let help = "Partitions that this node owns";
        page.gauge("zepto_partitions_owned", help, placed().map(|p| one(p.owned)))?;
        let help = "Partitions without an owner that takes part";
        page.gauge("zepto_partitions_offline", help, placed().map(|p| one(p.offline)))?;
        let help = "Partitions with fewer in-sync copies than declared";
        let samples = status().map(|status| one(status.short_of_copies.into()));
        page.gauge("zepto_partitions_short_of_copies", help, samples)?;
        let help = "Partitions on their way to another owner, or with a copy that is";
        let samples = status().map(|status| one(status.moving.into()));
        page.gauge("zepto_partitions_moving", help, samples)?;
        let help = "Highest epoch of the partitions that this node owns";
        page.gauge("zepto_partition_epoch_max", help, placed().map(|p| one(p.epoch_max)))?;
        let help = "Index of the newest view that is published here";
        page.gauge("zepto_view_index", help, placed().map(|p| one(p.view_index)))?;
        let help = "Symbol names that the cluster has issued";
        page.gauge("zepto_symbols", help, status().map(|status| one(status.symbols.into())))?;
        let help = "Members by state; suspect is this node's own opinion of an active one";
        page.gauge("zepto_members", help, self.status().map(members).into_iter().flatten())?;
        let help = "Index of the last applied entry of the control log";
        let samples = status().map(|status| one(status.log.applied_index));
        page.gauge("zepto_control_log_applied_index", help, samples)?;
        self.consensus(page)
    }

    fn consensus(&self, page: &mut Page<'_>) -> fmt::Result {
        let status = || self.status().into_iter();
        let one = |value: u64| (Labels::new(), value as f64);
        let help = "1 in the node that leads the control log";
        let samples = status().map(|status| one(u64::from(status.leader)));
        page.gauge("zepto_control_log_leader", help, samples)?;
        let help = "1 while the node knows a leader of the control log";
        let samples = status().map(|status| one(u64::from(status.log.has_leader)));
        page.gauge("zepto_control_log_has_leader", help, samples)?;
        let help = "The term of the control log that the node is in";
        page.gauge("zepto_control_log_term", help, status().map(|status| one(status.log.term)))?;
        let help = "Nodes that vote on the control log";
        let samples = status().map(|status| one(status.log.voters.into()));
        page.gauge("zepto_control_log_voters", help, samples)?;
        let help = "Durable transactions of the control log";
        let samples = status().map(|status| (Labels::new(), status.log.transactions));
        page.counter("zepto_control_log_transactions", help, samples)?;
        let help = "Messages about the control log that brought no usable answer";
        let samples = status().map(|status| (Labels::new(), status.log.calls_failed));
        page.counter("zepto_control_log_calls_failed", help, samples)
    }

    fn heartbeats(&self, page: &mut Page<'_>) -> fmt::Result {
        let beats = &self.heartbeats;
        page.counter("zepto_heartbeats_sent", "Heartbeats sent", plain(beats.sent))?;
        let help = "Heartbeats that the system did not take";
        page.counter("zepto_heartbeats_unsent", help, plain(beats.unsent))?;
        let help = "Intervals without heartbeats because an agent stood still";
        page.counter("zepto_heartbeats_held_back", help, plain(beats.held_back))?;
        page.counter("zepto_heartbeats_heard", "Heartbeats that counted", plain(beats.heard))?;
        let ignored = [
            ("malformed", beats.malformed),
            ("unauthenticated", beats.unauthenticated),
            ("stranger", beats.stranger),
            ("other_incarnation", beats.other_incarnation),
            ("replayed", beats.replayed),
        ];
        let help = "Packets that did not count, by reason";
        page.counter("zepto_heartbeats_ignored", help, by("reason", ignored))
    }

    /// One sample per shard.
    fn each_shard(&self, value: fn(&ShardCounters) -> u64) -> impl Iterator<Item = (Labels, u64)> {
        let shards = self.status().map_or(&[][..], |status| &status.shards);
        let label = |shard: usize| vec![("shard", shard.to_string())];
        shards.iter().enumerate().map(move |(shard, counters)| (label(shard), value(counters)))
    }

    fn shards(&self, page: &mut Page<'_>) -> fmt::Result {
        let counters: [Family<ShardCounters>; 11] = [
            ("zepto_ticks_appended", "Ticks appended as owner", |s| s.appended),
            ("zepto_ticks_duplicate", "Ticks that were stored already", |s| s.duplicates),
            ("zepto_ticks_replicated", "Ticks appended as replica", |s| s.replicated),
            ("zepto_lane_slots_taken", "Slots taken from producers' lanes", |s| s.slots_taken),
            ("zepto_lane_slots_settled", "Slots of producers' lanes that are final", |s| {
                s.slots_settled
            }),
            ("zepto_lanes_corrupt", "Lanes closed for breaking the rules", |s| s.corrupt_lanes),
            ("zepto_lanes_refused", "Lanes turned away, too many", |s| s.refused_lanes),
            ("zepto_replica_lanes_broken", "Lanes to replicas that broke", |s| s.broken_lanes),
            ("zepto_fills_begun", "Copies that were begun to be filled here", |s| s.fills_begun),
            ("zepto_fill_ticks_received", "Earlier ticks that came for copies", |s| s.rows_filled),
            ("zepto_fill_ticks_sent", "Earlier ticks sent to fill copies", |s| s.rows_copied),
        ];
        for (name, help, value) in counters {
            page.counter(name, help, self.each_shard(value))?;
        }
        let gauges: [Family<ShardCounters>; 3] = [
            ("zepto_lanes", "Producers' lanes that are open", |s| s.lanes),
            ("zepto_lane_slots_open", "Slots published and not final", |s| s.slots_open),
            ("zepto_shard_view_index", "Index of the view a shard works by", |s| s.view_index),
        ];
        for (name, help, value) in gauges {
            let samples = self.each_shard(value).map(|(labels, value)| (labels, value as f64));
            page.gauge(name, help, samples)?;
        }
        let shards = self.status().map_or(&[][..], |status| &status.shards);
        let refused = shards.iter().enumerate().flat_map(|(shard, counters)| {
            counters.refused_by.iter().map(move |(reason, count)| {
                (vec![("shard", shard.to_string()), ("reason", snake(&reason))], count)
            })
        });
        page.counter("zepto_ticks_refused", "Ticks refused, by reason", refused)
    }

    fn store(&self, page: &mut Page<'_>) -> fmt::Result {
        let store = || self.status().into_iter().map(|status| &status.store);
        let one = |value: u64| (Labels::new(), value as f64);
        page.gauge("zepto_store_ticks", "Ticks held", store().map(|s| one(s.rows)))?;
        page.gauge("zepto_store_series", "Series held", store().map(|s| one(s.series)))?;
        let help = "Partitions that are open here";
        page.gauge("zepto_store_partitions", help, store().map(|s| one(s.partitions)))?;
        let expired = store().flat_map(|s| {
            let causes = [
                ("count", s.expired_by_count),
                ("bytes", s.expired_by_bytes),
                ("age", s.expired_by_age),
            ];
            by("cause", causes)
        });
        page.counter("zepto_store_expired_ticks", "Ticks that retention dropped", expired)
    }

    fn budgets(&self, page: &mut Page<'_>) -> fmt::Result {
        let ticks = self.status().map(|status| BudgetCounters {
            limit_bytes: status.store_limit_bytes,
            used_bytes: status.store.bytes,
            refused: status.store.refused_full,
        });
        let rpc =
            [("requests", self.server.request_budget), ("answers", self.server.answer_budget)];
        let all = || ticks.map(|ticks| ("ticks", ticks)).into_iter().chain(rpc);
        let label = |name: &str| vec![("budget", name.to_owned())];
        let limits = all().map(|(name, budget)| (label(name), budget.limit_bytes as f64));
        page.gauge("zepto_budget_limit_bytes", "Most bytes of a budget", limits)?;
        let used = all().map(|(name, budget)| (label(name), budget.used_bytes as f64));
        page.gauge("zepto_budget_used_bytes", "Bytes of a budget in use", used)?;
        let refused = all().map(|(name, budget)| (label(name), budget.refused));
        page.counter("zepto_budget_refused", "Times a budget had no room", refused)
    }

    fn server(&self, page: &mut Page<'_>) -> fmt::Result {
        let server = &self.server;
        let help = "Connections of others to this node";
        page.gauge("zepto_rpc_connections", help, plain(server.connections as f64))?;
        let help = "Connections that were accepted";
        page.counter("zepto_rpc_connections_accepted", help, plain(server.accepted))?;
        let turned = server.turned_away.iter();
        let turned = turned.map(|(why, count)| (vec![("reason", why.clone())], *count));
        let help = "Connections turned away during the hand-shake, by reason";
        page.counter("zepto_rpc_connections_turned_away", help, turned)?;
        let cut = [
            ("faulty", server.ended_faulty),
            ("silent", server.ended_silent),
            ("slow", server.ended_slow),
        ];
        let help = "Connections that were ended for what the peer did, by reason";
        page.counter("zepto_rpc_connections_cut", help, by("reason", cut))?;
        let help = "Times that accepting paused because the system refused";
        page.counter("zepto_rpc_accept_pauses", help, plain(server.accept_pauses))?;
        page.counter("zepto_rpc_requests", "Requests that came in", plain(server.requests))?;
        let help = "Requests in flight";
        page.gauge("zepto_rpc_requests_in_flight", help, plain(server.in_flight as f64))?;
        page.counter("zepto_rpc_requests_answered", "Answered", plain(server.answered))?;
        let refused = server.refused.iter();
        let refused = refused.map(|(why, count)| (vec![("reason", snake(&why))], count));
        page.counter("zepto_rpc_requests_refused", "Not executed, by reason", refused)?;
        let help = "Requests whose asker heard that the outcome is unknown, or nothing";
        page.counter("zepto_rpc_requests_unknown", help, plain(server.unknown))?;
        let help = "Bytes written to those who asked";
        page.counter("zepto_rpc_sent_bytes", help, plain(server.sent_bytes))?;
        let help = "Bytes read from those who asked";
        page.counter("zepto_rpc_received_bytes", help, plain(server.received_bytes))
    }

    /// One sample per peer.
    fn each_peer<N>(
        &self,
        value: impl Fn(&PeerCounters) -> N,
    ) -> impl Iterator<Item = (Labels, N)> {
        self.peers.iter().map(move |peer| (vec![("peer", peer.address.clone())], value(peer)))
    }

    fn peers(&self, page: &mut Page<'_>) -> fmt::Result {
        let connected = self.each_peer(|peer| f64::from(u8::from(peer.connected)));
        page.gauge("zepto_peer_connected", "1 while there is a connection", connected)?;
        let counters: [Family<PeerCounters>; 12] = [
            ("zepto_peer_requests", "Requests handed over for a peer", |p| p.requests),
            ("zepto_peer_requests_sent", "Of these, sent", |p| p.sent),
            ("zepto_peer_requests_answered", "Answered", |p| p.answered),
            ("zepto_peer_requests_refused", "Refused by the peer", |p| p.refused),
            ("zepto_peer_requests_timed_out", "Sent, no answer in time", |p| p.timed_out),
            ("zepto_peer_requests_unknown", "Sent, outcome not known", |p| p.unknown),
            ("zepto_peer_requests_not_sent", "Certainly not executed", |p| p.not_sent),
            ("zepto_peer_reconnects", "Connections after the first", |p| p.reconnects),
            ("zepto_peer_connect_failures", "Failed attempts", |p| p.connect_failures),
            ("zepto_peer_stale_connections", "Found closed before a request", |p| {
                p.stale_connections
            }),
            ("zepto_peer_sent_bytes", "Bytes written to a peer", |p| p.sent_bytes),
            ("zepto_peer_received_bytes", "Bytes read from a peer", |p| p.received_bytes),
        ];
        for (name, help, value) in counters {
            page.counter(name, help, self.each_peer(value))?;
        }
        // Before the first ping was answered there is nothing to show.
        let seconds = |ns: u64| ns as f64 / 1e9;
        let measured = || self.peers.iter().filter(|peer| peer.rtt_last_ns > 0);
        let label = |peer: &PeerCounters| vec![("peer", peer.address.clone())];
        let last = measured().map(|peer| (label(peer), seconds(peer.rtt_last_ns)));
        page.gauge("zepto_peer_rtt_last_seconds", "Last round trip of a ping", last)?;
        let smoothed = measured().map(|peer| (label(peer), seconds(peer.rtt_smoothed_ns)));
        page.gauge("zepto_peer_rtt_smoothed_seconds", "Mean round trip of pings", smoothed)
    }
}

fn members(status: &Status) -> [(Labels, f64); 5] {
    let count = |wanted: &dyn Fn(&MemberStatus) -> bool| {
        status.members.iter().filter(|member| wanted(member)).count() as f64
    };
    let of = |state| count(&|member| member.state == state && !member.suspect);
    let states = [
        ("joining", of(MemberState::Joining)),
        ("active", of(MemberState::Active)),
        ("suspect", count(&|member| member.suspect && member.state != MemberState::Dead)),
        ("leaving", of(MemberState::Leaving)),
        ("dead", count(&|member| member.state == MemberState::Dead)),
    ];
    by("state", states)
}

/// `NotOwner` as `not_owner`.
fn snake(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    for (place, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && place > 0 {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_become_label_values() {
        assert_eq!(snake("NotOwner"), "not_owner");
        assert_eq!(snake("Other"), "other");
    }
}
