//! What a module imports and exports, read before it is compiled.

use crate::context::clip;
use crate::error::LoadError;
use std::collections::{BTreeMap, BTreeSet};
use wasmparser::{
    CompositeInnerType, ExternalKind, Parser, Payload, SubType, TypeRef, ValType, WasmFeatures,
};
use zepto_abi::plugin::{ABI_MAJOR, FUNCTIONS, IMPORT_MODULE, IMPORT_MODULE_PREFIX, Value};

/// Types, imports and exports that a module may have.
const ITEMS_MAX: u32 = 10_000;
/// Bytes of the name of something that is imported.
const NAME_BYTES: usize = 64;
/// Bytes of a page of memory.
const PAGE: u64 = 64 << 10;

/// The functions that a plugin exports, with their types.
const EXPORTS: [(&str, &[Value], &[Value]); 6] = [
    ("zp_plugin_info_v1", &[], &[Value::I32]),
    ("zp_plugin_open_v1", &[Value::I64, Value::I32, Value::I32], &[Value::I64]),
    ("zp_plugin_event_v1", &[Value::I64, Value::I32, Value::I32], &[Value::I32]),
    ("zp_plugin_close_v1", &[Value::I64], &[Value::I32]),
    ("zp_alloc_v1", &[Value::I32], &[Value::I32]),
    ("zp_free_v1", &[Value::I32, Value::I32], &[]),
];

/// A function's type; `None` when it has other types than numbers of 32 and 64 bits.
type Signature = Option<(Vec<Value>, Vec<Value>)>;

/// What a module imports, and how much memory it begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Functions of the host that it calls.
    pub imports: BTreeSet<String>,
    /// Those of them that this host does not have; calling one gives `ZP_E_UNSUPPORTED`.
    pub unknown: BTreeSet<String>,
    /// Bytes of memory that it begins with.
    pub memory_bytes: u64,
}

/// Reads a module.
///
/// # Errors
/// What makes it no plugin, or one for another version.
pub fn scan(bytes: &[u8]) -> Result<Scan, LoadError> {
    let mut sections = Sections::default();
    let mut parser = Parser::new(0);
    parser.set_features(features());
    for payload in parser.parse_all(bytes) {
        let payload = payload.map_err(|error| not(format!("not valid: {error}")))?;
        sections.take(payload).map_err(|error| match error {
            Wrong::Load(error) => error,
            Wrong::Parse(error) => not(format!("not valid: {error}")),
        })?;
    }
    sections.verdict()
}

/// What modules may use: nothing with threads, several memories, or 64-bit addresses.
fn features() -> WasmFeatures {
    WasmFeatures::WASM2
}

fn not(text: String) -> LoadError {
    LoadError::NotAPlugin(text)
}

enum Wrong {
    Load(LoadError),
    Parse(wasmparser::BinaryReaderError),
}

impl From<wasmparser::BinaryReaderError> for Wrong {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        Self::Parse(error)
    }
}

