use super::*;
use crate::proto::ConfigError;
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn ring() -> Keyring {
    Keyring::new("test", &[SecretKey::new([7; 32])], false).unwrap()
}

fn sealed(ring: &Keyring, from: u64, to: u64, number: u64, body: &[u8]) -> (Vec<u8>, usize) {
    let (sender, addressee) = (ring.tag(0, "a"), ring.tag(0, "b"));
    let header =
        Header { kind: FrameKind::Bound, key_id: ring.id(0), sender, instance: Instance(from), number };
    let mut frame = Vec::new();
    header.encode(&mut frame);
    let header_len = frame.len();
    frame.extend_from_slice(body);
    let key = ring.frame_key(0, (sender, Instance(from)), (addressee, Instance(to)));
    key.seal_in_place(&mut frame, 0, header_len, number);
    (frame, header_len)
}

fn opens(
    ring: &Keyring,
    from: u64,
    to: u64,
    number: u64,
    (mut frame, len): (Vec<u8>, usize),
) -> Option<Vec<u8>> {
    let key = ring.frame_key(0, (ring.tag(0, "a"), Instance(from)), (ring.tag(0, "b"), Instance(to)));
    key.open_in_place(&mut frame, len, number).ok().map(|body| body.to_vec())
}

#[test]
fn golden_derivation_and_frame() {
    let ring = ring();
    let insecure = Keyring::new("test", &[], false).unwrap();
    let (frame, _) = sealed(&ring, 1, 2, 300, b"body");
    let golden = [
        format!("{:02x}", ring.id(0)),
        hex(&ring.tag(0, "web-1").0),
        format!("{:02x}", insecure.id(0)),
        hex(&insecure.tag(0, "web-1").0),
        hex(&frame),
    ];
    assert_eq!(golden, GOLDEN);
}

const GOLDEN: [&str; 5] = [
    "77",
    "72c260a3c593e4d7",
    "f1",
    "19850cb5bdf9c45e",
    "4c773626228604e763dd0100000000000000ac0230db1a119e5af7602fe17d977fa56cfacfef283a",
];

#[test]
fn the_seal_binds_key_parties_number_and_header() {
    let ring = ring();
    let frame = sealed(&ring, 1, 2, 5, b"body");
    assert_eq!(opens(&ring, 1, 2, 5, frame.clone()).as_deref(), Some(&b"body"[..]));
    assert_eq!(opens(&ring, 1, 3, 5, frame.clone()), None, "another instance of the addressee");
    assert_eq!(opens(&ring, 9, 2, 5, frame.clone()), None, "another instance of the sender");
    assert_eq!(opens(&ring, 1, 2, 6, frame.clone()), None, "another number");
    for other in [
        Keyring::new("test2", &[SecretKey::new([7; 32])], false).unwrap(),
        Keyring::new("test", &[SecretKey::new([8; 32])], false).unwrap(),
        Keyring::new("test", &[], true).unwrap(),
    ] {
        assert_eq!(opens(&other, 1, 2, 5, frame.clone()), None);
    }
    for at in 0..frame.0.len() {
        let mut bent = frame.clone();
        bent.0[at] ^= 1;
        assert_eq!(opens(&ring, 1, 2, 5, bent), None, "byte {at} is not covered");
    }
}

#[test]
fn keyrings_refuse_twins_and_crowds() {
    let twins = [SecretKey::new([1; 32]), SecretKey::new([1; 32])];
    let ConfigError::Invalid(text) = Keyring::new("test", &twins, false).unwrap_err();
    assert!(text.contains("keys 1 and 2"), "{text}");
    let five: Vec<_> = (0..5).map(|i| SecretKey::new([i; 32])).collect();
    assert!(Keyring::new("test", &five, false).is_err());
    let ring = Keyring::new("test", &five[..1], true).unwrap();
    assert_eq!((ring.len(), ring.is_secure(), ring.is_insecure()), (2, true, true));
    assert!(!Keyring::new("test", &[], true).unwrap().is_secure());
}

#[test]
fn key_texts() {
    let key = SecretKey::new(std::array::from_fn(|i| i as u8 * 7));
    let text = key.to_text();
    assert_eq!(SecretKey::from_text(&format!("{}\n", *text)).unwrap().0, key.0);
    assert_eq!(text.len(), "lastseen-key-1:".len() + 44);
    for (wrong, error) in [
        ("", KeyTextError::Prefix),
        ("lastseen-key-2:AAAA", KeyTextError::Prefix),
        ("lastseen-key-1:", KeyTextError::Base64),
        ("lastseen-key-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=", KeyTextError::Base64),
        ("lastseen-key-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA A=", KeyTextError::Base64),
    ] {
        assert_eq!(SecretKey::from_text(wrong).err(), Some(error), "{wrong}");
    }
    assert_eq!(format!("{key:?}"), "SecretKey(..)");
}

