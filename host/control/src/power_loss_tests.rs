//! Power loss at any write or sync: whatever it leaves, an entry that was answered as committed is
//! in the log that opens from it.

use super::*;
use crate::testing::lossy::{Crash, Disk, Lossy};
use crate::testing::*;

fn check(crash: Crash) {
    let store = Store::open_on(crash.storage()).unwrap();
    let (log, _worker) = Single::start(store, no_events()).unwrap();
    let index = log.state.index();
    assert!(index >= crash.answered, "entry {} was answered, {index} is left", crash.answered);
    for entry in 2..=crash.answered {
        assert!(log.state.symbol_id(&format!("S{entry}")).is_some(), "entry {entry} is lost");
    }
}

#[test]
fn what_was_answered_as_committed_survives_power_loss_at_any_write() {
    let (mut images, mut torn) = (0, 0);
    for seed in 0..4 {
        let (disk, answered) = (Disk::seeded(seed), Arc::new(AtomicU64::new(0)));
        let store = Store::create_on(Lossy::new(&disk, &answered)).unwrap();
        disk.lock().unwrap().crashes.clear();
        let running = Running::start(Single::start(store, no_events()).unwrap());
        for command in
            core::iter::once(bootstrap()).chain((2..=16).map(|i| intern(&format!("S{i}"))))
        {
            let index = running.commit(command);
            answered.store(index, Ordering::SeqCst);
            let crashes = core::mem::take(&mut disk.lock().unwrap().crashes);
            images += crashes.len();
            torn += crashes.iter().filter(|crash| crash.torn).count();
            crashes.into_iter().for_each(check);
        }
        running.stop().unwrap();
    }
    assert!(images > 50 && torn > 20, "{images} crashes, {torn} with writes missing");
}
