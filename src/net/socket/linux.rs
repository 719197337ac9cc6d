//! Linux: control messages with every datagram, and the error queue.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::{
    Ipv4PacketInfo, Ipv4RecvErr, Ipv6RecvErr, Ipv6RecvPacketInfo, RcvBufForce, ReceiveTimestampns, RxqOvfl,
};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, getsockopt, recvmsg, sendmsg, setsockopt,
};
use nix::sys::time::TimeSpec;
use socket2::{SockFilter, SockRef};

use super::filter::{ROOM, program};
use super::{Buffers, Datagram, Failure, Socket, canonical, errno_kind, source};
use crate::proto::Expected;

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
    let _ = setsockopt(socket, RxqOvfl, &1);
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

pub(super) fn recv(socket: &Socket, buffers: &mut Buffers) -> io::Result<Datagram> {
    let mut iov = [IoSliceMut::new(&mut buffers.data[..])];
    let message = recvmsg::<SockaddrStorage>(
        socket.io.as_raw_fd(),
        &mut iov,
        Some(&mut buffers.control.0),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let from = message.address.as_ref().and_then(address_of).ok_or(Errno::EAFNOSUPPORT)?;
    let mut datagram = Datagram { len: message.bytes, from, local: None, stamp: None, drops: None };
    for control in message.cmsgs().into_iter().flatten() {
        match control {
            ControlMessageOwned::ScmTimestampns(t) => datagram.stamp = since_epoch(&t),
            ControlMessageOwned::RxqOvfl(total) => datagram.drops = Some(total),
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
    Ok(datagram)
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
            ControlMessageOwned::Ipv4RecvErr(e, _) | ControlMessageOwned::Ipv6RecvErr(e, _) => Some(e),
            _ => None,
        });
        // An entry made by this host was also the result of the send itself, which is reported there.
        let from_network = error
            .filter(|e| matches!(e.ee_origin, libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6))
            .zip(message.address.as_ref().and_then(address_of));
        if let Some((error, to)) = from_network {
            let errno = i32::try_from(error.ee_errno).unwrap_or(0);
            return Some(Failure { to, kind: errno_kind(Errno::from_raw(errno)), len: message.bytes });
        }
    }
}

pub(super) fn send(socket: &Socket, bytes: &[u8], to: SocketAddr, from: Option<IpAddr>) -> io::Result<()> {
    let to_raw = SockaddrStorage::from(to);
    let iov = [IoSlice::new(bytes)];
    let fd = socket.io.as_raw_fd();
    match (from, to) {
        (Some(IpAddr::V4(from)), SocketAddr::V4(_)) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: from.to_bits().to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            let control = [ControlMessage::Ipv4PacketInfo(&info)];
            sendmsg(fd, &iov, &control, MsgFlags::MSG_DONTWAIT, Some(&to_raw))?;
        }
        (Some(from), SocketAddr::V6(v6)) if from.is_ipv4() == v6.ip().to_ipv4_mapped().is_some() => {
            let from = match from {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            // Only a link-local address means nothing without its interface, and that is the destination's.
            let ipi6_ifindex = if from.is_unicast_link_local() { v6.scope_id() } else { 0 };
            let info =
                libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: from.octets() }, ipi6_ifindex };
            let control = [ControlMessage::Ipv6PacketInfo(&info)];
            sendmsg(fd, &iov, &control, MsgFlags::MSG_DONTWAIT, Some(&to_raw))?;
        }
        _ => {
            sendmsg(fd, &iov, &[], MsgFlags::MSG_DONTWAIT, Some(&to_raw))?;
        }
    }
    Ok(())
}

fn address_of(raw: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = raw.as_sockaddr_in().map(|a| SocketAddr::from(*a));
    v4.or_else(|| raw.as_sockaddr_in6().map(|a| SocketAddr::from(*a))).map(canonical)
}

/// A stamp from before the epoch is as good as none.
fn since_epoch(t: &TimeSpec) -> Option<Duration> {
    Some(Duration::new(u64::try_from(t.tv_sec()).ok()?, u32::try_from(t.tv_nsec()).ok()?))
}
