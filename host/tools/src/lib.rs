//! Feeds, the demo with its proof, and the commands that ask a cluster.
//!
//! * [`feed`]: where rows come from; [`pump`] sends them through a producer.
//! * [`tally`], [`report`], [`rows`]: the demo's own account of what was sent, and the proof by
//!   content that all of it arrived.
//! * [`demo`], [`feed_cmd`], [`query_cmd`], [`status_cmd`], [`operate_cmd`], [`plugin_cmd`]: the
//!   commands of `zepto-host`, all but the node itself.
//! * [`argument`], [`format`](mod@format), [`failure`], [`secret`], [`signal`]: what the
//!   commands share.
//!
//! Architecture invariant: no protocol of its own, no node in its process, and no arithmetic shared
//! with the store whose answers [`tally`] checks.
#![forbid(unsafe_code)]

pub mod argument;
pub mod demo;
pub mod failure;
pub mod feed;
pub mod feed_cmd;
pub mod format;
pub mod operate_cmd;
pub mod plugin_cmd;
pub mod pump;
pub mod query_cmd;
pub mod report;
pub mod rows;
pub mod secret;
pub mod signal;
pub mod status_cmd;
pub mod tally;
