//! The roster of a running daemon: what `static_peers`, DNS and files name together, looked up again and again, and told to the
//! detector when it changes.

mod asking;
mod dns;
mod failures;
mod files;
mod union;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lastseen::net::{Clock, Handle};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::{error, info, warn};

use crate::reload::Proposal;
use crate::settings::{Entry, Identity, Listed, Resolved, RosterPlan, STATIC_PEERS, Told};
use asking::{Asked, Names, News, Query};
use dns::Resolver;
pub(crate) use failures::Failures;
use files::Files;
use files::Looked;
pub(crate) use files::Stamp;
use union::{Candidate, unite};

/// The start waits so long for names and files, and so does a reload. A dead resolver must not keep the detector from starting.
const AT_START: Duration = Duration::from_secs(2);
/// Files are looked at so often.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What comes within so long is told to the detector at once.
const TOGETHER: Duration = Duration::from_millis(100);
/// Answers that may wait.
const NEWS: usize = 64;

/// Another plan for the roster, looked up when it is checked. What there is to know: whether `static_peers` differs.
pub(crate) type Replan = Proposal<RosterPlan, bool>;

/// All sources, and what they name.
pub(crate) struct Discovery {
    plan: RosterPlan,
    identity: Identity,
    static_peers: Arc<str>,
    files: Files,
    looking: Option<JoinHandle<Looked>>,
    asked: BTreeMap<Query, Asked>,
    sender: mpsc::Sender<News>,
    news: mpsc::Receiver<News>,
    failures: Arc<Failures>,
    /// Whether the detector runs: before, nothing is said of failures, which may end soon.
    is_kept: bool,
    /// What is odd, and was told.
    odd: BTreeSet<String>,
    /// Why the newest roster is not in force.
    refused: Option<String>,
    /// What the detector knows.
    told: Told,
}

impl Discovery {
    /// Looks up everything, and waits a while for the answers.
    pub(crate) async fn start(plan: RosterPlan, identity: Identity) -> Discovery {
        let (sender, news) = mpsc::channel(NEWS);
        let told = Told { server_id: String::new(), own_name: "".into(), peers: Vec::new() };
        let mut discovery = Discovery {
            plan,
            identity,
            static_peers: STATIC_PEERS.into(),
            files: Files::default(),
            looking: None,
            asked: BTreeMap::new(),
            sender,
            news,
            failures: Arc::default(),
            is_kept: false,
            odd: BTreeSet::new(),
            refused: None,
            told,
        };
        discovery.failures.expect(discovery.plan.sources());
        discovery.look_and_settle().await;
        discovery
    }

    /// The roster as it is now.
    pub(crate) fn roster(&mut self) -> Resolved {
        let (roster, odd) = self.unite();
        for text in &odd {
            if !self.odd.contains(text) {
                warn!("roster: {text}");
            }
        }
        self.odd = odd.into_iter().collect();
        roster
    }

    /// Failed look-ups.
    pub(crate) fn failures(&self) -> Arc<Failures> {
        Arc::clone(&self.failures)
    }

