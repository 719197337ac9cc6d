//! `lastseen status`.

use std::process::ExitCode;

use serde_json::Value;

use super::table::{Table, wrap};
use super::{TIMEOUT, age, colour, colours, is_fine, rows, show};
use crate::args;
use crate::client::{self, plain, plain_json};

/// The most peers that are shown; `lastseen peers` shows all.
const SHOWN: usize = 20;

/// Shows how the node sees the cluster.
pub(crate) fn run_status(args: &args::View) -> ExitCode {
    let http = &args.client.daemon.http;
    show(args.watch, || {
        let status = client::get(http, "/api/v1/status", TIMEOUT)?;
        if args.client.json {
            return Ok(plain_json(&status));
        }
        let peers = client::get(http, "/api/v1/peers", TIMEOUT)?;
        Ok(status_text(&status, &peers, colours()))
    })
}

/// The key that is sent with; whoever reads on must know if anybody may speak without one.
fn key_text(status: &Value) -> String {
    match (status["secure"] == true, status["insecure"] == true) {
        (false, _) => "none (INSECURE)".to_owned(),
        (true, false) => plain(&status["key"]),
        (true, true) => format!("{} (INSECURE: none is needed)", plain(&status["key"])),
    }
}

/// Who speaks, and how the cluster is.
pub(super) fn head(status: &Value, peers: &Value, colours: bool) -> String {
    let number = |key: &str| status[key].as_u64().unwrap_or(0);
    let mut text = format!(
        "{} of {}     lastseen {}   up {}   key {}   self {}\n",
        plain(&status["server_id"]),
        plain(&status["cluster"]),
        plain(&status["version"]),
        age(status["uptime_seconds"].as_f64().unwrap_or(0.0)),
        key_text(status),
        plain(&status["self_health"]),
    );
    let quorum = format!(
        "{} of {} proven, {} needed",
        number("proven_peers"),
        number("total_peers"),
        number("quorum_needed")
    );
    text += &headline("QUORUM", &status["is_quorum_available"], false, &quorum, colours);
    text += &headline("DEGRADED", &status["is_degraded"], true, &counts(peers), colours);
    if status["mass_loss"] == true {
        text += &headline("MASS LOSS", &status["mass_loss"], true, "many were lost at once", colours);
    }
    if status["witness"]["missing"].is_string() {
        text += &headline("WITNESS", &Value::Bool(false), false, &witness(&status["witness"]), colours);
    }
    if status["draining_until"].is_string() {
        text += &headline("DRAINING", &Value::Bool(true), true, &own_drain(status), colours);
    }
    text
}

fn status_text(status: &Value, peers: &Value, colours: bool) -> String {
    let mut text = head(status, peers, colours);
    let odd: Vec<&Value> = rows(peers).filter(|p| !is_fine(p)).collect();
    if odd.is_empty() {
        return text;
    }
    text += "\n";
    text += &table(&odd).render(colours);
    if odd.len() > SHOWN {
        text += &format!("  ... and {} more\n", odd.len() - SHOWN);
    }
    text + &format!("\nnext: lastseen explain {}\n", plain(&odd[0]["server_id"]))
}

/// What this node lacks to count for the quorum guard.
fn witness(witness: &Value) -> String {
    let text = match witness["missing"].as_str() {
        Some("state_dir") => "no quorum guard: set state_dir, or see the log".to_owned(),
        Some("observers") => {
            "it observes too few nodes: the quorum guard needs observers = \"all\"".to_owned()
        }
        Some("save") => "its roster is not on disk yet: see the log, and state_dir".to_owned(),
        Some("wait") => {
            format!(
                "settings have changed: it waits {}",
                age(witness["wait_seconds"].as_f64().unwrap_or(0.0))
            )
        }
        Some("witnesses") => {
            "not every member reports this roster yet, and there is no majority of witnesses".to_owned()
        }
        Some("agreement") => rows_of(&witness["former"]).map(former).collect::<Vec<_>>().join("; "),
        _ => "this command does not know the reason".to_owned(),
    };
    format!("{}: {text}", plain(&witness["standing"]))
}

