//! The flags of a node that are about plugins. Each names its plugin, so that their order is free.

use std::path::{Path, PathBuf};

use clap::Args;
use zepto_core::limits::PLUGIN_CONFIG_BYTES_MAX;
use zepto_plugin::config::{PluginConfig, named};

use crate::failure::Failure;

/// Which plugins, and what they may do.
#[derive(Args, Clone, Debug, Default)]
pub struct PluginFlags {
    /// Policy plugin, .wasm or .so; may be repeated. k8s.wasm, gossip.wasm and static.wasm come
    /// with zepto and need no file
    #[arg(long = "plugin", value_name = "[NAME=]FILE")]
    plugins: Vec<String>,
    /// A plugin's configuration, JSON
    #[arg(long = "plugin-config", value_name = "NAME=JSON|@FILE")]
    configs: Vec<String>,
    /// The only content that a plugin's file may have
    #[arg(long = "plugin-sha256", value_name = "NAME=HEX")]
    hashes: Vec<String>,
    /// What a plugin may do: random, metric, kv[=SIZE], 'http=GET https://HOST:443/PATH*;ca=FILE',
    /// secret=NAME=file:PATH@https://HOST:443, 'udp=bind ADDR peers NETWORKS'
    #[arg(long = "grant", value_name = "NAME:GRANT")]
    grants: Vec<String>,
    /// How much a plugin may use [default: mem=8MiB,event=50ms,msg=4MiB,nodes=10000]
    #[arg(long = "limit", value_name = "NAME:LIMITS")]
    limits: Vec<String>,
    /// What becomes of a plugin that fails
    /// [default: max=5/10m;backoff=1s..60s;then=keep-last, or then=abort]
    #[arg(long = "on-failure", value_name = "NAME=POLICY")]
    policies: Vec<String>,
    /// Load plugins of native code, which may do whatever the node may
    #[arg(long)]
    pub allow_native: bool,
    /// Nodes that discovery must know of, this one included, before they found a new cluster
    /// [default: 1, once discovery has settled]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub expect: Option<u16>,
}

impl PluginFlags {
    /// Adds what the flags say to what the configuration file says.
    ///
    /// # Errors
    /// A flag that names no plugin, or makes no sense.
    pub fn apply(self, plugins: &mut Vec<PluginConfig>) -> Result<(), Failure> {
        for text in &self.plugins {
            let plugin = named(text).map_err(Failure::Usage)?;
            // The file of one that is configured may be another one now.
            match plugins.iter_mut().find(|known| known.called() == plugin.called()) {
                Some(known) => known.file = plugin.file,
                None => plugins.push(plugin),
            }
        }
        each(plugins, "--plugin-config", '=', &self.configs, |plugin, text| {
            let json = match text.strip_prefix('@') {
                Some(path) => read(path.as_ref())?,
                None => text.to_owned(),
            };
            plugin.config = serde_json::from_str(&json).map_err(|error| error.to_string())?;
            Ok(())
        })?;
        each(plugins, "--plugin-sha256", '=', &self.hashes, |plugin, text| {
            plugin.sha256 = Some(text.parse()?);
            Ok(())
        })?;
        each(plugins, "--grant", ':', &self.grants, |plugin, text| {
            plugin.grants.push(text.parse()?);
            Ok(())
        })?;
        each(plugins, "--limit", ':', &self.limits, |plugin, text| {
            plugin.limits = text.parse()?;
            Ok(())
        })?;
        each(plugins, "--on-failure", '=', &self.policies, |plugin, text| {
            plugin.on_failure = text.parse()?;
            Ok(())
        })
    }
}

/// Gives the rest of each flag to the plugin that it names.
fn each(
    plugins: &mut [PluginConfig],
    flag: &str,
    separator: char,
    texts: &[String],
    act: impl Fn(&mut PluginConfig, &str) -> Result<(), String>,
) -> Result<(), Failure> {
    for text in texts {
        let usage = |why: String| Failure::Usage(format!("{flag} {text}: {why}"));
        let (name, rest) = text
            .split_once(separator)
            .ok_or_else(|| usage(format!("write NAME{separator}... with the plugin's name")))?;
        let known = plugins.iter().map(PluginConfig::called).collect::<Vec<_>>().join(", ");
        let plugin = plugins.iter_mut().find(|plugin| plugin.called() == name);
        let plugin = plugin.ok_or_else(|| {
            usage(match known.as_str() {
                "" => "there is no plugin; give --plugin".to_owned(),
                _ => format!("there is no plugin {name:?}; there is {known}"),
            })
        })?;
        act(plugin, rest).map_err(usage)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, String> {
    let failed = |text: String| format!("{}: {text}", path.display());
    let bytes = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if bytes > PLUGIN_CONFIG_BYTES_MAX as u64 {
        return Err(failed(format!("{bytes} bytes, at most {PLUGIN_CONFIG_BYTES_MAX}")));
    }
    std::fs::read_to_string(PathBuf::from(path)).map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        flags: PluginFlags,
    }

    fn apply(arguments: &[&str]) -> Result<Vec<PluginConfig>, String> {
        let cli = Cli::try_parse_from([&["test"], arguments].concat());
        let mut plugins = Vec::new();
        let applied = cli.map_err(|error| error.to_string())?.flags.apply(&mut plugins);
        applied.map(|()| plugins).map_err(|failure| failure.to_string())
    }

    #[test]
    fn every_flag_goes_to_the_plugin_that_it_names() {
        let plugins = apply(&[
            "--grant",
            "b:kv=2MiB",
            "--plugin",
            "/opt/a.wasm",
            "--plugin",
            "b=/opt/other.so",
            "--plugin-config",
            "a={\"x\": 1}",
            "--grant",
            "b:http=GET https://h:443/x=y*",
            "--limit",
            "a:mem=16MiB",
            "--on-failure",
            "b=then=abort",
        ])
        .unwrap();
        assert_eq!(plugins.len(), 2);
        assert_eq!((plugins[0].json(), plugins[0].limits.memory.0), ("{\"x\":1}".into(), 16 << 20));
        assert_eq!(plugins[1].file, Path::new("/opt/other.so"));
        assert_eq!(plugins[1].grants.len(), 2);
    }

    #[test]
    fn what_names_no_plugin_or_makes_no_sense_is_said() {
        for (arguments, text) in [
            (&["--grant", "a:kv"][..], "there is no plugin; give --plugin"),
            (&["--plugin", "b.wasm", "--grant", "a:kv"], "there is no plugin \"a\"; there is b"),
            (&["--plugin", "a.wasm", "--grant", "kv"], "write NAME:..."),
            (&["--plugin", "a.wasm", "--grant", "a:all"], "there is random, metric"),
            (&["--plugin", "a.wasm", "--plugin-config", "a={"], "EOF"),
            (&["--plugin", "a.wasm", "--plugin-config", "a=@/nowhere"], "No such file"),
            (&["--plugin", "a.wasm", "--plugin-sha256", "a=12"], "64 hexadecimal"),
            (&["--plugin", "a.wasm", "--limit", "a:mem=1"], "mem="),
            (&["--expect", "0"], "0 is not in"),
        ] {
            let error = apply(arguments).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
    }
}
