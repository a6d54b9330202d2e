//! Places between two steps of a handover, where a test holds a thread up now and then: races
//! that need an interruption at the wrong moment are met in seconds. Otherwise they are nothing.

#[cfg(not(test))]
#[inline(always)]
pub(crate) fn pause() {}

#[cfg(test)]
pub(crate) fn pause() {
    use std::cell::Cell;

    thread_local! {
        static STATE: Cell<u32> = const { Cell::new(0x9E37_79B9) };
    }
    let mut state = STATE.get();
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    STATE.set(state);
    match state % 1024 {
        0..4 => std::thread::yield_now(),
        4..24 => (0..state >> 22).for_each(|_| std::hint::spin_loop()),
        _ => {}
    }
}
