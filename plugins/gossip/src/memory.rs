//! Where others were when they were last there. It is kept, so that a node which starts again finds
//! the cluster even when its seeds are gone.

use core::net::SocketAddr;

/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 64;
/// Time between two writes, ns.
const WRITE_AFTER: u64 = 10_000_000_000;

/// Remembered addresses, and what is kept of them.
#[derive(Debug, Default)]
pub struct Memory {
    addresses: Vec<SocketAddr>,
    kept: Vec<SocketAddr>,
    written: Option<u64>,
}

impl Memory {
    /// What was kept. Bytes of another version are nothing.
    pub fn read(bytes: &[u8]) -> Self {
        let mut addresses: Vec<SocketAddr> = postcard::from_bytes(bytes).unwrap_or_default();
        addresses.truncate(ADDRESSES_MAX);
        Self { kept: addresses.clone(), addresses, written: None }
    }

    /// Addresses to ask.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// These are there now. When nobody is, the last ones stay.
    pub fn note(&mut self, there: impl Iterator<Item = SocketAddr>) {
        let mut there: Vec<SocketAddr> = there.collect();
        // In order, so that the same ones are chosen again.
        there.sort_unstable();
        there.truncate(ADDRESSES_MAX);
        if !there.is_empty() {
            self.addresses = there;
        }
    }

    /// What is to be written now, if it is other than what is kept and that is old enough.
    pub fn take_write(&mut self, now: u64) -> Option<Vec<u8>> {
        let is_soon = self.written.is_some_and(|at| now.saturating_sub(at) < WRITE_AFTER);
        if is_soon || self.addresses == self.kept {
            return None;
        }
        self.written = Some(now);
        self.kept.clone_from(&self.addresses);
        postcard::to_allocvec(&self.kept).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    #[test]
    fn it_is_written_when_it_changes_but_not_often() {
        let mut memory = Memory::default();
        assert_eq!(memory.take_write(0), None);
        memory.note([address(2), address(1)].into_iter());
        let first = memory.take_write(5).unwrap();
        assert_eq!(Memory::read(&first).addresses(), [address(1), address(2)]);
        assert_eq!(memory.take_write(6), None);
        memory.note([address(3)].into_iter());
        assert_eq!(memory.take_write(WRITE_AFTER), None);
        let second = memory.take_write(WRITE_AFTER + 5).unwrap();
        assert_eq!(Memory::read(&second).addresses(), [address(3)]);
    }

    #[test]
    fn the_last_ones_stay_and_there_are_not_many() {
        let mut memory = Memory::default();
        memory.note((1..=100).map(address));
        assert_eq!(memory.addresses().len(), ADDRESSES_MAX);
        memory.note(core::iter::empty());
        assert_eq!(memory.addresses().len(), ADDRESSES_MAX);
        let bytes = memory.take_write(0).unwrap();
        assert!(bytes.len() <= 1024, "{}", bytes.len());
        assert!(Memory::read(&bytes[..7]).addresses().is_empty());
        assert!(Memory::read(b"").addresses().is_empty());
    }
}
