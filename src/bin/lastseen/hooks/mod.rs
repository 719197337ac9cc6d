//! Hooks: a program or an address that is told of events. They read the detector's events as any reader does, and it waits
//! for none of them.

mod call;
mod decide;
mod lane;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lastseen::net::{Clock, EventStream, Handle};
use lastseen::proto::{Change, Event, Scope, Snapshot, Time};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::warn;

use crate::http::events::Shape;
use crate::settings::{Hook, Standing};
use decide::{Call, Decider};
use lane::{Back, Lane, QUEUE, Queued};

/// Calls by result, in the order of [`lastseen::metrics::HOOK_RESULTS`].
static COUNTS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];
const OK: usize = 0;
const FAILED: usize = 1;
const TIMEOUT: usize = 2;
const HELD: usize = 3;

/// How many calls there were by result, in the order of [`lastseen::metrics::HOOK_RESULTS`], and events that became none.
pub(crate) fn counts() -> [u64; 4] {
    COUNTS.each_ref().map(|count| count.load(Ordering::Relaxed))
}

fn count(result: usize, by: u64) {
    COUNTS[result].fetch_add(by, Ordering::Relaxed);
}

/// The hooks in force.
#[derive(Clone, Debug)]
pub(crate) struct Hooks(watch::Sender<Arc<[Hook]>>);

impl Hooks {
    /// From now on these are called. Calls that wait are made still.
    pub(crate) fn set(&self, hooks: Vec<Hook>) {
        self.0.send_if_modified(|present| {
            let differ = **present != *hooks;
            if differ {
                *present = hooks.into();
            }
            differ
        });
    }
}

/// Begins to call `hooks` for what `events` tells. `shape`: how an event is written.
pub(crate) fn start(
    hooks: Vec<Hook>,
    handle: Handle,
    events: EventStream,
    (shape, cluster): (Shape, String),
    interval: Duration,
) -> Hooks {
    let (sender, mut hooks) = watch::channel(Arc::from(hooks));
    let present = Arc::clone(&hooks.borrow_and_update());
    let (back, returned) = mpsc::channel(QUEUE);
    let desk = Desk {
        decider: Decider::new(Arc::clone(&present), interval),
        lanes: lane::open(&present, &handle, &back),
        back,
        returned,
        questions: JoinSet::new(),
        hooks,
        handle,
        number: 0,
        shape,
        cluster,
    };
    tokio::spawn(desk.run(events));
    Hooks(sender)
}

/// Where events become calls.
struct Desk {
    decider: Decider,
    /// The way to each hook.
    lanes: Vec<Lane>,
    /// Calls that were not made after all.
    back: mpsc::Sender<Back>,
    returned: mpsc::Receiver<Back>,
    /// Whether, and until when, what a peer did may be taken over.
    questions: JoinSet<(Arc<str>, Option<Time>)>,
    hooks: watch::Receiver<Arc<[Hook]>>,
    handle: Handle,
    /// That of the newest event.
    number: u64,
    shape: Shape,
    cluster: String,
}

