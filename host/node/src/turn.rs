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
            Outcome::Refused { why: Reason::InFlight(_), .. } if left > 2 * AGAIN_AFTER => {
                sleep(AGAIN_AFTER).await;
            }
            outcome => return Ok(outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::StubLog;
    use core::convert::Infallible;
    use zepto_control::Subject;
    use zepto_core::{Incarnation, NodeId};

    async fn outcome(refusals: u32) -> Outcome {
        let command = Command::Activate { node: NodeId(1), incarnation: Incarnation(1) };
        let same = |_: &_| Ok::<_, Infallible>(command.clone());
        let log = StubLog::new(refusals);
        let Ok(outcome) = propose_in_turn(&log, Duration::from_secs(1), same).await;
        outcome
    }

    #[tokio::test(start_paused = true)]
    async fn a_proposal_waits_until_another_one_about_its_subject_has_an_answer() {
        assert_eq!(outcome(20).await, Outcome::Committed { index: 7 });
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_waited_in_vain_says_what_was_in_flight() {
        let why = Reason::InFlight(Subject::Cluster);
        assert_eq!(outcome(u32::MAX).await, Outcome::Refused { index: None, why });
    }
}
