//! Golden bytes, strict decoding, and round trips.

use super::*;
use crate::proto::drain::{Drain, Reason};
use crate::proto::labels::Labels;
use crate::proto::leave::Leave;
use crate::proto::migration::{Migration, Migrations};
use crate::proto::records::{
    Away, Body, Kind, Life, LinkState, NodeName, Notice, Offer, Profile, Release, Seen, Standing,
};
use crate::proto::seal::{Header, Instance};
use crate::proto::service::{Service, ServiceState, Services};
use proptest::prelude::*;

fn bytes(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out);
    out
}

fn id(text: &str) -> ServerId {
    ServerId::new(text).unwrap()
}

/// What a node says of itself, in all forms but rows.
fn said(owner: NodeName) -> [Record; 4] {
    let bare = Profile {
        instance: Instance(9),
        roster: [7; 4],
        config: [8; 4],
        release: Release([0, 1, 0]),
        wire: 1,
        id: None,
        away: None,
        standing: Standing::Witness,
    };
    let draining = Some(Drain { until: 300, reason: Reason::new("why").unwrap() });
    let left = Some(Leave { reason: LeaveReason::Removal, at: 300 });
    let drains = Profile { away: Away::new(draining, left), standing: Standing::Free, ..bare.clone() };
    let migration = Migration {
        id: 3,
        service: Service::new("web", "h:1").unwrap().name,
        from: id("a"),
        to: Some(id("b")),
        reason: Reason::new("why").unwrap(),
        deadline: 300,
    };
    let notice = Notice {
        labels: Labels::new(vec![("role".into(), "db".into())]).unwrap(),
        migrations: Migrations::try_from(vec![migration]).unwrap(),
    };
    let state = ServiceState::Failed;
    let web = Service {
        state,
        weight: 2,
        version: 300,
        payload: [0, 255].into(),
        ..Service::new("web", "h:1").unwrap()
    };
    let offer = Offer { instance: Instance(9), services: Services::new(vec![web]).unwrap() };
    let bodies =
        [Body::Profile(bare), Body::Profile(drains), Body::Notice(Box::new(notice)), Body::Offer(offer)];
    bodies.map(|body| Record { owner, version: 1, body })
}

#[test]
fn golden_bytes() {
    let digest = Digest { bucket: 1, hash: [2, 3, 4] };
    let owner = NodeName([5; 5]);
    let seen = Seen { peer: NodeName([6; 5]), life: Life::Down, link: LinkState::TxLost };
    let record = Record { owner, version: 300, body: Body::Row(vec![seen]) };
    let cut = Record { owner, version: 1, body: Body::CutRow(vec![seen]) };
    let mut records = Vec::from(said(owner));
    records.push(cut);
    let more = More {
        spacing: 4,
        since_slot: Some(500),
        paused: 4200,
        lost: 5,
        refused: vec![Tag([9; 8])],
        records: vec![record.clone()],
        path: PathReport::Narrow,
        padded: 7,
        held: Some((2, 300)),
        padding: Padding(3),
    };
    let last = Box::new(said(owner)[1].clone());
    let cases: [(Message, &[u8]); 10] = [
        (
            Message::Hello { sequence: 300, server_id: id("ab"), padding: Padding(3) },
            b"\x00\xac\x02\x02ab\x03\0\0\0",
        ),
        (Message::Welcome { echo: 301, hold: 7, server_id: id("c") }, b"\x01\xad\x02\x07\x01c"),
        (Message::Ping { echo: 0, hold: 0, digest }, b"\x02\0\0\x01\x02\x03\x04"),
        (Message::Pong { echo: 128, hold: 1, digest }, b"\x03\x80\x01\x01\x01\x02\x03\x04"),
        (
            Message::PingMore { echo: 1, hold: 2, digest, more },
            b"\x04\x01\x02\x01\x02\x03\x04\x04\x01\xf4\x03\xe8\x20\x05\x01\x09\x09\x09\x09\x09\x09\x09\x09\x01\x05\x05\x05\x05\x05\xac\x02\0\x01\x06\x06\x06\x06\x06\x02\x03\x01\x07\x01\x02\xac\x02\x03\0\0\0",
        ),
        (
            Message::PongMore { echo: 1, hold: 2, digest, more: More::default() },
            b"\x05\x01\x02\x01\x02\x03\x04\0\0\0\0\0\0\0\0\0\0",
        ),
        (
            Message::Leave { echo: 1, hold: 2, reason: LeaveReason::Removal, profile: None },
            b"\x06\x01\x02\x01\0",
        ),
        (
            Message::Leave { echo: 1, hold: 2, reason: LeaveReason::Restart, profile: Some(last) },
            b"\x06\x01\x02\0\x01\
              \x05\x05\x05\x05\x05\x01\x01\x09\0\0\0\0\0\0\0\x07\x07\x07\x07\x08\x08\x08\x08\0\x01\0\x01\0\x01\x01\xac\x02\x03why\x01\x01\xac\x02\x02",
        ),
        (
            Message::SyncRequest { echo: 1, hold: 2, bucket: 3, after: Some(Mark(owner, Kind::Notice)) },
            b"\x0b\x01\x02\x03\x01\x05\x05\x05\x05\x05\x02",
        ),
        (
            Message::SyncResponse { echo: 1, hold: 2, bucket: 3, after: None, last: true, records },
            b"\x0c\x01\x02\x03\0\x01\x05\
              \x05\x05\x05\x05\x05\x01\x01\x09\0\0\0\0\0\0\0\x07\x07\x07\x07\x08\x08\x08\x08\0\x01\0\x01\0\0\x03\
              \x05\x05\x05\x05\x05\x01\x01\x09\0\0\0\0\0\0\0\x07\x07\x07\x07\x08\x08\x08\x08\0\x01\0\x01\0\x01\x01\xac\x02\x03why\x01\x01\xac\x02\x02\
              \x05\x05\x05\x05\x05\x01\x03\x01\x04role\x02db\x01\x03\x03web\x01a\x01\x01b\x03why\xac\x02\
              \x05\x05\x05\x05\x05\x01\x04\x09\0\0\0\0\0\0\0\x01\x03web\x03h:1\x02\x02\xac\x02\x02\0\xff\
              \x05\x05\x05\x05\x05\x01\x02\x01\x06\x06\x06\x06\x06\x02\x03",
        ),
    ];
    are_golden(cases);
}

