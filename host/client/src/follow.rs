//! Following the placement at two members at a time.
//!
//! A member may hang, be stopped, or be cut off from the rest of the cluster and not know it. One
//! that is followed alone would hide everything that happens meanwhile; of two, the news come from
//! whichever has them first.

use crate::client::Inner;
use core::time::Duration;
use std::sync::{Mutex, PoisonError, Weak};

/// Members that are followed at the same time.
pub(crate) const FOLLOWED: usize = 2;
/// Time that one poll may wait at its member.
const POLL_WAIT: Duration = Duration::from_secs(5);
/// Pause after a member that did not answer, and where there is nobody else to follow.
const PAUSE: Duration = Duration::from_millis(100);

/// Who is followed now, by follower.
#[derive(Default)]
pub(crate) struct Followed(Mutex<[Option<String>; FOLLOWED]>);

impl Followed {
    /// Finds a member for a follower that nobody else follows, and notes it: the one it has, or the
    /// next one when that failed.
    fn choose(&self, follower: usize, addresses: &[String], failed: bool) -> Option<String> {
        let mut followed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = followed[follower].take();
        let others = |address: &String| followed.iter().flatten().any(|other| other == address);
        let chosen = next(addresses, mine.as_deref(), failed, others).cloned();
        followed[follower].clone_from(&chosen);
        chosen
    }
}

/// The address to follow: `mine` unless it failed or is gone, then the ones behind it, in a circle.
fn next<'a>(
    addresses: &'a [String],
    mine: Option<&str>,
    failed: bool,
    taken: impl Fn(&String) -> bool,
) -> Option<&'a String> {
    let place = mine.and_then(|mine| addresses.iter().position(|address| address == mine));
    let start = place.map_or(0, |place| place + usize::from(failed));
    let (before, behind) = addresses.split_at(start.min(addresses.len()));
    behind.iter().chain(before).find(|address| !taken(address))
}

/// One of the followers. Ends with the last handle.
pub(crate) async fn follow(client: Weak<Inner>, follower: usize) {
    let mut failed = false;
    while let Some(inner) = client.upgrade() {
        let chosen = inner.followed.choose(follower, &inner.addresses(), failed);
        failed = match &chosen {
            Some(address) => inner.poll_at(address, POLL_WAIT).await.is_err(),
            None => true,
        };
        if failed {
            drop(inner);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn two_followers_are_never_at_the_same_member_and_leave_one_that_fails() {
        let (followed, three) = (Followed::default(), addresses(&["a", "b", "c"]));
        assert_eq!(followed.choose(0, &three, false).unwrap(), "a");
        assert_eq!(followed.choose(1, &three, true).unwrap(), "b");
        assert_eq!(followed.choose(0, &three, false).unwrap(), "a", "it stays as long as it works");
        assert_eq!(followed.choose(0, &three, true).unwrap(), "c");
        assert_eq!(followed.choose(0, &three, true).unwrap(), "a", "in a circle, past the other's");
        let without_a = addresses(&["b", "c"]);
        assert_eq!(followed.choose(0, &without_a, false).unwrap(), "c");
    }

    #[test]
    fn one_member_has_one_follower_who_tries_it_again() {
        let (followed, one) = (Followed::default(), addresses(&["a"]));
        assert_eq!(followed.choose(0, &one, false).unwrap(), "a");
        assert_eq!(followed.choose(1, &one, false), None);
        assert_eq!(followed.choose(0, &one, true).unwrap(), "a");
        assert_eq!(followed.choose(0, &[], true), None);
    }
}
