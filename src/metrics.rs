//! Every metric family in one place, fed from the core's plain counters.
//!
//! Process-wide counters and the histogram go through the `metrics` facade and its Prometheus exporter; states and
//! the families of each peer are written from the [`Snapshot`] at scrape time, since the exporter cannot remove a
//! series. All series are there from the start and go with the peer.

use std::fmt::Write;
use std::time::Duration;

use metrics::{Counter, Histogram, Unit, with_local_recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::proto::{PeerStatus, Reject, SelfHealth, SendErrorKind, Snapshot, Stats, Time, Verdict};

mod process;

/// Upper bounds of the round-trip histogram's buckets, in seconds.
pub const RTT_BUCKETS: [f64; 15] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.5];
/// The exporter keeps samples until somebody looks: looked at after so many.
const UPKEEP: u32 = 4096;

/// Reads one of the core's counters.
type Read = fn(&Stats) -> u64;
/// A process-wide counter: name, label with a value (if any), unit, help, and where it is read.
type Count = (&'static str, &'static str, Unit, &'static str, Read);

const COUNTS: [Count; 14] = [
    ("heartbeats_sent_total", "", Unit::Count, "Heartbeats begun by a ping or hello of this node.", |s| {
        s.heartbeats_sent
    }),
    ("heartbeats_missed_total", "", Unit::Count, "Heartbeats that timed out.", |s| s.heartbeats_missed),
    ("heartbeat_retries_total", "", Unit::Count, "Tries of a heartbeat after the first.", |s| {
        s.heartbeat_retries
    }),
    ("transitions_total", "healthy", Unit::Count, "Changes of a peer's status as seen here.", |s| {
        s.transitions[0]
    }),
    ("transitions_total", "suspected", Unit::Count, "Changes of a peer's status as seen here.", |s| {
        s.transitions[1]
    }),
    ("transitions_total", "down", Unit::Count, "Changes of a peer's status as seen here.", |s| {
        s.transitions[2]
    }),
    ("restarts_total", "", Unit::Count, "New runs of peers.", |s| s.restarts),
    (
        "false_downs_total",
        "",
        Unit::Count,
        "Downs whose peer came back as the same run: wrong, or a cut.",
        |s| s.false_downs,
    ),
    ("datagrams_received_total", "", Unit::Count, "Datagrams received.", |s| s.datagrams_received),
    ("datagrams_sent_total", "", Unit::Count, "Datagrams sent.", |s| s.datagrams_sent),
    ("received_bytes_total", "", Unit::Bytes, "UDP payload received, in bytes.", |s| s.received_bytes),
    ("sent_bytes_total", "", Unit::Bytes, "UDP payload sent, in bytes.", |s| s.sent_bytes),
    (
        "socket_drops_total",
        "",
        Unit::Count,
        "Datagrams that the kernel dropped from the receive queue.",
        |s| s.socket_drops,
    ),
    ("stalls_total", "", Unit::Count, "Times the detector's loop woke later than planned.", |s| s.stalls),
];

/// What the snapshot does not know.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extra {
    /// Log lines that were folded into others.
    pub log_lines_suppressed: u64,
    /// Events that slow readers lost.
    pub events_dropped: u64,
    /// When the configuration was read, in seconds since 1970.
    pub config_loaded: f64,
    /// Peers in whose metrics the scrape is interested: with false only the summary is written.
    pub peers: bool,
}

