//! Native plugins: shared libraries, which are trusted code and allowed only when that is said.
//! What they say of themselves is read from the file before any of their code runs.

mod current;
mod elf;
mod instance;
mod library;
mod table;

pub use elf::descriptor;
pub use instance::NativeInstance;
pub use library::Library;
