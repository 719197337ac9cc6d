//! Sixty-four real nodes: all of them draw one and the same picture. What they cost is printed.

use std::fmt;
use std::fs;
use std::time::Duration;

use lastseen::net::Clock;
use lastseen::proto::Time;
use serde_json::{Value, json};

use crate::confined::in_a_network_of_its_own;
use crate::harness::{Cluster, within};

const NODES: usize = 64;
const KILLED: usize = 17;
/// Quiet time over which the cost is measured.
const QUIET: Duration = Duration::from_secs(60);
/// However busy the machine is.
const EQUAL_WITHIN: Duration = Duration::from_secs(60);
/// Bytes of IPv4 and UDP.
const HEADERS: f64 = 28.0;

#[test]
#[ignore = "needs root: network namespaces"]
fn sixty_four_nodes_draw_one_picture() {
    in_a_network_of_its_own(|| {
        let mut cluster = Cluster::start_apart(NODES, "error");
        let all: Vec<usize> = (0..NODES).collect();
        let fine = agreed(&cluster, &all, 0);
        assert_eq!(entries(&fine.rows), 0, "{fine:?}");
        let before = cluster.transitions();

        let first: Vec<Used> = all.iter().map(|n| Used::by(&cluster, *n)).collect();
        // Nobody asks them anything meanwhile.
        within(QUIET, || None::<()>);
        let last: Vec<Used> = all.iter().map(|n| Used::by(&cluster, *n)).collect();
        let cost = Cost::between(&first, &last);
        println!("{NODES} nodes, one of them: {cost}");
        cost.is_sane();
        cluster.nobody_else_accused(&before, &[]);
        assert_eq!(agreed(&cluster, &all, 0), fine);

        let since = cluster.kill(KILLED);
        let down = cluster.all_say(KILLED, "status", "down", since, EQUAL_WITHIN);
        let alive: Vec<usize> = all.into_iter().filter(|n| *n != KILLED).collect();
        let picture = agreed(&cluster, &alive, 1);
        let one_picture = Clock.now().since(since);
        let id = cluster.nodes[KILLED].id.as_str();
        assert_eq!(picture.wrong, [[id, "down", "refused"].map(str::to_owned)]);
        assert_eq!(picture.rows[id], json!({ "fresh": false, "peers": {} }));
        assert_eq!(entries(&picture.rows), NODES - 1, "one word of each that lives: {}", picture.rows);
        cluster.nobody_else_accused(&before, &[KILLED]);
        println!("SIGKILL to Down at all: {down:.2?}, to one picture at all: {one_picture:.2?}");
    });
}

/// What a node knows of the cluster, without what changes by the second.
#[derive(Debug, PartialEq)]
struct Picture {
    /// Server id, status and verdict of the peers that are not up.
    wrong: Vec<[String; 3]>,
    /// Of each node: whether its row is fresh, and what is in it.
    rows: Value,
}

/// What a node draws; `None`: it has not answered, or not of all.
fn picture(cluster: &Cluster, n: usize) -> Option<Picture> {
    let peers = cluster.peers(n);
    let text = |peer: &Value, key: &str| peer[key].as_str().unwrap_or_default().to_owned();
    let wrong = peers.iter().filter(|peer| peer["verdict"] != "up");
    let wrong = wrong.map(|peer| ["server_id", "status", "verdict"].map(|key| text(peer, key))).collect();
    let mut rows = cluster.json(n, "/api/v1/matrix")["rows"].take();
    for (_, row) in rows.as_object_mut()? {
        *row = json!({ "fresh": row["age_seconds"].is_number(), "peers": row["peers"] });
    }
    let is_whole = peers.len() == NODES - 1 && rows.as_object()?.len() == NODES;
    is_whole.then_some(Picture { wrong, rows })
}

/// Waits until all of these draw one picture, in which so many are not up. That picture.
#[track_caller]
fn agreed(cluster: &Cluster, nodes: &[usize], wrong: usize) -> Picture {
    let met = within(EQUAL_WITHIN, || {
        let first = picture(cluster, nodes[0]).filter(|first| first.wrong.len() == wrong)?;
        nodes[1..].iter().all(|n| picture(cluster, *n).as_ref() == Some(&first)).then_some(first)
    });
    match met {
        Some((picture, _)) => picture,
        None => panic!("no one picture after {EQUAL_WITHIN:?}:\n{}", differences(cluster, nodes)),
    }
}

