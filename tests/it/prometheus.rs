//! A real Prometheus beside real nodes: what it says of the rules, what fires and when, and that the dashboard has data.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lastseen::net::Clock;
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::alerts::{ALERTS, queries};
use crate::harness::{AT_ALL, Cluster, watch, within};
use crate::keys::{make_key, section};

const NODES: usize = 5;
/// Six seconds of detection, two scrapes (that of the survivors; that of the dead, which has to fail, in up to 10 s), one
/// evaluation, 30 s of `for` in steps of evaluations, and what a busy machine takes.
const FIRES_WITHIN: Duration = Duration::from_secs(100);

/// A process, its data, and where it answers. Dropping it ends both.
struct Prometheus {
    child: Child,
    http: SocketAddr,
    agent: ureq::Agent,
    _dir: TempDir,
}

impl Prometheus {
    /// Scrapes all nodes so often, asks them for `detail`, and evaluates `rules` at the intervals that stand in them. Returns
    /// when all were scraped.
    fn start(cluster: &Cluster, scrape: &str, detail: &str, rules: &str) -> Prometheus {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let targets: Vec<String> = cluster.nodes.iter().map(|node| node.http.to_string()).collect();
        let config = format!(
            "global: {{ scrape_interval: {scrape} }}\nrule_files: [alerts.yml]\nscrape_configs:\n  - job_name: prod\n    \
             params: {{ detail: [{detail}] }}\n    static_configs: [{{ targets: {targets:?} }}]\n"
        );
        std::fs::write(at("alerts.yml"), rules).unwrap();
        std::fs::write(at("prometheus.yml"), config).unwrap();
        // Held until just before it is taken, at an address that only this cluster uses.
        let held = TcpListener::bind((cluster.nodes[0].http.ip(), 0)).unwrap();
        let http = held.local_addr().unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", at("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", at("data").display()));
        command.arg(format!("--web.listen-address={http}")).arg("--log.level=error");
        drop(held);
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("prometheus is installed");
        let agent =
            ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).proxy(None).build();
        let prometheus = Prometheus { child, http, agent: agent.into(), _dir: dir };
        let scraped = || prometheus.get("query", Some("up == 1"))?["result"].as_array().map(Vec::len);
        within(AT_ALL, || (scraped() == Some(NODES)).then_some(())).expect("it scrapes all nodes");
        prometheus
    }

    /// The data of an answer, if there is one.
    fn get(&self, path: &str, query: Option<&str>) -> Option<Value> {
        let request = self.agent.get(format!("http://{}/api/v1/{path}", self.http));
        let mut answer = request.query_pairs(query.map(|query| ("query", query))).call().ok()?;
        let text = answer.body_mut().read_to_string().ok()?;
        Some(serde_json::from_str::<Value>(&text).ok()?["data"].take())
    }

    /// What a query gives at this moment.
    #[track_caller]
    fn query(&self, query: &str) -> Vec<Value> {
        let answer = self.get("query", Some(query));
        let result = answer.as_ref().and_then(|data| data["result"].as_array());
        result.unwrap_or_else(|| panic!("no answer to {query}")).clone()
    }

    /// All alerts that fire, name and peer; each can be read.
    fn firing(&self) -> BTreeSet<(String, String)> {
        let answer = self.get("alerts", None);
        let alerts = answer.as_ref().and_then(|data| data["alerts"].as_array()).expect("it answers");
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let whole = |alert: &&Value| {
            let told = alert["annotations"].to_string();
            assert!(!told.contains("<error") && !told.contains("<no value>"), "{told}");
        };
        firing
            .inspect(whole)
            .map(|alert| (text(&alert["labels"]["alertname"]), text(&alert["labels"]["peer"])))
            .collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// With a key, or it would be an alert that there is none.
fn cluster() -> Cluster {
    Cluster::with_files(NODES, |dir| {
        make_key(&dir.join("key"), 1);
        section(dir, &["key"])
    })
}

#[track_caller]
fn passes(program: &str, args: &[&str]) {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus");
    let told = Command::new(program).args(args).current_dir(dir).output().expect("the program is installed");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&[told.stdout, told.stderr].concat()));
}

#[test]
#[ignore = "needs promtool and amtool"]
fn rules_and_examples_are_what_prometheus_takes() {
    passes("promtool", &["check", "rules", "--lint-fatal", "alerts.yml"]);
    passes("promtool", &["test", "rules", "alerts_test.yml"]);
    passes("promtool", &["check", "config", "--lint-fatal", "prometheus.example.yml"]);
    passes("amtool", &["check-config", "alertmanager.example.yml"]);
}

