//! Fills and repairs copies through a lane: for each, first what may not be settled, so that the
//! copy counts at once; then, if it is filled from nothing, what came before, a batch at a time,
//! while new ticks go on.

use super::lane::Lane;
use super::ledger::Ledger;
use core::time::Duration;
use std::collections::BTreeMap;
use zepto_core::defect::Defect;
use zepto_core::limits::{
    FILL_AGAIN_MS, FILL_AGAIN_MS_MAX, FILL_BATCH, FILL_RECENT_MAX, FILL_WAITING_MAX,
};
use zepto_core::slot::{self, Control, Slot};
use zepto_core::time::Nanos;
use zepto_core::{Epoch, PartitionId, Refusal};
use zepto_store::PartitionCopy;
use zepto_transport::Transport;

/// What a copy needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Everything.
    Fill,
    /// It is in sync, and may lack what is not settled.
    Repair,
    /// It was said to be full, so it may be in sync by now, and must not be begun anew; it may lack
    /// what is not settled.
    Mend,
}

impl Need {
    /// Whether the copy keeps what it has.
    fn keeps(self) -> bool {
        self != Self::Fill
    }

    /// Whether it may still be what a copy needs that is being filled, or is in sync.
    fn fits(self, is_filling: bool) -> bool {
        is_filling != (self == Self::Repair)
    }
}

/// The copies that one lane fills.
#[derive(Debug, Default)]
pub(super) struct Filler {
    /// To be begun.
    wanted: BTreeMap<PartitionId, Wanted>,
    jobs: BTreeMap<PartitionId, Job>,
    /// How often in a row a copy had no room.
    failures: BTreeMap<PartitionId, u32>,
    /// Ticks that wait at the replica until their copy is full.
    waiting: usize,
    /// Ticks that will wait there once they are sent.
    expected: usize,
}

#[derive(Debug)]
struct Wanted {
    need: Need,
    /// Once the partition's epoch is beyond this one.
    beyond: Epoch,
    /// Not earlier.
    from: Nanos,
}

#[derive(Debug)]
struct Job {
    need: Need,
    /// The slot that began it.
    begun: u64,
    stage: Stage,
    /// It counts only when it is full: more may not be settled than can wait at the replica.
    late: bool,
    /// Producers whose last sequences are still to be told.
    producers: Vec<u32>,
    rows: u64,
    /// Of them, and of the new ticks, those that wait at the replica.
    waiting: usize,
    /// Rows that will wait there once they are sent.
    expected: usize,
}

#[derive(Debug)]
enum Stage {
    /// What may not be settled is sent; then what came before. A copy that keeps what it has counts
    /// only once it was told that this was all.
    Unsettled(PartitionCopy, PartitionCopy),
    /// What came before is sent.
    Earlier(PartitionCopy),
    /// Everything was sent up to this slot.
    Sent(u64),
    /// The replica has all of it.
    Full,
}

impl Filler {
    /// Takes up what each copy is now: being filled, in sync, or none of this lane's.
    pub fn install(&mut self, is_filling: impl Fn(PartitionId) -> Option<bool>) {
        let fits = |partition: PartitionId, need: Need| {
            is_filling(partition).is_some_and(|is_filling| need.fits(is_filling))
        };
        // What is mended goes on as a repair once the copy is in sync.
        let mended = |partition: PartitionId, need: Need| {
            need == Need::Mend && is_filling(partition) == Some(false)
        };
        for (partition, wanted) in &mut self.wanted {
            if mended(*partition, wanted.need) {
                wanted.need = Need::Repair;
            }
        }
        for (partition, job) in &mut self.jobs {
            if mended(*partition, job.need) {
                job.need = Need::Repair;
            }
        }
        self.wanted.retain(|partition, wanted| fits(*partition, wanted.need));
        self.failures.retain(|partition, _| is_filling(*partition).is_some());
        let over = self.jobs.iter().filter(|(partition, job)| !fits(**partition, job.need));
        let over: Vec<PartitionId> = over.map(|(partition, _)| *partition).collect();
        over.into_iter().for_each(|partition| self.drop_job(partition));
    }

