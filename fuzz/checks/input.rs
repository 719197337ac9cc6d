//! An input, read as numbers, times and messages. At its end all is zero.
#![allow(dead_code, reason = "each of the checks that share it uses a part")]

use std::time::Duration;

use lastseen::proto::leave::{Leave, LeaveReason};
use lastseen::proto::messages::{Message, More, PathReport};
use lastseen::proto::migration::{Migration, Migrations};
use lastseen::proto::records::{
    Away, Body, Digest, Kind, Mark, NodeName, Notice, Offer, Profile, Record, Seen, Standing,
};
use lastseen::proto::{
    Drain, Instance, Labels, Life, LinkState, Reason, Release, ServerId, Service, ServiceState, Services, Tag,
};

use super::fixture::{Fixture, NODE};

/// Numbers at which something ends.
const ENDS: [u64; 8] =
    [u64::MAX, u64::MAX - 1, 1 << 63, 1 << 62, (1 << 62) - 1, 1 << 32, (1 << 32) - 1, 3_600_000_000];

pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// So many bytes, or those that are left.
    pub(crate) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn fixed<const N: usize>(&mut self) -> [u8; N] {
        let (mut all, taken) = ([0; N], self.bytes(N));
        all[..taken.len()].copy_from_slice(taken);
        all
    }

    /// True for one byte in so many, zero among them.
    pub(crate) fn one_in(&mut self, many: u8) -> bool {
        self.byte().is_multiple_of(many)
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end.max(1)
    }

    /// One byte if it is small, nine if it is not; or one of those at which something ends.
    pub(crate) fn number(&mut self) -> u64 {
        match self.byte() {
            small @ ..0xE0 => small.into(),
            0xE0..0xF0 => u64::from_le_bytes(self.fixed()),
            end => ENDS[usize::from(end) % ENDS.len()],
        }
    }

    pub(crate) fn duration(&mut self) -> Duration {
        let (unit, count) = (self.byte() % 8, u32::from(self.byte()));
        match unit {
            0 => Duration::from_micros(count.into()),
            1 => Duration::from_millis(1) * count,
            2 => Duration::from_millis(50) * count,
            3 => Duration::from_secs(1) * count,
            4 => Duration::from_secs(60) * count,
            5 => Duration::from_secs(86_400) * count,
            6 => Duration::from_micros(self.number()),
            _ => Duration::MAX,
        }
    }

    /// A message of a player's, under a key, with whatever fields.
    pub(crate) fn message(&mut self, fixture: &Fixture, player: usize, key: usize) -> Message {
        let kind = self.byte();
        let (echo, hold) = (self.echo(fixture, player), self.number());
        let server_id = || ServerId::new(fixture.players[player].id).expect("a valid id");
        match if kind >= 0xFE { kind } else { kind % 13 } {
            0xFE => {
                let targets = (0..self.below(17)).map(|_| self.tag(fixture, key)).collect();
                Message::SilenceRequest { echo, hold, targets }
            }
            0xFF => {
                let request = self.number();
                let silent = (0..self.below(17)).map(|_| (self.tag(fixture, key), self.number())).collect();
                Message::SilenceReply { echo, hold, request, silent }
            }
            0 => Message::hello(20, echo, &server_id()),
            1 => Message::Welcome { echo, hold, server_id: server_id() },
            2 => Message::Ping { echo, hold, digest: self.digest() },
            3 => Message::Pong { echo, hold, digest: self.digest() },
            4 => Message::PingMore { echo, hold, digest: self.digest(), more: self.more(fixture, key) },
            5 => Message::PongMore { echo, hold, digest: self.digest(), more: self.more(fixture, key) },
            6 => {
                let reason = self.leave_reason();
                let profile = self.one_in(2).then(|| {
                    let (owner, version) = (self.name(fixture), self.number().max(1));
                    Box::new(Record { owner, version, body: Body::Profile(self.profile(fixture)) })
                });
                Message::Leave { echo, hold, reason, profile }
            }
            7 => Message::RelayRequest { echo, hold, target: self.tag(fixture, key) },
            8 => {
                let (origin, request) = (self.tag(fixture, key), self.number());
                Message::RelayPing { echo, hold, origin, request }
            }
            9 => {
                let (origin, request) = (self.tag(fixture, key), self.number());
                Message::RelayPong { echo, hold, origin, request }
            }
            10 => {
                let (target, request) = (self.tag(fixture, key), self.number());
                Message::RelayReply { echo, hold, target, request, alive: self.byte() % 2 == 1 }
            }
            11 => Message::SyncRequest { echo, hold, bucket: self.bucket(), after: self.after(fixture) },
            _ => {
                let (bucket, after, last) = (self.bucket(), self.after(fixture), self.byte() % 2 == 1);
                let records = (0..self.below(5)).map(|_| self.record(fixture)).collect();
                Message::SyncResponse { echo, hold, bucket, after, last, records }
            }
        }
    }

    /// The newest that the player heard, an older one, or anything.
    fn echo(&mut self, fixture: &Fixture, player: usize) -> u64 {
        let newest = fixture.players[player].heard.map_or(0, |sequence| sequence + 1);
        match self.byte() % 8 {
            0 => 0,
            1 => newest.saturating_sub(self.number()),
            2 => self.number(),
            _ => newest,
        }
    }

    fn bucket(&mut self) -> u8 {
        [0, 0, u8::MAX, self.byte()][self.below(4)]
    }

    fn digest(&mut self) -> Digest {
        Digest { bucket: self.bucket(), hash: self.fixed() }
    }

    fn tag(&mut self, fixture: &Fixture, key: usize) -> Tag {
        match self.byte() {
            0 => Tag(self.fixed()),
            1 => fixture.ring.tag(key, NODE),
            other => fixture.tag(key, usize::from(other) % fixture.players.len()),
        }
    }

    fn after(&mut self, fixture: &Fixture) -> Option<Mark> {
        let which = self.byte();
        let kinds = [Kind::Profile, Kind::Notice, Kind::Offer, Kind::Row];
        (which % 2 == 1).then(|| Mark(self.name(fixture), kinds[usize::from(which / 2 % 4)]))
    }

    /// The name of a node.
    fn name(&mut self, fixture: &Fixture) -> NodeName {
        match self.byte() {
            0 => NodeName(self.fixed()),
            1 => NodeName::of(NODE),
            other => {
                let entries = &fixture.node.config().static_peers;
                let named = entries.get(usize::from(other) % entries.len().max(1));
                NodeName::of(named.map_or(NODE, |entry| entry.roster_name()))
            }
        }
    }

    fn more(&mut self, fixture: &Fixture, key: usize) -> More {
        let which = self.byte();
        let mut more = More::default();
        if which & 1 != 0 {
            more.records = (0..self.below(5)).map(|_| self.record(fixture)).collect();
        }
        if which & 2 != 0 {
            more.refused = (0..self.below(17)).map(|_| self.tag(fixture, key)).collect();
        }
        if which & 4 != 0 {
            (more.spacing, more.paused) = (self.byte(), self.number() as u32);
        }
        if which & 8 != 0 {
            more.since_slot = Some(self.number() as u32);
        }
        if which & 16 != 0 {
            (more.lost, more.padded) = (self.byte() % 65, self.byte());
            more.path =
                [PathReport::Untold, PathReport::Narrow, PathReport::Used][usize::from(self.byte() % 3)];
        }
        more
    }

    /// A record of any node; it mostly has the form that it may have.
    pub(crate) fn record(&mut self, fixture: &Fixture) -> Record {
        let (owner, version, kind) = (self.name(fixture), self.number(), self.byte());
        match kind {
            0xE0..0xF0 => return Record { owner, version, body: Body::Notice(Box::new(self.notice())) },
            0xF0.. => return Record { owner, version, body: Body::Offer(self.offer(fixture)) },
            _ => {}
        }
        if kind % 3 == 0 {
            return Record { owner, version, body: Body::Profile(self.profile(fixture)) };
        }
        let mut seen: Vec<Seen> = (0..self.below(8)).map(|_| self.seen(fixture)).collect();
        if kind & 0x80 == 0 {
            seen.sort_by_key(|one| one.peer);
            seen.dedup_by_key(|one| one.peer);
            seen.retain(|one| (one.life, one.link) != (Life::Healthy, LinkState::Up));
        }
        Record { owner, version, body: if kind % 3 == 1 { Body::Row(seen) } else { Body::CutRow(seen) } }
    }

    fn seen(&mut self, fixture: &Fixture) -> Seen {
        let lives = [Life::Healthy, Life::Suspected, Life::Down, Life::Left, Life::Unknown];
        let links = [LinkState::Up, LinkState::Lossy, LinkState::Silent, LinkState::TxLost, LinkState::Down];
        Seen { peer: self.name(fixture), life: lives[self.below(5)], link: links[self.below(5)] }
    }

    fn profile(&mut self, fixture: &Fixture) -> Profile {
        let own = fixture.snapshot();
        let four = |hash: u64| hash.to_le_bytes()[..4].try_into().expect("four of eight");
        let which = self.byte();
        let player = &fixture.players[self.below(fixture.players.len())];
        let draining = (which & 16 != 0).then(|| self.drain());
        let left = (which & 64 != 0).then(|| Leave { reason: self.leave_reason(), at: self.number() });
        Profile {
            instance: if which & 1 == 0 { player.instance } else { Instance(self.number()) },
            roster: if which & 2 == 0 { four(own.roster_hash) } else { self.fixed() },
            config: if which & 4 == 0 { four(own.config_hash) } else { self.fixed() },
            release: Release(self.fixed()),
            wire: self.byte(),
            id: (which & 8 != 0).then(|| ServerId::new(player.id).expect("a valid id")),
            away: Away::new(draining, left),
            standing: if which & 32 == 0 { Standing::Witness } else { Standing::Bound },
        }
    }

    fn leave_reason(&mut self) -> LeaveReason {
        if self.one_in(2) { LeaveReason::Restart } else { LeaveReason::Removal }
    }

    /// What an operator may say of a node.
    fn notice(&mut self) -> Notice {
        let labels = self.labels();
        let all: Vec<Migration> = (0..self.below(4)).map(|_| self.migration()).collect();
        Notice { labels, migrations: Migrations::try_from(all).expect("they are few") }
    }

    /// Labels of a node.
    pub(crate) fn labels(&mut self) -> Labels {
        let names = ["a", "rack", "role"];
        let labels = names.iter().take(self.below(4)).map(|name| ((*name).to_owned(), "x".to_owned()));
        Labels::new(labels.collect()).expect("valid labels")
    }

    fn migration(&mut self) -> Migration {
        let id = |text: &str| ServerId::new(text).expect("a valid id");
        Migration {
            id: self.number(),
            service: self.service().name,
            from: id("a"),
            to: (self.byte() % 2 == 1).then(|| id("b")),
            reason: Reason::default(),
            deadline: self.number(),
        }
    }

    /// A service of a node.
    pub(crate) fn service(&mut self) -> Service {
        let name = ["web", "db", "a.b"][self.below(3)];
        let service = Service::new(name, "h:80").expect("a valid service");
        let (state, weight) = (ServiceState::ALL[self.below(3)], self.byte().max(1));
        Service { state, weight, version: self.number(), payload: vec![7; self.below(300)].into(), ..service }
    }

    fn offer(&mut self, fixture: &Fixture) -> Offer {
        let which = self.byte();
        let player = &fixture.players[usize::from(which / 2) % fixture.players.len()];
        let instance = if which.is_multiple_of(2) { player.instance } else { Instance(self.number()) };
        let mut services: Vec<Service> = (0..self.below(3)).map(|_| self.service()).collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        services.dedup_by(|a, b| a.name == b.name);
        Offer { instance, services: Services::new(services).expect("they are few") }
    }

    /// A drain that ends at some time.
    pub(crate) fn drain(&mut self) -> Drain {
        let reason = ["", "kernel upgrade"][self.below(2)];
        Drain { until: self.number(), reason: Reason::new(reason).expect("a valid reason") }
    }
}