#[test]
#[ignore = "needs prometheus; takes two minutes, since the alerts wait as they do in earnest"]
fn one_alert_for_each_that_is_gone_and_of_the_right_kind() {
    let mut cluster = cluster();
    let prometheus = Prometheus::start(&cluster, "15s", "peers", ALERTS);
    let since = cluster.kill(2);
    cluster.signal(3, Signal::SIGSTOP);
    let expected = [("DaemonDown", "n3"), ("NodeDown", "n4")].map(|(a, p)| (a.to_owned(), p.to_owned()));
    let mut fired = [None; 2];
    let all = within(FIRES_WITHIN, || {
        let firing = prometheus.firing();
        let others: Vec<_> = firing.iter().filter(|alert| !expected.contains(alert)).collect();
        assert!(others.is_empty(), "{others:?}");
        for (at, _) in fired.iter_mut().zip(&expected).filter(|(at, e)| at.is_none() && firing.contains(e)) {
            *at = Some(Clock.now().since(since));
        }
        fired.iter().all(Option::is_some).then_some(())
    });
    assert!(all.is_some(), "{fired:?} within {FIRES_WITHIN:?}: {:?}", prometheus.query("ALERTS"));
    let expected = expected.into();
    watch(Duration::from_secs(35), Duration::from_secs(5), |_| assert_eq!(prometheus.firing(), expected));
    println!(
        "scraped and evaluated every 15 s: SIGKILL to DaemonDown firing {:.1?}, SIGSTOP to NodeDown {:.1?}",
        fired[0].unwrap_or_default(),
        fired[1].unwrap_or_default()
    );
}

/// The rules, evaluated every second, with what becomes of the other lines.
fn every_second(line: impl Fn(&str) -> String) -> String {
    let lines = ALERTS.lines().map(|text| line(text).replace("interval: 15s", "interval: 1s"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
#[ignore = "needs prometheus; waits for as long as a single loss would take to fire"]
fn many_lost_at_once_are_one_alert() {
    let mut cluster = cluster();
    let prometheus = Prometheus::start(&cluster, "1s", "peers", &every_second(str::to_owned));
    let since = cluster.kill(1);
    cluster.kill(2);
    cluster.kill(3);
    let of_cluster = |name: &str| (name.to_owned(), String::new());
    let (mass, quorum) = (of_cluster("MassLoss"), of_cluster("QuorumLost"));
    within(AT_ALL, || prometheus.firing().contains(&mass).then_some(())).expect("it is told");
    let fired = Clock.now().since(since);
    watch(Duration::from_secs(45), Duration::from_secs(1), |_| {
        let firing = prometheus.firing();
        assert!(firing.iter().all(|alert| [&mass, &quorum].contains(&alert)), "{firing:?}");
    });
    assert_eq!(prometheus.firing(), [mass, quorum].into(), "two of five are no quorum");
    println!("evaluated every second: SIGKILL to three of five to MassLoss {fired:.1?}");
}

#[test]
#[ignore = "needs prometheus"]
fn a_leave_raises_nothing_and_every_panel_has_data() {
    let mut cluster = cluster();
    // Nothing is waited for: what holds for a moment fires.
    let is_for = |line: &str| line.trim_start().starts_with("for: ");
    let rules = every_second(|line| if is_for(line) { "        for: 0s" } else { line }.to_owned());
    let prometheus = Prometheus::start(&cluster, "1s", "matrix", &rules);
    let mut empty: Vec<String> = queries();
    assert!(empty.len() > 30, "there are queries");
    // What fires is nothing here.
    empty.retain(|query| !query.starts_with("ALERTS"));
    let query =
        |query: &str| prometheus.query(&query.replace("$job", "prod").replace("$__rate_interval", "10s"));
    let filled = within(AT_ALL, || {
        empty.retain(|text| query(text).is_empty());
        empty.is_empty().then_some(())
    });
    assert!(filled.is_some(), "no data: {empty:#?}");
    let told = cluster.order(1, &["leave"]).output().unwrap();
    assert!(told.status.success(), "{told:?}");
    let since = cluster.signal(4, Signal::SIGTERM);
    for gone in [1, 4] {
        assert_eq!(cluster.ended(gone), Some(0));
    }
    for (observer, gone) in [(0, 1), (0, 4), (2, 1), (2, 4), (3, 1), (3, 4)] {
        within(AT_ALL, || (cluster.verdict(observer, gone) == "left").then_some(())).expect("it is told");
    }
    // Longer than a silence takes to be Down. That a busy machine loses a datagram of the others is not the leave's doing.
    let raised = "count_over_time(ALERTS{peer!~\"n1|n3|n4\"}[2m])";
    watch(Duration::from_secs(12), Duration::from_secs(1), |_| {
        assert_eq!(prometheus.query(raised), [Value::Null; 0])
    });
    let quiet = Clock.now().since(since);
    let since = cluster.kill(2);
    let wanted = ("DaemonDown".to_owned(), "n3".to_owned());
    let fired = within(AT_ALL, || prometheus.firing().contains(&wanted).then_some(()));
    assert!(fired.is_some(), "the same rules see a crash: {:?}", prometheus.query("ALERTS"));
    println!(
        "{quiet:.1?} after two leaves nothing; without `for`, at 1 s: SIGKILL to DaemonDown {:.1?}",
        Clock.now().since(since)
    );
}
