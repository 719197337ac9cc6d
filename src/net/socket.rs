//! The socket: one UDP socket for both families, with what the kernel knows about every datagram.
//!
//! The core sees canonical addresses only: an IPv4-mapped IPv6 address is the IPv4 address that it maps. On Linux
//! `linux.rs` reads receive stamps, the local address, the drop counter and the error queue; other systems get
//! `portable.rs`, where a datagram is only its bytes and its source, and errors of datagrams sent stay unknown.

#[cfg(target_os = "linux")]
mod filter;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(not(target_os = "linux"), test))]
mod portable;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use socket2::{Domain, Protocol, Type};

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
use portable as system;

use crate::proto::{ErrorSource, Expected, SendErrorKind, Transmit};

/// Longer than any datagram of the protocol, so that a longer one is seen as such and not as a valid prefix.
const DATAGRAM: usize = 2048;
/// All control messages of one datagram take less than half of this.
const CONTROL: usize = 512;
/// Datagrams that go through one system call at most.
pub(super) const BATCH: usize = 64;
/// So many where there are not more: what is prepared for each is paid for whether it comes or not.
pub(super) const FEW: usize = 8;
/// What one queued datagram costs the receive buffer: a payload of some 100 bytes and the kernel's overhead.
const TRUESIZE: usize = 1280;
/// Datagrams a peer may queue while this process does not run: half a minute's stall of a one-second heartbeat.
const QUEUED_PER_PEER: usize = 32;
/// Bounds of the receive buffer asked for, in bytes (the kernel doubles it). The memory is taken only when filled.
const RECEIVE_BUFFER: std::ops::RangeInclusive<usize> = 256 * 1024..=8 * 1024 * 1024;
/// No queued datagram costs the receive buffer less than this, and none that the protocol allows more than so many times this.
const TRUESIZE_MIN: usize = 512;
const TRUESIZE_SPREAD: usize = 16;

/// A datagram that was received; [`Buffers::datagram`] has its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Datagram {
    /// Its length.
    pub(super) len: usize,
    /// Where it came from.
    pub(super) from: SocketAddr,
    /// The local address that it was sent to, if that can be a source.
    pub(super) local: Option<IpAddr>,
    /// When the kernel received it, on the wall clock, since the Unix epoch.
    pub(super) stamp: Option<Duration>,
}

/// An error that the network sent back about a datagram: what it quotes is at the front of [`Buffers::data`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    /// Where the datagram was sent.
    pub(super) to: SocketAddr,
    /// What happened to it.
    pub(super) kind: SendErrorKind,
    /// Which host reported that.
    pub(super) source: ErrorSource,
    /// The length of the quoted payload; routers may quote only a part, or nothing.
    pub(super) len: usize,
}

/// Where datagrams and control messages are received; reused for all of them.
#[derive(Debug)]
pub(super) struct Buffers {
    /// A room for each payload of a batch, or one for what an error quotes. Memory that was never filled is never taken.
    pub(super) data: Box<[u8]>,
    /// The newest batch; the first is in the first room, and so on.
    datagrams: Vec<Datagram>,
    /// Whether the newest read brought [`FEW`] or more.
    many: bool,
    control: Box<Control>,
}

/// Control messages are read in place, so they need the alignment of their header.
#[derive(Debug)]
#[repr(align(16))]
struct Control([u8; CONTROL]);

impl Buffers {
    /// Empty ones, for `batch` datagrams at once.
    pub(super) fn new(batch: usize) -> Buffers {
        Buffers {
            data: vec![0; batch * DATAGRAM].into_boxed_slice(),
            datagrams: Vec::with_capacity(batch),
            many: false,
            control: Box::new(Control([0; CONTROL])),
        }
    }

    /// One of the newest batch, and its bytes.
    pub(super) fn datagram(&mut self, n: usize) -> (Datagram, &mut [u8]) {
        let datagram = self.datagrams[n];
        (datagram, &mut self.data[n * DATAGRAM..][..datagram.len])
    }
}

/// Datagrams to send, at most [`BATCH`]; their buffers are reused.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// The bytes of each, and rooms for more.
    data: Vec<Vec<u8>>,
    to: Vec<Transmit>,
}

impl Outgoing {
    /// None yet.
    pub(super) fn new() -> Outgoing {
        Outgoing { data: vec![Vec::new(); BATCH], to: Vec::with_capacity(BATCH) }
    }

