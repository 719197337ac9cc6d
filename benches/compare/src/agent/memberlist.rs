//! memberlist, the port to Rust: TCP and UDP on tokio, no checksum, no compression, no encryption.

use std::net::SocketAddr;
use std::time::Duration;

use memberlist::Options;
use memberlist::delegate::{CompositeDelegate, EventDelegate, VoidDelegate};
use memberlist::net::NetTransportOptions;
use memberlist::proto::{MaybeResolvedAddress, NodeState};
use memberlist::tokio::{TokioSocketAddrResolver, TokioTcp, TokioTcpMemberlist};
use smol_str::SmolStr;

use super::{Agent, INTERVAL, tell};
use crate::Failure;

struct Tell;

type State = std::sync::Arc<NodeState<SmolStr, SocketAddr>>;

impl EventDelegate for Tell {
    type Id = SmolStr;
    type Address = SocketAddr;
    async fn notify_join(&self, node: State) {
        tell(*node.address(), true);
    }
    async fn notify_leave(&self, node: State) {
        tell(*node.address(), false);
    }
    async fn notify_update(&self, _: State) {}
}

type Void = VoidDelegate<SmolStr, SocketAddr>;
type Delegate = CompositeDelegate<SmolStr, SocketAddr, Void, Void, Tell>;
type Memberlist = TokioTcpMemberlist<SmolStr, TokioSocketAddrResolver, Delegate>;

pub(super) async fn run(agent: &Agent) -> Result<(), Failure> {
    let mut transport = NetTransportOptions::<SmolStr, TokioSocketAddrResolver, TokioTcp>::new(
        format!("n{}", agent.own).into(),
    );
    transport.add_bind_address(agent.address());
    // Its own `lan()` has these two the other way round; these are those of the original, in Go.
    let options = Options::lan().with_probe_interval(INTERVAL).with_probe_timeout(Duration::from_millis(500));
    let delegate = CompositeDelegate::new().with_event_delegate(Tell);
    let node = Memberlist::with_delegate(delegate, transport, options).await?;
    while node.num_online_members().await < 2 {
        for seed in agent.seeds() {
            // Who does not answer yet is asked again.
            let _ = node.join(MaybeResolvedAddress::Resolved(seed)).await;
        }
        tokio::time::sleep(INTERVAL).await;
    }
    std::future::pending().await
}
