use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use super::families::{FAMILIES, Kind};
use super::*;
use crate::proto::{
    Announced, Drain, Draining, Instance, Keyring, Labels, Migration, Node, PeerConfig, Reason, RowView,
    ServerId, Service, ServiceInstance, ServiceName, ServiceState, StaticPeer, Verdict,
};

fn snapshot() -> Snapshot {
    let peer = StaticPeer { server_id: Some("b".into()), name: "127.0.0.1:2".into(), address: None };
    let config = PeerConfig::new("a", "test", ([127, 0, 0, 1], 1).into(), vec![peer]);
    let keys = Keyring::new("test", &[], true).unwrap();
    let node = Node::new(config, keys, Instance(1), 1, Time::ZERO).unwrap();
    node.snapshot(Time::ZERO)
}

/// `web` passes at `a` and failed at `b`; `db` is at `b` alone, which is Down, and `mq` drains with `c`. One migration goes on.
fn catalog() -> Arc<Catalog> {
    let offered = |server_id: &str, name: &str| ServiceInstance {
        server_id: server_id.into(),
        service: Service::new(name, "h:1").unwrap(),
        labels: Labels::default(),
        status: PeerStatus::Healthy,
        verdict: Verdict::Up,
        drains: false,
    };
    let mut failed = offered("b", "web");
    failed.service.state = ServiceState::Failed;
    let down = ServiceInstance { status: PeerStatus::Down, ..offered("b", "db") };
    let drains = ServiceInstance { drains: true, ..offered("c", "mq") };
    let announced = |until| Announced {
        by: "a".into(),
        migration: Migration {
            id: until,
            service: ServiceName::new("web").unwrap(),
            from: ServerId::new("a").unwrap(),
            to: None,
            reason: Reason::default(),
            deadline: 0,
        },
        until: Time::from_micros(until),
    };
    let instances = vec![down, drains, offered("a", "web"), failed];
    Arc::new(Catalog { instances, migrations: vec![announced(0), announced(5)] })
}

/// What is written at a level of detail.
pub(super) fn text_of(peers: bool, matrix: bool) -> String {
    let extra = Extra { peers, matrix, catalog: catalog(), ..Extra::default() };
    Exporter::new().render(&snapshot(), &extra, &|_| 1.0)
}

fn text(peers: bool, samples: u64) -> String {
    let exporter = Exporter::new();
    let mut record = exporter.rtt_recorder();
    (0..samples).for_each(|_| record(Duration::from_micros(300)));
    let mut snapshot = snapshot();
    snapshot.cluster = "te\"st".into();
    snapshot.mass_loss = true;
    snapshot.stats.rejected[Reject::Replay as usize] = 3;
    snapshot.stats.events_dropped = 3;
    snapshot.stats.stalled = Duration::from_millis(1500);
    let discovery_failures = vec![("dns+srv://x".into(), 2)];
    let extra = Extra {
        peers,
        matrix: peers,
        events_dropped: 7,
        config_loaded: 1.5,
        discovery_failures,
        quorum_guard: true,
        catalog: catalog(),
        ..Extra::default()
    };
    exporter.render(&snapshot, &extra, &|_| 1.0)
}

#[test]
fn all_series_are_there_from_the_start() {
    let text = text(true, 0);
    for line in [
        "lastseen_heartbeats_sent_total 0",
        "lastseen_transitions_total{to=\"down\"} 0",
        "lastseen_datagrams_rejected_total{reason=\"replay\"} 3",
        "lastseen_datagrams_rejected_total{reason=\"size\"} 0",
        "lastseen_send_errors_total{kind=\"refused\"} 0",
        "lastseen_events_dropped_total 10",
        "lastseen_stall_seconds_total 1.5",
        "lastseen_config_last_reload_success_timestamp_seconds 1.5",
        "lastseen_discovery_failures_total{source=\"dns+srv://x\"} 2",
        "lastseen_rtt_seconds_bucket{le=\"2.5\"} 0",
        "lastseen_rtt_seconds_count 0",
        "lastseen_node_info{server_id=\"a\",cluster_name=\"te\\\"st\"} 1",
        "lastseen_cluster_nodes{status=\"healthy\"} 2",
        "lastseen_peer_status{peer=\"b\",status=\"healthy\"} 1",
        "lastseen_peer_verdict{peer=\"b\",verdict=\"unknown\"} 1",
        "lastseen_peer_verdict{peer=\"b\",verdict=\"up\"} 0",
        "lastseen_peer_last_seen_timestamp_seconds{peer=\"b\"} NaN",
        "lastseen_peer_transitions_total{peer=\"b\",to=\"suspected\"} 0",
        "lastseen_unresolved_peers 1",
        "lastseen_drain_end_timestamp_seconds 0",
        "lastseen_peer_observers{peer=\"b\",says=\"unknown\"} 1",
        "lastseen_matrix_link_up{observer=\"a\",peer=\"b\"} NaN",
        "lastseen_matrix_alive{observer=\"a\",peer=\"b\"} NaN",
        "lastseen_secure 0",
        "lastseen_insecure 1",
        "lastseen_cluster_mass_loss 1",
        "lastseen_cluster_quorum_guard 1",
        "lastseen_cluster_migrations 1",
        "lastseen_service_instances{name=\"web\",state=\"passing\"} 1",
        "lastseen_service_instances{name=\"web\",state=\"failed\"} 1",
        "lastseen_service_instances{name=\"db\",state=\"passing\"} 0",
        "lastseen_service_instances{name=\"db\",state=\"unreachable\"} 1",
        "lastseen_service_instances{name=\"mq\",state=\"draining\"} 1",
        "lastseen_self_health{state=\"isolated\"} 0",
        "lastseen_cluster_verdicts{verdict=\"isolated\"} 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in:\n{text}");
    }
}

