//! The dashboard in a real browser, of a real cluster. `tests/browser/dashboard.py` looks and asserts; what it asks to
//! be done to the cluster is done here.

use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::confined::{Cut, in_a_network_of_its_own};
use crate::harness::Cluster;
use crate::keys::{make_key, section};

const NODES: usize = 7;
/// Where `.ci/run` installs `tests/browser/requirements.txt`.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/browser/bin/python");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/dashboard.py");

#[test]
#[ignore = "needs root: network namespaces, nft; chromium, and target/browser as .ci/run makes it"]
fn the_dashboard_shows_what_happens() {
    in_a_network_of_its_own(|| {
        let cluster = Cluster::with_files_apart(NODES, |dir| {
            make_key(&dir.join("cluster.key"), 1);
            format!("cluster = \"prod\"\n{}", section(dir, &["cluster.key"]))
        });
        let mut command = Command::new(PYTHON);
        command.arg(SCRIPT).arg(cluster.url(0, "/")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut browser = command.spawn().unwrap_or_else(|e| panic!("{PYTHON}: {e}; see .ci/run"));
        let mut answer = browser.stdin.take().unwrap();
        let mut hands = Hands { cluster, cut: None };
        for line in BufReader::new(browser.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            match line.strip_prefix("do ") {
                Some(order) => {
                    hands.obey(order);
                    writeln!(answer, "done").unwrap();
                }
                None => println!("{line}"),
            }
        }
        let status = browser.wait().unwrap();
        assert!(status.success(), "{status}\n{}", hands.cluster.tell());
    });
}

/// What can be done to the cluster, whose first node is the one that is looked at.
struct Hands {
    cluster: Cluster,
    cut: Option<Cut>,
}

impl Hands {
    fn obey(&mut self, order: &str) {
        let words: Vec<&str> = order.split(' ').collect();
        match words[..] {
            // Of each two the second does not hear the first.
            ["cut", ref pairs @ ..] => {
                let ip = |id: &str| self.cluster.nodes[self.number(id)].udp.ip();
                let pair = |pair: &[&str]| (ip(pair[0]), ip(pair[1]));
                let directions: Vec<(IpAddr, IpAddr)> = pairs.chunks_exact(2).map(pair).collect();
                self.cut = Some(Cut::begin(&directions));
            }
            ["heal"] => assert!(self.cut.take().expect("something is cut").end() > 0, "nothing was dropped"),
            ["kill", id] => {
                self.cluster.kill(self.number(id));
            }
            ["start", id] => self.cluster.launch(self.number(id)),
            ["stop", ref ids @ ..] => self.signal(ids, Signal::SIGSTOP),
            ["continue", ref ids @ ..] => self.signal(ids, Signal::SIGCONT),
            _ => panic!("{order:?} is no order"),
        }
    }

    fn signal(&self, ids: &[&str], signal: Signal) {
        for id in ids {
            self.cluster.signal(self.number(id), signal);
        }
    }

    fn number(&self, id: &str) -> usize {
        self.cluster.nodes.iter().position(|node| node.id == id).unwrap_or_else(|| panic!("no {id}"))
    }
}
