//! The configuration of one plugin: what the command line and `[[plugins]]` in the file say.

use crate::file::{PluginFile, Sha256};
use crate::grant::Grant;
use core::fmt;
use core::str::FromStr;
use core::time::Duration;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::path::{Path, PathBuf};
use zepto_core::limits::{
    PLUGIN_CONFIG_BYTES_MAX, PLUGIN_EVENT_MS_DEFAULT, PLUGIN_EVENT_MS_MAX, PLUGIN_GRANTS_MAX,
    PLUGIN_MEMORY_DEFAULT, PLUGIN_MEMORY_MAX, PLUGIN_MEMORY_MIN, PLUGIN_MESSAGE_BYTES_DEFAULT,
    PLUGIN_MESSAGE_BYTES_MAX, PLUGIN_NAME_BYTES_MAX, PLUGIN_NODES_DEFAULT, PLUGIN_NODES_MAX,
    PLUGIN_OPEN_MS, PLUGIN_RESTART_MS_MAX, PLUGIN_RESTART_MS_MIN, PLUGIN_RESTART_WINDOW_MS,
    PLUGIN_RESTARTS_MAX,
};
use zepto_core::size::Size;

/// One plugin of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginConfig {
    /// What it is called here; grants, state and metrics go by it. The file's name if it is empty.
    #[serde(default)]
    pub name: String,
    /// Its file, `.wasm` or `.so`.
    pub file: PathBuf,
    /// The only content that the file may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// What it may do.
    #[serde(default)]
    pub grants: Vec<Grant>,
    /// How much it may use.
    #[serde(default)]
    pub limits: Limits,
    /// What becomes of it when it fails.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Its own configuration; it gets it as JSON.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub config: serde_json::Value,
}

impl PluginConfig {
    /// A plugin of a file, with nothing granted.
    pub fn of(name: String, file: PathBuf) -> Self {
        Self {
            name,
            file,
            sha256: None,
            grants: Vec::new(),
            limits: Limits::default(),
            on_failure: OnFailure::default(),
            config: serde_json::Value::Null,
        }
    }

    /// What it is called.
    pub fn called(&self) -> String {
        if self.name.is_empty() { PluginFile::stem(&self.file) } else { self.name.clone() }
    }

    /// Its configuration as JSON; empty when there is none.
    pub fn json(&self) -> String {
        if self.config.is_null() { String::new() } else { self.config.to_string() }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        let name = self.called();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > PLUGIN_NAME_BYTES_MAX || !name.chars().all(plain) {
            return Err(format!(
                "{name:?} is no name for a plugin (1 to {PLUGIN_NAME_BYTES_MAX} letters, digits, - \
                 and _); give it one: --plugin NAME={}",
                self.file.display()
            ));
        }
        if self.grants.len() > PLUGIN_GRANTS_MAX {
            return Err(format!("{name}: at most {PLUGIN_GRANTS_MAX} grants"));
        }
        let bytes = self.json().len();
        if bytes > PLUGIN_CONFIG_BYTES_MAX {
            return Err(format!(
                "{name}: a configuration of {bytes} bytes, at most {PLUGIN_CONFIG_BYTES_MAX}"
            ));
        }
        self.limits.check().map_err(|text| format!("{name}: {text}"))
    }
}

/// How much a plugin may use: `mem=8MiB,event=50ms,msg=4MiB,nodes=10000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory of one instance. Native code is not held to it.
    pub memory: Size,
    /// Time for one event.
    pub event: Duration,
    /// Bytes of one message in either direction.
    pub message: Size,
    /// Nodes of one answer.
    pub nodes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: Size(PLUGIN_MEMORY_DEFAULT),
            event: Duration::from_millis(PLUGIN_EVENT_MS_DEFAULT),
            message: Size(PLUGIN_MESSAGE_BYTES_DEFAULT),
            nodes: PLUGIN_NODES_DEFAULT,
        }
    }
}

impl Limits {
    /// Time to open an instance, or to hand over its state: no less than for an event.
    pub fn open(&self) -> Duration {
        Duration::from_millis(PLUGIN_OPEN_MS).max(self.event)
    }

    fn check(&self) -> Result<(), String> {
        let within = |key: &str, value: u64, least: u64, most: u64, unit: &str| {
            let holds = (least..=most).contains(&value);
            let text = || format!("limit {key}={value}{unit}: {least}{unit} to {most}{unit}");
            if holds { Ok(()) } else { Err(text()) }
        };
        within("mem", self.memory.0, PLUGIN_MEMORY_MIN, PLUGIN_MEMORY_MAX, "")?;
        within("event", self.event.as_millis() as u64, 1, PLUGIN_EVENT_MS_MAX, "ms")?;
        within("msg", self.message.0, 4096, PLUGIN_MESSAGE_BYTES_MAX, "")?;
        within("nodes", self.nodes.into(), 1, PLUGIN_NODES_MAX.into(), "")
    }
}

impl FromStr for Limits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut limits = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let wrong =
                || format!("limit {part:?}: write mem=8MiB,event=50ms,msg=4MiB,nodes=10000");
            let (key, value) = part.split_once('=').ok_or_else(wrong)?;
            match key {
                "mem" => limits.memory = value.parse()?,
                "event" => limits.event = duration(value)?,
                "msg" => limits.message = value.parse()?,
                "nodes" => limits.nodes = value.parse().map_err(|_| wrong())?,
                _ => return Err(wrong()),
            }
        }
        limits.check()?;
        Ok(limits)
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.event.as_millis();
        write!(f, "mem={},event={ms}ms,msg={},nodes={}", self.memory, self.message, self.nodes)
    }
}

