//! The connection pool. A UDP "connection" is an endpoint: its address, its round-trip estimate, its back-off.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::config::{PeerConfig, StaticPeer};
use super::mtu::PathMtu;

/// The estimate's least allowance for variation (G in RFC 6298), in nanoseconds: a coarse timer on either side.
const GRANULARITY: u64 = 10_000_000;

/// Smoothed round-trip time and its variation, as RFC 6298 computes them (alpha 1/8, beta 1/4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundTrip {
    /// (smoothed, variation) in nanoseconds, once there is a sample.
    estimate: Option<(u64, u64)>,
    /// The last sample was too far off to be believed.
    doubted: bool,
}

impl RoundTrip {
    /// Takes one sample. One that is far above what is expected (twice the smoothed time and eight variations) counts
    /// only if the next is so too: a peer that stood still between reading its clock and sending is no slow path.
    pub fn sample(&mut self, rtt: Duration) {
        let rtt = nanos(rtt);
        let far = |(smoothed, variation): (u64, u64)| {
            let expected = smoothed.saturating_mul(2).saturating_add(variation.saturating_mul(8));
            rtt > expected.saturating_add(GRANULARITY)
        };
        self.doubted = !self.doubted && self.estimate.is_some_and(far);
        if self.doubted {
            return;
        }
        self.estimate = Some(match self.estimate {
            None => (rtt, rtt / 2),
            Some((smoothed, variation)) => (
                smoothed.saturating_mul(7).saturating_add(rtt) / 8,
                variation.saturating_mul(3).saturating_add(smoothed.abs_diff(rtt)) / 4,
            ),
        });
    }

    /// The smoothed round-trip time; `None`: no sample yet.
    pub fn smoothed(&self) -> Option<Duration> {
        self.estimate.map(|(smoothed, _)| Duration::from_nanos(smoothed))
    }

    /// How long to wait for an echo before the next try: smoothed + max(G, 4 · variation), and `laziness`, the
    /// longest that both sides together leave a datagram unread (round-trip times do not contain it: datagrams are
    /// stamped by the kernel and state how long they were held). At least an eighth of `timeout`; a third of it
    /// while there is no sample.
    pub fn retry_time(&self, timeout: Duration, laziness: Duration) -> Duration {
        let Some((smoothed, variation)) = self.estimate else { return timeout / 3 };
        let variation = variation.saturating_mul(4).max(GRANULARITY);
        let expected = smoothed.saturating_add(variation).saturating_add(nanos(laziness));
        Duration::from_nanos(expected.max(nanos(timeout) / 8))
    }
}

/// A duration in nanoseconds, up to 584 years.
fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

/// One entry of the pool.
#[derive(Clone, Debug)]
pub struct PeerConnection {
    /// Whose it is.
    pub server_id: Arc<str>,
    /// Where pings go: the address that was confirmed last, else the roster's.
    pub remote_address: Option<SocketAddr>,
    /// The roster's address. A learned address falls back to it when the link goes down.
    pub roster_address: Option<SocketAddr>,
    /// False once the link is known to be cut: `down_after` heartbeats in a row without an echo.
    pub is_active: bool,
    /// Heartbeats in a row without an echo.
    pub attempt_count: u32,
    /// Round-trip estimate.
    pub round_trip: RoundTrip,
    /// Spacing of the pings to a Down peer, in intervals; 1: the breaker is closed.
    pub spacing: u8,
    /// Whether long datagrams pass.
    pub(crate) path: PathMtu,
}

impl PeerConnection {
    /// An endpoint that nobody has tried yet.
    pub fn new(server_id: Arc<str>, address: Option<SocketAddr>) -> PeerConnection {
        PeerConnection {
            server_id,
            remote_address: address,
            roster_address: address,
            is_active: true,
            attempt_count: 0,
            round_trip: RoundTrip::default(),
            spacing: 1,
            path: PathMtu::default(),
        }
    }

    /// An echo came: the link works both ways.
    pub fn mark_active(&mut self) {
        self.is_active = true;
        self.attempt_count = 0;
    }

    /// The link is known to be cut: a learned address is dropped for the roster's.
    pub fn mark_inactive(&mut self) {
        self.is_active = false;
        self.remote_address = self.roster_address.or(self.remote_address);
    }

    /// A heartbeat passed without an echo; after `down_after` in a row the link is inactive.
    pub(crate) fn attempt_failed(&mut self, down_after: u32) {
        self.attempt_count = self.attempt_count.saturating_add(1);
        if self.attempt_count == down_after {
            self.mark_inactive();
        }
    }
}

/// The endpoints of the peers that this node observes, in the order of the roster.
#[derive(Clone, Debug)]
pub struct ConnectionPool {
    connections: Vec<PeerConnection>,
}

impl ConnectionPool {
    /// One endpoint for each peer of `config`'s roster.
    pub fn new(config: &PeerConfig) -> ConnectionPool {
        ConnectionPool::of(config.static_peers.iter().filter(|p| *p.roster_name() != config.own_name))
    }

