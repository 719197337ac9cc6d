//! What nodes say for clients: labels, services and migrations, this node's own and those of all.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;

use super::Node;
use super::views::OVERHEAD;
use crate::proto::catalog::{Announced, Catalog, ServiceInstance};
use crate::proto::config::ConfigError;
use crate::proto::event::Change;
use crate::proto::labels::Labels;
use crate::proto::migration::{Migrating, Migration, Migrations, Move};
use crate::proto::peer::PeerStatus;
use crate::proto::records::{Body, Kind, Met, NodeName, Notice, Offer, Record};
use crate::proto::service::{Service, ServiceName, ServiceState, Services};
use crate::proto::timer::Time;
use crate::proto::verdict::Verdict;

/// Bytes of a record beside its notice or offer.
const HEAD: usize = 24;
/// So many migrations of one node are remembered, that go on or are over: what its earlier runs announced too.
const REMEMBERED: usize = 8 * Migrations::MOST;
/// A migration is remembered for so long after its end, lest a clock that is set back tells it again.
const AFTER: Duration = Duration::from_secs(3600);

/// What this node says for clients, and what it was told.
#[derive(Debug)]
pub(super) struct Offers {
    pub(super) labels: Labels,
    services: Services,
    /// Each with its end.
    migrations: Vec<(Migration, Time)>,
    /// What it says has changed since it was last published; and when that was.
    changed: bool,
    published: Time,
    /// Migrations that were told here, by who announced them, and until when they are remembered. At most [`REMEMBERED`] of each.
    told: BTreeMap<(NodeName, u64), Time>,
    /// One more with every change of the catalog.
    pub(super) turn: u64,
}

impl Offers {
    pub(super) fn new(labels: Labels) -> Offers {
        Offers {
            changed: labels != Labels::default(),
            labels,
            services: Services::default(),
            migrations: Vec::new(),
            published: Time::ZERO,
            told: BTreeMap::new(),
            turn: 0,
        }
    }

    fn notice(&self) -> Notice {
        let migrations: Vec<Migration> =
            self.migrations.iter().map(|(migration, _)| migration.clone()).collect();
        let migrations = Migrations::try_from(migrations).expect("no more are taken");
        Notice { labels: self.labels.clone(), migrations }
    }
}

impl Node {
    /// From now on this is what the operator says of this node. All are told at once.
    ///
    /// # Errors
    /// They do not fit into a datagram; nothing has changed.
    pub fn set_labels(&mut self, labels: Labels, now: Time) -> Result<(), ConfigError> {
        self.advance(now);
        let notice = Notice { labels, ..self.offers.notice() };
        self.fits(&Body::Notice(Box::new(notice.clone())), "the labels, and migrations that go on,")?;
        self.offers.labels = notice.labels;
        self.tell_offers();
        Ok(())
    }

    /// What this node offers.
    pub fn services(&self) -> &Services {
        &self.offers.services
    }

    /// This node offers a service, or says something else of it than before: it takes the place of the one of its name. All are
    /// told at once, and of what changes within half an interval together.
    ///
    /// # Errors
    /// There are too many services, or they do not fit into a datagram; nothing has changed.
    pub fn publish_service(&mut self, service: Service, now: Time) -> Result<(), ConfigError> {
        self.advance(now);
        let name = service.name.clone();
        let services = self.offers.services.with(service).map_err(ConfigError::Invalid)?;
        self.fits(&Body::Offer(self.offer(services.clone())), "the services")?;
        self.set_services(services, &name);
        Ok(())
    }

    /// This node offers that service no longer. False, and no change, if it did not.
    pub fn withdraw_service(&mut self, name: &ServiceName, now: Time) -> bool {
        self.advance(now);
        let is_there = self.offers.services.get(name).is_some();
        if is_there {
            self.set_services(self.offers.services.without(name), name);
        }
        is_there
    }

