//! Lanes over a connection: what either end makes of the payloads of the other.
//!
//! The input is a dialogue: its first byte chooses the end, then come payloads one by one.

use std::sync::{Arc, Mutex, PoisonError};

use zepto_core::limits::LANE_SLOTS_MAX;
use zepto_rpc::frame::{REFUSED_RANGE_BYTES, SLOT_BYTES, encode_reason};
use zepto_rpc::lane::exposed::{Door, Source};
use zepto_rpc::{LaneEnd, LaneFailure, LaneSink, RefusedRange};

use crate::Target;
use crate::bytes::{Choices, joined};

/// See the module.
pub const TARGET: Target =
    Target { name: "lane", run, seeds, bytes_fixed: 64 << 10, bytes_per_byte: 64 };

/// Slots that the receiver's end holds; nothing is settled here.
const WINDOW: u64 = 6;

/// Any bytes as what the peer of a lane says.
pub fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    if choices.byte() & 1 == 0 {
        receiver(choices);
    } else {
        sender(choices);
    }
}

/// Keeps what it was given where the test can see it.
struct Sink(Arc<Mutex<Vec<u8>>>);

impl LaneSink for Sink {
    fn capacity(&self) -> u64 {
        WINDOW
    }

    fn push(&mut self, slots: &[u8]) -> Result<usize, LaneFailure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(slots);
        Ok(slots.len() / SLOT_BYTES)
    }

    fn poll_credit(
        &mut self,
        _: &mut Vec<RefusedRange>,
    ) -> Result<Option<(u64, u64)>, LaneFailure> {
        Ok(None)
    }

    fn closed(&mut self, _: &LaneEnd) {}
}

/// Data frames: only whole slots that continue those before them and fit the window are taken.
fn receiver(mut choices: Choices<'_>) {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let door = Door::new(Sink(Arc::clone(&taken)));
    let mut expected = Vec::new();
    while !choices.is_empty() {
        let payload = choices.piece();
        let due = (expected.len() / SLOT_BYTES) as u64;
        let fits = payload.split_first_chunk::<8>().filter(|(first, slots)| {
            let count = (slots.len() / SLOT_BYTES) as u64;
            let is_whole = count > 0 && slots.len() % SLOT_BYTES == 0;
            is_whole && u64::from_le_bytes(**first) == due && due + count <= WINDOW
        });
        let result = door.data(payload);
        assert_eq!(result.is_ok(), fits.is_some(), "{result:?}");
        if let Some((_, slots)) = fits {
            expected.extend_from_slice(slots);
        }
        assert_eq!(*taken.lock().unwrap_or_else(PoisonError::into_inner), expected);
    }
}

/// Credit frames: cursors never fall, never pass what was sent, and refusals name only slots that
/// are not settled.
fn sender(mut choices: Choices<'_>) {
    let (opened, sent) = (choices.piece(), u64::from(choices.byte()));
    let Some(source) = Source::new(opened, sent) else { return };
    let window = opened.try_into().map_or(0, u64::from_le_bytes);
    assert!((1..=LANE_SLOTS_MAX as u64).contains(&window));
    let mut before = (0, 0);
    while !choices.is_empty() {
        let is_end = choices.byte() & 7 == 7;
        let payload = choices.piece();
        let learned = if is_end { source.closed(payload) } else { source.credit(payload) };
        match learned {
            Err(end) => {
                assert!(!end.to_string().is_empty());
                // Nothing that comes later changes how it ended.
                assert_eq!(source.credit(payload).err(), Some(end));
                return;
            }
            Ok(None) => assert!(!is_end),
            Ok(Some((consumed, settled, refusals))) => {
                assert!(settled <= consumed && consumed <= sent);
                assert!(consumed >= before.0 && settled >= before.1);
                assert!(refusals.len() as u64 <= window);
                assert!(refusals.len() * REFUSED_RANGE_BYTES <= payload.len());
                for range in refusals {
                    assert!(range.count > 0 && range.first >= before.1);
                    assert!(range.first + u64::from(range.count) <= sent);
                }
                before = (consumed, settled);
            }
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let data = |first: u64, count: usize| {
        [&first.to_le_bytes()[..], &vec![first as u8; count * SLOT_BYTES]].concat()
    };
    let credit = |consumed: u64, settled: u64, refusals: &[(u64, u32, u16)]| {
        let mut payload = [consumed.to_le_bytes(), settled.to_le_bytes()].concat();
        for (first, count, reason) in refusals {
            payload.extend(first.to_le_bytes());
            payload.extend(count.to_le_bytes());
            payload.extend(reason.to_le_bytes());
            payload.extend([0; 2]);
        }
        payload
    };
    let window = 64u64.to_le_bytes();
    let first = credit(4, 3, &[(3, 1, 1), (5, 2, 9)]);
    let (second, third) = (credit(9, 9, &[]), encode_reason(0x8000, "finished"));
    let dialogue = [&joined(&[&window])[..], &[10, 0], &joined(&[&first])].concat();
    let longer = [&dialogue[..], &[0], &joined(&[&second]), &[7], &joined(&[&third])].concat();
    vec![
        [&[0][..], &joined(&[&data(0, 1), &data(1, 2), &data(3, 3)])].concat(),
        [&[0][..], &joined(&[&data(0, 3), &data(2, 1)])].concat(),
        [&[1][..], &dialogue].concat(),
        [&[1][..], &longer].concat(),
    ]
}
