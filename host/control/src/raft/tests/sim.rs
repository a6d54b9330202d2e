//! Guarantees T19 and T20 in simulated worlds.

use super::world::{Faults, World, simulate};
use crate::raft::Compaction;
use crate::testing::{LONG, bootstrap, intern, on_a_thread};
use crate::{ControlLog, Outcome};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::Arc;
use tokio::time::{sleep, timeout};

const STORM: Faults = Faults { lost: 30, doubled: 30, delay_ms: 20 };
const SMALL: Compaction = Compaction { every: 60, keep: 5 };

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Proposes one name after another through whoever lives, and notes what was acknowledged.
async fn propose(world: &World, number: u64) {
    let alive = world.alive();
    let Some(voter) = alive.get(world.net.below(alive.len() as u64) as usize) else { return };
    let (raft, truth, net) = (world.raft(*voter), Arc::clone(&world.truth), world.net.clone());
    let deadline = ms(200 + net.below(800));
    drop(tokio::spawn(async move {
        let name = format!("s{number}");
        if let Outcome::Committed { index } = raft.propose(intern(&name), deadline).await {
            let state = raft.state();
            if state.index() < index || state.symbol_id(&name).is_none() {
                let text = format!("{name} is committed as {index}, and is not there");
                truth.lock().unwrap().violations.push(text);
            }
            truth.lock().unwrap().acknowledged.insert(name);
        }
    }));
}

fn leads(world: &World) -> Option<usize> {
    world.alive().into_iter().find(|voter| world.raft(*voter).is_leader())
}

/// One thing that goes wrong, or is mended.
async fn disturb(world: &mut World, voters: usize) {
    let victim = world.net.below(voters as u64) as usize;
    let others = (0..voters).filter(|other| *other != victim);
    match world.net.below(12) {
        0 => world.net.cut(others.flat_map(|other| [(victim, other), (other, victim)])),
        1 => world.net.cut(others.map(|other| (victim, other))),
        2 => world.net.cut([(victim, (victim + 1) % voters)]),
        3 | 4 => {
            if let Some(leader) = leads(world) {
                let others = (0..voters).filter(|other| *other != leader);
                world.net.cut(others.flat_map(|other| [(leader, other), (other, leader)]));
            }
        }
        5 => world.crash(victim).await,
        6 => {
            if let Some(leader) = leads(world) {
                world.crash(leader).await;
            }
        }
        7 | 8 => {
            for voter in world.dead() {
                world.start(voter).await;
            }
        }
        _ => world.net.heal(),
    }
}

async fn storm(seed: u64) -> (World, String) {
    let voters = if seed.is_multiple_of(4) { 5 } else { 3 };
    let mut world = World::of(voters, seed, SMALL).await;
    let first = world.raft(0);
    assert!(matches!(first.propose(bootstrap(), LONG).await, Outcome::Committed { .. }));
    world.net.set_faults(STORM);
    let mut number = 0;
    for _ in 0..24 {
        disturb(&mut world, voters).await;
        for _ in 0..10 {
            for _ in 0..world.net.below(3) {
                number += 1;
                propose(&world, number).await;
            }
            sleep(ms(5 + world.net.below(60))).await;
            world.check();
        }
    }
    world.net.set_faults(Faults::default());
    world.net.heal();
    for voter in world.dead() {
        world.start(voter).await;
    }
    let (_, leader) = timeout(LONG, world.leader()).await.expect("no leader after the storm");
    sleep(ms(1500)).await;
    let index = leader.read_barrier(LONG).await.unwrap();
    for voter in 0..voters {
        let state = Arc::clone(world.raft(voter).state());
        state.wait_for(index, LONG).await.unwrap();
        for name in &world.truth.lock().unwrap().acknowledged {
            assert!(state.symbol_id(name).is_some(), "{name} was acknowledged and is lost");
        }
    }
    world.check();
    let trace = world.trace();
    (world, trace)
}

/// How many names were acknowledged in a seed's storm, and how many terms had a leader.
fn weather(seed: u64) -> (u64, u64) {
    let run = std::panic::catch_unwind(|| {
        simulate(seed, async {
            let (world, _) = storm(seed).await;
            let acknowledged = world.truth.lock().unwrap().acknowledged.len();
            (acknowledged as u64, world.terms() as u64)
        })
    });
    run.unwrap_or_else(|_| panic!("seed {seed}"))
}

