//! What `config check` prints: the effective values, their sources, and what they cost.

use std::fmt::Write as _;

use lastseen::metrics::{Exporter, Extra};
use lastseen::proto::{Instance, Keyring, Node, PeerConfig, StaticPeer, Time};
use lastseen::sim::plan::DATAGRAM_BYTES;
use serde_json::{Value, json};

use super::raw::Setting;
use super::{Detail, Settings};

/// What a node costs.
struct Cost {
    datagrams: f64,
    bytes: f64,
    series: usize,
}

impl Cost {
    /// In the quiet state each node sends, and receives, one datagram per observed peer and interval.
    fn of(peers: usize, settings: &Settings) -> Cost {
        let values = &settings.values;
        let (nodes, observed) = (peers + 1, values.observers.most(peers));
        let datagrams = observed as f64 / values.heartbeat_interval.as_secs_f64();
        let series = match values.metrics_detail {
            Detail::Summary => series_of(0),
            Detail::Peers => series_of(observed),
            // Two series for each node that watches another one, one for each row.
            Detail::Matrix => series_of(observed) + nodes * (2 * observed + 1),
        };
        let series = series + settings.plan().sources().count();
        Cost { datagrams, bytes: datagrams * DATAGRAM_BYTES, series }
    }
}

/// The series that a node exports with those of so many peers.
pub(crate) fn series_of(peers: usize) -> usize {
    let own = series(false);
    own + peers * (series(true) - own)
}

/// The series that a node with one peer exports, with or without those of the peer.
fn series(peers: bool) -> usize {
    let peer = StaticPeer { server_id: Some("b".into()), name: "b".into(), address: None };
    let config = PeerConfig::new("a", "series", ([127, 0, 0, 1], 1).into(), vec![peer]);
    let keys = Keyring::new("series", &[], true).expect("the insecure key is a key");
    let node = Node::new(config, keys, Instance(1), 1, Time::ZERO).expect("two ids that differ");
    let extra = Extra { peers, ..Extra::default() };
    let text = Exporter::new().render(&node.snapshot(Time::ZERO), &extra, &|_| 0.0);
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count()
}

/// What is told beside the settings themselves.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    /// The id of this node.
    pub(crate) server_id: &'a str,
    /// How many peers it has.
    pub(crate) peers: usize,
    /// Whether more may be found.
    pub(crate) is_open: bool,
    /// Whether the change from another file keeps a quorum, and why.
    pub(crate) rollout: Option<(bool, &'a str)>,
}

impl Report<'_> {
    /// For people, or as JSON.
    pub(crate) fn print(&self, settings: &Settings, json: bool) -> String {
        let cost = Cost::of(self.peers, settings);
        let mut rows: Vec<(&str, String, String)> = settings
            .values
            .show()
            .into_iter()
            .map(|(path, value)| (path, value, settings.sources[path].1.to_string()))
            .collect();
        let hooks: Vec<String> = settings.hooks.iter().map(super::hooks::show).collect();
        rows.push(("hooks", hooks.show(), settings.sources["hooks"].1.to_string()));
        let services: Vec<String> = settings.services.iter().map(super::services::show).collect();
        rows.push(("services", services.show(), settings.sources["services"].1.to_string()));
        if json { as_json(&rows, settings, self, &cost) } else { as_text(&rows, settings, self, &cost) }
    }
}

fn as_text(rows: &[(&str, String, String)], settings: &Settings, told: &Report<'_>, cost: &Cost) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    for (path, value, source) in rows {
        let _ = writeln!(out, "{path:<22} {source:<28} {value}");
    }
    let v = &settings.values;
    // Whom a resolver would add is not known here.
    let least = if told.is_open { "at least " } else { "" };
    let _ = writeln!(
        out,
        "\nthis node is {}, with {least}{} peers; {}",
        told.server_id,
        told.peers,
        if settings.keys.is_empty() { "no key" } else { "sealed with a cluster key" }
    );
    let _ = writeln!(
        out,
        "suspected after {}, down after {} without an answer",
        super::duration::show(v.heartbeat_interval * v.suspect_after),
        super::duration::show(v.heartbeat_interval * v.down_after)
    );
    let _ = writeln!(
        out,
        "sends and receives {least}{:.1} datagrams, {:.0} bytes a second each; {} series in /metrics",
        cost.datagrams, cost.bytes, cost.series
    );
    if let Some((_, why)) = told.rollout {
        let _ = writeln!(out, "{why}");
    }
    for warning in &settings.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
}

fn as_json(rows: &[(&str, String, String)], settings: &Settings, told: &Report<'_>, cost: &Cost) -> String {
    let values: serde_json::Map<String, Value> =
        rows.iter().map(|(p, v, s)| ((*p).to_owned(), json!({"value": value(v), "source": s}))).collect();
    let report = json!({
        "server_id": told.server_id,
        "peers": told.peers,
        "more_peers_may_be_found": told.is_open,
        "keeps_quorum": told.rollout.map(|(keeps, _)| keeps),
        "rollout": told.rollout.map(|(_, why)| why),
        "secure": !settings.keys.is_empty(),
        "values": values,
        "datagrams_per_second": cost.datagrams,
        "bytes_per_second": cost.bytes,
        "series": cost.series,
        "warnings": settings.warnings,
    });
    format!("{report:#}\n")
}

/// The values of settings are words of TOML that are JSON too: strings, numbers, booleans and lists of them.
fn value(toml: &str) -> Value {
    serde_json::from_str(toml).unwrap_or_else(|_| Value::String(toml.to_owned()))
}