fn rows_of(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// A former roster whose members have not agreed.
fn former(former: &Value) -> String {
    let [members, needed, agreed] =
        ["members", "needed", "agreed"].map(|key| former[key].as_u64().unwrap_or(0));
    let names: Vec<String> = rows_of(&former["not_agreed"]).map(plain).collect();
    format!(
        "{agreed} of a former roster's {members} members have this one, {needed} needed; not: {}",
        names.join(", ")
    )
}

/// What is left of this node's own drain.
fn own_drain(status: &Value) -> String {
    let reason = plain(&status["draining_reason"]);
    let colon = if reason.is_empty() { "" } else { ": " };
    format!("this node, {} left{colon}{reason}", age(status["draining_seconds"].as_f64().unwrap_or(0.0)))
}

/// `QUORUM    yes     …`; what is `bad` is red.
fn headline(name: &str, value: &Value, bad: bool, text: &str, colours: bool) -> String {
    let (word, paint) = match value.as_bool() {
        Some(is) => (if is { "yes" } else { "no" }, if is == bad { 31 } else { 32 }),
        None => ("?", 33),
    };
    let word = format!("{word:<3}");
    let word = if colours { format!("\x1b[{paint}m{word}\x1b[0m") } else { word };
    let mut lines = wrap(text, 62).into_iter();
    let mut head = format!("{name:<10}{word}     {}\n", lines.next().unwrap_or_default());
    lines.for_each(|line| head += &format!("{:18}{line}\n", ""));
    head
}

/// How many there are of each verdict but `up`; those that are no alarm behind the others.
fn counts(peers: &Value) -> String {
    let mut alarms: Vec<(String, u64)> = Vec::new();
    let mut others: Vec<(String, u64)> = Vec::new();
    for peer in rows(peers).filter(|p| !is_fine(p)) {
        let (status, verdict) = (plain(&peer["status"]), plain(&peer["verdict"]));
        let no_alarm = matches!(verdict.as_str(), "left" | "unknown" | "draining");
        let list = if no_alarm { &mut others } else { &mut alarms };
        // A peer that is suspected, and nothing is known to be wrong with it, is "up" by its verdict.
        let name = if verdict == "up" { status } else { verdict };
        match list.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => list.push((name, 1)),
        }
    }
    let list = |counts: &[(String, u64)]| {
        let texts: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
        texts.join(", ")
    };
    match (alarms.is_empty(), others.is_empty()) {
        (true, true) => "all up".to_owned(),
        (false, true) => list(&alarms),
        (true, false) => format!("{}: no alarm", list(&others)),
        (false, false) => format!("{}   ({}: no alarm)", list(&alarms), list(&others)),
    }
}

