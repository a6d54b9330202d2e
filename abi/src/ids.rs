//! Identities. Newtypes without arithmetic, so that one cannot be taken for another.

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[repr(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A node's number, issued by the control log for its text id and never used twice.
    /// Zero is nobody.
    NodeId(u32)
}
id! {
    /// Which life of a node this is: grows at every start of its process.
    Incarnation(u64)
}
id! {
    /// A partition, below the cluster's partition count.
    PartitionId(u32)
}
id! {
    /// The index of the log entry that last changed a partition's owner or copies. Only the log
    /// issues it; it is compared with `==` and there is no value that bypasses the comparison.
    Epoch(u64)
}
id! {
    /// A producer, 64 fresh random bits per open.
    ProducerId(u64)
}
