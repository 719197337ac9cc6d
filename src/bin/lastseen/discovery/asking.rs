//! Questions to the resolver that are asked again and again, and what is known from their answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lastseen::proto::Time;
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::dns::Resolver;
use crate::settings::{Entry, Host, Listed};

/// The spacing of retries doubles from the first to the longest.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Query {
    /// The one address of a node.
    Host { name: String, port: u16 },
    /// The addresses of a name, each of which is a node.
    Addresses { name: String, port: u16 },
    /// The services of a name, each of which is a node.
    Services { name: String },
}

/// The nodes that an answer names; of a host its addresses.
pub(super) type Answer = Result<Vec<Entry>, String>;
pub(super) type News = (Query, Answer);

impl Query {
    /// What has to be asked for an entry, if it is not an address.
    pub(super) fn for_entry(entry: &Entry) -> Option<Query> {
        match &entry.host {
            Host::Ip(_) => None,
            Host::Name(name) => Some(Query::Host { name: name.clone(), port: entry.port }),
        }
    }

    /// What has to be asked for a name of many nodes.
    pub(super) fn for_many(listed: &Listed) -> Option<Query> {
        match listed {
            Listed::Entry(_) => None,
            Listed::Addresses { name, port } => Some(Query::Addresses { name: name.clone(), port: *port }),
            Listed::Services { name } => Some(Query::Services { name: name.clone() }),
        }
    }

    /// Whether the answer is the address of one node, and not the nodes themselves.
    pub(super) fn is_of_host(&self) -> bool {
        matches!(self, Query::Host { .. })
    }

    async fn ask(&self, resolver: &Resolver) -> Answer {
        let entry = |host, port| Entry { server_id: None, host, port };
        let mut found: Vec<Entry> = match self {
            Query::Host { name, port } | Query::Addresses { name, port } => {
                let found = resolver.addresses(name, *port).await?;
                found.into_iter().map(|address| entry(Host::Ip(address.ip().to_canonical()), *port)).collect()
            }
            Query::Services { name } => {
                let found = resolver.services(name).await?;
                found.into_iter().map(|(target, port)| entry(Host::Name(target), port)).collect()
            }
        };
        if self.is_of_host() {
            return if found.is_empty() {
                Err(format!("no address that {} can reach", resolver.listen))
            } else {
                Ok(found)
            };
        }
        // Rotating answers change nothing.
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}

/// Asks at once, and then again and again.
async fn keep_asking(query: Query, resolver: Resolver, refresh: Duration, news: mpsc::Sender<News>) {
    let mut retry = FIRST_RETRY;
    loop {
        let answer = query.ask(&resolver).await;
        let pause = if answer.is_ok() { refresh } else { retry };
        retry = if answer.is_ok() { FIRST_RETRY } else { (retry * 2).min(LONGEST_RETRY) };
        if news.send((query.clone(), answer)).await.is_err() {
            return;
        }
        tokio::time::sleep(jittered(pause)).await;
    }
}

/// `pause`, shorter by up to a quarter, so that a fleet started at once does not ask at once.
fn jittered(pause: Duration) -> Duration {
    let random = SysRng.try_next_u32().unwrap_or(0);
    pause.mul_f64(1.0 - 0.25 * f64::from(random) / f64::from(u32::MAX))
}

/// What failures are counted under, and what is asked for as it is written.
pub(super) type Names = (Arc<str>, String);

/// A task that ends with this.
#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One query: its task, and what is known.
#[derive(Debug)]
pub(super) struct Asked {
    _task: Task,
    /// What failures are counted under.
    pub(super) source: Arc<str>,
    /// What it is asked for, as it is written.
    pub(super) what: String,
    /// Whether there was an answer, or a failure.
    pub(super) is_settled: bool,
    /// Why the newest look-up failed, if it did.
    pub(super) failing: Option<String>,
    /// What answers named; and since when they do no more.
    known: Vec<(Entry, Option<Time>)>,
}

impl Asked {
    /// Asks from now on.
    pub(super) fn new(
        query: Query,
        names: Names,
        how: (&Resolver, Duration),
        news: &mpsc::Sender<News>,
    ) -> Asked {
        let _task = Asked::begin(query, how, news);
        let (source, what) = names;
        Asked { _task, source, what, is_settled: false, failing: None, known: Vec::new() }
    }

