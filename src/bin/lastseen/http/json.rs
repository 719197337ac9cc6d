//! The JSON of the contract, from the core's picture.

use jiff::Timestamp;
use lastseen::net::Clock;
use lastseen::proto::seal::WIRE;
use lastseen::proto::{Labels, Missing, Observers, PeerView, RowView, Snapshot, Time, Verdict, WitnessView};
use serde_json::{Map, Value, json};

use crate::rosters;

/// A time as RFC 3339 in UTC with milliseconds.
pub(super) fn rfc3339(clock: &Clock, t: Time) -> String {
    stamp(clock.wall(t))
}

/// The time now.
pub(super) fn now(clock: &Clock) -> String {
    stamp(clock.wall_now())
}

fn stamp(t: std::time::SystemTime) -> String {
    Timestamp::try_from(t).map_or_else(|_| "1970-01-01T00:00:00.000Z".to_owned(), |t| format!("{t:.3}"))
}

/// So many seconds since 1970.
pub(crate) fn stamp_of(seconds: u64) -> String {
    let moment = i64::try_from(seconds).ok().and_then(|s| Timestamp::from_second(s).ok());
    format!("{:.3}", moment.unwrap_or(Timestamp::MAX))
}

pub(super) fn status(s: &Snapshot, clock: &Clock, listen: &str) -> Value {
    let counts = Verdict::ALL.iter().zip(s.verdicts);
    let verdicts: Map<String, Value> =
        counts.map(|(verdict, count)| (verdict.as_str().to_owned(), json!(count))).collect();
    json!({
        "generated_at": now(clock),
        "server_id": *s.server_id,
        "cluster": *s.cluster,
        "version": env!("CARGO_PKG_VERSION"),
        "wire_version": WIRE,
        "instance": s.instance.to_string(),
        "listen_address": listen,
        "uptime_seconds": s.at.since(s.started).as_secs_f64(),
        "secure": s.secure,
        "insecure": s.insecure,
        "key": s.key_ids.first().map(|k| format!("{k:02x}")),
        "keys": s.key_ids.iter().map(|k| format!("{k:02x}")).collect::<Vec<_>>(),
        "self_health": s.self_health.as_str(),
        "total_peers": s.status.total_peers,
        "healthy_peers": s.status.healthy_peers,
        "proven_peers": s.status.proven_peers,
        "suspected_peers": s.status.suspected_peers,
        "down_peers": s.status.down_peers,
        "is_degraded": s.status.is_degraded,
        "degraded_peers": s.degraded_peers,
        "is_quorum_available": s.status.is_quorum_available(),
        "quorum_needed": s.status.quorum_needed(),
        "verdicts": verdicts,
        "observers": match s.observers {
            Observers::Number(number) => json!(number),
            word => json!(word.to_string()),
        },
        "mass_loss": s.mass_loss,
        "draining_until": s.draining.as_ref().map(|d| stamp_of(d.drain.until)),
        "draining_seconds": s.draining.as_ref().map(|d| d.left.as_secs_f64()),
        "draining_reason": s.draining.as_ref().map(|d| d.drain.reason.as_str()),
        "oldest_row_seconds": s.oldest_row.map(|age| age.as_secs_f64()),
        "strangers": s.strangers.iter().map(|stranger| json!({
            "server_id": stranger.server_id.as_deref(),
            "address": stranger.address.to_string(),
            "last_seen_seconds": s.at.since(stranger.heard).as_secs_f64(),
        })).collect::<Vec<_>>(),
        "witness": witness(&s.witness, s.at),
        "roster_hash": rosters::hash(s.roster_hash),
        "config_hash": format!("{:012x}", s.config_hash),
    })
}

/// What this node counts for in the quorum guard, and what it lacks.
fn witness(view: &WitnessView, now: Time) -> Value {
    let wait = match view.missing {
        Some(Missing::Wait(until)) => Some(until.since(now).as_secs_f64()),
        _ => None,
    };
    let former = view.former.iter().map(|former| {
        let mut not_agreed: Vec<&str> = former.not_agreed.iter().map(|member| &**member).collect();
        not_agreed.sort_unstable();
        json!({
            "members": former.members,
            "needed": former.needed,
            "agreed": former.agreed,
            "not_agreed": not_agreed,
        })
    });
    json!({
        "standing": view.standing.as_str(),
        "missing": view.missing.map(missing),
        "wait_seconds": wait,
        "former": former.collect::<Vec<_>>(),
    })
}

