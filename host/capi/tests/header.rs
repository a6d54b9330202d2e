//! `include/zepto.h` is what cbindgen makes of the sources, and it is C11 and C++17 by itself.
//! `ZEPTO_HEADER=write cargo test -p zepto-capi --test header` writes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The sources in the order in which the header shows them.
const SOURCES: [&str; 16] = [
    "version",
    "status",
    "text",
    "error",
    "tick",
    "client",
    "producer",
    "account",
    "members",
    "watch",
    "query",
    "ticks",
    "subscription",
    "arrow",
    "log",
    "node",
];

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn made() -> String {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(crate_dir.join("cbindgen.toml")).expect("a config");
    let builder =
        SOURCES.iter().fold(cbindgen::Builder::new().with_config(config), |builder, name| {
            builder.with_src(crate_dir.join(format!("src/{name}.rs")))
        });
    let mut bytes = Vec::new();
    builder.generate().expect("bindings").write(&mut bytes);
    let text = String::from_utf8(bytes).expect("text");
    // What Rust calls safety is what a C program must see to.
    let lines = text.lines().map(|line| line.replace("// # Safety", "// It requires:"));
    let text: String = lines.map(|line| line.trim_end().to_owned() + "\n").collect();
    guarded(&text, "ARROW_C_DATA_INTERFACE", "// A type, as Arrow's", "} ArrowArray;\n")
}

/// Puts what Arrow's own header may have declared already behind the guard that it says.
fn guarded(text: &str, guard: &str, from: &str, to: &str) -> String {
    let begin = text.find(from).expect("what is to be guarded");
    let end = text[begin..].find(to).map(|at| begin + at + to.len()).expect("its end");
    let (before, rest) = text.split_at(begin);
    let (inside, after) = rest.split_at(end - begin);
    let flags = [("DICTIONARY_ORDERED", 1), ("NULLABLE", 2), ("MAP_KEYS_SORTED", 4)];
    let flags = flags.map(|(name, bit)| format!("#define ARROW_FLAG_{name} {bit}\n")).concat();
    format!(
        "{before}#ifndef {guard}\n#define {guard}\n\n{flags}\n{inside}\n#endif  // {guard}\n{after}"
    )
}

#[test]
fn the_header_is_what_the_sources_say() {
    let path = top().join("include/zepto.h");
    let made = made();
    if std::env::var("ZEPTO_HEADER").is_ok_and(|it| it == "write") {
        fs::write(&path, &made).expect("it is written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let differs = committed.lines().zip(made.lines()).find(|(a, b)| a != b);
    assert!(
        committed == made,
        "include/zepto.h is not what host/capi/src says, first here: {differs:?}; \
         ZEPTO_HEADER=write cargo test -p zepto-capi --test header writes it"
    );
}

#[test]
fn the_headers_are_c_and_cpp_by_themselves() {
    let directory = tempfile::tempdir().expect("a directory");
    for (compiler, language, standard, header) in [
        ("cc", "c", "c11", "zepto.h"),
        ("c++", "c++", "c++17", "zepto.h"),
        ("c++", "c++", "c++17", "zepto.hpp"),
        ("clang", "c", "c11", "zepto.h"),
        ("clang++", "c++", "c++17", "zepto.hpp"),
    ] {
        if Command::new(compiler).arg("--version").output().is_err() {
            println!("SKIPPED: {header} with {compiler}, which is not here");
            continue;
        }
        let source = directory.path().join("all.x");
        // Twice: it has a guard.
        fs::write(&source, format!("#include \"{header}\"\n#include \"{header}\"\n")).expect("it");
        let mut command = Command::new(compiler);
        command.args(["-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]);
        command.arg(format!("-std={standard}")).arg("-I").arg(top().join("include"));
        let output = command.args(["-x", language]).arg(&source).output().expect("a compiler");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {errors}");
    }
}
