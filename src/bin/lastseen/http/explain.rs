//! What an answer about a peer rests on, as JSON: under `explain` of a peer, and under `evidence` of an event. Ages are
//! seconds.

use lastseen::net::Clock;
use lastseen::proto::{Explanation, LeaveReason, PeerView, Snapshot, Time};
use serde_json::{Value, json};

use super::json::rfc3339;

/// What `lastseen explain` shows of `peer`.
pub(super) fn explain(peer: &PeerView, s: &Snapshot, clock: &Clock) -> Value {
    let mut explain = evidence(&peer.explanation, s.at, clock);
    explain["observers"]["oldest_row_seconds"] = json!(peer.oldest_row.map(|age| age.as_secs_f64()));
    // Whom to ask, where this node is none of them.
    let ids: Vec<&str> = peer.observers.iter().map(|id| &**id).collect();
    explain["observers"]["whom"] = json!((!peer.observed).then_some(ids));
    let fine = s.peers.iter().filter(|p| p.observed && p.link.is_active).count();
    explain["myself"] = json!({
        "self_health": peer.explanation.self_health.as_str(),
        "links": s.peers.iter().filter(|p| p.observed).count(),
        "links_up": fine,
        "last_stall_seconds": s.last_stall.map(|(end, _)| s.at.since(end).as_secs_f64()),
        "last_stall_length_seconds": s.last_stall.map(|(_, length)| length.as_secs_f64()),
    });
    explain["meaning"] = json!(peer.explanation.meaning);
    explain
}

/// What a verdict rested on at `at`. What only heartbeats tell is null for a peer that this node does not observe.
pub(super) fn evidence(e: &Explanation, at: Time, clock: &Clock) -> Value {
    let measured = |count: u64| e.observed.then_some(count);
    json!({
        "observed": e.observed,
        "rule": e.rule,
        "status_since": rfc3339(clock, e.status_since),
        "status_for_seconds": at.since(e.status_since).as_secs_f64(),
        "before": e.before.map(|(status, length)| {
            json!({ "status": status.as_str(), "for_seconds": length.as_secs_f64() })
        }),
        "last_proof": last_proof(e),
        "heartbeats": {
            "strip": e.observed.then(|| e.heartbeats.to_string()),
            "backing_off_seconds": e.backing_off.map(|spacing| spacing.as_secs_f64()),
        },
        "missed": {
            "count": measured(e.missed.into()),
            "suspect_after": e.suspect_after,
            "down_after": e.down_after,
            "without_echo": measured(e.unechoed.into()),
        },
        "loss": { "rx": e.loss.map(|loss| loss.0), "tx": e.loss.map(|loss| loss.1) },
        "relays": {
            "asked": measured(e.relays.asked.into()),
            "answered": measured(e.relays.answered.into()),
            "last_asked_seconds": e.relays.last.map(|age| age.as_secs_f64()),
            "whom": e.observed.then(|| e.relays.whom.iter().map(|id| &**id).collect::<Vec<_>>()),
        },
        "socket": {
            "host": e.address.map(|address| address.ip().to_canonical().to_string()),
            "errors": measured(e.errors.into()),
            "within_seconds": Explanation::ERRORS_WITHIN.as_secs_f64(),
            "last_error": e.last_error.map(|(kind, ..)| kind.as_str()),
            "last_error_source": e.last_error.map(|(_, source, _)| source.as_str()),
            "last_error_seconds": e.last_error.map(|(.., age)| age.as_secs_f64()),
        },
        "observers": {
            "total": e.says.observers(),
            "healthy": e.says.healthy,
            "suspected": e.says.suspected,
            "down": e.says.down,
            "unknown": e.says.unknown,
            "hear": e.says.hear,
            "miss": e.says.miss,
        },
        "myself": { "self_health": e.self_health.as_str() },
        "said": e.observed.then(|| said(e)),
        "setup": {
            "roster_equal": e.setup.roster,
            "settings_equal": e.setup.settings,
            "key_equal": e.setup.key,
            "version_equal": e.setup.version,
            "foreign_key_datagrams": measured(e.setup.foreign_keys),
            "foreign_version_datagrams": measured(e.setup.foreign_versions),
        },
    })
}

fn last_proof(e: &Explanation) -> Value {
    e.last_proof.as_ref().map_or(Value::Null, |proof| {
        json!({
            "kind": proof.kind.as_str(),
            "age_seconds": proof.age.as_secs_f64(),
            "rtt_seconds": proof.rtt.map(|rtt| rtt.as_secs_f64()),
            "address": proof.address.map(|address| address.to_string()),
            "relay": proof.relay.as_deref(),
        })
    })
}

fn said(e: &Explanation) -> Value {
    let left = e.left.map(|(why, age)| {
        let reason = if why == LeaveReason::Removal { "removal" } else { "restart" };
        json!({ "reason": reason, "age_seconds": age.as_secs_f64() })
    });
    let paused = e.paused.map(
        |(length, age)| json!({ "length_seconds": length.as_secs_f64(), "age_seconds": age.as_secs_f64() }),
    );
    let draining = e.draining.as_ref().map(|draining| {
        json!({ "left_seconds": draining.left.as_secs_f64(), "reason": draining.drain.reason.as_str() })
    });
    json!({ "left": left, "paused": paused, "draining": draining })
}
