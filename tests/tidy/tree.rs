//! The files of the repository: everything below its top that is not a build's output.

use std::fs;
use std::path::{Path, PathBuf};

/// What builds write into their output directories, so that tools know them.
const OUTPUT_TAG: &str = "CACHEDIR.TAG";
/// A data directory that a person who follows the README leaves behind.
const DATA_DIR: &str = "zepto-data";

/// One file that is text.
pub struct File {
    /// Relative to the top, with `/`.
    pub path: String,
    /// All of it.
    pub text: String,
}

impl File {
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether all of it is test code: in a crate's `tests` directory, or a test module's file.
    pub fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        self.path.split('/').any(|part| part == "tests")
            || name == "tests.rs"
            || name.ends_with("_tests.rs")
    }
}

/// The top of the repository.
pub fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace above").to_owned()
}

/// Every text file of the repository.
pub fn files() -> Vec<File> {
    let mut files = Vec::new();
    visit(&top(), &mut files);
    assert!(files.len() > 100, "{} files: this is not the repository", files.len());
    files
}

fn visit(directory: &Path, files: &mut Vec<File>) {
    let entries = fs::read_dir(directory).expect("a directory that can be read");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_symlink() || path.ends_with(".git") || path.ends_with(DATA_DIR) {
            continue;
        }
        if path.is_dir() {
            if !path.join(OUTPUT_TAG).exists() {
                visit(&path, files);
            }
            continue;
        }
        // What is not text has no lines to look at.
        if let Ok(text) = fs::read_to_string(&path) {
            let relative = path.strip_prefix(top()).expect("below the top");
            files.push(File { path: relative.to_string_lossy().into_owned(), text });
        }
    }
}
