//! The socket on the loopback interface. Waiting is a poll with a deadline; every port is the system's choice.

use std::net::Ipv6Addr;
use std::os::fd::AsFd;
use std::time::SystemTime;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;

const PATIENCE_MS: u16 = 5_000;

fn v4() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)
}

fn any_v6() -> SocketAddr {
    SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0)
}

fn open(address: SocketAddr) -> Socket {
    Socket::bind(address, 4).unwrap()
}

fn at(socket: &Socket, ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), socket.local_addr().port())
}

/// An address of `ip` where nobody listens: the system's choice of a port, given back.
fn closed(ip: &str) -> SocketAddr {
    UdpSocket::bind((ip.parse::<IpAddr>().unwrap(), 0)).unwrap().local_addr().unwrap()
}

/// Waits until the socket has a datagram or an error.
fn wait(socket: &Socket) {
    let mut fds = [PollFd::new(socket.io.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut fds, PollTimeout::from(PATIENCE_MS)).unwrap();
    assert_eq!(ready, 1, "nothing came within {PATIENCE_MS} ms");
}

fn receive(socket: &Socket, buffers: &mut Buffers) -> Datagram {
    wait(socket);
    assert_eq!(socket.recv(buffers).unwrap(), 1, "there is room for one");
    buffers.datagram(0).0
}

fn is_empty(socket: &Socket, buffers: &mut Buffers) -> bool {
    socket.recv(buffers).is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
}

fn batch(all: &[(&[u8], SocketAddr, Option<IpAddr>)]) -> Outgoing {
    let (mut left, mut batch) = (all.iter(), Outgoing::new());
    let any = batch.fill(|out| {
        let (bytes, to, from) = *left.next()?;
        out.extend_from_slice(bytes);
        Some(Transmit { to, from })
    });
    assert!(any);
    batch
}

fn has_v6() -> bool {
    UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

#[test]
fn addresses_have_one_form() {
    let address = |s: &str| s.parse::<SocketAddr>().unwrap();
    assert_eq!(canonical(address("[::ffff:10.0.0.1]:7")), address("10.0.0.1:7"));
    assert_eq!(canonical(address("[2001:db8::1]:7")), address("[2001:db8::1]:7"));
    let labelled = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 7, 99, 3);
    assert_eq!(canonical(labelled.into()), SocketAddrV6::new(Ipv6Addr::LOCALHOST, 7, 0, 3).into());
    assert_eq!(mapped(address("10.0.0.1:7")), address("[::ffff:10.0.0.1]:7"));
    assert_eq!(canonical(mapped(address("10.0.0.1:7"))), address("10.0.0.1:7"));
}

#[test]
fn errors_have_their_kinds() {
    let cases = [
        (Errno::ECONNREFUSED, SendErrorKind::Refused, true),
        (Errno::EHOSTUNREACH, SendErrorKind::HostUnreachable, true),
        (Errno::ENETUNREACH, SendErrorKind::NetUnreachable, true),
        (Errno::EMSGSIZE, SendErrorKind::TooBig, true),
        (Errno::ENOBUFS, SendErrorKind::NoBuffer, false),
        (Errno::EAGAIN, SendErrorKind::NoBuffer, false),
        (Errno::EPERM, SendErrorKind::Permission, false),
        (Errno::EPROTO, SendErrorKind::Other, true),
    ];
    for (errno, kind, another) in cases {
        let e = io::Error::from(errno);
        assert_eq!(send_error_kind(&e), kind, "{errno}");
        assert_eq!(may_be_about_another(&e), another, "{errno}");
    }
}

#[test]
fn bytes_come_through_on_any_unix() {
    let (a, b, mut buffers) = (open(v4()), open(v4()), Buffers::new(1));
    let batch = batch(&[(b"no", b.local_addr(), None), (b"hello", b.local_addr(), None)]);
    let way = a.way(&batch.to[1]).unwrap();
    assert_eq!(portable::send(&a, &batch, 1..2, way).unwrap(), 1);
    wait(&b);
    portable::recv(&b, &mut buffers).unwrap();
    let (datagram, _) = buffers.datagram(0);
    assert_eq!((&buffers.data[..datagram.len], datagram.from), (&b"hello"[..], a.local_addr()));
    assert_eq!(portable::recv(&b, &mut buffers).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert!(portable::recv_failure(&b, &mut buffers).is_none());
    assert_eq!(portable::drops(&b), None);
    let socket = socket2::Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    portable::set_options(&socket, false);
    assert!(!portable::force_receive_buffer(&socket, 1 << 20));
    let expected = Expected { sources: vec![b.local_addr()], kinds: [1, 2], key_ids: vec![3], longest: 100 };
    assert!(!portable::shut(&a, &expected));
    portable::open(&a);
}

#[test]
fn a_long_datagram_is_no_valid_prefix() {
    let (a, b, mut buffers) = (open(v4()), open(v4()), Buffers::new(1));
    a.send_one(&[7; 3_000], b.local_addr(), None).unwrap();
    assert_eq!(receive(&b, &mut buffers).len, DATAGRAM);
}

#[test]
fn v4_socket_has_no_way_to_v6() {
    let a = open(v4());
    let e = a.send_one(b"x", "[::1]:9".parse().unwrap(), None).unwrap_err();
    assert_eq!(send_error_kind(&e), SendErrorKind::NetUnreachable);
}

#[test]
fn the_receive_buffer_follows_the_roster() {
    let (few, many) = (Socket::bind(v4(), 1).unwrap(), Socket::bind(v4(), 128).unwrap());
    assert!(few.capacity() >= 400, "{}", few.capacity());
    assert!(many.capacity() >= few.capacity(), "{} {}", many.capacity(), few.capacity());
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;

    #[test]
    fn a_datagram_has_its_stamp_and_its_local_address() {
        let (a, b, mut buffers) = (open(v4()), open("0.0.0.0:0".parse().unwrap()), Buffers::new(1));
        a.send_one(b"ping", at(&b, "127.0.0.2"), None).unwrap();
        let datagram = receive(&b, &mut buffers);
        assert_eq!(datagram.local, Some("127.0.0.2".parse().unwrap()));
        let stamp = SystemTime::UNIX_EPOCH + datagram.stamp.expect("the kernel stamps");
        let age = crate::net::Clock.wall_now().duration_since(stamp).unwrap_or_default();
        assert!(age < Duration::from_millis(u64::from(PATIENCE_MS) * 2), "{age:?}");
    }

    #[test]
    fn an_answer_leaves_from_the_address_that_was_asked() {
        let (a, b, mut buffers) = (open(v4()), open("0.0.0.0:0".parse().unwrap()), Buffers::new(1));
        a.send_one(b"ping", at(&b, "127.0.0.2"), None).unwrap();
        let question = receive(&b, &mut buffers);
        b.send_one(b"pong", question.from, question.local).unwrap();
        assert_eq!(receive(&a, &mut buffers).from, at(&b, "127.0.0.2"));
        b.send_one(b"pong", question.from, None).unwrap();
        assert_eq!(receive(&a, &mut buffers).from, at(&b, "127.0.0.1"));
    }

    #[test]
    fn one_socket_speaks_both_families() {
        if !has_v6() {
            return;
        }
        let (both, four, six) = (open(any_v6()), open(v4()), open("[::1]:0".parse().unwrap()));
        let mut buffers = Buffers::new(1);
        four.send_one(b"4", at(&both, "127.0.0.2"), None).unwrap();
        let datagram = receive(&both, &mut buffers);
        assert_eq!((datagram.from, datagram.local), (four.local_addr(), Some("127.0.0.2".parse().unwrap())));
        both.send_one(b"answer", datagram.from, datagram.local).unwrap();
        assert_eq!(receive(&four, &mut buffers).from, at(&both, "127.0.0.2"));

        six.send_one(b"6", at(&both, "::1"), None).unwrap();
        let datagram = receive(&both, &mut buffers);
        assert_eq!((datagram.from, datagram.local), (six.local_addr(), Some("::1".parse().unwrap())));
        both.send_one(b"answer", datagram.from, datagram.local).unwrap();
        assert_eq!(receive(&six, &mut buffers).from, at(&both, "::1"));
    }

    #[test]
    fn a_closed_port_quotes_the_datagram() {
        let mut cases = vec![(v4(), closed("127.0.0.1"))];
        if has_v6() {
            cases.push((any_v6(), closed("127.0.0.1")));
            cases.push((any_v6(), closed("::1")));
        }
        for (address, nobody) in cases {
            let (a, mut buffers) = (open(address), Buffers::new(1));
            a.send_one(b"is anybody there", nobody, None).unwrap();
            wait(&a);
            let failure = a.recv_failure(&mut buffers).expect("the refusal");
            assert_eq!((failure.to, failure.kind), (nobody, SendErrorKind::Refused), "{address}");
            assert_eq!(&buffers.data[..failure.len], b"is anybody there", "{address}");
            assert!(a.recv_failure(&mut buffers).is_none());
            assert!(is_empty(&a, &mut buffers), "the error is gone");
        }
    }

    #[test]
    fn a_refusal_does_not_stop_the_next_send() {
        let (a, b, mut buffers) = (open(v4()), open(v4()), Buffers::new(1));
        a.send_one(b"to nobody", closed("127.0.0.1"), None).unwrap();
        wait(&a);
        let e = a.send_one(b"to b", b.local_addr(), None).unwrap_err();
        assert!(may_be_about_another(&e), "{e}");
        assert_eq!(a.recv_failure(&mut buffers).map(|f| f.kind), Some(SendErrorKind::Refused));
        a.send_one(b"to b", b.local_addr(), None).unwrap();
        assert_eq!(receive(&b, &mut buffers).len, 4);
    }

    #[test]
    fn a_refusal_does_not_stop_the_next_receive() {
        let (a, b, mut buffers) = (open(v4()), open(v4()), Buffers::new(1));
        a.send_one(b"to nobody", closed("127.0.0.1"), None).unwrap();
        wait(&a);
        b.send_one(b"to a", a.local_addr(), None).unwrap();
        assert_eq!(send_error_kind(&a.recv(&mut buffers).unwrap_err()), SendErrorKind::Refused);
        assert!(a.recv_failure(&mut buffers).is_some());
        assert_eq!(receive(&a, &mut buffers).len, 4);
    }

    #[test]
    fn what_is_too_big_is_told_once() {
        let (a, b, mut buffers) = (open(v4()), open(v4()), Buffers::new(1));
        let e = a.send_one(&vec![0; 65_530], b.local_addr(), None).unwrap_err();
        assert_eq!(send_error_kind(&e), SendErrorKind::TooBig);
        assert!(a.recv_failure(&mut buffers).is_none(), "the send itself has told");
        a.send_one(b"small", b.local_addr(), None).unwrap();
        assert_eq!(receive(&b, &mut buffers).len, 5);
    }

    #[test]
    fn an_error_in_the_midst_of_a_batch_belongs_to_one() {
        let (a, b, mut buffers) = (open(v4()), open(v4()), Buffers::new(BATCH));
        let (to, long) = (b.local_addr(), vec![0; 65_530]);
        let all = batch(&[(b"1", to, None), (&long, to, None), (b"3", to, None), (b"4", to, None)]);
        assert_eq!(a.send(&all, 0).unwrap(), Sent { end: 1, is_all: false });
        assert_eq!(send_error_kind(&a.send(&all, 1).unwrap_err()), SendErrorKind::TooBig);
        assert_eq!(a.send(&all, 2).unwrap(), Sent { end: 4, is_all: true });

        // What the network says of one fails the next.
        let nobody = closed("127.0.0.1");
        let all = batch(&[(b"5", to, None), (b"6", nobody, None), (b"7", to, None), (b"8", to, None)]);
        assert_eq!(a.send(&all, 0).unwrap(), Sent { end: 2, is_all: false });
        assert_eq!(a.recv_failure(&mut buffers).map(|failure| failure.to), Some(nobody));
        assert_eq!(a.send(&all, 2).unwrap(), Sent { end: 4, is_all: true });

        assert_eq!(b.recv(&mut buffers).unwrap(), 6);
        let came: Vec<u8> = (0..6).map(|n| buffers.datagram(n).1[0]).collect();
        assert_eq!(came, b"134578");
    }

    #[test]
    fn a_batch_leaves_from_the_addresses_that_were_asked() {
        let (a, b, mut buffers) = (open("0.0.0.0:0".parse().unwrap()), open(v4()), Buffers::new(3));
        let (to, two, three) = (b.local_addr(), "127.0.0.2".parse().unwrap(), "127.0.0.3".parse().unwrap());
        let all =
            batch(&[(b"1", to, Some(two)), (b"2", to, Some(two)), (b"3", to, Some(three)), (b"4", to, None)]);
        for (first, end) in [(0, 2), (2, 3), (3, 4)] {
            assert_eq!(a.send(&all, first).unwrap(), Sent { end, is_all: true });
        }
        let mut came = Vec::new();
        for count in [3, 1] {
            assert_eq!(b.recv(&mut buffers).unwrap(), count, "as many as there is room for");
            for n in 0..count {
                let (Datagram { from, stamp, local, .. }, bytes) = buffers.datagram(n);
                assert_eq!((stamp.is_some(), local), (true, Some(to.ip())), "each has its own");
                came.push((bytes[0], from.ip()));
            }
        }
        assert_eq!(came, [(b'1', two), (b'2', two), (b'3', three), (b'4', to.ip())]);
        assert!(is_empty(&b, &mut buffers));
    }

    #[test]
    fn sockets_of_both_families_share_a_thread() {
        if !has_v6() {
            return;
        }
        let (four, both, mut buffers) = (open(v4()), open(any_v6()), Buffers::new(1));
        let two = Some("127.0.0.2".parse().unwrap());
        for _ in 0..2 {
            both.send_one(b"4", four.local_addr(), two).unwrap();
            let Datagram { from, local, .. } = receive(&four, &mut buffers);
            assert_eq!((Some(from.ip()), local), (two, Some(four.local_addr().ip())));
            four.send_one(b"6", from, None).unwrap();
            let Datagram { from, local, .. } = receive(&both, &mut buffers);
            assert_eq!((from, local), (four.local_addr(), two));
        }
    }

    #[test]
    fn a_shut_queue_takes_what_is_expected_and_nothing_else() {
        const LONGEST: usize = 100;
        let to_all = if has_v6() { any_v6() } else { "0.0.0.0:0".parse().unwrap() };
        let (socket, mut buffers) = (open(to_all), Buffers::new(1));
        let mut pairs = vec![("127.0.0.1", "127.0.0.2")];
        pairs.extend(has_v6().then_some(("::1", "::1")));
        for (near, far) in pairs {
            let any_port = |ip: &str| open(SocketAddr::new(ip.parse().unwrap(), 0));
            let (friend, stranger, elsewhere) = (any_port(near), any_port(near), any_port(far));
            let to = at(&socket, near);
            let v6 = SocketAddr::new("2001:db8::7".parse().unwrap(), 7);
            let other = |n: u8| SocketAddr::from(([10, 0, 0, n], 7));
            // So many that no jump over all of them is short; one that differs from the sender in its port, and one in its address.
            let mut sources: Vec<SocketAddr> = (0..120).map(other).chain([v6]).collect();
            sources.push(SocketAddr::new(friend.local_addr().ip(), 7));
            sources.push(SocketAddr::new("10.0.1.1".parse().unwrap(), elsewhere.local_addr().port()));
            sources.push(friend.local_addr());
            let expected = Expected { sources, kinds: [1, 2], key_ids: vec![3, 4, 5], longest: LONGEST };
            let frame = |kind: u8, key_id: u8, len: usize| {
                let mut frame = vec![0; len];
                (frame[0], frame[1]) = (kind, key_id);
                frame
            };
            let cases = [
                (&friend, frame(1, 3, 40), true),
                (&friend, frame(2, 5, LONGEST), true),
                (&friend, frame(2, 4, LONGEST + 1), false),
                (&friend, frame(0, 4, 40), false),
                (&friend, frame(3, 4, 40), false),
                (&friend, frame(1, 2, 40), false),
                (&friend, frame(1, 6, 40), false),
                (&friend, vec![1], false),
                (&stranger, frame(1, 3, 40), false),
                (&elsewhere, frame(1, 3, 40), false),
            ];
            let before = socket.drops().expect("Linux tells");
            assert!(socket.shut(&expected));
            for (from, bytes, _) in &cases {
                from.send_one(bytes, to, None).unwrap();
            }
            for (_, bytes, _) in cases.iter().filter(|(_, _, passes)| *passes) {
                let datagram = receive(&socket, &mut buffers);
                assert_eq!((&buffers.data[..datagram.len], datagram.from), (&bytes[..], friend.local_addr()));
            }
            assert!(is_empty(&socket, &mut buffers));
            let refused = cases.iter().filter(|(_, _, passes)| !passes).count();
            assert_eq!(socket.drops(), Some(before + refused as u32), "what is refused counts as dropped");
            socket.open();
            stranger.send_one(b"anything", to, None).unwrap();
            assert_eq!(receive(&socket, &mut buffers).len, 8);
        }
    }

    #[test]
    fn of_a_list_too_long_for_the_kernel_the_first_are_let_in() {
        let (first, last, to) = (open(v4()), open(v4()), open(v4()));
        let mut sources: Vec<_> = (1..5_000).map(|port| SocketAddr::from(([10, 0, 0, 1], port))).collect();
        sources.insert(0, first.local_addr());
        sources.push(last.local_addr());
        assert!(to.shut(&Expected { sources, kinds: [1, 2], key_ids: vec![3], longest: 100 }));
        let mut buffers = Buffers::new(1);
        [&last, &first].iter().for_each(|from| from.send_one(&[1, 3, 0], to.local_addr(), None).unwrap());
        assert_eq!(receive(&to, &mut buffers).from, first.local_addr());
        assert!(is_empty(&to, &mut buffers));
    }

    #[test]
    fn drops_are_counted() {
        let (a, b, mut buffers) = (open(v4()), open(v4()), Buffers::new(1));
        assert_eq!(b.drops(), Some(0));
        let mut sent = 0_u32;
        while b.drops() == Some(0) {
            assert!((sent as usize) <= b.capacity(), "the buffer holds more than its capacity");
            a.send_one(&[0; 64], b.local_addr(), None).unwrap();
            sent += 1;
        }
        let mut got = 0;
        while !is_empty(&b, &mut buffers) {
            got += 1;
        }
        let dropped = b.drops().expect("Linux tells");
        assert_eq!(got + dropped, sent);
    }
}
