//! One plain function per decoder of zepto, `fn(&[u8])`, that takes any bytes whatever.
//!
//! A function panics when the decoder does, and also when it breaks a property that is worth more
//! than not panicking: what was decoded is encoded and decoded to the same, pieces give what the
//! whole gives, every call makes progress, an error changes nothing. How much may be allocated for
//! an input stands beside the function, in its [`Target`].
//!
//! The functions know no fuzzer. Three things run them: the tests of this crate, on seeds and some
//! ten thousand mutations of them each; the program `fuzz`, the same for as long as one likes; and
//! cargo-fuzz, guided by coverage (`cargo-fuzz/README.md`). Seeds are made by code, so that they
//! follow the formats; an input that once failed is a file in `regressions/`.
//!
//! Architecture invariant: nothing of the product depends on this crate, and a function's verdict
//! depends on its input alone.
#![forbid(unsafe_code)]

pub mod bytes;
pub mod config;
pub mod csv;
pub mod dbn;
pub mod entry;
pub mod frame;
pub mod grant;
pub mod heartbeat;
pub mod hello;
pub mod lane;
pub mod mailbox_receiver;
pub mod mailbox_sender;
pub mod message;
pub mod mutate;
pub mod plugin_file;
pub mod plugin_message;
pub mod runner;
pub mod slot;
pub mod ucx_message;
pub mod ucx_ticket;

/// A decoder under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Takes any bytes. Panics if the decoder is wrong.
    pub run: fn(&[u8]),
    /// Inputs that the decoder understands, for the mutations to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Bytes that one run may allocate in all, whatever its input: its fixed buffers.
    pub bytes_fixed: usize,
    /// Bytes that one run may allocate for each byte of its input. A run decodes more than once.
    pub bytes_per_byte: usize,
}

impl Target {
    /// Bytes that a run over so many bytes of input may allocate.
    pub fn bytes_allowed(&self, input_bytes: usize) -> usize {
        self.bytes_fixed + self.bytes_per_byte * input_bytes
    }
}

/// Every target, by name.
pub const TARGETS: [Target; 17] = [
    config::TARGET,
    csv::TARGET,
    dbn::TARGET,
    entry::TARGET,
    frame::TARGET,
    grant::TARGET,
    heartbeat::TARGET,
    hello::TARGET,
    lane::TARGET,
    mailbox_receiver::TARGET,
    mailbox_sender::TARGET,
    message::TARGET,
    plugin_file::TARGET,
    plugin_message::TARGET,
    slot::TARGET,
    ucx_message::TARGET,
    ucx_ticket::TARGET,
];