    /// Keeps the roster of the detector, which was started with `told`, right for as long as it runs.
    pub(crate) async fn keep(mut self, told: Told, handle: Handle, mut changes: mpsc::Receiver<Replan>) {
        self.identity.settle(&told.server_id);
        self.told = told;
        self.is_kept = true;
        self.asked.iter().for_each(|(query, asked)| complain(query, asked));
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_changed = tokio::select! {
                Some(news) = self.news.recv() => self.take_all(news).await,
                Some(looked) = finished(&mut self.looking) => self.take_files(looked),
                _ = look.tick(), if self.looking.is_none() && !self.plan.files.is_empty() => {
                    self.looking = Some(self.look());
                    false
                }
                Some(change) = changes.recv() => {
                    self.change(change, &handle).await;
                    false
                }
            };
            if is_changed && let Err(why) = self.apply(&handle).await {
                self.refuse(why);
            }
        }
    }

    /// Takes an answer, and all that come shortly after it. Returns whether the roster may be another one.
    async fn take_all(&mut self, first: News) -> bool {
        let mut is_changed = self.take(first);
        if is_changed {
            sleep(TOGETHER).await;
        }
        while let Ok(news) = self.news.try_recv() {
            is_changed |= self.take(news);
        }
        is_changed
    }

    /// Takes one answer. Returns whether the roster may be another one.
    fn take(&mut self, (query, answer): News) -> bool {
        let Some(asked) = self.asked.get_mut(&query) else { return false };
        let was_failing = asked.failing.take().is_some();
        asked.is_settled = true;
        match answer {
            Ok(found) if query.is_of_host() => {
                let is_changed = asked.is_at(found);
                if let Some(address) = asked.address().filter(|_| is_changed || was_failing) {
                    info!(peer = asked.what, %address, "name resolves");
                }
                is_changed
            }
            Ok(found) => {
                if was_failing {
                    info!(source = asked.what, "is answered again");
                }
                asked.are(found, Clock.now(), self.plan.forget_after)
            }
            Err(why) => {
                self.failures.count(&asked.source);
                asked.failing = Some(why);
                if self.is_kept && !was_failing {
                    complain(&query, asked);
                }
                false
            }
        }
    }

    /// Takes what stands in the files. Returns whether the roster may be another one.
    fn take_files(&mut self, looked: Looked) -> bool {
        for (source, why) in looked.faults {
            self.failures.count(&source);
            warn!("peer_files: {why}; what was there before is kept");
        }
        self.files = looked.files;
        looked.changed
    }

    fn look(&self) -> JoinHandle<Looked> {
        let (files, plan, only_loopback) =
            (self.files.clone(), self.plan.files.clone(), self.plan.only_loopback);
        // They may lie where looking at them hangs: nobody waits for that.
        tokio::task::spawn_blocking(move || files.look(&plan, only_loopback))
    }

    /// Looks at the files, asks all that was not asked, and waits for the answers, but not for long.
    async fn look_and_settle(&mut self) {
        let settle = async {
            self.looking = (!self.plan.files.is_empty()).then(|| self.look());
            if self.looking.is_none() {
                self.files = Files::default();
            } else if let Some(looked) = finished(&mut self.looking).await {
                self.take_files(looked);
            }
            self.ask();
            while self.asked.values().any(|asked| !asked.is_settled) {
                let Some(news) = self.news.recv().await else { return };
                let finds_names = !news.0.is_of_host();
                self.take(news);
                if finds_names {
                    self.ask();
                }
            }
        };
        // Late answers are not lost.
        let _ = timeout(AT_START, settle).await;
    }

    fn resolver(&self) -> Resolver {
        Resolver { servers: self.plan.servers.clone(), listen: self.identity.listen() }
    }

    /// Asks what has to be asked now, and was not.
    fn ask(&mut self) {
        let resolver = self.resolver();
        for (query, names) in self.needed() {
            if !self.asked.contains_key(&query) {
                let asked = Asked::new(query.clone(), names, (&resolver, self.plan.refresh), &self.sender);
                self.asked.insert(query, asked);
            }
        }
    }

    /// All that has to be asked.
    fn needed(&self) -> BTreeMap<Query, Names> {
        let mut needed = BTreeMap::new();
        for listed in &self.plan.listed {
            if let Some(query) = Query::for_many(listed) {
                needed.insert(query, (listed.to_string().into(), listed.to_string()));
            }
        }
        for Candidate { entry, source, .. } in self.candidates() {
            if let Some(query) = Query::for_entry(entry) {
                needed.entry(query).or_insert_with(|| (Arc::clone(source), entry.to_string()));
            }
        }
        needed
    }

    /// Whoever any source names.
    fn candidates(&self) -> Vec<Candidate<'_>> {
        let address = |entry: &Entry| {
            let asked =
                || Query::for_entry(entry).and_then(|query| self.asked.get(&query)).and_then(Asked::address);
            entry.literal().or_else(asked)
        };
        let mut candidates = Vec::with_capacity(self.plan.listed.len());
        for listed in &self.plan.listed {
            if let Listed::Entry(entry) = listed {
                let source = &self.static_peers;
                candidates.push(Candidate { entry, source, address: address(entry), is_static: true });
            } else if let Some(asked) = Query::for_many(listed).and_then(|query| self.asked.get(&query)) {
                let source = &asked.source;
                let found = |entry| Candidate { entry, source, address: address(entry), is_static: false };
                candidates.extend(asked.nodes().map(found));
            }
        }
        let found = |(source, entry)| Candidate { entry, source, address: address(entry), is_static: false };
        candidates.extend(self.files.entries().map(found));
        candidates
    }

    fn unite(&self) -> (Resolved, Vec<String>) {
        let held: BTreeMap<&str, SocketAddr> =
            self.told.peers.iter().filter_map(|peer| Some((&*peer.name, peer.address?))).collect();
        unite(&self.candidates(), |entry| held.get(entry.name().as_str()).copied())
    }

    /// Tells the detector of the roster, if it is another one.
    async fn apply(&mut self, handle: &Handle) -> Result<(), String> {
        self.ask();
        let roster = self.roster();
        let needed = self.needed();
        self.asked.retain(|query, _| needed.contains_key(query));
        let told = self.identity.split(&roster)?;
        let entries = |told: &Told| -> Vec<_> {
            told.peers.iter().map(|peer| (peer.server_id.clone(), Arc::clone(&peer.name))).collect()
        };
        if entries(&self.told) == entries(&told) && self.told.own_name == told.own_name {
            for (index, (old, new)) in self.told.peers.iter_mut().zip(&told.peers).enumerate() {
                if let Some(address) = new.address.filter(|_| old.address != new.address) {
                    handle.set_address(index, address);
                    old.address = Some(address);
                }
            }
        } else {
            let answer = handle.set_roster(told.peers.as_slice().into(), Arc::clone(&told.own_name)).await;
            answer.ok_or("the detector's loop has ended")?.map_err(|e| e.to_string())?;
            self.told = told;
        }
        self.refused = None;
        Ok(())
    }

    /// Another plan: it is in force as a whole, or not at all.
    async fn change(&mut self, change: Replan, handle: &Handle) {
        let differs = change.plan.listed != self.plan.listed;
        let is_asked_otherwise =
            change.plan.servers != self.plan.servers || change.plan.refresh != self.plan.refresh;
        let files = self.files.clone();
        if change.plan.only_loopback != self.plan.only_loopback {
            // What is allowed in them is not what it was.
            self.files = Files::default();
        }
        let plan = std::mem::replace(&mut self.plan, change.plan);
        self.failures.expect(self.plan.sources());
        self.look_and_settle().await;
        let checked = self.identity.split(&self.unite().0).map(|_| differs);
        let is_fine = checked.is_ok();
        // Who does not wait for it does not say that it shall be so.
        let _ = change.checked.send(checked);
        match change.go.await {
            Ok(done) if is_fine => {
                if is_asked_otherwise {
                    let resolver = self.resolver();
                    for (query, asked) in &mut self.asked {
                        asked.restart(query.clone(), (&resolver, self.plan.refresh), &self.sender);
                    }
                }
                let _ = done.send(self.apply(handle).await);
            }
            _ => {
                (self.plan, self.files, self.looking) = (plan, files, None);
                self.failures.expect(self.plan.sources());
                // What was answered meanwhile counts all the same.
                if let Err(why) = self.apply(handle).await {
                    self.refuse(why);
                }
            }
        }
    }

    /// Says why the newest roster is not in force, once.
    fn refuse(&mut self, why: String) {
        if self.refused.as_ref() != Some(&why) {
            error!("roster: the newest is not in force: {why}");
        }
        self.refused = Some(why);
    }
}

