//! Planted defects: what the simulator must catch to be believed.
//!
//! One feature compiles them in and a thread-local choice switches one on, so that one build
//! serves them all. Without the feature, [`Defect::planted`] is the constant `false`.

/// A defect that a cluster really had, or nearly had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// The dedupe keeps one high-water mark for a producer across all its partitions.
    DedupeAcrossPartitions,
    /// A carried epoch equal or older is accepted.
    OldEpochAccepted,
    /// A batch is acknowledged before its replicas confirmed it.
    AckBeforeReplicas,
    /// A producer resends to a new owner in any order but the lane's.
    ResendOutOfOrder,
    /// A producer forgets what an abandoned lane had not settled.
    WindowForgotten,
    /// A paused observer accuses everybody when it wakes.
    PausedObserverAccuses,
    /// A replica believes an owner's message about a newer epoch.
    EpochFromMessage,
    /// A batch is acknowledged once what was sent before it is confirmed.
    AckByEarlierBatch,
    /// An owner takes a replica's refusal for a confirmation.
    RefusalCountsAsTaken,
    /// A node that comes back empty still counts as an in-sync replica.
    EmptyReplicaInSync,
    /// A producer goes on sending to the owner that an older view named.
    StaleRoute,
    /// A replica's lane breaks, and what it had not confirmed counts as confirmed.
    LostLaneCountsAsTaken,
    /// A copy is said to be full before it is.
    CountedBeforeFull,
    /// Rows of a copy are numbered as they come, not as their owner numbered them.
    CopyWithoutIdentity,
    /// What a repair brings is appended to a copy that has it already.
    RepairAppendsTwice,
    /// A copy knows of ticks whose rows have not come yet.
    DedupeAheadOfContent,
    /// Who is promoted takes what it has acknowledged for what all have.
    AcknowledgedIsSettled,
    /// A copy that was said to be full, and may be in sync by now, holds up nothing that it lacks.
    SaidFullHoldsNothingUp,
    /// A lane runs further ahead of the others than its replica takes for possible.
    LanesOutOfStep,
}

impl Defect {
    /// Every defect, for the test that plants them one after another.
    pub const ALL: &'static [Self] = &[
        Self::DedupeAcrossPartitions,
        Self::OldEpochAccepted,
        Self::AckBeforeReplicas,
        Self::ResendOutOfOrder,
        Self::WindowForgotten,
        Self::PausedObserverAccuses,
        Self::EpochFromMessage,
        Self::AckByEarlierBatch,
        Self::RefusalCountsAsTaken,
        Self::EmptyReplicaInSync,
        Self::StaleRoute,
        Self::LostLaneCountsAsTaken,
        Self::CountedBeforeFull,
        Self::CopyWithoutIdentity,
        Self::RepairAppendsTwice,
        Self::DedupeAheadOfContent,
        Self::AcknowledgedIsSettled,
        Self::SaidFullHoldsNothingUp,
        Self::LanesOutOfStep,
    ];

    /// Whether this defect is switched on in this thread.
    #[cfg(feature = "defects")]
    pub fn planted(self) -> bool {
        PLANTED.with(|planted| planted.get() == Some(self))
    }

    /// Whether this defect is switched on: never, in a build without the feature.
    #[cfg(not(feature = "defects"))]
    #[inline(always)]
    pub const fn planted(self) -> bool {
        false
    }
}

#[cfg(feature = "defects")]
std::thread_local! {
    static PLANTED: core::cell::Cell<Option<Defect>> = const { core::cell::Cell::new(None) };
}

/// Switches one defect on in this thread, or all of them off.
#[cfg(feature = "defects")]
pub fn plant(defect: Option<Defect>) {
    PLANTED.with(|planted| planted.set(defect));
}
