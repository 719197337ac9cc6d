//! `lastseen explain PEER`.

use std::process::ExitCode;

use serde_json::Value;

use super::table::wrap;
use super::{TIMEOUT, age, colour, colours, show};
use crate::args;
use crate::check::encode;
use crate::client::{self, plain, plain_json};

/// The column where the facts begin.
const LEFT: usize = 14;
/// The widest line.
const WIDTH: usize = 80;
/// Questions to others are worth a word while the peer is not fine, and for so long after.
const LATELY: f64 = 60.0;

/// Says what is the matter with a peer, and what that rests on.
pub(crate) fn run_explain(args: &args::Explain) -> ExitCode {
    let path = format!("/api/v1/peers/{}", encode(&args.peer));
    show(args.watch, || {
        let peer = client::get(&args.client.daemon.http, &path, TIMEOUT)?;
        Ok(if args.client.json { plain_json(&peer) } else { explain_text(&peer, colours()) })
    })
}

/// The whole answer for people, from what the daemon says of a peer.
pub(super) fn explain_text(peer: &Value, colours: bool) -> String {
    let headline = wrap(&headline(peer), WIDTH).join("\n");
    let mut text = match colours {
        true => format!("\x1b[{}m{headline}\x1b[0m\n", colour(peer)),
        false => headline + "\n",
    };
    text += &(wrap(&plain(&peer["explain"]["meaning"]), WIDTH).join("\n") + "\n\n");
    for (mut name, words) in facts(peer) {
        for line in words.lines().flat_map(lines_of) {
            text += &format!("  {name:<12}{line}\n");
            name = "";
        }
    }
    text
}

/// What the answer rests on: the name of each fact, and its words.
pub(crate) fn facts(peer: &Value) -> Vec<(&'static str, String)> {
    let why = &peer["explain"];
    let elsewhere = peer["observed"] == false;
    let mut facts = vec![("status", status(peer))];
    if elsewhere {
        facts.push(("measured", measured(&why["observers"])));
    } else {
        facts.extend([
            ("last proof", last_proof(&why["last_proof"])),
            ("heartbeats", heartbeats(&why["heartbeats"])),
            ("missed", missed(&why["missed"])),
            ("relays", relays(peer)),
            ("socket", socket(&why["socket"])),
        ]);
    }
    facts.push(("observers", observers(&why["observers"])));
    facts.push(("myself", myself(&why["myself"])));
    if !elsewhere {
        facts.push(("it said", said(&why["said"])));
    }
    facts.push(("setup", setup(&why["setup"], elsewhere)));
    facts.push(("rule", plain(&why["rule"])));
    facts
}