#[test]
fn of_whom_a_cut_row_does_not_name_there_is_no_value() {
    let at_b = |cut| {
        let row = |id: &str, cut| RowView {
            server_id: id.into(),
            age: Some(Duration::ZERO),
            stale: None,
            watches: None,
            sees: Vec::new(),
            cut,
        };
        let mut snapshot = snapshot();
        snapshot.rows = vec![row("a", false), row("b", cut)];
        let extra = Extra { peers: true, matrix: true, ..Extra::default() };
        let text = Exporter::new().render(&snapshot, &extra, &|_| 1.0);
        let line =
            text.lines().find_map(|l| l.strip_prefix("lastseen_matrix_link_up{observer=\"b\",peer=\"a\"} "));
        line.unwrap().to_owned()
    };
    assert_eq!([at_b(false), at_b(true)], ["1", "NaN"]);
}

#[test]
fn drains_and_labels() {
    let mut snapshot = snapshot();
    let drain = Drain { until: 1_700_000_000, reason: Reason::default() };
    snapshot.draining = Some(Draining { left: Duration::from_secs(1), drain });
    snapshot.peers[0].labels =
        Labels::new(vec![("role".into(), "db".into()), ("rack".into(), "r7".into())]).ok();
    let extra = Extra { peers: true, ..Extra::default() };
    let text = Exporter::new().render(&snapshot, &extra, &|_| 1.0);
    for line in [
        "lastseen_drain_end_timestamp_seconds 1700000000",
        "lastseen_peer_info{peer=\"b\",address=\"\",label_rack=\"r7\",label_role=\"db\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in:\n{text}");
    }
}

#[test]
fn the_table_and_the_text_agree() {
    let text = text(true, 0);
    let said: BTreeSet<&str> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")).collect();
    let table: Vec<String> = FAMILIES.iter().map(|f| format!("{} {}", f.name, f.kind.as_str())).collect();
    assert_eq!(said, table.iter().map(String::as_str).collect(), "families of the text, and of the table");
    for family in FAMILIES {
        let help = format!("# HELP {} {}\n", family.name, family.help);
        assert_eq!(text.matches(&help).count(), 1, "{help}");
        assert_eq!(family.name.ends_with("_total"), family.kind == Kind::Counter, "{}", family.name);
        let sample = text.lines().find(|l| l.starts_with(family.name)).expect("a sample from the start");
        let labels: Vec<&str> =
            sample.split(['{', ',']).skip(1).filter_map(|l| l.split('=').next()).collect();
        if family.kind != Kind::Histogram {
            assert_eq!(labels, family.labels, "{sample}");
        }
        for label in family.labels {
            let taken = ["instance", "job", "cluster", "node", "pod", "namespace", "zone", "host", "service"];
            assert!(!taken.contains(label), "{} has the label {label}", family.name);
        }
    }
}

#[test]
fn no_series_is_there_twice() {
    let text = text(true, 1);
    let series: Vec<&str> = text
        .lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(|l| l.rsplit_once(' '))
        .map(|l| l.0)
        .collect();
    let once: BTreeSet<&&str> = series.iter().collect();
    assert_eq!(once.len(), series.len());
}

#[test]
fn the_summary_names_no_peer() {
    assert!(!text(false, 0).contains("lastseen_peer_") && !text(false, 0).contains("lastseen_matrix_"));
}

#[test]
fn round_trips_fall_into_their_buckets() {
    // More than one upkeep.
    let text = text(false, u64::from(UPKEEP) + 2);
    for line in [
        "lastseen_rtt_seconds_bucket{le=\"0.00025\"} 0",
        "lastseen_rtt_seconds_bucket{le=\"0.0005\"} 4098",
        "lastseen_rtt_seconds_bucket{le=\"+Inf\"} 4098",
        "lastseen_rtt_seconds_count 4098",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in:\n{text}");
    }
}

#[test]
#[ignore = "needs promtool"]
fn promtool_has_nothing_to_say() {
    for text in [text(true, 0), text(true, 5), text(false, 0)] {
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool is installed");
        promtool.stdin.take().expect("it is piped").write_all(text.as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    }
}