impl From<LoadError> for Wrong {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

#[derive(Default)]
struct Sections {
    types: Vec<Signature>,
    /// Type of each function, imported ones first.
    functions: Vec<u32>,
    exports: BTreeMap<String, (ExternalKind, u32)>,
    memories: usize,
    scan: Scan,
}

impl Sections {
    fn take(&mut self, payload: Payload<'_>) -> Result<(), Wrong> {
        match payload {
            Payload::TypeSection(types) => {
                bounded("types", types.count())?;
                for group in types {
                    self.types.extend(group?.into_types().map(|sub| signature(&sub)));
                }
            }
            Payload::ImportSection(imports) => {
                bounded("imports", imports.count())?;
                for import in imports.into_imports() {
                    let import = import?;
                    self.import(import.module, import.name, import.ty)?;
                }
            }
            Payload::FunctionSection(functions) => {
                for function in functions {
                    self.functions.push(function?);
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    let memory = memory?;
                    self.memories += 1;
                    if memory.memory64 || memory.shared {
                        return Err(not("its memory is shared, or has 64 bits".into()).into());
                    }
                    self.scan.memory_bytes = memory.initial.saturating_mul(PAGE);
                }
            }
            Payload::ExportSection(exports) => {
                bounded("exports", exports.count())?;
                for export in exports {
                    let export = export?;
                    self.exports.insert(export.name.to_owned(), (export.kind, export.index));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, module: &str, name: &str, ty: TypeRef) -> Result<(), LoadError> {
        // Names of a file that nobody has looked at yet.
        let shown = |name: &str| clip(name.as_bytes(), NAME_BYTES);
        if let Some(version) = module.strip_prefix(IMPORT_MODULE_PREFIX)
            && module != IMPORT_MODULE
        {
            return Err(LoadError::Version(format!(
                "needs plugin ABI {}, this host speaks {ABI_MAJOR} (zepto-host {})",
                shown(version),
                env!("CARGO_PKG_VERSION")
            )));
        }
        if module != IMPORT_MODULE {
            let text = format!(
                "it imports {}::{}; a plugin may import {IMPORT_MODULE} only (build for \
                 wasm32-unknown-unknown, not for WASI)",
                shown(module),
                shown(name)
            );
            return Err(not(text));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.len() > NAME_BYTES || !name.bytes().all(plain) {
            return Err(not(format!("it imports {module}::{}, which is no name", shown(name))));
        }
        let TypeRef::Func(index) = ty else {
            return Err(not(format!("it imports {module}::{name}, which is no function")));
        };
        let signature = self.types.get(index as usize).cloned().flatten();
        let known = FUNCTIONS.iter().find(|function| function.name == name);
        let fits = match (&signature, known) {
            (Some((parameters, results)), Some(function)) => {
                parameters == function.parameters && results == &[Value::I32]
            }
            // A function of a later version: it returns a status, and says that there is none.
            (Some((_, results)), None) => results == &[Value::I32],
            (None, _) => false,
        };
        if !fits {
            let text = format!("incompatible import type for {module}::{name}");
            return Err(LoadError::Link(text));
        }
        if known.is_none() {
            self.scan.unknown.insert(name.to_owned());
        }
        self.scan.imports.insert(name.to_owned());
        self.functions.push(index);
        Ok(())
    }

    fn verdict(self) -> Result<Scan, LoadError> {
        for (name, parameters, results) in EXPORTS {
            let Some(&(ExternalKind::Func, index)) = self.exports.get(name) else {
                return Err(not(format!("it does not export the function {name}")));
            };
            let signature = self.functions.get(index as usize);
            let signature = signature.and_then(|index| self.types.get(*index as usize));
            let fits = signature.is_some_and(|signature| {
                signature.as_ref().is_some_and(|(p, r)| p == parameters && r == results)
            });
            if !fits {
                return Err(not(format!("its export {name} has another type")));
            }
        }
        if !matches!(self.exports.get("memory"), Some((ExternalKind::Memory, 0))) {
            return Err(not("it does not export its memory as \"memory\"".into()));
        }
        if self.memories != 1 {
            return Err(not(format!("it has {} memories of its own, not one", self.memories)));
        }
        Ok(self.scan)
    }
}

fn bounded(what: &str, count: u32) -> Result<(), LoadError> {
    if count <= ITEMS_MAX {
        return Ok(());
    }
    Err(not(format!("{count} {what}, at most {ITEMS_MAX}")))
}

fn signature(sub: &SubType) -> Signature {
    let CompositeInnerType::Func(function) = &sub.composite_type.inner else { return None };
    let values = |types: &[ValType]| {
        let value = |ty: &ValType| match ty {
            ValType::I32 => Some(Value::I32),
            ValType::I64 => Some(Value::I64),
            _ => None,
        };
        types.iter().map(value).collect::<Option<Vec<_>>>()
    };
    values(function.params()).zip(values(function.results()))
}
