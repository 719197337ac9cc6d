//! What a cluster offers, to whom a session goes, and what may be taken over. All but the last come from the catalog, which
//! costs the detector nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use base64::prelude::{BASE64_STANDARD, Engine};
use lastseen::net::Handle;
use lastseen::proto::{Announced, Catalog, PeerStatus, Scope, ServiceInstance, ServiceState, Time};
use serde_json::{Value, json};

use super::Shared;
use super::api::{Parameters, answer, error, label, nearest, stuck, unknown, unknown_peer, wrong};
use super::json::{labels, now, stamp_of};

/// A service's instances by what they are good for.
#[derive(Debug, Default)]
struct Counts {
    passing: usize,
    draining: usize,
    failed: usize,
    /// On nodes that are Down, whatever they said last.
    unreachable: usize,
    newest_version: u64,
}

impl Counts {
    fn add(&mut self, instance: &ServiceInstance) {
        let count = match instance.state() {
            _ if instance.status == PeerStatus::Down => &mut self.unreachable,
            ServiceState::Passing => &mut self.passing,
            ServiceState::Draining => &mut self.draining,
            ServiceState::Failed => &mut self.failed,
        };
        *count += 1;
        self.newest_version = self.newest_version.max(instance.service.version);
    }
}

/// Whether an instance's node has the label, if one is asked for.
fn has(label: Option<&(String, String)>, instance: &ServiceInstance) -> bool {
    label.is_none_or(|(name, value)| instance.labels.get(name) == Some(value))
}

/// Every service, and how many of its instances are good for what.
pub(super) async fn services(State(shared): State<Arc<Shared>>, Query(query): Parameters) -> Response {
    if let Some(response) = unknown(&query, &["label"]) {
        return response;
    }
    let label = match label(&query, "label") {
        Ok(label) => label,
        Err(why) => return wrong(&why),
    };
    let catalog = shared.handle.catalog();
    let mut all = BTreeMap::<&str, Counts>::new();
    for instance in catalog.instances.iter().filter(|instance| has(label.as_ref(), instance)) {
        all.entry(instance.service.name.as_str()).or_default().add(instance);
    }
    let told = |(name, of): (&&str, &Counts)| {
        json!({
            "name": name,
            "passing": of.passing,
            "draining": of.draining,
            "failed": of.failed,
            "unreachable": of.unreachable,
            "newest_version": (of.newest_version > 0).then_some(of.newest_version),
        })
    };
    let services: Vec<Value> = all.iter().map(told).collect();
    let body = json!({
        "generated_at": now(&shared.clock),
        "total": services.len(),
        "services": services,
        "next": null,
    });
    answer(StatusCode::OK, &body)
}

/// The instances of one service: those that pass on nodes that live, or all.
pub(super) async fn service(
    State(shared): State<Arc<Shared>>,
    name: Result<Path<String>, PathRejection>,
    Query(query): Parameters,
) -> Response {
    let Ok(Path(name)) = name else { return wrong("the service's name is no UTF-8 text") };
    if let Some(response) = unknown(&query, &["all", "label"]) {
        return response;
    }
    let (all, label) = match (flag(&query, "all"), label(&query, "label")) {
        (Ok(all), Ok(label)) => (all, label),
        (Err(why), _) | (_, Err(why)) => return wrong(&why),
    };
    let catalog = shared.handle.catalog();
    if let Some(response) = no_such_service(&catalog, &name) {
        return response;
    }
    let chosen =
        |instance: &&ServiceInstance| (all || instance.is_available()) && has(label.as_ref(), instance);
    let instances: Vec<Value> = catalog.instances(&name).filter(chosen).map(instance).collect();
    let source = |source: &&ServiceInstance| json!({ "server_id": *source.server_id, "version": source.service.version });
    let body = json!({
        "generated_at": now(&shared.clock),
        "name": name,
        "total": instances.len(),
        "instances": instances,
        "sources": catalog.sources(&name).iter().map(source).collect::<Vec<_>>(),
        "next": null,
    });
    answer(StatusCode::OK, &body)
}

/// Where the session with this key goes.
pub(super) async fn route(
    State(shared): State<Arc<Shared>>,
    service: Result<Path<String>, PathRejection>,
    Query(query): Parameters,
) -> Response {
    let Ok(Path(service)) = service else { return wrong("the service's name is no UTF-8 text") };
    if let Some(response) = unknown(&query, &["key", "prefer"]) {
        return response;
    }
    let Some(key) = query.get("key") else { return wrong("key, which names the session, is missing") };
    let prefer = match label(&query, "prefer") {
        Ok(prefer) => prefer,
        Err(why) => return wrong(&why),
    };
    let catalog = shared.handle.catalog();
    if let Some(response) = no_such_service(&catalog, &service) {
        return response;
    }
    let prefer = prefer.as_ref().map(|(name, value)| (name.as_str(), value.as_str()));
    let Some(route) = catalog.route(&service, key.as_bytes(), prefer) else {
        let message = format!("no instance of {service} passes on a node that lives");
        return error(StatusCode::SERVICE_UNAVAILABLE, "no_instance", &message, &[]);
    };
    let body = json!({
        "generated_at": now(&shared.clock),
        "service": service,
        "key": key,
        "first": instance(route.first),
        "second": route.second.map(instance),
    });
    answer(StatusCode::OK, &body)
}

