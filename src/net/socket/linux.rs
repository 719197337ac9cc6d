//! Linux: control messages with every datagram, and the error queue.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::sockopt::{
    Ipv4PacketInfo, Ipv4RecvErr, Ipv6RecvErr, Ipv6RecvPacketInfo, RcvBufForce, ReceiveTimestampns,
};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage, getsockopt,
    recvmmsg, recvmsg, sendmmsg, setsockopt,
};
use nix::sys::time::TimeSpec;
use nix::{cmsg_space, libc};
use socket2::{SockFilter, SockRef};

use super::filter::{ROOM, program};
use super::{
    BATCH, Buffers, DATAGRAM, Datagram, FEW, Failure, Outgoing, Socket, Way, canonical, errno_kind, mapped,
    source,
};
use crate::proto::{ErrorSource, Expected, Transmit};

/// `IP_MTU_DISCOVER`, which nix does not wrap.
#[derive(Clone, Copy, Debug)]
struct Ipv4MtuDiscover;
nix::setsockopt_impl!(
    Ipv4MtuDiscover,
    libc::IPPROTO_IP,
    libc::IP_MTU_DISCOVER,
    libc::c_int,
    nix::sys::socket::sockopt::SetStruct<'_, libc::c_int>
);

/// `IPV6_MTU_DISCOVER`, which nix does not wrap.
#[derive(Clone, Copy, Debug)]
struct Ipv6MtuDiscover;
nix::setsockopt_impl!(
    Ipv6MtuDiscover,
    libc::IPPROTO_IPV6,
    libc::IPV6_MTU_DISCOVER,
    libc::c_int,
    nix::sys::socket::sockopt::SetStruct<'_, libc::c_int>
);

/// `SO_MEMINFO`: nine counters of a socket (linux/sock_diag.h), which neither nix nor libc has.
#[derive(Clone, Copy, Debug)]
struct MemInfo;
/// The number of the option in asm-generic/socket.h, which x86, Arm, RISC-V, PowerPC and MIPS share.
const SO_MEMINFO: libc::c_int = 55;
/// The place of the drop counter (`SK_MEMINFO_DROPS`).
const MEMINFO_DROPS: usize = 8;
nix::getsockopt_impl!(
    MemInfo,
    libc::SOL_SOCKET,
    SO_MEMINFO,
    [u32; 9],
    nix::sys::socket::sockopt::GetStruct<[u32; 9]>
);

/// Switches on all that this file reads. Every option is a gain on its own, so a kernel (or a sandbox) that lacks
/// one is served without it.
pub(super) fn set_options(socket: &socket2::Socket, v6: bool) {
    let _ = setsockopt(socket, ReceiveTimestampns, &true);
    // An IPv6 socket that carries both families needs the options of both: ICMP(v4) looks at those of IPv4.
    let _ = setsockopt(socket, Ipv4RecvErr, &true);
    let _ = setsockopt(socket, Ipv4MtuDiscover, &libc::IP_PMTUDISC_PROBE);
    if v6 {
        let _ = setsockopt(socket, Ipv6RecvErr, &true);
        let _ = setsockopt(socket, Ipv6MtuDiscover, &libc::IP_PMTUDISC_PROBE);
        let _ = setsockopt(socket, Ipv6RecvPacketInfo, &true);
    } else {
        let _ = setsockopt(socket, Ipv4PacketInfo, &true);
    }
}

/// Sets the receive buffer past the system's limit. Returns false if this process may not.
pub(super) fn force_receive_buffer(socket: &socket2::Socket, bytes: usize) -> bool {
    setsockopt(socket, RcvBufForce, &bytes).is_ok()
}

pub(super) fn shut(socket: &Socket, expected: &Expected) -> bool {
    let attach = |program: &[SockFilter]| SockRef::from(&socket.io).attach_filter(program).is_ok();
    let shut = ROOM.into_iter().any(|room| {
        let program = program(expected, room);
        // The old one and the new one may be too much together.
        attach(&program) || {
            open(socket);
            attach(&program)
        }
    });
    if !shut {
        // An older program knows only who was expected then.
        open(socket);
    }
    shut
}

