//! Which programs and libraries are tested: those that cargo put beside the running test, if they
//! are fresh.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// `zepto-host`, built from the sources as they are.
///
/// # Panics
/// When it is missing or older than a file that it is made of, with the command that builds it.
pub fn path() -> PathBuf {
    built("zepto-host", "zepto-host")
}

/// A file that a package is built to, beside the running test.
///
/// # Panics
/// As for [`path`].
pub fn built(file: &str, package: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running test");
    // target/PROFILE/deps/test-HASH
    let directory = test.ancestors().nth(2).expect("a target directory");
    let binary = directory.join(file);
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => String::new(),
        Some(profile) => format!(" --profile {profile}"),
    };
    let build = format!("build it first: cargo build -p {package}{profile}");
    let built = modified(&binary);
    let built = built.unwrap_or_else(|| panic!("there is no {}; {build}", binary.display()));
    if let Some(newer) = sources(&binary).find(|source| modified(source) > Some(built)) {
        panic!("{} is older than {}; {build}", binary.display(), newer.display());
    }
    binary
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

/// What cargo wrote beside the program: the files that it was made of.
fn sources(binary: &Path) -> impl Iterator<Item = PathBuf> {
    let text = std::fs::read_to_string(binary.with_extension("d")).unwrap_or_default();
    let files = text.split_once(": ").map_or(String::new(), |(_, files)| files.to_owned());
    let files: Vec<PathBuf> = files.split_whitespace().map(PathBuf::from).collect();
    files.into_iter()
}
