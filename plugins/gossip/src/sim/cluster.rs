//! Nodes that come, go, come back and lose each other find each other.

use super::*;

#[test]
fn five_nodes_find_each_other_through_one_seed() {
    for seed in 0..20 {
        let mut world = World::of_five(seed);
        let seconds = world.run_until(10, World::is_whole);
        println!("{seed}: all know all after {seconds:.1} s and {} datagrams", world.sent);
        assert!(world.nodes.values().all(|swim| !swim.is_alone()));
        let sent = world.sent;
        world.run(60);
        assert!(world.is_whole());
        assert_eq!(world.hiccups(), 0);
        let each = (world.sent - sent) / 60 / 5;
        assert!(each <= 10, "{each} datagrams a second from each");
    }
}

#[test]
fn a_hundred_nodes_find_each_other_through_two_seeds() {
    let mut world = World::new(1);
    for node in 1..=100 {
        world.start(node, 1, &[1, 2]);
    }
    let seconds = world.run_until(30, World::is_whole);
    let sent = world.sent;
    world.run(30);
    let each = (world.sent - sent) / 30 / 100;
    println!("all know all after {seconds:.1} s and {sent} datagrams; then {each} a second each");
    assert!(world.is_whole());
    for node in 90..=100 {
        world.kill(node);
    }
    let seconds = world.run_until(30, World::is_whole);
    println!("eleven that died were dropped after {seconds:.1} s");
    assert_eq!(world.hiccups(), 0);
}

#[test]
fn one_that_dies_is_dropped_and_one_that_comes_back_is_there_again() {
    for seed in 0..20 {
        let mut world = World::of_five(seed);
        world.run_until(10, World::is_whole);
        world.kill(3);
        let dropped = world.run_until(20, World::is_whole);
        // Later than its predecessor, at once or after it has been given up.
        world.start(3, 2, &[1]);
        let back = world.run_until(5, World::is_whole);
        world.kill(4);
        world.start(4, 2, &[1]);
        let replaced = world.run_until(5, World::is_whole);
        println!("{seed}: dropped {dropped:.1} s, back {back:.1} s, replaced {replaced:.1} s");
        world.run(30);
        assert!(world.is_whole(), "{:?}", world.seen());
        assert_eq!(world.hiccups(), 0);
    }
}

#[test]
fn one_that_leaves_is_gone_at_once_and_may_come_back_in_the_same_incarnation() {
    let mut world = World::of_five(1);
    world.run_until(10, World::is_whole);
    let (mut gone, now) = (world.kill(5), world.now);
    let members = gone.members();
    gone.leave(now);
    world.post(at(5), gone.take_datagrams());
    let seconds = world.run_until(2, World::is_whole);
    println!("left: {seconds:.2} s");
    // A new instance of the plugin in the same node, with what the one before knew.
    world.start_knowing(5, 1, &[], (members, Memory::default()));
    let seconds = world.run_until(5, World::is_whole);
    println!("the next instance is known after {seconds:.2} s");
    world.run(30);
    assert!(world.is_whole(), "{:?}", world.seen());
}

#[test]
fn one_that_is_replaced_by_another_instance_is_never_gone() {
    for seed in 0..20 {
        let mut world = World::of_five(seed);
        world.run_until(10, World::is_whole);
        let mut before = world.kill(2);
        let members = before.members();
        let mut next = settings(2, 1, &[1]);
        next.me.life = before.me().life + 1;
        let memory = core::mem::take(before.memory());
        world.start_as(&next, (members, memory));
        for _ in 0..300 {
            world.run_for(SECOND / 10);
            assert!(world.is_whole(), "{seed}: {:?}", world.seen());
        }
        let life =
            |swim: &Swim| swim.others().find(|peer| peer.id.as_str() == "n2").map(|p| p.life);
        assert_eq!(world.nodes.values().filter(|swim| life(swim) == Some(2)).count(), 4);
    }
}

#[test]
fn a_fifth_of_the_datagrams_lost_is_not_the_end() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.loss_percent = 20;
        for node in 1..=5 {
            world.start(node, 1, &[1]);
        }
        let seconds = world.run_until(30, World::is_whole);
        let mut whole = 0;
        for _ in 0..120 {
            world.run(1);
            whole += u32::from(world.is_whole());
        }
        println!("{seed}: all know all after {seconds:.1} s, and in {whole} of 120 s");
        assert!(whole >= 110);
        world.kill(2);
        world.run_until(60, World::is_whole);
        assert_eq!(world.hiccups(), 0);
    }
}

#[test]
fn two_halves_find_each_other_again() {
    let mut world = World::new(1);
    for node in 1..=6 {
        world.start(node, 1, &[1]);
    }
    world.run_until(10, World::is_whole);
    world.cut_after = Some(3);
    world.run(300);
    assert!(world.seen().values().all(|others| others.len() == 2), "{:?}", world.seen());
    world.cut_after = None;
    let seconds = world.run_until(120, World::is_whole);
    println!("whole again {seconds:.1} s after the cut ended");
    world.run(60);
    assert!(world.is_whole(), "{:?}", world.seen());
}

#[test]
fn a_node_that_remembers_needs_no_seed() {
    let mut world = World::of_five(1);
    world.run_until(10, World::is_whole);
    let kept = world.kill(3).memory().take_write(0).unwrap();
    world.kill(1);
    world.run(20);
    world.start_knowing(3, 2, &[], (Vec::new(), Memory::read(&kept)));
    world.run_until(5, World::is_whole);
}