/// The lines of a line. One that fits stays as it is: a legend is held apart by spaces.
fn lines_of(line: &str) -> Vec<String> {
    if line.chars().count() <= WIDTH - LEFT { vec![line.to_owned()] } else { wrap(line, WIDTH - LEFT) }
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// A time since, in seconds, as people say it.
fn since(value: &Value) -> String {
    age(value.as_f64().unwrap_or(0.0))
}

/// The same without the smaller unit.
fn roughly(value: &Value) -> String {
    since(value).split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// The answer in one sentence.
pub(crate) fn headline(peer: &Value) -> String {
    let (status, verdict) = (plain(&peer["status"]), plain(&peer["verdict"]));
    let word = match (status.as_str(), verdict.as_str()) {
        // What is missed, and nothing is known to be wrong with it.
        ("suspected", "up") => "SUSPECTED".to_owned(),
        (_, "isolated") => "ISOLATED FROM HERE".to_owned(),
        (_, verdict) => verdict.to_uppercase(),
    };
    let (id, length) = (plain(&peer["server_id"]), since(&peer["since_seconds"]));
    if verdict == "draining" {
        let answers = if status == "healthy" { "" } else { " and does not answer" };
        return format!("{id} is draining ({}){answers}.", plain(&peer["why"]));
    }
    format!("{id} is {word} for {length}: {}.", plain(&peer["why"]))
}

fn status(peer: &Value) -> String {
    let why = &peer["explain"];
    // Seconds are enough for people.
    let stamp = plain(&why["status_since"]);
    let stamp = stamp.split_once('.').map_or(stamp.clone(), |(seconds, _)| format!("{seconds}Z"));
    let now = format!("{} since {stamp} ({})", plain(&peer["status"]), since(&why["status_for_seconds"]));
    let before = &why["before"];
    if before.is_null() {
        return now;
    }
    format!("{now}; {} for {} before", plain(&before["status"]), roughly(&before["for_seconds"]))
}

/// Who measures what this node does not.
fn measured(of: &Value) -> String {
    let whom: Vec<String> = of["whom"].as_array().into_iter().flatten().map(plain).collect();
    let more = count(&of["total"]).saturating_sub(whom.len() as u64);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("not here: it is observed by {}{rest}", whom.join(", "))
}

fn last_proof(proof: &Value) -> String {
    let way = match (proof["kind"].as_str(), proof["relay"].as_str()) {
        (None, _) => return "never heard".to_owned(),
        (Some("by_relay"), Some(_)) => format!("by relay ({})", plain(&proof["relay"])),
        (Some(_), _) => plain(&proof["kind"]).replace('_', " "),
    };
    let mut text = format!("{way}, {} ago", since(&proof["age_seconds"]));
    if let Some(rtt) = proof["rtt_seconds"].as_f64().filter(|_| proof["kind"] == "echo") {
        text += &format!(", {:.1} ms", rtt * 1e3);
    }
    if proof["address"].is_string() {
        let word = if proof["kind"] == "by_relay" { "of" } else { "from" };
        text += &format!(", {word} {}", plain(&proof["address"]));
    }
    text
}

fn heartbeats(beats: &Value) -> String {
    let strip = plain(&beats["strip"]);
    let mut text = match strip.as_str() {
        "" => "none was judged yet".to_owned(),
        strip => format!("{strip}   oldest first"),
    };
    if let Some(spacing) = beats["backing_off_seconds"].as_f64() {
        let whole = if spacing.fract() == 0.0 { format!("{spacing} s") } else { age(spacing) };
        text += &format!("; backing off, {whole}");
    }
    if !strip.is_empty() {
        text += "\n+ answered   r after a retry   R by relay   x missed   v void";
    }
    if strip.contains('o') {
        text += "\no heard, but it echoed nothing";
    }
    text
}

fn missed(missed: &Value) -> String {
    let number = match count(&missed["count"]) {
        0 => "none".to_owned(),
        number => number.to_string(),
    };
    let (suspected, down) = (count(&missed["suspect_after"]), count(&missed["down_after"]));
    let mut text = format!("{number} in a row (suspected at {suspected}, down at {down})");
    let unechoed = count(&missed["without_echo"]);
    if unechoed > count(&missed["count"]) {
        text += &format!("; {unechoed} without an echo");
    }
    text
}

fn relays(peer: &Value) -> String {
    let relays = &peer["explain"]["relays"];
    let fine = peer["verdict"] == "up" && peer["status"] == "healthy";
    let old = relays["last_asked_seconds"].as_f64().is_none_or(|age| age > LATELY && fine);
    if count(&relays["asked"]) == 0 || old {
        return "none asked lately".to_owned();
    }
    let whom: Vec<String> = relays["whom"].as_array().into_iter().flatten().map(plain).collect();
    format!(
        "{} asked ({}), {} answered",
        count(&relays["asked"]),
        whom.join(", "),
        count(&relays["answered"])
    )
}

fn socket(socket: &Value) -> String {
    if socket["host"].is_null() {
        return "nothing was sent: its name does not resolve".to_owned();
    }
    let (host, within) = (plain(&socket["host"]), socket["within_seconds"].as_f64().unwrap_or(0.0));
    match count(&socket["errors"]) {
        0 => format!("no error from {host} in {within} s"),
        errors => format!(
            "{errors} errors for {host} in {within} s, the last, {}{}, {} ago",
            plain(&socket["last_error"]),
            match socket["last_error_source"].as_str() {
                Some("this_host") => ": this host refused to send",
                Some("network") => ", from another host",
                _ => "",
            },
            since(&socket["last_error_seconds"])
        ),
    }
}

fn observers(of: &Value) -> String {
    let mut text = format!("{}: {} say down", count(&of["total"]), count(&of["down"]));
    if count(&of["suspected"]) > 0 {
        text += &format!(", {} say suspected", count(&of["suspected"]));
    }
    text += &format!(", {} hear it, {} without a fresh row", count(&of["hear"]), count(&of["unknown"]));
    if of["oldest_row_seconds"].is_number() {
        text += &format!(" (oldest {})", since(&of["oldest_row_seconds"]));
    }
    text
}

fn myself(me: &Value) -> String {
    let (up, links) = (count(&me["links_up"]), count(&me["links"]));
    let stall = match me["last_stall_seconds"].is_number() {
        true => format!(
            "last stall {} ago, of {}",
            roughly(&me["last_stall_seconds"]),
            since(&me["last_stall_length_seconds"])
        ),
        false => "no stall".to_owned(),
    };
    format!("{}: {up} of {links} links fine, {stall}", plain(&me["self_health"]))
}

fn said(said: &Value) -> String {
    let (left, draining, paused) = (&said["left"], &said["draining"], &said["paused"]);
    let mut words = Vec::new();
    if left.is_object() {
        let what = if left["reason"] == "removal" { "for good" } else { "for a restart" };
        words.push(format!("{} ago that it leaves {what}", since(&left["age_seconds"])));
    }
    if draining.is_object() {
        let reason = plain(&draining["reason"]);
        let colon = if reason.is_empty() { "" } else { ": " };
        words.push(format!("that it drains, {} left{colon}{reason}", since(&draining["left_seconds"])));
    }
    if paused.is_object() {
        let (length, ago) = (since(&paused["length_seconds"]), since(&paused["age_seconds"]));
        words.push(format!("{ago} ago that it slept {length}"));
    }
    if words.is_empty() { "nothing: no leave, no drain, no pause".to_owned() } else { words.join("; ") }
}

/// `elsewhere`: it is known by its profile alone.
fn setup(setup: &Value, elsewhere: bool) -> String {
    let names: &[&str] = if elsewhere {
        &["roster", "settings", "version"]
    } else {
        &["roster", "settings", "key", "version"]
    };
    let known = if elsewhere { "by its profile" } else { "when last heard" };
    let of = |told: Option<bool>| -> Vec<&str> {
        names.iter().copied().filter(|name| setup[format!("{name}_equal")].as_bool() == told).collect()
    };
    let list = |names: &[&str]| match names {
        [all @ .., last] if !all.is_empty() => format!("{} and {last}", all.join(", ")),
        names => names.join(""),
    };
    let (equal, other, untold) = (of(Some(true)), of(Some(false)), of(None));
    let mut parts = Vec::new();
    if !other.is_empty() {
        parts.push(format!("{} DIFFERENT", list(&other)));
    }
    if !equal.is_empty() {
        parts.push(format!("{} equal {known}", list(&equal)));
    }
    if !untold.is_empty() {
        parts.push(format!("{} not told", list(&untold)));
    }
    for (key, what) in [("foreign_key_datagrams", "key"), ("foreign_version_datagrams", "wire version")] {
        if count(&setup[key]) > 0 {
            parts.push(format!(
                "{} datagrams came from its address with a {what} that this node lacks",
                count(&setup[key])
            ));
        }
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests;
