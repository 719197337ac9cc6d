//! The answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use lastseen::metrics::Extra;
use lastseen::net::Clock;
use lastseen::proto::{PeerStatus, PeerView, Scope, Snapshot, Verdict};
use serde_json::{Value, json};

use super::{Shared, explain, json as shape};
use crate::settings::Detail;
use crate::views;
use crate::{hooks, log};

/// The most nodes whose matrix is exported as metrics.
const MATRIX: usize = 1000;
/// The most peers on one page.
const LIMIT: usize = 10_000;
/// An id has at most so many bytes.
const LONGEST_ID: usize = 64;

type Parameters = Query<BTreeMap<String, String>>;

/// An error as JSON.
pub(crate) fn error(status: StatusCode, code: &str, message: &str, nearest: &[String]) -> Response {
    let now = shape::now(&Clock);
    answer(status, &json!({ "error": code, "message": message, "nearest": nearest, "generated_at": now }))
}

/// JSON with this status.
pub(crate) fn answer(status: StatusCode, body: &Value) -> Response {
    written(status, body.to_string())
}

fn written(status: StatusCode, mut body: String) -> Response {
    body.push('\n');
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn stuck() -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, "stuck", "the detector's loop does not answer", &[])
}

pub(super) fn wrong(message: &str) -> Response {
    error(StatusCode::BAD_REQUEST, "bad_query", message, &[])
}

/// Names the first parameter that is none of `known`.
pub(super) fn unknown(query: &BTreeMap<String, String>, known: &[&str]) -> Option<Response> {
    let name = query.keys().find(|name| !known.contains(&name.as_str()))?;
    Some(wrong(&format!("unknown parameter {name:?}; known: {}", known.join(", "))))
}

/// Why the matrix of so many nodes is not exported.
fn too_many(nodes: usize) -> Option<String> {
    (nodes > MATRIX).then(|| format!("the matrix of {nodes} nodes has too many series; {MATRIX} is the most"))
}

