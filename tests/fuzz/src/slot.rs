//! The slots of a lane: ticks come back to the bit, control records to their meaning.

use zepto_core::slot::{self, Control, Slot};
use zepto_core::{Epoch, PartitionId, ProducerId, Tick};

use crate::Target;

/// See the module.
pub const TARGET: Target = Target { name: "slot", run, seeds, bytes_fixed: 0, bytes_per_byte: 0 };

/// Any bytes as slots, one after the other.
pub fn run(input: &[u8]) {
    let (slots, _) = input.as_chunks::<64>();
    for bytes in slots {
        let (words, _) = bytes.as_chunks::<8>();
        let slot: Slot = core::array::from_fn(|word| u64::from_le_bytes(words[word]));
        if slot::is_control(&slot) {
            if let Ok(record) = slot::control_of(&slot) {
                assert!(slot::is_control(&record.slot()));
                assert_eq!(slot::control_of(&record.slot()), Ok(record));
            }
        } else {
            let tick = slot::tick_of(&slot);
            assert_eq!(slot::slot_of(&tick), slot);
            assert_eq!(slot::series_of(&slot), (tick.table, tick.symbol));
            let (index, sequence) = slot::producer_of(&slot);
            assert_eq!(slot::producer_word(index, sequence), tick.sequence);
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let bytes = |slot: Slot| slot.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let producer = Control::BindProducer { index: 1, producer: ProducerId(u64::MAX) };
    let partition =
        Control::BindPartition { partition: PartitionId(9), epoch: Epoch(3), next: 1 << 40 };
    let tick = Tick { symbol: 5, table: 2, kind: 1, price: -7, size: 9, ..Tick::default() };
    let slots = [producer.slot(), partition.slot(), slot::slot_of(&tick)];
    let mut seeds: Vec<_> = slots.map(bytes).to_vec();
    seeds.push(seeds.concat());
    seeds
}