impl Desk {
    /// Until the detector ends.
    async fn run(mut self, mut events: EventStream) {
        loop {
            let look_at = self.decider.poll_timeout();
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => {
                        self.number += 1;
                        if event.change == Change::Roster {
                            self.forget_who_went().await;
                        }
                        self.decider.set_guard(self.handle.quorum_guard().is_held());
                        self.decider.handle_event((Some(self.number), Arc::new(event)), Clock.now());
                    }
                    Some(Err(lost)) => {
                        self.number += lost;
                        self.catch_up().await;
                    }
                    None => return,
                },
                Ok(()) = self.hooks.changed() => {
                    let hooks = Arc::clone(&self.hooks.borrow_and_update());
                    self.lanes = lane::open(&hooks, &self.handle, &self.back);
                    self.decider.set(hooks);
                }
                Some(back) = self.returned.recv() => self.put_back(back),
                Some(Ok((peer, until))) = self.questions.join_next() => {
                    self.decider.handle_answer(&peer, until, Clock.now());
                }
                () = until(look_at) => {
                    self.decider.set_guard(self.handle.quorum_guard().is_held());
                    self.decider.handle_timeout(Clock.now());
                }
            }
            while let Some(peer) = self.decider.poll_question() {
                let handle = self.handle.clone();
                self.questions.spawn(async move { (Arc::clone(&peer), handle.takeover_safe(&peer).await) });
            }
            count(HELD, self.decider.take_held());
            while let Some(call) = self.decider.poll_call() {
                self.make(call);
            }
        }
    }

    /// The roster has changed, and no event says who went.
    async fn forget_who_went(&mut self) {
        if let Some(s) = self.handle.snapshot_of(Scope::Peers).await {
            self.decider.keep(|peer| is_in(&s, peer));
        }
    }

    /// Events were lost: what is different now from what is known here is made up for.
    async fn catch_up(&mut self) {
        let Some(s) = self.handle.snapshot_of(Scope::Peers).await else { return };
        self.decider.keep(|peer| is_in(&s, peer));
        let event = |peer, observed, change, verdict, why: &str| Event {
            at: s.at,
            peer,
            observed,
            change,
            verdict,
            why: why.to_owned(),
            evidence: None,
        };
        let lost = "events were lost, and this is so now";
        let mut missed = Vec::new();
        let (quorum, mass_loss) = self.decider.cluster();
        let available = s.status.is_quorum_available();
        if quorum != available {
            missed.push(event(None, true, Change::Quorum { available }, None, lost));
        }
        if mass_loss != s.mass_loss {
            missed.push(event(None, true, Change::MassLoss { begins: s.mass_loss }, None, lost));
        }
        for p in &s.peers {
            let (was, is) =
                (self.decider.standing(&p.server_id), Standing { status: p.status, verdict: p.verdict });
            let change = match was {
                was if was == is => continue,
                was if was.status == is.status => Change::Verdict { from: was.verdict, to: is.verdict },
                was => Change::Status { from: was.status, to: is.status },
            };
            missed.push(event(Some(Arc::clone(&p.server_id)), p.observed, change, Some(p.verdict), &p.why));
        }
        for event in missed {
            self.decider.handle_event((None, Arc::new(event)), s.at);
        }
    }

    /// Another place may be the hook's by now, or none.
    fn put_back(&mut self, (hook, mut call): Back) {
        match self.lanes.iter().position(|(other, _)| *other == hook) {
            Some(place) => {
                call.hook = place;
                self.decider.put_back(&call, Clock.now());
            }
            None => count(HELD, 1),
        }
    }

    fn make(&self, call: Call) {
        let (hook, lane) = &self.lanes[call.hook];
        let told = self.told(hook, &call);
        if lane.try_send(Queued { call, told }).is_err() {
            count(HELD, 1);
            warn!(hook = hook.name, "the hook {} is not called: {QUEUE} calls wait already", hook.name);
        }
    }

    /// The event as readers get it, and what the hook may want to know beside it.
    fn told(&self, hook: &Hook, call: &Call) -> Value {
        let (number, event) = &call.event;
        let mut told = self.shape.event(event, *number);
        let more = json!({
            "hook": hook.name,
            "on": call.word.as_str(),
            "cluster": self.cluster,
            "server_id": told["observer"],
            "is_quorum_available": call.quorum,
        });
        if let (Value::Object(told), Value::Object(more)) = (&mut told, more) {
            told.extend(more);
        }
        told
    }
}

/// Whether the roster has this peer. They are sorted by name.
fn is_in(s: &Snapshot, peer: &str) -> bool {
    s.peers.binary_search_by(|p| (*p.server_id).cmp(peer)).is_ok()
}

