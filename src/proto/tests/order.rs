//! The checks on a datagram's way in: of all that is wrong with it the first in order counts, and nothing else changes.

use super::*;
use crate::proto::messages::Message;
use crate::proto::seal::FrameKind;

/// What is wrong with a datagram: one bit for each reason, in the order of the checks.
#[derive(Clone, Copy, Debug)]
struct Faults(u32);

impl Faults {
    fn has(self, reason: Reject) -> bool {
        self.0 & 1 << reason as u32 != 0
    }

    fn first(self) -> Option<Reject> {
        Reject::ALL.into_iter().find(|reason| self.has(*reason))
    }
}

/// Node 1 as it was at node 0, and what it sent there.
struct Sender {
    run: Instance,
    /// A run that was replaced since.
    old_run: Instance,
    me: Instance,
    /// A number that was used, and one that was not.
    used: u64,
    fresh: u64,
}

/// A datagram of node 1 to node 0 with these faults, and its source.
fn datagram(sender: &Sender, kind: FrameKind, faults: Faults) -> (SocketAddr, Vec<u8>) {
    let keys = ring(&[7]);
    let tag = match () {
        () if faults.has(Reject::Own) => keys.tag(0, &name(0)),
        () if faults.has(Reject::Sender) => Tag([9; 8]),
        () => keys.tag(0, &name(1)),
    };
    let instance = match () {
        () if faults.has(Reject::Own) => sender.me,
        () if faults.has(Reject::Instance) => sender.old_run,
        () => sender.run,
    };
    let number = if faults.has(Reject::Replay) { sender.used } else { sender.fresh };
    let body = match kind {
        _ if faults.has(Reject::Decode) => vec![0xFF; 40],
        // An id that is not that of the sender; a sequence that node 0 never sent.
        FrameKind::Hello if faults.has(Reject::Meaning) => forge::hello_body(2, number, 0),
        FrameKind::Hello => forge::hello_body(1, number, 0),
        FrameKind::Bound => {
            let echo = if faults.has(Reject::Meaning) { 1 << 40 } else { 1 };
            forge::body(&Message::Ping { echo, hold: 0, digest: Default::default() })
        }
    };
    let me = match kind {
        FrameKind::Hello => (Tag::default(), Instance(0)),
        FrameKind::Bound => (keys.tag(0, &name(0)), sender.me),
    };
    let mut bytes = forge::seal(kind, (tag, instance), me, number, &body);
    if faults.has(Reject::Seal) {
        *bytes.last_mut().unwrap() ^= 1;
    }
    if faults.has(Reject::KeyId) {
        bytes[1] ^= 0xFF;
    }
    if faults.has(Reject::Version) {
        bytes[0] ^= 0x0F;
    }
    if faults.has(Reject::Size) {
        bytes.resize(1201, 0);
    }
    let port = if faults.has(Reject::Source) { 0 } else { address(1).port() };
    (SocketAddr::new(address(1).ip(), port), bytes)
}

/// All but what may be counted: the picture, without the counters of what could not be opened.
fn picture(cluster: &Cluster) -> String {
    let mut snapshot = cluster.node(0).snapshot(cluster.now);
    for peer in &mut snapshot.peers {
        let setup = &mut peer.explanation.setup;
        (setup.foreign_keys, setup.foreign_versions) = (0, 0);
    }
    snapshot.stats = Default::default();
    snapshot.strangers.clear();
    format!("{snapshot:?}")
}

#[test]
fn the_first_fault_counts_and_nothing_else_changes() {
    for kind in [FrameKind::Bound, FrameKind::Hello] {
        let mut cluster = whole(3, 11);
        let old_run = cluster.node(1).instance();
        cluster.crash(1);
        cluster.start(1);
        cluster.run_until(5 * SECOND, Cluster::is_whole);
        cluster.run(SECOND);
        let (run, me) = (cluster.node(1).instance(), cluster.node(0).instance());
        let sender = Sender { run, old_run, me, used: 1000, fresh: 1001 };
        // What is fine is taken, once.
        let (from, used) = datagram(&Sender { fresh: 1000, ..sender }, kind, Faults(0));
        assert_eq!(cluster.inject(0, from, &used), Ok(()), "{kind:?}");
        let mut seen = BTreeMap::new();
        for faults in (1..1 << Reject::ALL.len()).map(Faults) {
            let expected = faults.first().unwrap();
            let (from, bytes) = datagram(&sender, kind, faults);
            let (counted, sent) = (cluster.node(0).stats().rejected, cluster.sent[0]);
            let strangers = cluster.node(0).snapshot(cluster.now).strangers;
            cluster.now += MS / 1000;
            let before = picture(&cluster);
            assert_eq!(cluster.inject(0, from, &bytes), Err(expected), "{kind:?} {faults:?}");
            let counts = cluster.node(0).stats().rejected;
            for reason in Reject::ALL {
                let more = u64::from(reason == expected);
                assert_eq!(counts[reason as usize], counted[reason as usize] + more, "{faults:?}");
            }
            assert_eq!(cluster.sent[0], sent, "{kind:?} {faults:?} is answered");
            // An echo of what was never sent is the one thing that a rejected datagram may tell: that we are a clone.
            if expected != Reject::Meaning || kind == FrameKind::Hello {
                assert_eq!(picture(&cluster), before, "{kind:?} {faults:?}");
            }
            // Who is not in the roster is a stranger if the seal holds, and nothing is known of it otherwise.
            let is_noted = cluster.node(0).snapshot(cluster.now).strangers != strangers;
            let may_be = expected == Reject::Sender && !faults.has(Reject::Seal);
            // A hello's id is not that of this tag.
            assert_eq!(is_noted, may_be && kind == FrameKind::Bound, "{kind:?} {faults:?}");
            *seen.entry(expected.as_str()).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), Reject::ALL.len());
        let (from, fine) = datagram(&sender, kind, Faults(0));
        assert_eq!(cluster.inject(0, from, &fine), Ok(()), "{kind:?}: the number was not used up");
    }
}

#[test]
fn sources_that_no_node_can_have() {
    let mut cluster = whole(2, 1);
    let good = forge::bound((1, cluster.node(1).instance()), (0, cluster.node(0).instance()), 1000, &[]);
    for from in ["10.0.0.2:0", "224.0.0.1:9", "255.255.255.255:9", "0.0.0.0:9", "[::]:9", "[ff02::1]:9"] {
        let answer = cluster.inject(0, from.parse().unwrap(), &good);
        assert_eq!(answer, Err(Reject::Source), "{from}");
    }
    assert_eq!(cluster.inject(0, address(1), &[0x4C; 20]), Err(Reject::Size), "too short for a seal");
}
