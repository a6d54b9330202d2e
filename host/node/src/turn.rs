//! Proposals that wait for their turn: while another one about the same subject has no answer yet,
//! the log takes none (C7), and a moment later it does.

use core::time::Duration;
use tokio::time::{Instant, sleep};
use zepto_control::{Command, ControlLog, Outcome, Reason};
use zepto_core::topology::Placement;

/// Pause before a proposal whose subject is in flight is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Proposes what `command` makes of the placement, each time anew, until the log has an answer to
/// it or the time is up; then the answer says that another one was in flight.
///
/// # Errors
/// Those of `command`.
pub(crate) async fn propose_in_turn<E>(
    log: &impl ControlLog,
    within: Duration,
    command: impl Fn(&Placement) -> Result<Command, E>,
) -> Result<Outcome, E> {
    let until = Instant::now() + within;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let command = command(log.state().view().placement())?;
        match log.propose(command, left).await {
            Outcome::Refused { why: Reason::InFlight(_), .. } if left > AGAIN_AFTER => {
                sleep(AGAIN_AFTER).await;
            }
            outcome => return Ok(outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::convert::Infallible;
    use core::sync::atomic::{AtomicU32, Ordering};
    use std::sync::Arc;
    use zepto_control::{BarrierError, State, Subject};
    use zepto_core::{Incarnation, NodeId};

    /// A log that has another proposal in flight for a while.
    struct Taken {
        state: Arc<State>,
        answers: AtomicU32,
    }

    impl ControlLog for Taken {
        async fn propose(&self, _command: Command, _deadline: Duration) -> Outcome {
            if self.answers.fetch_sub(1, Ordering::Relaxed) > 1 {
                let why = Reason::InFlight(Subject::Cluster);
                return Outcome::Refused { index: None, why };
            }
            Outcome::Committed { index: 7 }
        }

        async fn read_barrier(&self, _deadline: Duration) -> Result<u64, BarrierError> {
            Ok(0)
        }

        fn state(&self) -> &Arc<State> {
            &self.state
        }
    }

    async fn outcome(after: u32, within: Duration) -> Outcome {
        let (state, _applier) = State::new(Box::new(|_, _| {}));
        let log = Taken { state, answers: AtomicU32::new(after) };
        let command = Command::Activate { node: NodeId(1), incarnation: Incarnation(1) };
        let same = |_: &_| Ok::<_, Infallible>(command.clone());
        let Ok(outcome) = propose_in_turn(&log, within, same).await;
        outcome
    }

    #[tokio::test(start_paused = true)]
    async fn a_proposal_waits_until_another_one_about_its_subject_has_an_answer() {
        assert_eq!(outcome(20, Duration::from_secs(1)).await, Outcome::Committed { index: 7 });
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_waited_in_vain_says_what_was_in_flight() {
        let refused = outcome(u32::MAX, Duration::from_secs(1)).await;
        let why = Reason::InFlight(Subject::Cluster);
        assert_eq!(refused, Outcome::Refused { index: None, why });
    }
}
