//! What the client commands print for people; `--json` prints what the daemon answers.

mod table;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use crate::args;
use crate::check::encode;
use crate::client::{self, ClientError, plain};
use table::Table;

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
        let mut out = io::stdout().lock();
        if write!(out, "{clear}{text}").and_then(|()| out.flush()).is_err() {
            return ExitCode::SUCCESS; // The reader has gone away.
        }
        drop(out);
        if !watch {
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(REDRAW);
    }
}

/// Whether colours are wanted: on a terminal, without `NO_COLOR`.
fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// `lastseen status`.
pub(crate) fn run_status(args: &args::Status) -> ExitCode {
    let http = &args.client.http;
    show(args.watch, || {
        let status = client::get(http, "/api/v1/status", TIMEOUT)?;
        if args.client.json {
            return Ok(format!("{status}\n"));
        }
        let peers = client::get(http, "/api/v1/peers", TIMEOUT)?;
        Ok(status_text(&status, &peers, colours()))
    })
}

fn status_text(status: &Value, peers: &Value, colours: bool) -> String {
    let number = |key: &str| status[key].as_u64().unwrap_or(0);
    let yes = |key: &str| if status[key].as_bool().unwrap_or(false) { "yes" } else { "no " };
    let mut text = format!(
        "{} of {}     lastseen {}   up {}   key {}   self {}\n",
        plain(&status["server_id"]),
        plain(&status["cluster"]),
        plain(&status["version"]),
        age(status["uptime_seconds"].as_f64().unwrap_or(0.0)),
        if status["secure"] == true { plain(&status["key"]) } else { "none (INSECURE)".to_owned() },
        plain(&status["self_health"]),
    );
    text += &format!(
        "QUORUM    {}     {} of {} proven, {} needed\n",
        yes("is_quorum_available"),
        number("proven_peers"),
        number("total_peers"),
        number("quorum_needed")
    );
    let verdicts = status["verdicts"].as_object();
    let counts: Vec<String> = verdicts
        .into_iter()
        .flatten()
        .filter(|(verdict, count)| *verdict != "up" && count.as_u64() > Some(0))
        .map(|(verdict, count)| format!("{count} {verdict}"))
        .collect();
    let counts = if counts.is_empty() { "all up".to_owned() } else { counts.join(", ") };
    text += &format!("DEGRADED  {}     {counts}\n", yes("is_degraded"));
    let odd: Vec<&Value> = rows(peers).filter(|p| !is_fine(p)).collect();
    if !odd.is_empty() {
        text += "\n";
        text += &peer_table(&odd, colours);
        text += "\nnext: lastseen peers --all, or lastseen events --follow\n";
    }
    text
}

fn rows(peers: &Value) -> impl Iterator<Item = &Value> {
    peers["peers"].as_array().into_iter().flatten()
}

fn is_fine(peer: &Value) -> bool {
    peer["verdict"] == "up" && peer["status"] == "healthy"
}

fn peer_table(peers: &[&Value], colours: bool) -> String {
    let mut table = Table::new(["PEER", "STATUS", "VERDICT", "FOR", "RTT", "WHY"]);
    for peer in peers {
        let rtt = peer["link"]["rtt_seconds"]
            .as_f64()
            .map_or_else(|| "-".to_owned(), |s| format!("{:.1} ms", s * 1e3));
        let colour = match peer["status"].as_str() {
            Some("down") => 31,
            Some("suspected") => 33,
            _ if is_fine(peer) => 32,
            _ => 33,
        };
        table.row(
            colour,
            [
                plain(&peer["server_id"]),
                plain(&peer["status"]),
                plain(&peer["verdict"]),
                age(peer["since_seconds"].as_f64().unwrap_or(0.0)),
                rtt,
                plain(&peer["why"]),
            ],
        );
    }
    table.render(colours)
}

/// `lastseen peers`.
pub(crate) fn run_peers(args: &args::Peers) -> ExitCode {
    let mut query = Vec::new();
    for (name, value) in [("status", &args.status), ("verdict", &args.verdict)] {
        query.extend(value.as_ref().map(|v| format!("{name}={}", encode(v))));
    }
    let path = format!("/api/v1/peers?{}", query.join("&"));
    let chosen = args.all || !query.is_empty() || args.observed;
    show(args.watch, || {
        let peers = client::get(&args.client.http, &path, TIMEOUT)?;
        Ok(if args.client.json { format!("{peers}\n") } else { peers_text(&peers, chosen, colours()) })
    })
}

