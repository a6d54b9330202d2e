//! What can be asked of the ticks, its legs, and what comes back.

use serde::{Deserialize, Serialize};
use zepto_core::Epoch;
use zepto_store::query::{Aggregate, Bar, KindSet, Position, Summary, TimeRange};

/// A query over the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// What is asked.
    pub ask: Ask,
    /// An answer without the owners that failed is wanted rather than an error.
    pub partial: bool,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// Every symbol's summary.
    Summary,
    /// One symbol.
    Series {
        /// Table of the symbol.
        table: u16,
        /// Its name.
        symbol: String,
        /// Event times.
        range: TimeRange,
        /// What of it.
        of: Of,
    },
}

/// What of one series.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Of {
    /// Counts by kind, span and the trades' aggregate.
    Summary,
    /// The aggregate of some kinds: vwap and the like.
    Aggregate(KindSet),
    /// The last tick of some kinds.
    Last(KindSet),
    /// Bars of some kinds.
    Bars {
        /// Length of a bar in nanoseconds, not zero.
        interval_ns: u64,
        /// Which kinds.
        kinds: KindSet,
        /// Most bars to answer.
        limit: u32,
    },
    /// The ticks themselves, in order, page by page.
    Range {
        /// Go on after this one.
        after: Option<Position>,
        /// Most ticks to answer.
        limit: u32,
    },
    /// The ticks in the order in which they came; the range of time is of no matter.
    Since {
        /// Of which life of the partition `from` is; in another one everything is new. `None` on
        /// the first look.
        life: Option<Epoch>,
        /// Those with this sequence of the partition, and more; more than any is none yet.
        from: u64,
        /// Most ticks to answer.
        limit: u32,
    },
}

/// One owner's part of a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leg {
    /// Summaries of every series of the partitions the owner owns; `ownership` is the digest of
    /// them and their epochs as the asker's view has them.
    Summary {
        /// The digest, compared with `==`.
        ownership: u64,
    },
    /// One series.
    Series {
        /// Table of the symbol.
        table: u16,
        /// Its id.
        symbol: u32,
        /// The partition's epoch as the asker's view has it, compared with `==`.
        epoch: Epoch,
        /// Event times.
        range: TimeRange,
        /// What of it.
        of: Of,
    },
}

/// An owner's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Part {
    /// Of [`Leg::Summary`]: (table, symbol, summary).
    Summaries(Vec<(u16, u32, Summary)>),
    /// Of [`Of::Summary`].
    Summary(Summary),
    /// Of [`Of::Aggregate`].
    Aggregate(Aggregate),
    /// Of [`Of::Last`]: a tick as its eight words.
    Last(Option<[u64; 8]>),
    /// Of [`Of::Bars`].
    Bars {
        /// The bars that have ticks, in order.
        bars: Vec<Bar>,
        /// Where the next bar starts when the limit cut them.
        next_ns: Option<u64>,
    },
    /// Of [`Of::Range`]: ticks as their eight words.
    Range {
        /// The ticks, in order.
        ticks: Vec<[u64; 8]>,
        /// Where to go on when the limit cut them.
        next: Option<Position>,
    },
    /// Of [`Of::Since`]: ticks as their eight words.
    Since {
        /// The ticks, in the order in which they came.
        ticks: Vec<[u64; 8]>,
        /// The partition's life: since when it goes on without having begun empty.
        life: Epoch,
        /// From which sequence the next ones are new.
        next: u64,
    },
}

/// The cluster's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// What was asked for; summaries carry names.
    pub body: AnswerBody,
    /// Owners whose part is missing; empty unless a partial answer was asked for.
    pub missing: Vec<Missing>,
}

/// The body of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AnswerBody {
    /// To [`Ask::Summary`]: (table, name, summary), sorted.
    Summaries(Vec<(u16, String, Summary)>),
    /// To [`Ask::Series`]; `None` when the owner's part is missing.
    Series(Option<Part>),
}

/// An owner that did not give its part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Its text id.
    pub node: String,
    /// What happened.
    pub why: String,
}
