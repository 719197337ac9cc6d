//! The committed corpus of the fuzz target `config`, replayed.

use std::collections::BTreeMap;
use std::path::Path;

#[path = "../../../fuzz/checks/config.rs"]
mod config;

#[test]
fn the_corpus_of_config() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/config");
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        if let Some(name) = config::check(&std::fs::read(entry.unwrap().path()).unwrap()) {
            *seen.entry(name).or_default() += 1;
        }
    }
    let expected = [
        "file",
        "file refused",
        "variable",
        "variable refused",
        "scenario",
        "scenario refused",
        "key",
        "key without its prefix",
        "key of other bytes",
        "share",
        "share refused",
        "duration",
        "duration refused",
        "peers",
        "peers refused",
        "host refused",
        "host, an address",
        "host, localhost",
        "host, a name",
    ];
    for name in expected {
        assert!(seen.contains_key(name), "no input of the corpus leads to {name:?}: {seen:#?}");
    }
}
