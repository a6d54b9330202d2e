//! The configuration file: what is read is printed and read again as the same.

use zepto_node::config::Config;

use crate::Target;

/// See the module. A TOML document is a tree of small allocations, and an error repeats its line.
pub const TARGET: Target =
    Target { name: "config", run, seeds, bytes_fixed: 1 << 20, bytes_per_byte: 2 << 10 };

/// Any text as a configuration.
pub fn run(input: &[u8]) {
    let Ok(text) = core::str::from_utf8(input) else { return };
    match Config::parse(text) {
        Err(error) => assert!(!error.is_empty(), "an error says what is wrong"),
        Ok(config) => {
            assert_eq!(Config::parse(&config.print()).as_ref(), Ok(&config));
            if let Err(error) = config.check() {
                assert!(error.to_string().contains(':'), "an error names its key: {error}");
            }
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let usable = Config {
        node_id: "node-1".into(),
        seeds: vec!["h:1".into(), "[::1]:2".into()],
        ..Config::default()
    };
    let texts = [
        usable.print(),
        "node_id = \"a\"\nlisten = \"127.0.0.1:0\"\nmemory = \"4GiB\"\n".into(),
        "[retention]\nbytes = \"1MiB\"\nage_ms = 5\n[heartbeat]\nprofile = \"fast\"\n".into(),
        "[cluster]\npartition_bits = 16\n[idle]\nspins = 1\npark_us = 1_000\n".into(),
        "seeds = [\"a:1\", '''b:2''', \"\\u00e9:3\"]\nweight = 0x10\n".into(),
    ];
    texts.map(String::into_bytes).to_vec()
}
