//! What waits for the replicas before it is answered: partitions that are to be given away, and
//! reads that must not be of an owner whom the others have left behind.

use super::followers::Followers;
use super::ledger::Ledger;
use super::standing::Standing;
use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use zepto_core::PartitionId;
use zepto_transport::Transport;

/// Rounds that may wait at a time; one more is answered with nothing.
const ROUNDS_MAX: usize = 1024;

/// What is asked of the shard.
pub(super) enum Round {
    /// Freeze these, and say which are frozen with all that they took confirmed.
    Freeze(Vec<PartitionId>, SyncSender<Vec<PartitionId>>),
    /// Say whether the in-sync replicas of these all still go along.
    Confirm(Vec<PartitionId>, SyncSender<bool>),
}

/// A round that was begun.
struct Begun {
    round: Round,
    /// Partitions that were not asked about yet: a lane was full, or is not there.
    left: Vec<PartitionId>,
    /// (lane, index that it has to acknowledge).
    waits: Vec<(u32, u64)>,
    /// Steps until it is given up.
    patience: u32,
}

/// Steps that a confirmation waits for lanes that are not there; whoever asked tries again.
const PATIENCE: u32 = 1000;

/// The rounds of a shard.
#[derive(Default)]
pub(super) struct Rounds {
    begun: VecDeque<Begun>,
}

impl Rounds {
    /// How it stands, for a failed test's story.
    pub fn story(&self) -> String {
        let rounds = self.begun.iter().map(|begun| (&begun.left, &begun.waits, begun.patience));
        format!("rounds {:?}", rounds.collect::<Vec<_>>())
    }

    /// Begins a round.
    pub fn begin(&mut self, round: Round, ledger: &mut Ledger) {
        let (round, left) = match round {
            Round::Freeze(partitions, answer) => {
                let frozen = ledger.freeze(&partitions);
                (Round::Freeze(frozen.clone(), answer), frozen)
            }
            Round::Confirm(partitions, answer) => {
                (Round::Confirm(partitions.clone(), answer), partitions)
            }
        };
        let full = self.begun.len() >= ROUNDS_MAX;
        let begun = Begun { round, left, waits: Vec::new(), patience: PATIENCE };
        if full { begun.give_up(ledger) } else { self.begun.push_back(begun) }
    }

    /// Goes on with every round; returns how many ended. Call it after what the replicas said has
    /// been settled.
    pub fn go_on<T: Transport>(
        &mut self,
        ledger: &mut Ledger,
        followers: &mut Followers<T>,
    ) -> usize {
        if self.begun.is_empty() {
            return 0;
        }
        let before = self.begun.len();
        let mut asked = false;
        for mut begun in core::mem::take(&mut self.begun) {
            asked |= begun.ask(ledger, followers);
            if let Some(begun) = begun.finish(ledger, followers) {
                self.begun.push_back(begun);
            }
        }
        if asked {
            followers.publish();
        }
        before - self.begun.len()
    }
}

impl Begun {
    /// Asks the replicas of what is left; whether it asked any.
    fn ask<T: Transport>(&mut self, ledger: &Ledger, followers: &mut Followers<T>) -> bool {
        let (waits, mut has_asked) = (&mut self.waits, false);
        self.left.retain(|partition| match ledger.standing(*partition) {
            Standing::Leader | Standing::Frozen => match followers.ask(*partition, ledger) {
                Some(asked) => {
                    waits.extend(asked);
                    has_asked = true;
                    false
                }
                None => true,
            },
            // Nobody else has it, or it is another's by now: there is nobody to ask.
            _ => false,
        });
        // One index for each lane: the last.
        self.waits.sort_unstable_by_key(|(lane, index)| (*lane, core::cmp::Reverse(*index)));
        self.waits.dedup_by_key(|(lane, _)| *lane);
        has_asked
    }

    /// Answers if everybody has; else it is to go on.
    fn finish<T: Transport>(
        mut self,
        ledger: &mut Ledger,
        followers: &Followers<T>,
    ) -> Option<Self> {
        let lost = self.waits.iter().any(|(lane, _)| !followers.has_lane(*lane));
        self.patience -= u32::from(!self.left.is_empty());
        if lost || self.patience == 0 {
            self.give_up(ledger);
            return None;
        }
        let open = self.waits.iter().any(|(lane, index)| followers.acknowledged(*lane) < *index);
        if open || !self.left.is_empty() {
            return Some(self);
        }
        // A cursor also passes what was refused: then the copy is being repaired, and asked again.
        let (Round::Freeze(partitions, _) | Round::Confirm(partitions, _)) = &self.round;
        let refused = partitions.iter().filter(|p| !followers.is_whole(**p)).copied();
        self.left = refused.filter(|partition| ledger.owns(*partition)).collect();
        if !self.left.is_empty() {
            return Some(self);
        }
        match &self.round {
            Round::Freeze(partitions, answer) => {
                // One that was fenced or taken away meanwhile is not frozen any more.
                let still = |p: &PartitionId| ledger.standing(*p) == Standing::Frozen;
                let frozen = partitions.iter().copied().filter(still).collect();
                tell(answer, frozen);
            }
            Round::Confirm(partitions, answer) => {
                let held = partitions.iter().all(|partition| ledger.owns(*partition));
                tell(answer, held);
            }
        }
        None
    }

    fn give_up(self, ledger: &mut Ledger) {
        match self.round {
            Round::Freeze(partitions, answer) => {
                ledger.thaw(&partitions);
                tell(&answer, Vec::new());
            }
            Round::Confirm(_, answer) => tell(&answer, false),
        }
    }
}

/// Who asked may be gone; a view or a thaw ends what was begun for them.
fn tell<A>(answer: &SyncSender<A>, what: A) {
    if answer.try_send(what).is_err() {
        tracing::debug!("nobody waits for a round's end");
    }
}
