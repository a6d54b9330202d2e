//! Three voters on files: elections, commits, losses, restarts, and changes of who votes.

use super::fleet::{Fleet, committed, names};
use crate::raft::types::Bytes;
use crate::raft::{Compaction, Demoted, HandleError, Peer, PeerRole};
use crate::testing::{LONG, activate, bootstrap, intern, join};
use crate::{Command, ControlLog, Outcome, Reason};
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::collections::BTreeSet;
use tokio::time::{sleep, timeout};

const NAMES: [&str; 3] = ["a", "b", "c"];

#[tokio::test(flavor = "multi_thread")]
async fn three_voters_elect_one_leader_and_commit_from_any_node() {
    let fleet = Fleet::of(&NAMES).await;
    fleet.commit("a", bootstrap()).await;
    for name in NAMES {
        fleet.commit(name, join(name, 1)).await;
        for command in names(name, 20) {
            let index = fleet.commit(name, command).await;
            assert!(fleet.raft(name).state().index() >= index, "answered before it was applied");
        }
    }
    fleet.agree().await;
    let leaders = fleet.nodes.values().filter(|node| node.raft.is_leader()).count();
    assert_eq!(leaders, 1);
    for name in NAMES {
        let raft = fleet.raft(name);
        assert_eq!(raft.state().symbols_len(), 60);
        let index = raft.read_barrier(LONG).await.unwrap();
        assert!(index >= 64 && raft.state().index() >= index);
        assert_eq!(raft.leader().unwrap().id, fleet.leader().await.id());
        assert_eq!(raft.status().voters.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_leader_is_lost_another_one_leads_and_nothing_acknowledged_is_lost() {
    let mut fleet = Fleet::of(&NAMES).await;
    fleet.commit("a", bootstrap()).await;
    for round in 0..3 {
        let lost = fleet.name_of(fleet.leader().await.id());
        let prefix = format!("{round}-");
        for command in names(&prefix, 30) {
            fleet.commit(lost, command).await;
        }
        fleet.stop(lost).await;
        let left = fleet.name_of(fleet.leader().await.id());
        assert_ne!(left, lost);
        fleet.commit(left, intern(&format!("after-{round}"))).await;
        let index = fleet.start(lost).await.read_barrier(LONG).await.unwrap();
        let state = fleet.raft(lost).state().clone();
        assert!(state.index() >= index);
        for earlier in 0..=round {
            assert!((0..30).all(|i| state.symbol_id(&format!("{earlier}-{i}")).is_some()));
        }
    }
    fleet.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn voters_restart_in_any_order_and_go_on_where_they_were() {
    let mut fleet = Fleet::of(&NAMES).await;
    fleet.commit("a", bootstrap()).await;
    let ids = NAMES.map(|name| fleet.raft(name).id());
    for order in [["a", "b", "c"], ["c", "b", "a"], ["b", "a", "c"]] {
        let before = fleet.commit(order[0], intern(&order.join("-"))).await;
        let mut known = Vec::new();
        for name in order {
            known.push(fleet.raft(name).state().position());
            fleet.stop(name).await;
        }
        for (name, position) in order.into_iter().rev().zip(known.into_iter().rev()) {
            let raft = fleet.start(name).await;
            // What it had noted is there at once, without anybody's help.
            assert!(raft.state().position().index <= position.index.max(before));
            assert!(!raft.is_fresh());
        }
        for name in order {
            fleet.raft(name).recovered(LONG).await.unwrap();
            assert!(fleet.raft(name).state().symbol_id(&order.join("-")).is_some());
        }
        fleet.agree().await;
    }
    assert_eq!(NAMES.map(|name| fleet.raft(name).id()), ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_log_begins_with_all_that_it_had_applied() {
    let mut fleet = Fleet::of(&["a"]).await;
    fleet.commit("a", bootstrap()).await;
    let index = fleet.commit("a", intern("x")).await;
    fleet.stop("a").await;
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = std::sync::Arc::clone(&told);
    let link = super::fleet::Port(std::sync::Arc::clone(&fleet.switch));
    let times = crate::raft::Times::FAST;
    let events = Box::new(move |index, _| sink.lock().unwrap().push(index));
    let (log, worker) =
        crate::raft::Raft::open(&fleet.path("a"), ("a", "a"), link, times, events).unwrap();
    let worker = crate::testing::on_a_thread(move || worker.run());
    let raft = log.start().await.unwrap();
    assert!(raft.state().index() >= index);
    assert!(told.lock().unwrap().is_empty(), "events of an earlier life are told again");
    let index = committed(raft.propose(intern("y"), LONG).await);
    assert_eq!(*told.lock().unwrap(), [index]);
    raft.stop().await;
    worker.join().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_lost_its_file_is_another_voter_and_cannot_vote_as_its_old_self() {
    let mut fleet = Fleet::of(&NAMES).await;
    fleet.commit("a", bootstrap()).await;
    let old = fleet.raft("c").id();
    fleet.stop("c").await;
    std::fs::remove_file(fleet.path("c")).unwrap();
    let raft = fleet.start("c").await;
    assert!(raft.is_fresh() && raft.id() != old);
    // The others still send to the old voter at this address.
    fleet.commit("a", intern("x")).await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!((raft.term(), raft.state().index()), (0, 0));
    let envelope = crate::raft::wire::Envelope {
        from: 1,
        to: old,
        request: crate::raft::wire::Request::Barrier { deadline_ms: 1 },
    };
    let message = crate::raft::wire::encode(&envelope).unwrap();
    let refused = raft.handle(message).await.unwrap_err();
    assert_eq!(refused, HandleError::OtherPeer { wanted: old, me: raft.id() });
    // It comes back as a new peer in place of the old one, and then votes.
    let refused = fleet.admit("c", false).await;
    assert!(matches!(refused, Outcome::Refused { why: Reason::Invalid(_), .. }), "{refused:?}");
    committed(fleet.admit("c", true).await);
    let leader = fleet.leader().await;
    let ids: BTreeSet<u64> = leader.peers().iter().map(|(peer, _)| peer.id).collect();
    assert!(!ids.contains(&old) && ids.contains(&raft.id()));
    let voters = NAMES.map(|name| fleet.raft(name).id());
    committed(leader.set_voters(voters.into(), Demoted::Removed, LONG).await);
    fleet.agree().await;
    fleet.stop("b").await;
    fleet.leader().await;
    fleet.commit("c", intern("y")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_follows_is_promoted_and_replaces_a_voter() {
    let mut fleet = Fleet::of(&NAMES).await;
    fleet.commit("a", bootstrap()).await;
    fleet.start("d").await;
    committed(fleet.admit("d", false).await);
    let index = fleet.commit("d", intern("from-a-learner")).await;
    assert!(fleet.raft("d").state().index() >= index);
    let roles: Vec<_> = fleet.raft("a").peers();
    assert_eq!(roles.iter().filter(|(_, role)| *role == PeerRole::Learner).count(), 1);

    let leader = fleet.leader().await;
    let loser = NAMES.into_iter().find(|name| fleet.raft(name).id() != leader.id()).unwrap();
    let loser_id = fleet.raft(loser).id();
    let voters: BTreeSet<u64> =
        fleet.nodes.values().map(|node| node.raft.id()).filter(|id| *id != loser_id).collect();
    committed(leader.set_voters(voters.clone(), Demoted::Learner, LONG).await);
    assert_eq!(leader.status().voters.into_iter().collect::<BTreeSet<_>>(), voters);
    assert_eq!(leader.status().learners, [loser_id]);
    fleet.commit(loser, intern("as-a-learner")).await;
    committed(fleet.leader().await.forget(loser_id, LONG).await);
    committed(fleet.leader().await.forget(loser_id, LONG).await);
    assert_eq!(fleet.leader().await.peers().len(), 3);
    fleet.stop(loser).await;
    fleet.agree().await;
    // A moved peer has another address and the same id.
    let leader = fleet.leader().await;
    let leader_name = leader.leader().unwrap().name;
    let (peer, _) = leader.peers().into_iter().find(|(peer, _)| peer.id != leader.id()).unwrap();
    let moved = Peer { address: "elsewhere".into(), ..peer };
    committed(leader.admit(moved.clone(), false, LONG).await);
    assert!(leader.peers().contains(&(moved.clone(), PeerRole::Voter)));
    // It is reached there, by the leader that reached it elsewhere until now.
    fleet.switch.moved(&moved.name, &moved.address);
    let index = fleet.commit(&leader_name, intern("after-the-move")).await;
    let there = fleet.raft(&moved.name);
    there.state().wait_for(index, LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_far_behind_catches_up_with_a_snapshot() {
    let compaction = Compaction { every: 100, keep: 10 };
    let mut fleet = Fleet::with(&NAMES, compaction).await;
    fleet.commit("a", bootstrap()).await;
    fleet.commit("a", join("a", 1)).await;
    fleet.commit("a", activate(1, 1)).await;
    fleet.stop("c").await;
    for command in names("far", 500) {
        fleet.commit("a", command).await;
    }
    let purged = async {
        while fleet.raft("a").status().purged < 300 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, purged).await.unwrap();
    let index = fleet.raft("a").state().index();
    for name in ["c", "d"] {
        let raft = fleet.start(name).await;
        if name == "d" {
            committed(fleet.admit("d", false).await);
        }
        raft.state().wait_for(index, LONG).await.unwrap();
        assert!(raft.status().snapshot >= 300, "{name} did not need a snapshot");
        assert!((0..500).all(|i| raft.state().symbol_id(&format!("far{i}")) == Some(i)));
    }
    fleet.agree().await;
    // It starts from its snapshot.
    fleet.stop("c").await;
    let raft = fleet.start("c").await;
    assert!(raft.state().index() >= 300);
    fleet.commit("c", intern("later")).await;
    fleet.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_many_pieces_arrives_whole_and_goes_on_where_it_was_cut() {
    let compaction = Compaction { every: 10, keep: 0 };
    let mut fleet = Fleet::with(&["a"], compaction).await;
    fleet.commit("a", bootstrap()).await;
    for batch in 0..50 {
        let name = |i| format!("{:060}", batch * 4096 + i);
        fleet.commit("a", Command::Intern { names: (0..4096).map(name).collect() }).await;
    }
    let snapshot = async {
        while fleet.raft("a").status().purged < 45 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, snapshot).await.unwrap();
    fleet.switch.large_lost.store(3, Ordering::Relaxed);
    let raft = fleet.start("b").await;
    committed(fleet.admit("b", false).await);
    let index = fleet.agree().await;
    raft.state().wait_for(index, LONG).await.unwrap();
    assert_eq!(raft.state().symbols_len(), 50 * 4096);
    assert!(raft.status().snapshot >= 45, "it did not need a snapshot");
    // Six pieces and some; a new start after each loss would be many times that.
    let sent = fleet.switch.large_sent.load(Ordering::Relaxed);
    assert!((6..20).contains(&sent), "{sent} pieces");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_why_and_without_a_majority_nothing_is_promised() {
    let mut fleet = Fleet::of(&NAMES).await;
    let second = |name: &str| {
        let raft = fleet.raft(name);
        async move { raft.propose(bootstrap(), LONG).await }
    };
    committed(second("a").await);
    for name in NAMES {
        let refused = second(name).await;
        let Outcome::Refused { index: Some(index), why: Reason::Topology(_) } = refused else {
            panic!("{refused:?}");
        };
        assert!(fleet.raft(name).state().index() >= index);
    }
    let invalid = fleet.raft("b").propose_entry(vec![9, 9], LONG).await;
    assert!(matches!(invalid, Outcome::Refused { index: None, why: Reason::Invalid(_) }));

    let follower = NAMES.into_iter().find(|name| !fleet.raft(name).is_leader()).unwrap();
    for name in NAMES.into_iter().filter(|name| *name != follower) {
        fleet.stop(name).await;
    }
    let alone = fleet.raft(follower);
    let outcome = alone.propose(intern("alone"), Duration::from_millis(1500)).await;
    assert!(matches!(outcome, Outcome::Refused { why: Reason::NoLeader(_), .. }), "{outcome:?}");
    alone.read_barrier(Duration::from_millis(300)).await.unwrap_err();
    let change = alone.set_voters(BTreeSet::from([alone.id()]), Demoted::Removed, LONG).await;
    assert!(matches!(change, Outcome::Refused { why: Reason::NoLeader(_), .. }), "{change:?}");
    let term = alone.term();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(alone.term(), term, "a voter that is cut off does not make terms grow");
    alone.stop().await;
    assert_eq!(alone.ended().await, Reason::Stopped);
    let stopped = alone.propose(intern("stopped"), LONG).await;
    assert_eq!(stopped, Outcome::Refused { index: None, why: Reason::Stopped });
}

#[tokio::test(flavor = "multi_thread")]
async fn one_proposal_is_in_flight_per_subject() {
    let fleet = Fleet::of(&NAMES).await;
    fleet.commit("a", bootstrap()).await;
    let again = |i: u64| {
        let raft = fleet.raft(NAMES[i as usize % 3]);
        tokio::spawn(async move { raft.propose(join("x", i), LONG).await })
    };
    let tasks: Vec<_> = (1..100).map(again).collect();
    let mut in_flight = 0;
    for task in tasks {
        match task.await.unwrap() {
            Outcome::Refused { index: None, why: Reason::InFlight(_) } => in_flight += 1,
            Outcome::Committed { .. } | Outcome::Refused { index: Some(_), .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(in_flight > 0);
    committed(fleet.raft("b").propose(join("x", 1000), LONG).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_cannot_be_applied_ends_the_log_and_is_not_skipped() {
    let fleet = Fleet::of(&["a"]).await;
    fleet.commit("a", bootstrap()).await;
    let raft = fleet.raft("a");
    let before = raft.state().position();
    raft.core.client_write(Bytes([7, 7, 7].as_slice().into())).await.unwrap_err();
    assert!(matches!(timeout(LONG, raft.ended()).await.unwrap(), Reason::Failed(_)));
    assert_eq!(raft.state().position(), before);
    let outcome = raft.propose(intern("x"), LONG).await;
    assert!(matches!(outcome, Outcome::Refused { why: Reason::Failed(_), .. }), "{outcome:?}");
}
