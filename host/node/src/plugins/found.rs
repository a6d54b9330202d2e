//! Who founds a new cluster when discovery names several nodes that belong to none: the one with
//! the lowest id, once as many are there as are expected, and once all of them have promised to
//! wait for it. A node promises that to one other only, so two that know each other never found
//! two clusters.

use super::Seeds;
use crate::service::Service;
use crate::wire::Wire;
use core::time::Duration;
use std::sync::{Mutex, PoisonError};
use tokio::time::{Instant, sleep};
use zepto_client::ask;
use zepto_client::message::{Request, Response, Standing};
use zepto_plugin::plugins::Plugins;

/// Time for one node to say how it stands.
const ASK_WITHIN: Duration = Duration::from_secs(1);
/// Pause between two rounds.
const ROUND_PAUSE: Duration = Duration::from_millis(200);
/// How long a promise holds without being renewed.
const PROMISE: Duration = Duration::from_secs(10);
/// How long the answer of discovery must stay the same where nobody said how many nodes to expect.
const SETTLED_AFTER: Duration = Duration::from_secs(3);
/// Time between two log lines about what is awaited.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How this node stands before it belongs to a cluster.
#[derive(Debug, Default)]
pub(crate) struct Founding(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    /// It does not know yet whether it belongs to one.
    #[default]
    Unknown,
    /// It belongs to none, and has promised perhaps to wait for somebody.
    Free(Option<(String, Instant)>),
    /// It founds one, or belongs to one.
    Settled,
}

impl Founding {
    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Its log is empty, and its data directory belongs to no cluster.
    pub fn set_free(&self) {
        self.with(|state| *state = State::Free(None));
    }

    /// It belongs to a cluster.
    pub fn settle(&self) {
        self.with(|state| *state = State::Settled);
    }

    /// What another one is told. If it claims to found a cluster, that is a promise, unless one is
    /// given to somebody else already.
    pub fn answer(&self, who: &str, claims: bool) -> Standing {
        self.with(|state| match state {
            State::Unknown => Standing::Unknown,
            State::Settled => Standing::Belongs,
            State::Free(promise) => {
                let now = Instant::now();
                match promise {
                    Some((other, at)) if other != who && now < *at + PROMISE => {
                        Standing::Promised { to: other.clone() }
                    }
                    _ => {
                        if claims {
                            *promise = Some((who.to_owned(), now));
                        }
                        Standing::Waits
                    }
                }
            }
        })
    }

    /// Whether it may found one itself: it has promised to wait for nobody. If so, it promises
    /// nothing any more.
    fn claim(&self, own: &str) -> bool {
        matches!(self.answer(own, true), Standing::Waits)
    }
}

/// What a round has shown.
enum Round {
    /// There is a cluster: join it.
    Join,
    /// There is none, and all others wait for this node.
    Found,
    /// Not yet; why.
    Wait(String),
}

/// Whether this node, which belongs to no cluster, is to found one; it is to join one otherwise.
/// Waits as long as that is open.
pub(crate) async fn may_found<T: Wire>(
    service: &Service<T>,
    seeds: &Seeds,
    expect: Option<u16>,
) -> bool {
    service.founding.set_free();
    let (mut told, mut seen): (Option<Instant>, Option<(Vec<_>, Instant)>) = (None, None);
    loop {
        let others = seeds.discovered();
        let now = Instant::now();
        let since = match &seen {
            Some((before, since)) if *before == others => *since,
            _ => now,
        };
        seen = Some((others.clone(), since));
        let is_settled = expect.is_some() || now >= since + SETTLED_AFTER;
        let why = match round(service, seeds, &others, expect).await {
            Round::Join => return false,
            Round::Found if is_settled => return true,
            Round::Found => "discovery to settle".to_owned(),
            Round::Wait(why) => why,
        };
        if told.is_none_or(|at| now >= at + TELL_EVERY) {
            tracing::info!("not in a cluster yet, waiting for {why}");
            told = Some(now);
        }
        sleep(ROUND_PAUSE).await;
    }
}

async fn round<T: Wire>(
    service: &Service<T>,
    seeds: &Seeds,
    others: &[(String, String)],
    expect: Option<u16>,
) -> Round {
    let configured = seeds.configured();
    let mut missing = None;
    for address in &configured {
        match standing(service, address, false).await {
            Some(Standing::Belongs) => return Round::Join,
            Some(_) => {}
            None => missing = Some(format!("the seed {address}")),
        }
    }
    // Seeds say that there is a cluster, unless it is said how many nodes are to make one.
    if !configured.is_empty() && expect.is_none() {
        return Round::Wait(format!("a cluster at {}", configured.join(", ")));
    }
    if !service.plugins.get().is_some_and(has_answered) {
        return Round::Wait("the first answer of discovery".into());
    }
    let (there, wanted) = (others.len() + 1, usize::from(expect.unwrap_or(1)));
    let lower = others.iter().map(|(id, _)| id).filter(|id| **id < service.name).min();
    // Only who is to found it asks for promises; the others look whether it has.
    let claims = there >= wanted && lower.is_none();
    let mut promised = None;
    for (id, address) in others {
        match standing(service, address, claims).await {
            Some(Standing::Belongs) => return Round::Join,
            Some(Standing::Waits) => {}
            Some(Standing::Promised { to }) => promised = Some(format!("{to}, as {id} does")),
            Some(Standing::Unknown) | None => missing = Some(format!("{id} at {address}")),
        }
    }
    if there < wanted {
        return Round::Wait(format!("{wanted} nodes (--expect), {there} are known"));
    }
    if let Some(lower) = lower {
        return Round::Wait(format!("{lower} to found a cluster: its id is the lowest"));
    }
    if let Some(whom) = promised.or(missing) {
        return Round::Wait(whom);
    }
    if service.founding.claim(&service.name) {
        Round::Found
    } else {
        Round::Wait("another founder".into())
    }
}

/// How another node stands.
async fn standing<T: Wire>(service: &Service<T>, address: &str, claims: bool) -> Option<Standing> {
    let request = Request::Found { name: service.name.clone(), claims };
    match ask(&service.peers, address, &request, ASK_WITHIN).await {
        Ok(Response::Standing(standing)) => Some(standing),
        _ => None,
    }
}

/// Whether discovery has said anything yet.
fn has_answered(plugins: &Plugins) -> bool {
    let mut reports = plugins.reports().into_iter();
    reports.any(|report| report.discovery.is_some_and(|told| told.answered.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_promises_to_wait_for_one_founder_only() {
        let founding = Founding::default();
        assert_eq!(founding.answer("a", true), Standing::Unknown);
        founding.set_free();
        assert_eq!(founding.answer("b", false), Standing::Waits, "it only looks");
        assert_eq!(founding.answer("a", true), Standing::Waits);
        assert_eq!(founding.answer("b", true), Standing::Promised { to: "a".into() });
        assert_eq!(founding.answer("a", true), Standing::Waits, "renewed");
        assert!(!founding.claim("c"), "it waits for another");
        founding.settle();
        assert_eq!(founding.answer("a", true), Standing::Belongs);
    }

    #[tokio::test(start_paused = true)]
    async fn a_promise_that_is_not_renewed_ends() {
        let founding = Founding::default();
        founding.set_free();
        assert_eq!(founding.answer("a", true), Standing::Waits);
        tokio::time::advance(PROMISE - Duration::from_millis(1)).await;
        assert!(!founding.claim("b"));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(founding.claim("b"));
        assert_eq!(founding.answer("a", true), Standing::Promised { to: "b".into() });
    }
}