pub(super) fn open(socket: &Socket) {
    // It fails where nothing is attached.
    let _ = SockRef::from(&socket.io).detach_filter();
}

pub(super) fn drops(socket: &Socket) -> Option<u32> {
    getsockopt(&socket.io, MemInfo).ok().map(|info| info[MEMINFO_DROPS])
}

/// The kernel's view of a batch, for a socket of one family: it leaves the lengths of what it wrote in the headers, and takes
/// them for the room that there is when they are used again. All control messages that `set_options` asks for come with every
/// datagram, so within one family these lengths do not change.
struct Headers {
    v6: bool,
    received: MultiHeaders<SockaddrStorage>,
    /// Without a source of their own, and with one.
    sent: MultiHeaders<SockaddrStorage>,
    sent_from: MultiHeaders<SockaddrStorage>,
    to: Vec<Option<SockaddrStorage>>,
}

thread_local! {
    /// Full of pointers, they cannot move with the loop to another thread.
    static HEADERS: RefCell<Option<Headers>> = const { RefCell::new(None) };
}

impl Headers {
    fn new(v6: bool) -> Headers {
        let room = cmsg_space!(libc::timespec, libc::in6_pktinfo);
        let from = if v6 { cmsg_space!(libc::in6_pktinfo) } else { cmsg_space!(libc::in_pktinfo) };
        Headers {
            v6,
            received: MultiHeaders::preallocate(BATCH, Some(room)),
            sent: MultiHeaders::preallocate(BATCH, None),
            sent_from: MultiHeaders::preallocate(BATCH, Some(from)),
            to: Vec::with_capacity(BATCH),
        }
    }

    /// Lends those of this thread.
    fn with<T>(v6: bool, lend: impl FnOnce(&mut Headers) -> T) -> T {
        HEADERS.with_borrow_mut(|headers| {
            if headers.as_ref().is_none_or(|headers| headers.v6 != v6) {
                *headers = Some(Headers::new(v6));
            }
            lend(headers.as_mut().expect("they were just made"))
        })
    }
}

pub(super) fn recv(socket: &Socket, buffers: &mut Buffers) -> io::Result<()> {
    if buffers.many { recv_up_to::<BATCH>(socket, buffers) } else { recv_up_to::<FEW>(socket, buffers) }
}

fn recv_up_to<const MOST: usize>(socket: &Socket, buffers: &mut Buffers) -> io::Result<()> {
    Headers::with(socket.v6, |headers| {
        let mut rooms = buffers.data.chunks_exact_mut(DATAGRAM);
        let count = rooms.len();
        let mut slices: [_; MOST] =
            std::array::from_fn(|_| [IoSliceMut::new(rooms.next().unwrap_or_default())]);
        let (fd, slices) = (socket.io.as_raw_fd(), slices.iter_mut().take(count));
        let messages = recvmmsg(fd, &mut headers.received, slices, MsgFlags::MSG_DONTWAIT, None)?;
        buffers.datagrams.extend(messages.map(|message| datagram_of(&message)));
        Ok(())
    })
}

