//! What the kernel lets into the receive queue while that is shut to strangers: classic BPF, run on each datagram before it is
//! queued.

use std::net::SocketAddr;

use nix::libc;
use socket2::SockFilter;

use crate::proto::Expected;

/// The program sees the header of UDP before the payload; it begins with the port of the source.
const PAYLOAD: u32 = 8;
const PORT: u32 = 0;
/// Where the header of IP begins: what is before the header of UDP is reached from here.
const IP: u32 = libc::SKF_NET_OFF as u32;
const SOURCE_V4: u32 = IP + 12;
const SOURCE_V6: u32 = IP + 8;

/// For the addresses of sources: what the kernel takes at most, less the rest of the program; and what it takes where the
/// memory for socket options is small.
pub(super) const ROOM: [usize; 2] = [4000, 800];

/// Lets in what is as expected, of the sources as many of the first as have room, in operations.
pub(super) fn program(expected: &Expected, mut room: usize) -> Vec<SockFilter> {
    let Expected { sources, kinds, key_ids, longest } = expected;
    let longest = u32::try_from(*longest).map_or(u32::MAX, |longest| longest.saturating_add(PAYLOAD));
    let mut program =
        vec![op(libc::BPF_LD | libc::BPF_W | libc::BPF_LEN, 0), jump(libc::BPF_JGT, longest, 0, 1), ret(0)];
    for (at, bytes) in [(0, &kinds[..]), (1, key_ids)] {
        program.push(load(libc::BPF_B, PAYLOAD + at));
        let rest = (1..=bytes.len() as u8).rev();
        program.extend(
            bytes.iter().zip(rest).map(|(byte, rest)| jump(libc::BPF_JEQ, u32::from(*byte), rest, 0)),
        );
        program.push(ret(0));
    }
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for source in sources {
        let (entries, entry) = (if source.is_ipv4() { &mut v4 } else { &mut v6 }, pass_from(*source));
        let Some(left) = room.checked_sub(entry.len()) else { break };
        room = left;
        entries.extend(entry);
    }
    for (version, entries) in [(0x40, v4), (0x60, v6)] {
        program.push(load(libc::BPF_B, IP));
        program.push(op(libc::BPF_ALU | libc::BPF_AND, 0xF0));
        program.push(jump(libc::BPF_JEQ, version, 1, 0));
        program.push(op(libc::BPF_JMP | libc::BPF_JA, entries.len() as u32));
        program.extend(entries);
    }
    program.push(ret(0));
    program
}

/// Lets in what comes from `source`; all else goes on behind this.
fn pass_from(source: SocketAddr) -> Vec<SockFilter> {
    let (at, ip) = match source {
        SocketAddr::V4(v4) => (SOURCE_V4, v4.ip().octets().to_vec()),
        SocketAddr::V6(v6) => (SOURCE_V6, v6.ip().octets().to_vec()),
    };
    let words = ip.chunks(4).map(|word| word.iter().fold(0, |all, byte| all << 8 | u32::from(*byte)));
    let words = (at..).step_by(4).zip(words).map(|(at, word)| (libc::BPF_W, at, word));
    let tests: Vec<_> = words.chain([(libc::BPF_H, PORT, u32::from(source.port()))]).collect();
    let last = tests.len() - 1;
    let test = |(n, (size, at, value)): (usize, &(u32, u32, u32))| {
        // Who fails it jumps over those that follow, two operations each, and over the last.
        [load(*size, *at), jump(libc::BPF_JEQ, *value, 0, 2 * (last - n) as u8 + 1)]
    };
    tests.iter().enumerate().flat_map(test).chain([ret(u32::MAX)]).collect()
}

fn load(size: u32, at: u32) -> SockFilter {
    op(libc::BPF_LD | size | libc::BPF_ABS, at)
}

/// Lets in so many bytes; none: not at all.
fn ret(bytes: u32) -> SockFilter {
    op(libc::BPF_RET, bytes)
}

fn op(code: u32, k: u32) -> SockFilter {
    SockFilter::new(code as u16, 0, 0, k)
}

/// Skips so many operations if the comparison holds, and so many if it does not.
fn jump(comparison: u32, k: u32, holds: u8, fails: u8) -> SockFilter {
    SockFilter::new((libc::BPF_JMP | comparison) as u16, holds, fails, k)
}