    /// A copy needs something, from the beginning if it was begun before; not before its epoch is
    /// beyond this one.
    pub fn want(&mut self, partition: PartitionId, need: Need, beyond: Epoch) {
        self.drop_job(partition);
        self.wanted.insert(partition, Wanted { need, beyond, from: Nanos(0) });
    }

    /// A copy was refused, so it is begun again. One that had no room for it waits longer each
    /// time: it will not have more of it a moment later.
    pub fn want_again(&mut self, partition: PartitionId, need: Need, reason: Refusal, now: Nanos) {
        self.drop_job(partition);
        let from = match (self.wanted.remove(&partition), reason) {
            // Another part of a story that was told already.
            (Some(wanted), _) => wanted.from,
            (None, Refusal::Overloaded | Refusal::LimitReached) => {
                let failures = self.failures.entry(partition).or_default();
                let wait_ms = (FILL_AGAIN_MS << (*failures).min(31)).min(FILL_AGAIN_MS_MAX);
                *failures = failures.saturating_add(1);
                now.after(Duration::from_millis(wait_ms))
            }
            (None, _) => Nanos(0),
        };
        self.wanted.insert(partition, Wanted { need, beyond: Epoch(0), from });
    }

    fn drop_job(&mut self, partition: PartitionId) {
        if let Some(job) = self.jobs.remove(&partition) {
            self.waiting -= job.waiting;
            self.expected -= job.expected;
        }
    }

    /// Whether a copy waits for something, or is at it.
    pub fn knows(&self, partition: PartitionId) -> bool {
        self.wanted.contains_key(&partition) || self.jobs.contains_key(&partition)
    }

    /// Whether a copy waits for something, or has not confirmed all of it.
    pub fn is_open(&self, partition: PartitionId) -> bool {
        let job = self.jobs.get(&partition);
        self.wanted.contains_key(&partition)
            || job.is_some_and(|job| !matches!(job.stage, Stage::Full))
    }

    /// The slot that began a copy's present job.
    pub fn begun_at(&self, partition: PartitionId) -> Option<u64> {
        Some(self.jobs.get(&partition)?.begun)
    }

    /// Whether the copy lacks nothing that may not be settled: it counts as a copy. One that needs
    /// nothing does.
    pub fn counts(&self, partition: PartitionId) -> bool {
        let job = self.jobs.get(&partition);
        let sent = job.is_none_or(|job| match job.stage {
            Stage::Unsettled(..) => false,
            Stage::Earlier(_) | Stage::Sent(_) => !job.late,
            Stage::Full => true,
        });
        sent && !self.wanted.contains_key(&partition)
    }

    /// Copies that were filled and are full.
    pub fn full(&self) -> impl Iterator<Item = PartitionId> + '_ {
        let full = |job: &Job| {
            job.need == Need::Fill
                && (matches!(job.stage, Stage::Full) || Defect::CountedBeforeFull.planted())
        };
        self.jobs.iter().filter(move |(_, job)| full(job)).map(|(partition, _)| *partition)
    }

    /// Whether one more new tick may wait at the replica.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.waiting < FILL_WAITING_MAX - FILL_BATCH
    }

    /// A new tick was sent to a copy.
    #[inline]
    pub fn note_tick(&mut self, partition: PartitionId) {
        if self.jobs.is_empty() {
            return;
        }
        if let Some(job) = self.jobs.get_mut(&partition)
            && !matches!(job.stage, Stage::Full)
        {
            job.waiting += 1;
            self.waiting += 1;
        }
    }

    /// Looks how far the replica is; whether a copy became full. Those that count only from then on
    /// are added to `counts`.
    pub fn acknowledge(&mut self, acknowledged: u64, counts: &mut Vec<PartitionId>) -> bool {
        let mut changed = false;
        let (waiting, failures) = (&mut self.waiting, &mut self.failures);
        self.jobs.retain(|partition, job| {
            if matches!(job.stage, Stage::Sent(index) if acknowledged >= index) {
                job.stage = Stage::Full;
                failures.remove(partition);
                *waiting -= core::mem::take(&mut job.waiting);
                if job.need == Need::Mend {
                    job.need = Need::Fill;
                }
                changed |= job.need == Need::Fill;
                counts.extend(job.late.then_some(*partition));
            }
            job.need != Need::Repair || !matches!(job.stage, Stage::Full)
        });
        changed
    }
}

