//! What the nodes of a cluster answer over HTTP, and waiting until they answer so.

use std::collections::BTreeMap;
use std::time::Duration;

use lastseen::net::Clock;
use lastseen::proto::Time;
use serde_json::Value;

use super::{AT_ALL, Cluster, within};

/// How often an observer has called a peer so: by (observer, peer, new status).
pub(crate) type Transitions = BTreeMap<(usize, String, String), u64>;

/// Something that is to come true.
pub(crate) struct Expected<'a> {
    pub(crate) what: String,
    /// How long after the moment from which all is counted.
    pub(crate) at_most: Duration,
    pub(crate) is: Box<dyn Fn() -> bool + 'a>,
}

impl<'a> Expected<'a> {
    pub(crate) fn new(what: String, at_most: Duration, is: impl Fn() -> bool + 'a) -> Expected<'a> {
        Expected { what, at_most, is: Box::new(is) }
    }
}

impl Cluster {
    pub(crate) fn url(&self, n: usize, path: &str) -> String {
        format!("http://{}{path}", self.nodes[n].http)
    }

    /// Status code and body; 0 if there is no answer.
    pub(crate) fn get(&self, n: usize, path: &str) -> (u16, String) {
        let Ok(mut answer) = self.agent.get(self.url(n, path)).call() else { return (0, String::new()) };
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap_or_default())
    }

    /// The same as JSON; null if it is none.
    pub(crate) fn json(&self, n: usize, path: &str) -> Value {
        serde_json::from_str(&self.get(n, path).1).unwrap_or_default()
    }

    /// What `observer` says about all others; nothing if there is no answer.
    pub(crate) fn peers(&self, observer: usize) -> Vec<Value> {
        match self.json(observer, "/api/v1/peers")["peers"].take() {
            Value::Array(peers) => peers,
            _ => Vec::new(),
        }
    }

    /// What `observer` says about `subject`; without any field if there is no answer.
    pub(crate) fn peer(&self, observer: usize, subject: usize) -> Value {
        self.json(observer, &format!("/api/v1/peers/{}", self.nodes[subject].id))
    }