/// The exporter of one node.
pub struct Exporter {
    handle: PrometheusHandle,
    counts: Vec<(Counter, Read)>,
    rejected: Vec<Counter>,
    send_errors: Vec<Counter>,
    suppressed: Counter,
    events_dropped: Counter,
    rtt: Histogram,
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

impl Default for Exporter {
    fn default() -> Exporter {
        Exporter::new()
    }
}

fn counter(
    name: &'static str,
    label: &'static str,
    value: &'static str,
    unit: Unit,
    help: &'static str,
) -> Counter {
    let name = format!("lastseen_{name}");
    metrics::describe_counter!(name.clone(), unit, help);
    if value.is_empty() { metrics::counter!(name) } else { metrics::counter!(name, label => value) }
}

impl Exporter {
    /// An exporter whose series are all there, at zero.
    pub fn new() -> Exporter {
        let rtt = "lastseen_rtt_seconds";
        let recorder: PrometheusRecorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(rtt.to_owned()), &RTT_BUCKETS)
            .expect("there are buckets")
            .build_recorder();
        with_local_recorder(&recorder, || {
            metrics::describe_histogram!(
                rtt,
                Unit::Seconds,
                "Round-trip times to all observed peers, in seconds."
            );
            Exporter {
                handle: recorder.handle(),
                counts: COUNTS
                    .iter()
                    .map(|(n, to, unit, help, read)| (counter(n, "to", to, *unit, help), *read))
                    .collect(),
                rejected: Reject::ALL
                    .iter()
                    .map(|r| {
                        counter(
                            "datagrams_rejected_total",
                            "reason",
                            r.as_str(),
                            Unit::Count,
                            "Datagrams rejected, by the check that failed.",
                        )
                    })
                    .collect(),
                send_errors: SendErrorKind::ALL
                    .iter()
                    .map(|k| {
                        counter(
                            "send_errors_total",
                            "kind",
                            k.as_str(),
                            Unit::Count,
                            "Errors of datagrams sent, by kind.",
                        )
                    })
                    .collect(),
                suppressed: counter(
                    "log_lines_suppressed_total",
                    "",
                    "",
                    Unit::Count,
                    "Log lines folded into others.",
                ),
                events_dropped: counter(
                    "events_dropped_total",
                    "",
                    "",
                    Unit::Count,
                    "Events that slow readers lost.",
                ),
                rtt: metrics::histogram!(rtt),
            }
        })
    }

    /// Takes round-trip times; to be called from the detector's loop.
    pub fn rtt_recorder(&self) -> Box<dyn FnMut(Duration) + Send> {
        let (rtt, handle, mut samples) = (self.rtt.clone(), self.handle.clone(), 0);
        Box::new(move |time| {
            rtt.record(time.as_secs_f64());
            samples += 1;
            if samples == UPKEEP {
                samples = 0;
                handle.run_upkeep();
            }
        })
    }

    /// The whole exposition text. `wall`: seconds since 1970 of a core time.
    pub fn render(&self, snapshot: &Snapshot, extra: &Extra, wall: &dyn Fn(Time) -> f64) -> String {
        let stats = &snapshot.stats;
        for (counter, read) in &self.counts {
            counter.absolute(read(stats));
        }
        for (counter, count) in self.rejected.iter().zip(stats.rejected) {
            counter.absolute(count);
        }
        for (counter, count) in self.send_errors.iter().zip(stats.send_errors) {
            counter.absolute(count);
        }
        self.suppressed.absolute(extra.log_lines_suppressed);
        self.events_dropped.absolute(extra.events_dropped);
        self.handle.run_upkeep();
        let mut text = Text(self.handle.render());
        text.cluster(snapshot, extra);
        if extra.peers {
            text.peers(snapshot, wall);
        }
        process::write(&mut text.0);
        text.0
    }
}

