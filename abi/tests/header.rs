//! `include/zepto_plugin.h` and `zepto_abi::plugin` say the same: every size, offset, constant and
//! function, in C11 and C++17, for this machine, aarch64 and wasm32. Its helpers read what is
//! there, and nothing else.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use zepto_abi::plugin::{CONSTANTS, FUNCTIONS, LAYOUTS, PluginStatus};

/// Structs of the header that are not part of the interface between the two sides.
const FOR_AUTHORS: [&str; 3] = ["zp_host_api", "zp_text", "zp_nodes_writer"];
/// Macros with a value that say nothing about the interface.
const OF_THE_COMPILER: [&str; 3] = ["ZP_TARGET_MINOR", "ZP_WASM", "ZP_E_"];

fn header() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../include/zepto_plugin.h")
}

fn text() -> String {
    std::fs::read_to_string(header()).expect("the header")
}

/// Name in C and value of each status.
fn statuses() -> Vec<(String, i64)> {
    let name = |status: &PluginStatus| match status {
        PluginStatus::Ok => "ZP_OK".to_owned(),
        other => {
            let mut name = "ZP_E".to_owned();
            for c in format!("{other:?}").chars() {
                if c.is_ascii_uppercase() {
                    name.push('_');
                }
                name.push(c.to_ascii_uppercase());
            }
            name
        }
    };
    PluginStatus::ALL.iter().map(|status| (name(status), status.code().into())).collect()
}

/// A program that compiles only if the header says what the crate says.
fn program() -> String {
    let mut source = String::from("#include \"zepto_plugin.h\"\n#include <stddef.h>\n");
    let mut check = |condition: String| {
        writeln!(source, "ZP_STATIC_ASSERT({condition}, \"\");").expect("a string");
    };
    for layout in LAYOUTS {
        let of = layout.name;
        check(format!("sizeof({of}) == {}", layout.size));
        for field in layout.fields {
            let name = field.name;
            check(format!("offsetof({of}, {name}) == {}", field.offset));
            check(format!("sizeof((({of} *)0)->{name}) == {}", field.size));
        }
    }
    for (name, value) in CONSTANTS {
        check(format!("(uint64_t)({name}) == {value}ull"));
    }
    for (name, value) in statuses() {
        check(format!("({name}) == {value}"));
    }
    source.push_str("ZP_PLUGIN(1, 0, 0, 1, 1, \"n\", \"v\", \"w\");\n");
    source
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// A directory of one test.
fn workshop(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("zepto-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    directory
}

/// A compiler that warns of everything and finds the header.
fn compiler(program: &str, flags: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(flags).args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"]);
    command.arg(header().parent().expect("a directory above it"));
    command
}

fn succeeds(command: &mut Command) {
    let output = command.output().expect("a program");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
}

/// Has every compiler that is there look at a source.
fn compiles_everywhere(name: &str, source: &str) {
    let directory = workshop(name);
    let (c, cc) = (directory.join("source.c"), directory.join("source.cc"));
    std::fs::write(&c, source).expect("a file");
    std::fs::write(&cc, source).expect("a file");
    let freestanding = |target| vec!["-std=c11", "-ffreestanding", target];
    let compilers: [(&str, &Path, Vec<&str>); 7] = [
        ("gcc", &c, vec!["-std=c11"]),
        ("g++", &cc, vec!["-std=c++17"]),
        ("clang", &c, vec!["-std=c11"]),
        ("clang++", &cc, vec!["-std=c++17"]),
        ("clang", &c, freestanding("--target=wasm32-unknown-unknown")),
        ("clang", &c, freestanding("--target=aarch64-unknown-linux-gnu")),
        ("clang++", &cc, vec!["-std=c++17", "-ffreestanding", "--target=wasm32-unknown-unknown"]),
    ];
    for (program, source, flags) in compilers {
        if !has(program) {
            println!("SKIPPED: the plugin header in {program} {flags:?}: it is not there");
            continue;
        }
        succeeds(compiler(program, &flags).arg("-fsyntax-only").arg(source));
    }
    std::fs::remove_dir_all(&directory).expect("a directory");
}

#[test]
fn sizes_offsets_and_constants_are_those_of_the_header_in_every_compiler() {
    compiles_everywhere("header", &program());
}

#[test]
fn every_plugin_in_c_that_the_readme_shows_compiles_in_every_compiler() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/README.md");
    let text = std::fs::read_to_string(readme).expect("the README");
    let blocks: Vec<&str> =
        text.split("```c\n").skip(1).filter_map(|behind| behind.split("```").next()).collect();
    assert_eq!(blocks.len(), 2);
    for (index, block) in blocks.into_iter().enumerate() {
        compiles_everywhere(&format!("readme-{index}"), block);
    }
}

/// The sanitizers see a byte that is read beyond a message; where they are not, the checks of the
/// program itself are left.
#[test]
fn helpers_find_what_is_there_and_read_nothing_beyond_the_message() {
    let directory = workshop("helpers");
    let (nothing, program) = (directory.join("nothing.c"), directory.join("helpers"));
    std::fs::write(&nothing, "int main(void) { return 0; }\n").expect("a file");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/helpers.c");
    for (name, language, standard) in [("gcc", "c", "-std=c11"), ("g++", "c++", "-std=c++17")] {
        if !has(name) {
            println!("SKIPPED: the helpers of the plugin header in {name}: it is not there");
            continue;
        }
        let build = |source: &Path, sanitizers: &[&str]| {
            let mut command = compiler(name, &[standard, "-O1", "-g", "-x", language]);
            command.args(sanitizers).arg(source).arg("-o").arg(&program);
            command
        };
        let sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
        let built = build(&nothing, &sanitizers).output().expect("a compiler");
        if built.status.success() {
            succeeds(&mut build(&source, &sanitizers));
        } else {
            println!("SKIPPED: the helpers of the plugin header with sanitizers: none for {name}");
            succeeds(&mut build(&source, &[]));
        }
        succeeds(&mut Command::new(&program));
    }
    std::fs::remove_dir_all(&directory).expect("a directory");
}

#[test]
fn the_header_declares_nothing_else() {
    let text = text();
    let structs: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("typedef struct "))
        .filter_map(|line| line.split([' ', '{']).next())
        .filter(|name| !FOR_AUTHORS.contains(name))
        .collect();
    let ours: BTreeSet<&str> = LAYOUTS.iter().map(|layout| layout.name).collect();
    assert_eq!(structs, ours);

    let statuses = statuses();
    let constants = CONSTANTS.iter().map(|(name, _)| *name);
    let ours: BTreeSet<&str> =
        constants.chain(statuses.iter().map(|(name, _)| name.as_str())).collect();
    let declared: BTreeSet<String> = declared_constants(&text).into_iter().collect();
    let declared: BTreeSet<&str> = declared.iter().map(String::as_str).collect();
    assert_eq!(declared, ours);
}