    /// Clients are to move: every node that lives, and every one that comes back before the end, is told once. It becomes an
    /// event there, and here, unless a queue of events overflows; a list of those that go on is in the catalog. The end of this run
    /// ends it. Its id. It lasts by the wall clocks of all: see [`set_wall_clock`](Node::set_wall_clock).
    ///
    /// # Errors
    /// It ends at once; this node announces too many already, or they do not fit into a datagram; nothing has changed.
    pub fn migrate(&mut self, moving: Move, now: Time) -> Result<u64, ConfigError> {
        self.advance(now);
        let Move { service, from, to, reason, within } = moving;
        if within.is_zero() {
            return Err(ConfigError::Invalid("a migration has no time; more than none is right".to_owned()));
        }
        let within = within.min(Migration::LONGEST);
        // Whole seconds, and not before it is over here.
        let deadline = self.drains.wall_at(self.now + within + Duration::from_micros(999_999)).as_secs();
        let migration = Migration { id: self.rng.next_u64(), service, from, to, reason, deadline };
        let mut all = self.offers.migrations.clone();
        all.push((migration.clone(), self.now + within));
        if all.len() > Migrations::MOST {
            let text = format!("{} migrations go on; wait until one of them is over", Migrations::MOST);
            return Err(ConfigError::Invalid(text));
        }
        let before = std::mem::replace(&mut self.offers.migrations, all);
        let notice = Body::Notice(Box::new(self.offers.notice()));
        if let Err(error) = self.fits(&notice, "the labels, and the migrations that go on,") {
            self.offers.migrations = before;
            return Err(error);
        }
        self.tell_offers();
        let id = migration.id;
        self.tell_migration(self.me, migration);
        Ok(id)
    }

    fn fits(&self, body: &Body, what: &str) -> Result<(), ConfigError> {
        let (bytes, most) = (body.encoded_len() + HEAD, self.config.max_datagram - OVERHEAD);
        if bytes <= most {
            return Ok(());
        }
        let text = format!(
            "{what} have {bytes} bytes together; with a max_datagram of {} at most {most} pass",
            self.config.max_datagram
        );
        Err(ConfigError::Invalid(text))
    }

    fn offer(&self, services: Services) -> Offer {
        Offer { instance: self.instance, services }
    }

    fn set_services(&mut self, services: Services, name: &ServiceName) {
        let before = std::mem::replace(&mut self.offers.services, services);
        let (from, to) = (before.get(name).cloned(), self.offers.services.get(name).cloned());
        if from == to {
            return;
        }
        self.tell_offers();
        if let Some((change, why)) = told(name, from.map(|s| s.state), to.map(|s| s.state)) {
            self.push_event(None, change, why);
        }
    }

    /// What this node says for clients has changed: all are told at once, or as soon as it may publish again.
    pub(super) fn tell_offers(&mut self) {
        self.offers.changed = true;
        self.offers.turn += 1;
        if self.may_publish_offers() {
            self.push_to_all();
        } else {
            self.review_by(self.offers.published + self.config.heartbeat_interval / 2);
        }
    }

    fn may_publish_offers(&self) -> bool {
        let soon = self.offers.published + self.config.heartbeat_interval / 2;
        self.offers.changed && self.now >= soon && self.leaving.is_none()
    }

    /// Says what this node has for clients, if that has changed. What changes in short order goes together.
    pub(super) fn publish_offers(&mut self) {
        if !self.may_publish_offers() {
            return;
        }
        self.offers.changed = false;
        self.offers.published = self.now;
        self.records.publish(Body::Notice(Box::new(self.offers.notice())));
        self.records.publish(Body::Offer(self.offer(self.offers.services.clone())));
    }

    /// What waits is told before this run ends.
    pub(super) fn tell_last_offers(&mut self) {
        if self.offers.changed {
            self.offers.published = Time::ZERO;
            self.push_to_all();
        }
    }

    /// What has waited is told; migrations that are over end.
    pub(super) fn review_offers(&mut self) {
        let now = self.now;
        let ended = self.offers.migrations.extract_if(.., |(_, end)| *end <= now).count();
        self.offers.changed |= ended > 0;
        self.offers.turn += u64::from(ended > 0);
        self.offers.told.retain(|_, until| *until > now);
        if self.may_publish_offers() {
            self.push_to_all();
        }
    }