/// Exposition text that grows.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP lastseen_{name} {help}\n# TYPE lastseen_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let _ = write!(self.0, "lastseen_{name}");
        for (i, (label, text)) in labels.iter().enumerate() {
            let open = if i == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"{}\"", escape(text));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn cluster(&mut self, s: &Snapshot, extra: &Extra) {
        self.family("build_info", "gauge", "Always 1.");
        self.sample(
            "build_info",
            &[
                ("version", env!("CARGO_PKG_VERSION")),
                ("revision", option_env!("LASTSEEN_REVISION").unwrap_or("unknown")),
            ],
            1.0,
        );
        self.family("node_info", "gauge", "Always 1; joins the scrape target to the peer label of others.");
        self.sample("node_info", &[("server_id", &s.server_id), ("cluster_name", &s.cluster)], 1.0);
        self.family(
            "cluster_nodes",
            "gauge",
            "Nodes of the roster, this one included, by status as seen here.",
        );
        let counts = [s.status.healthy_peers, s.status.suspected_peers, s.status.down_peers];
        for (status, count) in PeerStatus::ALL.iter().zip(counts) {
            self.sample("cluster_nodes", &[("status", status.as_str())], count as f64);
        }
        self.family("cluster_verdicts", "gauge", "Peers by verdict as seen here.");
        for verdict in Verdict::ALL {
            let count = s.peers.iter().filter(|p| p.verdict == verdict).count();
            self.sample("cluster_verdicts", &[("verdict", verdict.as_str())], count as f64);
        }
        let flag = |b: bool| f64::from(u8::from(b));
        self.gauge(
            "cluster_degraded",
            "1 if some node is suspected or down and that is an alarm.",
            flag(s.status.is_degraded),
        );
        self.gauge(
            "cluster_quorum_available",
            "1 if more than half of all nodes are proven.",
            flag(s.status.is_quorum_available()),
        );
        self.family("self_health", "gauge", "1 for the state of this node.");
        for state in SelfHealth::ALL {
            self.sample("self_health", &[("state", state.as_str())], flag(state == s.self_health));
        }
        self.gauge("secure", "1 if a cluster key is configured.", flag(s.secure));
        self.family("key_peers", "gauge", "Observed peers whose newest datagram used this key.");
        let mut keys: Vec<u8> = s.peers.iter().filter_map(|p| p.key_id).chain([s.key_id]).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let count = s.peers.iter().filter(|p| p.key_id == Some(key)).count();
            self.sample("key_peers", &[("key", &format!("{key:02x}"))], count as f64);
        }
        self.gauge("observed_peers", "Peers that this node observes.", s.peers.len() as f64);
        let unresolved = s.peers.iter().filter(|p| p.address.is_none()).count();
        self.gauge("unresolved_peers", "Peers whose name does not resolve.", unresolved as f64);
        self.gauge("roster_hash", "48 bits of hash of the roster; equal on all nodes.", s.roster_hash as f64);
        self.gauge(
            "config_hash",
            "48 bits of hash of the settings that must agree; equal on all nodes.",
            s.config_hash as f64,
        );
        self.gauge(
            "config_last_reload_successful",
            "1 if the last reading of the configuration succeeded.",
            1.0,
        );
        self.gauge(
            "config_last_reload_success_timestamp_seconds",
            "When the configuration was last read, in seconds since 1970.",
            extra.config_loaded,
        );
        self.family("stall_seconds_total", "counter", "Time by which the loop woke late, in seconds.");
        self.sample("stall_seconds_total", &[], s.stats.stalled.as_secs_f64());
    }

    fn peers(&mut self, s: &Snapshot, wall: &dyn Fn(Time) -> f64) {
        self.family("peer_info", "gauge", "Always 1.");
        for p in &s.peers {
            let address = p.address.map(|a| a.to_string()).unwrap_or_default();
            self.sample("peer_info", &[("peer", &p.server_id), ("address", &address)], 1.0);
        }
        self.family("peer_status", "gauge", "1 for the status that holds, 0 for the others.");
        for p in &s.peers {
            for status in PeerStatus::ALL {
                let value = f64::from(u8::from(p.status == status));
                self.sample("peer_status", &[("peer", &p.server_id), ("status", status.as_str())], value);
            }
        }
        self.family("peer_verdict", "gauge", "1 for the verdict that holds, 0 for the others.");
        for p in &s.peers {
            for verdict in Verdict::ALL {
                let value = f64::from(u8::from(p.verdict == verdict));
                self.sample("peer_verdict", &[("peer", &p.server_id), ("verdict", verdict.as_str())], value);
            }
        }
        type Value<'a> = &'a dyn Fn(&crate::proto::PeerView) -> Option<f64>;
        let families: [(&str, &str, &str, Value<'_>); 8] = [
            ("peer_link_up", "gauge", "1 unless the link is known to be cut.", &|p| {
                Some(f64::from(u8::from(p.link.is_active)))
            }),
            (
                "peer_last_seen_timestamp_seconds",
                "gauge",
                "The newest proof of life, in seconds since 1970.",
                &|p| p.last_seen.map(wall),
            ),
            ("peer_missed_heartbeats", "gauge", "Heartbeats missed in a row.", &|p| {
                Some(p.missed_heartbeats.into())
            }),
            ("peer_rtt_seconds", "gauge", "Smoothed round-trip time, in seconds.", &|p| {
                p.link.rtt.map(|d| d.as_secs_f64())
            }),
            (
                "peer_received_bytes_total",
                "counter",
                "Authentic UDP payload from the peer, in bytes.",
                &|p| Some(p.bytes_received as f64),
            ),
            ("peer_sent_bytes_total", "counter", "UDP payload sent to the peer, in bytes.", &|p| {
                Some(p.bytes_sent as f64)
            }),
            ("peer_restarts_total", "counter", "New runs of the peer.", &|p| Some(p.restarts as f64)),
            ("peer_false_downs_total", "counter", "Downs of the peer that were wrong, or a cut.", &|p| {
                Some(p.false_downs as f64)
            }),
        ];
        for (name, kind, help, read) in families {
            self.family(name, kind, help);
            for p in &s.peers {
                // What was never measured is there as NaN, so that the series is there from the start.
                self.sample(name, &[("peer", &p.server_id)], read(p).unwrap_or(f64::NAN));
            }
        }
        self.family("peer_transitions_total", "counter", "Changes of the peer's status as seen here.");
        for p in &s.peers {
            for (status, count) in PeerStatus::ALL.iter().zip(p.transitions) {
                self.sample(
                    "peer_transitions_total",
                    &[("peer", &p.server_id), ("to", status.as_str())],
                    count as f64,
                );
            }
        }
    }
}

