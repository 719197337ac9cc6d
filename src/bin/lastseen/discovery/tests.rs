//! A discovery and a detector, with a DNS server and files of the test's own.

use std::net::SocketAddr;
use std::path::Path;

use lastseen::net::{Options, spawn};
use lastseen::proto::{Keyring, PeerConfig};

use super::dns::tests::server::{DnsServer, Says};
use super::*;
use crate::reload::propose;
use crate::settings::PeerFile;

const AT_ALL: Duration = Duration::from_secs(30);

fn plan(listed: &[String], files: &[&Path], servers: &[SocketAddr]) -> RosterPlan {
    RosterPlan {
        listed: listed.iter().map(|text| Listed::parse(text).unwrap()).collect(),
        files: files.iter().map(|path| PeerFile::parse(path.to_str().unwrap()).unwrap()).collect(),
        refresh: Duration::from_millis(200),
        forget_after: Duration::from_secs(1),
        servers: servers.to_vec(),
        only_loopback: true,
    }
}

/// A detector whose roster is kept, and where its plans go.
struct Kept {
    handle: Handle,
    failures: Arc<Failures>,
    plans: mpsc::Sender<Replan>,
}

impl Kept {
    async fn start(plan: RosterPlan) -> Kept {
        let listen: SocketAddr = ([127, 0, 0, 1], 0).into();
        let mut discovery = Discovery::start(plan, Identity::for_tests("me", listen)).await;
        let roster = discovery.roster();
        let told = discovery.identity.split(&roster).unwrap();
        let mut config = PeerConfig::new("me", "test", listen, told.peers.clone());
        config.own_name = Arc::clone(&told.own_name);
        let keys = Keyring::new("test", &[], true).unwrap();
        let (handle, _) = spawn(config, keys, Options::default()).await.unwrap();
        let failures = discovery.failures();
        let (plans, changes) = mpsc::channel(1);
        tokio::spawn(discovery.keep(told, handle.clone(), changes));
        Kept { handle, failures, plans }
    }

    async fn peers(&self) -> Vec<String> {
        let picture = self.handle.snapshot().await.unwrap();
        let text = |address: Option<SocketAddr>| address.map_or("-".to_owned(), |a| a.to_string());
        picture.peers.iter().map(|peer| format!("{} {}", peer.server_id, text(peer.address))).collect()
    }

