//! Models: all that can happen within stated bounds, instead of what a seed makes happen.
//!
//! `link` is the rules of confirming, explored with every interleaving; `cores` holds real cores against these rules, step by
//! step. `fates` and `rows` are real cores under every fate of their datagrams, `sync` real tables.

mod cores;
mod explore;
mod fates;
mod link;
mod rows;
mod sync;

use std::cell::Cell;

use super::*;
use crate::proto::messages::Message;
use crate::proto::seal::{FrameKind, Header};

/// The runs of every node, in order.
type Runs = Vec<Vec<Instance>>;

/// Opens a datagram of the cluster's: its header, the run that it is sealed to (from 1; 0: nobody), and what it says.
fn open(packet: &Packet, runs: &Runs) -> (Header, usize, Message) {
    let ring = Keyring::new("test", &[SecretKey::new([7; 32])], false).unwrap();
    let (header, len) = Header::parse(&packet.bytes).unwrap();
    let sender = (header.sender, header.instance);
    let nobody = (0, (Tag::default(), Instance(0)));
    let tag = ring.tag(0, &name(packet.to));
    let to = (1..).zip(runs[packet.to].iter().map(|run| (tag, *run)));
    let to: Vec<_> = if header.kind == FrameKind::Hello { vec![nobody] } else { to.collect() };
    let opened = to.into_iter().find_map(|(number, to)| {
        let mut bytes = packet.bytes.clone();
        let key = ring.frame_key(0, sender, to);
        let body = key.open_in_place(&mut bytes, len, header.number).ok()?;
        Some((header, number, Message::decode(body).unwrap()))
    });
    opened.expect("it is sealed to somebody")
}

/// Whether all tables of records are equal, and nobody owes anything.
fn is_settled(cluster: &Cluster) -> bool {
    let tables: Vec<_> = cluster.nodes.iter().flatten().map(Node::records_fingerprint).collect();
    tables.iter().all(|table| table.is_some() && *table == tables[0])
}

/// Every way in which up to `most` datagrams have one of `fates` instead of the ordinary one. `tell` goes one such way, given
/// which datagrams those are, by number; it answers how many there were. How many ways there are.
///
/// # Errors
/// The first way that breaks a rule.
fn every_way(
    fates: &[Fate],
    most: usize,
    tell: impl Fn(&[(usize, Fate)]) -> Result<usize, String>,
) -> Result<usize, String> {
    let (mut ways, mut waiting) = (0, vec![Vec::new()]);
    while let Some(odd) = waiting.pop() {
        let count = tell(&odd)?;
        ways += 1;
        if odd.len() == most {
            continue;
        }
        let first = odd.last().map_or(0, |(at, _)| at + 1);
        let more = (first..count).flat_map(|at| fates.iter().map(move |fate| (at, *fate)));
        waiting.extend(more.map(|last| [&odd[..], &[last]].concat()));
    }
    Ok(ways)
}

/// The fate of the next datagram, the first being number 0.
fn fate(count: &Cell<usize>, odd: &[(usize, Fate)]) -> Fate {
    let at = count.replace(count.get() + 1);
    odd.iter().find(|(odd, _)| *odd == at).map_or(Fate::After(PATH), |(_, fate)| *fate)
}