    fn begin(query: Query, how: (&Resolver, Duration), news: &mpsc::Sender<News>) -> Task {
        let (resolver, refresh) = how;
        Task(tokio::spawn(keep_asking(query, resolver.clone(), refresh, news.clone())).abort_handle())
    }

    /// Asks in another way from now on; what is known stays.
    pub(super) fn restart(&mut self, query: Query, how: (&Resolver, Duration), news: &mpsc::Sender<News>) {
        self._task = Asked::begin(query, how, news);
    }

    /// The nodes that answers name.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Entry> {
        self.known.iter().map(|(entry, _)| entry)
    }

    /// The address of a host.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.nodes().next().and_then(Entry::literal)
    }

    /// The addresses of a host were found. Of many the one in use stays, so that rotating answers move nothing. Returns whether it is
    /// another one now.
    pub(super) fn is_at(&mut self, found: Vec<Entry>) -> bool {
        if self.nodes().next().is_some_and(|known| found.contains(known)) {
            return false;
        }
        self.known = found.into_iter().take(1).map(|entry| (entry, None)).collect();
        true
    }

    /// These nodes were found. Who is missing for `forget_after` is forgotten. Returns whether there are others now.
    pub(super) fn are(&mut self, found: Vec<Entry>, now: Time, forget_after: Duration) -> bool {
        for (entry, missing) in &mut self.known {
            *missing = if found.contains(entry) { None } else { Some(missing.unwrap_or(now)) };
        }
        let before = self.known.len();
        self.known.retain(|(_, missing)| missing.is_none_or(|since| now.since(since) < forget_after));
        let mut is_changed = self.known.len() < before;
        for entry in found {
            if !self.nodes().any(|known| *known == entry) {
                self.known.push((entry, None));
                is_changed = true;
            }
        }
        is_changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(texts: &[&str]) -> Vec<Entry> {
        texts.iter().map(|t| Entry::parse(t).unwrap()).collect()
    }

    async fn asked() -> Asked {
        let resolver = Resolver { servers: Vec::new(), listen: ([127, 0, 0, 1], 1).into() };
        let (news, _) = mpsc::channel(1);
        let query = Query::Host { name: "127.0.0.1".to_owned(), port: 1 };
        Asked::new(query, ("s".into(), String::new()), (&resolver, FIRST_RETRY), &news)
    }

    #[tokio::test]
    async fn the_address_in_use_stays_while_it_is_among_the_answers() {
        let mut asked = asked().await;
        assert!(asked.is_at(entries(&["10.0.0.1:1", "10.0.0.2:1"])));
        assert!(!asked.is_at(entries(&["10.0.0.2:1", "10.0.0.1:1"])));
        assert_eq!(asked.address(), "10.0.0.1:1".parse().ok());
        assert!(asked.is_at(entries(&["10.0.0.3:1"])));
        assert_eq!(asked.address(), "10.0.0.3:1".parse().ok());
    }

    #[tokio::test]
    async fn who_is_missing_is_forgotten_after_a_while() {
        let (mut asked, day) = (asked().await, Duration::from_secs(86_400));
        let at = |days: u32| Time::ZERO + day * days;
        let names = |asked: &Asked| asked.nodes().map(Entry::to_string).collect::<Vec<_>>();
        assert!(asked.are(entries(&["a:1", "b:1"]), at(0), day * 2));
        assert!(!asked.are(entries(&["b:1"]), at(1), day * 2), "kept");
        assert!(!asked.are(entries(&["a:1", "b:1"]), at(2), day * 2), "back, and missing no more");
        assert!(asked.are(entries(&["b:1", "c:1"]), at(4), day * 2));
        assert_eq!(names(&asked), ["a:1", "b:1", "c:1"]);
        assert!(asked.are(entries(&["b:1", "c:1"]), at(6), day * 2));
        assert_eq!(names(&asked), ["b:1", "c:1"]);
        assert!(!asked.are(Vec::new(), at(7), day * 2), "no answer forgets at once");
        assert!(asked.are(Vec::new(), at(7), Duration::ZERO), "but where that is set");
    }
}