/// Says that a look-up fails, if it does.
fn complain(query: &Query, asked: &Asked) {
    if let Some(why) = &asked.failing {
        let until = match asked.address() {
            _ if !query.is_of_host() => "who was found before is kept until then".to_owned(),
            Some(address) => format!("{address} is kept until then"),
            None => "it is unknown until then".to_owned(),
        };
        warn!(peer = asked.what, "name does not resolve, trying on ({until}): {why}");
    }
}

/// The roster that a plan and its files name, without asking a resolver; and what is odd about it. For a check: who is missing may
/// come later.
pub(crate) fn without_names(plan: &RosterPlan) -> (Resolved, Vec<String>) {
    let looked = Files::default().look(&plan.files, plan.only_loopback);
    let source = STATIC_PEERS.into();
    let written = plan.listed.iter().filter_map(Listed::entry);
    let written =
        written.map(|entry| Candidate { entry, source: &source, address: entry.literal(), is_static: true });
    let found = looked.files.entries();
    let found =
        found.map(|(source, entry)| Candidate { entry, source, address: entry.literal(), is_static: false });
    let (roster, odd) = unite(&written.chain(found).collect::<Vec<_>>(), |_| None);
    let faults = looked.faults.into_iter().map(|(_, why)| format!("peer_files: {why}"));
    (roster, faults.chain(odd).collect())
}

/// Waits for the end of a look at files, if there is one. `None`: it was given up, since the daemon ends.
pub(crate) async fn finished<T>(looking: &mut Option<JoinHandle<T>>) -> Option<T> {
    let looked = match looking {
        Some(task) => task.await.ok(),
        None => std::future::pending().await,
    };
    *looking = None;
    looked
}

#[cfg(test)]
mod tests;