#[test]
fn one_of_a_pair_leads() {
    let tags: Vec<Tag> = (0..40u8).map(|i| Tag([i; 8])).collect();
    let mut led = 0;
    for (i, a) in tags.iter().enumerate() {
        for b in &tags[..i] {
            assert_ne!(leads(*a, *b), leads(*b, *a));
            led += usize::from(leads(*a, *b));
        }
    }
    assert!((300..480).contains(&led), "{led} of 780");
}

#[test]
fn reorder_127() {
    let mut window = ReplayWindow::default();
    window.mark(1000);
    assert!(window.check(1000 - 127) && !window.check(1000 - 128) && !window.check(1000));
    window.mark(1000 - 127);
    assert!(!window.check(1000 - 127) && window.check(1001));
    window.mark(1127);
    assert!(!window.check(1000) && window.check(1001));
    window.mark(u64::MAX);
    assert!(!window.check(u64::MAX));
}

#[test]
fn overlong_and_huge_numbers_are_rejected() {
    let parse = |number: &[u8]| {
        let mut frame = vec![0x4C; 18];
        frame.extend_from_slice(number);
        frame.extend_from_slice(&[0; SEAL_LEN]);
        Header::parse(&frame).map(|(h, _)| h.number)
    };
    assert_eq!(parse(&[0x00]), Ok(0));
    assert_eq!(parse(&[0x80, 0x01]), Ok(128));
    assert_eq!(parse(&[0x80, 0x00]), Err(Reject::Decode));
    assert_eq!(parse(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x3F]), Ok((1 << 62) - 1));
    assert_eq!(parse(&[0xFF; 9]), Err(Reject::Decode));
    assert_eq!(Header::parse(&[0x4C; 20]), Err(Reject::Size));
    assert_eq!(Header::parse(&[]), Err(Reject::Size));
    assert_eq!(Header::parse(&[0x4D; 80]), Err(Reject::Version));
}

proptest! {
    #[test]
    fn headers_round_trip(hello: bool, key_id: u8, sender: [u8; 8], instance: u64, number in 0u64..NUMBER_LIMIT) {
        let kind = if hello { FrameKind::Hello } else { FrameKind::Bound };
        let header = Header { kind, key_id, sender: Tag(sender), instance: Instance(instance), number };
        let mut frame = Vec::new();
        header.encode(&mut frame);
        prop_assert_eq!(frame.len(), header.len());
        frame.extend_from_slice(&[0; SEAL_LEN]);
        prop_assert_eq!(Header::parse(&frame), Ok((header, header.len())));
    }

    #[test]
    fn the_window_agrees_with_a_set(numbers in prop::collection::vec(0u64..400, 0..300)) {
        let (mut window, mut seen, mut newest) = (ReplayWindow::default(), std::collections::BTreeSet::new(), 0);
        for n in numbers {
            let fresh = !seen.contains(&n) && n + 128 > newest;
            prop_assert_eq!(window.check(n), fresh);
            if fresh {
                window.mark(n);
                seen.insert(n);
                newest = newest.max(n);
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn hashing_leaves_nothing_of_a_key_on_the_stack() {
    use std::os::unix::fs::FileExt;

    const NAME: &str = "name before the key";
    let keys = [SecretKey::new([0xa7; 32])];
    let at = std::ptr::from_ref(&keys).addr() as u64;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let ends = |map: &str| {
        let (begin, end) = map.split_once(' ')?.0.split_once('-')?;
        Some((u64::from_str_radix(begin, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
    };
    let (begin, end) =
        maps.lines().filter_map(ends).find(|(begin, end)| (begin..end).contains(&&at)).unwrap();
    let memory = std::fs::File::open("/proc/self/mem").unwrap();
    let mut stack = vec![0; (end - begin) as usize];
    let _keyring = Keyring::new(NAME, &keys, false).unwrap();
    memory.read_exact_at(&mut stack, begin).unwrap();
    // What a hasher was given stands together in it.
    let is_input = |part: &[u8]| part.starts_with(NAME.as_bytes()) && part[NAME.len()..] == [0xa7; 8];
    assert!(!stack.windows(NAME.len() + 8).any(is_input));
}
