//! What the client commands print for people; `--json` prints what the daemon answers.

mod events;
mod explain;
mod keys;
mod matrix;
mod peers;
mod status;
mod table;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use crate::client::ClientError;
use crate::exit;

pub(crate) use events::run_events;
pub(crate) use explain::{facts, headline, run_explain};
pub(crate) use keys::run_keys;
pub(crate) use matrix::run_matrix;
pub(crate) use peers::run_peers;
pub(crate) use status::run_status;

/// How long the client commands wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// `--watch` draws anew so often.
const REDRAW: Duration = Duration::from_secs(1);

/// Prints once, or again and again.
fn show(watch: bool, mut text: impl FnMut() -> Result<String, ClientError>) -> ExitCode {
    loop {
        let text = match text() {
            Ok(text) => text,
            Err(error) => return error.report(),
        };
        let clear = if watch && io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
        if let Err(ended) = put(&format!("{clear}{text}")) {
            return ended;
        }
        if !watch {
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(REDRAW);
    }
}

/// Prints. An error is the exit code: a reader that has gone away is success.
fn put(text: &str) -> Result<(), ExitCode> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(ExitCode::SUCCESS),
        Err(e) => Err(exit::fail(&format!("cannot write: {e}"))),
    }
}

/// Whether colours are wanted: on a terminal, without `NO_COLOR`.
fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// The peers of an answer.
fn rows(peers: &Value) -> impl Iterator<Item = &Value> {
    peers["peers"].as_array().into_iter().flatten()
}

fn is_fine(peer: &Value) -> bool {
    peer["verdict"] == "up" && peer["status"] == "healthy"
}

/// The colour (of SGR) of a peer's line.
fn colour(peer: &Value) -> u8 {
    match peer["status"].as_str() {
        Some("down") => 31,
        _ if is_fine(peer) => 32,
        _ => 33,
    }
}

/// Seconds as people say them: `0.3 s`, `42 s`, `9 min`, `4 h 2 min`, `12 d 4 h`.
fn age(seconds: f64) -> String {
    let s = seconds.max(0.0) as u64;
    match s {
        0..10 => format!("{:.1} s", seconds.max(0.0)),
        10..120 => format!("{s} s"),
        120..7200 => format!("{} min", s / 60),
        7200..172_800 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Three peers: one up, one down, one whose words are hostile.
    pub(super) fn three_peers() -> Value {
        let peer = |id: &str, status: &str, verdict: &str, why: &str| {
            json!({"server_id": id, "status": status, "verdict": verdict, "why": why, "since_seconds": 42.0,
                   "observed": true, "link": {"rtt_seconds": 0.0004}})
        };
        json!({"total": 3, "peers": [
            peer("web-1", "healthy", "up", "answers"),
            peer("web-7", "down", "down", "10 heartbeats missed in a row (Down at 5), last proof of life 42 s ago"),
            peer("web-\u{1b}[31m", "healthy", "one_way", "does not\nhear me"),
        ]})
    }

    #[test]
    fn ages() {
        for (seconds, text) in [
            (-1.0, "0.0 s"),
            (0.34, "0.3 s"),
            (42.9, "42 s"),
            (119.0, "119 s"),
            (540.0, "9 min"),
            (14_520.0, "4 h 2 min"),
            (1_051_200.0, "12 d 4 h"),
        ] {
            assert_eq!(age(seconds), text);
        }
    }
}