/// What becomes of a plugin that keeps failing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Its last good answer stands.
    KeepLast,
    /// The node ends.
    Abort,
}

/// What becomes of a plugin when it fails: `max=5/10m;backoff=1s..60s;then=keep-last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnFailure {
    /// Restarts within the window.
    pub restarts: u32,
    /// The window.
    pub window: Duration,
    /// First and longest pause before a restart.
    pub backoff: (Duration, Duration),
    /// When there were too many.
    pub then: Then,
}

impl Default for OnFailure {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            restarts: PLUGIN_RESTARTS_MAX as u32,
            window: ms(PLUGIN_RESTART_WINDOW_MS),
            backoff: (ms(PLUGIN_RESTART_MS_MIN), ms(PLUGIN_RESTART_MS_MAX)),
            then: Then::KeepLast,
        }
    }
}

impl FromStr for OnFailure {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut policy = Self::default();
        for part in text.split(';').filter(|part| !part.is_empty()) {
            let wrong = || {
                format!("on-failure {part:?}: write max=5/10m;backoff=1s..60s;then=keep-last|abort")
            };
            match part.split_once('=') {
                Some(("max", value)) => {
                    let (count, window) = value.split_once('/').ok_or_else(wrong)?;
                    policy.restarts = count.parse().map_err(|_| wrong())?;
                    policy.window = duration(window)?;
                }
                Some(("backoff", value)) => {
                    let (first, longest) = value.split_once("..").ok_or_else(wrong)?;
                    policy.backoff = (duration(first)?, duration(longest)?);
                    if policy.backoff.0.is_zero() || policy.backoff.0 > policy.backoff.1 {
                        return Err(wrong());
                    }
                }
                Some(("then", "keep-last")) => policy.then = Then::KeepLast,
                Some(("then", "abort")) => policy.then = Then::Abort,
                _ => return Err(wrong()),
            }
        }
        Ok(policy)
    }
}

impl fmt::Display for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let then = match self.then {
            Then::KeepLast => "keep-last",
            Then::Abort => "abort",
        };
        let (first, longest) = self.backoff;
        write!(
            f,
            "max={}/{}ms;backoff={}ms..{}ms;then={then}",
            self.restarts,
            self.window.as_millis(),
            first.as_millis(),
            longest.as_millis()
        )
    }
}

/// Longest duration of a limit or policy.
const LONGEST: Duration = Duration::from_secs(86_400);

/// A duration as people write it: `50ms`, `30s`, `10m`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration of at most a day; write 50ms, 30s or 10m");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (digits, unit) = text.split_at(split);
    let number: u32 = digits.parse().map_err(|_| wrong())?;
    let duration = match unit {
        "ms" => Duration::from_millis(number.into()),
        "s" => Duration::from_secs(number.into()),
        "m" => Duration::from_secs(u64::from(number) * 60),
        _ => return Err(wrong()),
    };
    if duration <= LONGEST { Ok(duration) } else { Err(wrong()) }
}

macro_rules! as_text {
    ($($name:ident)*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

as_text! { Limits OnFailure }

/// Splits `NAME=REST`; for `--plugin`, a path that has no name gets its own.
///
/// # Errors
/// When there is neither.
pub fn named(text: &str) -> Result<PluginConfig, String> {
    match text.split_once('=') {
        Some((name, file)) if !name.contains('/') && !file.is_empty() => {
            Ok(PluginConfig::of(name.into(), file.into()))
        }
        _ if text.is_empty() => Err("--plugin wants a file".into()),
        _ => Ok(PluginConfig::of(PluginFile::stem(Path::new(text)), text.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_policies_are_read_as_they_are_printed() {
        let limits: Limits = "mem=16MiB,event=20ms".parse().unwrap();
        assert_eq!(limits.to_string(), "mem=16MiB,event=20ms,msg=4MiB,nodes=10000");
        assert_eq!(limits.to_string().parse(), Ok(limits));
        let policy: OnFailure = "max=3/1m;backoff=10ms..2s;then=abort".parse().unwrap();
        assert_eq!(policy.to_string(), "max=3/60000ms;backoff=10ms..2000ms;then=abort");
        assert_eq!(policy.to_string().parse(), Ok(policy));
        for wrong in [
            "mem",
            "mem=1",
            "mem=9GiB",
            "event=0ms",
            "event=50",
            "event=1h",
            "nodes=-1",
            "cpu=1",
            "msg=1",
        ] {
            assert!(wrong.parse::<Limits>().is_err(), "{wrong}");
        }
        for wrong in [
            "max=5",
            "max=a/1m",
            "backoff=1s",
            "backoff=2s..1s",
            "then=restart",
            "x",
            "max=1/1441m",
        ] {
            assert!(wrong.parse::<OnFailure>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_plugin_has_a_name_or_gets_its_files() {
        let of = |text: &str| named(text).map(|plugin| (plugin.called(), plugin.file));
        assert_eq!(of("/opt/k8s.wasm"), Ok(("k8s".into(), "/opt/k8s.wasm".into())));
        assert_eq!(of("a=/opt/k8s.wasm"), Ok(("a".into(), "/opt/k8s.wasm".into())));
        assert_eq!(of("/opt/x=y.wasm").map(|(_, file)| file), Ok("/opt/x=y.wasm".into()));
        assert!(named("").is_err());
        let wrong = named("/opt/my plugin.wasm").unwrap().check().unwrap_err();
        assert!(wrong.contains("--plugin NAME=/opt/my plugin.wasm"), "{wrong}");
    }
}
