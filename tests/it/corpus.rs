//! The committed corpora of the fuzzer, replayed.

use std::collections::BTreeMap;
use std::path::Path;

use lastseen::proto::messages::Message;

use self::decode::Outcome;

#[path = "../../fuzz/checks/decode.rs"]
mod decode;

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

fn kind(message: &Message) -> &'static str {
    match message {
        Message::Hello { .. } => "hello",
        Message::Welcome { .. } => "welcome",
        Message::Ping { .. } => "ping",
        Message::Pong { .. } => "pong",
        Message::PingMore { .. } => "ping, more",
        Message::PongMore { .. } => "pong, more",
        Message::Leave { .. } => "leave",
        Message::RelayRequest { .. } => "relay request",
        Message::RelayPing { .. } => "relay ping",
        Message::RelayPong { .. } => "relay pong",
        Message::RelayReply { .. } => "relay reply",
        Message::SyncRequest { .. } => "sync request",
        Message::SyncResponse { .. } => "sync response",
    }
}
