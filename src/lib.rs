//! `lastseen`: a gossip-style failure detector over UDP.
//!
//! [`proto`] is the detector as a state machine: it knows no clock, socket or runtime. `net` (feature `net`) drives it
//! with one tokio task, and is what most programs embed; `metrics` (feature `metrics`) writes what it says for
//! Prometheus. The daemon is built from the three.
//!
//! The guide is `docs/embedding.md` in the repository, and `examples/` has whole programs. In short, with `net`:
//!
#![cfg_attr(feature = "net", doc = "```no_run")]
#![cfg_attr(not(feature = "net"), doc = "```ignore")]
//! # async fn example(key: [u8; 32]) -> Result<(), Box<dyn std::error::Error>> {
//! use lastseen::net::{Options, spawn};
//! use lastseen::proto::{Keyring, PeerConfig, SecretKey, Service, StaticPeer};
//!
//! let address = Some("10.0.0.2:5278".parse()?);
//! let peer = StaticPeer { server_id: Some("two".into()), name: "two".into(), address };
//! let config = PeerConfig::new("one", "prod", "0.0.0.0:5278".parse()?, vec![peer]);
//! let keys = Keyring::new("prod", &[SecretKey::new(key)], false)?;
//! let (node, _task) = spawn(config, keys, Options::default()).await?;
//!
//! // What this node offers, and where a session goes.
//! node.publish_service(Service::new("web", "10.0.0.1:8080")?).await.ok_or("the loop has ended")??;
//! let route = node.route("web", b"session 7").ok_or("no instance passes")?;
//! println!("{}, or else {:?}", route.first.service.address, route.second);
//!
//! // What only one side may do.
//! if node.quorum_guard().is_held() {
//!     println!("this node is on the side that has the majority");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Whoever drives the core without `net` writes a loop like this one, here for two nodes that are joined by nothing but
//! a queue, on a clock of their own:
//!
//! ```
//! use lastseen::proto::{Instance, Keyring, PeerConfig, SecretKey, StaticPeer};
//! use lastseen::{Node, Time};
//! use std::net::SocketAddr;
//! use std::time::Duration;
//!
//! let addresses: [SocketAddr; 2] = [([10, 0, 0, 1], 5278).into(), ([10, 0, 0, 2], 5278).into()];
//! let mut now = Time::from_micros(1_000_000);
//! let mut nodes: Vec<Node> = Vec::new();
//! for (own, other) in [(0, 1), (1, 0)] {
//!     let name = |n: usize| format!("node-{n}");
//!     let peer = StaticPeer {
//!         server_id: Some(name(other).into()),
//!         name: name(other).into(),
//!         address: Some(addresses[other]),
//!     };
//!     let config = PeerConfig::new(&name(own), "prod", addresses[own], vec![peer]);
//!     let keys = Keyring::new("prod", &[SecretKey::new([7; 32])], false)?;
//!     // In production the instance and the seed come from the operating system.
//!     nodes.push(Node::new(config, keys, Instance(own as u64 + 1), own as u64, now)?);
//! }
//! let mut datagram = Vec::new();
//! let end = now + Duration::from_secs(5);
//! while now < end {
//!     for (own, other) in [(0, 1), (1, 0)] {
//!         // 1. What the socket holds has been handed in below, as it was sent. 2. What is due:
//!         nodes[own].handle_timeout(now);
//!         // 3. What it wants sent, and what it has to tell.
//!         while nodes[own].poll_transmit(now, &mut datagram).is_some() {
//!             let _counted = nodes[other].handle_datagram(addresses[own], None, &mut datagram, now, now);
//!         }
//!         while let Some(event) = nodes[own].poll_event() {
//!             println!("{:?}: {}", event.peer, event.why);
//!         }
//!     }
//!     // 4. Sleep until the next deadline, or until the socket has something.
//!     now = nodes.iter().filter_map(Node::poll_timeout).min().unwrap_or(end).max(now);
//! }
//! assert!(nodes[0].snapshot(now).status.is_quorum_available());
//! # Ok::<(), lastseen::proto::ConfigError>(())
//! ```

pub mod proto;

#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "net")]
pub mod net;
#[cfg(feature = "sim")]
pub mod sim;

pub use proto::{
    ClusterStatus, ConnectionPool, Event, Node, PeerConfig, PeerConnection, PeerInfo, PeerRegistry,
    PeerStatus, Snapshot, Time,
};

/// The examples in the README are compiled as tests.
#[cfg(all(doctest, feature = "net"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// And those of the guide.
#[cfg(all(doctest, feature = "net"))]
#[doc = include_str!("../docs/embedding.md")]
struct Guide;
