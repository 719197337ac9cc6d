//! Nodes that are fine, and whether anybody has said otherwise. What counts are the daemons' counters, which also tell
//! what happened between two looks.

use std::ops::Range;

use serde_json::Value;

use crate::harness::{Cluster, Transitions};

pub(crate) const DOWN: &[&str] = &["down"];
pub(crate) const ACCUSED: &[&str] = &["suspected", "down"];

/// Nodes that nobody has a reason to accuse, and what everybody had counted before.
pub(crate) struct Innocent<'a> {
    cluster: &'a Cluster,
    before: Transitions,
    nodes: Range<usize>,
}

impl<'a> Innocent<'a> {
    /// What is counted from now on is held against them.
    pub(crate) fn among(cluster: &'a Cluster, nodes: Range<usize>) -> Innocent<'a> {
        Innocent { cluster, before: cluster.transitions(), nodes }
    }

    /// Panics, with the events of both, if `observer` has called one of them one of `statuses`.
    #[track_caller]
    pub(crate) fn are_not(&self, statuses: &[&str], observer: usize) {
        let wrong = self.of(self.cluster.transitions_at(observer), statuses);
        if let Some((_, peer, _)) = wrong.keys().next() {
            let subject = self.cluster.nodes.iter().position(|node| node.id == *peer).unwrap();
            panic!("{wrong:?}\n{}", self.story(observer, subject));
        }
    }

    /// How often they were called one of `statuses`, at all nodes.
    pub(crate) fn accusations(&self, statuses: &[&str]) -> Transitions {
        self.of(self.cluster.transitions(), statuses)
    }

    /// What is new in `counted`, and about them, and one of `statuses`.
    fn of(&self, counted: Transitions, statuses: &[&str]) -> Transitions {
        assert!(!counted.is_empty(), "the counters are there");
        let ids: Vec<&str> = self.nodes.clone().map(|n| self.cluster.nodes[n].id.as_str()).collect();
        let asked = counted
            .into_iter()
            .filter(|((_, peer, to), _)| ids.contains(&peer.as_str()) && statuses.contains(&to.as_str()));
        let new = asked.map(|(key, count)| {
            let before = self.before.get(&key).copied().unwrap_or(0);
            (key, count - before)
        });
        new.filter(|(_, count)| *count > 0).collect()
    }

    /// What two nodes told of each other and of themselves, by time.
    fn story(&self, one: usize, other: usize) -> String {
        let of = |observer: usize, subject: usize| {
            let id = self.cluster.nodes[subject].id.as_str();
            let concerns = move |event: &Value| event["peer"].is_null() || event["peer"] == *id;
            self.cluster.events(observer).into_iter().filter(move |event| concerns(event))
        };
        let line = |event: Value| {
            let field = |name: &str| event[name].as_str().unwrap_or("-").to_owned();
            let names = ["time", "observer", "type", "peer", "from", "to", "verdict", "why"];
            names.map(field).join(" ")
        };
        let mut lines: Vec<String> = of(one, other).chain(of(other, one)).map(line).collect();
        lines.sort();
        lines.join("\n")
    }
}
