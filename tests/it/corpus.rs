//! The committed corpora of the fuzzer, replayed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use self::decode::Outcome;
use self::fixture::kind;

#[path = "../../fuzz/checks/decode.rs"]
mod decode;
#[path = "../../fuzz/checks/fixture.rs"]
mod fixture;
#[path = "../../fuzz/checks/input.rs"]
mod input;
#[path = "../../fuzz/checks/node.rs"]
mod node;
#[path = "../../fuzz/checks/records.rs"]
mod records;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect()
}

#[test]
fn the_corpus_of_decode() {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for input in corpus("decode") {
        let Some(outcome) = decode::check(&input) else { continue };
        let name = match outcome {
            Outcome::Body(Ok(message)) => format!("body {}", kind(&message)),
            Outcome::Body(Err(reason)) => format!("body {reason}"),
            Outcome::Frame(reason) => format!("frame {reason}"),
            Outcome::Sealed(Ok(())) => "sealed".to_owned(),
            Outcome::Sealed(Err(reason)) => format!("sealed {reason}"),
        };
        *seen.entry(name).or_default() += 1;
    }
    let expected = [
        "body hello",
        "body welcome",
        "body ping",
        "body pong",
        "body ping, more",
        "body pong, more",
        "body leave",
        "body relay request",
        "body relay ping",
        "body relay pong",
        "body relay reply",
        "body sync request",
        "body sync response",
        "body decode",
        "frame size",
        "frame version",
        "frame key_id",
        "frame sender",
        "frame own",
        "frame seal",
        "frame decode",
        "sealed",
        "sealed decode",
        "sealed meaning",
    ];
    for name in expected {
        assert!(seen.contains_key(name), "no input of the corpus leads to {name:?}: {seen:#?}");
    }
}

#[test]
fn the_corpus_of_node() {
    let inputs = corpus("node");
    let reached: Vec<node::Reached> = inputs.iter().map(|input| node::check(input)).collect();
    let confirmed = reached.iter().filter(|reached| reached.contains("confirmed")).count();
    assert!(confirmed * 3 >= inputs.len(), "{confirmed} of {} reach a confirmed peer", inputs.len());
    let all: BTreeSet<&str> = reached.into_iter().flatten().collect();
    for name in [
        "hello",
        "welcome",
        "ping",
        "pong",
        "ping, more",
        "pong, more",
        "leave",
        "relay request",
        "relay ping",
        "relay pong",
        "relay reply",
        "sync request",
        "sync response",
        "silence request",
        "silence reply",
        // What a shell reads.
        "catalog",
        // What became of a datagram.
        "taken",
        "size",
        "version",
        "source",
        "own",
        "key_id",
        "sender",
        "seal",
        "instance",
        "replay",
        "decode",
        "meaning",
        // Events.
        "status",
        "verdict",
        "restart",
        "leave",
        "quorum",
        "mass_loss",
        "self",
        "address",
        "migrate",
        "service",
        "key",
        "leaving",
        "down",
        // States.
        "ok",
        "stalled",
        "flooded",
        "isolated",
        "up",
        "unknown",
        "left",
        "refused",
        "link_down",
        "one_way",
        "paused",
        "conflict",
        "config_mismatch",
        "key_mismatch",
    ] {
        assert!(all.contains(name), "no input of the corpus leads to {name:?}: {all:?}");
    }
}

#[test]
fn the_corpus_of_records() {
    let all: BTreeSet<&str> = corpus("records").iter().flat_map(|input| records::check(input)).collect();
    for name in ["kept", "older", "two contents", "own", "stranger"] {
        assert!(all.contains(name), "no input of the corpus leads to {name:?}: {all:?}");
    }
}