fn are_golden<const N: usize>(cases: [(Message, &[u8]); N]) {
    for (message, golden) in cases {
        assert_eq!(bytes(&message), golden, "{message:?}");
        assert_eq!(Message::decode(golden), Ok(message));
    }
}

#[test]
fn golden_bytes_of_what_is_asked_about_others() {
    let tag = Tag([9; 8]);
    are_golden([
        (
            Message::RelayRequest { echo: 1, hold: 2, target: tag },
            b"\x07\x01\x02\x09\x09\x09\x09\x09\x09\x09\x09",
        ),
        (
            Message::RelayPing { echo: 1, hold: 2, origin: tag, request: 300 },
            b"\x08\x01\x02\x09\x09\x09\x09\x09\x09\x09\x09\xac\x02",
        ),
        (
            Message::RelayPong { echo: 1, hold: 2, origin: tag, request: 300 },
            b"\x09\x01\x02\x09\x09\x09\x09\x09\x09\x09\x09\xac\x02",
        ),
        (
            Message::RelayReply { echo: 1, hold: 2, target: tag, request: 300, alive: true },
            b"\x0a\x01\x02\x09\x09\x09\x09\x09\x09\x09\x09\xac\x02\x01",
        ),
        (
            Message::SilenceRequest { echo: 1, hold: 2, targets: vec![tag] },
            b"\x0d\x01\x02\x01\x09\x09\x09\x09\x09\x09\x09\x09",
        ),
        (
            Message::SilenceReply { echo: 1, hold: 2, request: 300, silent: vec![(tag, 301)] },
            b"\x0e\x01\x02\xac\x02\x01\x09\x09\x09\x09\x09\x09\x09\x09\xad\x02",
        ),
    ]);
}

#[test]
fn sizes() {
    // An idle datagram: 28 of IPv4 and UDP, header, body, seal; echoes of a ping are held under an interval.
    let idle = |number: u64, hold| {
        let header = 18 + (64 - number.leading_zeros()).div_ceil(7).max(1) as usize;
        28 + header + bytes(&Message::Ping { echo: number, hold, digest: Digest::default() }).len() + SEAL_LEN
    };
    assert_eq!(idle((1 << 21) - 1, 1_000_000), 28 + 21 + 11 + 16);
    assert_eq!(idle(1 << 21, 1_000_000), 78);
    assert_eq!(idle((1 << 28) - 1, 1_000_000), 78);
    assert_eq!(idle(1 << 28, 1_000_000), 80);
    assert_eq!(idle(1 << 35, 1_000_000), 82);
}

#[test]
fn hellos_have_one_length() {
    for text in ["a", &"x".repeat(64)] {
        for sequence in [0, 1 << 21, 1 << 40] {
            let message = Message::hello(22, sequence, &id(text));
            assert_eq!(22 + bytes(&message).len() + SEAL_LEN, HELLO_LEN, "{text} {sequence}");
        }
    }
}

