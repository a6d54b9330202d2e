//! `zepto-host plugin check`: whether a file would be loaded, and what it would want.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use serde_json::{Value, json};
use zepto_client::real::Real;
use zepto_plugin::config::Limits;
use zepto_plugin::context::Setting;
use zepto_plugin::error::LoadError;
use zepto_plugin::file::{PluginFile, Target};
use zepto_plugin::grant::Grants;
use zepto_plugin::loader::Loader;
use zepto_plugin::stock;
use zepto_plugin::verdict::{capability_names, kind_names};

use crate::failure::Failure;
use crate::format;

/// Say whether a file is a plugin for this host, and what it asks for
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  zepto-host plugin check k8s.wasm
  zepto-host plugin check ./mine.so --json | jq -e .ok

A Wasm module is compiled and asked for its descriptor in the sandbox, with nothing granted; of a
native plugin no code runs. Exit code 0 means that it would be loaded, given what it NEEDS; 1 that
it would not.")]
pub struct CheckArgs {
    /// The plugin, .wasm or .so
    pub file: PathBuf,
    /// How much it would be given [default: mem=8MiB,event=50ms,msg=4MiB,nodes=10000]
    #[arg(long, value_name = "LIMITS", default_value_t, hide_default_value = true)]
    pub limit: Limits,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// When it would not be loaded.
pub async fn check(args: CheckArgs) -> Result<(), Failure> {
    let found = examine(&args.file, args.limit).await?;
    match (found, args.json) {
        (Ok(facts), true) => format::print(&format!("{facts}\n")),
        (Ok(facts), false) => format::print(&text(&facts)),
        (Err(error), is_json) => {
            if is_json {
                let object = json!({
                    "file": args.file.display().to_string(),
                    "ok": false,
                    "error": error.to_string(),
                });
                format::print(&format!("{object}\n"))?;
            }
            Err(Failure::Failed(format!("plugin check {}: {error}", args.file.display())))
        }
    }
}

/// All that can be said of a file; the outer error is one of this machine.
async fn examine(path: &Path, limits: Limits) -> Result<Result<Value, LoadError>, Failure> {
    let failed = |error: String| Failure::failed("plugin check", error);
    let directory = tempfile::tempdir().map_err(|error| failed(error.to_string()))?;
    let loader = Loader::new(directory.path(), false, true);
    let loader = Arc::new(loader.map_err(|error| failed(error.to_string()))?);
    let (ticker, stop) = (Arc::clone(loader.engines().ticker()), Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&stop);
    let ticking = tokio::task::spawn_blocking(move || ticker.run(&stopped));
    let path = path.to_owned();
    let examined = tokio::task::spawn_blocking(move || facts(&loader, &path, limits)).await;
    stop.store(true, Ordering::Release);
    ticking.await.map_err(|error| failed(error.to_string()))?;
    examined.map_err(|error| failed(error.to_string()))
}

fn facts(loader: &Loader, path: &Path, limits: Limits) -> Result<Value, LoadError> {
    let file = stock::open(path)?;
    let setting = Setting {
        name: PluginFile::stem(path),
        node_id: "check".into(),
        grants: Arc::new(Grants::default()),
        limits,
        env: Arc::new(Real::new()),
        waker: Arc::new(|| {}),
    };
    let (info, scan) = loader.examine(&file, &setting)?;
    let scan = scan.unwrap_or_default();
    Ok(json!({
        "file": path.display().to_string(),
        "ok": true,
        "name": info.name,
        "version": info.version,
        "vendor": info.vendor,
        "target": file.target.text(),
        "stock": stock::which(file.sha256).is_some(),
        "bytes": file.bytes.len(),
        "sha256": file.sha256.to_string(),
        "kinds": kind_names(info.kinds),
        "abi": format!("{}.{}", info.abi_major, info.abi_minor),
        "min_host": format!("{}.{}", info.abi_major, info.min_host_minor),
        "needs": capability_names(info.caps),
        "uses": capability_names(info.optional_caps),
        "imports": scan.imports,
        "unknown_imports": scan.unknown,
        "memory_bytes": (file.target == Target::Wasm).then_some(scan.memory_bytes),
        "state_version": info.state_version,
        "min_state_version": info.min_state_version,
    }))
}

fn text(facts: &Value) -> String {
    let one = |key: &str| facts[key].as_str().unwrap_or_default().to_owned();
    let list = |key: &str| {
        let items = facts[key].as_array().map(Vec::as_slice).unwrap_or_default();
        let names: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    };
    let number = |key: &str| facts[key].as_u64();
    let stock = if facts["stock"] == true { ", comes with zepto" } else { "" };
    let memory = number("memory_bytes").map_or_else(
        || "native code: not held to a limit".to_owned(),
        |bytes| format!("begins with {}", format::bytes(bytes)),
    );
    let unknown = match list("unknown_imports").as_str() {
        "nothing" => String::new(),
        names => format!("unknown   {names}: calling them gives ZP_E_UNSUPPORTED\n"),
    };
    let imports = match facts["target"].as_str() {
        Some("wasm") => format!("imports   {}\n", list("imports")),
        _ => String::new(),
    };
    format!(
        "file      {}, {}, {}{stock}\n\
         sha256    {}\n\
         plugin    {} {} by {}\n\
         kinds     {}\n\
         ABI       {}, needs a host with {} or newer: fits\n\
         needs     {}\n\
         uses      {}\n\
         {imports}{unknown}\
         memory    {memory}\n\
         verdict   would be loaded{}\n",
        one("file"),
        one("target"),
        format::bytes(number("bytes").unwrap_or_default()),
        one("sha256"),
        one("name"),
        one("version"),
        one("vendor"),
        list("kinds"),
        one("abi"),
        one("min_host"),
        list("needs"),
        list("uses"),
        match (facts["needs"].as_array().is_some_and(|needs| !needs.is_empty()), &facts["target"]) {
            (true, _) => ", if what it needs is granted",
            (false, target) if target == "native" => " with --allow-native",
            _ => "",
        },
    )
}
