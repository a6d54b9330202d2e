//! The manifests: every dependency stands once, with a reason, and comes from the public registry.

use crate::none;
use crate::tree::files;

const PUBLIC: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The lines of the sections that `wanted` picks, with the line before each.
fn entries(text: &str, wanted: impl Fn(&str) -> bool) -> Vec<(usize, &str, &str)> {
    let (mut inside, mut before, mut found) = (false, "", Vec::new());
    for (index, line) in text.lines().enumerate() {
        if let Some(section) = line.strip_prefix('[') {
            inside = wanted(section.trim_end_matches(']'));
        } else if inside && !line.starts_with('#') && line.contains('=') {
            found.push((index + 1, line, before));
        }
        before = line;
    }
    found
}

/// In the top manifest: dependencies from outside without a comment right above them.
fn without_reason(text: &str) -> Vec<String> {
    let outside = entries(text, |section| section == "workspace.dependencies");
    let outside = outside.into_iter().filter(|(_, line, _)| !line.contains("path ="));
    let silent = outside.filter(|(_, _, before)| !before.starts_with('#'));
    silent
        .map(|(number, line, _)| {
            let name = line.split(['=', '.']).next().unwrap_or(line).trim();
            format!("Cargo.toml:{number}: say in a comment above {name} what it is for")
        })
        .collect()
}

/// In a member's manifest: dependencies that do not take the workspace's version.
fn own_versions(path: &str, text: &str) -> Vec<String> {
    let all = entries(text, |section| section.ends_with("dependencies"));
    let own = all.into_iter().filter(|(_, line, _)| !line.contains("workspace = true"));
    own.map(|(number, _, _)| {
        format!(
            "{path}:{number}: put the version into the top Cargo.toml, and `workspace = true` here"
        )
    })
    .collect()
}

/// In the lock file: sources that others cannot reach.
fn private_sources(text: &str) -> Vec<String> {
    let sources = text.lines().enumerate().filter(|(_, line)| line.starts_with("source = "));
    let private = sources.filter(|(_, line)| !line.contains(PUBLIC));
    private
        .map(|(index, line)| format!("Cargo.lock:{}: not crates.io: {line}", index + 1))
        .collect()
}

#[test]
fn every_dependency_has_its_reason_and_one_version() {
    let files = files();
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with("Cargo.toml")) {
        violations.extend(match file.path.as_str() {
            "Cargo.toml" => without_reason(&file.text),
            // A workspace of its own, outside the product.
            _ if file.text.lines().any(|line| line == "[workspace]") => Vec::new(),
            path => own_versions(path, &file.text),
        });
    }
    none(&violations);
}

#[test]
fn everything_comes_from_the_public_registry() {
    let files = files();
    let lock = files.iter().find(|file| file.path == "Cargo.lock").expect("a lock file");
    let mut violations = private_sources(&lock.text);
    // A registry that replaces the public one is the affair of a machine, not of the project.
    let replaced = files.iter().filter(|file| {
        let ours = file.path.starts_with(".cargo/") || file.path.ends_with("Cargo.toml");
        ours && ["[source", "[registr", "registry ="].iter().any(|key| file.text.contains(key))
    });
    violations.extend(replaced.map(|file| format!("{}: names a registry", file.path)));
    none(&violations);
}

#[test]
fn a_dependency_without_reason_or_with_its_own_version_or_source_is_a_violation() {
    let top =
        "[workspace.dependencies]\nours = { path = \"ours\" }\n# Why.\na = \"1\"\nb = \"2\"\n";
    assert_eq!(without_reason(top), ["Cargo.toml:5: say in a comment above b what it is for"]);
    let member = "[package]\nname = \"x\"\n[dev-dependencies]\na.workspace = true\nb = \"2\"\n";
    assert_eq!(own_versions("x/Cargo.toml", member).len(), 1);
    let lock = format!("source = \"{PUBLIC}\"\nsource = \"registry+https://elsewhere\"\n");
    assert_eq!(private_sources(&lock).len(), 1);
}
