//! The node: routes every input to the parts that it concerns, and drains them.
//!
//! `receive` is the way of a datagram in, `drive` that of time, `send` the way out, `report` what is told about it, and `review`
//! what is looked at now and then.

mod drain;
mod drawing;
mod drive;
mod expected;
mod explain;
mod guard;
mod guest;
mod isolation;
mod leave;
mod offers;
mod others;
#[cfg(feature = "sim")]
mod probe;
mod receive;
mod rekey;
mod relay;
mod report;
mod review;
mod roster;
mod send;
mod strangers;
mod twin;
mod views;
mod witness;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use self::drain::Drains;
use self::drawing::Drawing;
use self::drive::Leaving;
pub use self::expected::Expected;
use self::guard::Majority;
use self::guest::Guest;
use self::isolation::IsolationTimes;
use self::offers::Offers;
use self::others::Other;
use self::relay::Budget;
use self::report::Account;
use self::send::Outbox;
use self::strangers::Stranger;
use self::twin::Twin;
use self::views::News;
pub use self::witness::BootstrapRefused;
use self::witness::Witnessing;
use super::config::{ConfigError, PeerConfig};
use super::connection::ConnectionPool;
use super::directory::Directory;
use super::event::{Change, Event, SelfHealth};
use super::heartbeat::{Heartbeat, Rhythm, Role};
use super::mass_loss::MassLoss;
use super::messages::LeaveReason;
use super::records::Records;
use super::registry::PeerRegistry;
use super::seal::{FrameKey, Instance, Keyring, Tag};
use super::server_id::ServerId;
use super::session::Session;
use super::snapshot::{Scope, Snapshot};
use super::stats::{Reject, Stats};
use super::timer::{Time, TimerQueue};

/// Events about peers kept for a shell that does not drain them, or in one turn; later ones are dropped and counted.
const EVENTS: usize = 1024;
/// Places beyond these, for what is told of the cluster and of this node: that is rare, and not lost among the many.
const OWN_EVENTS: usize = 64;
/// Round-trip times kept for a shell that does not drain them.
const ROUND_TRIPS: usize = 128;

/// One datagram to be sent: its bytes are in the buffer given to [`Node::poll_transmit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// The source address to send from: an answer leaves from the address that was asked. `None`: the system's
    /// choice.
    pub from: Option<IpAddr>,
}

fn sorted(mut pairs: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    pairs.sort_unstable();
    pairs
}

/// One node: the whole detector as a state machine. See the [module](super) for the contract of its face.
#[derive(Debug)]
pub struct Node {
    config: PeerConfig,
    ring: Keyring,
    /// All nodes; a place is an index of it.
    directory: Arc<Directory>,
    /// The place of this node.
    me: usize,
    instance: Instance,
    server_id: ServerId,
    /// Our tags, one for each key.
    own_tags: Vec<Tag>,
    /// What seals our hellos, one for each key.
    hello_keys: Vec<FrameKey>,
    /// One counter for all hellos of the run.
    hello_number: u64,
    registry: PeerRegistry,
    pool: ConnectionPool,
    sessions: Vec<Session>,
    beats: Vec<Heartbeat>,
    rhythm: Arc<Rhythm>,
    accounts: Vec<Account>,
    /// One deadline a peer, and one (the last) for reviews and for leaving.
    timers: TimerQueue,
    /// What all nodes say of themselves. A neighbour is a peer of the same index.
    records: Records,
    /// The place of each peer; and the peer at a place, sorted by place.
    places: Vec<usize>,
    by_place: Vec<(usize, usize)>,
    /// The nodes that this one does not observe, by place; and addresses that were told of them.
    others: Vec<Other>,
    /// Some of these with whom frames are exchanged.
    guests: Vec<Guest>,
    /// Sessions that begin after this node's start number their frames from here.
    spent_numbers: u64,
    /// Welcomes to all of them.
    guests_welcomed: Budget,
    addresses: BTreeMap<usize, SocketAddr>,
    strangers: Vec<Stranger>,
    twin: Twin,
    news: News,
    drawing: Drawing,
    drains: Drains,
    offers: Offers,
    majority: Majority,
    witnessing: Witnessing,
    /// Tags of ids that were learned: (index of the key, tag) to place.
    learned: HashMap<(usize, Tag), usize>,
    /// Addresses of the peers in the roster, and learned ones, to index of the peer.
    by_address: HashMap<SocketAddr, usize>,
    out: Outbox,
    events: VecDeque<Event>,
    round_trips: VecDeque<Duration>,
    stats: Stats,
    rng: SmallRng,
    started: Time,
    now: Time,
    isolation_times: IsolationTimes,
    /// The last call of [`handle_timeout`](Node::handle_timeout).
    turned: Time,
    /// The deadline that this turn of the loop came too late to.
    late_to: Option<Time>,
    /// The last stall's end and length; the last time the kernel dropped datagrams.
    stall: Option<(Time, Duration)>,
    /// How long the machine was suspended since the last turn.
    suspended: Duration,
    drops: Option<Time>,
    /// The last time it kept datagrams out of a queue that overflowed.
    filtered: Option<Time>,
    /// Its own questions to relays.
    relays_asked: Budget,
    /// Refused peers that it told the others of.
    pushes: Budget,
    last_recovery: Option<Time>,
    last_rollback: Option<Time>,
    conflict_told: Option<Time>,
    /// What the last review found, and when the next is due.
    quorum: bool,
    health: SelfHealth,
    mass_loss: MassLoss,
    /// Peers that are back from a Down that is not graded yet.
    grading: Vec<usize>,
    review_at: Time,
    leaving: Option<Leaving>,
}

