//! How things end: the status of a call, and the reason of a refusal.
//!
//! The numbers are stable: C programs switch on them and lanes carry them.

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident: $inner:ty {
        $($(#[$vdoc:meta])* $variant:ident = $value:literal, $text:literal;)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[non_exhaustive]
        #[repr($inner)]
        pub enum $name { $($(#[$vdoc])* $variant = $value,)* }

        impl $name {
            /// Every code, in numeric order of declaration.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// The number that crosses the boundary.
            pub const fn code(self) -> $inner {
                self as $inner
            }

            /// The code for a number, or `None` for one this version does not know.
            pub const fn from_code(code: $inner) -> Option<Self> {
                match code {
                    $($value => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// A short text for people.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.text())
            }
        }
    };
}

pub(crate) use codes;

codes! {
    /// Result of a call over the C interface: zero, or a negative number.
    Status: i32 {
        /// It happened.
        Ok = 0, "ok";
        /// An argument is wrong: null, bad UTF-8, a size too small.
        Invalid = -1, "invalid argument";
        /// This build or this peer cannot do it.
        Unsupported = -2, "unsupported";
        /// Not permitted.
        Denied = -3, "denied";
        /// No such thing.
        NotFound = -4, "not found";
        /// Beyond a limit.
        TooBig = -5, "too big";
        /// No memory for it.
        NoMemory = -6, "out of memory";
        /// No room now; try again.
        Busy = -7, "busy";
        /// The deadline passed; it may or may not have happened.
        Timeout = -8, "deadline passed";
        /// Given up by the caller.
        Canceled = -9, "canceled";
        /// Not allowed in this state: not started, closed, forked.
        BadState = -10, "not allowed in this state";
        /// Called from inside a callback where that is not allowed.
        Reentrant = -11, "called from inside a callback";
        /// The cluster refused it; the refusal says why.
        Refused = -12, "refused";
        /// The operating system failed.
        Io = -13, "input/output error";
        /// A defect in zepto.
        Internal = -14, "internal error";
        /// A panic was caught at the boundary; the handle only frees.
        Panic = -15, "panic";
        /// Versions do not fit.
        Version = -16, "version mismatch";
    }
}

codes! {
    /// Why a tick, or a request, was refused. A refused tick is not stored.
    Refusal: u16 {
        /// The receiver does not own the partition in its installed view. Resent by the producer
        /// to the owner of a newer view.
        NotOwner = 1, "not the owner of the partition";
        /// The epoch carried is older than the receiver's.
        StaleEpoch = 2, "stale epoch";
        /// The epoch carried is newer than the receiver's, which asks the log.
        AheadEpoch = 3, "epoch not installed here yet";
        /// A gap in the producer's sequence of this partition.
        OutOfOrder = 4, "gap in the producer's sequence";
        /// Older than the producer's window.
        TooOld = 5, "older than the producer's window";
        /// The producer is not known here: it expired, or the partition lost its data.
        UnknownProducer = 6, "unknown producer";
        /// The symbol id was never issued.
        UnknownSymbol = 7, "unknown symbol";
        /// Fewer reachable copies than declared.
        NotEnoughCopies = 8, "not enough copies";
        /// A budget is exhausted; try again later.
        Overloaded = 9, "overloaded";
        /// The partition has no owner that lives.
        Offline = 10, "partition offline";
        /// No control log leader to decide it.
        NoLeader = 11, "no leader";
        /// The node is stopping.
        Draining = 12, "draining";
        /// The record is not a valid tick.
        Malformed = 13, "malformed record";
        /// The node has not joined yet.
        NotReady = 14, "not ready";
        /// A fixed limit is reached.
        LimitReached = 15, "limit reached";
    }
}
