//! The plugins that come with zepto. Their modules are part of the program, so that a file that is
//! not there but has the name of one, `--plugin k8s.wasm`, is that one.

use crate::error::LoadError;
use crate::file::{PluginFile, Sha256};
use std::path::Path;

/// A plugin that comes with zepto.
#[derive(Clone, Copy, Debug)]
pub struct Stock {
    /// Its name, and that of its file without the ending.
    pub name: &'static str,
    /// Its module.
    pub bytes: &'static [u8],
}

/// All of them.
pub const STOCK: &[Stock] = &[
    Stock { name: "gossip", bytes: include_bytes!("../../../plugins/gossip/gossip.wasm") },
    Stock { name: "k8s", bytes: include_bytes!("../../../plugins/k8s/k8s.wasm") },
    Stock { name: "static", bytes: include_bytes!("../../../plugins/static/static.wasm") },
];

/// Opens a plugin's file; when there is none and the path is the bare name of a stock module, that.
///
/// # Errors
/// As for [`PluginFile::read`].
pub fn open(path: &Path) -> Result<PluginFile, LoadError> {
    let named = path.to_str().and_then(|name| name.strip_suffix(".wasm"));
    let stock = STOCK.iter().find(|stock| Some(stock.name) == named);
    match stock {
        Some(stock) if !path.exists() => PluginFile::of(path, stock.bytes.into()),
        _ => PluginFile::read(path),
    }
}

/// Which of the stock modules a file is, by its content.
pub fn which(sha256: Sha256) -> Option<&'static str> {
    STOCK.iter().find(|stock| Sha256::of(stock.bytes) == sha256).map(|stock| stock.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stock_module_is_there_without_a_file_and_known_by_its_content() {
        for stock in STOCK {
            let file = open(format!("{}.wasm", stock.name).as_ref()).unwrap();
            assert_eq!(which(file.sha256), Some(stock.name));
        }
        assert!(open("other.wasm".as_ref()).is_err());
        assert!(open("/nowhere/k8s.wasm".as_ref()).is_err(), "a path names a file");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("k8s.wasm");
        std::fs::write(&path, b"\0asm\x01\0\0\0").unwrap();
        assert_eq!(which(open(&path).unwrap().sha256), None, "another module of that name");
    }
}