impl Node {
    /// A node that has just started. `instance`: 64 bits from the operating system; `seed`: for phases and
    /// jitter, from the operating system too in production.
    ///
    /// # Errors
    /// The first thing that is wrong with `config`; two ids with one tag, naming both.
    pub fn new(
        config: PeerConfig,
        keys: Keyring,
        instance: Instance,
        seed: u64,
        now: Time,
    ) -> Result<Node, ConfigError> {
        config.validate()?;
        let directory = Arc::new(Directory::new(&config, &keys)?);
        Node::in_directory(config, keys, directory, instance, seed, now)
    }

    /// A node of a directory that was made of its configuration and keyring, or of equal ones.
    pub(crate) fn in_directory(
        config: PeerConfig,
        keys: Keyring,
        directory: Arc<Directory>,
        instance: Instance,
        seed: u64,
        now: Time,
    ) -> Result<Node, ConfigError> {
        let server_id = ServerId::new(&config.server_id).map_err(ConfigError::Invalid)?;
        let me = directory.place(&config.own_name).expect("a directory holds its own node");
        let (entries, places) = directory.observed_by(me);
        let (peers, own_tags) = (entries.len(), keys.tags(&config.server_id));
        let by_place = sorted(places.iter().copied().zip(0..).collect());
        let observed = || entries.iter().map(|entry| &config.static_peers[*entry]);
        let mut node = Node {
            records: Records::new(directory.names().clone(), me, &places),
            places,
            others: others::others(directory.len(), me, &by_place, now),
            guests: Vec::new(),
            spent_numbers: 0,
            guests_welcomed: Budget::default(),
            by_place,
            addresses: BTreeMap::new(),
            strangers: Vec::new(),
            twin: Twin::default(),
            me,
            news: News::new(now),
            drawing: Drawing::new(now),
            drains: Drains::new(),
            offers: Offers::new(config.labels.clone()),
            majority: Majority::default(),
            witnessing: Witnessing::default(),
            registry: PeerRegistry::of(observed(), &config),
            pool: ConnectionPool::of(observed()),
            sessions: Vec::with_capacity(peers),
            beats: Vec::with_capacity(peers),
            rhythm: Arc::new(Rhythm::of(&config)),
            accounts: Vec::with_capacity(peers),
            timers: TimerQueue::new(peers + 1),
            learned: HashMap::new(),
            by_address: HashMap::with_capacity(peers),
            out: Outbox::new(peers),
            events: VecDeque::new(),
            round_trips: VecDeque::with_capacity(ROUND_TRIPS),
            stats: Stats::default(),
            rng: SmallRng::seed_from_u64(seed),
            started: now,
            now,
            isolation_times: IsolationTimes::new(now),
            turned: now,
            late_to: None,
            stall: None,
            suspended: Duration::ZERO,
            drops: None,
            filtered: None,
            relays_asked: Budget::default(),
            pushes: Budget::default(),
            last_recovery: None,
            last_rollback: None,
            conflict_told: None,
            quorum: false,
            health: SelfHealth::Ok,
            mass_loss: MassLoss::of(&config, directory.len() - 1),
            grading: Vec::new(),
            review_at: now,
            leaving: None,
            server_id,
            hello_keys: Vec::new(),
            hello_number: 0,
            own_tags,
            instance,
            ring: keys,
            directory,
            config,
        };
        entries.into_iter().for_each(|entry| node.add_peer(entry));
        node.begin();
        Ok(node)
    }

