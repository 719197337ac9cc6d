//! Events as server-sent events: the last 256 are kept, a reader resumes where it was, and one that is too slow is
//! told how many it lost.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use lastseen::net::{Clock, EventStream};
use lastseen::proto::{Change, Event, LeaveReason, ServiceState};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::explain::evidence;
use super::places::Making;
#[cfg(test)]
use super::ring::KEPT;
use super::ring::{Part, Position, Ring};
use super::{Shared, api, json::rfc3339, json::stamp_of};

/// A comment keeps an idle connection open.
const COMMENT: Duration = Duration::from_secs(15);

/// How events are written: those of the run `instance` of the node `observer`.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) instance: String,
    pub(crate) observer: String,
    pub(crate) clock: Clock,
}

impl Shape {
    /// The JSON of the contract. One without a number was made up for those that were lost.
    pub(crate) fn event(&self, event: &Event, number: Option<u64>) -> Value {
        let (from, to) = ends(&event.change);
        let mut told = json!({
            "id": number.map(|number| format!("{}-{number}", self.instance)),
            "time": rfc3339(&self.clock, event.at),
            "type": event.change.kind(),
            "observer": self.observer,
            "peer": event.peer.as_deref(),
            "from": from,
            "to": to,
            "verdict": event.verdict.map(|v| v.as_str()),
            "why": event.why,
            "evidence": event.evidence.as_ref().map(|e| evidence(e, event.at, &self.clock)),
        });
        match &event.change {
            Change::Service { service, .. } => told["service"] = json!(service.as_str()),
            Change::Migrate(migration) => {
                told["service"] = json!(migration.service.as_str());
                told["migration"] = json!(format!("{:016x}", migration.id));
                told["reason"] = json!(migration.reason.as_str());
                told["deadline"] = json!(stamp_of(migration.deadline));
            }
            _ => {}
        }
        told
    }
}

/// The events of this run, numbered from 1.
pub(crate) struct Recorder {
    ring: Mutex<Ring>,
    newest: watch::Sender<u64>,
    lost: AtomicU64,
    shape: Shape,
}

impl Recorder {
    /// A recorder that writes events so.
    pub(crate) fn new(shape: Shape) -> Recorder {
        Recorder { ring: Mutex::default(), newest: watch::Sender::new(0), lost: AtomicU64::new(0), shape }
    }

    /// Records until the detector ends.
    pub(crate) async fn record(self: Arc<Self>, mut events: EventStream) {
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => self.push(&event),
                Err(lost) => self.miss(lost),
            }
        }
    }

    /// Events that readers lost while they were reading.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: &Event) {
        let mut ring = self.ring();
        let number = ring.newest + 1;
        ring.push(self.shape.event(event, Some(number)).to_string());
        drop(ring);
        self.newest.send_replace(number);
    }

    /// So many events were lost. Their numbers stay free, so every reader sees the gap.
    fn miss(&self, lost: u64) {
        let mut ring = self.ring();
        ring.newest += lost;
        self.newest.send_replace(ring.newest);
    }

    /// What a reader gets next, as text of the stream, and where it is then. `reading`: it was following before,
    /// so what it misses was lost by its slowness, and not because it came back late.
    fn after(&self, at: Position, reading: bool) -> (String, Position) {
        let (parts, newest) = self.ring().after(at);
        let mut text = String::new();
        for part in parts {
            let _ = match part {
                Part::Gap(lost) => {
                    if reading {
                        self.lost.fetch_add(lost.unwrap_or(0), Ordering::Relaxed);
                    }
                    write!(text, "event: reset\ndata: {}\n\n", json!({ "lost": lost }))
                }
                Part::Event(number, event) => {
                    write!(text, "id: {}-{number}\ndata: {event}\n\n", self.shape.instance)
                }
            };
        }
        (text, Position::Seen(newest))
    }

    /// Where the reader is that saw the event `id` last. Another run's is a gap.
    fn resume(&self, id: &str) -> Position {
        if id.is_empty() || id == "0" {
            return Position::Oldest;
        }
        let number = id.rsplit_once('-').filter(|(run, _)| *run == self.shape.instance);
        number.and_then(|(_, n)| n.parse().ok()).map_or(Position::Foreign, Position::Seen)
    }
}

