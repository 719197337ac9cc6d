//! `lastseen events`.

use std::process::ExitCode;

use serde_json::Value;

use super::put;
use crate::client::{self, ClientError, plain, plain_json};
use crate::{args, exit};

/// Prints the events that are kept, and with `--follow` those that come.
pub(crate) fn run_events(args: &args::Events) -> ExitCode {
    let path = if args.follow { "/api/v1/events?since=0" } else { "/api/v1/events?since=0&follow=false" };
    let mut stopped = None;
    let ended = client::events(&args.client.daemon.http, path, |data, gap| {
        let event: Value = serde_json::from_str(data).unwrap_or_default();
        let line = match (args.client.json, gap) {
            // Beside the events, so that each line of the output is one.
            (true, true) => {
                exit::complain(&gap_text(&event));
                return true;
            }
            (true, false) => plain_json(&event),
            (false, true) => format!("... {}\n", gap_text(&event)),
            (false, false) => event_line(&event),
        };
        stopped = put(&line).err();
        stopped.is_none()
    });
    match (stopped, ended) {
        (Some(code), _) => code,
        (None, Ok(())) if args.follow => {
            let gone = format!("the daemon at {} has ended the stream", args.client.daemon.http);
            ClientError::Unreachable(gone).report()
        }
        (None, Ok(())) => ExitCode::SUCCESS,
        (None, Err(error)) => error.report(),
    }
}

pub(super) fn gap_text(event: &Value) -> String {
    match event["lost"].as_u64() {
        Some(1) => "1 event was lost".to_owned(),
        Some(lost) => format!("{lost} events were lost"),
        None => "events were lost".to_owned(),
    }
}

pub(super) fn event_line(event: &Value) -> String {
    let who = if event["peer"].is_string() { plain(&event["peer"]) } else { plain(&event["observer"]) };
    let change = match (event["from"].as_str(), event["to"].as_str()) {
        (Some(_), Some(_)) => format!("{} -> {}: ", plain(&event["from"]), plain(&event["to"])),
        (None, Some(_)) => format!("{}: ", plain(&event["to"])),
        _ => String::new(),
    };
    let (time, kind, why) = (plain(&event["time"]), plain(&event["type"]), plain(&event["why"]));
    format!("{time}  {kind:<9}  {who:<16}  {change}{why}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_are_lines() {
        let mut event = json!({"time": "T", "type": "status", "observer": "a", "peer": "b", "from": "healthy",
            "to": "suspected", "why": "2 : missed"});
        assert_eq!(event_line(&event), "T  status     b                 healthy -> suspected: 2 : missed\n");
        (event["from"], event["peer"]) = (Value::Null, Value::Null);
        assert_eq!(event_line(&event), "T  status     a                 suspected: 2 : missed\n");
        (event["to"], event["why"]) = (Value::Null, json!("x\n\u{1b}"));
        assert_eq!(event_line(&event), "T  status     a                 x\u{fffd}\u{fffd}\n");
    }

    #[test]
    fn gaps_are_told() {
        assert_eq!(gap_text(&json!({"lost": 7})), "7 events were lost");
        assert_eq!(gap_text(&json!({"lost": null})), "events were lost");
    }
}