    /// This run is another one, or its profile is: what it offers is told anew.
    pub(super) fn renew_offers(&mut self) {
        self.offers.changed = true;
        self.offers.published = Time::ZERO;
        self.publish_offers();
    }

    /// Takes a record over, if it is news; and what its owner says in it of drains and clients.
    pub(super) fn meet_record(&mut self, record: &Record, from: Option<usize>) -> Met {
        let place = self.records.place(record.owner);
        let offered = match record.body {
            Body::Offer(_) => place.and_then(|place| self.records.offer(place)).cloned(),
            _ => None,
        };
        let peer =
            place.and_then(|place| self.peer_at(place)).filter(|_| record.body.kind() == Kind::Profile);
        let left = peer.and_then(|peer| self.leave_of(peer, self.now));
        let met = self.records.merge(record, from);
        let Met::New(place) = met else { return met };
        match &record.body {
            Body::Row(_) | Body::CutRow(_) => return met,
            Body::Profile(profile) => {
                self.note_drain(place, record.owner, profile.draining());
                if let Some(peer) = peer {
                    self.note_leave(peer, profile, left);
                }
            }
            Body::Notice(notice) => self.note_migrations(place, record.owner, &notice.migrations),
            Body::Offer(offer) => self.note_offer(place, offered, offer),
        }
        if matches!(record.body.kind(), Kind::Notice | Kind::Offer) {
            // Where not everybody is told by the owner itself, it goes further at once.
            self.news.urgent = true;
            if !self.others.is_empty() {
                self.review_by(self.news.pushed + self.push_pause());
            }
        }
        self.offers.turn += 1;
        met
    }

    fn note_migrations(&mut self, place: usize, owner: NodeName, migrations: &Migrations) {
        for migration in migrations.iter() {
            let end = self.drains.ends(migration.deadline, Migration::LONGEST, self.now);
            let is_new = !self.offers.told.contains_key(&(owner, migration.id));
            if is_new && end > self.now && self.remembers_one_more(owner) {
                self.offers.told.insert((owner, migration.id), end + AFTER);
                self.tell_migration(place, migration.clone());
            }
        }
    }

    /// Makes room for one more migration of a node: the one that ended first is forgotten. False: so many go on.
    fn remembers_one_more(&mut self, owner: NodeName) -> bool {
        let known = || self.offers.told.range((owner, 0)..=(owner, u64::MAX));
        if known().count() < REMEMBERED {
            return true;
        }
        let oldest =
            known().min_by_key(|(_, until)| **until).filter(|(_, until)| **until <= self.now + AFTER);
        let oldest = oldest.map(|(one, _)| *one);
        oldest.is_some_and(|one| self.offers.told.remove(&one).is_some())
    }

    fn tell_migration(&mut self, place: usize, migration: Migration) {
        let left = self.drains.ends(migration.deadline, Migration::LONGEST, self.now).since(self.now);
        let why = Migrating { left, migration: migration.clone() }.to_string();
        self.push_event_at(place, Change::Migrate(Box::new(migration)), why);
    }

    fn note_offer(&mut self, place: usize, before: Option<Offer>, offer: &Offer) {
        let before = before.map(|before| before.services).unwrap_or_default();
        let names = before.iter().chain(offer.services.iter()).map(|service| &service.name);
        let names: std::collections::BTreeSet<&ServiceName> = names.collect();
        for name in names {
            let state = |services: &Services| services.get(name).map(|service| service.state);
            if let Some((change, why)) = told(name, state(&before), state(&offer.services)) {
                self.push_event_at(place, change, why);
            }
        }
    }

    /// An event about the node at `place`; about no peer, if that is this node itself.
    pub(super) fn push_event_at(&mut self, place: usize, change: Change, why: String) {
        if let Some(peer) = self.peer_at(place) {
            self.push_event(Some(peer), change, why);
        } else if let Some(index) = self.other_at(place) {
            self.push_event_of_other(index, change, why);
        } else {
            self.push_event(None, change, why);
        }
    }

