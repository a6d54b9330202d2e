//! One key of a cluster: a line of text, and what is derived from it.
//!
//! The text itself is forgotten at once. Each use has a key of its own, derived with BLAKE2s keyed
//! by the hashed text and a label, so that no use tells anything about another. Nothing here shows
//! a key; its id names it in logs and refusals. The id is a hash: it is safe to show only because
//! the text is too long to guess.

use std::fmt;
use std::sync::Arc;

use blake2::digest::consts::U32;
use blake2::digest::{KeyInit, Mac};
use blake2::{Blake2s256, Blake2sMac, Digest};
use zepto_core::limits::{SECRET_KEY_CHARACTERS_MAX, SECRET_KEY_CHARACTERS_MIN, SECRET_KEYS_MAX};
use zeroize::Zeroizing;

/// Bytes of a [`KeyId`].
pub(crate) const KEY_ID_BYTES: usize = 8;

/// Bytes of every derived key.
pub(crate) type KeyBytes = Zeroizing<[u8; 32]>;

/// Names a key without telling it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; KEY_ID_BYTES]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// A key, in the forms in which it is used.
pub(crate) struct Key {
    id: KeyId,
    root: KeyBytes,
    session: KeyBytes,
}

impl Key {
    pub(crate) fn new(text: &[u8]) -> Key {
        let mut hash = Blake2s256::new();
        hash.update(b"zepto cluster secret 1\0");
        hash.update(text);
        let root: KeyBytes = Zeroizing::new(hash.finalize().into());
        let [i0, i1, i2, i3, i4, i5, i6, i7, ..] = *derive(&root, &[b"key id"]);
        let id = KeyId([i0, i1, i2, i3, i4, i5, i6, i7]);
        Key { id, session: derive(&root, &[b"session"]), root }
    }

    pub(crate) fn id(&self) -> KeyId {
        self.id
    }

    /// What the Noise hand-shake mixes in.
    pub(crate) fn session(&self) -> &[u8; 32] {
        &self.session
    }

    /// What signs the heartbeats of one cluster.
    pub(crate) fn heartbeat(&self, cluster: u128) -> KeyBytes {
        derive(&self.root, &[b"heartbeat", &cluster.to_le_bytes()])
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The keys of a file: the first is used to connect and to sign, all are accepted.
#[derive(Debug)]
pub(crate) struct Keys {
    first: Arc<Key>,
    second: Option<Arc<Key>>,
}

impl Keys {
    /// Reads one or two keys, one to a line; empty lines and lines that begin with `#` do not
    /// count. The error says what is wrong, never what was read.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Keys, String> {
        let mut keys = Vec::new();
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            check(line).map_err(|text| format!("line {}: {text}", index + 1))?;
            keys.push(Arc::new(Key::new(line)));
        }
        let count = keys.len();
        if count > SECRET_KEYS_MAX {
            return Err(format!("{count} keys"));
        }
        let mut keys = keys.into_iter();
        let first = keys.next().ok_or("no key")?;
        Ok(Keys { first, second: keys.next() })
    }

    pub(crate) fn first(&self) -> &Arc<Key> {
        &self.first
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Key>> {
        std::iter::once(&self.first).chain(&self.second)
    }

    pub(crate) fn ids(&self) -> Vec<KeyId> {
        self.all().map(|key| key.id()).collect()
    }
}

fn check(line: &[u8]) -> Result<(), String> {
    if !line.iter().all(u8::is_ascii_graphic) {
        return Err("a character that is not printable ASCII, or white space".to_owned());
    }
    let count = line.len();
    if (SECRET_KEY_CHARACTERS_MIN..=SECRET_KEY_CHARACTERS_MAX).contains(&count) {
        return Ok(());
    }
    Err(format!("{count} characters"))
}

fn derive(root: &KeyBytes, label: &[&[u8]]) -> KeyBytes {
    let root: &[u8; 32] = root;
    let mut mac: Blake2sMac<U32> = KeyInit::new(root.into());
    for part in label {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "an-old-key-of-32-characters-----";

    #[test]
    fn every_use_has_a_key_of_its_own() {
        let key = Key::new(TEXT.as_bytes());
        let all = [*key.root, *key.session, *key.heartbeat(1), *key.heartbeat(2)];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[index + 1..].contains(one));
            assert_ne!(one[..8], key.id().0);
        }
        assert_eq!(Key::new(TEXT.as_bytes()).id(), key.id());
        assert_ne!(Key::new(b"another").id(), key.id());
    }

    #[test]
    fn neither_a_key_nor_an_error_about_it_shows_it() {
        let keys = Keys::parse(TEXT.as_bytes()).expect("valid");
        let shown = format!("{keys:?}");
        assert!(shown.contains("KeyId(") && !shown.contains("old-key"), "{shown}");
        let session = format!("{:?}", keys.first().session());
        assert!(!shown.contains(&session[1..20]), "{shown}");
        let error = Keys::parse(b"my password").expect_err("too short");
        assert!(!error.contains("password"), "{error}");
    }

    #[test]
    fn one_or_two_lines_are_keys_and_everything_else_is_said_with_its_line() {
        let other = TEXT.replace("old", "new");
        let ids = |text: &str| Keys::parse(text.as_bytes()).map(|keys| keys.ids().len());
        assert_eq!(ids(TEXT), Ok(1));
        assert_eq!(ids(&format!("# old\r\n{TEXT}\r\n\n  # new\n  {other}\n\n")), Ok(2));
        let cases = [
            (String::new(), "no key"),
            ("# only this\n".into(), "no key"),
            (format!("{TEXT}\n{other}\n{TEXT}x"), "3 keys"),
            (TEXT[1..].into(), "line 1: 31 characters"),
            (format!("\n{}", "x".repeat(257)), "line 2: 257 characters"),
            (format!("{TEXT}\nmy key is {TEXT}"), "line 2: a character"),
            (format!("{TEXT}\u{e9}"), "line 1: a character"),
        ];
        for (text, error) in cases {
            assert!(ids(&text).expect_err(error).starts_with(error), "{error}");
        }
    }
}