pub(super) async fn metrics(State(shared): State<Arc<Shared>>, Query(query): Parameters) -> Response {
    if let Some(response) = unknown(&query, &["detail"]) {
        return response;
    }
    let detail = match query.get("detail").map(String::as_str) {
        None => shared.live.borrow().detail,
        Some("summary") => Detail::Summary,
        Some("peers") => Detail::Peers,
        Some("matrix") => Detail::Matrix,
        Some(_) => return wrong("detail must be summary, peers or matrix"),
    };
    let Some(mut snapshot) = shared.snapshot(Scope::Observed).await else { return stuck() };
    if detail == Detail::Matrix {
        if let Some(why) = too_many(snapshot.status.total_peers) {
            return wrong(&why);
        }
        let Some(whole) = shared.snapshot(Scope::Whole).await else { return stuck() };
        snapshot = whole;
    }
    let (reloaded, at) = shared.reloads.newest();
    let extra = Extra {
        log_lines_suppressed: log::lines_suppressed(),
        events_dropped: shared.handle.events_dropped() + shared.events.lost(),
        hooks: hooks::counts(),
        reload_failed: !reloaded,
        config_loaded: at,
        peers: detail != Detail::Summary,
        matrix: detail == Detail::Matrix,
        discovery_failures: shared.failures.all(),
    };
    let wall = |t| shared.clock.wall(t).duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    let text = shared.exporter.render(&snapshot, &extra, &wall);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// 200 only while the loop turns.
pub(super) async fn livez(State(shared): State<Arc<Shared>>) -> Response {
    match shared.snapshot(Scope::Observed).await {
        Some(_) => "ok\n".into_response(),
        None => stuck(),
    }
}

/// Bound and configured, or it would not answer; never red because a peer is down.
pub(super) async fn readyz() -> Response {
    "ok\n".into_response()
}

pub(super) async fn quorumz(State(shared): State<Arc<Shared>>) -> Response {
    let Some(s) = shared.snapshot(Scope::Observed).await else { return stuck() };
    let available = s.status.is_quorum_available();
    let body = json!({
        "generated_at": shape::now(&shared.clock),
        "is_quorum_available": available,
        "proven_peers": s.status.proven_peers,
        "total_peers": s.status.total_peers,
        "quorum_needed": s.status.quorum_needed(),
    });
    answer(if available { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body)
}

pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Response {
    let Some(s) = shared.snapshot(Scope::Observed).await else { return stuck() };
    let listen = shared.handle.local_addr().to_string();
    answer(StatusCode::OK, &shape::status(&s, &shared.clock, &listen))
}

pub(super) async fn peers(State(shared): State<Arc<Shared>>, Query(query): Parameters) -> Response {
    if let Some(response) = unknown(&query, &["status", "verdict", "label", "limit", "after"]) {
        return response;
    }
    let filter = match Filter::read(&query) {
        Ok(filter) => filter,
        Err(why) => return wrong(&why),
    };
    let Some(s) = shared.snapshot(Scope::Peers).await else { return stuck() };
    let (page, total, next) = filter.page(&s.peers);
    written(StatusCode::OK, shape::page(&page, (total, next), &s, &shared.clock))
}

pub(super) async fn matrix(State(shared): State<Arc<Shared>>, Query(query): Parameters) -> Response {
    if let Some(response) = unknown(&query, &["edges"]) {
        return response;
    }
    let edges = match query.get("edges").map(String::as_str) {
        None => false,
        Some("all") => true,
        Some(_) => return wrong("edges must be all"),
    };
    let Some(s) = shared.snapshot(Scope::Whole).await else { return stuck() };
    written(StatusCode::OK, shape::matrix(&s, &shared.clock, edges))
}

pub(super) async fn peer(
    State(shared): State<Arc<Shared>>,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    let Ok(Path(id)) = id else { return wrong("the peer's id is no UTF-8 text") };
    let Some(s) = shared.snapshot(Scope::Peers).await else { return stuck() };
    match s.peers.iter().find(|p| *p.server_id == *id) {
        Some(p) => answer(StatusCode::OK, &one_peer(p, &s, &shared.clock)),
        None => {
            let near = nearest(&s.peers, &id);
            let message = if *s.server_id == *id {
                format!("{id} is this node itself: see /api/v1/status")
            } else {
                format!("no peer is called {id:?}")
            };
            error(StatusCode::NOT_FOUND, "unknown_peer", &message, &near)
        }
    }
}

/// The three peers whose ids are most like this one. To what can be no id none is: to look for them takes its length
/// times that of all names, in the thread of the detector.
fn nearest(peers: &[PeerView], id: &str) -> Vec<String> {
    if id.len() > LONGEST_ID {
        return Vec::new();
    }
    let mut near: Vec<_> =
        peers.iter().map(|p| (strsim::jaro_winkler(&p.server_id, id), &p.server_id)).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.iter().take(3).map(|(_, id)| id.to_string()).collect()
}

/// All that is known of one peer, and the words for it: the dashboard shows those of `lastseen explain`.
pub(crate) fn one_peer(p: &PeerView, s: &Snapshot, clock: &Clock) -> Value {
    let mut body = shape::peer(p, s, clock);
    body["explain"] = explain::explain(p, s, clock);
    let (headline, facts) = (views::headline(&body), views::facts(&body));
    body["explain"]["headline"] = json!(headline);
    body["explain"]["facts"] = json!(facts);
    body["generated_at"] = json!(shape::now(clock));
    body
}

/// What a request for peers asks for.
struct Filter {
    status: Option<PeerStatus>,
    verdict: Option<Verdict>,
    /// A label and its value.
    label: Option<(String, String)>,
    limit: usize,
    after: Option<String>,
}

/// The one of `all` that is called as the parameter says.
fn choice<T: Copy>(
    query: &BTreeMap<String, String>,
    parameter: &str,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<Option<T>, String> {
    let Some(text) = query.get(parameter) else { return Ok(None) };
    all.iter().find(|one| name(**one) == text).map(|one| Some(*one)).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|one| name(*one)).collect();
        format!("{parameter} must be one of {}", names.join(", "))
    })
}

impl Filter {
    fn read(query: &BTreeMap<String, String>) -> Result<Filter, String> {
        let status = choice(query, "status", &PeerStatus::ALL, PeerStatus::as_str)?;
        let verdict = choice(query, "verdict", &Verdict::ALL, Verdict::as_str)?;
        let label = match query.get("label").map(|text| text.split_once('=')) {
            None => None,
            Some(Some((name, value))) => Some((name.to_owned(), value.to_owned())),
            Some(None) => return Err("label must be NAME=VALUE".to_owned()),
        };
        let limit = match query.get("limit").map(|n| n.parse()) {
            None => LIMIT,
            Some(Ok(n)) if (1..=LIMIT).contains(&n) => n,
            Some(_) => return Err(format!("limit must be 1 to {LIMIT}")),
        };
        Ok(Filter { status, verdict, label, limit, after: query.get("after").cloned() })
    }