#[test]
fn padded_pings_have_the_length_that_is_wanted() {
    let digest = Digest::default();
    for len in [256, 511, 1200] {
        for number in [0, 1 << 21, 1 << 40] {
            let more = More { lost: 3, ..More::default() };
            let ping = Message::PingMore { echo: number, hold: number, digest, more };
            let header = Header::len_of(number);
            let mut frame = vec![0; header];
            ping.encode(&mut frame);
            Message::pad(&mut frame, len);
            assert_eq!(frame.len() + SEAL_LEN, len);
            let Ok(Message::PingMore { mut more, .. }) = Message::decode(&frame[header..]) else {
                panic!("a ping stays a ping")
            };
            assert!(!std::mem::take(&mut more.padding).is_empty());
            assert_eq!(Message::PingMore { echo: number, hold: number, digest, more }, ping);
        }
    }
    let form = |room: usize| postcard::to_stdvec(&Padding::filling(room)).unwrap().len() - 1;
    let off: Vec<usize> = (0..1200).filter(|room| form(*room) != *room).collect();
    assert_eq!(off, [128], "one length cannot be had");
}

#[test]
fn terminal_escape() {
    for wrong in [
        "",
        "a b",
        "a\tb",
        "\u{1b}[31mred",
        "<b>",
        "a&b",
        "it's",
        "say\"",
        "a\u{202e}b",
        "a\u{200b}b",
        "\u{7f}",
    ] {
        assert!(ServerId::check(wrong).is_err(), "{wrong:?}");
        let mut body = vec![1, 1, 1, wrong.len() as u8];
        body.extend_from_slice(wrong.as_bytes());
        assert_eq!(Message::decode(&body), Err(Reject::Decode), "{wrong:?}");
    }
    assert!(ServerId::check(&"x".repeat(65)).is_err());
    for right in ["web-1", "web-1.example.com", "10.0.0.7:5278", "[::1]:5278", "köln_3"] {
        assert_eq!(ServerId::check(right), Ok(()), "{right:?}");
    }
}

#[test]
fn loose_forms_are_rejected() {
    for wrong in [
        &b""[..],
        b"\x02\0\0\x01\x02\x03\x04\0",   // a trailing byte
        b"\x02\x80\0\0\x01\x02\x03\x04", // an overlong varint
        b"\x0f\0\0",                     // an unknown variant
        b"\x00\x01\x01a\x01\x01",        // padding that is not zero
        b"\x06\x01\x02\x02",             // an unknown reason
        b"\x05\x01\x02\x01\x02\x03\x04\0\0\0\0\xff\xff\xff\xff\x0f", // a claim of 2^32 tags
        b"\x05\x01\x02\x01\x02\x03\x04\0\0\0\x41\0\0\0\0\0\0", // 65 lost of 64
        b"\x04\x01\x02\x01\x02\x03\x04\0\0\0\0\0\0\0\0\0\x01\x01", // padding that is not zero
        b"\x04\x01\x02\x01\x02\x03\x04\0\0\0\0\0\0\0\0\0\x80\0", // an overlong length of it
        b"\x04\x01\x02\x01\x02\x03\x04\0\0\0\0\0\0\x03\0\0\0", // an unknown report of the path
        b"\x0c\x01\x02\0\0\x01\x01\x05\x05\x05\x05\x05\x01\0\x01\x06\x06\x06\x06\x06\0\0", // what is fine is in no row
        b"\x0c\x01\x02\0\0\x01\x01\x05\x05\x05\x05\x05\0\0\0",                             // version 0
        b"\x0c\x01\x02\0\0\x01\x01\x05\x05\x05\x05\x05\x01\x01\x09\0\0\0\0\0\0\0\x07\x07\x07\x07\x08\x08\x08\x08\0\x01\0\x01\0\x01\x05\x01\n\x01", // a reason of two lines
        b"\x0c\x01\x02\0\0\x01\x01\x05\x05\x05\x05\x05\x01\x01\x09\0\0\0\0\0\0\0\x07\x07\x07\x07\x08\x08\x08\x08\0\x01\0\x01\0\0\x06", // an unknown standing
        b"\x0c\x01\x02\0\0\x01\x01\x05\x05\x05\x05\x05\x01\x03\x02\x01b\x01x\x01a\x01x\0", // labels out of order
        b"\x0c\x01\x02\0\0\x01\x01\x05\x05\x05\x05\x05\x01\x04\x09\0\0\0\0\0\0\0\x01\x01a\x03h:1\0\0\0\0", // a weight of 0
        b"\x0c\x01\x02\0\0\x01\x01\x05\x05\x05\x05\x05\x01\x04\x09\0\0\0\0\0\0\0\x01\x01a\x03h:0\0\x01\0\0", // a port of 0
    ] {
        assert_eq!(Message::decode(wrong), Err(Reject::Decode), "{wrong:?}");
    }
    let zeros = |head: &[u8], count: usize| [head, &vec![0; count]].concat();
    let ping = b"\x04\x01\x02\x01\x02\x03\x04\0\0\0\0\0\0\0\0\0";
    for (right, wrong) in [
        (zeros(&[&ping[..], b"\xb0\x09"].concat(), 1200), zeros(&[&ping[..], b"\xb1\x09"].concat(), 1201)),
        (zeros(b"\x00\x01\x01a\x80\x01", 128), zeros(b"\x00\x01\x01a\x81\x01", 129)),
    ] {
        assert!(Message::decode(&right).is_ok());
        assert_eq!(Message::decode(&wrong), Err(Reject::Decode), "more padding than there may be");
    }
    let targets = vec![Tag([0; 8]); MAX_SILENT + 1];
    assert_eq!(
        Message::decode(&bytes(&Message::SilenceRequest { echo: 0, hold: 0, targets })),
        Err(Reject::Decode)
    );
    let refused = vec![Tag([0; 8]); MAX_REFUSED + 1];
    let many = Message::PongMore {
        echo: 0,
        hold: 0,
        digest: Digest::default(),
        more: More { refused, ..More::default() },
    };
    assert_eq!(Message::decode(&bytes(&many)), Err(Reject::Decode));
}

