//! `lastseen peers`.

use std::process::ExitCode;

use serde_json::Value;

use super::table::Table;
use super::{TIMEOUT, age, colour, colours, is_fine, rows, show};
use crate::args;
use crate::check::encode;
use crate::client::{self, plain, plain_json};

/// Lists the peers that are not up, or those that are asked for.
pub(crate) fn run_peers(args: &args::Peers) -> ExitCode {
    let mut query = Vec::new();
    for (name, value) in [("status", &args.status), ("verdict", &args.verdict), ("label", &args.label)] {
        query.extend(value.as_ref().map(|v| format!("{name}={}", encode(v))));
    }
    let path = format!("/api/v1/peers?{}", query.join("&"));
    let choice = if query.is_empty() && !args.observed && !args.all { Choice::NotUp } else { Choice::All };
    show(args.watch, || {
        let peers = client::get(&args.client.daemon.http, &path, TIMEOUT)?;
        Ok(told(peers, args, choice, colours()))
    })
}

/// What is printed of the peers that came.
fn told(mut peers: Value, args: &args::Peers, choice: Choice, colours: bool) -> String {
    if args.observed {
        keep_observed(&mut peers);
    }
    if args.client.json { plain_json(&peers) } else { peers_text(&peers, choice, colours) }
}

/// Which of the peers that came are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    NotUp,
    All,
}

/// Leaves the peers that the node observes itself.
fn keep_observed(peers: &mut Value) {
    let Some(list) = peers["peers"].as_array_mut() else { return };
    list.retain(|p| p["observed"] == true);
    peers["total"] = Value::from(list.len());
}

pub(super) fn peers_text(peers: &Value, choice: Choice, colours: bool) -> String {
    let shown: Vec<&Value> = rows(peers).filter(|p| choice == Choice::All || !is_fine(p)).collect();
    let up = rows(peers).filter(|p| is_fine(p)).count();
    let mut text = String::new();
    if !shown.is_empty() {
        text = table(&shown).render(colours) + "\n";
    }
    let total = peers["total"].as_u64().unwrap_or(0);
    text += &match (choice, shown.is_empty()) {
        (Choice::All, _) => format!("{total} peers, {up} up\n"),
        (Choice::NotUp, true) => format!("all {total} peers are up (--all shows them)\n"),
        (Choice::NotUp, false) => format!("{up} of {total} peers are up (--all shows them)\n"),
    };
    text
}

fn table(peers: &[&Value]) -> Table<6> {
    let mut table = Table::new(0);
    table.row(1, ["PEER", "STATUS", "VERDICT", "FOR", "RTT", "WHY"].map(str::to_owned));
    for peer in peers {
        let rtt = peer["link"]["rtt_seconds"].as_f64();
        table.row(
            colour(peer),
            [
                plain(&peer["server_id"]),
                plain(&peer["status"]),
                plain(&peer["verdict"]),
                age(peer["since_seconds"].as_f64().unwrap_or(0.0)),
                rtt.map_or_else(|| "-".to_owned(), |s| format!("{:.1} ms", s * 1e3)),
                plain(&peer["why"]),
            ],
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::tests::three_peers;
    use super::*;

    #[test]
    fn the_peers_that_are_not_up_and_how_many_are() {
        let text = peers_text(&three_peers(), Choice::NotUp, false);
        assert_eq!(
            text,
            "PEER       STATUS   VERDICT  FOR   RTT     WHY\n\
             web-7      down     down     42 s  0.4 ms  10 heartbeats missed in a row (Down\n                                           \
             at 5), last proof of life 42 s ago\n\
             web-\u{fffd}[31m  healthy  one_way  42 s  0.4 ms  does not\u{fffd}hear me\n\n\
             1 of 3 peers are up (--all shows them)\n"
        );
        assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
    }

    #[test]
    fn all_of_them_and_none() {
        assert!(peers_text(&three_peers(), Choice::All, false).ends_with("\n\n3 peers, 1 up\n"));
        let mut peers = three_peers();
        peers["peers"].as_array_mut().unwrap().truncate(1);
        peers["total"] = Value::from(1);
        assert_eq!(peers_text(&peers, Choice::NotUp, false), "all 1 peers are up (--all shows them)\n");
        peers["peers"][0]["observed"] = Value::from(false);
        keep_observed(&mut peers);
        assert_eq!(peers_text(&peers, Choice::All, false), "0 peers, 0 up\n");
    }

    #[test]
    fn the_observed_ones_alone_in_both_forms() {
        let mut peers = three_peers();
        peers["peers"][1]["observed"] = Value::from(false);
        let told = |more: &[&str]| {
            let words = ["lastseen", "peers"].iter().chain(more);
            let args::Command::Peers(args) = args::Cli::parse_from(words).command else { panic!("{more:?}") };
            told(peers.clone(), &args, Choice::All, false)
        };
        let json = |more: &[&str]| serde_json::from_str::<Value>(&told(more)).unwrap();
        let observed = json(&["--observed", "--json"]);
        let names: Vec<&Value> = rows(&observed).map(|p| &p["server_id"]).collect();
        assert_eq!(names, ["web-1", "web-\u{1b}[31m"]);
        assert_eq!(observed["total"], 2);
        assert_eq!(json(&["--json"]), peers);
        assert!(told(&["--observed"]).ends_with("2 peers, 1 up\n"));
    }

    #[test]
    fn colours_are_only_where_they_are_wanted() {
        assert!(!peers_text(&three_peers(), Choice::All, false).contains('\u{1b}'));
        assert!(peers_text(&three_peers(), Choice::All, true).contains("\u{1b}[31mweb-7"));
    }
}