/// Before and after, as the contract writes them.
fn ends(change: &Change) -> (Option<String>, Option<String>) {
    let (from, to) = match change {
        Change::Status { from, to } => (from.as_str().to_owned(), to.as_str().to_owned()),
        Change::Verdict { from, to } => (from.as_str().to_owned(), to.as_str().to_owned()),
        Change::Health { from, to } => (from.as_str().to_owned(), to.as_str().to_owned()),
        Change::Quorum { available } => ((!available).to_string(), available.to_string()),
        Change::MassLoss { begins } => ((!begins).to_string(), begins.to_string()),
        Change::Address { from, to } => (from.to_string(), to.to_string()),
        Change::Migrate(migration) => {
            return (Some(migration.from.to_string()), migration.to.as_ref().map(ToString::to_string));
        }
        Change::Service { from, to, .. } => {
            let state = |state: &Option<ServiceState>| state.map(|state| state.to_string());
            return (state(from), state(to));
        }
        Change::Leave(LeaveReason::Restart) => return (None, Some("restart".to_owned())),
        Change::Leave(LeaveReason::Removal) => return (None, Some("removal".to_owned())),
        Change::Conflict { address } => return (None, Some(address.to_string())),
        Change::Drain { until } => {
            return (None, Some(if until.is_some() { "draining" } else { "ended" }.to_owned()));
        }
        Change::Reload { succeeded } => {
            return (None, Some(if *succeeded { "succeeded" } else { "failed" }.to_owned()));
        }
        Change::Restart | Change::Stall(_) | Change::Rollback | Change::Keys | Change::Roster => {
            return (None, None);
        }
    };
    (Some(from), Some(to))
}

