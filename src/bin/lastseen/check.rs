//! `check`: one line and an exit code, for Nagios and its kin, and for containers.

use std::process::ExitCode;

use serde_json::Value;

use crate::client::{self, ClientError, plain};
use crate::{args, exit};

/// What the plugins of Nagios answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Ok => "OK",
            State::Warning => "WARNING",
            State::Critical => "CRITICAL",
            State::Unknown => "UNKNOWN",
        }
    }
}

/// What is answered: the state, a text, and measures for the graphs of the monitoring.
#[derive(Debug)]
struct Answer {
    state: State,
    text: String,
    measures: String,
}

impl Answer {
    fn new(state: State, text: impl Into<String>) -> Answer {
        Answer { state, text: text.into(), measures: String::new() }
    }

    /// The first line. The bar divides text and measures, so the text has none.
    fn line(&self) -> String {
        let text = self.text.replace(['|', '\n', '\r'], " ");
        let bar = if self.measures.is_empty() { "" } else { " | " };
        format!("LASTSEEN {} - {text}{bar}{}\n", self.state.word(), self.measures)
    }
}

/// Asks, prints and answers.
pub(crate) fn run(args: &args::Check) -> ExitCode {
    let http = &args.daemon.http;
    let get = |path: &str| client::get(http, path, args.timeout);
    let answer = if args.own {
        own(&client::is_alive(http, args.timeout))
    } else if let Some(id) = &args.peer {
        get(&format!("/api/v1/peers/{}", encode(id)))
            .map_or_else(|error| cannot_tell(&error), |peer| judge_peer(&peer))
    } else {
        get("/api/v1/status").map_or_else(
            |error| cannot_tell(&error),
            |status| judge_cluster(&status, args.warning.unwrap_or(1), args.critical),
        )
    };
    let printed = exit::print(&answer.line());
    if printed == ExitCode::SUCCESS {
        ExitCode::from(answer.state as u8)
    } else {
        ExitCode::from(if args.own { State::Warning } else { State::Unknown } as u8)
    }
}

/// Container health: 0 or 1.
fn own(answer: &Result<(), ClientError>) -> Answer {
    match answer {
        Ok(()) => Answer::new(State::Ok, "the detector's loop turns"),
        Err(error) => Answer { state: State::Warning, ..cannot_tell(error) },
    }
}

fn cannot_tell(error: &ClientError) -> Answer {
    Answer::new(State::Unknown, error.text())
}

/// Loss of quorum is critical, and so are `critical` nodes suspected or down that are an alarm; `warning` warn.
fn judge_cluster(status: &Value, warning: u64, critical: Option<u64>) -> Answer {
    let number = |key: &str| status[key].as_u64().unwrap_or(0);
    let (total, proven, needed) = (number("total_peers"), number("proven_peers"), number("quorum_needed"));
    let Some(quorum) = status["is_quorum_available"].as_bool().filter(|_| total > 0) else {
        return Answer::new(State::Unknown, "what answers is no lastseen");
    };
    let alarms = alarms(status);
    let state = if !quorum || critical.is_some_and(|n| alarms >= n) {
        State::Critical
    } else if alarms >= warning {
        State::Warning
    } else {
        State::Ok
    };
    let quorum = if quorum { "quorum" } else { "NO QUORUM" };
    let (suspected, down) = (number("suspected_peers"), number("down_peers"));
    Answer {
        state,
        text: format!(
            "{quorum}: {proven} of {total} nodes proven, {needed} needed, {alarms} suspected or down"
        ),
        measures: format!(
            "proven={proven};;{needed}:;0;{total} suspected={suspected};;;0;{total} down={down};;;0;{total} \
             alarms={alarms};{};{};0;{total}",
            from(warning),
            critical.map(from).unwrap_or_default()
        ),
    }
}

/// The range of values that are none, as plugins write it, of a measure that is one from `n` on.
fn from(n: u64) -> String {
    match n.checked_sub(1) {
        Some(most) => most.to_string(),
        // All of them are: the range whose inside alerts.
        None => "@0:".to_owned(),
    }
}

/// Nodes Suspected or Down by the rule of `is_degraded`: who left or was never heard is no alarm.
fn alarms(status: &Value) -> u64 {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    if !status["is_degraded"].as_bool().unwrap_or(false) {
        return 0;
    }
    if let Some(alarms) = status["degraded_peers"].as_u64() {
        return alarms;
    }
    number(&status["suspected_peers"]) + number(&status["down_peers"])
}

