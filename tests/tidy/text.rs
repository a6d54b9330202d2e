//! The look of every source file, line by line: what rustfmt and clippy leave open.

use crate::none;
use crate::tree::{File, files};

/// Columns of a line; rustfmt breaks code there, but not comments. A literal may be as long as what
/// it stands for.
const COLUMNS_MAX: usize = 100;
/// Lines of code in a file, comments, blank lines and tests apart: one idea fits.
const CODE_LINES_MAX: usize = 600;

/// A rule: what is wrong with a Rust file, as (line, text).
type Rule = fn(&File) -> Vec<(usize, String)>;

const RULES: &[Rule] =
    &[module_doc, columns, unfinished, silent_ignore, code_lines, public_maximum, silent_lift];

fn lines(file: &File) -> impl Iterator<Item = (usize, &str)> + Clone {
    file.text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

fn module_doc(file: &File) -> Vec<(usize, String)> {
    if file.text.starts_with("//!") {
        return Vec::new();
    }
    vec![(1, "say in a `//!` at the top what this file is and what it never does".into())]
}

fn columns(file: &File) -> Vec<(usize, String)> {
    let long = lines(file).filter(|(_, line)| line.chars().count() > COLUMNS_MAX);
    let is_literal = |line: &str| {
        let open = line.matches('"').count() % 2 == 1;
        open || line.trim_start().starts_with('"') || line.ends_with('\\')
    };
    let long = long.filter(|(_, line)| !is_literal(line));
    long.map(|(line, _)| (line, format!("break the line: at most {COLUMNS_MAX} columns"))).collect()
}

/// Clippy knows these only where it compiles; here they are found under every `cfg`.
fn unfinished(file: &File) -> Vec<(usize, String)> {
    let words = [concat!("tod", "o!("), concat!("unimplement", "ed!("), concat!("db", "g!(")];
    let found = lines(file).filter(|(_, line)| words.iter().any(|word| line.contains(word)));
    found.map(|(line, _)| (line, "finish it, or take it out".into())).collect()
}

fn silent_ignore(file: &File) -> Vec<(usize, String)> {
    let silent = lines(file).filter(|(_, line)| line.trim() == concat!("#[ign", "ore]"));
    silent.map(|(line, _)| (line, "an ignored test says why: #[ignore = \"...\"]".into())).collect()
}

fn code_lines(file: &File) -> Vec<(usize, String)> {
    if file.is_test() {
        return Vec::new();
    }
    let code = lines(file).take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
    let code = code.filter(|(_, line)| !line.trim().is_empty() && !line.trim().starts_with("//"));
    let count = code.count();
    if count <= CODE_LINES_MAX {
        return Vec::new();
    }
    vec![(1, format!("{count} lines of code, at most {CODE_LINES_MAX}: split it by idea"))]
}

fn public_maximum(file: &File) -> Vec<(usize, String)> {
    if file.path == "host/core/src/limits.rs" {
        return Vec::new();
    }
    let public = lines(file).filter(|(_, line)| {
        let name = line.strip_prefix("pub const ").and_then(|rest| rest.split(':').next());
        // Of a protocol, the newest version that is spoken; no maximum of anything.
        name.is_some_and(|name| name.ends_with("_MAX") && name != "PROTOCOL_MAX")
    });
    public.map(|(line, _)| (line, "every public maximum stands in limits.rs".into())).collect()
}

fn silent_lift(file: &File) -> Vec<(usize, String)> {
    let starts = ["#[allow(", "#![allow(", "#[expect(", "#![expect("];
    let mut silent = Vec::new();
    for (number, line) in lines(file) {
        if !starts.iter().any(|start| line.trim_start().starts_with(start)) {
            continue;
        }
        let rest = lines(file).skip(number - 1).map(|(_, line)| line);
        let last = rest.clone().position(|line| line.trim_end().ends_with(")]"));
        let mut attribute = rest.take(last.map_or(1, |last| last + 1));
        if !attribute.any(|line| line.contains("reason = ")) {
            silent.push((number, "whoever lifts a lint says why: `reason = \"...\"`".into()));
        }
    }
    silent
}

/// Places that exist on one machine only, in any text file.
fn machine_paths(file: &File) -> Vec<(usize, String)> {
    let places = ["/wo\u{72}k/", "/ro\u{6f}t/", "/ho\u{6d}e/", "/Us\u{65}rs/", "/tm\u{70}/target"];
    let found = lines(file).filter(|(_, line)| places.iter().any(|place| line.contains(place)));
    found
        .map(|(line, _)| (line, "a path of one machine: make it relative, or a flag".into()))
        .collect()
}

fn report(file: &File, found: Vec<(usize, String)>) -> impl Iterator<Item = String> {
    found.into_iter().map(|(line, text)| format!("{}:{line}: {text}", file.path))
}

#[test]
fn every_source_file_keeps_the_rules() {
    let files = files();
    let rust = files.iter().filter(|file| file.is_rust());
    let violations = rust.flat_map(|file| RULES.iter().flat_map(|rule| report(file, rule(file))));
    none(&violations.collect::<Vec<_>>());
}

#[test]
fn no_file_names_a_place_of_one_machine() {
    let files = files();
    let found = files.iter().flat_map(|file| report(file, machine_paths(file)));
    none(&found.collect::<Vec<_>>());
}

#[test]
fn each_rule_finds_what_it_forbids() {
    let file = |text: &str| File { path: "host/x/src/a.rs".into(), text: text.into() };
    let found = |rule: Rule, text: &str| rule(&file(text)).len();
    assert_eq!((found(module_doc, "//! A.\n"), found(module_doc, "use a;\n")), (0, 1));
    assert_eq!(found(columns, &format!("{}\n{}\n", "é".repeat(100), "e".repeat(101))), 1);
    assert_eq!(found(unfinished, &format!("{}do!()", "to")), 1);
    assert_eq!(found(silent_ignore, &format!("    #[ig{}]\n", "nore")), 1);
    assert_eq!(found(silent_ignore, "#[ignore = \"slow\"]\n"), 0);
    assert_eq!(found(code_lines, &"a;\n".repeat(601)), 1);
    assert_eq!(found(code_lines, &format!("#[cfg(test)]\n{}", "a;\n".repeat(601))), 0);
    assert_eq!(found(code_lines, &"// a\n".repeat(601)), 0);
    assert_eq!(found(public_maximum, "pub const A_MAX: u8 = 1;\nconst B_MAX: u8 = 1;\n"), 1);
    let lifts =
        "#[allow(dead_code)]\n#[expect(\n    dead_code,\n    reason = \"x\"\n)]\n#[expect(a)]\n";
    assert_eq!(found(silent_lift, lifts), 2);
    assert_eq!(found(silent_lift, "#[allow(a, reason = \"b\")]\n"), 0);
    assert_eq!(found(machine_paths, &format!("see /{}/main\n", "work")), 1);
}