    /// The tables are there, and the run begins.
    fn begin(&mut self) {
        self.make_hello_keys();
        self.publish_profile();
        self.publish_offers();
        self.note_witness();
        self.review();
    }

    fn add_peer(&mut self, entry: usize) {
        let (peer, entry) = (self.sessions.len(), &self.config.static_peers[entry]);
        let tags = entry.server_id.as_ref().map(|id| self.ring.tags(id));
        self.sessions.push(Session::new(tags.unwrap_or_default()));
        if let Some(address) = entry.address {
            self.by_address.insert(address, peer);
        }
        let (beat, account) = self.first_beat();
        self.beats.push(beat);
        self.accounts.push(account);
        self.arm(peer);
        self.refresh(peer);
    }

    /// Of a peer that nobody has tried yet. A starting node pings everybody, spread over one interval.
    fn first_beat(&mut self) -> (Heartbeat, Account) {
        let first = self.now + self.config.heartbeat_interval.mul_f64(self.share());
        let turn = self.rng_below(self.places.len());
        (Heartbeat::new(self.rhythm.clone(), first), Account::new(self.now, turn))
    }

    /// The peer at a place, if this node observes that.
    fn peer_at(&self, place: usize) -> Option<usize> {
        // Where everybody is a peer, only this node itself is missing before it.
        let guess = place - usize::from(place > self.me);
        let known = self.by_place.get(guess).filter(|known| known.0 == place);
        let search = || {
            self.by_place.binary_search_by_key(&place, |(place, _)| *place).ok().map(|at| &self.by_place[at])
        };
        known.or_else(search).map(|(_, peer)| *peer)
    }

    /// The place of the node with this tag under key `key`.
    fn place_of_tag(&self, key: usize, tag: Tag) -> Option<usize> {
        self.directory.place_of_tag(key, tag).or_else(|| self.learned.get(&(key, tag)).copied())
    }

    /// The peer with this tag under key `key`.
    fn peer_of_tag(&self, key: usize, tag: Tag) -> Option<usize> {
        self.peer_at(self.place_of_tag(key, tag)?)
    }

    /// Time has passed. Early, late or twice is safe; afterwards the next deadline is none or strictly later.
    pub fn handle_timeout(&mut self, now: Time) {
        self.advance(now);
        self.run_timers();
        self.turned = self.now;
        self.review();
    }

    /// A datagram came: from where, to which local address, when the kernel received it, and the time now. The
    /// bytes are opened in place. Deadlines are judged by [`handle_timeout`](Node::handle_timeout) alone, so the
    /// shell can empty the socket first.
    ///
    /// # Errors
    /// Why it was rejected; nothing but that reason's counter has changed.
    pub fn handle_datagram(
        &mut self,
        from: SocketAddr,
        local: Option<IpAddr>,
        bytes: &mut [u8],
        received: Time,
        now: Time,
    ) -> Result<(), Reject> {
        self.advance(now);
        self.stats.datagrams_received += 1;
        self.stats.received_bytes += bytes.len() as u64;
        if self.leaving.is_some() {
            return Ok(());
        }
        self.receive(from, local, bytes, received.min(self.now)).map_err(|reason| self.stats.reject(reason))
    }

