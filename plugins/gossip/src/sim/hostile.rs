//! What does not belong into the cluster does it no harm, or not much.

use super::*;
use crate::swim::Received;
use crate::wire::Head;
use foca::{Header, Message};

#[test]
fn garbage_changes_nothing() {
    let mut world = World::of_five(1);
    world.run_until(10, World::is_whole);
    let before = world.seen();
    let mut others = World::of_five(2);
    others.run(1);
    let now = world.now;
    let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
    let swim = world.nodes.get_mut(&at(1)).unwrap();
    let (head, green) = (Head::of("blue"), Head::of("green"));
    for length in (0..1400).chain(0..1400) {
        let mut bytes = vec![0; length];
        random.fill_bytes(&mut bytes);
        assert_eq!(swim.receive(&bytes, now), Received::Foreign);
        assert_eq!(swim.receive(&head.seal(&bytes), now), Received::Foreign);
    }
    for (_, bytes) in others.way.values() {
        let body = head.open(bytes).unwrap();
        assert_eq!(swim.receive(&green.seal(body), now), Received::Foreign);
        for length in 0..body.len() {
            let cut = swim.receive(&head.seal(&body[..length]), now);
            // Without its news, a message may be whole.
            assert!(cut == Received::Foreign || length > 20, "{length} of {}", body.len());
        }
    }
    assert!(swim.take_datagrams().len() <= others.way.len());
    assert_eq!(world.seen(), before);
    assert!(world.is_whole());
}

#[test]
fn changed_bytes_never_panic() {
    let mut world = World::of_five(3);
    let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
    for _ in 0..4000 {
        let until = world.now + SECOND;
        world.step(until);
        let some: Vec<_> = world.way.values().take(3).cloned().collect();
        for (to, mut bytes) in some {
            let at = random.next_u64() as usize % bytes.len();
            bytes[at] = random.next_u64() as u8;
            let now = world.now;
            if let Some(swim) = world.nodes.get_mut(&to) {
                swim.receive(&bytes, now);
            }
        }
    }
    assert!(world.nodes.values().all(|swim| swim.others().count() <= OTHERS_MAX));
}

#[test]
fn two_nodes_with_one_id_quarrel_slowly() {
    let mut world = World::of_five(1);
    world.run_until(10, World::is_whole);
    // The same node once more, at another address.
    let mut twin = settings(9, 1, &[1]);
    twin.me.id = "n2".into();
    world.start_as(&twin, (Vec::new(), Memory::default()));
    let sent = world.sent;
    world.run(60);
    let each = (world.sent - sent) / 60 / 6;
    println!("{each} datagrams a second from each");
    assert!(each <= 30);
    let others = |node| world.nodes.get(&at(node)).unwrap().others().count();
    assert_eq!(others(1), 4, "one of the two is known");
}

#[test]
fn those_that_are_gone_make_room() {
    let mut world = World::new(1);
    world.start(1, 1, &[]);
    // More nodes than are remembered, but not at a time: pods whose names are never the same.
    for round in 0..8 {
        for node in 2..=60 {
            let mut pod = settings(node, 1, &[1]);
            pod.me.id = format!("pod-{round}-{node}").as_str().into();
            world.start_as(&pod, (Vec::new(), Memory::default()));
        }
        world.run_until(30, World::is_whole);
        for node in 2..=60 {
            world.kill(node);
        }
        world.run_until(300, World::is_whole);
    }
    const { assert!(OTHERS_MAX < 8 * 59) };
    assert_eq!(world.hiccups(), 0);
}

#[test]
fn a_flood_of_made_up_nodes_ends_at_the_limit_and_the_cluster_stays() {
    let mut world = World::of_five(1);
    world.run_until(10, World::is_whole);
    let head = Head::of("blue");
    for number in 0..2000u32 {
        let id = format!("made-up-{number}");
        let gossip = SocketAddr::from(([10, 1, (number >> 8) as u8, number as u8], 7946));
        let src = Peer { id: id.as_str().into(), port: 1, ..Peer::at(gossip) };
        let message = Message::Announce;
        let header = Header { src, src_incarnation: 0, dst: Peer::at(at(1)), message };
        let datagram = head.seal(&postcard::to_allocvec(&header).unwrap());
        let now = world.now;
        world.nodes.get_mut(&at(1)).unwrap().receive(&datagram, now);
    }
    let first = world.nodes.get_mut(&at(1)).unwrap();
    assert_eq!(first.others().count(), OTHERS_MAX);
    first.take_datagrams();
    world.run(600);
    let real = |swim: &Swim| swim.others().filter(|peer| peer.port == 9000).count();
    assert!(world.nodes.values().all(|swim| swim.others().count() <= OTHERS_MAX));
    assert!(world.nodes.values().all(|swim| real(swim) == 4), "{:?}", world.seen());
}