/// A label's value as the exposition format wants it.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Instance, Keyring, Node, PeerConfig, StaticPeer};

    fn text() -> String {
        let peer = StaticPeer { server_id: Some("b".into()), name: "127.0.0.1:2".into(), address: None };
        let config = PeerConfig::new("a", "test", ([127, 0, 0, 1], 1).into(), vec![peer]);
        let keys = Keyring::new("test", &[], true).unwrap();
        let node = Node::new(config, keys, Instance(1), 1, Time::ZERO).unwrap();
        let exporter = Exporter::new();
        exporter.rtt_recorder()(Duration::from_micros(300));
        exporter.render(&node.snapshot(Time::ZERO), &Extra { peers: true, ..Extra::default() }, &|_| 1.0)
    }

    #[test]
    fn all_series_are_there_from_the_start() {
        let text = text();
        for line in [
            "lastseen_heartbeats_sent_total 0",
            "lastseen_transitions_total{to=\"down\"} 0",
            "lastseen_datagrams_rejected_total{reason=\"replay\"} 0",
            "lastseen_send_errors_total{kind=\"refused\"} 0",
            "lastseen_rtt_seconds_bucket{le=\"0.0005\"} 1",
            "lastseen_rtt_seconds_count 1",
            "lastseen_node_info{server_id=\"a\",cluster_name=\"test\"} 1",
            "lastseen_cluster_nodes{status=\"healthy\"} 2",
            "lastseen_peer_status{peer=\"b\",status=\"healthy\"} 1",
            "lastseen_peer_verdict{peer=\"b\",verdict=\"unknown\"} 1",
            "lastseen_peer_verdict{peer=\"b\",verdict=\"up\"} 0",
            "lastseen_unresolved_peers 1",
            "lastseen_secure 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in:\n{text}");
        }
        for family in text.lines().filter_map(|l| l.strip_prefix("# TYPE ")) {
            let name = family.split(' ').next().unwrap();
            assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
            assert_eq!(text.matches(&format!("# TYPE {name} ")).count(), 1, "{name} is there twice");
        }
    }

    #[test]
    fn labels_are_escaped() {
        assert_eq!(escape("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
