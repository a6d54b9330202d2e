//! The scenario of `--kill`: a node is lost in the midst of the feed, and comes back.
//!
//! It counts only if the fault really happened: that the process is gone by signal 9, or stood
//! still, that its death was declared and that its partitions went elsewhere is all looked at, and
//! not inferred from the command that was to bring it about. Every wait has a deadline.

use core::time::Duration;
use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use zepto_client::Client;
use zepto_core::topology::{MemberState, Placement};
use zepto_core::{Incarnation, NodeId};

use super::args::{Kill, Victim};
use super::cluster::Cluster;
use super::display::Display;
use super::form::{is_whole, shares};
use super::node::last_words;
use super::outage::Outage;
use crate::failure::Failure;
use crate::pump::Gauges;

/// Time for a signal to take effect.
const SIGNAL_WITHIN: Duration = Duration::from_secs(5);
/// Time for the survivors to declare the death.
const DECLARED_WITHIN: Duration = Duration::from_secs(30);
/// Time for every affected partition to take ticks again after that.
const TAKES_WITHIN: Duration = Duration::from_secs(60);
/// Time for a node that was declared dead while it stood still to find out and end.
const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// Time for the returned node to be filled and to have its share.
const REFILLED_WITHIN: Duration = Duration::from_secs(120);
/// Time for a node to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Time that one poll of a placement waits at its node.
const POLL_WAIT: Duration = Duration::from_secs(1);
/// Time between two looks at counters of this process.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Time between two tries at a node that did not answer.
const TRY_EVERY: Duration = Duration::from_millis(20);

/// What a node that was declared dead says before it ends.
const FINDS_ITSELF_DEAD: &str = "was declared DEAD";

/// What the scenario works with.
pub(super) struct Scenario<'a> {
    pub(super) kill: Kill,
    pub(super) victim: Victim,
    /// The row after which it happens.
    pub(super) half: u64,
    pub(super) cluster: &'a Cluster,
    pub(super) client: &'a Client,
    pub(super) gauges: &'a Gauges,
    pub(super) outage: &'a Outage,
    pub(super) display: &'a Display,
}

/// What it found.
#[derive(Clone, Debug)]
pub(super) struct Lived {
    pub(super) victim: String,
    /// From the kill until a survivor had the victim as dead.
    pub(super) detection: Duration,
    /// From its new start until the cluster was whole again.
    pub(super) refilled: Duration,
}

/// Who is killed, as the cluster knows it.
struct Target {
    name: String,
    node: NodeId,
    incarnation: Incarnation,
    leads: bool,
    owned: usize,
}

impl Target {
    fn is_dead(&self, placement: &Placement) -> bool {
        placement.member(self.node).is_some_and(|member| {
            member.incarnation == self.incarnation && member.state == MemberState::Dead
        })
    }

    fn has_returned(&self, placement: &Placement) -> bool {
        placement.member(self.node).is_some_and(|member| member.incarnation > self.incarnation)
    }
}

