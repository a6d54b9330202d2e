//! The descriptor in a shared library's file.

use crate::error::LoadError;
use object::elf::{EM_AARCH64, EM_X86_64, ET_DYN};
use object::read::elf::{ElfFile64, FileHeader};
use object::{Endianness, Object, ObjectSection, ObjectSymbol};
use zepto_message::Info;

/// The section that the descriptor stands in.
const SECTION: &str = "zepto_plugin";

/// The functions that a plugin exports.
const EXPORTS: [&[u8]; 4] =
    [b"zp_plugin_bind_v1", b"zp_plugin_open_v1", b"zp_plugin_event_v1", b"zp_plugin_close_v1"];

const MACHINE: (u16, &str) =
    if cfg!(target_arch = "aarch64") { (EM_AARCH64, "aarch64") } else { (EM_X86_64, "x86-64") };

/// Reads the descriptor of a shared library, without running anything of it.
///
/// # Errors
/// When it is no shared library for this machine, or has no descriptor.
pub fn descriptor(bytes: &[u8]) -> Result<Info, LoadError> {
    let not = |text: String| LoadError::NotAPlugin(text);
    let file = ElfFile64::<Endianness>::parse(bytes);
    let file = file.map_err(|error| not(format!("no 64-bit ELF file: {error}")))?;
    let (header, endian) = (file.elf_header(), file.endian());
    if header.e_type(endian) != ET_DYN {
        return Err(not("an ELF file, but no shared library".into()));
    }
    let (machine, name) = MACHINE;
    if header.e_machine(endian) != machine {
        return Err(not(format!("a shared library for another machine than {name}")));
    }
    for name in EXPORTS {
        let mut symbols = file.dynamic_symbols();
        if !symbols.any(|symbol| symbol.is_definition() && symbol.name_bytes() == Ok(name)) {
            let name = String::from_utf8_lossy(name);
            return Err(not(format!("a shared library that does not export {name}")));
        }
    }
    let section = file.section_by_name(SECTION);
    let section = section.ok_or_else(|| {
        not(format!("a shared library without the section {SECTION}: say ZP_PLUGIN(...) once"))
    })?;
    let data = section.data().map_err(|error| not(error.to_string()))?;
    Info::read(data).ok_or_else(|| not(format!("no descriptor in its section {SECTION}")))
}
