//! Waiting for the topology to change.

use core::time::Duration;
use zepto_control::State;
use zepto_control::state::WaitError;

/// Returns once more than `index` is applied, or the time is up; also when the log has ended, but
/// then not before the time is up, so that a loop around it never spins.
pub(crate) async fn beyond(state: &State, index: u64, within: Duration) {
    if let Err(WaitError::Ended { .. }) = state.wait_for(index + 1, within).await {
        tokio::time::sleep(within).await;
    }
}