fn any_record() -> impl Strategy<Value = Record> {
    let seen = (any::<[u8; 5]>(), 0..5usize).prop_map(|(peer, n)| Seen {
        peer: NodeName(peer),
        life: [Life::Healthy, Life::Suspected, Life::Down, Life::Left, Life::Unknown][n],
        link: [LinkState::Lossy, LinkState::Up, LinkState::TxLost, LinkState::Down, LinkState::Up][n],
    });
    let row = (prop::collection::vec(seen, 0..5), any::<bool>()).prop_map(|(mut seen, cut)| {
        seen.sort_by_key(|s| s.peer);
        seen.dedup_by_key(|s| s.peer);
        if cut { Body::CutRow(seen) } else { Body::Row(seen) }
    });
    let reason = || "[a-z ]{0,120}".prop_map(|text| Reason::new(&text).expect("the pattern is plain"));
    let profile = (
        any::<(u64, [u8; 4], [u8; 4], [u8; 3], u8, bool)>(),
        any::<[Option<u64>; 2]>(),
        reason(),
        any::<bool>(),
    );
    let profile = profile.prop_map(|(told, [until, gone], reason, is_witness)| {
        let standing = if is_witness { Standing::Witness } else { Standing::Ready };
        let (instance, roster, config, release, wire, named) = told;
        let draining = until.map(|until| Drain { until, reason });
        let (instance, release) = (Instance(instance), Release(release));
        let id = named.then(|| id("web-1"));
        let left = gone.map(|at| Leave { reason: LeaveReason::Restart, at });
        let away = Away::new(draining, left);
        Body::Profile(Profile { instance, roster, config, release, wire, id, away, standing })
    });
    let labels = prop::collection::btree_map("[a-z][a-z0-9_]{0,7}", "[!#-%(-;=?-Z]{1,8}", 0..=16)
        .prop_map(|labels| Labels::new(labels.into_iter().collect()).expect("the pattern is that of labels"));
    let name = || "[A-Za-z0-9][a-z0-9._-]{0,31}";
    let migration =
        (any::<(u64, u64, bool)>(), name(), reason()).prop_map(|((id_, deadline, led), name, reason)| {
            let service = Service::new(&name, "h:1").expect("the pattern is that of names").name;
            Migration { id: id_, service, from: id("web-1"), to: led.then(|| id("web-2")), reason, deadline }
        });
    let migrations = prop::collection::vec(migration, 0..=Migrations::MOST)
        .prop_map(|all| Migrations::try_from(all).expect("they are few"));
    let notice = (labels, migrations)
        .prop_map(|(labels, migrations)| Body::Notice(Box::new(Notice { labels, migrations })));
    let service = (name(), 0..3usize, 1..=u8::MAX, any::<u64>(), prop::collection::vec(any::<u8>(), 0..64))
        .prop_map(|(name, state, weight, version, payload)| Service {
            state: ServiceState::ALL[state],
            weight,
            version,
            payload: payload.into(),
            ..Service::new(&name, "[::1]:80").expect("the pattern is that of names")
        });
    let offer = (any::<u64>(), prop::collection::vec(service, 0..5)).prop_map(|(run, mut services)| {
        services.sort_by(|a: &Service, b| a.name.cmp(&b.name));
        services.dedup_by(|a, b| a.name == b.name);
        Body::Offer(Offer {
            instance: Instance(run),
            services: Services::new(services).expect("they are few"),
        })
    });
    (any::<[u8; 5]>(), 1..=u64::MAX, prop_oneof![row, profile, notice, offer])
        .prop_map(|(owner, version, body)| Record { owner: NodeName(owner), version, body })
}

