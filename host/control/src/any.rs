//! The control log of a node whose role is decided at run time, without a vtable.

use crate::follower::{Follower, LeaderLink};
use crate::single::Single;
use crate::{BarrierError, Command, ControlLog, Outcome, State};
use core::time::Duration;
use std::sync::Arc;

/// Either form of the log. Clones are the same log.
#[derive(Debug)]
pub enum AnyLog<L> {
    /// This node keeps the log.
    Single(Arc<Single>),
    /// Another node keeps it.
    Follower(Arc<Follower<L>>),
}

impl<L> Clone for AnyLog<L> {
    fn clone(&self) -> Self {
        match self {
            Self::Single(log) => Self::Single(Arc::clone(log)),
            Self::Follower(log) => Self::Follower(Arc::clone(log)),
        }
    }
}

impl<L: LeaderLink> ControlLog for AnyLog<L> {
    async fn propose(&self, command: Command, deadline: Duration) -> Outcome {
        match self {
            Self::Single(log) => log.propose(command, deadline).await,
            Self::Follower(log) => log.propose(command, deadline).await,
        }
    }

    async fn read_barrier(&self, deadline: Duration) -> Result<u64, BarrierError> {
        match self {
            Self::Single(log) => log.read_barrier(deadline).await,
            Self::Follower(log) => log.read_barrier(deadline).await,
        }
    }

    fn state(&self) -> &Arc<State> {
        match self {
            Self::Single(log) => log.state(),
            Self::Follower(log) => log.state(),
        }
    }
}
