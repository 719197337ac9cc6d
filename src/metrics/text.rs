//! What the exporter cannot carry, because it cannot remove a series: states and the families of each peer, as text.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Extra;
use super::families::{Family, family};
use crate::proto::{
    Catalog, Edge, EdgeView, Labels, Life, PeerStatus, PeerView, Says, SelfHealth, ServiceState, Snapshot,
    Time, Verdict,
};

/// Exposition text that grows.
pub(super) struct Text(pub(super) String);

impl Text {
    /// Begins a family; its samples follow.
    pub(super) fn family(&mut self, name: &str) -> Samples<'_> {
        let family = family(name);
        let Family { name, kind, help, .. } = family;
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
        Samples { text: &mut self.0, family }
    }

    /// A family of one sample without labels.
    pub(super) fn value(&mut self, name: &str, value: f64) {
        self.family(name).add(&[], value);
    }

    /// What holds of the node and the cluster.
    pub(super) fn cluster(&mut self, s: &Snapshot, extra: &Extra) {
        let revision = option_env!("LASTSEEN_REVISION").unwrap_or("unknown");
        self.family("build_info").add(&[env!("CARGO_PKG_VERSION"), revision], 1.0);
        self.family("node_info").add(&[&s.server_id, &s.cluster], 1.0);
        let mut nodes = self.family("cluster_nodes");
        let counts = [s.status.healthy_peers, s.status.suspected_peers, s.status.down_peers];
        for (status, count) in PeerStatus::ALL.iter().zip(counts) {
            nodes.add(&[status.as_str()], count as f64);
        }
        let mut verdicts = self.family("cluster_verdicts");
        for (verdict, count) in Verdict::ALL.iter().zip(s.verdicts) {
            verdicts.add(&[verdict.as_str()], count as f64);
        }
        self.value("cluster_degraded", flag(s.status.is_degraded));
        self.value("cluster_quorum_available", flag(s.status.is_quorum_available()));
        self.value("cluster_quorum_guard", flag(extra.quorum_guard));
        self.services(&extra.catalog, s.at);
        self.value("cluster_mass_loss", flag(s.mass_loss));
        let mut health = self.family("self_health");
        for state in SelfHealth::ALL {
            health.add(&[state.as_str()], flag(state == s.self_health));
        }
        self.value("secure", flag(s.secure));
        self.value("insecure", flag(s.insecure));
        self.keys(s);
        self.value("observed_peers", s.peers.iter().filter(|p| p.observed).count() as f64);
        self.value("unresolved_peers", s.unresolved_peers as f64);
        self.value("roster_hash", s.roster_hash as f64);
        self.value("config_hash", s.config_hash as f64);
        self.value("config_last_reload_successful", flag(!extra.reload_failed));
        self.value("config_last_reload_success_timestamp_seconds", extra.config_loaded);
        // A source goes with the setting that names it.
        let mut failures = self.family("discovery_failures_total");
        for (source, count) in &extra.discovery_failures {
            failures.add(&[source], *count as f64);
        }
        let end = s.draining.as_ref().map_or(0, |draining| draining.drain.until);
        self.value("drain_end_timestamp_seconds", end as f64);
        // The facade counts in whole numbers, so this one counter is written here.
        self.value("stall_seconds_total", s.stats.stalled.as_secs_f64());
    }

    /// A service goes with the last node that offers it.
    fn services(&mut self, catalog: &Catalog, now: Time) {
        let on = catalog.migrations.iter().filter(|announced| announced.until > now);
        self.value("cluster_migrations", on.count() as f64);
        let mut services = BTreeMap::<&str, [u32; 4]>::new();
        for instance in &catalog.instances {
            let state = match instance.state() {
                _ if instance.status == PeerStatus::Down => ServiceState::ALL.len(),
                state => state as usize,
            };
            services.entry(instance.service.name.as_str()).or_default()[state] += 1;
        }
        let mut family = self.family("service_instances");
        let states = ServiceState::ALL.map(ServiceState::as_str).into_iter().chain(["unreachable"]);
        for (name, counts) in services {
            for (state, count) in states.clone().zip(counts) {
                family.add(&[name, state], count.into());
            }
        }
    }

    /// The keys that this node has are there even if no peer uses them.
    fn keys(&mut self, s: &Snapshot) {
        let mut keys: Vec<u8> =
            s.peers.iter().filter_map(|p| p.key_id).chain(s.key_ids.iter().copied()).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut family = self.family("key_peers");
        for key in keys {
            let count = s.peers.iter().filter(|p| p.key_id == Some(key)).count();
            family.add(&[&format!("{key:02x}")], count as f64);
        }
    }

    /// The families of each peer: what all nodes say together of the observed ones, or of `all`; the rest of those alone,
    /// since others are not measured here.
    pub(super) fn peers(&mut self, s: &Snapshot, all: bool, wall: &dyn Fn(Time) -> f64) {
        let told = || s.peers.iter().filter(|p| p.observed || all);
        let mut info = self.family("peer_info");
        for p in told() {
            let address = p.address.map(|a| a.to_string()).unwrap_or_default();
            let labels = p.labels.iter().flat_map(Labels::iter);
            info.add_labelled(&[&p.server_id, &address], labels, 1.0);
        }
        let mut statuses = self.family("peer_status");
        for p in told() {
            for status in PeerStatus::ALL {
                statuses.add(&[&p.server_id, status.as_str()], flag(p.status == status));
            }
        }
        let mut verdicts = self.family("peer_verdict");
        for p in told() {
            for verdict in Verdict::ALL {
                verdicts.add(&[&p.server_id, verdict.as_str()], flag(p.verdict == verdict));
            }
        }
        let mut observers = self.family("peer_observers");
        for p in told() {
            let Says { healthy, suspected, down, unknown, .. } = p.says;
            for (says, count) in
                [("healthy", healthy), ("suspected", suspected), ("down", down), ("unknown", unknown)]
            {
                observers.add(&[&p.server_id, says], count.into());
            }
        }
        self.measured(s, wall);
    }

    /// The families of each observed peer.
    fn measured(&mut self, s: &Snapshot, wall: &dyn Fn(Time) -> f64) {
        self.each("peer_link_up", s, |p| flag(p.link.is_active));
        // What was never measured is NaN: the series is there from the start, and no threshold holds of it.
        self.each("peer_last_seen_timestamp_seconds", s, |p| p.last_seen.map_or(f64::NAN, wall));
        self.each("peer_missed_heartbeats", s, |p| p.missed_heartbeats.into());
        self.each("peer_rtt_seconds", s, |p| p.link.rtt.map_or(f64::NAN, |d| d.as_secs_f64()));
        let mut loss = self.family("peer_loss_ratio");
        for p in s.peers.iter().filter(|p| p.observed) {
            let (rx, tx) = p.link.loss.unwrap_or((f64::NAN, f64::NAN));
            loss.add(&[&p.server_id, "rx"], rx);
            loss.add(&[&p.server_id, "tx"], tx);
        }
        self.each("peer_received_bytes_total", s, |p| p.bytes_received as f64);
        self.each("peer_sent_bytes_total", s, |p| p.bytes_sent as f64);
        self.each("peer_restarts_total", s, |p| p.restarts as f64);
        self.each("peer_false_downs_total", s, |p| p.false_downs as f64);
        let mut transitions = self.family("peer_transitions_total");
        for p in s.peers.iter().filter(|p| p.observed) {
            for (status, count) in PeerStatus::ALL.iter().zip(p.transitions) {
                transitions.add(&[&p.server_id, status.as_str()], count as f64);
            }
        }
    }

    /// What every node sees of every other one, where its row can be believed; NaN as long as it has not heard it.
    pub(super) fn matrix(&mut self, s: &Snapshot, wall: &dyn Fn(Time) -> f64) {
        self.edges("matrix_link_up", s, |edge| matches!(edge.link, Edge::Up | Edge::Lossy));
        self.edges("matrix_alive", s, |edge| !matches!(edge.life, Life::Down | Life::Left));
        let mut stamps = self.family("matrix_row_timestamp_seconds");
        for row in &s.rows {
            stamps.add(&[&row.server_id], row.age.map_or(f64::NAN, |age| wall(s.at) - age.as_secs_f64()));
        }
    }

    fn edges(&mut self, name: &str, s: &Snapshot, holds: impl Fn(&EdgeView) -> bool) {
        let mut family = self.family(name);
        for row in s.rows.iter().filter(|row| row.age.is_some()) {
            let watched = |at: usize| row.watches.as_ref().is_none_or(|of| of.contains(&(at as u32)));
            let others = s.rows.iter().enumerate().filter(|(at, _)| watched(*at)).map(|(_, other)| other);
            for other in others.filter(|other| other.server_id != row.server_id) {
                let edge = row.sees.binary_search_by(|edge| edge.peer.cmp(&other.server_id));
                let value = match edge.map(|at| &row.sees[at]) {
                    Ok(edge) if edge.life == Life::Unknown => f64::NAN,
                    Ok(edge) => flag(holds(edge)),
                    Err(_) if row.cut => f64::NAN,
                    Err(_) => 1.0,
                };
                family.add(&[&row.server_id, &other.server_id], value);
            }
        }
    }

    /// A family of one sample a peer.
    fn each(&mut self, name: &str, s: &Snapshot, read: impl Fn(&PeerView) -> f64) {
        let mut family = self.family(name);
        for p in s.peers.iter().filter(|p| p.observed) {
            family.add(&[&p.server_id], read(p));
        }
    }
}

