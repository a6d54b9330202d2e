//! The plugin that `plugins/README.md` shows is built as it says, in C and in C++, for both
//! targets, and does what it says.

#![expect(clippy::unwrap_used, reason = "a test, and clippy sees tests only in #[test] functions")]

mod common;

use common::{StillEnv, has_wasm_compiler, loader, setting, workshop};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use zepto_plugin::config::Limits;
use zepto_plugin::context::Effect;
use zepto_plugin::file::PluginFile;
use zepto_plugin::kv::Kv;
use zepto_plugin::runner::{Delivery, Opening, Runner};

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The README's source in C.
fn source() -> String {
    let text = std::fs::read_to_string(top().join("plugins/README.md")).unwrap();
    let (_, behind) = text.split_once("```c\n").unwrap();
    behind.split_once("```").unwrap().0.to_owned()
}

/// Builds the source, and gives the plugin.
fn build(name: &str, compiler: &str, flags: &[&str]) -> PathBuf {
    let source = workshop().join("two-nodes.c");
    std::fs::write(&source, self::source()).unwrap();
    let language = if compiler.ends_with("++") { "c++" } else { "c" };
    let output = workshop().join(name);
    let mut command = Command::new(compiler);
    command.args(flags).args(["-O2", "-Wall", "-Wextra", "-Werror", "-x", language]);
    command.arg(format!("-I{}", top().join("include").display())).arg(&source);
    let built = command.arg("-o").arg(&output).output().unwrap();
    let errors = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{command:?}: {errors}");
    output
}

fn runs(path: &Path) {
    let env = Arc::new(StillEnv::default());
    let setting = setting(&[], Limits::default(), &env);
    let loaded = loader().load(&PluginFile::read(path).unwrap(), &setting).unwrap();
    assert_eq!(loaded.info.name, "two-nodes");
    let mut runner = Runner::new(&loaded, setting, 1, Kv::default()).unwrap();
    runner.open(&Opening::default()).unwrap();
    for delivery in [Delivery::start(), Delivery::resync()] {
        let done = runner.deliver(&delivery).unwrap();
        assert_eq!(done.status, Some(0));
        assert!(matches!(done.effects[..], [Effect::Nodes(_)]), "{done:?}");
    }
    let well = runner.deliver(&Delivery::health()).unwrap();
    assert!(matches!(well.effects[..], [Effect::Reply { status: 0, .. }]), "{well:?}");
}

#[test]
fn what_the_readme_shows_is_a_plugin_in_c_and_in_c_plus_plus_for_both_targets() {
    let native = ["-fPIC", "-shared", "-fvisibility=hidden", "-Wl,-z,nodelete"];
    runs(&build("c.so", "cc", &[&native[..], &["-std=c11"]].concat()));
    runs(&build("cc.so", "c++", &[&native[..], &["-std=c++17"]].concat()));
    if !has_wasm_compiler() {
        return;
    }
    let wasm =
        ["--target=wasm32", "-nostdlib", "-ffreestanding", "-mbulk-memory", "-Wl,--no-entry"];
    runs(&build("c.wasm", "clang", &[&wasm[..], &["-std=c11"]].concat()));
    let plus = ["-std=c++17", "-fno-exceptions", "-fno-rtti"];
    runs(&build("cc.wasm", "clang++", &[&wasm[..], &plus[..]].concat()));
}
