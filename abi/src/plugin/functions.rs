//! The functions that cross the boundary: their names and types, as data.

/// The module that a Wasm plugin imports the host's functions from. A new major version has
/// another name, so that a host may have both.
pub const IMPORT_MODULE: &str = "zepto_host_v1";
/// What the names of such modules begin with, whatever the version.
pub const IMPORT_MODULE_PREFIX: &str = "zepto_host_v";

/// Type of an argument or result, as Wasm has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// 32 bits; pointers of a Wasm plugin too.
    I32,
    /// 64 bits.
    I64,
}

/// A function of the host. All return a [`super::PluginStatus`].
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Its name, without `zp_`.
    pub name: &'static str,
    /// Its arguments, as Wasm has them.
    pub parameters: &'static [Value],
    /// The capability that it needs, or 0.
    pub capability: u64,
}

use super::constants::{CAP_HTTP, CAP_KV, CAP_METRIC, CAP_RANDOM, CAP_UDP};
use Value::{I32, I64};

macro_rules! functions {
    ($($name:literal ($($value:ident)*) $capability:expr;)*) => {
        /// The host's functions, in the order of the header; version 1.0 ends with `wake`.
        pub const FUNCTIONS: &[Function] = &[$(Function {
            name: $name,
            parameters: &[$($value),*],
            capability: $capability,
        },)*];
    };
}

functions! {
    "log" (I64 I32 I32 I32) 0;
    "set_error" (I64 I32 I32 I32) 0;
    "info" (I64 I32 I32 I32 I32) 0;
    "clock" (I64 I32 I32) 0;
    "random" (I64 I32 I32) CAP_RANDOM;
    "timer" (I64 I64 I64 I64) 0;
    "cancel" (I64 I64) 0;
    "emit" (I64 I32 I32) 0;
    "reply" (I64 I64 I32 I32 I32) 0;
    "http" (I64 I32 I32 I32) CAP_HTTP;
    "udp_bind" (I64 I32 I32 I32) CAP_UDP;
    "udp_send" (I64 I64 I32 I32 I32 I32) CAP_UDP;
    "kv_get" (I64 I32 I32 I32 I32 I32) CAP_KV;
    "kv_put" (I64 I32 I32 I32 I32) CAP_KV;
    "kv_del" (I64 I32 I32) CAP_KV;
    "metric" (I64 I32 I32 I32 I64) CAP_METRIC;
    "wake" (I64) 0;
}
