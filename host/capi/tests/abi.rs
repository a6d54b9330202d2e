//! What the library exports, and that a program compiled with 1.0 goes on working: the symbols are
//! those that are written down, and libabigail finds the interface compatible with its baseline.
//! `ZEPTO_ABI=write cargo test -p zepto-capi --test abi` writes both down: for a release that adds
//! something, never for one that changes or takes away.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn crate_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn writes() -> bool {
    std::env::var("ZEPTO_ABI").is_ok_and(|it| it == "write")
}

/// The library that was built with this test; says so where it was not.
fn library() -> Option<PathBuf> {
    let program = std::env::current_exe().expect("a path");
    let library = program.ancestors().nth(2).expect("target/ci").join("libzepto.so");
    if !library.exists() {
        println!("SKIPPED: libzepto.so is not built: cargo build -p zepto-capi first");
        return None;
    }
    Some(library)
}

fn tool(program: &str, arguments: &[&str]) -> Option<Output> {
    let output = Command::new(program).args(arguments).output();
    if output.is_err() {
        println!("SKIPPED: {program} is not here");
    }
    output.ok()
}

#[test]
fn the_exported_symbols_are_those_that_are_written_down() {
    let Some(library) = library() else { return };
    let path = library.to_string_lossy();
    let Some(output) = tool("nm", &["-D", "--defined-only", &path]) else { return };
    let text = String::from_utf8(output.stdout).expect("text");
    let names = text.lines().filter_map(|line| line.split_whitespace().nth(2));
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    let exported: String = names.iter().map(|name| format!("{name}\n")).collect();
    let manifest = crate_dir().join("symbols.txt");
    if writes() {
        fs::write(&manifest, &exported).expect("it is written");
    }
    assert_eq!(exported, fs::read_to_string(manifest).expect("symbols.txt"));
    assert!(names.iter().all(|name| name.starts_with("zepto_")), "{names:?}");
    let header = fs::read_to_string(crate_dir().join("../../include/zepto.h")).expect("a header");
    for name in names {
        assert!(header.contains(&format!("{name}(")), "{name} is in no header");
    }
}

#[test]
fn the_library_has_its_name_and_stays_loaded() {
    let Some(library) = library() else { return };
    let Some(output) = tool("readelf", &["-d", &library.to_string_lossy()]) else { return };
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("soname: [libzepto.so.1]"), "{text}");
    assert!(text.contains("NODELETE"), "{text}");
}

/// A library with every struct and function type of the header in its debug information: what a C
/// program sees of libzepto, and nothing of what is inside.
fn snapshot(directory: &Path) -> PathBuf {
    let include = crate_dir().join("../../include");
    let header = fs::read_to_string(include.join("zepto.h")).expect("a header");
    let mut source = "#include \"zepto.h\"\n".to_owned();
    let words = header.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let mut functions: Vec<&str> = words
        .filter(|word| word.starts_with("zepto_") && header.contains(&format!(" {word}(")))
        .chain(header.lines().filter_map(|line| {
            let head = line.split_once('(')?.0;
            head.rsplit([' ', '*']).next().filter(|name| name.starts_with("zepto_"))
        }))
        .collect();
    functions.sort_unstable();
    functions.dedup();
    for name in functions {
        source += &format!("__typeof__({name}) *snap_{name};\n");
    }
    let file = directory.join("snapshot.c");
    let library = directory.join("snapshot.so");
    fs::write(&file, source).expect("a file");
    let mut command = Command::new("cc");
    command.args(["-std=gnu11", "-g", "-O0", "-fPIC", "-shared", "-I"]).arg(include);
    let output = command.arg(&file).arg("-o").arg(&library).output().expect("cc");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}

#[test]
fn what_was_compiled_with_the_first_version_goes_on_working() {
    if tool("abidiff", &["--version"]).is_none() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let library = snapshot(directory.path());
    let library = library.to_string_lossy();
    let baseline = crate_dir().join("zepto-1.0.abi");
    let baseline = baseline.to_string_lossy();
    if writes() {
        let arguments = ["--no-corpus-path", "--no-comp-dir-path", "--no-show-locs", "--out-file"];
        let written = tool("abidw", &[&arguments[..], &[&baseline, &library]].concat());
        assert!(written.is_some_and(|output| output.status.success()), "abidw");
    }
    // Never with --headers-dir: that hides every change of a struct.
    let output = tool("abidiff", &[&baseline, &library]).expect("abidiff");
    let text = String::from_utf8_lossy(&output.stdout);
    let code = output.status.code().expect("it ended");
    assert_eq!(code & 0b0011, 0, "abidiff failed: {text}");
    assert_eq!(code & 0b1000, 0, "the interface is another one: {text}");
    assert_eq!(code & 0b0100, 0, "not as the baseline; ZEPTO_ABI=write after a look: {text}");
}