/// Names in enums, and macros that are numbers.
fn declared_constants(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let without_comments = without_comments(text);
    for body in without_comments.split("enum {").skip(1) {
        let body = body.split('}').next().unwrap_or_default();
        let items = body.split(',').filter_map(|item| item.split('=').next());
        names.extend(items.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned));
    }
    for line in without_comments.lines() {
        let Some((name, value)) =
            line.strip_prefix("#define ").and_then(|rest| rest.split_once(char::is_whitespace))
        else {
            continue;
        };
        let value = value.trim_start().trim_start_matches('(');
        let is_number = value.starts_with(|c: char| c.is_ascii_digit());
        if is_number && !OF_THE_COMPILER.contains(&name) {
            names.push(name.to_owned());
        }
    }
    names
}

fn without_comments(text: &str) -> String {
    let mut parts = text.split("/*");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        kept.push_str(part.split_once("*/").map_or("", |(_, behind)| behind));
    }
    kept
}

#[test]
fn the_functions_are_those_of_the_header_in_its_order() {
    let text = without_comments(&text());
    let declared = text.lines().filter_map(|line| line.strip_prefix("  X("));
    let declared: Vec<(&str, usize)> = declared
        .map(|line| {
            let (name, rest) = line.split_once(", (").expect("parameters");
            // A list goes on in the next line; its arguments tell how many there are.
            let all = text.split(&format!("  X({name}, (")).nth(1).unwrap_or(rest);
            let parameters = all.split("),").next().unwrap_or_default();
            (name, parameters.matches(',').count() + 1)
        })
        .collect();
    let ours: Vec<(&str, usize)> =
        FUNCTIONS.iter().map(|function| (function.name, function.parameters.len())).collect();
    assert_eq!(declared, ours);
}