    /// Takes datagrams as long as there are some and there is room; `poll` gets an empty buffer. Returns whether there is any.
    pub(super) fn fill(&mut self, mut poll: impl FnMut(&mut Vec<u8>) -> Option<Transmit>) -> bool {
        self.to.clear();
        self.to.extend(self.data.iter_mut().map_while(|bytes| {
            bytes.clear();
            poll(bytes)
        }));
        !self.to.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.to.len()
    }

    /// Where one of them goes.
    pub(super) fn to(&self, n: usize) -> SocketAddr {
        self.to[n].to
    }
}

/// What was sent of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// The first that was not.
    pub(super) end: usize,
    /// Whether these are all that were tried.
    pub(super) is_all: bool,
}

/// From where a datagram is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    /// `None`: the system's choice.
    from: Option<IpAddr>,
    /// Its interface, where that matters.
    interface: u32,
}

/// The bound socket; never blocks.
#[derive(Debug)]
pub(super) struct Socket {
    io: UdpSocket,
    local: SocketAddr,
    v6: bool,
    capacity: usize,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl Socket {
    /// Binds `address`, with a receive buffer for `peers` peers. `[::]` takes both families, and is `0.0.0.0` on a
    /// system without IPv6.
    ///
    /// # Errors
    /// The system's, if there is no such socket or the address cannot be bound.
    pub(super) fn bind(address: SocketAddr, peers: usize) -> io::Result<Socket> {
        let address = canonical(address);
        match Socket::bind_one(address, peers) {
            Err(e) if address.ip().is_unspecified() && address.is_ipv6() && lacks_family(&e) => {
                Socket::bind_one(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()), peers)
            }
            bound => bound,
        }
    }

    fn bind_one(address: SocketAddr, peers: usize) -> io::Result<Socket> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        socket.set_nonblocking(true)?;
        // All options come before the bind: no datagram is queued without its stamp and its local address.
        system::set_options(&socket, address.is_ipv6());
        let capacity = size_receive_buffer(&socket, peers) / TRUESIZE_MIN;
        socket.bind(&address.into())?;
        let io = UdpSocket::from(socket);
        let local = io.local_addr()?;
        Ok(Socket { io, local, v6: address.is_ipv6(), capacity: capacity.max(1) })
    }

    /// The next datagrams, as many as there are and `buffers` have room for. How many; fewer may also mean that the next read
    /// fails.
    ///
    /// # Errors
    /// `WouldBlock` when there is none. Any other error is about a datagram sent earlier (see
    /// [`recv_failure`](Socket::recv_failure)) or transient; the socket goes on.
    pub(super) fn recv(&self, buffers: &mut Buffers) -> io::Result<usize> {
        buffers.datagrams.clear();
        system::recv(self, buffers)?;
        let count = buffers.datagrams.len();
        buffers.many = count >= FEW;
        Ok(count)
    }

    /// The next error that the network sent back, `None` when there is none.
    ///
    /// An error that stays queued fails a later send or receive, whoever that is for.
    pub(super) fn recv_failure(&self, buffers: &mut Buffers) -> Option<Failure> {
        system::recv_failure(self, buffers)
    }

    /// Sends those of `batch` from its `first` on that leave from the same source. Which were sent; where that is not all that
    /// were tried, an error stopped it, which is told of whatever is sent next, or was about an earlier datagram.
    ///
    /// # Errors
    /// The system's: about the first one, or about an earlier one whose error was not read yet.
    pub(super) fn send(&self, batch: &Outgoing, first: usize) -> io::Result<Sent> {
        let Some(way) = self.way(&batch.to[first]) else { return Err(Errno::ENETUNREACH.into()) };
        let tried = batch.to[first..].iter().take_while(|other| self.way(other) == Some(way)).count();
        let sent = system::send(self, batch, first..first + tried, way)?;
        Ok(Sent { end: first + sent, is_all: sent == tried })
    }

    /// From where a datagram is sent; `None`: this socket has no way to it.
    fn way(&self, &Transmit { to, from }: &Transmit) -> Option<Way> {
        let from = from.filter(|_| self.local.ip().is_unspecified());
        match (from, to) {
            (_, SocketAddr::V6(_)) if !self.v6 => None,
            (Some(from), to) if from.is_ipv4() == to.ip().to_canonical().is_ipv4() => {
                // Only a link-local address means nothing without its interface, and that is the destination's.
                let local = matches!(from, IpAddr::V6(v6) if v6.is_unicast_link_local());
                let interface = if let (SocketAddr::V6(v6), true) = (to, local) { v6.scope_id() } else { 0 };
                Some(Way { from: Some(from), interface })
            }
            _ => Some(Way { from: None, interface: 0 }),
        }
    }

    /// How many datagrams the receive buffer can hold at most: who has received so many has seen all that was in
    /// it at the start.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// So many datagrams of the protocol fit into the receive buffer at least: where fewer came out, it was not full.
    pub(super) fn crowd(&self) -> usize {
        (self.capacity / TRUESIZE_SPREAD).max(1)
    }

    /// From now on only what is as expected is queued; all else counts as dropped. Returns false if the system cannot do that: then
    /// everything is queued.
    pub(super) fn shut(&self, expected: &Expected) -> bool {
        system::shut(self, expected)
    }

    /// From now on everything is queued.
    pub(super) fn open(&self) {
        system::open(self);
    }

    /// How many datagrams the socket has dropped in all; wraps. `None`: the system does not tell.
    pub(super) fn drops(&self) -> Option<u32> {
        system::drops(self)
    }

    /// The address that it is bound to.
    pub(super) fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