/// The name of what a run lacks to be a witness.
fn missing(missing: Missing) -> &'static str {
    match missing {
        Missing::State => "state_dir",
        Missing::Observers => "observers",
        Missing::Save => "save",
        Missing::Agreement => "agreement",
        Missing::Wait(_) => "wait",
        Missing::Witnesses => "witnesses",
        _ => "other",
    }
}

pub(super) fn peer(p: &PeerView, s: &Snapshot, clock: &Clock) -> Value {
    let conditions: Vec<&str> = p.conditions.iter().map(|v| v.as_str()).collect();
    json!({
        "server_id": *p.server_id,
        "address": p.address.map(|a| a.to_string()),
        "status": p.status.as_str(),
        "verdict": p.verdict.as_str(),
        "conditions": conditions,
        "why": p.why,
        "since": rfc3339(clock, p.since),
        "since_seconds": s.at.since(p.since).as_secs_f64(),
        "observed": p.observed,
        "proven": p.proven,
        "last_seen_seconds": p.last_seen.map(|t| s.at.since(t).as_secs_f64()),
        // What is not measured, since other nodes observe it, is null.
        "missed_heartbeats": p.observed.then_some(p.missed_heartbeats),
        "bytes_received": p.observed.then_some(p.bytes_received),
        "bytes_sent": p.observed.then_some(p.bytes_sent),
        "link": p.observed.then(|| json!({
            "is_active": p.link.is_active,
            "attempt_count": p.link.attempt_count,
            "rtt_seconds": p.link.rtt.map(|d| d.as_secs_f64()),
            "loss": { "rx": p.link.loss.map(|l| l.0), "tx": p.link.loss.map(|l| l.1) },
        })),
        "observers": {
            "healthy": p.says.healthy,
            "suspected": p.says.suspected,
            "down": p.says.down,
            "unknown": p.says.unknown,
        },
        "instance": p.instance.map(|i| i.to_string()),
        "uptime_seconds": null,
        "version": p.release.map(|(release, _)| release.to_string()),
        "wire_version": p.release.map(|(_, wire)| wire),
        "labels": p.labels.as_ref().map(labels),
        "draining_until": p.draining.as_ref().map(|d| stamp_of(d.drain.until)),
        "key": p.key_id.map(|k| format!("{k:02x}")),
        "restarts": p.restarts,
        "false_downs": p.false_downs,
    })
}

pub(super) fn labels(labels: &Labels) -> Map<String, Value> {
    labels.iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
}

/// A page of peers. Written one by one: a tree of ten thousand takes twenty times its text.
pub(super) fn page(
    peers: &[&PeerView],
    (total, next): (usize, Option<String>),
    s: &Snapshot,
    clock: &Clock,
) -> String {
    let mut text = String::from("{\"peers\":[");
    join(&mut text, peers.iter().map(|p| peer(p, s, clock).to_string()));
    let rest = json!({ "generated_at": now(clock), "next": next, "total": total }).to_string();
    text.push_str("],");
    text.push_str(&rest[1..]);
    text
}

/// The matrix. Exceptions only; with `edges` every edge that is observed.
pub(super) fn matrix(s: &Snapshot, clock: &Clock, edges: bool) -> String {
    let nodes: Vec<&str> = s.rows.iter().map(|row| &*row.server_id).collect();
    let row = |row: &RowView| {
        let watched: Vec<&str> = match &row.watches {
            _ if !edges || row.age.or(row.stale).is_none() || row.cut => Vec::new(),
            Some(watches) => watches.iter().map(|at| nodes[*at as usize]).collect(),
            None => nodes.iter().copied().filter(|id| *id != &*row.server_id).collect(),
        };
        let fine = watched.into_iter();
        let mut peers: Map<String, Value> =
            fine.map(|id| (id.to_owned(), json!({ "status": "healthy", "link": "up" }))).collect();
        for edge in &row.sees {
            let seen = json!({ "status": edge.life.as_str(), "link": edge.link.as_str() });
            peers.insert(edge.peer.to_string(), seen);
        }
        let [age, stale] = [row.age, row.stale].map(|age| age.map(|age| age.as_secs_f64()));
        let row_of = json!({ "age_seconds": age, "stale_seconds": stale, "cut": row.cut, "peers": peers });
        format!("{}:{row_of}", json!(*row.server_id))
    };
    let mut text = format!("{{\"generated_at\":{},\"nodes\":{},\"rows\":{{", json!(now(clock)), json!(nodes));
    join(&mut text, s.rows.iter().map(row));
    text.push_str("}}");
    text
}

fn join(text: &mut String, parts: impl Iterator<Item = String>) {
    for (at, part) in parts.enumerate() {
        text.push_str(if at == 0 { "" } else { "," });
        text.push_str(&part);
    }
}
