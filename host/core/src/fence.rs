//! The fence: the one place where a carried epoch meets a held one.
//!
//! Comparison is `==`. There is no value that bypasses it, and a message can never raise what is
//! held: an epoch from the future only tells the receiver to ask the log. Called at replicate,
//! copy, delete and owner-read.

use crate::defect::Defect;
use zepto_abi::{Epoch, Refusal};

/// Passes exactly the epoch that is held.
///
/// # Errors
/// `StaleEpoch` when the carrier is behind, `AheadEpoch` when the holder is.
#[inline]
pub fn check(held: Epoch, carried: Epoch) -> Result<(), Refusal> {
    let planted = match carried < held {
        true => Defect::OldEpochAccepted.planted(),
        false => Defect::EpochFromMessage.planted(),
    };
    if carried == held || planted {
        Ok(())
    } else if carried < held {
        Err(Refusal::StaleEpoch)
    } else {
        Err(Refusal::AheadEpoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_held_epoch_passes() {
        for held in [0, 1, 7, u64::MAX] {
            for carried in [0, 1, 6, 7, 8, u64::MAX - 1, u64::MAX] {
                let expected = match carried {
                    c if c == held => Ok(()),
                    c if c < held => Err(Refusal::StaleEpoch),
                    _ => Err(Refusal::AheadEpoch),
                };
                assert_eq!(check(Epoch(held), Epoch(carried)), expected);
            }
        }
    }
}