/// When it is time; never without one.
async fn until(time: Option<Time>) {
    match time {
        Some(time) => tokio::time::sleep(time.since(Clock.now())).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use lastseen::net;
    use lastseen::proto::{Keyring, PeerConfig, StaticPeer};

    use super::*;
    use crate::settings::{Action, Needs, Word};

    /// A desk that has read no event yet, and whose detector knows of a peer that nobody has heard.
    async fn desk() -> Desk {
        let peer = StaticPeer { server_id: Some("b".into()), name: "b".into(), address: None };
        let config = PeerConfig::new("a", "hooks", ([127, 0, 0, 1], 0).into(), vec![peer]);
        let keys = Keyring::new("hooks", &[], true).unwrap();
        let (handle, _detector) = net::spawn(config, keys, net::Options::default()).await.unwrap();
        let hook = Hook {
            name: "h".into(),
            on: Word::all().filter(|word| word.as_str() == "unknown").collect(),
            action: Action::Command(vec!["/bin/true".into()]),
            timeout: Duration::from_secs(1),
            at_most: 1,
            only_with_quorum: false,
            needs: Needs::Nothing,
            hold_on_mass_loss: false,
            damping: Duration::ZERO,
        };
        let (_, hooks) = watch::channel(Arc::from([hook]));
        let present = Arc::clone(&hooks.borrow());
        let shape = Shape { instance: "ab".into(), observer: "a".into(), clock: Clock };
        let decider = Decider::new(Arc::clone(&present), Duration::from_secs(1));
        let (back, returned) = mpsc::channel(QUEUE);
        let lanes = lane::open(&present, &handle, &back);
        let questions = JoinSet::new();
        let cluster = "hooks".into();
        Desk { decider, lanes, back, returned, questions, hooks, handle, number: 0, shape, cluster }
    }

    #[tokio::test]
    async fn what_lost_events_told_is_made_up_for() {
        let mut desk = desk().await;
        desk.catch_up().await;
        let call = desk.decider.poll_call().expect("the peer is unknown, and was presumed fine");
        let told = desk.told(&desk.lanes[0].0, &call);
        for (key, value) in
            [("peer", "b"), ("type", "verdict"), ("to", "unknown"), ("on", "unknown"), ("server_id", "a")]
        {
            assert_eq!(told[key], value, "{told}");
        }
        assert_eq!(told["id"], Value::Null, "no reader saw it");
        desk.catch_up().await;
        assert!(desk.decider.poll_call().is_none(), "that is known now");
    }

    #[tokio::test]
    async fn what_finds_no_place_to_wait_is_held() {
        let mut desk = desk().await;
        desk.catch_up().await;
        let call = desk.decider.poll_call().unwrap();
        let (held, (hook, _)) = (counts()[HELD], desk.lanes.remove(0));
        let (lane, _calls) = mpsc::channel(QUEUE);
        desk.lanes.push((hook, lane));
        (0..QUEUE + 3).for_each(|_| desk.make(call.clone()));
        assert_eq!(counts()[HELD] - held, 3);
    }

    #[tokio::test]
    async fn right_before_the_call_it_is_asked_once_more() {
        let mut desk = desk().await;
        desk.catch_up().await;
        let call = desk.decider.poll_call().unwrap();
        // Nobody was heard, so there is no guard.
        let needs = Hook { needs: Needs::Guard, ..(*desk.lanes[0].0).clone() };
        desk.lanes = lane::open(std::slice::from_ref(&needs), &desk.handle, &desk.back);
        desk.make(call);
        let back = tokio::time::timeout(Duration::from_secs(10), desk.returned.recv()).await;
        let (hook, call) = back.expect("it is not made").unwrap();
        assert_eq!((&*hook, call.word.as_str()), (&needs, "unknown"));
        assert_eq!(desk.decider.poll_timeout(), None);
        desk.put_back((hook, call));
        assert!(desk.decider.poll_timeout().is_some(), "it waits again");
    }
}
