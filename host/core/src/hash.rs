//! From a series to its partition: one hash, one shift.
//!
//! The hash is part of the cluster's format: every node, producer and reader must agree on it.

use zepto_abi::PartitionId;

/// A 64-bit mix of (table, symbol) by two folded multiplications, good in all bits also for
/// consecutive ids. (The multiply-and-fold of wyhash, Wang Yi.)
#[inline(always)]
pub const fn mix64(table: u16, symbol: u32) -> u64 {
    mix(((table as u64) << 32) | symbol as u64)
}

/// The same mix for any 64-bit key; the ring takes its tokens from it.
#[inline(always)]
pub const fn mix(key: u64) -> u64 {
    const A: u64 = 0x9E37_79B9_7F4A_7C15;
    const B: u64 = 0xD6E8_FEB8_6659_FD93;
    const C: u64 = 0xA076_1D64_78BD_642F;
    const D: u64 = 0xE703_7ED1_A0B4_28DB;
    fold(fold(key ^ A, B) ^ C, D)
}

/// A stable 64-bit hash of bytes, for log entries: equal on every node and in every version.
pub fn digest(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(mix(bytes.len() as u64), |state, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(state ^ u64::from_le_bytes(word))
    })
}

#[inline(always)]
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128) * (b as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

/// The partition of a series when there are 2^`bits` partitions; `bits` is 1 to 16.
#[inline(always)]
pub const fn partition_of(table: u16, symbol: u32, bits: u8) -> PartitionId {
    PartitionId((mix64(table, symbol) >> (64 - bits as u32)) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_frozen() {
        // A cluster's data lies where this function says: a change is a change of format.
        assert_eq!(
            [mix64(0, 0), mix64(0, 1), mix64(7, u32::MAX)],
            [18_292_542_775_275_930_002, 265_853_786_402_666_871, 15_807_932_130_437_890_313]
        );
    }

    #[test]
    fn the_digest_sees_length_order_and_every_byte() {
        let base = digest(b"abcdefghi");
        for other in [&b"abcdefgh"[..], b"abcdefghi\0", b"bacdefghi", b"abcdefghj", b""] {
            assert_ne!(digest(other), base);
        }
    }

    #[test]
    fn consecutive_symbols_spread_evenly() {
        let bits = 8;
        let mut counts = [0u32; 256];
        for symbol in 0..256 * 400 {
            counts[partition_of(3, symbol, bits).0 as usize] += 1;
        }
        let (low, high) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(*low > 300 && *high < 500, "400 expected, seen {low} to {high}");
    }
}