#[test]
fn in_a_thousand_storms_indexes_do_not_go_back_and_nothing_acknowledged_is_lost() {
    let seeds = std::env::var("ZEPTO_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let seeds: u64 = seeds.unwrap_or(1000);
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let workers: Vec<_> = (0..threads)
        .map(|first| {
            let seeds = (first..seeds).step_by(threads as usize);
            on_a_thread(move || {
                seeds.map(weather).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
            })
        })
        .collect();
    let (mut acknowledged, mut terms) = (0, 0);
    for worker in workers {
        let (names, leaders) = worker.join().unwrap();
        acknowledged += names;
        terms += leaders;
    }
    // The storms let something through, and unseat leaders.
    println!("{seeds} seeds: {acknowledged} acknowledged, {terms} terms with a leader");
    assert!(acknowledged > 20 * seeds && terms > 2 * seeds, "{acknowledged} {terms}");
}

#[test]
fn a_seed_decides_a_world() {
    for seed in [3, 4] {
        let run = || simulate(seed, async { storm(seed).await.1 });
        assert_eq!(run(), run(), "seed {seed}");
    }
}

/// Proposals without an end, until told.
fn load(world: &World) -> Arc<AtomicBool> {
    let go_on = Arc::new(AtomicBool::new(true));
    for voter in world.alive() {
        let (raft, go_on) = (world.raft(voter), Arc::clone(&go_on));
        drop(tokio::spawn(async move {
            for i in 0.. {
                if !go_on.load(Ordering::Relaxed) {
                    break;
                }
                let outcome = raft.propose(intern(&format!("l{voter}-{i}")), LONG).await;
                assert!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
            }
        }));
    }
    go_on
}

#[test]
fn in_a_quiet_hour_and_under_load_the_term_does_not_grow() {
    simulate(1, async {
        let mut world = World::of(3, 1, Compaction::default()).await;
        let first = world.raft(0);
        assert!(matches!(first.propose(bootstrap(), LONG).await, Outcome::Committed { .. }));
        world.net.set_faults(Faults { delay_ms: 5, ..Faults::default() });
        let term = world.term();
        for _ in 0..360 {
            sleep(Duration::from_secs(10)).await;
            world.check();
        }
        assert_eq!(world.term(), term, "while nothing happened");
        let go_on = load(&world);
        for _ in 0..600 {
            sleep(ms(100)).await;
            world.check();
        }
        go_on.store(false, Ordering::Relaxed);
        assert_eq!(world.term(), term, "under load");
        let (_, leader) = world.leader().await;
        assert!(leader.state().index() > 5_000, "{} is no load", leader.state().index());
    });
}

#[test]
fn a_link_that_silently_loses_half_shows_as_failures_and_healed_the_term_is_still() {
    simulate(811, async {
        let mut world = World::of(3, 811, Compaction::default()).await;
        let before: u64 = world.alive().iter().map(|v| world.raft(*v).status().calls_failed).sum();
        world.net.set_faults(Faults { lost: 50, delay_ms: 2, ..Faults::default() });
        let (term, mut lossy_terms) = (world.term(), 0);
        for _ in 0..120 {
            sleep(ms(500)).await;
            world.check();
            lossy_terms = world.term() - term;
        }
        let failed: u64 = world.alive().iter().map(|v| world.raft(*v).status().calls_failed).sum();
        assert!(failed - before > 1000, "{} failures are shown", failed - before);
        world.net.set_faults(Faults { delay_ms: 2, ..Faults::default() });
        world.leader().await;
        sleep(ms(2000)).await;
        let term = world.term();
        for _ in 0..600 {
            sleep(Duration::from_secs(1)).await;
            world.check();
        }
        println!("{lossy_terms} terms in a lossy minute, {failed} failures");
        assert_eq!(world.term(), term, "the term grows on a healed network");
    });
}

#[test]
fn a_voter_that_was_cut_off_comes_back_without_an_election() {
    simulate(7, async {
        let mut world = World::of(3, 7, Compaction::default()).await;
        let (leader, _) = world.leader().await;
        let term = world.term();
        let cut = (leader + 1) % 3;
        for direction in 0..3 {
            let others = (0..3).filter(|other| *other != cut);
            world.net.cut(others.flat_map(|other| match direction {
                0 => vec![(cut, other), (other, cut)],
                1 => vec![(cut, other)],
                _ => vec![(other, cut)],
            }));
            for _ in 0..600 {
                sleep(ms(1000)).await;
                world.check();
            }
            world.net.heal();
            sleep(Duration::from_secs(10)).await;
            assert_eq!(world.term(), term, "it came back with a later term ({direction})");
            assert_eq!(world.leader().await.0, leader);
        }
    });
}
