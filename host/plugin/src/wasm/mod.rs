//! Wasm plugins: looked at, compiled, and run in a sandbox with a deadline and a memory limit.

mod cache;
mod engine;
mod imports;
mod instance;
mod scan;
mod ticker;

pub use engine::{Engines, Module};
pub use instance::WasmInstance;
pub use scan::{Scan, scan};
pub use ticker::Ticker;