    /// The peers of the page, how many there are on all pages, and after whom the next page begins. The peers of a
    /// snapshot are sorted by name.
    fn page<'a>(&self, peers: &'a [PeerView]) -> (Vec<&'a PeerView>, usize, Option<String>) {
        let chosen = |p: &&PeerView| {
            let value = |name: &str| p.labels.as_ref().and_then(|labels| labels.get(name));
            self.status.is_none_or(|status| p.status == status)
                && self.verdict.is_none_or(|v| p.verdict == v)
                && self.label.as_ref().is_none_or(|(name, wanted)| value(name) == Some(&**wanted))
        };
        let all: Vec<&PeerView> = peers.iter().filter(chosen).collect();
        let rest = all.iter().filter(|p| self.after.as_deref().is_none_or(|after| &*p.server_id > after));
        let mut page: Vec<&PeerView> = rest.take(self.limit + 1).copied().collect();
        let more = page.len() > self.limit;
        page.truncate(self.limit);
        let next = page.last().filter(|_| more).map(|p| p.server_id.to_string());
        (page, all.len(), next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastseen::proto::{Labels, LinkView, Time};

    fn peer(id: &str, status: PeerStatus, verdict: Verdict) -> PeerView {
        PeerView {
            server_id: id.into(),
            observed: true,
            address: None,
            status,
            verdict,
            conditions: vec![verdict],
            why: String::new(),
            since: Time::ZERO,
            last_seen: None,
            missed_heartbeats: 0,
            bytes_received: 0,
            bytes_sent: 0,
            says: lastseen::proto::Says::default(),
            oldest_row: None,
            observers: Vec::new(),
            proven: false,
            link: LinkView { is_active: true, attempt_count: 0, rtt: None, loss: None },
            instance: None,
            release: None,
            labels: None,
            draining: None,
            key_id: None,
            restarts: 0,
            false_downs: 0,
            transitions: [0; 3],
            explanation: lastseen::proto::Explanation::default(),
        }
    }

    /// Names on the page, the total, and the next page.
    fn page(query: &[(&str, &str)]) -> Result<(String, usize, Option<String>), String> {
        let peers = [
            peer("a", PeerStatus::Healthy, Verdict::Up),
            peer("b", PeerStatus::Down, Verdict::Down),
            peer("c", PeerStatus::Healthy, Verdict::OneWay),
            peer("d", PeerStatus::Down, Verdict::Left),
            peer("e", PeerStatus::Healthy, Verdict::Up),
        ];
        let peers = peers.map(|peer| {
            let role = if ["a", "b"].contains(&&*peer.server_id) { "db" } else { "web" };
            PeerView { labels: Labels::new(vec![("role".into(), role.into())]).ok(), ..peer }
        });
        let query = query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let (page, total, next) = Filter::read(&query)?.page(&peers);
        Ok((page.iter().map(|p| &*p.server_id).collect(), total, next))
    }

    #[test]
    fn the_matrix_of_a_thousand_nodes_is_exported_and_no_larger_one() {
        assert_eq!((too_many(2), too_many(1000)), (None, None));
        assert!(too_many(1001).unwrap().contains("1001 nodes"));
    }

    #[test]
    fn pages_by_name() {
        let next = |id: &str| Some(id.to_owned());
        for (query, expected) in [
            (&[][..], ("abcde", 5, None)),
            (&[("limit", "2")], ("ab", 5, next("b"))),
            (&[("limit", "2"), ("after", "b")], ("cd", 5, next("d"))),
            (&[("limit", "2"), ("after", "d")], ("e", 5, None)),
            (&[("limit", "5")], ("abcde", 5, None)),
            (&[("after", "bb")], ("cde", 5, None)),
            (&[("after", "z")], ("", 5, None)),
            (&[("status", "down")], ("bd", 2, None)),
            (&[("status", "down"), ("limit", "1")], ("b", 2, next("b"))),
            (&[("verdict", "up"), ("after", "a")], ("e", 2, None)),
            (&[("label", "role=db")], ("ab", 2, None)),
            (&[("label", "role=db"), ("status", "down")], ("b", 1, None)),
            (&[("label", "rack=db")], ("", 0, None)),
            (&[("status", "healthy"), ("verdict", "left")], ("", 0, None)),
        ] {
            let (names, total, next) = expected;
            assert_eq!(page(query), Ok((names.to_owned(), total, next)), "{query:?}");
        }
        for query in [
            [("limit", "0")],
            [("limit", "-1")],
            [("limit", "99999999")],
            [("status", "up")],
            [("label", "role")],
        ] {
            assert!(page(&query).is_err(), "{query:?}");
        }
        assert_eq!(page(&[("status", "x")]), Err("status must be one of healthy, suspected, down".into()));
    }
}