/// `/api/v1/events`: `Last-Event-ID` or `since` resumes; without either the stream begins with what comes next.
/// `follow=false` ends after what is kept.
pub(super) async fn stream(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<BTreeMap<String, String>>,
    Extension(making): Extension<Arc<Making>>,
    headers: HeaderMap,
) -> Response {
    if let Some(response) = api::unknown(&query, &["since", "follow"]) {
        return response;
    }
    let follow = match query.get("follow").map(String::as_str) {
        None | Some("true") => true,
        Some("false") => false,
        Some(_) => return api::wrong("follow must be true or false"),
    };
    // Readers of events stay; they must not take the places of those who ask whether the node lives.
    let Ok(place) = Arc::clone(&shared.streams).try_acquire_owned() else {
        let text = "as many readers of events as this node takes are here already";
        return api::error(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", text, &[]);
    };
    let recorder = Arc::clone(&shared.events);
    let newest = recorder.newest.subscribe();
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let at = match last.or_else(|| query.get("since").map(String::as_str)) {
        Some(id) => recorder.resume(id),
        None if follow => Position::Seen(recorder.ring().newest),
        None => Position::Oldest,
    };
    let head = stream::once(async { Ok::<_, Infallible>(Bytes::from("retry: 2000\n\n")) });
    let reader =
        Reader { recorder, newest, at, follow, reading: false, ended: false, _place: place, _making: making };
    let rest = stream::unfold(reader, |mut reader| async move {
        let text = reader.next().await?;
        Some((Ok(Bytes::from(text)), reader))
    });
    let body = Body::from_stream(StreamExt::chain(head, rest));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

/// One stream. It is polled when the connection takes more, so a slow reader finds a gap in the ring.
struct Reader {
    recorder: Arc<Recorder>,
    newest: watch::Receiver<u64>,
    at: Position,
    follow: bool,
    reading: bool,
    ended: bool,
    _place: OwnedSemaphorePermit,
    _making: Arc<Making>,
}

impl Reader {
    async fn next(&mut self) -> Option<String> {
        while !self.ended {
            self.newest.borrow_and_update();
            let (text, at) = self.recorder.after(self.at, self.reading);
            (self.at, self.reading, self.ended) = (at, true, !self.follow);
            if !text.is_empty() || self.ended {
                return Some(text);
            }
            match tokio::time::timeout(COMMENT, self.newest.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => return Some(":\n\n".to_owned()),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastseen::proto::{PeerStatus, Time};
    use lastseen::sim::{Setup, World};

    fn recorder(events: u64) -> Recorder {
        let recorder = Recorder::new(Shape { instance: "ab".into(), observer: "me".into(), clock: Clock });
        for _ in 0..events {
            let change = Change::Quorum { available: true };
            recorder.push(&Event {
                at: Time::ZERO,
                peer: None,
                observed: true,
                change,
                verdict: None,
                why: "so".into(),
                evidence: None,
            });
        }
        recorder
    }

    #[test]
    fn a_reader_resumes_where_it_was() {
        let recorder = recorder(10);
        let (text, at) = recorder.after(recorder.resume("ab-7"), false);
        assert_eq!((text.matches("id: ab-").count(), at), (3, Position::Seen(10)));
        assert!(text.starts_with("id: ab-8\ndata: {") && !text.contains("reset"), "{text}");
        assert_eq!(recorder.after(at, true), (String::new(), at));
    }

    #[test]
    fn a_gap_sends_reset_first_and_counts() {
        let recorder = recorder(KEPT as u64 + 50);
        let (text, at) = recorder.after(recorder.resume("ab-20"), false);
        assert!(text.starts_with("event: reset\ndata: {\"lost\":30}\n\nid: ab-51\n"), "{}", &text[..80]);
        assert_eq!((at, text.matches("id: ab-").count()), (Position::Seen(306), KEPT));
        assert_eq!(recorder.lost(), 0, "who comes back late was not slow");
        recorder.after(Position::Seen(20), true);
        assert_eq!(recorder.lost(), 30);
    }

    #[test]
    fn a_waiting_reader_is_told_what_was_lost() {
        let recorder = recorder(2);
        let mut newest = recorder.newest.subscribe();
        newest.borrow_and_update();
        recorder.miss(3);
        assert!(newest.has_changed().unwrap(), "it need not wait for the next event");
        let (text, at) = recorder.after(Position::Seen(2), true);
        assert_eq!((text.as_str(), at), ("event: reset\ndata: {\"lost\":3}\n\n", Position::Seen(5)));
    }

    #[test]
    fn an_event_has_the_fields_of_the_contract_and_its_evidence() {
        let mut world = World::new(Setup::new(3), 1);
        world.run_for(Duration::from_secs(20));
        world.take_records();
        world.crash(1, false);
        world.run_for(Duration::from_secs(8));
        let told = world.take_records();
        let is_down = |event: &Event| matches!(event.change, Change::Status { to: PeerStatus::Down, .. });
        let down = told.iter().find(|r| r.node == 0 && is_down(&r.event)).expect("it is told");
        let json = recorder(0).shape.event(&down.event, Some(7));
        let fields = ["from", "to", "peer", "verdict", "type", "observer", "id"].map(|f| json[f].as_str());
        let expected = ["suspected", "down", "n1", "down", "status", "me", "ab-7"].map(Some);
        assert_eq!(fields, expected, "{json}");
        assert!(json["time"].is_string() && json["why"] == *down.event.why, "{json}");
        let evidence = &json["evidence"];
        assert!(evidence["heartbeats"]["strip"].as_str().is_some_and(|s| s.ends_with("+xxxxx")), "{json}");
        assert_eq!(
            evidence["missed"],
            json!({"count": 5, "suspect_after": 2, "down_after": 5, "without_echo": 5})
        );
        assert_eq!(evidence["last_proof"]["kind"], "echo");
        assert!(evidence["relays"]["asked"].as_u64().is_some_and(|n| n > 0), "{json}");
        let own = Event {
            change: Change::MassLoss { begins: true },
            peer: None,
            evidence: None,
            ..down.event.clone()
        };
        let json = recorder(0).shape.event(&own, Some(8));
        assert_eq!(
            (&json["from"], &json["to"], &json["evidence"]),
            (&"false".into(), &"true".into(), &Value::Null)
        );
        // 256 of these are kept.
        assert!(
            json.to_string().len() < 4096
                && recorder(0).shape.event(&down.event, Some(9)).to_string().len() < 4096
        );
    }

    #[test]
    fn another_run_is_a_gap_of_unknown_length() {
        let recorder = recorder(2);
        for id in ["cd-300", "cd-1", "ab-3", "ab-x", "nonsense"] {
            let (text, _) = recorder.after(recorder.resume(id), false);
            assert!(text.starts_with("event: reset\ndata: {\"lost\":null}\n\nid: ab-1\n"), "{id}: {text}");
        }
        assert!(recorder.after(recorder.resume("0"), false).0.starts_with("id: ab-1\n"));
    }
}
