//! What SECURITY.md promises is held by tests that there are.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The names of all functions in the Rust files under `dir`, and of all fuzz targets.
fn functions(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            found.extend(names.map(str::to_owned));
        }
    }
}

#[test]
fn every_promise_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known = BTreeSet::new();
    ["src", "tests"].iter().for_each(|dir| functions(&root.join(dir), &mut known));
    let targets = fs::read_dir(root.join("fuzz/corpus")).unwrap();
    known.extend(targets.map(|target| target.unwrap().file_name().into_string().unwrap()));
    let text = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    let promises: Vec<_> = rows.filter(|row| !row.starts_with("| promise")).collect();
    assert!(promises.len() > 20, "{promises:#?}");
    for promise in promises {
        let held_by = promise.trim_end_matches(" |").rsplit_once(" | ").unwrap().1;
        let tests: Vec<&str> = held_by.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "held by nothing: {promise}");
        tests.iter().for_each(|test| assert!(known.contains(*test), "there is no {test}: {promise}"));
    }
}