impl<T: Transport> Lane<T> {
    /// Sends a part of what copies miss, as far as there is room. Partitions whose copies begin
    /// or come to count are noted in `changed`. Returns how many slots were sent.
    pub fn fill(
        &mut self,
        ledger: &mut Ledger,
        now: Nanos,
        changed: &mut Vec<PartitionId>,
    ) -> usize {
        if self.filler.wanted.is_empty() && self.filler.jobs.is_empty() {
            return 0;
        }
        let before = self.head();
        let limit = before + FILL_BATCH as u64;
        while self.head() < limit && self.begin_next(ledger, now, changed) {}
        while self.head() < limit && self.send_rows(ledger, changed) {}
        let sent = (self.head() - before) as usize;
        if sent > 0 {
            self.publish();
        }
        sent
    }

    /// Begins with one more copy, if there is room for what has to be said; whether it did.
    fn begin_next(&mut self, ledger: &Ledger, now: Nanos, changed: &mut Vec<PartitionId>) -> bool {
        if self.filler.waiting + self.filler.expected > FILL_WAITING_MAX / 4 {
            return false;
        }
        let due = |(partition, wanted): &(&PartitionId, &Wanted)| {
            ledger.epoch(**partition) > wanted.beyond && now >= wanted.from
        };
        let Some((&partition, &Wanted { need, .. })) = self.filler.wanted.iter().find(due) else {
            return false;
        };
        let epoch = ledger.epoch(partition);
        let copy = |range| ledger.store.copy_partition(partition, range);
        let Some(next) = ledger.store.next_sequence(partition) else {
            // The budget had no room for the partition: there is nothing to copy.
            self.filler.wanted.remove(&partition);
            return true;
        };
        let floor = ledger.unsettled(partition);
        // A new copy of more than may wait there counts only when it has everything.
        let unsettled = match need.keeps() {
            true => floor,
            false => floor.max(next.saturating_sub(FILL_RECENT_MAX)),
        };
        let earlier = if need.keeps() { 0..0 } else { 0..unsettled };
        let (Some(recent), Some(earlier)) = (copy(unsettled..next), copy(earlier)) else {
            self.filler.wanted.remove(&partition);
            return true;
        };
        if self.fill_room() < 3 {
            return false;
        }
        self.filler.wanted.remove(&partition);
        let begun = self.head();
        let keep = need.keeps();
        self.push(&Control::BeginFill { partition, epoch, next, unsettled, keep }.slot());
        self.push_floor(partition, ledger.floor(partition));
        self.note_bound(partition, epoch);
        let producers = ledger.producers.known_in(partition).collect();
        let stage = Stage::Unsettled(recent, earlier);
        let late = unsettled > floor;
        // What a repair sends waits only where it was missed.
        let expected = if need.keeps() { 0 } else { (next - unsettled) as usize };
        self.filler.expected += expected;
        let job = Job { need, begun, stage, late, producers, rows: 0, waiting: 0, expected };
        self.filler.jobs.insert(partition, job);
        self.settle_stage(partition);
        changed.push(partition);
        true
    }

