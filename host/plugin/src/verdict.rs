//! Whether a plugin fits this host: versions, kinds, capabilities. Decided from its descriptor,
//! before any of its code runs (native), or inside the sandbox (Wasm).

use crate::error::LoadError;
use zepto_abi::plugin::{
    ABI_MAJOR, ABI_MINOR, CAP_HTTP, CAP_KV, CAP_METRIC, CAP_RANDOM, CAP_UDP, KIND_DISCOVERY,
    KIND_MIGRATION, KIND_SNAPSHOT,
};
use zepto_message::Info;

use crate::file::Target;

const KINDS: [(u32, &str); 3] = [
    (1 << KIND_DISCOVERY, "discovery"),
    (1 << KIND_MIGRATION, "migration_strategy"),
    (1 << KIND_SNAPSHOT, "snapshot_hooks"),
];

const CAPABILITIES: [(u64, &str); 5] = [
    (CAP_RANDOM, "random"),
    (CAP_HTTP, "http"),
    (CAP_UDP, "udp"),
    (CAP_KV, "kv"),
    (CAP_METRIC, "metric"),
];

/// The names of kinds.
pub fn kind_names(kinds: u32) -> Vec<&'static str> {
    KINDS.iter().filter(|(bit, _)| kinds & bit != 0).map(|(_, name)| *name).collect()
}

/// The names of capabilities.
pub fn capability_names(caps: u64) -> Vec<&'static str> {
    CAPABILITIES.iter().filter(|(bit, _)| caps & bit != 0).map(|(_, name)| *name).collect()
}

/// Whether a plugin may be loaded under a name with these capabilities granted.
///
/// # Errors
/// Why not.
pub fn judge(info: &Info, target: Target, name: &str, granted: u64) -> Result<(), LoadError> {
    judge_versions(info, target)?;
    judge_kinds(info)?;
    let missing = info.caps & !granted;
    if missing & !known_capabilities() != 0 {
        let text = format!("needs capabilities {missing:#x}, which this host does not have");
        return Err(LoadError::Version(text));
    }
    if missing != 0 {
        let names = capability_names(missing);
        let flags: Vec<_> = names.iter().map(|cap| format!("--grant {name}:{cap}...")).collect();
        return Err(LoadError::NotGranted(format!(
            "{name} asks for {}, which is not granted; add {}",
            names.join(" and "),
            flags.join(" ")
        )));
    }
    Ok(())
}

/// The part of it that is about versions alone.
fn judge_versions(info: &Info, target: Target) -> Result<(), LoadError> {
    if info.abi_major != ABI_MAJOR {
        return Err(LoadError::Version(format!(
            "needs plugin ABI {}, this host speaks {ABI_MAJOR} (zepto-host {})",
            info.abi_major,
            env!("CARGO_PKG_VERSION")
        )));
    }
    if info.min_host_minor > ABI_MINOR {
        return Err(LoadError::Version(format!(
            "needs a host with plugin ABI {ABI_MAJOR}.{} or newer, this one has \
             {ABI_MAJOR}.{ABI_MINOR} (zepto-host {})",
            info.min_host_minor,
            env!("CARGO_PKG_VERSION")
        )));
    }
    let bits = match target {
        Target::Wasm => 32,
        Target::Native => 64,
    };
    if info.ptr_bits != bits {
        let text = format!("its descriptor says {} bits, it has {bits}", info.ptr_bits);
        return Err(LoadError::NotAPlugin(text));
    }
    if info.flags != 0 {
        let text = format!("its descriptor has flags {:#x}, which are of the future", info.flags);
        return Err(LoadError::Version(text));
    }
    Ok(())
}

/// The part of it that is about what it is for.
fn judge_kinds(info: &Info) -> Result<(), LoadError> {
    let known = KINDS.iter().fold(0, |all, (bit, _)| all | bit);
    if info.kinds != 0 && info.kinds & !known == 0 {
        return Ok(());
    }
    let text = "this host knows discovery, migration_strategy and snapshot_hooks";
    Err(LoadError::Kind(format!("kinds {:#x}: {text}", info.kinds)))
}

/// All capabilities that this host has.
pub fn known_capabilities() -> u64 {
    CAPABILITIES.iter().fold(0, |all, (bit, _)| all | bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> Info {
        let bytes = Info::bytes((1, 0, 0), (1, 1), ("p", "1", "v"));
        Info::read(&bytes).unwrap()
    }

    fn refused(change: impl FnOnce(&mut Info), text: &str) {
        let mut info = info();
        change(&mut info);
        let error = judge(&info, Target::Native, "k8s", CAP_KV).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_to_do() {
        judge(&info(), Target::Native, "k8s", 0).unwrap();
        refused(|i| i.abi_major = 2, "needs plugin ABI 2, this host speaks 1 (zepto-host ");
        refused(|i| i.min_host_minor = 3, "plugin ABI 1.3 or newer, this one has 1.0");
        refused(|i| i.ptr_bits = 32, "says 32 bits, it has 64");
        refused(|i| i.flags = 1, "of the future");
        refused(|i| i.kinds = 0, "this host knows");
        refused(|i| i.kinds = 9, "this host knows");
        refused(
            |i| i.caps = CAP_HTTP | CAP_KV,
            "k8s asks for http, which is not granted; add --grant k8s:http",
        );
        refused(|i| i.caps = 1 << 40, "which this host does not have");
    }

    #[test]
    fn what_is_granted_or_optional_is_no_reason_to_refuse() {
        let mut info = info();
        (info.caps, info.optional_caps) = (CAP_KV, CAP_HTTP);
        // Built with a newer header, for a host as old as this one.
        info.abi_minor = 7;
        judge(&info, Target::Native, "k8s", CAP_KV).unwrap();
    }
}