    /// The roster has changed: this node, that was called `own`, may be called otherwise, and who is gone is forgotten.
    pub(super) fn move_offers(&mut self) {
        self.renew_offers();
        self.offers.turn += 1;
    }

    /// What the operator of the node at `place` says of it; `None`: that node has said nothing yet.
    pub(super) fn labels_at(&self, place: usize) -> Option<Labels> {
        self.records.profile(place)?;
        Some(self.records.notice(place).map(|notice| notice.labels.clone()).unwrap_or_default())
    }

    /// Another number whenever [`catalog`](Node::catalog) may say something else than before.
    pub fn catalog_turn(&self) -> u64 {
        self.offers.turn
    }

    /// All services of all nodes, this one's too, and the migrations that go on. Costs O(nodes that offer something).
    pub fn catalog(&self, now: Time) -> Catalog {
        let now = now.max(self.now);
        let mut catalog = Catalog::default();
        self.enter_into(
            &mut catalog,
            self.me,
            &self.offer(self.offers.services.clone()),
            &self.offers.notice(),
            now,
        );
        let mut last = None;
        for place in self.records.outspoken().filter(|place| *place != self.me) {
            if last.replace(place) == Some(place) {
                continue;
            }
            let nothing = || Offer { instance: self.instance, services: Services::default() };
            let run = self.run_at(place);
            let offer = self.records.offer(place).filter(|offer| run == Some(offer.instance));
            let notice = self.records.notice(place).cloned().unwrap_or_default();
            self.enter_into(&mut catalog, place, &offer.cloned().unwrap_or_else(nothing), &notice, now);
        }
        catalog
            .instances
            .sort_by(|a, b| (&a.service.name, &a.server_id).cmp(&(&b.service.name, &b.server_id)));
        catalog
    }

    /// The present run of the node at `place`, as far as this one knows it.
    fn run_at(&self, place: usize) -> Option<crate::proto::seal::Instance> {
        let peer = self.peer_at(place).filter(|peer| !self.is_told_another_run(*peer));
        let confirmed = peer.and_then(|peer| self.sessions[peer].confirmed.as_ref());
        confirmed.map(|c| c.instance).or_else(|| self.records.profile(place).map(|profile| profile.instance))
    }

    fn enter_into(&self, catalog: &mut Catalog, place: usize, offer: &Offer, notice: &Notice, now: Time) {
        let (status, verdict) = match (self.peer_at(place), self.other_at(place)) {
            (Some(peer), _) => self.told_of(peer),
            (None, Some(other)) => (self.others[other].status, self.others[other].verdict),
            (None, None) => (PeerStatus::Healthy, Verdict::Up),
        };
        let drains = self.draining(place, now).is_some() || place == self.me && self.leaving.is_some();
        let server_id = self.id_of(place);
        let instance = |service: &Service| ServiceInstance {
            server_id: server_id.clone(),
            service: service.clone(),
            labels: notice.labels.clone(),
            status,
            verdict,
            drains,
        };
        catalog.instances.extend(offer.services.iter().map(instance));
        let announced = notice.migrations.iter().map(|migration| Announced {
            by: server_id.clone(),
            migration: migration.clone(),
            until: self.drains.ends(migration.deadline, Migration::LONGEST, now),
        });
        catalog.migrations.extend(announced.filter(|announced| announced.until > now));
    }
}

/// What is told of a service whose state was `from`, or that was not offered, and now is `to`.
fn told(
    name: &ServiceName,
    from: Option<ServiceState>,
    to: Option<ServiceState>,
) -> Option<(Change, String)> {
    let why = match (from, to) {
        (from, to) if from == to => return None,
        (Some(from), Some(to)) => format!("its service {name} is {to} now, and was {from}"),
        (None, Some(to)) => format!("it offers the service {name}, which is {to}"),
        (_, None) => format!("it offers the service {name} no longer"),
    };
    Some((Change::Service { service: name.clone(), from, to }, why))
}