fn peers_text(peers: &Value, all: bool, colours: bool) -> String {
    let shown: Vec<&Value> = rows(peers).filter(|p| all || !is_fine(p)).collect();
    let up = rows(peers).filter(|p| is_fine(p)).count();
    let mut text = if shown.is_empty() { String::new() } else { peer_table(&shown, colours) + "\n" };
    let total = peers["total"].as_u64().unwrap_or(0);
    text += &match (all, shown.is_empty()) {
        (true, _) => format!("{total} peers, {up} up\n"),
        (false, true) => format!("all {total} peers are up (--all shows them)\n"),
        (false, false) => format!("{up} of {total} peers are up (--all shows them)\n"),
    };
    text
}

/// `lastseen events`.
pub(crate) fn run_events(args: &args::Events) -> ExitCode {
    let path = if args.follow { "/api/v1/events?since=0" } else { "/api/v1/events?since=0&follow=false" };
    let ended = client::events(&args.client.http, path, |data, reset| {
        let line = match (args.client.json, reset) {
            (true, false) => format!("{data}\n"),
            (true, true) => return true,
            (false, _) => event_line(data, reset),
        };
        let mut out = io::stdout().lock();
        out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_ok()
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

fn event_line(data: &str, reset: bool) -> String {
    let event: Value = serde_json::from_str(data).unwrap_or_default();
    if reset {
        return format!("... {} events were lost\n", event["lost"].as_u64().unwrap_or(0));
    }
    let change = match (event["from"].as_str(), event["to"].as_str()) {
        (Some(_), Some(_)) => format!("{} -> {}", plain(&event["from"]), plain(&event["to"])),
        _ => plain(&event["to"]),
    };
    let who = if event["peer"].is_string() { plain(&event["peer"]) } else { plain(&event["observer"]) };
    format!(
        "{}  {:<10} {who:<16} {change}: {}\n",
        plain(&event["time"]),
        plain(&event["type"]),
        plain(&event["why"])
    )
    .replace(" : ", ": ")
}

/// Seconds as people say them: `0.3 s`, `42 s`, `9 min`, `4 h 2 min`, `12 d 4 h`.
pub(crate) fn age(seconds: f64) -> String {
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

    fn peers() -> Value {
        let peer = |id: &str, status: &str, verdict: &str, why: &str| {
            json!({"server_id": id, "status": status, "verdict": verdict, "why": why, "since_seconds": 42.0,
                   "link": {"rtt_seconds": 0.0004}})
        };
        json!({"total": 3, "peers": [
            peer("web-1", "healthy", "up", "answers"),
            peer("web-7", "down", "down", "silent"),
            peer("web-\u{1b}[31m", "healthy", "one_way", "does not\nhear me"),
        ]})
    }

    #[test]
    fn the_peers_that_are_not_up_and_how_many_are() {
        let text = peers_text(&peers(), false, false);
        assert_eq!(
            text,
            "PEER       STATUS   VERDICT  FOR   RTT     WHY\n\
             web-7      down     down     42 s  0.4 ms  silent\n\
             web-\u{fffd}[31m  healthy  one_way  42 s  0.4 ms  does not\u{fffd}hear me\n\n\
             1 of 3 peers are up (--all shows them)\n"
        );
        assert!(peers_text(&peers(), true, false).contains("3 peers, 1 up\n"));
        assert!(!text.contains('\u{1b}'), "nothing from afar moves a terminal");
        assert!(peers_text(&peers(), false, true).contains("\u{1b}[31mweb-7"));
    }

    #[test]
    fn a_status_says_what_is_wrong_first() {
        let status = json!({"server_id": "web-1", "cluster": "prod", "version": "0.1.0", "uptime_seconds": 100_000.0,
            "secure": true, "key": "1f", "self_health": "ok", "is_quorum_available": true, "proven_peers": 3,
            "total_peers": 4, "quorum_needed": 3, "is_degraded": true, "verdicts": {"up": 1, "down": 1, "one_way": 1}});
        let text = status_text(&status, &peers(), false);
        assert!(
            text.starts_with("web-1 of prod     lastseen 0.1.0   up 27 h 46 min   key 1f   self ok\n"),
            "{text}"
        );
        assert!(text.contains("QUORUM    yes     3 of 4 proven, 3 needed\n"), "{text}");
        assert!(text.contains("DEGRADED  yes     1 down, 1 one_way\n"), "{text}");
    }

    #[test]
    fn events_are_lines() {
        let event = json!({"time": "T", "type": "status", "observer": "a", "peer": "b", "from": "healthy",
            "to": "suspected", "why": "2 missed"});
        assert_eq!(
            event_line(&event.to_string(), false),
            "T  status     b                healthy -> suspected: 2 missed\n"
        );
        assert_eq!(event_line("{\"lost\":7}", true), "... 7 events were lost\n");
    }
}