/// The samples of one family.
pub(super) struct Samples<'a> {
    text: &'a mut String,
    family: &'static Family,
}

impl Samples<'_> {
    /// A sample; `values` are those of the family's labels, in order.
    pub(super) fn add(&mut self, values: &[&str], value: f64) {
        self.add_labelled(values, std::iter::empty(), value);
    }

    /// The same, with what an operator says of a node.
    fn add_labelled<'a>(
        &mut self,
        values: &[&str],
        more: impl Iterator<Item = (&'a str, &'a str)>,
        value: f64,
    ) {
        debug_assert_eq!(values.len(), self.family.labels.len(), "{}", self.family.name);
        self.text.push_str(self.family.name);
        for (i, (label, text)) in self.family.labels.iter().zip(values).enumerate() {
            let open = if i == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{label}=\"{}\"", escape(text));
        }
        for (label, text) in more {
            let _ = write!(self.text, ",label_{label}=\"{}\"", escape(text));
        }
        let close = if values.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }
}

fn flag(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// A label's value as the exposition format wants it.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        assert_eq!(escape("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }

    #[test]
    fn samples_as_prometheus_reads_them() {
        let mut text = Text(String::new());
        text.family("peer_rtt_seconds").add(&["a\"b"], f64::NAN);
        text.value("secure", 1.0);
        assert!(text.0.contains("\nlastseen_peer_rtt_seconds{peer=\"a\\\"b\"} NaN\n"), "{}", text.0);
        assert!(text.0.ends_with("# TYPE lastseen_secure gauge\nlastseen_secure 1\n"), "{}", text.0);
    }
}
