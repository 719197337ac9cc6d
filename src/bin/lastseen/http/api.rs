//! The answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use lastseen::metrics::Extra;
use lastseen::proto::{PeerStatus, PeerView, Snapshot, Verdict};
use serde_json::{Value, json};

use super::{Shared, json as shape};
use crate::log;
use crate::settings::Detail;

/// The most peers on one page.
const LIMIT: usize = 10_000;

type Parameters = Query<BTreeMap<String, String>>;

/// An error as JSON.
pub(super) fn error(status: StatusCode, code: &str, message: &str, nearest: &[String]) -> Response {
    let mut body = json!({ "error": code, "message": message });
    if !nearest.is_empty() {
        body["nearest"] = json!(nearest);
    }
    answer(status, &body)
}

fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

fn stuck() -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, "stuck", "the detector's loop does not answer", &[])
}

fn wrong(message: &str) -> Response {
    error(StatusCode::BAD_REQUEST, "bad_query", message, &[])
}

/// Names the first parameter that is none of `known`.
fn unknown(query: &BTreeMap<String, String>, known: &[&str]) -> Option<Response> {
    let name = query.keys().find(|name| !known.contains(&name.as_str()))?;
    Some(wrong(&format!("unknown parameter {name:?}; known: {}", known.join(", "))))
}

pub(super) async fn metrics(State(shared): State<Arc<Shared>>, Query(query): Parameters) -> Response {
    if let Some(response) = unknown(&query, &["detail"]) {
        return response;
    }
    let peers = match query.get("detail").map(String::as_str) {
        None => shared.detail == Detail::Peers,
        Some("summary") => false,
        Some("peers") => true,
        Some(_) => return wrong("detail must be summary or peers"),
    };
    let Some(snapshot) = shared.snapshot().await else { return stuck() };
    let extra = Extra {
        log_lines_suppressed: log::lines_suppressed(),
        events_dropped: shared.handle.events_dropped() + shared.events.lost(),
        config_loaded: shared.loaded,
        peers,
    };
    let wall = |t| shared.clock.wall(t).duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    let text = shared.exporter.render(&snapshot, &extra, &wall);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// 200 only while the loop turns.
pub(super) async fn livez(State(shared): State<Arc<Shared>>) -> Response {
    match shared.snapshot().await {
        Some(_) => "ok\n".into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the detector's loop does not turn\n").into_response(),
    }
}

/// Bound and configured, or it would not answer; never red because a peer is down.
pub(super) async fn readyz() -> Response {
    "ok\n".into_response()
}

pub(super) async fn quorumz(State(shared): State<Arc<Shared>>) -> Response {
    let Some(s) = shared.snapshot().await else { return stuck() };
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
    let Some(s) = shared.snapshot().await else { return stuck() };
    let listen = shared.handle.local_addr().to_string();
    answer(StatusCode::OK, &shape::status(&s, &shared.clock, &listen))
}

pub(super) async fn peers(State(shared): State<Arc<Shared>>, Query(query): Parameters) -> Response {
    let filter = match Filter::read(&query) {
        Ok(filter) => filter,
        Err(response) => return *response,
    };
    let Some(s) = shared.snapshot().await else { return stuck() };
    let (page, total, next) = filter.page(&s);
    let peers: Vec<Value> = page.iter().map(|p| shape::peer(p, &s, &shared.clock)).collect();
    let body =
        json!({ "generated_at": shape::now(&shared.clock), "peers": peers, "total": total, "next": next });
    answer(StatusCode::OK, &body)
}

pub(super) async fn peer(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    let Some(s) = shared.snapshot().await else { return stuck() };
    match s.peers.iter().find(|p| *p.server_id == *id) {
        Some(p) => {
            let mut body = shape::peer(p, &s, &shared.clock);
            body["generated_at"] = json!(shape::now(&shared.clock));
            answer(StatusCode::OK, &body)
        }
        None => {
            let mut near: Vec<_> =
                s.peers.iter().map(|p| (strsim::jaro_winkler(&p.server_id, &id), &p.server_id)).collect();
            near.sort_by(|a, b| b.0.total_cmp(&a.0));
            let near: Vec<String> = near.iter().take(3).map(|(_, id)| id.to_string()).collect();
            let message = if *s.server_id == *id {
                format!("{id} is this node itself: see /api/v1/status")
            } else {
                format!("no peer is called {id:?}")
            };
            error(StatusCode::NOT_FOUND, "unknown_peer", &message, &near)
        }
    }
}

/// What a request for peers asks for.
struct Filter {
    status: Option<PeerStatus>,
    verdict: Option<Verdict>,
    limit: usize,
    after: Option<String>,
}

impl Filter {
    fn read(query: &BTreeMap<String, String>) -> Result<Filter, Box<Response>> {
        if let Some(response) = unknown(query, &["status", "verdict", "limit", "after"]) {
            return Err(Box::new(response));
        }
        let names = |all: Vec<&str>| all.join(", ");
        let status = match query.get("status") {
            None => None,
            Some(text) => {
                Some(PeerStatus::ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| {
                    Box::new(wrong(&format!(
                        "status must be one of {}",
                        names(PeerStatus::ALL.iter().map(|s| s.as_str()).collect())
                    )))
                })?)
            }
        };
        let verdict = match query.get("verdict") {
            None => None,
            Some(text) => Some(Verdict::ALL.into_iter().find(|v| v.as_str() == text).ok_or_else(|| {
                Box::new(wrong(&format!(
                    "verdict must be one of {}",
                    names(Verdict::ALL.iter().map(|v| v.as_str()).collect())
                )))
            })?),
        };
        let limit = match query.get("limit").map(|n| n.parse()) {
            None => LIMIT,
            Some(Ok(n)) if (1..=LIMIT).contains(&n) => n,
            Some(_) => return Err(Box::new(wrong(&format!("limit must be 1 to {LIMIT}")))),
        };
        Ok(Filter { status, verdict, limit, after: query.get("after").cloned() })
    }

    /// The peers of the page, how many there are on all pages, and after whom the next page begins.
    fn page<'a>(&self, s: &'a Snapshot) -> (Vec<&'a PeerView>, usize, Option<String>) {
        let chosen = |p: &&PeerView| {
            self.status.is_none_or(|status| p.status == status) && self.verdict.is_none_or(|v| p.verdict == v)
        };
        let all: Vec<&PeerView> = s.peers.iter().filter(chosen).collect();
        let rest = all.iter().filter(|p| self.after.as_deref().is_none_or(|after| &*p.server_id > after));
        let mut page: Vec<&PeerView> = rest.take(self.limit + 1).copied().collect();
        let more = page.len() > self.limit;
        page.truncate(self.limit);
        let next = page.last().filter(|_| more).map(|p| p.server_id.to_string());
        (page, all.len(), next)
    }
}