fn any_path() -> impl Strategy<Value = PathReport> {
    prop_oneof![Just(PathReport::Untold), Just(PathReport::Narrow), Just(PathReport::Used)]
}

fn any_more() -> impl Strategy<Value = More> {
    (
        any::<u8>(),
        any::<Option<u32>>(),
        any::<u32>(),
        0..=64u8,
        prop::collection::vec(any::<[u8; 8]>(), 0..=16),
        prop::collection::vec(any_record(), 0..3),
        (any_path(), any::<u8>(), any::<Option<(u64, u64)>>(), 0..=1200u16),
    )
        .prop_map(
            |(spacing, since_slot, paused, lost, refused, records, (path, padded, held, padding))| More {
                spacing,
                since_slot,
                paused,
                lost,
                refused: refused.into_iter().map(Tag).collect(),
                records,
                path,
                padded,
                held,
                padding: Padding(padding),
            },
        )
}

fn any_message() -> impl Strategy<Value = Message> {
    let id = "[a-z0-9.-]{1,64}".prop_map(|text| ServerId::new(&text).expect("the pattern is printable"));
    let digest = any::<(u8, [u8; 3])>().prop_map(|(bucket, hash)| Digest { bucket, hash });
    (0..15u8, any::<u64>(), any::<u64>(), digest, any_more(), id, 0..=128u8).prop_map(
        |(kind, echo, hold, digest, more, server_id, padding)| match kind {
            0 => Message::Hello { sequence: echo, server_id, padding: Padding(padding.into()) },
            1 => Message::Welcome { echo, hold, server_id },
            2 => Message::Ping { echo, hold, digest },
            3 => Message::Pong { echo, hold, digest },
            4 => Message::PingMore { echo, hold, digest, more },
            5 => Message::PongMore { echo, hold, digest, more },
            6 => Message::Leave {
                echo,
                hold,
                reason: LeaveReason::Restart,
                profile: more.records.into_iter().find(|r| matches!(r.body, Body::Profile(_))).map(Box::new),
            },
            7 => Message::RelayRequest { echo, hold, target: Tag([padding; 8]) },
            8 => Message::RelayPing { echo, hold, origin: Tag([padding; 8]), request: hold },
            9 => Message::RelayPong { echo, hold, origin: Tag([padding; 8]), request: hold },
            10 => Message::SyncRequest {
                echo,
                hold,
                bucket: padding,
                after: Some(Mark(NodeName([padding; 5]), Kind::Profile)),
            },
            11 => Message::SyncResponse {
                echo,
                hold,
                bucket: padding,
                after: None,
                last: padding > 64,
                records: more.records,
            },
            12 => Message::SilenceRequest {
                echo,
                hold,
                targets: vec![Tag([padding; 8]); usize::from(padding % 17)],
            },
            13 => Message::SilenceReply {
                echo,
                hold,
                request: hold,
                silent: vec![(Tag([padding; 8]), echo); usize::from(padding % 17)],
            },
            _ => Message::RelayReply {
                echo,
                hold,
                target: Tag([padding; 8]),
                request: hold,
                alive: padding > 64,
            },
        },
    )
}

proptest! {
    /// The hold is written when the datagram leaves: into the place of a 0.
    #[test]
    fn the_hold_stands_after_the_echo(message in any_message()) {
        if let Some((echo, hold)) = message.echo() {
            let (encoded, at) = (bytes(&message), Message::hold_at(echo));
            let mut expected = Vec::new();
            encode_varint(hold, &mut expected);
            prop_assert_eq!(&encoded[at..at + expected.len()], &expected[..]);
        }
    }

    #[test]
    fn messages_round_trip(message in any_message()) {
        let encoded = bytes(&message);
        prop_assert_eq!(encoded.len(), message.encoded_len());
        prop_assert_eq!(Message::decode(&encoded), Ok(message));
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(body in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = Message::decode(&body) {
            prop_assert_eq!(bytes(&message), body);
        }
    }
}
