//! The cluster's key leaves the file that it is in for nowhere: no answer, no log, no environment, no memory.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;

use lastseen::proto::SecretKey;

use crate::harness::{AT_ALL, Cluster, within};
use crate::keys::section;

/// One that is nowhere by chance.
fn key() -> [u8; 32] {
    *blake3::hash(b"the key of the test of secrets").as_bytes()
}

fn root() -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("lastseen wire v1 root");
    hasher.update(&[7]).update(b"default").update(&key());
    *hasher.finalize().as_bytes()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The base64 of 32 bytes, without what is the same in all.
fn base64(bytes: [u8; 32]) -> String {
    let text = SecretKey::new(bytes).to_text();
    text.rsplit(':').next().unwrap().trim_end_matches('=').to_owned()
}

/// What must be nowhere, by name. Halves, since a part of a key is too much as well.
fn secrets() -> Vec<(String, Vec<u8>)> {
    let forms = [("key", key()), ("root", root())].into_iter().flat_map(|(name, bytes)| {
        [
            (format!("the {name}"), bytes.to_vec()),
            (format!("the {name} in hex"), hex(&bytes).into_bytes()),
            (format!("the {name} in capital hex"), hex(&bytes).to_uppercase().into_bytes()),
            (format!("the {name} in base64"), base64(bytes).into_bytes()),
        ]
    });
    let halves = forms.flat_map(|(name, bytes)| {
        let half = bytes.len() / 2;
        [(format!("{name}, begin"), bytes[..half].to_vec()), (format!("{name}, end"), bytes[half..].to_vec())]
    });
    halves.collect()
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window[0] == part[0] && window == part)
}

#[track_caller]
fn says_none(place: &str, text: &[u8]) {
    for (name, secret) in secrets() {
        assert!(!holds(text, &secret), "{name} is in {place}");
    }
}

/// All that a process can write to.
fn memory(pid: u32) -> Vec<u8> {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut all = Vec::new();
    for map in fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().lines() {
        let mut fields = map.split_whitespace();
        let (range, mode) = (fields.next().unwrap(), fields.next().unwrap());
        let (begin, end) = range.split_once('-').unwrap();
        let [begin, end] = [begin, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        if !mode.starts_with("rw") {
            continue;
        }
        // A map may shrink meanwhile.
        let mut bytes = vec![0; usize::try_from(end - begin).unwrap()];
        let read = memory.read_at(&mut bytes, begin).unwrap_or(0);
        all.extend_from_slice(&bytes[..read]);
    }
    all
}

fn write_key(path: &Path) {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    writeln!(file, "{}", *SecretKey::new(key()).to_text()).unwrap();
}

/// Two nodes, of which the first logs all that there is to a file.
fn two_nodes() -> Cluster {
    let mut cluster = Cluster::with_files(2, |dir| {
        write_key(&dir.join("cluster.key"));
        section(dir, &["cluster.key"])
    });
    cluster.kill(0);
    let log = File::create(cluster.dir().join("log")).unwrap();
    cluster.launch_with(0, |command| {
        command.env("LASTSEEN_LOG__LEVEL", "trace").env("LASTSEEN_LOG__TRANSITIONS", "all").stderr(log);
    });
    cluster.all_up(AT_ALL);
    cluster
}

/// All that a command prints.
fn printed(mut command: Command) -> Vec<u8> {
    let output = command.output().unwrap();
    [output.stdout, output.stderr].concat()
}

#[test]
fn nothing_that_a_daemon_says_holds_the_key() {
    let cluster = two_nodes();
    assert_eq!(cluster.json(0, "/api/v1/status")["secure"], true);
    for path in [
        "/metrics",
        "/metrics?detail=summary",
        "/metrics?detail=matrix",
        "/metrics?detail=x",
        "/livez",
        "/readyz",
        "/quorumz",
        "/api/v1/status",
        "/api/v1/peers",
        "/api/v1/peers?status=healthy",
        "/api/v1/peers?x=y",
        "/api/v1/peers/n2",
        "/api/v1/peers/nobody",
        "/api/v1/matrix?edges=all",
        "/api/v1/events?follow=false",
        "/nothing",
        "/forged%0d%0a2026-01-01T00:00:00Z%20ERROR%20forged",
    ] {
        let (code, body) = cluster.get(0, path);
        assert!(code > 0 && !body.is_empty(), "{path}");
        says_none(path, body.as_bytes());
    }
    let http = cluster.nodes[0].http.to_string();
    for args in
        [&["status"][..], &["peers", "--all"], &["matrix"], &["keys"], &["explain", "n2"], &["events"]]
    {
        for json in [&[][..], &["--json"]] {
            let said = printed(cluster.order(0, &[args, &["--http", &http], json].concat()));
            assert!(!said.is_empty(), "{args:?}");
            says_none(&format!("{args:?} {json:?}"), &said);
        }
    }
    let settings = cluster.dir().join("n1.toml");
    for json in [&[][..], &["--json"]] {
        let check = [&["config", "check", settings.to_str().unwrap()], json].concat();
        says_none("config check", &printed(cluster.order(0, &check)));
        says_none("reload", &printed(cluster.order(0, &[&["reload"], json].concat())));
    }
    // A key file that is wrong is not quoted either.
    fs::write(cluster.dir().join("cluster.key"), format!("lastseen-key-2:{}=\n", base64(key()))).unwrap();
    let refused = printed(cluster.order(0, &["reload"]));
    assert!(holds(&refused, b"nothing is reloaded"), "{}", String::from_utf8_lossy(&refused));
    says_none("a reload that fails", &refused);
    let log = || fs::read(cluster.dir().join("log")).unwrap();
    let complete = || holds(&log(), b"nothing is reloaded").then_some(());
    assert!(within(AT_ALL, complete).is_some(), "it is logged");
    says_none("the log", &log());
    assert!(!holds(&log(), b"forged"), "what clients say is not logged");
    for file in ["environ", "cmdline"] {
        let text = fs::read(format!("/proc/{}/{file}", cluster.pid(0))).unwrap();
        assert!(!text.is_empty());
        says_none(file, &text);
    }
}

#[test]
fn the_key_is_wiped_from_memory_after_use() {
    let cluster = two_nodes();
    let look = |when: &str| {
        let memory = memory(cluster.pid(0));
        // What follows from the root is in use: so this looks at the right place.
        let frame_key = blake3::derive_key("lastseen wire v1 frame", &root());
        assert!(holds(&memory, &frame_key), "{when}: the keys in use are there");
        says_none(&format!("{} bytes of memory {when}", memory.len()), &memory);
    };
    look("after the start");
    for _ in 0..3 {
        assert!(cluster.order(0, &["reload"]).status().unwrap().success());
    }
    look("after a reload");
}