/// What the first of these draws that is not plainly fine, and where others draw otherwise.
fn differences(cluster: &Cluster, nodes: &[usize]) -> String {
    let Some(first) = picture(cluster, nodes[0]) else { return cluster.tell() };
    let fine = json!({ "fresh": true, "peers": {} });
    let rows = |picture: &Picture, but: &dyn Fn(&String) -> Value| -> Vec<String> {
        let rows = picture.rows.as_object().into_iter().flatten();
        rows.filter(|(id, row)| **row != but(id)).map(|(id, row)| format!("{id}: {row}")).collect()
    };
    let line = |n: &usize| match picture(cluster, *n) {
        None => format!("n{} does not answer", n + 1),
        Some(other) => {
            format!("n{}: {:?}, {:?}", n + 1, other.wrong, rows(&other, &|id| first.rows[id].clone()))
        }
    };
    let head = format!("n{}: {:?}, {:?}", nodes[0] + 1, first.wrong, rows(&first, &|_| fine.clone()));
    std::iter::once(head).chain(nodes[1..].iter().map(line)).collect::<Vec<_>>().join("\n")
}

/// How many entries all rows have together.
fn entries(rows: &Value) -> usize {
    let rows = rows.as_object().into_iter().flat_map(|rows| rows.values());
    rows.map(|row| row["peers"].as_object().map_or(0, serde_json::Map::len)).sum()
}

/// What a node has used since its start.
struct Used {
    at: Time,
    cpu_seconds: f64,
    pss_mib: f64,
    sent: f64,
    received: f64,
    sent_bytes: f64,
}

impl Used {
    fn by(cluster: &Cluster, n: usize) -> Used {
        let proc = format!("/proc/{}", cluster.pid(n));
        Used {
            at: Clock.now(),
            cpu_seconds: cpu_seconds(&proc),
            pss_mib: pss_mib(&proc),
            sent: cluster.value(n, "lastseen_datagrams_sent_total"),
            received: cluster.value(n, "lastseen_datagrams_received_total"),
            sent_bytes: cluster.value(n, "lastseen_sent_bytes_total"),
        }
    }
}

/// User and system time of a process. One of these ticks is 10 ms on every Linux.
fn cpu_seconds(proc: &str) -> f64 {
    let stat = fs::read_to_string(format!("{proc}/stat")).unwrap();
    // The name may contain anything, but it ends with the last parenthesis; fields 14 and 15 of all.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |field: usize| fields[field - 3].parse::<f64>().unwrap();
    (ticks(14) + ticks(15)) / 100.0
}

/// Its share of the memory that it uses.
fn pss_mib(proc: &str) -> f64 {
    let rollup = fs::read_to_string(format!("{proc}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

/// Of one node, by the mean of all.
struct Cost {
    cpu_seconds_a_minute: f64,
    pss_mib: f64,
    sent_a_second: f64,
    received_a_second: f64,
    bytes_a_second: f64,
}

impl Cost {
    fn between(first: &[Used], last: &[Used]) -> Cost {
        let a_second = |of: fn(&Used) -> f64| {
            let rate = |(first, last): (&Used, &Used)| {
                (of(last) - of(first)) / last.at.since(first.at).as_secs_f64()
            };
            first.iter().zip(last).map(rate).sum::<f64>() / first.len() as f64
        };
        Cost {
            cpu_seconds_a_minute: a_second(|used| used.cpu_seconds) * 60.0,
            pss_mib: last.iter().map(|used| used.pss_mib).sum::<f64>() / last.len() as f64,
            sent_a_second: a_second(|used| used.sent),
            received_a_second: a_second(|used| used.received),
            bytes_a_second: a_second(|used| used.sent_bytes + used.sent * HEADERS),
        }
    }

    /// Not so many that something must be wrong. A pair has one exchange a second; retries come on a busy machine.
    fn is_sane(&self) {
        let peers = (NODES - 1) as f64;
        let is_near = |rate: f64| (0.9 * peers..1.5 * peers).contains(&rate);
        assert!(is_near(self.sent_a_second) && is_near(self.received_a_second), "{self}");
        assert!(self.bytes_a_second < 150.0 * self.sent_a_second, "{self}");
        assert!(self.cpu_seconds_a_minute < 6.0, "{self}");
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.3} s of CPU a minute, {:.2} MiB PSS; a second {:.1} datagrams sent, {:.1} received, \
             {:.0} bytes sent with headers",
            self.cpu_seconds_a_minute,
            self.pss_mib,
            self.sent_a_second,
            self.received_a_second,
            self.bytes_a_second
        )
    }
}