impl Scenario<'_> {
    /// The whole of it, beside the feed.
    pub(super) async fn run(&self) -> Result<Lived, Failure> {
        while self.gauges.sent() < self.half {
            sleep(LOOK_EVERY).await;
        }
        let (target, before) = self.choose().await?;
        let others: Vec<(String, String)> = {
            let members = self.cluster.members().into_iter();
            members.filter(|(name, _)| *name != target.name).collect()
        };
        let struck = self.strike(&target, &before).await?;
        let declared =
            self.first_to_see(&others, DECLARED_WITHIN, |placement| target.is_dead(placement));
        let (placement, at) = declared.await.map_err(|last| {
            let seconds = DECLARED_WITHIN.as_secs();
            not_so(&format!("{} is not declared DEAD after {seconds} s: {last}", target.name))
        })?;
        let detection = at.duration_since(struck);
        self.check_moved(&target, &placement)?;
        self.tell(&format!("{} declared DEAD after {} ms", target.name, detection.as_millis()));
        self.await_takeover(&target).await?;
        self.tell(&format!(
            "every partition takes ticks again {} ms after the kill",
            self.outage.measure(detection).length.as_millis()
        ));
        if self.kill == Kill::Pause {
            self.release(&target).await?;
        }
        let refilled = self.bring_back(&target).await?;
        self.tell(&format!(
            "{} has its share and its copies again after {} ms",
            target.name,
            refilled.as_millis()
        ));
        Ok(Lived { victim: target.name, detection, refilled })
    }

    fn tell(&self, what: &str) {
        self.display.tell(what);
    }

    /// Who is to be killed, and the placement just before.
    async fn choose(&self) -> Result<(Target, Placement), Failure> {
        let members = self.cluster.members();
        let (mut placement, mut leader) = (None, None);
        for (name, address) in &members {
            let failed = |error| Failure::of_client(&format!("demo: {name}"), &error);
            let status = self.client.status_at(address, ANSWER_WITHIN).await.map_err(failed)?;
            if status.leader {
                leader = Some(status.node);
            }
            let seen = self.client.placement_at(address, 0, Duration::ZERO).await;
            placement = Some(seen.map_err(failed)?);
        }
        let placement = placement.ok_or_else(|| not_so("no node answers"))?;
        let fed = |node: NodeId| self.outage.fed_to(&placement, node);
        let ids = || placement.members.iter().map(|member| member.id);
        let node = match &self.victim {
            Victim::Named(name) => placement.member_named(name).map(|member| member.id),
            Victim::Leader => leader,
            Victim::Any if leader.is_some_and(|leader| fed(leader) > 0) => leader,
            Victim::Any => ids().max_by_key(|node| fed(*node)),
            Victim::Follower => ids().filter(|id| Some(*id) != leader).max_by_key(|id| fed(*id)),
        };
        let member = node.and_then(|node| placement.member(node));
        let member = member.ok_or_else(|| not_so("the cluster has no leader to be killed"))?;
        if fed(member.id) == 0 {
            return Err(not_so(&format!(
                "no tick goes to a partition of {}, so nothing would fail over; choose another \
                 --victim",
                member.name
            )));
        }
        let target = Target {
            name: member.name.clone(),
            node: member.id,
            incarnation: member.incarnation,
            leads: leader == Some(member.id),
            owned: placement.owned_by(member.id).count(),
        };
        Ok((target, placement))
    }

    /// Kills it, makes sure that it is gone or stands still, and says when the signal was sent.
    async fn strike(&self, target: &Target, before: &Placement) -> Result<Instant, Failure> {
        let name = &target.name;
        let signal = match self.kill {
            Kill::Sigkill => Signal::KILL,
            Kill::Pause => Signal::STOP,
        };
        let struck = Instant::now();
        let sent = self.cluster.with(name, |node| {
            node.is_doomed = true;
            node.signal(signal)
        });
        sent.ok_or_else(|| not_so("the victim is gone"))??;
        match self.kill {
            Kill::Sigkill => {
                let status = self.cluster.exit_of(name, SIGNAL_WITHIN).await;
                if status.and_then(|status| status.signal()) != Some(Signal::KILL.as_raw()) {
                    return Err(not_so(&format!("{name} did not end by signal 9: {status:?}")));
                }
            }
            Kill::Pause => {
                if !self.cluster.stands_still(name, SIGNAL_WITHIN).await {
                    return Err(not_so(&format!("{name} does not stand still after SIGSTOP")));
                }
            }
        }
        self.outage.begin(struck, before, target.node);
        let what = match self.kill {
            Kill::Sigkill => "killed",
            Kill::Pause => "stopped",
        };
        let leads = if target.leads { ", which leads the control log," } else { "" };
        let sent = crate::format::count(self.gauges.sent());
        self.tell(&format!("{name}{leads} {what} after {sent} ticks"));
        Ok(struck)
    }

    /// Asks nodes directly, all at once, until the placement of one satisfies a condition: that
    /// placement, and when it came. Else what the last of them had.
    async fn first_to_see(
        &self,
        nodes: &[(String, String)],
        within: Duration,
        holds: impl Fn(&Placement) -> bool,
    ) -> Result<(Placement, Instant), String> {
        let mut polls = JoinSet::new();
        let poll = |address: String, after: u64| {
            let client = self.client.clone();
            async move {
                let polled = client.placement_at(&address, after, POLL_WAIT).await;
                let at = Instant::now();
                if polled.is_err() {
                    sleep(TRY_EVERY).await;
                }
                (address, after, polled, at)
            }
        };
        for (_, address) in nodes {
            polls.spawn(poll(address.clone(), 0));
        }
        let mut last = String::from("no node answers");
        let watched = timeout(within, async {
            while let Some(polled) = polls.join_next().await {
                let Ok((address, mut after, polled, at)) = polled else { continue };
                match polled {
                    Ok(placement) if holds(&placement) => return Some((placement, at)),
                    Ok(placement) => {
                        after = placement.index;
                        last = shares(&placement);
                    }
                    Err(error) => tracing::debug!(address, %error, "no placement"),
                }
                polls.spawn(poll(address, after));
            }
            None
        });
        let seen = watched.await.ok().flatten();
        seen.ok_or(last)
    }

    /// Its partitions went elsewhere, every one of them.
    fn check_moved(&self, target: &Target, placement: &Placement) -> Result<(), Failure> {
        let left = placement.owned_by(target.node).count();
        if target.owned == 0 || left > 0 {
            return Err(not_so(&format!(
                "{left} of {} partitions of {} have no other owner",
                target.owned, target.name
            )));
        }
        Ok(())
    }

    /// Waits until nothing waits any more that was sent to a partition of the victim.
    async fn await_takeover(&self, target: &Target) -> Result<(), Failure> {
        let until = Instant::now() + TAKES_WITHIN;
        while self.outage.is_on() {
            if Instant::now() >= until {
                return Err(not_so(&format!(
                    "partitions of {} take no ticks {} s after its death was declared",
                    target.name,
                    TAKES_WITHIN.as_secs()
                )));
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Lets a node that stands still go on. It must find out that it is dead, and end by itself.
    async fn release(&self, target: &Target) -> Result<(), Failure> {
        let name = &target.name;
        if !self.cluster.stands_still(name, Duration::ZERO).await {
            return Err(not_so(&format!("{name} did not stand still all the time")));
        }
        let sent = self.cluster.with(name, |node| node.signal(Signal::CONT));
        sent.ok_or_else(|| not_so("the victim is gone"))??;
        let log = self.cluster.log_of(name);
        let Some(status) = self.cluster.exit_of(name, ENDS_WITHIN).await else {
            let seconds = ENDS_WITHIN.as_secs();
            let text = format!("{name} goes on {seconds} s after SIGCONT although it is DEAD");
            return Err(not_so(&(text + &last_words(&log))));
        };
        let words = last_words(&log);
        if status.code() != Some(1) || !words.contains(FINDS_ITSELF_DEAD) {
            let text = format!("{name} did not end because it was declared DEAD: {status}");
            return Err(not_so(&(text + &words)));
        }
        self.tell(&format!("{name} went on, found itself declared DEAD, and ended by itself"));
        Ok(())
    }

    /// Starts it again, and waits until everything is as it was before.
    async fn bring_back(&self, target: &Target) -> Result<Duration, Failure> {
        let started = Instant::now();
        self.cluster.start_again(&target.name).await?;
        let members = self.cluster.members();
        if let Some(number) = members.iter().position(|(name, _)| *name == target.name) {
            let address = &members[number].1;
            self.display.node(number, &format!("{} serves again at {address}", target.name));
        }
        let seen = self.first_to_see(&members, REFILLED_WITHIN, |placement| {
            target.has_returned(placement) && is_whole(placement, members.len())
        });
        let (_, at) = seen.await.map_err(|last| {
            let seconds = REFILLED_WITHIN.as_secs();
            not_so(&format!("the cluster is not whole again after {seconds} s: {last}"))
        })?;
        Ok(at.duration_since(started))
    }
}

fn not_so(what: &str) -> Failure {
    Failure::failed("demo: --kill", what)
}
