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

/// Asks, prints and answers.
pub(crate) fn run(args: &args::Check) -> ExitCode {
    let get = |path: &str| client::get(&args.client.http, path, args.timeout);
    let (state, text) = if args.own {
        own(get("/api/v1/status"))
    } else if let Some(id) = &args.peer {
        match get(&format!("/api/v1/peers/{}", encode(id))) {
            Ok(peer) => judge_peer(&peer),
            Err(error) => (State::Unknown, cannot_tell(&error)),
        }
    } else {
        match get("/api/v1/status") {
            Ok(status) => judge_cluster(&status, args.warning.unwrap_or(1), args.critical),
            Err(error) => (State::Unknown, cannot_tell(&error)),
        }
    };
    let printed = exit::print(&format!("LASTSEEN {} - {text}\n", state.word()));
    if printed == ExitCode::SUCCESS { ExitCode::from(state as u8) } else { printed }
}

/// Container health: 0 or 1.
fn own(answer: Result<Value, ClientError>) -> (State, String) {
    match answer {
        Ok(_) => (State::Ok, "the detector's loop turns".to_owned()),
        Err(error) => (State::Warning, cannot_tell(&error)),
    }
}

fn cannot_tell(error: &ClientError) -> String {
    match error {
        ClientError::Unreachable(why) | ClientError::Foreign(why) => why.replace(['|', '\n'], " "),
        ClientError::Refused(_, body) => plain(&body["message"]),
    }
}

/// Loss of quorum is critical, and so are `critical` nodes suspected or down that are an alarm; `warning` warn.
fn judge_cluster(status: &Value, warning: u64, critical: Option<u64>) -> (State, String) {
    let number = |key: &str| status[key].as_u64().unwrap_or(0);
    let (total, proven, needed) = (number("total_peers"), number("proven_peers"), number("quorum_needed"));
    if total == 0 {
        return (State::Unknown, "what answers is no lastseen".to_owned());
    }
    let alarms = alarms(status);
    let quorum = status["is_quorum_available"].as_bool().unwrap_or(false);
    let state = if !quorum || critical.is_some_and(|n| alarms >= n) {
        State::Critical
    } else if alarms >= warning && (alarms > 0 || warning == 0) {
        State::Warning
    } else {
        State::Ok
    };
    let quorum = if quorum { "quorum" } else { "NO QUORUM" };
    let (suspected, down) = (number("suspected_peers"), number("down_peers"));
    let text =
        format!("{quorum}: {proven} of {total} nodes proven, {needed} needed, {alarms} suspected or down");
    (
        state,
        format!(
            "{text} | proven={proven};;;0;{total} suspected={suspected};;;0;{total} down={down};;;0;{total}"
        ),
    )
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

fn judge_peer(peer: &Value) -> (State, String) {
    let (status, verdict) = (plain(&peer["status"]), plain(&peer["verdict"]));
    let state = match (status.as_str(), verdict.as_str()) {
        (_, "unknown" | "isolated") => State::Unknown,
        ("healthy", "up" | "draining" | "paused" | "config_mismatch") => State::Ok,
        ("down", "left" | "draining") => State::Warning,
        ("down", _) => State::Critical,
        _ => State::Warning,
    };
    let missed = peer["missed_heartbeats"].as_u64().unwrap_or(0);
    (
        state,
        format!(
            "{} is {status}, {verdict}: {} | missed={missed}",
            plain(&peer["server_id"]),
            plain(&peer["why"])
        ),
    )
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
        let status = |quorum: bool, degraded: bool, alarms: u64| {
            json!({"total_peers": 5, "proven_peers": 4, "quorum_needed": 3, "suspected_peers": 0, "down_peers": alarms,
                   "degraded_peers": alarms, "is_quorum_available": quorum, "is_degraded": degraded})
        };
        for (quorum, alarms, warning, critical, state) in [
            (true, 0, 1, None, State::Ok),
            (true, 1, 1, None, State::Warning),
            (true, 1, 2, None, State::Ok),
            (true, 2, 2, None, State::Warning),
            (true, 2, 1, Some(2), State::Critical),
            (false, 0, 1, None, State::Critical),
        ] {
            let (is, text) = judge_cluster(&status(quorum, alarms > 0, alarms), warning, critical);
            assert_eq!(is, state, "{text}");
            assert!(text.contains(" | proven=4;;;0;5 "), "{text}");
        }
        assert_eq!(judge_cluster(&json!({}), 1, None).0, State::Unknown);
    }

    #[test]
    fn peers() {
        for (status, verdict, state) in [
            ("healthy", "up", State::Ok),
            ("healthy", "paused", State::Ok),
            ("healthy", "one_way", State::Warning),
            ("suspected", "up", State::Warning),
            ("suspected", "refused", State::Warning),
            ("down", "down", State::Critical),
            ("down", "refused", State::Critical),
            ("down", "left", State::Warning),
            ("down", "unknown", State::Unknown),
            ("healthy", "unknown", State::Unknown),
        ] {
            let peer = json!({"server_id": "a", "status": status, "verdict": verdict, "why": "so"});
            assert_eq!(judge_peer(&peer).0, state, "{status} {verdict}");
        }
    }

    #[test]
    fn ids_are_one_segment() {
        assert_eq!(encode("a/b c:ö"), "a%2Fb%20c%3A%C3%B6");
    }
}
