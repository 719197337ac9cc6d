//! Events as server-sent events: the last 256 are kept, a reader resumes where it was, and one that is too slow is
//! told how many it lost.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use lastseen::net::{Clock, EventStream};
use lastseen::proto::{Change, Event, LeaveReason};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Shared, json::rfc3339};

/// Events kept.
const KEPT: usize = 256;
/// A comment keeps an idle connection open.
const COMMENT: Duration = Duration::from_secs(15);

/// The events of this run, numbered from 1.
pub(crate) struct Recorder {
    /// Number of the newest, and the newest 256 as JSON.
    ring: Mutex<(u64, VecDeque<String>)>,
    newest: watch::Sender<u64>,
    lost: AtomicU64,
    instance: String,
    observer: String,
    clock: Clock,
}

impl Recorder {
    /// A recorder for the run `instance` of the node `observer`.
    pub(crate) fn new(instance: String, observer: String, clock: Clock) -> Recorder {
        let ring = Mutex::new((0, VecDeque::with_capacity(KEPT)));
        Recorder { ring, newest: watch::Sender::new(0), lost: AtomicU64::new(0), instance, observer, clock }
    }

    /// Records until the detector ends.
    pub(crate) async fn record(self: Arc<Self>, mut events: EventStream) {
        while let Some(event) = events.next().await {
            if let Ok(event) = event {
                self.push(&event);
            }
        }
    }

    /// Events that readers lost.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn push(&self, event: &Event) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.0 += 1;
        let number = ring.0;
        if ring.1.len() == KEPT {
            ring.1.pop_front();
        }
        ring.1.push_back(self.shape(event, number).to_string());
        drop(ring);
        self.newest.send_replace(number);
    }

    fn shape(&self, event: &Event, number: u64) -> Value {
        let (from, to) = ends(&event.change);
        json!({
            "id": format!("{}-{number}", self.instance),
            "time": rfc3339(&self.clock, event.at),
            "type": event.change.kind(),
            "observer": self.observer,
            "peer": event.peer.as_deref(),
            "from": from,
            "to": to,
            "verdict": event.verdict.map(|v| v.as_str()),
            "why": event.why,
        })
    }

    /// What a reader that has seen `seen` gets next, as text of the stream, and the number it has seen then.
    fn after(&self, seen: u64) -> (String, u64) {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let (newest, events) = (&ring.0, &ring.1);
        let first = newest + 1 - events.len() as u64;
        let mut text = String::new();
        if seen.saturating_add(1) < first || seen > *newest {
            let lost = first.saturating_sub(seen.saturating_add(1));
            self.lost.fetch_add(lost, Ordering::Relaxed);
            let _ = write!(text, "event: reset\ndata: {}\n\n", json!({ "lost": lost }));
        }
        let from = if seen > *newest { first } else { first.max(seen + 1) };
        for number in from..=*newest {
            let event = &events[(number - first) as usize];
            let _ = write!(text, "id: {}-{number}\ndata: {event}\n\n", self.instance);
        }
        (text, *newest)
    }

    /// The number in an id of this run; another run's is a gap.
    fn resume(&self, id: &str) -> u64 {
        let number =
            id.rsplit_once('-').filter(|(run, _)| *run == self.instance).and_then(|(_, n)| n.parse().ok());
        number.unwrap_or(u64::MAX)
    }
}

/// Before and after, as the contract writes them.
fn ends(change: &Change) -> (Option<String>, Option<String>) {
    let (from, to) = match change {
        Change::Status { from, to } => (from.as_str().to_owned(), to.as_str().to_owned()),
        Change::Verdict { from, to } => (from.as_str().to_owned(), to.as_str().to_owned()),
        Change::Health { from, to } => (from.as_str().to_owned(), to.as_str().to_owned()),
        Change::Quorum { available } => ((!available).to_string(), available.to_string()),
        Change::Address { from, to } => (from.to_string(), to.to_string()),
        Change::Leave(LeaveReason::Restart) => return (None, Some("restart".to_owned())),
        Change::Leave(LeaveReason::Removal) => return (None, Some("removal".to_owned())),
        Change::Conflict { address } => return (None, Some(address.to_string())),
        Change::Restart | Change::Stall(_) | Change::Rollback => return (None, None),
    };
    (Some(from), Some(to))
}

/// `/api/v1/events`: `Last-Event-ID` or `since` resumes; without either the stream begins with what comes next.
/// `follow=false` ends after what is kept.
pub(super) async fn stream(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let recorder = Arc::clone(&shared.events);
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let follow = query.get("follow").is_none_or(|f| f != "false");
    let mut newest = recorder.newest.subscribe();
    let seen = match last.or_else(|| query.get("since").cloned()) {
        Some(id) if id == "0" || id.is_empty() => recorder.oldest(),
        Some(id) => recorder.resume(&id),
        None if follow => *newest.borrow_and_update(),
        None => recorder.oldest(),
    };
    let head = futures_util::stream::once(async {
        Ok::<_, std::convert::Infallible>(Bytes::from("retry: 2000\n\n"))
    });
    let rest = stream::unfold(
        (recorder, newest, seen, false),
        move |(recorder, mut newest, seen, ended)| async move {
            if ended {
                return None;
            }
            loop {
                newest.borrow_and_update();
                let (text, now) = recorder.after(seen);
                if !text.is_empty() || !follow {
                    return Some((Ok(Bytes::from(text)), (recorder, newest, now, !follow)));
                }
                match tokio::time::timeout(COMMENT, newest.changed()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return None,
                    Err(_) => return Some((Ok(Bytes::from(":\n\n")), (recorder, newest, seen, false))),
                }
            }
        },
    );
    let body = Body::from_stream(futures_util::StreamExt::chain(head, rest));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

impl Recorder {
    /// The number before the oldest event that is kept.
    fn oldest(&self) -> u64 {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.0 - ring.1.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastseen::proto::Time;

    fn recorder(events: u64) -> Recorder {
        let recorder = Recorder::new("ab".into(), "me".into(), Clock);
        for _ in 0..events {
            let change = Change::Quorum { available: true };
            recorder.push(&Event { at: Time::ZERO, peer: None, change, verdict: None, why: "so".into() });
        }
        recorder
    }

    #[test]
    fn a_reader_resumes_where_it_was() {
        let recorder = recorder(10);
        let (text, seen) = recorder.after(recorder.resume("ab-7"));
        assert_eq!((text.matches("id: ab-").count(), seen), (3, 10));
        assert!(text.starts_with("id: ab-8\ndata: {") && !text.contains("reset"), "{text}");
        assert_eq!(recorder.after(10), (String::new(), 10));
    }

    #[test]
    fn a_gap_sends_reset_first_and_counts() {
        let recorder = recorder(KEPT as u64 + 50);
        let (text, seen) = recorder.after(recorder.resume("ab-20"));
        assert!(text.starts_with("event: reset\ndata: {\"lost\":30}\n\nid: ab-51\n"), "{}", &text[..80]);
        assert_eq!((seen, recorder.lost(), text.matches("id: ab-").count()), (306, 30, KEPT));
        let (text, _) = recorder.after(recorder.resume("cd-300"));
        assert!(text.starts_with("event: reset"), "another run is a gap");
        assert_eq!(recorder.oldest(), 50);
    }
}
