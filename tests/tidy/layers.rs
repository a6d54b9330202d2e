//! A crate depends only on crates below it: the order of the design, read from `cargo metadata`.

use crate::none;
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// From the bottom up; a crate may use those before it.
const ORDER: &[&str] = &[
    "zepto-abi",
    "zepto-core",
    "zepto-store",
    "zepto-transport",
    "zepto-rpc",
    "zepto-control",
    "zepto-plugin",
    "zepto-client",
    "zepto-node",
    "zepto-tools",
    "zepto-host",
    "zepto-capi",
    "zepto-fuzz",
    "zepto-tests",
    "zepto-benches",
];

/// The only crates with `unsafe` code; each block of it says why it is sound.
const MAY_BE_UNSAFE: &[&str] = &["zepto-store", "zepto-transport", "zepto-plugin", "zepto-capi"];

fn metadata() -> Metadata {
    let manifest = crate::tree::top().join("Cargo.toml");
    MetadataCommand::new().manifest_path(manifest).no_deps().exec().expect("cargo metadata")
}

fn place(name: &str) -> Option<usize> {
    ORDER.iter().position(|crate_name| *crate_name == name)
}

/// What is wrong with one edge of the graph, if anything.
fn edge(from: &str, to: &str) -> Option<String> {
    let (Some(above), Some(below)) = (place(from), place(to)) else {
        let unknown = if place(from).is_none() { from } else { to };
        return Some(format!(
            "{unknown} has no place in the order of crates: add it to ORDER in tests/tidy/layers.rs"
        ));
    };
    (below >= above).then(|| {
        format!(
            "{from} depends on {to}, which is above it: move what is shared into a crate below both"
        )
    })
}

fn is_ours(name: &str) -> bool {
    name.starts_with("zepto-")
}

fn edges(package: &Package) -> impl Iterator<Item = String> {
    // Test dependencies count too: a test that needs a higher crate belongs into that crate.
    let ours = package.dependencies.iter().filter(|dependency| is_ours(&dependency.name));
    ours.filter_map(|dependency| edge(&package.name, &dependency.name))
}

#[test]
fn no_crate_depends_on_one_above_it() {
    let metadata = metadata();
    let members = metadata.workspace_packages();
    let unplaced = members.iter().filter(|member| place(&member.name).is_none());
    let unplaced = unplaced.filter_map(|member| edge(&member.name, &member.name));
    let violations: Vec<_> = unplaced.chain(members.iter().flat_map(|p| edges(p))).collect();
    none(&violations);
}

#[test]
fn an_edge_that_goes_up_or_sideways_or_nowhere_is_a_violation() {
    assert_eq!(edge("zepto-node", "zepto-core"), None);
    assert!(edge("zepto-core", "zepto-node").is_some_and(|text| text.contains("above it")));
    assert!(edge("zepto-core", "zepto-core").is_some());
    assert!(edge("zepto-new", "zepto-core").is_some_and(|text| text.contains("zepto-new")));
}

#[test]
fn the_abi_depends_on_nothing() {
    let metadata = metadata();
    let members = metadata.workspace_packages();
    let abi = members.iter().find(|member| member.name.as_str() == "zepto-abi").expect("the abi");
    let required = abi.dependencies.iter();
    let required = required
        .filter(|dependency| !dependency.optional && dependency.kind == DependencyKind::Normal);
    let violations = required
        .map(|dependency| format!("abi/Cargo.toml: {} must be optional, or go", dependency.name));
    none(&violations.collect::<Vec<_>>());
}

#[test]
fn unsafe_code_is_forbidden_where_nothing_needs_it() {
    let metadata = metadata();
    let mut violations = Vec::new();
    for package in metadata.workspace_packages() {
        if MAY_BE_UNSAFE.contains(&package.name.as_str()) {
            continue;
        }
        for target in package.targets.iter().filter(|target| target.is_lib() || target.is_bin()) {
            let text = std::fs::read_to_string(&target.src_path).expect("a target's source");
            if !text.contains("#![forbid(unsafe_code)]") {
                violations.push(format!("{}: add #![forbid(unsafe_code)]", target.src_path));
            }
        }
    }
    none(&violations);
}

#[test]
fn no_build_has_planted_defects_that_did_not_ask_for_them() {
    let metadata = metadata();
    let mut violations = Vec::new();
    for package in metadata.workspace_packages() {
        let default = package.features.get("default").map_or(&[][..], Vec::as_slice);
        let asked = package.dependencies.iter().flat_map(|dependency| &dependency.features);
        if default.iter().chain(asked).any(|feature| feature.contains("defects")) {
            violations.push(format!("{}: the feature `defects` must be off", package.name));
        }
    }
    none(&violations);
}
