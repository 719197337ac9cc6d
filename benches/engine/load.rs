//! The load: peers that hold the keys and ping without end, all behind one socket, each at an address of its own.
//!
//! A ping is sealed when it is sent, as any other; many of one peer leave in one system call (the kernel cuts them
//! apart behind the loopback device), so that the load is cheaper than what it measures.

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use lastseen::net::Clock;
use lastseen::proto::messages::Message;
use lastseen::proto::records::Digest;
use lastseen::proto::seal::{FrameKey, FrameKind, Header};
use lastseen::proto::{Instance, Keyring, ServerId, StaticPeer, Tag};
use nix::cmsg_space;
use nix::libc::{in_addr, in_pktinfo};
use nix::sys::socket::sockopt::{Ipv4PacketInfo, RcvBufForce};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmsg, setsockopt,
};

use crate::bare::RECEIVE_BUFFER;

pub(crate) const CLUSTER: &str = "bench";
pub(crate) const NODE: &str = "node";

const BATCH: usize = 64;
const DATAGRAM: usize = 2048;
/// The kernel cuts no more of one.
const SEGMENTS: usize = 48;
/// As after some days of a run; all that follow are as long.
const FIRST_NUMBER: u64 = 1 << 21;
/// An answer that takes longer is lost, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(1);
/// So is one of a window, so that others take its place: queues overflow where a thread waits for its core. A lazy loop rests
/// half as long.
const LOSS: Duration = Duration::from_millis(100);
/// So many times in a row.
const TRIES: usize = 20;

struct Player {
    id: ServerId,
    tag: Tag,
    run: Instance,
    address: Ipv4Addr,
    /// What seals for the node. Before that is known: for whom it may be.
    key: FrameKey,
    number: u64,
    /// What opens the node's, once it is known.
    node_key: Option<FrameKey>,
    /// One above the newest number of the node's.
    echo: u64,
    /// Pings below this number were answered, or are lost; so were those below the other when that was last looked at.
    answered: u64,
    looked: u64,
    /// The newest of the batch that came.
    newest: Option<usize>,
    is_confirmed: bool,
}

pub(crate) struct Load {
    socket: UdpSocket,
    to: SockaddrIn,
    key_id: u8,
    players: Vec<Player>,
    headers: MultiHeaders<SockaddrIn>,
    data: Vec<u8>,
    /// Whose, and how long, each of the newest datagrams is.
    came: Vec<(usize, usize)>,
    out: Vec<u8>,
    /// The length of the newest ping.
    ping: usize,
}

