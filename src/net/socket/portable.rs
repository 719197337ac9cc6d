//! Any Unix: the bytes of a datagram and its source.

use std::io;
use std::ops::Range;

use super::{Buffers, DATAGRAM, Datagram, Failure, Outgoing, Socket, Way, canonical, mapped};
use crate::proto::{Expected, Transmit};

/// There is nothing to switch on.
pub(super) fn set_options(_socket: &socket2::Socket, _v6: bool) {}

/// No privilege lifts the limit here.
pub(super) fn force_receive_buffer(_socket: &socket2::Socket, _bytes: usize) -> bool {
    false
}

/// The system has no such filter.
pub(super) fn shut(_socket: &Socket, _expected: &Expected) -> bool {
    false
}

pub(super) fn open(_socket: &Socket) {}

pub(super) fn drops(_socket: &Socket) -> Option<u32> {
    None
}

/// One at a time.
pub(super) fn recv(socket: &Socket, buffers: &mut Buffers) -> io::Result<()> {
    let (len, from) = socket.io.recv_from(&mut buffers.data[..DATAGRAM])?;
    buffers.datagrams.push(Datagram { len, from: canonical(from), local: None, stamp: None });
    Ok(())
}

/// An unconnected socket is told of no errors here.
pub(super) fn recv_failure(_socket: &Socket, _buffers: &mut Buffers) -> Option<Failure> {
    None
}

/// The system chooses the source: the local address of a datagram is unknown, so none is ever asked for.
pub(super) fn send(socket: &Socket, batch: &Outgoing, which: Range<usize>, _way: Way) -> io::Result<usize> {
    let Transmit { to, .. } = batch.to[which.start];
    let to = if socket.v6 { mapped(to) } else { to };
    socket.io.send_to(&batch.data[which.start], to).map(|_| 1)
}
