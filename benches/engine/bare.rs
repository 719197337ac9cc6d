//! The bare loop: up to 64 datagrams in, the same ones back to where they came from.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, setsockopt};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

const BATCH: usize = 64;
const DATAGRAM: usize = 2048;
/// As the node's for so many peers.
pub(crate) const RECEIVE_BUFFER: usize = 64 * 32 * 1280;

pub(crate) fn serve(tell: mpsc::Sender<SocketAddr>, mut stopped: oneshot::Receiver<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER).expect("the benchmark runs as root");
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    tell.send(socket.local_addr().unwrap()).unwrap();
    let (mut received, mut sent) =
        (MultiHeaders::preallocate(BATCH, None), MultiHeaders::preallocate(BATCH, None));
    let mut data = vec![0; BATCH * DATAGRAM];
    let (mut lens, mut from) = ([0; BATCH], [None; BATCH]);
    while stopped.try_recv() == Err(TryRecvError::Empty) {
        let count = receive(&socket, &mut received, &mut data, &mut lens, &mut from);
        let answers: [_; BATCH] = std::array::from_fn(|n| [IoSlice::new(&data[n * DATAGRAM..][..lens[n]])]);
        let mut done = 0;
        while done < count {
            let to = &from[done..count];
            done += sendmmsg(socket.as_raw_fd(), &mut sent, &answers[done..count], to, [], MsgFlags::empty())
                .unwrap()
                .count();
        }
    }
}

/// Waits for datagrams; how many came.
fn receive(
    socket: &UdpSocket,
    headers: &mut MultiHeaders<SockaddrIn>,
    data: &mut [u8],
    lens: &mut [usize; BATCH],
    from: &mut [Option<SockaddrIn>; BATCH],
) -> usize {
    let mut rooms = data.chunks_exact_mut(DATAGRAM);
    let mut slices: [_; BATCH] =
        std::array::from_fn(|_| [IoSliceMut::new(rooms.next().expect("one room each"))]);
    let flags = MsgFlags::MSG_WAITFORONE;
    let Ok(messages) = recvmmsg(socket.as_raw_fd(), headers, slices.iter_mut(), flags, None) else {
        return 0;
    };
    let mut count = 0;
    for message in messages {
        (lens[count], from[count]) = (message.bytes, message.address);
        count += 1;
    }
    count
}