fn judge_peer(peer: &Value) -> Answer {
    let (status, verdict) = (plain(&peer["status"]), plain(&peer["verdict"]));
    let state = match (status.as_str(), verdict.as_str()) {
        ("", _) => return Answer::new(State::Unknown, "what answers is no lastseen"),
        (_, "unknown" | "isolated") => State::Unknown,
        ("healthy", "up" | "draining" | "paused" | "config_mismatch") => State::Ok,
        ("down", "left" | "draining") => State::Warning,
        ("down", _) => State::Critical,
        _ => State::Warning,
    };
    let missed = peer["missed_heartbeats"].as_u64().unwrap_or(0);
    Answer {
        state,
        text: format!("{} is {status}, {verdict}: {}", plain(&peer["server_id"]), plain(&peer["why"])),
        measures: format!("missed={missed}"),
    }
}

/// An id as one segment of a path.
pub(crate) fn encode(id: &str) -> String {
    let mut path = String::new();
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn clusters() {
        let status = |quorum: bool, alarms: u64| {
            json!({"total_peers": 5, "proven_peers": 4, "quorum_needed": 3, "suspected_peers": 0, "down_peers": 3,
                   "degraded_peers": alarms, "is_quorum_available": quorum, "is_degraded": alarms > 0})
        };
        for (quorum, alarms, warning, critical, state) in [
            (true, 0, 1, None, State::Ok), // three are down, and that is no alarm
            (true, 1, 1, None, State::Warning),
            (true, 1, 2, None, State::Ok),
            (true, 2, 2, None, State::Warning),
            (true, 2, 1, Some(2), State::Critical),
            (true, 2, 1, Some(3), State::Warning),
            (true, 2, 9, Some(2), State::Critical),
            (true, 0, 0, None, State::Warning),
            (false, 0, 1, None, State::Critical),
            (false, 0, 9, Some(9), State::Critical),
        ] {
            let is = judge_cluster(&status(quorum, alarms), warning, critical);
            assert_eq!(is.state, state, "{is:?}");
        }
        assert_eq!(
            judge_cluster(&status(true, 1), 1, None).line(),
            "LASTSEEN WARNING - quorum: 4 of 5 nodes proven, 3 needed, 1 suspected or down \
             | proven=4;;3:;0;5 suspected=0;;;0;5 down=3;;;0;5 alarms=1;0;;0;5\n"
        );
        let line = judge_cluster(&status(true, 3), 2, Some(4)).line();
        assert!(line.ends_with(" alarms=3;1;3;0;5\n"), "an alert outside of 0 to 1, and of 0 to 3: {line}");
        let line = judge_cluster(&status(true, 0), 0, None).line();
        assert!(line.ends_with(" alarms=0;@0:;;0;5\n"), "{line}");
        for foreign in [json!({}), json!([]), json!({"total_peers": 5})] {
            assert_eq!(judge_cluster(&foreign, 1, None).state, State::Unknown);
        }
    }

    #[test]
    fn peers() {
        for (status, verdict, state) in [
            ("healthy", "up", State::Ok),
            ("healthy", "paused", State::Ok),
            ("healthy", "draining", State::Ok),
            ("healthy", "config_mismatch", State::Ok),
            ("healthy", "one_way", State::Warning),
            ("healthy", "left", State::Warning),
            ("suspected", "up", State::Warning),
            ("suspected", "draining", State::Warning),
            ("suspected", "refused", State::Warning),
            ("down", "down", State::Critical),
            ("down", "refused", State::Critical),
            ("down", "conflict", State::Critical),
            ("down", "left", State::Warning),
            ("down", "draining", State::Warning),
            ("down", "unknown", State::Unknown),
            ("down", "isolated", State::Unknown),
            ("healthy", "unknown", State::Unknown),
            ("healthy", "a verdict of tomorrow", State::Warning),
            ("", "", State::Unknown),
        ] {
            let peer = json!({"server_id": "a", "status": status, "verdict": verdict, "why": "so"});
            assert_eq!(judge_peer(&peer).state, state, "{status} {verdict}");
        }
        let peer = json!({"server_id": "a", "status": "down", "verdict": "down", "why": "x|y\nz",
            "missed_heartbeats": 7});
        assert_eq!(
            judge_peer(&peer).line(),
            "LASTSEEN CRITICAL - a is down, down: x y\u{fffd}z | missed=7\n",
            "one bar, one line"
        );
    }

    #[test]
    fn who_does_not_answer() {
        let unreachable = || ClientError::Unreachable("no daemon|answers\nat x".into());
        assert_eq!(cannot_tell(&unreachable()).line(), "LASTSEEN UNKNOWN - no daemon answers at x\n");
        let unknown = ClientError::Refused(404, json!({"message": "no peer", "nearest": ["a", "b"]}));
        assert_eq!(cannot_tell(&unknown).line(), "LASTSEEN UNKNOWN - no peer; the nearest are a, b\n");
        assert_eq!(own(&Ok(())).state as u8, 0);
        for error in [unreachable(), unknown] {
            assert_eq!(own(&Err(error)).state as u8, 1, "a container's probe knows 0 and 1");
        }
    }

    #[test]
    fn ids_are_one_segment() {
        assert_eq!(encode("a/b c:ö"), "a%2Fb%20c%3A%C3%B6");
    }
}
