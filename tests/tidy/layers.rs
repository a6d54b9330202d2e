//! A crate depends only on crates below it: the order of the design, read from `cargo metadata`.

use crate::none;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::process::Command;

/// From the bottom up; a crate may use those before it.
const ORDER: &[&str] = &[
    "zepto-abi",
    "zepto-message",
    "zepto-sdk",
    "zepto-static",
    "zepto-k8s",
    "zepto-gossip",
    "zepto-migrate-steady",
    "zepto-snapshot-veto",
    "zepto-apiserver",
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
const MAY_BE_UNSAFE: &[&str] =
    &["zepto-sdk", "zepto-store", "zepto-transport", "zepto-plugin", "zepto-capi"];

/// What is needed of `cargo metadata`.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
    features: BTreeMap<String, Vec<String>>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `dev` or `build`; nothing for an ordinary one.
    kind: Option<String>,
    optional: bool,
    features: Vec<String>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    src_path: String,
}

impl Package {
    /// The files at which the compiler begins, tests apart.
    fn roots(&self) -> impl Iterator<Item = &str> {
        let ours = ["lib", "cdylib", "staticlib", "bin"];
        let targets = self.targets.iter();
        let built = targets.filter(move |t| t.kind.iter().any(|kind| ours.contains(&&**kind)));
        built.map(|target| target.src_path.as_str())
    }

    fn is_plugin(&self) -> bool {
        self.dependencies.iter().any(|dependency| dependency.name == "zepto-sdk")
    }
}

fn metadata() -> Metadata {
    let manifest = crate::tree::top().join("Cargo.toml");
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version=1", "--no-deps", "--manifest-path"]);
    let output = command.arg(manifest).output().expect("cargo metadata");
    serde_json::from_slice(&output.stdout).expect("cargo metadata")
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
    // That a crate's tests need a feature of its own is no edge.
    let others = package.dependencies.iter().filter(|dependency| dependency.name != package.name);
    let ours = others.filter(|dependency| is_ours(&dependency.name));
    ours.filter_map(|dependency| edge(&package.name, &dependency.name))
}

#[test]
fn no_crate_depends_on_one_above_it() {
    let members = metadata().packages;
    let unplaced = members.iter().filter(|member| place(&member.name).is_none());
    let unplaced = unplaced.filter_map(|member| edge(&member.name, &member.name));
    let violations: Vec<_> = unplaced.chain(members.iter().flat_map(edges)).collect();
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
    let members = metadata().packages;
    let abi = members.iter().find(|member| member.name == "zepto-abi").expect("the abi");
    let required = abi.dependencies.iter();
    let required = required.filter(|dependency| !dependency.optional && dependency.kind.is_none());
    let violations = required
        .map(|dependency| format!("abi/Cargo.toml: {} must be optional, or go", dependency.name));
    none(&violations.collect::<Vec<_>>());
}

#[test]
fn unsafe_code_is_forbidden_where_nothing_needs_it() {
    let mut violations = Vec::new();
    for package in metadata().packages {
        if MAY_BE_UNSAFE.contains(&package.name.as_str()) {
            continue;
        }
        // The boundary that the SDK writes into a plugin lifts it for itself.
        let lint = if package.is_plugin() { "deny" } else { "forbid" };
        for root in package.roots() {
            let text = std::fs::read_to_string(root).expect("a target's source");
            if !text.contains(&format!("#![{lint}(unsafe_code)]")) {
                violations.push(format!("{root}: add #![{lint}(unsafe_code)]"));
            }
        }
    }
    none(&violations);
}

#[test]
fn no_plugin_is_linked_into_the_host() {
    let members = metadata().packages;
    let plugins = members.iter().filter(|package| package.is_plugin()).map(|p| p.name.as_str());
    let plugins: Vec<&str> = plugins.chain(["zepto-sdk"]).collect();
    let host = members.iter().filter(|package| !plugins.contains(&package.name.as_str()));
    let linked = host.flat_map(|package| {
        let linked = package.dependencies.iter().filter(|d| plugins.contains(&d.name.as_str()));
        linked.map(|d| format!("{} depends on {}: load it instead", package.name, d.name))
    });
    none(&linked.collect::<Vec<_>>());
}

#[test]
fn no_build_has_planted_defects_that_did_not_ask_for_them() {
    let mut violations = Vec::new();
    for package in metadata().packages {
        let default = package.features.get("default").map_or(&[][..], Vec::as_slice);
        let asked = package.dependencies.iter().flat_map(|dependency| &dependency.features);
        if default.iter().chain(asked).any(|feature| feature.contains("defects")) {
            violations.push(format!("{}: the feature `defects` must be off", package.name));
        }
    }
    none(&violations);
}
