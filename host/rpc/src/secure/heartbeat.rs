//! The code in a heartbeat's trailer: who does not know the secret cannot speak for a node.
//!
//! 16 bytes of BLAKE2s keyed for this one use and this one cluster, over all bytes before it. The
//! packet's own number and incarnation make a repeated one old news to whoever heard the first.
//! Keys are derived again when the secret changes; nothing here reads a file or waits.

use std::fmt;
use std::sync::Arc;

use blake2::Blake2sMac;
use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac};
use zepto_core::heartbeat::{BYTES, MAC_OFFSET};

use super::file::ClusterSecret;
use super::key::{KeyBytes, Keys};

/// Signs and checks heartbeats. Owned by the one thread that sends and hears them.
pub struct HeartbeatKeys {
    secret: ClusterSecret,
    cluster: u128,
    keys: Arc<Keys>,
    /// The first signs, all are accepted.
    derived: Vec<KeyBytes>,
}

impl HeartbeatKeys {
    /// The keys for the heartbeats of one cluster.
    pub fn new(secret: ClusterSecret, cluster: u128) -> HeartbeatKeys {
        let keys = secret.keys();
        let derived = derive(&keys, cluster);
        HeartbeatKeys { secret, cluster, keys, derived }
    }

    /// Puts the code into the trailer of a whole packet.
    pub fn sign(&mut self, packet: &mut [u8; BYTES]) {
        self.follow();
        let (signed, code) = packet.split_at_mut(MAC_OFFSET);
        if let Some(key) = self.derived.first() {
            code.copy_from_slice(&mac(key, signed).finalize().into_bytes());
        }
    }

    /// True for a whole packet with the code of a key in force. Takes the same time wherever a
    /// wrong code differs.
    pub fn accepts(&mut self, packet: &[u8]) -> bool {
        self.follow();
        if packet.len() != BYTES {
            return false;
        }
        let (signed, code) = packet.split_at(MAC_OFFSET);
        self.derived.iter().any(|key| mac(key, signed).verify_slice(code).is_ok())
    }

    /// Takes up a secret that was read again.
    fn follow(&mut self) {
        let keys = self.secret.keys();
        if !Arc::ptr_eq(&keys, &self.keys) {
            self.derived = derive(&keys, self.cluster);
            self.keys = keys;
        }
    }
}

impl fmt::Debug for HeartbeatKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeartbeatKeys").field("secret", &self.secret).finish_non_exhaustive()
    }
}

fn derive(keys: &Keys, cluster: u128) -> Vec<KeyBytes> {
    keys.all().map(|key| key.heartbeat(cluster)).collect()
}

fn mac(key: &KeyBytes, signed: &[u8]) -> Blake2sMac<U16> {
    let key: &[u8; 32] = key;
    let mut mac: Blake2sMac<U16> = KeyInit::new(key.into());
    mac.update(signed);
    mac
}

#[cfg(test)]
mod tests {
    use zepto_abi::{Incarnation, NodeId};
    use zepto_core::heartbeat::{BARE_BYTES, Heartbeat, Trailer};

    use super::*;
    use crate::secure::KeyId;

    const OLD: &str = "old-key-0123456789abcdef01234567";
    const NEW: &str = "new-key-0123456789abcdef01234567";

    fn secret(keys: &[&str]) -> (tempfile::NamedTempFile, ClusterSecret) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), keys.join("\n")).expect("a file");
        let secret = ClusterSecret::open(file.path()).expect("valid keys");
        (file, secret)
    }

    fn keys(lines: &[&str]) -> HeartbeatKeys {
        HeartbeatKeys::new(secret(lines).1, 1)
    }

    fn packet() -> [u8; BYTES] {
        let trailer = Trailer {
            incarnation: Incarnation(2),
            topology_index: 3,
            topology_hash: 4,
            mac: [0; 16],
        };
        let trailer = Some(trailer);
        Heartbeat { node: NodeId(1), seq: 5, timestamp_ns: 6, trailer }.encode().0
    }

    #[test]
    fn a_signed_heartbeat_is_accepted_and_one_changed_in_any_bit_or_bare_is_not() {
        let mut signed = packet();
        keys(&[OLD]).sign(&mut signed);
        assert_eq!(signed[..MAC_OFFSET], packet()[..MAC_OFFSET], "only the code is written");
        let mut there = keys(&[OLD]);
        assert!(there.accepts(&signed));
        for bit in 0..BYTES * 8 {
            let mut changed = signed;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!there.accepts(&changed), "bit {bit}");
        }
        for length in 0..BYTES {
            assert!(!there.accepts(&signed[..length]), "{length} bytes");
        }
        assert!(!there.accepts(&packet()), "a code of zeros is none");
        assert!(!there.accepts(&packet()[..BARE_BYTES]), "a bare packet shows nothing");
    }

    #[test]
    fn a_heartbeat_of_another_secret_or_another_cluster_is_not_accepted() {
        let mut signed = packet();
        keys(&[NEW]).sign(&mut signed);
        assert!(!keys(&[OLD]).accepts(&signed));
        let (_file, secret) = secret(&[OLD]);
        HeartbeatKeys::new(secret.clone(), 2).sign(&mut signed);
        assert!(!HeartbeatKeys::new(secret, 1).accepts(&signed));
    }

    #[tokio::test]
    async fn while_a_key_is_rotated_both_are_accepted_and_the_first_signs() {
        let (file, secret) = secret(&[OLD]);
        let mut node = HeartbeatKeys::new(secret.clone(), 1);
        let (mut by_old, mut by_new) = (packet(), packet());
        keys(&[OLD]).sign(&mut by_old);
        keys(&[NEW]).sign(&mut by_new);
        // What the file says, and whether the old and the new code are accepted.
        let steps: [(&[&str], bool, bool); 3] =
            [(&[OLD, NEW], true, true), (&[NEW, OLD], true, true), (&[NEW], false, true)];
        assert!(node.accepts(&by_old) && !node.accepts(&by_new));
        for (lines, old, new) in steps {
            std::fs::write(file.path(), lines.join("\n")).expect("a file");
            // Asking for a key that nobody knows makes it look at the file.
            assert!(secret.key_with(KeyId([0; 8])).await.is_none());
            assert_eq!((node.accepts(&by_old), node.accepts(&by_new)), (old, new), "{lines:?}");
            let mut signed = packet();
            node.sign(&mut signed);
            assert_eq!(signed == by_new, lines[0] == NEW, "{lines:?}");
        }
    }
}