    pub(crate) fn verdict(&self, observer: usize, subject: usize) -> String {
        self.peer(observer, subject)["verdict"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until all others say of `subject` that its `key` (status or verdict) is `value`: `at_most` from
    /// `since` on. Returns how long it took.
    #[track_caller]
    pub(crate) fn all_say(
        &self,
        subject: usize,
        key: &str,
        value: &str,
        since: Time,
        at_most: Duration,
    ) -> Duration {
        let said = |observer| self.peer(observer, subject)[key] == *value;
        let mut waiting: Vec<usize> = (0..self.nodes.len()).filter(|n| *n != subject).collect();
        let left = at_most.saturating_sub(Clock.now().since(since));
        let look = || {
            waiting.retain(|observer| !said(*observer));
            waiting.is_empty().then_some(())
        };
        let met = within(left, look);
        let took = Clock.now().since(since);
        let id = &self.nodes[subject].id;
        assert!(met.is_some(), "{id} is not {value} everywhere after {took:?}:\n{}", self.tell());
        took
    }

    /// Waits until each of these has come true. How long after `since` each was first seen so.
    #[track_caller]
    pub(crate) fn moments(&self, since: Time, expected: &[Expected<'_>]) -> Vec<Duration> {
        let mut seen: Vec<Option<Duration>> = vec![None; expected.len()];
        let longest = expected.iter().map(|e| e.at_most).max().unwrap_or_default();
        within(longest.saturating_sub(Clock.now().since(since)), || {
            for (moment, expected) in seen.iter_mut().zip(expected).filter(|(moment, _)| moment.is_none()) {
                *moment = (expected.is)().then(|| Clock.now().since(since));
            }
            seen.iter().all(Option::is_some).then_some(())
        });
        let late = seen.iter().zip(expected).filter(|(moment, e)| moment.is_none_or(|m| m > e.at_most));
        let late: Vec<String> =
            late.map(|(moment, e)| format!("{}: {moment:.2?}, at most {:?}", e.what, e.at_most)).collect();
        assert!(late.is_empty(), "{}\n{}", late.join("\n"), self.tell());
        seen.into_iter().flatten().collect()
    }

    /// Whether the process says that it has a quorum; `None`: it does not answer.
    pub(crate) fn has_quorum(&self, n: usize) -> Option<bool> {
        self.json(n, "/quorumz")["is_quorum_available"].as_bool()
    }

    /// Whether a matrix has a fresh row of every node, and nothing in them.
    pub(crate) fn is_matrix_clean(&self, n: usize) -> bool {
        let matrix = self.json(n, "/api/v1/matrix");
        let rows = matrix["rows"].as_object();
        rows.is_some_and(|rows| rows.len() == self.nodes.len() && rows.values().all(is_fine))
    }

    /// Waits until every node calls every other up and draws a clean matrix. How long after `since` that was so first.
    #[track_caller]
    pub(crate) fn healed(&self, since: Time, at_most: Duration) -> Duration {
        let up = |n: usize| {
            let what = format!("n{} calls all up, and its matrix is clean", n + 1);
            Expected::new(what, at_most, move || self.has_all(n, &["up"]) && self.is_matrix_clean(n))
        };
        let all: Vec<Expected<'_>> = (0..self.nodes.len()).map(up).collect();
        self.moments(since, &all).into_iter().max().unwrap_or_default()
    }

    /// Every transition that every node that runs has counted.
    pub(crate) fn transitions(&self) -> Transitions {
        let running = self.nodes.iter().enumerate().filter(|(_, node)| node.child.is_some());
        running.flat_map(|(observer, _)| self.transitions_at(observer)).collect()
    }

    /// Every transition that one node has counted.
    pub(crate) fn transitions_at(&self, observer: usize) -> Transitions {
        let series = self.series(observer, "lastseen_peer_transitions_total").into_iter();
        let key =
            |labels: &BTreeMap<String, String>| (observer, labels["peer"].clone(), labels["to"].clone());
        series.map(|(labels, value)| (key(&labels), value as u64)).collect()
    }

    /// The events that a node keeps; none if there is no answer.
    pub(crate) fn events(&self, n: usize) -> Vec<Value> {
        let text = self.get(n, "/api/v1/events?follow=false").1;
        let lines = text.lines().filter_map(|line| line.strip_prefix("data:"));
        lines.filter_map(|line| serde_json::from_str(line.trim()).ok()).collect()
    }

    /// The first event of a node that is so. It may be kept a moment after the status shows what it tells.
    #[track_caller]
    pub(crate) fn event(&self, n: usize, is: impl Fn(&Value) -> bool) -> Value {
        let found = within(AT_ALL, || self.events(n).into_iter().find(&is));
        found.unwrap_or_else(|| panic!("no such event: {:?}", self.events(n))).0
    }

    /// Panics if anybody accused anybody since `before` but those in `faulty`.
    #[track_caller]
    pub(crate) fn nobody_else_accused(&self, before: &Transitions, faulty: &[usize]) {
        let faulty: Vec<&str> = faulty.iter().map(|n| self.nodes[*n].id.as_str()).collect();
        let now = self.transitions();
        assert!(!now.is_empty(), "the counters are there");
        let wrong = now.iter().filter(|(key, count)| **count > before.get(key).copied().unwrap_or(0));
        let wrong: Vec<_> =
            wrong.filter(|((_, peer, to), _)| !faulty.contains(&peer.as_str()) && to != "healthy").collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    /// The series of one metric: labels and value.
    pub(crate) fn series(&self, n: usize, name: &str) -> Vec<(BTreeMap<String, String>, f64)> {
        let (code, text) = self.get(n, "/metrics");
        assert_eq!(code, 200, "{text}");
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        lines.filter(|rest| rest.starts_with(['{', ' '])).map(read_series).collect()
    }

    /// The one value of a metric without labels.
    #[track_caller]
    pub(crate) fn value(&self, n: usize, name: &str) -> f64 {
        match &self.series(n, name)[..] {
            [(_, value)] => *value,
            other => panic!("{name}: {other:?}"),
        }
    }

    /// Waits until every node hears every other, whatever their links may have lost shortly before.
    #[track_caller]
    pub(crate) fn all_heard(&self, at_most: Duration) {
        self.all_have(&["up", "lossy"], at_most);
    }

    /// Waits until every node hears every other.
    #[track_caller]
    pub(crate) fn all_up(&self, at_most: Duration) {
        self.all_have(&["up"], at_most);
    }

    #[track_caller]
    fn all_have(&self, verdicts: &[&str], at_most: Duration) {
        let have = || (0..self.nodes.len()).all(|n| self.has_all(n, verdicts)).then_some(());
        let met = within(at_most, have);
        assert!(met.is_some(), "not all {verdicts:?} within {at_most:?}:\n{}", self.tell());
    }

    /// Whether every verdict of this node is one of these.
    fn has_all(&self, n: usize, verdicts: &[&str]) -> bool {
        let fine = |peer: &Value| peer["verdict"].as_str().is_some_and(|verdict| verdicts.contains(&verdict));
        let peers = self.peers(n);
        peers.len() + 1 == self.nodes.len() && peers.iter().all(fine)
    }

    /// Everything that the nodes say that is not plainly fine, for a test that fails.
    pub(crate) fn tell(&self) -> String {
        let text = |peer: &Value, key: &str| peer[key].as_str().unwrap_or("-").to_owned();
        let lines = |n: usize| {
            let (peers, matrix) = (self.peers(n), self.json(n, "/api/v1/matrix"));
            let keys = ["server_id", "status", "verdict", "why"];
            let wrong = peers.iter().filter(|p| p["verdict"] != "up");
            let wrong: Vec<String> = wrong.map(|p| keys.map(|key| text(p, key)).join(" ")).collect();
            let rows = matrix["rows"].as_object().into_iter().flatten().filter(|(_, row)| !is_fine(row));
            let rows: Vec<String> = rows.map(|(id, row)| format!("{id}: {row}")).collect();
            format!("{}: {} peers, not up {wrong:?}, rows {rows:?}", self.nodes[n].id, peers.len())
        };
        (0..self.nodes.len()).map(lines).collect::<Vec<_>>().join("\n")
    }
}

/// Whether a row of a matrix is fresh, and nothing in it.
fn is_fine(row: &Value) -> bool {
    row["age_seconds"].is_number() && row["peers"].as_object().is_some_and(serde_json::Map::is_empty)
}

/// `{peer="a",to="down"} 3`, or ` 3`.
fn read_series(rest: &str) -> (BTreeMap<String, String>, f64) {
    let (labels, value) = rest.rsplit_once(' ').unwrap();
    let labels = labels.trim_start_matches('{').trim_end_matches('}').split(',').filter_map(|label| {
        let (name, value) = label.split_once('=')?;
        Some((name.to_owned(), value.trim_matches('"').to_owned()))
    });
    (labels.collect(), value.parse().unwrap())
}
