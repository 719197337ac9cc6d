//! What the client commands print for people; `--json` prints what the daemon answers.

mod events;
mod explain;
mod keys;
mod matrix;
mod peers;
mod route;
mod services;
mod status;
mod table;
mod top;

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
pub(crate) use route::run_route;
pub(crate) use services::run_services;
pub(crate) use status::run_status;
pub(crate) use top::run_top;

/// How long the client commands wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// `--watch` draws anew so often.
const REDRAW: Duration = Duration::from_secs(1);

/// Prints once, or again and again: then a daemon that goes is waited for, once it was there.
fn show(watch: bool, mut text: impl FnMut() -> Result<String, ClientError>) -> ExitCode {
    let (mut was_there, mut is_away) = (false, false);
    loop {
        let printed = match text() {
            Ok(text) => {
                (was_there, is_away) = (true, false);
                put(&if watch && io::stdout().is_terminal() { redrawn(&text) } else { text })
            }
            Err(ClientError::Unreachable(why)) if was_there => {
                // Beside what is printed, which may be read by a program; once.
                if !std::mem::replace(&mut is_away, true) {
                    exit::complain(&format!("{why}; waiting for it"));
                }
                Ok(())
            }
            Err(error) => return error.report(),
        };
        match printed {
            Err(ended) => return ended,
            Ok(()) if !watch => return ExitCode::SUCCESS,
            Ok(()) => std::thread::sleep(REDRAW),
        }
    }
}

/// The text in place of what is on the terminal: no more of it than fits, or its beginning would be scrolled away.
fn redrawn(text: &str) -> String {
    let rows = ratatui::crossterm::terminal::size().map_or(usize::MAX, |(_, rows)| usize::from(rows));
    overwriting(text, rows)
}

/// Each line ends what stood there before it, and the last one all below: nothing flickers.
fn overwriting(text: &str, rows: usize) -> String {
    let lines = text.lines().count();
    let room = rows.saturating_sub(1).max(1);
    let shown = if lines > room { room - 1 } else { lines };
    let mut drawn = "\x1b[H".to_owned();
    text.lines().take(shown).for_each(|line| drawn += &format!("{line}\x1b[K\n"));
    if shown < lines {
        drawn += &format!("... and {} more lines\x1b[K\n", lines - shown);
    }
    drawn + "\x1b[J"
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
    fn what_is_redrawn_fits() {
        assert_eq!(overwriting("a\nb\n", 4), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(
            overwriting("a\nb\nc\nd\n", 4),
            "\x1b[Ha\x1b[K\nb\x1b[K\n... and 2 more lines\x1b[K\n\x1b[J"
        );
        assert_eq!(overwriting("a\nb\n", 0), "\x1b[H... and 2 more lines\x1b[K\n\x1b[J");
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
