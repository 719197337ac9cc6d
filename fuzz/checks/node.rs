//! A core, driven by whatever operations: time in any steps, datagrams of its peers and of strangers, errors, and what a
//! shell can ask of it. What must hold of one core is looked at after each.
//!
//! The first bytes of an input are the configuration, the rest is operations.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use lastseen::proto::messages::{LeaveReason, Message};
use lastseen::proto::seal::{FrameKind, Header};
use lastseen::proto::{
    Change, ErrorSource, Event, Instance, Move, Observers, PeerConfig, PeerStatus, Reject, SendErrorKind,
    ServerId, Stats, Time,
};

use super::fixture::{CLUSTER, Fixture, NODE, Player, Sent, keyring, kind};
use super::input::Input;

use self::promises::assert_printable;

mod promises;

/// Operations of one input, so that it stays quick.
const OPERATIONS: usize = 100;
/// Datagrams that are kept to be replayed.
const KEPT: usize = 32;
const IDS: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
/// Numbers of frames are below.
const NUMBERS: u64 = 1 << 62;

/// What an input led to: the names of messages that were sent, rejections, events and states.
pub(super) type Reached = BTreeSet<&'static str>;

/// Runs one input.
///
/// # Panics
/// If a promise of the core does not hold.
pub(super) fn check(input: &[u8]) -> Reached {
    let mut run = Run::new(Input(input));
    for _ in 0..OPERATIONS {
        if run.input.is_empty() {
            break;
        }
        run.operate();
        run.look();
    }
    run.drain();
    run.look_at_all();
    run.reached
}

/// What the node did with the sum of all bytes from and to one address.
#[derive(Default)]
struct Traffic {
    came: usize,
    went: usize,
}

/// What no two texts may share: the key's id, the run of the node, the addressee (`None`: anybody), the number.
type Nonce = (u8, Instance, Option<(usize, Instance)>, u64);

struct Run<'a> {
    input: Input<'a>,
    fixture: Fixture,
    reached: Reached,
    stats: Stats,
    statuses: Vec<PeerStatus>,
    /// A Leave was among what was said in the present operation.
    left: bool,
    /// Everything that was sealed: what was under one key and number before must be the same bytes.
    sealed: BTreeMap<Nonce, Vec<u8>>,
    traffic: BTreeMap<SocketAddr, Traffic>,
    /// Addresses of the roster, and those under which a peer was confirmed.
    trusted: BTreeSet<SocketAddr>,
    tape: Vec<Vec<u8>>,
    renewed: u64,
}

fn configuration(input: &mut Input<'_>, players: &[Player], shape: u8) -> PeerConfig {
    let entries = players.iter().enumerate().map(|(n, player)| match (shape, n) {
        (1, 1) => player.entry(true, false),
        (0 | 3, 2) => player.entry(false, true),
        _ => player.entry(true, true),
    });
    let mut config = PeerConfig::new(NODE, CLUSTER, ([10, 0, 0, 1], 5278).into(), entries.collect());
    if shape == 3 {
        config.observers = Observers::Number(4);
    }
    let which = input.byte();
    if which & 1 != 0 {
        let (least, most) = (Duration::from_millis(10), Duration::from_secs(3600));
        config.heartbeat_interval = input.duration().clamp(least, most);
    }
    let interval = config.heartbeat_interval;
    config.heartbeat_timeout = match which >> 1 & 3 {
        0 => interval / 2,
        1 => interval,
        2 => Duration::from_millis(5),
        _ => input.duration().clamp(Duration::from_millis(5), interval),
    };
    if which & 8 != 0 {
        config.down_after = 2 + input.below(31) as u32;
        config.suspect_after = 1 + input.below(config.down_after as usize - 1) as u32;
    }
    config.max_backoff = interval * 10;
    if which & 16 != 0 {
        config.max_backoff = interval * (2 + input.below(254) as u32);
    }
    if which & 32 != 0 {
        config.max_datagram = 256 + (input.number() % 945) as usize;
    }
    if which & 64 != 0 {
        config.leave_grace = input.duration();
        config.mass_loss = [f64::MIN_POSITIVE, 0.5, 1.0][input.below(3)];
    }
    config
}

