//! A plugin's descriptor: what it says of itself.

use crate::names::is_hidden;
use alloc::borrow::ToOwned;
use alloc::string::String;
use core::mem::offset_of;
use zepto_abi::plugin::{self as abi, MAGIC};

const SIZE: usize = size_of::<abi::PluginInfo>();

/// What a plugin says of itself. Which versions and capabilities are good enough is for the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The major version it was built for.
    pub abi_major: u16,
    /// The minor version of its header.
    pub abi_minor: u16,
    /// The lowest minor version of a host that it can do with.
    pub min_host_minor: u16,
    /// 32 for wasm32, 64 for native code.
    pub ptr_bits: u16,
    /// `1 << KIND_*`.
    pub kinds: u32,
    /// Flags of the future.
    pub flags: u32,
    /// Capabilities without which it does not work.
    pub caps: u64,
    /// Capabilities it uses where it has them.
    pub optional_caps: u64,
    /// Version of the state that it exports.
    pub state_version: u32,
    /// Oldest version of the state that it imports.
    pub min_state_version: u32,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Who made it.
    pub vendor: String,
}

impl Info {
    /// Reads a descriptor; `None` when these bytes are none.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SIZE] = bytes.get(..SIZE)?.try_into().ok()?;
        let size = u32_at(bytes, offset_of!(abi::PluginInfo, struct_size)) as usize;
        if !bytes.starts_with(&MAGIC) || size < SIZE {
            return None;
        }
        Some(Self {
            abi_major: u16_at(bytes, offset_of!(abi::PluginInfo, abi_major)),
            abi_minor: u16_at(bytes, offset_of!(abi::PluginInfo, abi_minor)),
            min_host_minor: u16_at(bytes, offset_of!(abi::PluginInfo, min_host_minor)),
            ptr_bits: u16_at(bytes, offset_of!(abi::PluginInfo, ptr_bits)),
            kinds: u32_at(bytes, offset_of!(abi::PluginInfo, kinds)),
            flags: u32_at(bytes, offset_of!(abi::PluginInfo, flags)),
            caps: u64_at(bytes, offset_of!(abi::PluginInfo, caps)),
            optional_caps: u64_at(bytes, offset_of!(abi::PluginInfo, optional_caps)),
            state_version: u32_at(bytes, offset_of!(abi::PluginInfo, state_version)),
            min_state_version: u32_at(bytes, offset_of!(abi::PluginInfo, min_state_version)),
            name: text::<48>(bytes, offset_of!(abi::PluginInfo, name))?,
            version: text::<32>(bytes, offset_of!(abi::PluginInfo, version))?,
            vendor: text::<48>(bytes, offset_of!(abi::PluginInfo, vendor))?,
        })
    }

    /// The bytes of a descriptor; texts that are too long are cut.
    pub const fn bytes(
        (kinds, caps, optional_caps): (u32, u64, u64),
        (state_version, min_state_version): (u32, u32),
        (name, version, vendor): (&str, &str, &str),
    ) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes = put(bytes, offset_of!(abi::PluginInfo, magic), &MAGIC, 8);
        bytes =
            put(bytes, offset_of!(abi::PluginInfo, struct_size), &(SIZE as u32).to_le_bytes(), 4);
        let (major, minor) = (abi::ABI_MAJOR.to_le_bytes(), abi::ABI_MINOR.to_le_bytes());
        bytes = put(bytes, offset_of!(abi::PluginInfo, abi_major), &major, 2);
        bytes = put(bytes, offset_of!(abi::PluginInfo, abi_minor), &minor, 2);
        bytes = put(bytes, offset_of!(abi::PluginInfo, min_host_minor), &minor, 2);
        let bits = (usize::BITS as u16).to_le_bytes();
        bytes = put(bytes, offset_of!(abi::PluginInfo, ptr_bits), &bits, 2);
        bytes = put(bytes, offset_of!(abi::PluginInfo, kinds), &kinds.to_le_bytes(), 4);
        bytes = put(bytes, offset_of!(abi::PluginInfo, caps), &caps.to_le_bytes(), 8);
        let optional = optional_caps.to_le_bytes();
        bytes = put(bytes, offset_of!(abi::PluginInfo, optional_caps), &optional, 8);
        let version_bytes = state_version.to_le_bytes();
        bytes = put(bytes, offset_of!(abi::PluginInfo, state_version), &version_bytes, 4);
        let oldest = min_state_version.to_le_bytes();
        bytes = put(bytes, offset_of!(abi::PluginInfo, min_state_version), &oldest, 4);
        bytes = put(bytes, offset_of!(abi::PluginInfo, name), name.as_bytes(), 47);
        bytes = put(bytes, offset_of!(abi::PluginInfo, version), version.as_bytes(), 31);
        put(bytes, offset_of!(abi::PluginInfo, vendor), vendor.as_bytes(), 47)
    }
}

const fn put(mut to: [u8; SIZE], at: usize, from: &[u8], most: usize) -> [u8; SIZE] {
    let mut i = 0;
    while i < from.len() && i < most {
        to[at + i] = from[i];
        i += 1;
    }
    to
}

fn array<const N: usize>(bytes: &[u8; SIZE], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|part| part.try_into().ok()).unwrap_or([0; N])
}

fn u16_at(bytes: &[u8; SIZE], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

fn u32_at(bytes: &[u8; SIZE], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8; SIZE], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

/// Text up to its first zero; `None` when it is not text that a terminal may show.
fn text<const N: usize>(bytes: &[u8; SIZE], at: usize) -> Option<String> {
    let padded: [u8; N] = array(bytes, at);
    let text = padded.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = core::str::from_utf8(text).ok()?;
    (!text.contains(is_hidden)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_read_as_it_was_written() {
        let bytes = Info::bytes((1, 2, 4), (5, 3), ("name", "1.2.3", "vendor"));
        let info = Info::read(&bytes).unwrap();
        assert_eq!((info.kinds, info.caps, info.optional_caps), (1, 2, 4));
        assert_eq!((info.state_version, info.min_state_version), (5, 3));
        assert_eq!((info.abi_major, info.abi_minor, info.ptr_bits), (1, 0, 64));
        assert_eq!((&*info.name, &*info.version, &*info.vendor), ("name", "1.2.3", "vendor"));
    }

    #[test]
    fn what_is_no_descriptor_is_not_read() {
        let good = Info::bytes((1, 0, 0), (1, 1), ("name", "", ""));
        assert!(Info::read(&good[..255]).is_none(), "too short");
        let spoil = |at: usize, value: u8| {
            let mut bytes = good;
            bytes[at] = value;
            Info::read(&bytes)
        };
        assert!(spoil(0, b'z').is_none(), "another magic");
        assert!(spoil(9, 0).is_none(), "a smaller struct");
        assert!(spoil(offset_of!(abi::PluginInfo, name), 0x1b).is_none(), "an escape sequence");
        assert!(spoil(offset_of!(abi::PluginInfo, name), 0xff).is_none(), "not UTF-8");
        assert!(spoil(offset_of!(abi::PluginInfo, name), b'N').is_some());
    }
}