impl Load {
    pub(crate) fn new(peers: usize, ring: &Keyring) -> Load {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER).expect("the benchmark runs as root");
        setsockopt(&socket, Ipv4PacketInfo, &true).unwrap();
        socket.set_read_timeout(Some(LOSS)).unwrap();
        let player = |n: usize| {
            let (id, run) = (ServerId::new(&format!("peer-{n}")).unwrap(), Instance(1000 + n as u64));
            let tag = ring.tag(0, id.as_str());
            let key = ring.frame_key(0, (tag, run), (Tag::default(), Instance(0)));
            let address = Ipv4Addr::new(127, 0, 1, n as u8 + 1);
            let (number, answered, looked) = (FIRST_NUMBER, FIRST_NUMBER, 0);
            let (node_key, echo, newest, is_confirmed) = (None, 0, None, false);
            Player {
                id,
                tag,
                run,
                address,
                key,
                number,
                node_key,
                echo,
                answered,
                looked,
                newest,
                is_confirmed,
            }
        };
        Load {
            socket,
            to: SockaddrIn::new(127, 0, 0, 1, 9),
            key_id: ring.id(0),
            players: (0..peers).map(player).collect(),
            headers: MultiHeaders::preallocate(BATCH, Some(cmsg_space!(in_pktinfo))),
            data: vec![0; BATCH * DATAGRAM],
            came: Vec::with_capacity(BATCH),
            out: Vec::with_capacity(1 << 16),
            ping: 0,
        }
    }

    /// Sends to whoever answers there.
    pub(crate) fn aim(&mut self, to: SocketAddr) {
        let SocketAddr::V4(to) = to else { unreachable!("the load has an IPv4 socket") };
        self.to = to.into();
    }

    /// The peers, as the node's roster has them.
    pub(crate) fn roster(&self) -> Vec<StaticPeer> {
        let port = self.socket.local_addr().unwrap().port();
        let entry = |player: &Player| {
            let (id, address) = (player.id.as_str(), SocketAddr::new(IpAddr::V4(player.address), port));
            StaticPeer { server_id: Some(id.into()), name: id.into(), address: Some(address) }
        };
        self.players.iter().map(entry).collect()
    }

    /// All peers say hello to the node, and echo its welcome: it confirms their runs.
    pub(crate) fn connect(&mut self, node: SocketAddr, ring: &Keyring) {
        self.aim(node);
        for _ in 0..TRIES {
            (0..self.players.len()).for_each(|player| self.say_hello(player));
            let end = Clock.now() + PATIENCE;
            while Clock.now() < end {
                self.receive();
                for n in 0..self.came.len() {
                    self.meet(n, ring);
                }
                if self.players.iter().all(|player| player.is_confirmed) {
                    return;
                }
            }
        }
        panic!("the node confirms not all of its peers");
    }

    fn say_hello(&mut self, player: usize) {
        let Player { id, number, key, tag, run, is_confirmed, .. } = &mut self.players[player];
        if *is_confirmed {
            return;
        }
        let (sender, instance) = (*tag, *run);
        let header =
            Header { kind: FrameKind::Hello, key_id: self.key_id, sender, instance, number: *number };
        let message = Message::hello(header.len(), *number, id);
        *number += 1;
        self.out.clear();
        header.encode(&mut self.out);
        message.encode(&mut self.out);
        key.seal_in_place(&mut self.out, 0, header.len(), header.number);
        let len = self.out.len();
        self.transmit(player, len);
    }

    /// What came may be a welcome, or the answer to the ping that followed it.
    fn meet(&mut self, n: usize, ring: &Keyring) {
        let (peer, len) = self.came[n];
        let frame = &mut self.data[n * DATAGRAM..][..len];
        let (header, header_len) = Header::parse(frame).expect("the node's");
        let player = &mut self.players[peer];
        if header.kind == FrameKind::Hello {
            return;
        }
        let (me, node) = ((player.tag, player.run), (header.sender, header.instance));
        let opened = ring.frame_key(0, node, me).open_in_place(frame, header_len, header.number);
        match Message::decode(opened.expect("it is for this peer")).unwrap() {
            Message::Welcome { .. } => {
                player.key = ring.frame_key(0, me, node);
                player.node_key = Some(ring.frame_key(0, node, me));
                self.ping(peer, 1);
            }
            _ => player.is_confirmed = true,
        }
    }

    /// Keeps so many pings on their way, for so long. How many answers came.
    pub(crate) fn run(&mut self, window: usize, over: Duration) -> u64 {
        let (each, end, mut count) = ((window / self.players.len()) as u64, Clock.now() + over, 0);
        let mut look = Clock.now();
        while Clock.now() < end {
            if Clock.now() >= look {
                look = Clock.now() + LOSS;
                self.give_up();
            }
            for player in 0..self.players.len() {
                let Player { number, answered, .. } = self.players[player];
                self.ping(player, each.saturating_sub(number - answered) as usize);
            }
            count += self.receive() as u64;
            (0..self.players.len()).for_each(|player| self.note_answer(player));
        }
        count
    }

    /// The newest frame that came to a player tells which pings were answered: the node's by its echo, and the bare loop's
    /// is the ping itself.
    fn note_answer(&mut self, player: usize) {
        let player = &mut self.players[player];
        let Some(newest) = player.newest.take() else { return };
        let frame = &mut self.data[newest * DATAGRAM..][..self.came[newest].1];
        let (header, header_len) = Header::parse(frame).expect("it was parsed before");
        let echo = match &player.node_key {
            Some(key) => {
                let opened = key.open_in_place(frame, header_len, header.number);
                let message = Message::decode(opened.expect("it is for this player"));
                message.unwrap().echo().map_or(0, |(echo, _)| echo)
            }
            None => header.number + 1,
        };
        player.answered = player.answered.max(echo);
    }

    /// What is not answered for that long is lost.
    fn give_up(&mut self) {
        for player in &mut self.players {
            if player.answered == player.looked {
                player.answered = player.number;
            }
            player.looked = player.answered;
        }
    }

    /// So many pings of the first peer, one alone each time: how long each answer took, in microseconds.
    pub(crate) fn single(&mut self, pings: usize, apart: Duration) -> Vec<f64> {
        (0..pings)
            .map(|_| {
                std::thread::sleep(apart);
                let start = Clock.now();
                self.ping(0, 1);
                while self.receive() == 0 {
                    assert!(Clock.now() < start + PATIENCE, "no answer within {PATIENCE:?}");
                }
                Clock.now().since(start).as_secs_f64() * 1e6
            })
            .collect()
    }

    pub(crate) fn print_sizes(&self) {
        println!(
            "       {} bytes a ping, {} an answer",
            self.ping,
            self.came.last().map_or(0, |(_, len)| *len)
        );
    }

    /// Sends so many pings of a player.
    fn ping(&mut self, player: usize, mut pings: usize) {
        while pings > 0 {
            let Player { tag, run, key, number, echo, .. } = &mut self.players[player];
            let message = Message::Ping { echo: *echo, hold: 0, digest: Digest::default() };
            self.out.clear();
            let count = pings.min(SEGMENTS);
            for _ in 0..count {
                let (kind, key_id) = (FrameKind::Bound, self.key_id);
                let header = Header { kind, key_id, sender: *tag, instance: *run, number: *number };
                let start = self.out.len();
                header.encode(&mut self.out);
                message.encode(&mut self.out);
                key.seal_in_place(&mut self.out, start, header.len(), *number);
                *number += 1;
            }
            pings -= count;
            self.ping = self.out.len() / count;
            self.transmit(player, self.ping);
        }
    }

    /// Sends what is in `out` from a player's address, cut into datagrams of `len` bytes.
    fn transmit(&self, player: usize, len: usize) {
        let source = self.players[player].address;
        let info = in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: in_addr { s_addr: source.to_bits().to_be() },
            ipi_addr: in_addr { s_addr: 0 },
        };
        let len = len as u16;
        let control = [ControlMessage::Ipv4PacketInfo(&info), ControlMessage::UdpGsoSegments(&len)];
        let (out, flags) = ([IoSlice::new(&self.out)], MsgFlags::empty());
        sendmsg(self.socket.as_raw_fd(), &out, &control, flags, Some(&self.to)).unwrap();
    }

    /// Waits for datagrams; how many came, none if that takes too long.
    fn receive(&mut self) -> usize {
        self.came.clear();
        self.players.iter_mut().for_each(|player| player.newest = None);
        let mut rooms = self.data.chunks_exact_mut(DATAGRAM);
        let mut slices: [_; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(rooms.next().expect("one room each"))]);
        let (fd, flags) = (self.socket.as_raw_fd(), MsgFlags::MSG_WAITFORONE);
        let Ok(messages) = recvmmsg(fd, &mut self.headers, slices.iter_mut(), flags, None) else { return 0 };
        for message in messages {
            let to = message.cmsgs().unwrap().find_map(|control| match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => Some(info.ipi_addr.s_addr.to_ne_bytes()),
                _ => None,
            });
            let player = usize::from(to.expect("the kernel tells")[3]) - 1;
            self.came.push((player, message.bytes));
        }
        for (n, (player, len)) in self.came.iter().enumerate() {
            let player = &mut self.players[*player];
            if let Ok((header, _)) = Header::parse(&self.data[n * DATAGRAM..][..*len]) {
                player.echo = player.echo.max(header.number + 1);
                player.newest = Some(n).filter(|_| header.kind == FrameKind::Bound);
            }
        }
        self.came.len()
    }
}
