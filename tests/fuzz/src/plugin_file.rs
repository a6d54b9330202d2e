//! A plugin's file, as far as it is read before any of it runs: a module's imports and exports, a
//! library's descriptor.

use std::path::Path;
use zepto_plugin::file::{PluginFile, Target as Made};
use zepto_plugin::native;
use zepto_plugin::stock::STOCK;
use zepto_plugin::verdict::judge;
use zepto_plugin::wasm::scan;

use crate::Target;

/// See the module. Every type, import and export is kept, with its name.
pub const TARGET: Target =
    Target { name: "plugin_file", run, seeds, bytes_fixed: 1 << 20, bytes_per_byte: 1 << 10 };

/// Bytes of a stock module that are a seed: its types, imports and functions.
const HEAD_BYTES: usize = 2048;

/// Any bytes as a plugin's file.
pub fn run(input: &[u8]) {
    let Ok(file) = PluginFile::of(Path::new("x"), input.into()) else { return };
    match file.target {
        Made::Wasm => {
            if let Ok(scanned) = scan(input) {
                assert!(scanned.unknown.is_subset(&scanned.imports));
            }
        }
        Made::Native => {
            if let Ok(info) = native::descriptor(input) {
                let judged = judge(&info, file.target, "x", 0);
                assert!(judged.is_err() || info.ptr_bits == 64);
            }
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let heads = STOCK.iter().map(|stock| stock.bytes.iter().copied().take(HEAD_BYTES).collect());
    let small = wat::parse_str(
        r#"(module
          (import "zepto_host_v1" "log" (func (param i64 i32 i32 i32) (result i32)))
          (import "zepto_host_v1" "later" (func (param i64) (result i32)))
          (memory (export "memory") 2)
          (func (export "zp_plugin_info_v1") (result i32) (i32.const 0))
          (func (export "zp_plugin_open_v1") (param i64 i32 i32) (result i64) (i64.const 1))
          (func (export "zp_plugin_event_v1") (param i64 i32 i32) (result i32) (i32.const 0))
          (func (export "zp_plugin_close_v1") (param i64) (result i32) (i32.const 0))
          (func (export "zp_alloc_v1") (param i32) (result i32) (i32.const 0))
          (func (export "zp_free_v1") (param i32 i32)))"#,
    );
    let mut seeds: Vec<Vec<u8>> = heads.collect();
    seeds.push(small.expect("a module"));
    seeds.push(library());
    seeds
}

/// An ELF file of one section, with a descriptor in it.
fn library() -> Vec<u8> {
    let mut file = vec![0; 64];
    file[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    let names = b"\0zepto_plugin\0.shstrtab\0";
    let info = zepto_message::Info::bytes((1, 0, 0), (1, 1), ("n", "1", "v"));
    let info_at = file.len() as u64;
    file.extend(info);
    let names_at = file.len() as u64;
    file.extend(names);
    file.resize(file.len().next_multiple_of(8), 0);
    let sections_at = file.len() as u64;
    let mut section = |name: u32, kind: u32, at: u64, size: u64| {
        file.extend(name.to_le_bytes());
        file.extend(kind.to_le_bytes());
        for word in [0, 0, at, size, 0, 8, 0] {
            file.extend(word.to_le_bytes());
        }
    };
    section(0, 0, 0, 0);
    section(1, 1, info_at, 256);
    section(14, 3, names_at, names.len() as u64);
    // Type, machine, version; where the sections are, how large one is, how many, which has names.
    file[16..18].copy_from_slice(&3u16.to_le_bytes());
    file[18..20].copy_from_slice(&62u16.to_le_bytes());
    file[20..24].copy_from_slice(&1u32.to_le_bytes());
    file[40..48].copy_from_slice(&sections_at.to_le_bytes());
    file[52..54].copy_from_slice(&64u16.to_le_bytes());
    file[58..60].copy_from_slice(&64u16.to_le_bytes());
    file[60..62].copy_from_slice(&3u16.to_le_bytes());
    file[62..64].copy_from_slice(&2u16.to_le_bytes());
    file
}
