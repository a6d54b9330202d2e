//! What owners answered so far about all that they own, until it is of one view.
//!
//! Partitions move while owners answer: of two that were asked as of two views, both may have
//! answered for a partition, or neither. A part counts only in a view in which its owner owns
//! exactly what it answered for.

use std::collections::BTreeMap;
use zepto_core::NodeId;
use zepto_core::view::View;
use zepto_store::query::Summary;

/// (table, symbol, summary).
pub type Rows = Vec<(u16, u32, Summary)>;

/// The parts by owner, each with the digest of what it is of.
#[derive(Default)]
pub struct Gathered(BTreeMap<NodeId, (u64, Rows)>);

impl Gathered {
    /// Takes an owner's part, of the partitions and epochs of a digest.
    pub fn put(&mut self, owner: NodeId, ownership: u64, rows: Rows) {
        self.0.insert(owner, (ownership, rows));
    }

    /// Owners in a view whose part does not count in it; `None` stands for partitions that nobody
    /// owns.
    pub fn lacking(&self, view: &View) -> Vec<Option<NodeId>> {
        let mut owners: Vec<Option<NodeId>> =
            view.placement().assignments.iter().map(|assignment| assignment.owner()).collect();
        owners.sort_unstable();
        owners.dedup();
        owners.retain(|owner| !owner.is_some_and(|owner| self.counts(view, owner)));
        owners
    }

    /// All rows that count in a view.
    pub fn rows(self, view: &View) -> Rows {
        let counting = self.0.into_iter().filter(|(owner, (of, _))| *of == view.ownership(*owner));
        counting.flat_map(|(_, (_, rows))| rows).collect()
    }

    fn counts(&self, view: &View, owner: NodeId) -> bool {
        self.0.get(&owner).is_some_and(|(of, _)| *of == view.ownership(owner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zepto_core::limits::{COPIES_MAX, IN_SYNC_MAX};
    use zepto_core::topology::{Assignment, Placement, Topology};
    use zepto_core::{Epoch, PartitionId};

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);

    /// A view of partitions by owner, each since an epoch.
    fn view(owners: [(NodeId, u64); 4]) -> View {
        let assignments = owners.map(|(owner, epoch)| {
            let mut copies = [NodeId(0); IN_SYNC_MAX];
            copies[0] = owner;
            let (epoch, target) = (Epoch(epoch), NodeId(0));
            Assignment { epoch, since: epoch, copies, filling: [NodeId(0); COPIES_MAX], target }
        });
        let placement = Topology::empty().placement;
        View::compile(Placement { bits: 2, assignments: assignments.to_vec(), ..placement })
    }

    /// What an owner answers as of a view: a row for each of its partitions.
    fn answer(gathered: &mut Gathered, view: &View, owner: NodeId) {
        let row = |partition: PartitionId| (0, partition.0, Summary::default());
        let rows = view.placement().owned_by(owner).map(row).collect();
        gathered.put(owner, view.ownership(owner), rows);
    }

    fn partitions(rows: Rows) -> Vec<u32> {
        let mut partitions: Vec<u32> = rows.into_iter().map(|row| row.1).collect();
        partitions.sort_unstable();
        partitions
    }

    #[test]
    fn a_partition_that_moves_is_neither_left_out_nor_answered_twice() {
        let before = view([(A, 1), (A, 1), (B, 1), (C, 1)]);
        let after = view([(A, 1), (B, 2), (B, 1), (C, 1)]);
        for (first, second) in [(&before, &after), (&after, &before)] {
            let mut gathered = Gathered::default();
            answer(&mut gathered, first, A);
            answer(&mut gathered, second, B);
            answer(&mut gathered, first, C);
            assert_eq!(gathered.lacking(second), [Some(A)], "C's is of both views");
            answer(&mut gathered, second, A);
            assert_eq!(gathered.lacking(second), []);
            assert_eq!(partitions(gathered.rows(second)), [0, 1, 2, 3]);
        }
    }

    #[test]
    fn who_owns_nothing_any_more_does_not_count() {
        let before = view([(A, 1), (A, 1), (B, 1), (C, 1)]);
        let after = view([(A, 1), (A, 1), (B, 1), (B, 2)]);
        let mut gathered = Gathered::default();
        for owner in [A, B, C] {
            answer(&mut gathered, &before, owner);
        }
        assert_eq!(gathered.lacking(&after), [Some(B)]);
        answer(&mut gathered, &after, B);
        assert_eq!(partitions(gathered.rows(&after)), [0, 1, 2, 3]);
    }

    #[test]
    fn partitions_that_nobody_owns_are_lacking_for_good() {
        let view = view([(A, 1), (NodeId(0), 0), (A, 1), (A, 1)]);
        let mut gathered = Gathered::default();
        answer(&mut gathered, &view, A);
        assert_eq!(gathered.lacking(&view), [None]);
    }
}
