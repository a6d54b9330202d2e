//! The replicated state: what readers see while entries are applied.

use super::*;
use crate::testing::{LONG, activate, block_on, bootstrap, first_entries, intern, join, no_events};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use zepto_core::topology::Refused;

fn bytes(command: &Command) -> Vec<u8> {
    entry::encode(command).unwrap()
}

fn apply_all(applier: &mut Applier, commands: &[Command]) {
    for command in commands {
        let next = applier.state().index() + 1;
        applier.apply_entry(next, &bytes(command)).unwrap();
    }
}

#[test]
fn a_new_view_appears_only_when_the_placement_changed() {
    let (state, mut applier) = State::new(no_events());
    apply_all(&mut applier, &first_entries());
    let view = state.view();
    assert_eq!(view.index(), 3);

    apply_all(&mut applier, &[intern("A"), bootstrap()]);
    assert!(Arc::ptr_eq(&state.view(), &view), "a name and a refusal route nothing");
    assert_eq!((state.index(), state.symbols_len()), (5, 1));

    apply_all(&mut applier, &[join("b", 1)]);
    assert_eq!(state.view().index(), 6);
}

#[test]
fn names_are_found_both_ways() {
    let (state, mut applier) = State::new(no_events());
    apply_all(&mut applier, &[bootstrap(), intern("A"), intern("B")]);
    assert_eq!((state.symbol_id("A"), state.symbol_id("B")), (Some(0), Some(1)));
    assert_eq!((state.symbol_id("C"), state.symbol_name(2)), (None, None));
    assert_eq!(state.symbol_name(1).as_deref(), Some("B"));
}

#[test]
fn only_the_next_entry_is_applied() {
    let (state, mut applier) = State::new(no_events());
    apply_all(&mut applier, &first_entries());
    let before = state.position();
    for index in [0, 1, 3, 5, u64::MAX] {
        let error = applier.apply_entry(index, &bytes(&intern("A"))).unwrap_err();
        assert_eq!(error, ApplyError::Gap { expected: 4, index });
    }
    let error = applier.apply_entry(4, b"\x09").unwrap_err();
    assert_eq!(error, ApplyError::Entry { index: 4, error: DecodeError::Version(9) });
    assert_eq!(state.position(), before);
    applier.apply_entry(4, &bytes(&intern("A"))).unwrap();
}

#[test]
fn a_refused_entry_has_an_index_and_changes_the_hash() {
    let (state, mut applier) = State::new(no_events());
    let refused = applier.apply_entry(1, &bytes(&intern("A"))).unwrap();
    assert_eq!(refused, Applied::Refused(Refused::NotBootstrapped));
    assert_eq!(state.index(), 1);
    assert_ne!(state.hash(), 0);
}

#[test]
fn events_are_told_in_order_and_outside_the_locks() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let (later, sink_told) = (Arc::new(Mutex::new(None::<Arc<State>>)), Arc::clone(&told));
    let sink_state = Arc::clone(&later);
    let (state, mut applier) = State::new(Box::new(move |index, events| {
        let state = sink_state.lock().unwrap().clone().unwrap();
        // Were the topology's lock held, this would never return.
        assert!(state.topology.try_write().is_ok());
        assert!(state.index() >= index, "what is told is there to be read");
        sink_told.lock().unwrap().push((index, events));
    }));
    *later.lock().unwrap() = Some(Arc::clone(&state));
    apply_all(&mut applier, &first_entries());
    apply_all(&mut applier, &[intern("A"), intern("A"), activate(9, 9)]);
    let indices: Vec<u64> = told.lock().unwrap().iter().map(|(index, _)| *index).collect();
    assert_eq!(indices, [1, 2, 3, 4], "an entry that did nothing is not told");
    assert_eq!(told.lock().unwrap()[3].1, [Event::Interned { first: 0, count: 1 }]);
}

#[test]
fn who_waits_for_an_index_sees_its_view_and_names() {
    let (state, mut applier) = State::new(no_events());
    apply_all(&mut applier, &first_entries());
    block_on(async {
        let seen = Arc::new(AtomicBool::new(false));
        let waiting = async {
            let position = state.wait_for(5, LONG).await.unwrap();
            assert!(position.index >= 5);
            assert_eq!((state.view().index(), state.symbols_len()), (4, 1));
            seen.store(true, Ordering::Relaxed);
        };
        let writing = async {
            apply_all(&mut applier, &[join("b", 1)]);
            tokio::task::yield_now().await;
            assert!(!seen.load(Ordering::Relaxed));
            apply_all(&mut applier, &[intern("A")]);
        };
        tokio::join!(waiting, writing);
    });
}

#[test]
fn waiting_ends_at_the_deadline_and_when_the_log_ends() {
    let (state, mut applier) = State::new(no_events());
    apply_all(&mut applier, &first_entries());
    block_on(async {
        let late = state.wait_for(4, Duration::ZERO).await;
        assert_eq!(late, Err(WaitError::Deadline { wanted: 4, applied: 3 }));
        drop(applier);
        let ended = state.wait_for(4, LONG).await;
        assert_eq!(ended, Err(WaitError::Ended { wanted: 4, applied: 3 }));
        assert_eq!(state.wait_for(3, LONG).await.map(|p| p.index), Ok(3), "what is there stays");
    });
}

#[test]
fn an_entry_that_is_passed_over_has_an_index_and_routes_nothing() {
    let (state, mut applier) = State::new(no_events());
    apply_all(&mut applier, &first_entries());
    let (view, hash) = (state.view(), state.hash());
    assert_eq!(applier.pass(5), Err(ApplyError::Gap { expected: 4, index: 5 }));
    applier.pass(4).unwrap();
    applier.publish();
    assert_eq!(state.index(), 4);
    assert_ne!(state.hash(), hash);
    assert!(Arc::ptr_eq(&state.view(), &view));
    applier.apply_entry(5, &bytes(&intern("A"))).unwrap();
}

#[test]
fn a_whole_topology_takes_the_place_of_its_entries_and_never_leads_back() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    let (ahead, mut applier) = State::new(no_events());
    apply_all(&mut applier, &first_entries());
    apply_all(&mut applier, &[intern("A")]);
    let topology = ahead.with_topology(Clone::clone);

    let (state, mut behind) =
        State::new(Box::new(move |index, _| sink.lock().unwrap().push(index)));
    apply_all(&mut behind, &[bootstrap()]);
    let older = state.with_topology(Clone::clone);
    behind.restore(topology).unwrap();
    assert_eq!(state.position(), ahead.position());
    assert_eq!((state.symbols_len(), state.view().index()), (1, 4));
    assert_eq!(behind.restore(older), Err(ApplyError::Backwards { applied: 4, index: 1 }));
    assert_eq!(state.index(), 4);
    apply_all(&mut behind, &[intern("B")]);
    assert_eq!(*told.lock().unwrap(), [1, 5], "its entries are told nowhere");
}
