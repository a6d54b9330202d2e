//! From a file to something that can be instantiated: read, judged, compiled or opened, in that
//! order, and refused at the first step that fails.

use crate::context::{Context, Setting};
use crate::error::LoadError;
use crate::file::{PluginFile, Sha256, Target};
use crate::instance::Instance;
use crate::kv::Kv;
use crate::native::{self, Library, NativeInstance};
use crate::verdict::{judge, known_capabilities};
use crate::wasm::{Engines, Module, Scan, WasmInstance};
use std::path::{Path, PathBuf};
use zepto_message::Info;

/// Directory of compiled modules, and of copies of native libraries, below the loader's.
const COMPILED: &str = "compiled";
const NATIVE: &str = "native";

/// Loads plugins for one process.
pub struct Loader {
    engines: Engines,
    directory: PathBuf,
    allow_native: bool,
}

/// A plugin that may be instantiated.
#[derive(Clone)]
pub struct Loaded {
    /// The file it is from.
    pub path: PathBuf,
    /// Hash of the file.
    pub sha256: Sha256,
    /// What it says of itself.
    pub info: Info,
    code: Code,
}

#[derive(Clone)]
enum Code {
    Wasm(Module),
    Native(Library),
}

impl Loaded {
    /// What it is made of.
    pub fn target(&self) -> Target {
        match self.code {
            Code::Wasm(_) => Target::Wasm,
            Code::Native(_) => Target::Native,
        }
    }

    /// Whether it was compiled before.
    pub fn is_cached(&self) -> bool {
        matches!(&self.code, Code::Wasm(module) if module.is_cached)
    }

    /// Makes an instance.
    ///
    /// # Errors
    /// When it wants more memory than it may have, or its start function fails.
    pub fn instantiate(&self, mut context: Context) -> Result<Instance, LoadError> {
        context.set_kinds(self.info.kinds);
        Ok(match &self.code {
            Code::Wasm(module) => Instance::Wasm(Box::new(WasmInstance::new(module, context)?)),
            Code::Native(library) => {
                Instance::Native(Box::new(NativeInstance::new(library, context)))
            }
        })
    }
}

impl Loader {
    /// A loader that keeps what it makes below a directory, which no other process uses. `signals`
    /// as for [`Engines::new`].
    ///
    /// # Errors
    /// When the machine is none that it compiles for, or the directory cannot be used.
    pub fn new(directory: &Path, allow_native: bool, signals: bool) -> Result<Self, LoadError> {
        let copies = directory.join(NATIVE);
        match std::fs::remove_dir_all(&copies) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(LoadError::System(format!("{}: {error}", copies.display())));
            }
            // Copies of a process before this one.
            _ => {}
        }
        let engines = Engines::new(Some(&directory.join(COMPILED)), signals)?;
        Ok(Self { engines, directory: directory.to_owned(), allow_native })
    }

    /// What all Wasm plugins share.
    pub fn engines(&self) -> &Engines {
        &self.engines
    }

    /// Loads a file as a plugin. Compiles, so it takes milliseconds.
    ///
    /// # Errors
    /// Why it is not loaded.
    pub fn load(&self, file: &PluginFile, setting: &Setting) -> Result<Loaded, LoadError> {
        let granted = setting.grants.caps();
        let (info, code) = match file.target {
            Target::Wasm => {
                let module = self.engines.load(file)?;
                let mut instance = WasmInstance::new(&module, bare(setting))?;
                let info = instance.info()?;
                judge(&info, file.target, &setting.name, granted)?;
                (info, Code::Wasm(module))
            }
            Target::Native => {
                let info = native::descriptor(&file.bytes)?;
                if !self.allow_native {
                    return Err(LoadError::NativeNotAllowed);
                }
                judge(&info, file.target, &setting.name, granted)?;
                let directory = self.directory.join(NATIVE);
                let library = Library::open(file, &directory)?;
                (info, Code::Native(library))
            }
        };
        Ok(Loaded { path: file.path.clone(), sha256: file.sha256, info, code })
    }

    /// The same plugin for another instance. A library is opened once more, under another name: its
    /// variables are as the instance before left them, and a thread that hangs may still use them.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn renew(&self, loaded: &Loaded) -> Result<Loaded, LoadError> {
        let code = match &loaded.code {
            Code::Wasm(module) => Code::Wasm(module.clone()),
            Code::Native(library) => Code::Native(library.again(&self.directory.join(NATIVE))?),
        };
        Ok(Loaded { code, ..loaded.clone() })
    }

    /// Looks at a file without granting it anything. Of a native plugin no code runs.
    ///
    /// # Errors
    /// Why it would not be loaded, whatever it were granted.
    pub fn examine(
        &self,
        file: &PluginFile,
        setting: &Setting,
    ) -> Result<(Info, Option<Scan>), LoadError> {
        let (info, scan) = match file.target {
            Target::Wasm => {
                let module = self.engines.load(file)?;
                let info = WasmInstance::new(&module, bare(setting))?.info()?;
                (info, Some(module.scan))
            }
            Target::Native => (native::descriptor(&file.bytes)?, None),
        };
        judge(&info, file.target, &setting.name, known_capabilities())?;
        Ok((info, scan))
    }
}

/// A context for an instance that only tells its descriptor.
fn bare(setting: &Setting) -> Context {
    Context::new(setting.clone(), 0, Kv::default())
}
