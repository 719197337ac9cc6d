//! What the documentation says is true as far as a machine can tell: its links lead somewhere, its commands run or at
//! least exist, its settings are read, its tables are whole. What is generated of it is looked at where it is
//! generated (`src/bin/lastseen/reference.rs`, `src/metrics/reference.rs`).

mod page;
mod shell;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use lastseen::proto::Verdict;

use crate::harness::Cluster;
use page::Page;
use shell::Help;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder, from the root; none if it is not there.
fn files(below: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(below)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = root().join(&folder).read_dir() else { continue };
        for entry in entries.map(Result::unwrap) {
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Every page that people read.
fn pages() -> Vec<Page> {
    let mut paths: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"].map(PathBuf::from).into();
    paths.extend(files("docs").into_iter().filter(|p| p.extension().is_some_and(|e| e == "md")));
    let is_readme = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("README"));
    paths.extend(files("deploy").into_iter().filter(is_readme));
    paths.iter().map(|path| Page::read(root(), path)).collect()
}

/// Those of whom the commands and settings are for users.
fn guides() -> impl Iterator<Item = Page> {
    pages().into_iter().filter(|page| page.path.starts_with("docs") || page.path == Path::new("README.md"))
}

#[track_caller]
fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Why the target of a link on `page` does not exist.
fn broken(page: &Page, target: &str) -> Option<String> {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let to = match path {
        "" => root().join(&page.path),
        path => root().join(&page.path).parent().unwrap().join(path),
    };
    let Ok(to) = to.canonicalize() else { return Some(format!("there is no {path}")) };
    let Ok(to) = to.strip_prefix(root().canonicalize().unwrap()) else {
        return Some(format!("{path} is outside of the repository"));
    };
    let is_there = anchor.is_empty() || Page::read(root(), to).anchors.iter().any(|a| a == anchor);
    (!is_there).then(|| format!("{} has no heading #{anchor}", to.display()))
}

#[test]
fn links_lead_somewhere() {
    let mut faults = Vec::new();
    for page in pages() {
        for link in page.links.iter().filter(|l| !l.it.contains("://")) {
            let fault = broken(&page, &link.it);
            faults.extend(fault.map(|why| format!("{}:{}: {why}", page.path.display(), link.line)));
        }
    }
    none(&faults);
    let page = Page::read(root(), Path::new("README.md"));
    for wrong in ["nowhere.md", "SECURITY.md#nowhere", "#nowhere", "../README.md", "Cargo.toml#L1"] {
        assert!(broken(&page, wrong).is_some(), "{wrong}");
    }
}

#[test]
fn commands_exist() {
    let (mut help, mut faults) = (Help::default(), Vec::new());
    for page in guides() {
        let mut note = |line, why: String| faults.push(format!("{}:{line}: {why}", page.path.display()));
        for block in page.blocks.iter().filter(|b| b.it.is_shell()) {
            if let Err(why) = shell::parses(&block.it.text) {
                note(block.line, why);
            }
            for call in shell::calls(&block.it.text) {
                help.fault(&call).into_iter().for_each(|why| note(block.line, why));
            }
        }
        for code in page.code.iter().filter(|c| c.it.starts_with("lastseen ")) {
            let calls = shell::calls(&code.it);
            calls.iter().filter_map(|call| help.fault(call)).for_each(|why| note(code.line, why));
        }
    }
    none(&faults);
}

/// A folder as the pages expect the present one: with the scenarios, and settings, keys and a hook's program at hand.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    symlink(root().join("scenarios"), dir.path().join("scenarios")).unwrap();
    let write = |path: &str, text: &[u8], mode| {
        let path = dir.path().join(path);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for folder in ["etc", "bin"] {
        std::fs::create_dir(dir.path().join(folder)).unwrap();
    }
    for key in ["etc/cluster.key", "etc/new.key"] {
        let made = Command::new(env!("CARGO_BIN_EXE_lastseen")).arg("keygen").output().unwrap();
        write(key, &made.stdout, 0o600);
    }
    let settings = "static_peers = [\"web-1@127.0.0.1\", \"web-2@127.0.0.2\"]\n\
                    security.key_files = [\"/etc/lastseen/cluster.key\"]\n";
    let settings = settings.replace("/etc/lastseen", &dir.path().join("etc").display().to_string());
    write("etc/lastseen.toml", settings.as_bytes(), 0o644);
    for program in ["bin/page", "bin/take-over"] {
        write(program, b"#!/bin/sh\n", 0o755);
    }
    dir
}

/// What stands on a page as it can be tried here: files of the system are those of the folder, addresses on loopback are
/// those of this process alone, and PEER is one of the nodes.
fn at_home(text: &str, dir: &Path) -> String {
    let [low, high, ..] = std::process::id().to_le_bytes();
    let own = format!("127.{}.{low}.1", 1 + high % 254);
    let dir = dir.display();
    let text =
        text.replace("/etc/lastseen", &format!("{dir}/etc")).replace("/usr/local/bin", &format!("{dir}/bin"));
    text.replace("127.0.0.", &own).replace("PEER", "n2")
}

#[test]
fn commands_run() {
    let cluster = Cluster::start(3);
    let asked = [
        ("LASTSEEN_HTTP", cluster.url(0, "")),
        ("LASTSEEN_CONTROL__SOCKET", cluster.socket(0).display().to_string()),
    ];
    let own = [("LASTSEEN_HTTP", at_home("http://127.0.0.1:5279", Path::new("")))];
    let mut faults = Vec::new();
    // The runbook is for a night in which something is broken, and mostly for other machines: see `alerts`.
    for page in guides().filter(|page| !page.path.ends_with("runbook.md")) {
        let (script, dir) = (shell::script(&page), folder());
        // A page that starts nodes of its own asks those.
        let asked = if script.contains("lastseen run") { &own[..] } else { &asked };
        if let Err(why) = shell::run(&at_home(&script, dir.path()), dir.path(), asked) {
            faults.push(format!("{}: {why}", page.path.display()));
        }
    }
    none(&faults);
    let dir = folder();
    let wrong = shell::run("\n\ntrue\nlastseen explain nobody\ntrue", dir.path(), &asked).unwrap_err();
    assert!(wrong.contains("this failed: line 4") && wrong.contains("status: 4"), "{wrong}");
}

#[test]
fn paths_are_served() {
    let cluster = Cluster::start(3);
    let mut faults = Vec::new();
    for page in guides() {
        let code = page.code.iter().map(|c| (c.line, &c.it));
        let blocks = page.blocks.iter().filter(|b| b.it.is_shell()).map(|b| (b.line, &b.it.text));
        for (line, text) in code.chain(blocks) {
            for path in text.split("http://127.0.0.1:5279").skip(1) {
                let end = path.find([' ', '\n', '\'', '"']).unwrap_or(path.len());
                let (path, code) = (&path[..end], cluster.get(0, &path[..end]).0);
                if path.starts_with('/') && code != 200 {
                    faults.push(format!("{}:{line}: {path} answers {code}", page.path.display()));
                }
            }
        }
    }
    none(&faults);
}

#[test]
fn settings_are_read() {
    let dir = folder();
    let file = dir.path().join("settings.toml");
    let mut faults = Vec::new();
    for page in guides() {
        for block in page.blocks.iter().filter(|b| b.it.info == "toml") {
            std::fs::write(&file, at_home(&block.it.text, dir.path())).unwrap();
            let mut check = Command::new(env!("CARGO_BIN_EXE_lastseen"));
            check.args(["config", "check"]).arg(&file).env_clear();
            // A part of a file need not tell the key.
            check.env("LASTSEEN_SECURITY__INSECURE", "true").env("LASTSEEN_SERVER_ID", "web-1");
            let out = check.output().unwrap();
            if !out.status.success() {
                let why = String::from_utf8_lossy(&out.stderr).into_owned();
                faults.push(format!("{}:{}: {why}", page.path.display(), block.line));
            }
        }
    }
    none(&faults);
}

#[test]
fn every_verdict_has_its_row() {
    let page = Page::read(root(), Path::new("docs/how-it-decides.md"));
    let start = page.rows.iter().position(|row| row[0] == "verdict").expect("the table of verdicts") + 2;
    let rows: Vec<&str> = page.rows[start..].iter().map(|row| row[0].trim_matches('`')).collect();
    let all: Vec<&str> = Verdict::ALL.iter().map(|v| v.as_str()).collect();
    assert_eq!(rows, all, "in the order in which they apply; it is the last table of the page");
}