    /// The machine was suspended for `length` until `now`. It names the cause of the stall that follows, and is no other
    /// change.
    pub fn handle_suspension(&mut self, length: Duration, now: Time) {
        self.advance(now);
        self.suspended = self.suspended.saturating_add(length);
    }

    /// A roster entry (by index in `static_peers`) has (again) been resolved. A learned address stays while its
    /// link works.
    ///
    /// # Panics
    /// If there is no such entry.
    pub fn set_address(&mut self, entry: usize, address: SocketAddr, now: Time) {
        self.advance(now);
        let name = self.config.static_peers[entry].roster_name();
        let place = self.directory.place(name).expect("a directory holds all entries");
        match self.peer_at(place) {
            Some(peer) => self.set_roster_address(peer, address),
            None => {
                self.addresses.insert(place, address);
            }
        }
    }

    fn set_roster_address(&mut self, peer: usize, address: SocketAddr) {
        let connection = self.pool.at_mut(peer);
        let old = connection.roster_address.replace(address);
        let moves = connection.remote_address == old || !connection.is_active;
        if let Some(old) = old.filter(|old| *old != address)
            && self.by_address.get(&old) == Some(&peer)
        {
            // Another entry may have the address that this one leaves.
            match (0..self.sessions.len()).find(|p| self.pool.at(*p).roster_address == Some(old)) {
                Some(other) => self.by_address.insert(old, other),
                None => self.by_address.remove(&old),
            };
        }
        self.by_address.insert(address, peer);
        if moves {
            self.set_remote(peer, address);
        }
    }

    /// Begins to leave: Leave is sent to every peer three times. Done when [`has_left`](Node::has_left).
    /// Nothing is received, and no heartbeat is sent, from now on.
    pub fn leave(&mut self, reason: LeaveReason, now: Time) {
        self.advance(now);
        if self.leaving.is_none() && !self.puts_off_leaving(reason) {
            self.tell_last_offers();
            self.leaving = Some(Leaving::new(reason));
            self.publish_profile();
            self.offers.turn += 1;
            for peer in 0..self.sessions.len() {
                self.timers.set(peer, None);
            }
            self.run_leaving();
        }
    }

    /// Whether the last Leave was handed out; the shell may stop then.
    pub fn has_left(&self) -> bool {
        self.leaving.as_ref().is_some_and(Leaving::is_done) && self.out.is_empty()
    }

    /// The reason that this run's leave announces; `None` before it leaves. A leave for good that could not be saved is
    /// announced as one for a restart.
    pub fn leave_reason(&self) -> Option<LeaveReason> {
        self.leaving.as_ref().map(Leaving::reason)
    }

    /// The next datagram to send, dated `now` and sealed; `buf` is cleared and filled. The shell reads its clock right
    /// before, and reports with [`handle_sent`](Node::handle_sent) when what it took has left.
    pub fn poll_transmit(&mut self, now: Time, buf: &mut Vec<u8>) -> Option<Transmit> {
        self.seal_next(now.max(self.now), buf)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// How many round-trip times wait for [`poll_rtt`](Node::poll_rtt).
    pub fn round_trips(&self) -> usize {
        self.round_trips.len()
    }

    /// The next round-trip time measured, for a histogram; the newest 128 are kept.
    pub fn poll_rtt(&mut self) -> Option<Duration> {
        self.round_trips.pop_front()
    }

    /// When to call [`handle_timeout`](Node::handle_timeout) next; `None`: not before another input.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.first().map(|(at, _)| at)
    }

    /// The whole picture at `now`. Costs O(peers) and allocates: for readers, not for every datagram.
    pub fn snapshot(&self, now: Time) -> Snapshot {
        self.snapshot_of(Scope::Whole, now)
    }

    /// So much of the picture at `now`.
    pub fn snapshot_of(&self, scope: Scope, now: Time) -> Snapshot {
        self.take_snapshot(scope, now.max(self.now))
    }

    /// From here on as if so many datagrams had been sent to each peer, and so many hellos.
    #[cfg(test)]
    pub(crate) fn skip_numbers(&mut self, sent: u64) {
        self.hello_number = sent;
        self.sessions.iter_mut().for_each(|session| session.skip_to(sent));
    }
    #[cfg(test)]
    pub(crate) fn out_len(&self) -> usize {
        self.out.queue_len()
    }
    #[cfg(test)]
    pub(crate) fn out_bytes(&self) -> usize {
        self.out.held()
    }

