//! What a discovery plugin says: vetted, held, or published.

use super::{DiscoveryReport, MS, Manager};
use crate::vet::{Answer, Change, Discovered, Offer};
use std::sync::Arc;
use zepto_core::limits::PLUGIN_HOLD_MS;
use zepto_core::time::Nanos;

/// Time between two requests for a full answer.
const RESYNC_AFTER_NS: u64 = 1_000_000_000;

impl Manager {
    /// Takes an answer, or holds it.
    pub(super) async fn offer(&mut self, answer: &Answer) {
        let (name, now) = (self.parts.setting.name.clone(), self.env.now());
        let Some(roster) = &mut self.roster else { return };
        match roster.offer(answer, now) {
            Offer::Applied(change) => {
                self.resync_at = None;
                if change != Change::default() {
                    let Change { added, removed, changed } = change;
                    tracing::info!(plugin = name, ?added, ?removed, ?changed, "discovery");
                }
                self.publish();
            }
            Offer::Held(held) => {
                let (removes, known) = held.removes;
                let wants = if held.wants_operator {
                    "until an operator confirms it with `zepto-host member confirm`"
                } else {
                    "until it is repeated, or confirmed with `zepto-host member confirm`"
                };
                tracing::warn!(plugin = name, removes, known, "answer held {wants}");
                self.report.send_modify(|report| report.held += 1);
                // To be repeated once it has been held long enough, where that is enough.
                let repeat = Nanos(now.0.max(held.since.0 + PLUGIN_HOLD_MS * MS) + MS);
                self.resync_at = (!held.wants_operator).then_some(repeat);
                self.publish();
                self.roll_back("its answer removes too many nodes").await;
            }
            Offer::NoBase => {
                tracing::warn!(plugin = name, "a change before any full answer; asking for one");
                self.resync_at = Some(Nanos(now.0 + RESYNC_AFTER_NS));
            }
        }
    }

    /// Another instance begins to tell of nodes.
    pub(super) fn begin_roster(&mut self) {
        if let Some(roster) = &mut self.roster {
            roster.begin();
            self.resync_at = None;
            self.publish();
        }
    }

    fn publish(&self) {
        let Some(roster) = &self.roster else { return };
        let held = roster.held().map(|held| (held.removes.0, held.removes.1, held.wants_operator));
        let others: Vec<Discovered> = roster.others().cloned().collect();
        let discovery = DiscoveryReport { nodes: others.len(), answered: roster.answered(), held };
        self.report.send_modify(|report| report.discovery = Some(discovery));
        self.nodes.send_if_modified(|known| {
            let is_other = **known != others;
            if is_other {
                *known = Arc::new(others);
            }
            is_other
        });
    }

    /// An operator says that what is held is right.
    pub(super) fn confirm(&mut self) -> Option<String> {
        let change = self.roster.as_mut()?.confirm(self.env.now())?;
        tracing::info!(plugin = self.parts.setting.name, removed = ?change.removed, "confirmed");
        self.resync_at = None;
        self.publish();
        Some(format!("{} removed, {} added", change.removed.len(), change.added.len()))
    }
}
