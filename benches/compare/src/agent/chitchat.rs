//! chitchat: its own server and UDP transport; who is live comes from its watcher.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use chitchat::transport::UdpTransport;
use chitchat::{ChitchatConfig, ChitchatId, FailureDetectorConfig, ProtocolVersion, spawn_chitchat};

use super::{Agent, INTERVAL, tell};
use crate::Failure;

pub(super) async fn run(agent: &Agent) -> Result<(), Failure> {
    let own = agent.address();
    let run = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    // What has a default in its code is that.
    let config = ChitchatConfig {
        chitchat_id: ChitchatId::new(format!("n{}", agent.own), run, own),
        cluster_id: "compare".to_owned(),
        gossip_interval: INTERVAL,
        listen_addr: own,
        seed_nodes: agent.seeds().map(|seed| seed.to_string()).collect(),
        failure_detector_config: FailureDetectorConfig::default(),
        marked_for_deletion_grace_period: Duration::from_secs(15 * 60),
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: ProtocolVersion::V0,
    };
    let handle = spawn_chitchat(config, Vec::new(), &UdpTransport).await?;
    let mut watcher = handle.with_chitchat(|chitchat| chitchat.live_nodes_watcher()).await;
    let mut known = BTreeSet::new();
    loop {
        let of = |id: &ChitchatId| id.gossip_advertise_addr;
        let live: BTreeSet<SocketAddr> = watcher.borrow_and_update().keys().map(of).collect();
        known.difference(&live).for_each(|gone| tell(*gone, false));
        live.difference(&known).for_each(|new| tell(*new, true));
        known = live;
        watcher.changed().await?;
    }
}
