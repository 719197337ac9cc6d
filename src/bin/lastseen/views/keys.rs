//! `lastseen keys`.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::table::Table;
use super::{TIMEOUT, colours, rows, show};
use crate::args;
use crate::client::{self, plain, plain_json};

/// Shows which key each observed peer sends with, and which of this node's keys may go.
pub(crate) fn run_keys(args: &args::View) -> ExitCode {
    let http = &args.client.daemon.http;
    show(args.watch, || {
        let status = client::get(http, "/api/v1/status", TIMEOUT)?;
        let peers = client::get(http, "/api/v1/peers", TIMEOUT)?;
        let keys = keys(&status, &peers);
        Ok(if args.client.json { plain_json(&keys) } else { text(&status, &keys, colours()) })
    })
}

/// For each of the node's keys who used it for its newest datagram; and who was not heard. The first is sent with, another one
/// may go when nobody uses it and nobody is unheard, who might.
fn keys(status: &Value, peers: &Value) -> Value {
    let observed: Vec<&Value> = rows(peers).filter(|p| p["observed"] == true).collect();
    let of = |key: &Value| -> Vec<&Value> {
        observed.iter().filter(|p| p["key"] == *key).map(|p| &p["server_id"]).collect()
    };
    let unheard = of(&Value::Null);
    let own = status["keys"].as_array().into_iter().flatten().enumerate();
    let keys: Vec<Value> = own
        .map(|(place, key)| {
            let (peers, first) = (of(key), place == 0);
            let may_go = !first && peers.is_empty() && unheard.is_empty();
            json!({ "key": key, "first": first, "peers": peers, "may_go": may_go })
        })
        .collect();
    let (secure, insecure) = (&status["secure"], &status["insecure"]);
    json!({
        "secure": secure, "insecure": insecure, "observed_peers": observed.len(), "keys": keys, "unheard": unheard
    })
}

fn text(status: &Value, keys: &Value, colours: bool) -> String {
    let names = |list: &Value| {
        let names: Vec<String> = list.as_array().into_iter().flatten().map(plain).collect();
        names.join(", ")
    };
    let count = |list: &Value| list.as_array().map_or(0, Vec::len);
    let mut text = format!(
        "{} of {} observes {} peers{}\n\n",
        plain(&status["server_id"]),
        plain(&status["cluster"]),
        keys["observed_peers"],
        match (keys["secure"] == true, keys["insecure"] == true) {
            (false, _) => "; it has no cluster key (INSECURE)",
            (true, true) => "; it takes datagrams without a cluster key too (INSECURE)",
            (true, false) => "",
        }
    );
    let mut table = Table::new(0);
    table.row(1, ["KEY", "USED BY", "", "WHO"].map(str::to_owned));
    for key in keys["keys"].as_array().into_iter().flatten() {
        let what = match (key["first"] == true, key["may_go"] == true) {
            (true, _) => "sent with",
            (false, true) => "may go",
            (false, false) => "accepted",
        };
        let (users, all) = (count(&key["peers"]), keys["observed_peers"].as_u64());
        let who = if all == Some(users as u64) { "all".to_owned() } else { names(&key["peers"]) };
        table.row(
            if key["may_go"] == true { 33 } else { 0 },
            [plain(&key["key"]), users.to_string(), what.to_owned(), who],
        );
    }
    text += &table.render(colours);
    if count(&keys["unheard"]) > 0 {
        text += &format!("\nnot heard, so no key may go: {}\n", names(&keys["unheard"]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(used: [Option<&str>; 3]) -> (Value, Value) {
        let status = json!({ "server_id": "web-1", "cluster": "prod", "secure": true, "keys": ["2a", "1f"] });
        let peers: Vec<Value> = used
            .iter()
            .enumerate()
            .map(|(n, key)| json!({ "server_id": format!("web-{}", n + 2), "observed": true, "key": key }))
            .chain([json!({ "server_id": "far", "observed": false, "key": null })])
            .collect();
        (status, json!({ "peers": peers, "total": 4 }))
    }

    #[test]
    fn a_key_may_go_when_nobody_uses_it_and_all_were_heard() {
        let cases = [
            ([Some("2a"), Some("2a"), Some("2a")], true),
            ([Some("2a"), Some("1f"), Some("2a")], false),
            ([Some("2a"), None, Some("2a")], false),
        ];
        for (used, may_go) in cases {
            let (status, peers) = told(used);
            let keys = keys(&status, &peers);
            assert_eq!(keys["keys"][1]["may_go"], may_go, "{used:?}");
            assert_eq!(keys["keys"][0]["may_go"], false, "the first is sent with");
        }
    }

    #[test]
    fn the_text_names_who_uses_what() {
        let (status, peers) = told([Some("2a"), Some("1f"), None]);
        assert_eq!(
            text(&status, &keys(&status, &peers), false),
            "web-1 of prod observes 3 peers\n\nKEY  USED BY             WHO\n\
             2a   1        sent with  web-2\n1f   1        accepted   web-3\n\n\
             not heard, so no key may go: web-4\n"
        );
        let (status, peers) = told([Some("2a"); 3]);
        let text = text(&status, &keys(&status, &peers), false);
        assert!(text.contains("2a   3        sent with  all\n1f   0        may go"), "{text}");
    }
}