fn table(peers: &[&Value]) -> Table<4> {
    let mut table = Table::new(2);
    for peer in peers.iter().take(SHOWN) {
        let (status, verdict) = (plain(&peer["status"]), plain(&peer["verdict"]));
        table.row(
            colour(peer),
            [
                plain(&peer["server_id"]),
                if verdict == "up" { status } else { verdict },
                age(peer["since_seconds"].as_f64().unwrap_or(0.0)),
                plain(&peer["why"]),
            ],
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::tests::three_peers;
    use super::*;
    use serde_json::json;

    fn status(degraded: bool) -> Value {
        json!({"server_id": "web-1", "cluster": "prod", "version": "0.1.0", "uptime_seconds": 100_000.0,
            "secure": true, "key": "1f", "self_health": "ok", "is_quorum_available": true, "proven_peers": 3,
            "total_peers": 4, "quorum_needed": 3, "is_degraded": degraded})
    }

    #[test]
    fn a_status_says_what_is_wrong_first() {
        let text = status_text(&status(true), &three_peers(), false);
        assert_eq!(
            text,
            "web-1 of prod     lastseen 0.1.0   up 27 h 46 min   key 1f   self ok\n\
             QUORUM    yes     3 of 4 proven, 3 needed\n\
             DEGRADED  yes     1 down, 1 one_way\n\n  \
             web-7      down     42 s  10 heartbeats missed in a row (Down at 5), last\n                            \
             proof of life 42 s ago\n  \
             web-\u{fffd}[31m  one_way  42 s  does not\u{fffd}hear me\n\n\
             next: lastseen explain web-7\n"
        );
        assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
        let text = status_text(&status(true), &three_peers(), true);
        assert!(
            text.contains("QUORUM    \u{1b}[32myes") && text.contains("DEGRADED  \u{1b}[31myes"),
            "{text}"
        );
    }

    #[test]
    fn all_is_well() {
        let text = status_text(&status(false), &json!({"peers": []}), false);
        assert!(text.ends_with("3 needed\nDEGRADED  no      all up\n"), "{text}");
    }

    #[test]
    fn a_mass_loss_is_told() {
        let mut status = status(true);
        status["mass_loss"] = Value::from(true);
        let text = status_text(&status, &json!({"peers": []}), false);
        assert!(text.ends_with("\nMASS LOSS yes     many were lost at once\n"), "{text}");
    }

    #[test]
    fn what_it_lacks_to_be_a_witness_is_told() {
        let text = |witness: Value| {
            let mut status = status(false);
            status["witness"] = witness;
            status_text(&status, &json!({"peers": []}), false)
        };
        let fine = text(json!({"standing": "witness", "missing": null, "former": []}));
        assert!(!fine.contains("WITNESS"), "{fine}");
        let without = text(json!({"standing": "unsaved", "missing": "state_dir", "former": []}));
        assert!(
            without
                .ends_with("\nWITNESS   no      unsaved: no quorum guard: set state_dir, or see the log\n"),
            "{without}"
        );
        let former = json!({"members": 5, "needed": 3, "agreed": 2, "not_agreed": ["web-4", "web-\u{1b}5"]});
        let bound = text(json!({"standing": "bound", "missing": "agreement", "former": [former]}));
        let line: Vec<&str> = bound.split_whitespace().collect();
        assert!(
            line.join(" ").ends_with(
                "WITNESS no bound: 2 of a former roster's 5 members have this one, 3 needed; not: web-4, web-\u{fffd}5"
            ),
            "{bound}"
        );
    }

    #[test]
    fn its_own_drain_is_told() {
        let mut status = status(false);
        status["draining_until"] = Value::from("2026-11-26T08:00:00.000Z");
        (status["draining_seconds"], status["draining_reason"]) = (Value::from(725.5), Value::from("disks"));
        let text = status_text(&status, &json!({"peers": []}), false);
        assert!(text.ends_with("\nDRAINING  yes     this node, 12 min left: disks\n"), "{text}");
    }

    #[test]
    fn what_is_no_alarm_is_told_apart() {
        let peer = |status: &str, verdict: &str| json!({"status": status, "verdict": verdict});
        for (peers, text) in [
            (json!([peer("healthy", "up")]), "all up"),
            (json!([peer("suspected", "up")]), "1 suspected"),
            (json!([peer("down", "left"), peer("healthy", "unknown")]), "1 left, 1 unknown: no alarm"),
            (
                json!([peer("down", "down"), peer("down", "left"), peer("down", "down")]),
                "2 down   (1 left: no alarm)",
            ),
            (
                json!([peer("down", "down"), peer("down", "draining"), peer("healthy", "draining")]),
                "1 down   (2 draining: no alarm)",
            ),
        ] {
            assert_eq!(counts(&json!({"peers": peers})), text);
        }
    }

    #[test]
    fn many_are_counted_and_not_shown() {
        let peer = json!({"server_id": "a", "status": "down", "verdict": "down", "why": "silent"});
        let peers = json!({"peers": vec![peer; 25]});
        let text = status_text(&status(true), &peers, false);
        assert!(text.contains("  ... and 5 more\n") && text.matches("silent").count() == SHOWN, "{text}");
    }
}