    /// The shell has read its settings anew: they are in force now, or nothing has changed. It becomes an event among the others,
    /// and is no other change. `why`: what has changed, or the culprit, in one line; what is no text is left out.
    pub fn note_reload(&mut self, succeeded: bool, why: &str, now: Time) {
        self.advance(now);
        let why = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.push_event(None, Change::Reload { succeeded }, why);
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The configuration in force.
    pub fn config(&self) -> &PeerConfig {
        &self.config
    }

    /// The registry of the peers.
    pub fn registry(&self) -> &PeerRegistry {
        &self.registry
    }

    /// The pool of their endpoints.
    pub fn connections(&self) -> &ConnectionPool {
        &self.pool
    }

    /// This run.
    pub fn instance(&self) -> Instance {
        self.instance
    }

    /// A fresh instance from the operating system, after [`Change::Rollback`]: every
    /// peer must confirm us anew, and we them.
    pub fn renew(&mut self, instance: Instance, now: Time) {
        self.advance(now);
        self.out.clear();
        self.instance = instance;
        self.make_hello_keys();
        self.publish_profile();
        self.renew_offers();
        for peer in 0..self.sessions.len() {
            self.sessions[peer].forget();
            self.beats[peer].role = Role::Alone;
            let wait = self.config.heartbeat_interval.mul_f64(self.share() / 4.0);
            self.beats[peer].probe_at(self.now + wait, self.now);
            self.arm(peer);
        }
        // Their keys were those of the old run.
        self.guests.iter_mut().for_each(|guest| guest.session.forget());
        // What it has not heard another process under its name may have.
        self.drop_proofs();
        (0..self.sessions.len()).for_each(|peer| self.note_heard_of(peer));
    }

    /// Time going backwards stands still. Notes a deadline that the loop came too late to, before any input can
    /// move it.
    fn advance(&mut self, now: Time) {
        self.now = self.now.max(now);
        let limit = Duration::from_millis(100).min(self.config.heartbeat_timeout / 4);
        if self.late_to.is_none() {
            self.late_to = self.timers.first().map(|(at, _)| at).filter(|at| self.now.since(*at) > limit);
        }
    }

    /// A random share, 0 to 1.
    fn share(&mut self) -> f64 {
        use rand::Rng;
        (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn rng_below(&mut self, end: usize) -> usize {
        (self.share() * end as f64) as usize
    }

    fn make_hello_keys(&mut self) {
        let nobody = (Tag::default(), Instance(0));
        self.hello_keys = (0..self.ring.len())
            .map(|k| self.ring.frame_key(k, (self.own_tags[k], self.instance), nobody))
            .collect();
    }

    /// Whether the roster has no id of the node at `place`.
    fn names_no_id(&self, place: usize) -> bool {
        self.directory.entry(place).is_some_and(|entry| self.config.static_peers[entry].server_id.is_none())
    }

    /// Enters the id of the node at `place` into the tables. Its tags.
    ///
    /// # Errors
    /// Another node has the same tag; nothing has changed.
    fn learn_tags(&mut self, place: usize, id: &str) -> Result<Vec<Tag>, Reject> {
        let tags = self.ring.tags(id);
        for (k, tag) in tags.iter().enumerate() {
            let known = self.place_of_tag(k, *tag).is_some_and(|other| other != place);
            if known || *tag == self.own_tags[k] {
                return Err(Reject::Meaning);
            }
        }
        // It has one id: what was told before, perhaps by another in its name, is over.
        self.learned.retain(|(k, tag), known| *known != place || tags[*k] == *tag);
        self.learned.extend(tags.iter().enumerate().map(|(k, tag)| ((k, *tag), place)));
        Ok(tags)
    }

    fn set_remote(&mut self, peer: usize, address: SocketAddr) {
        self.pool.at_mut(peer).remote_address = Some(address);
        self.registry.at_mut(peer).address = Some(address);
    }
}