impl<'a> Run<'a> {
    fn new(mut input: Input<'a>) -> Run<'a> {
        let first = input.byte();
        let (shape, ages, beats) = (first & 3, first >> 2 & 3, first >> 4);
        let players = match shape {
            2 => 1,
            3 => IDS.len(),
            _ => 3,
        };
        let players: Vec<Player> =
            IDS[..players].iter().enumerate().map(|(n, id)| Player::new(id, n as u8)).collect();
        let config = configuration(&mut input, &players, shape);
        let now = Time::from_micros(match ages {
            0 => 0,
            1 | 2 => 1_000_000_000,
            _ => input.number(),
        });
        let trusted = players.iter().map(|player| player.address).collect();
        let mut run = Run {
            fixture: Fixture::new(config, players, 1, now),
            input,
            reached: Reached::new(),
            stats: Stats::default(),
            statuses: Vec::new(),
            left: false,
            sealed: BTreeMap::new(),
            traffic: BTreeMap::new(),
            trusted,
            tape: Vec::new(),
            renewed: 0,
        };
        for _ in 0..beats {
            run.beat(0xFF);
            run.look();
        }
        run
    }

    fn operate(&mut self) {
        self.left = false;
        let which = self.input.byte();
        if which >= 0xFC {
            return self.offer();
        }
        match which % 18 {
            0..=2 => {
                let well = if self.input.one_in(4) { self.input.byte() } else { 0xFF };
                (0..1 + self.input.below(8)).for_each(|_| self.beat(well));
            }
            3 | 4 => self.pass_time(),
            5 => self.time_out(),
            6 | 7 => self.say_message(),
            8 => self.say_bytes(),
            9 => self.hear_noise(),
            10 => self.hear_again(),
            11 => self.fail(),
            12 => self.ask(),
            13 => self.change_keys(),
            14 => self.restart(),
            15 => self.renew(),
            16 => self.drain(),
            _ => self.look_at_all(),
        }
    }

    /// The players that are well answer for one deadline.
    fn beat(&mut self, well: u8) {
        let sent = self.fixture.beat(well);
        // Their answers came from where they are, which the roster knows.
        self.note(sent);
        self.drain();
    }

    fn pass_time(&mut self) {
        let by = self.input.duration();
        self.fixture.now += by;
    }

    /// Early, late, twice, or in the past.
    fn time_out(&mut self) {
        let (next, now) = (self.fixture.node.poll_timeout().unwrap_or(self.fixture.now), self.fixture.now);
        let at = match self.input.byte() % 6 {
            0 => now - self.input.duration(),
            1 => next - Duration::from_micros(1),
            2 => next,
            3 => next + self.input.duration(),
            _ => now,
        };
        self.fixture.time_out(at);
    }

    fn player(&mut self) -> usize {
        self.input.below(self.fixture.players.len())
    }

    fn source(&mut self, player: usize) -> SocketAddr {
        let (roster, count) = (self.fixture.players[player].address, self.fixture.players.len());
        match self.input.byte() {
            0..192 => roster,
            192..208 => self.fixture.players[self.input.below(count)].address,
            208..240 => ([192, 0, 2, self.input.byte() % 4], 999).into(),
            240..244 => ([10, 0, 0, 1], 0).into(),
            244..248 => ([224, 0, 0, 1], 5278).into(),
            _ => ([0, 0, 0, 0], 5278).into(),
        }
    }

    fn deliver(&mut self, from: SocketAddr, bytes: &[u8]) -> Result<(), Reject> {
        let received = match self.input.byte() % 4 {
            0 => self.fixture.now - self.input.duration(),
            1 => Time::from_micros(self.input.number()),
            _ => self.fixture.now,
        };
        self.traffic.entry(from).or_default().came += bytes.len();
        let mut copy = bytes.to_vec();
        let result = self.fixture.node.handle_datagram(from, None, &mut copy, received, self.fixture.now);
        self.reached.insert(result.as_ref().map_or_else(|reason| reason.as_str(), |()| "taken"));
        result
    }

    /// What was sealed, for replays.
    fn keep(&mut self, bytes: &[u8]) {
        if self.tape.len() < KEPT {
            self.tape.push(bytes.to_vec());
        }
    }

    /// A rejected datagram of somebody without the key changes nothing.
    fn deliver_without_key(&mut self, from: SocketAddr, bytes: &[u8]) -> Result<(), Reject> {
        // Time passes first: that may change much.
        self.fixture.node.handle_suspension(Duration::ZERO, self.fixture.now);
        let before = self.fixture.picture();
        let result = self.deliver(from, bytes);
        // What is counted for a peer may become its verdict; and these are authentic, or may be.
        let told = |reason: &Reject| {
            matches!(reason, Reject::Version | Reject::KeyId | Reject::Instance | Reject::Meaning)
        };
        if result.as_ref().is_err_and(|reason| !told(reason)) {
            assert_eq!(self.fixture.picture(), before, "{result:?} changed something");
        }
        result
    }

    fn key(&mut self) -> usize {
        match self.input.byte() {
            0..224 => 0,
            other => usize::from(other) % self.fixture.ring.len(),
        }
    }

    /// A message that a player may say, with whatever fields, under a number that is next or not.
    fn say_message(&mut self) {
        let (player, key) = (self.player(), self.key());
        let message = self.input.message(&self.fixture, player, key);
        let mut body = Vec::new();
        message.encode(&mut body);
        let kind = match message {
            Message::Hello { .. } => FrameKind::Hello,
            _ => FrameKind::Bound,
        };
        self.left |= matches!(message, Message::Leave { .. });
        self.say(player, key, kind, &body);
    }

    fn say(&mut self, player: usize, key: usize, kind: FrameKind, body: &[u8]) {
        let other = self.input.one_in(8);
        let bytes = match kind {
            _ if other => {
                let number = self.input.number() % NUMBERS;
                self.fixture.seal(player, key, kind, number, body)
            }
            FrameKind::Bound => self.fixture.bound(player, key, body),
            FrameKind::Hello => self.fixture.hello(player, key, body),
        };
        let from = self.source(player);
        self.keep(&bytes);
        // What it comes to is looked at afterwards.
        let _ = self.deliver(from, &bytes);
    }

    fn say_bytes(&mut self) {
        let (player, key) = (self.player(), self.key());
        let kind = if self.input.one_in(4) { FrameKind::Hello } else { FrameKind::Bound };
        let len = usize::from(self.input.byte());
        let body = self.input.bytes(len);
        self.left = true;
        self.say(player, key, kind, body);
    }

    fn hear_noise(&mut self) {
        let player = self.player();
        let (from, len) = (self.source(player), self.input.number() as usize % 1300);
        let bytes = self.input.bytes(len);
        assert!(self.deliver_without_key(from, bytes).is_err() || self.is_leaving());
    }

    /// What was sent before, by anybody, whole or damaged, from anywhere.
    fn hear_again(&mut self) {
        let (player, which) = (self.player(), self.input.byte());
        let from = self.source(player);
        let Some(bytes) = self.tape.get(usize::from(which) % self.tape.len().max(1)) else { return };
        let mut bytes = bytes.clone();
        let damage = self.input.one_in(2);
        if damage && !bytes.is_empty() {
            let at = self.input.number() as usize % bytes.len();
            bytes[at] ^= 1 << (self.input.byte() % 8);
        }
        // One that was never taken may say what its sender said.
        self.left = true;
        let result = self.deliver_without_key(from, &bytes);
        assert!(!damage || result.is_err() || self.is_leaving());
    }

    /// Errors, drops, suspensions.
    fn fail(&mut self) {
        let (player, now) = (self.player(), self.fixture.now);
        let to = self.source(player);
        match self.input.byte() % 4 {
            0 => {
                let count = self.input.number();
                self.fixture.node.handle_drops(count, now);
                self.fixture.node.handle_filtered(count, count.is_multiple_of(2), now);
                assert!(self.fixture.node.expected().key_ids.len() <= 5);
            }
            1 => self.fixture.node.handle_suspension(self.input.duration(), now),
            _ => {
                let kind = SendErrorKind::ALL[self.input.below(2 * SendErrorKind::ALL.len()) / 2];
                let which = self.input.byte();
                let quoted = match self.sealed.values().rev().nth(usize::from(which)) {
                    Some(bytes) if which < 64 => &bytes[..],
                    _ => self.input.bytes(usize::from(which) % 64),
                };
                let source = ErrorSource::ALL[(usize::from(which) + 1) % ErrorSource::ALL.len()];
                self.fixture.node.handle_send_error(to, kind, source, quoted, now);
            }
        }
    }

    /// What a shell asks of it at times.
    fn ask(&mut self) {
        let now = self.fixture.now;
        let player = self.player();
        match self.input.byte() % 8 {
            0 => {
                let reason = if self.input.one_in(2) { LeaveReason::Restart } else { LeaveReason::Removal };
                self.reached.insert("leaving");
                self.fixture.node.leave(reason, now);
            }
            1 => self.change_roster(),
            2 => {
                let drain = self.input.drain();
                self.fixture.node.drain(drain, now);
            }
            3 => {
                let drained = self.fixture.node.undrain(now);
                self.reached.insert(if drained { "undrained" } else { "nothing to undrain" });
            }
            4 => {
                let wall = self.input.duration();
                self.fixture.node.set_wall_clock(wall, now);
            }
            _ => {
                let address = ([10, 0, 1, self.input.byte() % 4], 5278).into();
                let address = [self.fixture.players[player].address, address][self.input.below(2)];
                self.trusted.insert(address);
                self.fixture.players[player].address = address;
                let entries = self.fixture.node.config().static_peers.len();
                if entries > 0 {
                    self.fixture.node.set_address(player % entries, address, now);
                }
            }
        }
    }

    fn change_keys(&mut self) {
        let which = self.input.byte() & 0x1F;
        let which = if which & 0x1E == which { which | 1 } else { which };
        let keys = keyring(if self.input.one_in(4) { which & 0x1E } else { which });
        self.fixture.node.set_keys(keys, self.fixture.now).expect("no two ids have one tag");
    }

    /// Something for clients is said, or read.
    fn offer(&mut self) {
        let now = self.fixture.now;
        match self.input.below(6) {
            0 => {
                let service = self.input.service();
                // There may be too many.
                let _ = self.fixture.node.publish_service(service, now);
            }
            1 => {
                let name = self.input.service().name;
                self.fixture.node.withdraw_service(&name, now);
            }
            2 => {
                let labels = self.input.labels();
                let _ = self.fixture.node.set_labels(labels, now);
            }
            3 => {
                let id = |text: &str| ServerId::new(text).expect("a valid id");
                let (service, reason) = (self.input.service().name, self.input.drain().reason);
                let within = self.input.duration();
                let moving = Move { service, from: id("a"), to: None, reason, within };
                let _ = self.fixture.node.migrate(moving, now);
            }
            4 => {
                let player = self.player();
                let id = self.fixture.players[player].id;
                self.fixture.node.watch_takeover(id, now);
                assert!(self.fixture.node.takeover_safe(id, now).is_none_or(|until| until > now));
            }
            _ => {
                let catalog = self.fixture.node.catalog(now);
                assert!(catalog.migrations.iter().all(|announced| announced.until > now));
                let route = catalog.route("web", &[self.input.byte()], Some(("a", "x")));
                assert!(
                    route.is_none_or(|route| route.first.is_available() && route.second != Some(route.first))
                );
                assert!(self.fixture.node.quorum_guard(now).is_none_or(|until| until > now));
                self.reached.insert("catalog");
            }
        }
    }

    /// Another roster: any of the players, in any order, with or without their ids, and some that nobody is.
    fn change_roster(&mut self) {
        let (from, which, extra) = (self.input.below(8), self.input.byte(), self.input.below(3));
        let players = &self.fixture.players;
        let chosen = (0..players.len()).map(|n| (n + from) % players.len()).filter(|n| which >> n & 1 == 1);
        let mut roster: Vec<_> = chosen
            .map(|n| players[n].entry(which & 0x80 == 0 || n != 1, n != 2 || which & 0x40 == 0))
            .collect();
        let nobody = |n: usize| Player::new(["x", "y", "z"][n], 40 + n as u8);
        roster.extend((0..extra).map(|n| nobody(n).entry(true, true)));
        self.trusted.extend(roster.iter().filter_map(|entry| entry.address));
        let (node, now) = (&mut self.fixture.node, self.fixture.now);
        let name = node.config().own_name.clone();
        // Two may be at one address by now.
        if node.set_roster(roster.into(), name, now).is_ok() {
            self.statuses = node.registry().get_all_peers().iter().map(|peer| peer.status).collect();
        }
    }

    /// A player is another run, or again one that it was.
    fn restart(&mut self) {
        let player = self.player();
        let instance =
            Instance(0x2122_2324_2526_2728 + (u64::from(self.input.byte() % 4) << 8) + player as u64);
        self.fixture.restart(player, instance);
        self.fixture.players[player].number = self.input.number() % (NUMBERS / 2);
    }

    /// The operating system draws no instance twice.
    fn renew(&mut self) {
        self.renewed += 1;
        self.fixture.renew(Instance(0x3132_3334_3536_3738 + self.renewed));
        for player in &mut self.fixture.players {
            player.number = 0;
        }
    }

    fn is_leaving(&self) -> bool {
        self.reached.contains("leaving")
    }

    fn drain(&mut self) {
        let sent = self.fixture.drain();
        self.note(sent);
        while self.fixture.node.poll_rtt().is_some() {}
        let events = self.fixture.events();
        assert!(events.len() <= 1024 + 64, "{} events waited", events.len());
        events.iter().for_each(|event| self.note_event(event));
    }

    fn note(&mut self, sent: Vec<Sent>) {
        for Sent { to, bytes, header, addressee, message, .. } in sent {
            self.reached.insert(kind(&message));
            if header.kind == FrameKind::Bound {
                self.traffic.entry(to).or_default().went += bytes.len();
            } else {
                assert!(self.trusted.contains(&to), "a hello to {to}, which is in no roster");
            }
            self.keep(&bytes);
            let Header { key_id, instance, number, .. } = header;
            let before = self.sealed.insert((key_id, instance, addressee, number), bytes.clone());
            assert!(before.is_none_or(|before| before == bytes), "two texts under one nonce: {message:?}");
        }
    }

    fn note_event(&mut self, event: &Event) {
        self.reached.insert(event.change.kind());
        assert_printable(&event.why);
        if let Some(evidence) = &event.evidence {
            assert_printable(&evidence.meaning);
        }
        if let Change::Status { to: PeerStatus::Down, .. } = event.change {
            self.reached.insert("down");
        }
    }
}