/// The migrations that go on.
pub(super) async fn migrations(State(shared): State<Arc<Shared>>, Query(query): Parameters) -> Response {
    if let Some(response) = unknown(&query, &[]) {
        return response;
    }
    let (catalog, at) = (shared.handle.catalog(), shared.clock.now());
    let on = catalog.migrations.iter().filter(|announced| announced.until > at);
    let migrations: Vec<Value> = on.map(|announced| migration(announced, at)).collect();
    answer(StatusCode::OK, &json!({ "generated_at": now(&shared.clock), "migrations": migrations }))
}

/// Whether what a peer did may be taken over: the other nodes are asked, so only a few at a time may ask this.
pub(super) async fn takeover(
    State(shared): State<Arc<Shared>>,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    let Ok(Path(id)) = id else { return wrong("the peer's id is no UTF-8 text") };
    let Ok(_place) = shared.questions.try_acquire() else {
        let text = "so many ask already what may be taken over; ask again in a moment";
        return error(StatusCode::SERVICE_UNAVAILABLE, "too_many_questions", text, &[]);
    };
    let Some(s) = shared.snapshot(Scope::Peers).await else { return stuck() };
    if !s.peers.iter().any(|p| *p.server_id == *id) {
        return unknown_peer(&s, &id);
    }
    let until = shared.handle.takeover_safe(&id).await;
    let left = until.map(|until| until.since(shared.clock.now())).filter(|left| !left.is_zero());
    let held = shared.handle.quorum_guard().is_held();
    let body = json!({
        "generated_at": now(&shared.clock),
        "server_id": id,
        // Without the guard nothing may be taken over, whatever was true a moment ago.
        "safe": held && left.is_some(),
        "seconds_left": left.filter(|_| held).map(|left| left.as_secs_f64()),
        "guard": held,
    });
    answer(StatusCode::OK, &body)
}

/// What the guard says at this moment, and for how long.
pub(super) fn guard(handle: &Handle) -> Value {
    let left = handle.quorum_guard().left();
    json!({ "held": left.is_some(), "seconds_left": left.map(|left| left.as_secs_f64()) })
}

/// What a node offers.
pub(super) fn of_node(catalog: &Catalog, server_id: &str) -> Vec<Value> {
    catalog.instances.iter().filter(|offered| *offered.server_id == *server_id).map(instance).collect()
}

fn instance(of: &ServiceInstance) -> Value {
    let payload = &of.service.payload;
    json!({
        "server_id": *of.server_id,
        "name": of.service.name.as_str(),
        "address": of.service.address.as_str(),
        "state": of.state().as_str(),
        "status": of.status.as_str(),
        "verdict": of.verdict.as_str(),
        "weight": of.service.weight,
        "version": of.service.version,
        "payload": text(payload),
        "payload_base64": (!payload.is_empty()).then(|| BASE64_STANDARD.encode(payload)),
        "labels": labels(&of.labels),
        "draining": of.drains,
    })
}

/// The payload, where it is something to read.
fn text(payload: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(payload).ok()?;
    (!text.is_empty() && !text.chars().any(char::is_control)).then_some(text)
}

fn migration(announced: &Announced, at: Time) -> Value {
    let of = &announced.migration;
    json!({
        "id": format!("{:016x}", of.id),
        "by": *announced.by,
        "service": of.service.as_str(),
        "from": of.from.as_str(),
        "to": of.to.as_ref().map(|to| to.as_str()),
        "reason": of.reason.as_str(),
        "deadline": stamp_of(of.deadline),
        "seconds_left": announced.until.since(at).as_secs_f64(),
    })
}

/// Whether the parameter is `true`; it is `false` where it is absent.
pub(super) fn flag(query: &BTreeMap<String, String>, name: &str) -> Result<bool, String> {
    match query.get(name).map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(format!("{name} must be true or false")),
    }
}

/// Where no node offers it: the answer, with the nearest names.
fn no_such_service(catalog: &Catalog, name: &str) -> Option<Response> {
    if catalog.instances(name).next().is_some() {
        return None;
    }
    let names: BTreeSet<&str> = catalog.instances.iter().map(|i| i.service.name.as_str()).collect();
    let message = format!("no node offers a service called {name:?}");
    Some(error(StatusCode::NOT_FOUND, "unknown_service", &message, &nearest(names.into_iter(), name)))
}