    /// One endpoint for each of these peers.
    pub(crate) fn of<'a>(peers: impl Iterator<Item = &'a StaticPeer>) -> ConnectionPool {
        let connections = peers.map(|p| PeerConnection::new(p.roster_name().clone(), p.address));
        ConnectionPool { connections: connections.collect() }
    }

    /// The endpoint of `server_id`.
    pub fn get_connection(&self, server_id: &str) -> Option<&PeerConnection> {
        self.connections.iter().find(|c| &*c.server_id == server_id)
    }

    /// The endpoints whose link is not known to be cut.
    pub fn get_active_connections(&self) -> impl Iterator<Item = &PeerConnection> {
        self.connections.iter().filter(|c| c.is_active)
    }

    /// See [`PeerConnection::mark_active`]. False, and no change, if there is no such peer.
    pub fn mark_active(&mut self, server_id: &str) -> bool {
        self.change(server_id, PeerConnection::mark_active)
    }

    /// See [`PeerConnection::mark_inactive`]. False, and no change, if there is no such peer.
    pub fn mark_inactive(&mut self, server_id: &str) -> bool {
        self.change(server_id, PeerConnection::mark_inactive)
    }

    pub(crate) fn at(&self, index: usize) -> &PeerConnection {
        &self.connections[index]
    }

    pub(crate) fn at_mut(&mut self, index: usize) -> &mut PeerConnection {
        &mut self.connections[index]
    }

    /// All of them, to be changed with the roster.
    pub(crate) fn connections_mut(&mut self) -> &mut Vec<PeerConnection> {
        &mut self.connections
    }

    fn change(&mut self, server_id: &str, f: impl FnOnce(&mut PeerConnection)) -> bool {
        match self.connections.iter_mut().find(|c| &*c.server_id == server_id) {
            Some(connection) => {
                f(connection);
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn pool() -> ConnectionPool {
        let peer = |id: &str, port| StaticPeer {
            server_id: Some(id.into()),
            name: address(port).to_string().into(),
            address: Some(address(port)),
        };
        let peers = vec![peer("a", 6000), peer("b", 6001)];
        ConnectionPool::new(&PeerConfig::new("me", "test", address(5278), peers))
    }

    #[test]
    fn test_connection_pool_creation() {
        let pool = pool();
        assert_eq!(pool.get_active_connections().count(), 2);
        let a = pool.get_connection("a").unwrap();
        assert_eq!((a.remote_address, a.is_active, a.attempt_count), (Some(address(6000)), true, 0));
        assert!(pool.get_connection("x").is_none());
    }

    #[test]
    fn test_mark_connection_active() {
        let mut pool = pool();
        pool.at_mut(0).attempt_count = 3;
        pool.mark_inactive("a");
        assert!(pool.mark_active("a"));
        let a = pool.get_connection("a").unwrap();
        assert_eq!((a.is_active, a.attempt_count), (true, 0));
        assert!(!pool.mark_active("x"));
    }

    #[test]
    fn test_mark_connection_inactive() {
        let mut pool = pool();
        pool.at_mut(0).remote_address = Some(address(7000));
        assert!(pool.mark_inactive("a") && !pool.mark_inactive("x"));
        let a = pool.get_connection("a").unwrap();
        assert_eq!(
            (a.is_active, a.remote_address),
            (false, Some(address(6000))),
            "the learned address is dropped"
        );
    }

    #[test]
    fn test_get_active_connections() {
        let mut pool = pool();
        for _ in 0..5 {
            pool.at_mut(0).attempt_failed(5);
        }
        let ids: Vec<_> = pool.get_active_connections().map(|c| c.server_id.to_string()).collect();
        assert_eq!(ids, ["b"]);
    }

    #[test]
    fn one_outlier_is_doubted_two_are_believed() {
        let ms = Duration::from_millis;
        let mut round_trip = RoundTrip::default();
        (0..9).for_each(|_| round_trip.sample(ms(4)));
        round_trip.sample(ms(3000));
        assert_eq!(round_trip.smoothed(), Some(ms(4)));
        (0..9).for_each(|_| round_trip.sample(ms(4)));
        (0..2).for_each(|_| round_trip.sample(ms(800)));
        assert!(round_trip.smoothed() > Some(ms(100)), "the path has become slow");
    }

    #[test]
    fn the_retry_time_follows_rfc_6298() {
        let timeout = Duration::from_millis(500);
        let ms = Duration::from_millis;
        let mut round_trip = RoundTrip::default();
        assert_eq!(round_trip.retry_time(timeout, ms(100)), timeout / 3);
        round_trip.sample(ms(80));
        assert_eq!(round_trip.smoothed(), Some(ms(80)));
        assert_eq!(round_trip.retry_time(timeout, Duration::ZERO), ms(80 + 4 * 40));
        assert_eq!(
            round_trip.retry_time(timeout, ms(50 + 50)),
            ms(80 + 4 * 40 + 2 * 50),
            "both sides are lazy"
        );
        for _ in 0..60 {
            round_trip.sample(ms(80));
        }
        assert_eq!(round_trip.retry_time(timeout, ms(100)), ms(190), "a steady path: smoothed + G + 2 · 50");
        let mut fast = RoundTrip::default();
        fast.sample(Duration::from_micros(50));
        assert_eq!(
            fast.retry_time(timeout, ms(10)),
            Duration::from_micros(62_500),
            "never below an eighth of the timeout"
        );
    }
}