    /// Sends rows of one copy, first of one that does not count yet; whether it sent anything.
    fn send_rows(&mut self, ledger: &mut Ledger, changed: &mut Vec<PartitionId>) -> bool {
        let room = self.fill_room();
        if room < 3 {
            return false;
        }
        let unsettled = |job: &Job| matches!(job.stage, Stage::Unsettled(..));
        let earlier = |job: &Job| matches!(job.stage, Stage::Earlier(_));
        let jobs = &mut self.filler.jobs;
        let next = jobs.iter().find(|(_, job)| unsettled(job));
        let next = next.or_else(|| jobs.iter().find(|(_, job)| earlier(job)));
        let Some(partition) = next.map(|(partition, _)| *partition) else { return false };
        let (epoch, next) =
            (ledger.epoch(partition), ledger.store.next_sequence(partition).unwrap_or(1));
        let before = self.head();
        // A newer epoch may have come since it was begun.
        self.bind(partition, epoch, next, ledger);
        self.tell_producers(partition, ledger);
        let room = self.fill_room();
        if room < 3 {
            return self.head() > before;
        }
        let mut rows: Vec<Slot> = Vec::new();
        let max = FILL_BATCH.min(room as usize - 2);
        let give = |tick: &zepto_core::Tick| rows.push(slot::slot_of(tick));
        let Some(job) = self.filler.jobs.get_mut(&partition) else { return false };
        let waits = match &mut job.stage {
            Stage::Unsettled(copy, _) => {
                copy.read(max, give);
                true
            }
            Stage::Earlier(copy) => {
                copy.read(max, give);
                false
            }
            Stage::Sent(_) | Stage::Full => return false,
        };
        job.rows += rows.len() as u64;
        if waits {
            job.waiting += rows.len();
            self.filler.waiting += rows.len();
            let sent = rows.len().min(job.expected);
            job.expected -= sent;
            self.filler.expected -= sent;
        }
        ledger.counters.rows_copied += rows.len() as u64;
        if !rows.is_empty() {
            let digest = rows.iter().fold(0, |sum: u64, row| sum.wrapping_add(slot::digest(row)));
            let count = rows.len() as u32;
            self.push(&Control::Rows { partition, count, digest }.slot());
            rows.iter().for_each(|row| self.push(row));
        }
        let counts = self.settle_stage(partition);
        if counts {
            changed.push(partition);
        }
        counts || self.head() > before
    }

    /// Tells what producers had got stored, as far as there is room: with what they have by now,
    /// for the ticks since then went through the lane before.
    fn tell_producers(&mut self, partition: PartitionId, ledger: &mut Ledger) {
        while self.fill_room() >= 3 {
            let job = self.filler.jobs.get_mut(&partition);
            let Some(index) = job.and_then(|job| job.producers.pop()) else { return };
            let Some(sequences) = ledger.producers.get_mut(index) else { continue };
            let last = sequences.last(partition);
            self.introduce(index, sequences.producer());
            self.push(&Control::Accepted { index, partition, last }.slot());
        }
    }

    /// Goes on to the next stage of a copy if this one is done; whether it counts from now on.
    fn settle_stage(&mut self, partition: PartitionId) -> bool {
        let Some(mut job) = self.filler.jobs.remove(&partition) else { return false };
        let before = matches!(job.stage, Stage::Unsettled(..));
        job.stage = match job.stage {
            Stage::Unsettled(copy, earlier)
                if copy.is_done() && job.producers.is_empty() && !job.need.keeps() =>
            {
                Stage::Earlier(earlier)
            }
            stage => stage,
        };
        let all = match &job.stage {
            Stage::Unsettled(copy, _) => {
                copy.is_done() && job.producers.is_empty() && job.need.keeps()
            }
            Stage::Earlier(copy) => copy.is_done(),
            Stage::Sent(_) | Stage::Full => false,
        };
        if all && self.has_room() {
            self.push(&Control::Filled { partition, rows: job.rows }.slot());
            job.stage = Stage::Sent(self.head());
        }
        let counts = before && !matches!(job.stage, Stage::Unsettled(..));
        if counts {
            // Retention may have dropped some of them.
            self.filler.expected -= core::mem::take(&mut job.expected);
        }
        self.filler.jobs.insert(partition, job);
        counts
    }
}