fn datagram_of(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Datagram {
    // An address of another family is none that a node can have: the core refuses it.
    let nobody = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    let from = message.address.as_ref().and_then(address_of).unwrap_or(nobody);
    let mut datagram = Datagram { len: message.bytes, from, local: None, stamp: None };
    for control in message.cmsgs().into_iter().flatten() {
        match control {
            ControlMessageOwned::ScmTimestampns(t) => datagram.stamp = since_epoch(&t),
            // ipi_spec_dst is the header's destination, or for a broadcast an address that can be a source.
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                datagram.local = source(Ipv4Addr::from_bits(u32::from_be(info.ipi_spec_dst.s_addr)).into());
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                datagram.local = source(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
            }
            _ => {}
        }
    }
    datagram
}

pub(super) fn recv_failure(socket: &Socket, buffers: &mut Buffers) -> Option<Failure> {
    loop {
        let mut iov = [IoSliceMut::new(&mut buffers.data[..])];
        // Whatever this read answers but an entry (empty, most of all), there is nothing to report.
        let message = recvmsg::<SockaddrStorage>(
            socket.io.as_raw_fd(),
            &mut iov,
            Some(&mut buffers.control.0),
            MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT,
        )
        .ok()?;
        let error = message.cmsgs().into_iter().flatten().find_map(|control| match control {
            ControlMessageOwned::Ipv4RecvErr(e, by) => {
                Some((e, by.map(|by| Ipv4Addr::from_bits(u32::from_be(by.sin_addr.s_addr)).into())))
            }
            ControlMessageOwned::Ipv6RecvErr(e, by) => {
                Some((e, by.map(|by| IpAddr::from(by.sin6_addr.s6_addr).to_canonical())))
            }
            _ => None,
        });
        // An entry made by this host was also the result of the send itself, which is reported there.
        let from_network = error
            .filter(|(e, _)| matches!(e.ee_origin, libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6))
            .zip(message.address.as_ref().and_then(address_of));
        if let Some(((error, by), to)) = from_network {
            let errno = i32::try_from(error.ee_errno).unwrap_or(0);
            let source = if by == Some(to.ip()) { ErrorSource::Peer } else { ErrorSource::Network };
            return Some(Failure {
                to,
                kind: errno_kind(Errno::from_raw(errno)),
                source,
                len: message.bytes,
            });
        }
    }
}

pub(super) fn send(socket: &Socket, batch: &Outgoing, which: Range<usize>, way: Way) -> io::Result<usize> {
    let send = if which.len() > FEW { send_up_to::<BATCH> } else { send_up_to::<FEW> };
    send(socket, batch, which, way)
}

fn send_up_to<const MOST: usize>(
    socket: &Socket,
    batch: &Outgoing,
    which: Range<usize>,
    way: Way,
) -> io::Result<usize> {
    let mut data = batch.data[which.clone()].iter();
    let slices: [_; MOST] = std::array::from_fn(|_| [IoSlice::new(data.next().map_or(&[], Vec::as_slice))]);
    let raw = |t: &Transmit| Some(SockaddrStorage::from(if socket.v6 { mapped(t.to) } else { t.to }));
    let (fd, flags, slices) = (socket.io.as_raw_fd(), MsgFlags::MSG_DONTWAIT, slices[..which.len()].iter());
    Headers::with(socket.v6, |Headers { to, sent, sent_from, .. }| {
        to.clear();
        to.extend(batch.to[which].iter().map(raw));
        let sent = match way.from {
            None => sendmmsg(fd, sent, slices, to, [], flags)?.count(),
            Some(IpAddr::V4(from)) if !socket.v6 => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: from.to_bits().to_be() },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                sendmmsg(fd, sent_from, slices, to, [ControlMessage::Ipv4PacketInfo(&info)], flags)?.count()
            }
            Some(from) => {
                let from = match from {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                };
                let ipi6_addr = libc::in6_addr { s6_addr: from.octets() };
                let info = libc::in6_pktinfo { ipi6_addr, ipi6_ifindex: way.interface };
                sendmmsg(fd, sent_from, slices, to, [ControlMessage::Ipv6PacketInfo(&info)], flags)?.count()
            }
        };
        Ok(sent)
    })
}

fn address_of(raw: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = raw.as_sockaddr_in().map(|a| SocketAddr::from(*a));
    v4.or_else(|| raw.as_sockaddr_in6().map(|a| SocketAddr::from(*a))).map(canonical)
}

/// A stamp from before the epoch is as good as none.
fn since_epoch(t: &TimeSpec) -> Option<Duration> {
    Some(Duration::new(u64::try_from(t.tv_sec()).ok()?, u32::try_from(t.tv_nsec()).ok()?))
}