/// Asks for a receive buffer that holds what `peers` send during a stall. Returns its size in bytes.
fn size_receive_buffer(socket: &socket2::Socket, peers: usize) -> usize {
    let wanted = peers
        .saturating_mul(QUEUED_PER_PEER * TRUESIZE)
        .clamp(*RECEIVE_BUFFER.start(), *RECEIVE_BUFFER.end());
    // The system's own default is kept where it is larger. A smaller buffer than wanted only means that a stall
    // loses datagrams earlier; these are counted.
    if socket.recv_buffer_size().is_ok_and(|size| size < wanted)
        && !system::force_receive_buffer(socket, wanted)
    {
        let _ = socket.set_recv_buffer_size(wanted);
    }
    socket.recv_buffer_size().unwrap_or(wanted)
}

/// An IPv4-mapped IPv6 address as the IPv4 address, and no flow label: one form for one endpoint.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), v6.port()),
            None => SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into(),
        },
    }
}

/// The form in which an IPv6 socket takes an address.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
        SocketAddr::V6(_) => address,
    }
}

/// The local address of a datagram, if an answer can leave from it.
#[cfg(target_os = "linux")]
fn source(address: IpAddr) -> Option<IpAddr> {
    let address = address.to_canonical();
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    (!address.is_unspecified() && !address.is_multicast() && !broadcast).then_some(address)
}

/// The system has no IPv6, or has it switched off.
fn lacks_family(e: &io::Error) -> bool {
    errno(e).is_some_and(|e| matches!(e, Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL | Errno::EPROTONOSUPPORT))
}

fn errno(e: &io::Error) -> Option<Errno> {
    e.raw_os_error().map(Errno::from_raw)
}

/// What a failed send means to the core.
pub(super) fn send_error_kind(e: &io::Error) -> SendErrorKind {
    errno(e).map_or(SendErrorKind::Other, errno_kind)
}

/// Whether a failed send may be the error of an earlier datagram: these the kernel makes from ICMP only, or also
/// from ICMP. The others are this host's word about this datagram.
pub(super) fn may_be_about_another(e: &io::Error) -> bool {
    e.kind() != io::ErrorKind::WouldBlock
        && !errno(e).is_some_and(|e| matches!(e, Errno::ENOBUFS | Errno::ENOMEM | Errno::EPERM))
}

fn errno_kind(e: Errno) -> SendErrorKind {
    match e {
        Errno::ECONNREFUSED => SendErrorKind::Refused,
        Errno::EHOSTUNREACH | Errno::EHOSTDOWN => SendErrorKind::HostUnreachable,
        Errno::ENETUNREACH | Errno::ENETDOWN => SendErrorKind::NetUnreachable,
        Errno::EMSGSIZE => SendErrorKind::TooBig,
        Errno::ENOBUFS | Errno::ENOMEM | Errno::EAGAIN => SendErrorKind::NoBuffer,
        Errno::EPERM | Errno::EACCES => SendErrorKind::Permission,
        _ => SendErrorKind::Other,
    }
}

#[cfg(test)]
impl Socket {
    /// Sends a batch of one.
    pub(super) fn send_one(&self, bytes: &[u8], to: SocketAddr, from: Option<IpAddr>) -> io::Result<()> {
        let (mut left, mut batch) = (Some(bytes), Outgoing::new());
        batch.fill(|out| {
            out.extend_from_slice(left.take()?);
            Some(Transmit { to, from })
        });
        self.send(&batch, 0).map(|sent| assert_eq!(sent, Sent { end: 1, is_all: true }))
    }
}

#[cfg(test)]
mod tests;
