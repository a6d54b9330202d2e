//! What an entry did, for operators and their log lines.

use zepto_abi::{Incarnation, NodeId, PartitionId};

/// Something an operator wants to read in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The cluster exists.
    Bootstrapped {
        /// Its id.
        cluster: u128,
    },
    /// A member, or a new incarnation of one, is joining.
    Joining(NodeId, Incarnation),
    /// A member takes part.
    Active(NodeId, Incarnation),
    /// A member is going away.
    Leaving(NodeId, Incarnation),
    /// An incarnation is over.
    Dead(NodeId, Incarnation),
    /// A dead member is forgotten.
    Removed(NodeId),
    /// Partitions have another owner.
    Moved {
        /// How many.
        partitions: usize,
        /// From whom; zero is nobody.
        from: NodeId,
        /// To whom.
        to: NodeId,
    },
    /// Copies of partitions are being filled at a member.
    Filling {
        /// The member.
        node: NodeId,
        /// How many partitions.
        partitions: usize,
    },
    /// A member's copies are full: they are in sync from here on.
    Filled {
        /// The member.
        node: NodeId,
        /// How many partitions.
        partitions: usize,
    },
    /// A member's copies count no longer: it is dead, behind, or one more than is wanted.
    Dropped {
        /// The member.
        node: NodeId,
        /// How many partitions.
        partitions: usize,
    },
    /// No copy of these partitions is left but that of a member that is gone.
    Offline {
        /// The member.
        node: NodeId,
        /// How many partitions.
        partitions: usize,
    },
    /// What these partitions held is lost, and they take ticks again: their last in-sync member
    /// came back empty, or an operator gave them up.
    DataLost {
        /// The member that held them last.
        node: NodeId,
        /// How many partitions.
        partitions: usize,
    },
    /// A partition is to be at a member, as an operator wishes.
    Pinned(PartitionId, NodeId),
    /// A partition may be anywhere again.
    Unpinned(PartitionId),
    /// Symbol ids were issued.
    Interned {
        /// The first new id.
        first: u32,
        /// How many.
        count: u32,
    },
}