    async fn has(&self, expected: &[&str]) {
        let look = async {
            while self.peers().await != expected {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let met = timeout(AT_ALL, look).await;
        assert!(met.is_ok(), "{expected:?} is {:?}", self.peers().await);
    }

    fn failed(&self, source: &str) -> u64 {
        self.failures.all().iter().find(|(name, _)| **name == *source).map_or(u64::MAX, |(_, count)| *count)
    }

    async fn failed_more_than(&self, source: &str, before: u64) {
        let look = async {
            while self.failed(source) <= before {
                sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(timeout(AT_ALL, look).await.is_ok(), "{source} does not fail");
    }

    /// Another plan, checked and then put into force, or not.
    async fn change(&self, plan: RosterPlan, is_wanted: bool) -> Result<bool, String> {
        let (is_other, fine) = propose(&self.plans, plan).await?;
        if is_wanted {
            fine.go().await?;
        }
        Ok(is_other)
    }
}

fn addresses(all: &[&str]) -> Says {
    Says::Addresses(all.iter().map(|ip| ip.parse().unwrap()).collect())
}

#[tokio::test]
async fn nodes_come_and_go_with_the_answers() {
    let dns = DnsServer::start();
    dns.say("nodes.localhost", addresses(&["127.0.0.2", "127.0.0.3"]));
    dns.say("srv.localhost", Says::Services(vec![("x.localhost".to_owned(), 9)]));
    dns.say("x.localhost", addresses(&["127.0.0.9"]));
    let listed = ["dns+a://nodes.localhost:7".to_owned(), "dns+srv://srv.localhost".to_owned()];
    let kept = Kept::start(plan(&listed, &[], &[dns.address])).await;
    let both = ["127.0.0.2:7 127.0.0.2:7", "127.0.0.3:7 127.0.0.3:7", "x.localhost:9 127.0.0.9:9"];
    kept.has(&both).await;
    assert_eq!((kept.failed(&listed[0]), kept.failed(&listed[1])), (0, 0));
    // Nobody can say: all stay.
    dns.say("nodes.localhost", Says::Fails);
    dns.say("srv.localhost", Says::Fails);
    kept.failed_more_than(&listed[0], 0).await;
    kept.failed_more_than(&listed[1], 0).await;
    assert_eq!(kept.peers().await, both);
    // One is gone, one is new; what a service resolves to has moved.
    dns.say("nodes.localhost", addresses(&["127.0.0.3", "127.0.0.4"]));
    dns.say("srv.localhost", Says::Services(vec![("x.localhost".to_owned(), 9)]));
    dns.say("x.localhost", addresses(&["127.0.0.8"]));
    kept.has(&["127.0.0.3:7 127.0.0.3:7", "127.0.0.4:7 127.0.0.4:7", "x.localhost:9 127.0.0.8:9"]).await;
    // There is no such name any more.
    let before = kept.failed(&listed[0]);
    dns.forget("nodes.localhost");
    kept.has(&["x.localhost:9 127.0.0.8:9"]).await;
    assert_eq!(kept.failed(&listed[0]), before, "that is an answer");
}

#[tokio::test]
async fn a_static_name_moves_and_stays() {
    let dns = DnsServer::start();
    let listed = ["a@a.localhost:7".to_owned(), "b@127.0.0.2:7".to_owned()];
    let kept = Kept::start(plan(&listed, &[], &[dns.address])).await;
    assert_eq!(kept.peers().await, ["a -", "b 127.0.0.2:7"]);
    assert!(kept.failed("static_peers") > 0, "it is nobody's, and should be somebody's");
    dns.say("a.localhost", addresses(&["127.0.0.3"]));
    kept.has(&["a 127.0.0.3:7", "b 127.0.0.2:7"]).await;
    dns.say("a.localhost", addresses(&["127.0.0.4"]));
    kept.has(&["a 127.0.0.4:7", "b 127.0.0.2:7"]).await;
    let before = kept.failed("static_peers");
    dns.forget("a.localhost");
    kept.failed_more_than("static_peers", before).await;
    assert_eq!(kept.peers().await, ["a 127.0.0.4:7", "b 127.0.0.2:7"]);
}

#[tokio::test]
async fn another_plan_counts_as_a_whole_or_not_at_all() {
    let (dns, dir) = (DnsServer::start(), tempfile::tempdir().unwrap());
    let file = dir.path().join("peers.json");
    std::fs::write(&file, "[{\"targets\": [\"f@127.0.0.5:7\", \"a@127.0.0.6:7\"]}]").unwrap();
    dns.say("nodes.localhost", addresses(&["127.0.0.3"]));
    let listed = ["a@127.0.0.2:7".to_owned(), "dns+a://nodes.localhost:7".to_owned()];
    let first = plan(&listed, &[&file], &[dns.address]);
    let kept = Kept::start(first.clone()).await;
    let all = ["127.0.0.3:7 127.0.0.3:7", "a 127.0.0.2:7", "f 127.0.0.5:7"];
    assert_eq!(kept.peers().await, all, "the first a counts");
    assert_eq!(kept.change(first.clone(), true).await, Ok(false));
    let second = plan(&["b@127.0.0.4:7".to_owned()], &[], &[dns.address]);
    assert_eq!(kept.change(second.clone(), false).await, Ok(true));
    assert_eq!((kept.peers().await, kept.failures.all().len()), (all.map(str::to_owned).to_vec(), 2));
    assert_eq!(kept.change(second, true).await, Ok(true));
    assert_eq!((kept.peers().await, kept.failures.all().len()), (vec!["b 127.0.0.4:7".to_owned()], 0));
    assert_eq!(kept.change(first, true).await, Ok(true));
    assert_eq!(kept.peers().await, all);
    // What a file says is seen without being asked.
    std::fs::write(&file, "[]").unwrap();
    kept.has(&all[..2]).await;
}
