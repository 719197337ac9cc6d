//! What is said of peers in simulated trouble: core, JSON and text together.

use std::time::Duration;

use lastseen::net::Clock;
use lastseen::proto::{LeaveReason, Observers};
use lastseen::sim::{Rule, Scope, Setup, World};
use serde_json::json;

use super::*;
use crate::http::one_peer;

const SECOND: Duration = Duration::from_secs(1);

/// What node 0 of seven says of node 1 (its JSON) after `trouble`.
fn after(trouble: fn(&mut World)) -> Value {
    let mut world = World::new(Setup::new(7), 3);
    trouble(&mut world);
    said_of(&world, 1)
}

fn said_of(world: &World, peer: usize) -> Value {
    let now = world.host(0).clock().show(world.now());
    let snapshot = world.node(0).expect("it runs").snapshot(now);
    let id = format!("n{peer}");
    let view = snapshot.peers.iter().find(|p| *p.server_id == *id).expect("it is in the roster");
    one_peer(view, &snapshot, &Clock)
}

fn cut(world: &mut World, from: u32, to: u32) {
    world.add_rule(Scope::Between(vec![from], vec![to]), Rule::Cut);
}

fn silent(world: &mut World) {
    world.run_for(60 * SECOND);
    world.crash(1, false);
    world.run_for(30 * SECOND);
}

fn refused(world: &mut World) {
    world.run_for(60 * SECOND);
    world.crash(1, true);
    world.run_for(5 * SECOND);
}

fn link_down(world: &mut World) {
    world.run_for(20 * SECOND);
    cut(world, 0, 1);
    cut(world, 1, 0);
    world.run_for(12 * SECOND);
}

fn deaf_peer(world: &mut World) {
    world.run_for(20 * SECOND);
    cut(world, 0, 1);
    world.run_for(12 * SECOND);
}

fn mute_peer(world: &mut World) {
    world.run_for(20 * SECOND);
    cut(world, 1, 0);
    world.run_for(12 * SECOND);
}

fn lossy(world: &mut World) {
    world.run_for(20 * SECOND);
    world.add_rule(Scope::Between(vec![0], vec![1]), Rule::Loss(0.3));
    let is_lossy = |world: &World| said_of(world, 1)["verdict"] == "lossy";
    assert!(world.run_until(200 * SECOND, is_lossy).is_some());
}

fn paused(world: &mut World) {
    world.run_for(20 * SECOND);
    world.freeze(1, true);
    world.run_for(3 * SECOND);
    world.freeze(1, false);
    world.run_for(2 * SECOND);
}

fn left(world: &mut World) {
    world.run_for(20 * SECOND);
    world.leave(1, LeaveReason::Restart);
    world.run_for(130 * SECOND);
}

fn never_there(world: &mut World) {
    world.add_rule(Scope::Across(vec![vec![1], vec![0, 2, 3, 4, 5, 6]]), Rule::Cut);
    world.run_for(20 * SECOND);
}

fn isolated(world: &mut World) {
    world.run_for(20 * SECOND);
    world.deafen(0, true);
    world.run_for(8 * SECOND);
}

fn late(world: &mut World) {
    world.run_for(20 * SECOND);
    world.crash(1, false);
    world.run_for(3 * SECOND);
}

/// What happens, and what is said of it line by line.
type Trouble = (fn(&mut World), &'static [&'static str]);

const TROUBLES: [Trouble; 12] = [
    (
        |world| world.run_for(60 * SECOND),
        &[
            "n1 is UP for 5",
            "answers, round trip ",
            "\nIt answers, and nobody says otherwise.\n",
            "  status      healthy since ",
            "  last proof  echo, ",
            "  heartbeats  ++++++++++++++++++++++++++++++++   oldest first\n",
            "  missed      none in a row (suspected at 2, down at 5)\n",
            "  relays      none asked lately\n",
            "  socket      no error from 10.",
            " in 60 s\n",
            "  observers   6: 0 say down, 6 hear it, 0 without a fresh row (oldest ",
            "  myself      ok: 6 of 6 links fine, no stall\n",
            "  it said     nothing: no leave, no drain, no pause\n",
            "  setup       roster, settings, key and version equal when last heard\n",
            "  rule        up: nothing else applies\n",
        ],
    ),
    (
        silent,
        &[
            "n1 is DOWN for 2",
            "silent to all 6 that observe it.\n",
            "\nNothing answered for its address (no port unreachable), so the machine or its\n",
            "  status      down since ",
            "healthy for 6",
            "  last proof  echo, 30 s ago, ",
            "+++++++++++++++++++++xxxxxxx",
            "   oldest first; backing off, 10 s\n",
            " answered   r after a retry   R by relay   x missed   v void\n",
            " in a row (suspected at 2, down at 5)\n",
            " asked (n",
            "), 0 answered\n",
            "  observers   6: 6 say down, 0 hear it, 0 without a fresh row (oldest ",
            "  myself      ok: 5 of 6 links fine, no stall\n",
            "  rule        down: all credible observers miss it\n",
        ],
    ),
    (
        refused,
        &[
            "n1 is REFUSED for ",
            "its host answers, but refuses port 5278",
            "\nIts machine and the network are there; the daemon has ended, or a firewall",
            "  socket      ",
            " errors for 10.",
            ", the last, refused, ",
            "  rule        refused: not healthy, and its host refused a try lately\n",
        ],
    ),
    (
        link_down,
        &[
            "n1 is LINK_DOWN for ",
            "1 of 6 miss it, this node among them; 5 hear it.\n",
            "\nIt lives; what is cut is the path between it and this node.\n",
            "  status      healthy since ",
            "  last proof  by relay (n",
            "RRRRRRRRRRR   oldest first\n",
            "  missed      none in a row (suspected at 2, down at 5); 1",
            " without an echo\n",
            " answered\n",
            "  observers   6: 0 say down, 5 hear it, 0 without a fresh row (oldest ",
            "  myself      ok: 5 of 6 links fine, no stall\n",
        ],
    ),
    (
        deaf_peer,
        &[
            "n1 is ONE_WAY for ",
            "it does not hear me.\n",
            "\nIts datagrams arrive here, and this node's do not arrive there: look at the path\n",
        ],
    ),
    (
        mute_peer,
        &[
            "n1 is ONE_WAY for ",
            "I do not hear it.\n",
            "\nThis node's datagrams arrive there, and its own do not arrive here: look at the\n",
            "  last proof  by relay (n",
        ],
    ),
    (
        lossy,
        &[
            "n1 is LOSSY for ",
            " % of what goes",
            "\nIt lives; datagrams are lost on the way, ",
            "r",
            "  rule        lossy: ",
        ],
    ),
    (
        paused,
        &[
            "n1 is PAUSED for ",
            "that it slept ",
            "\nIts process was stopped or starved of CPU, ",
            "  it said     ",
            " ago that it slept ",
        ],
    ),
    (
        left,
        &[
            "n1 is LEFT for 2 min: said 2 min ago that it leaves for a restart.\n",
            "\nIt is expected back; in 7 min its absence becomes an alarm.\n",
            "  it said     2 min ago that it leaves for a restart\n",
        ],
    ),
    (
        never_there,
        &[
            "n1 is UNKNOWN for ",
            "never heard since this node's start.\n",
            "\nEither it was not started yet, or nothing passes between it and this node.\n",
            // Presumed is not healthy.
            " s)\n  last proof  never heard\n",
            "xxxxx",
            "  setup       roster, settings, key and version not told\n",
        ],
    ),
    (
        isolated,
        &[
            "n1 is ISOLATED FROM HERE for ",
            "not it: me; nothing authentic came to this",
            "\nNothing at all reaches this node, so it can tell nothing of others: look at its\n",
            "  status      suspected since ",
            "  myself      isolated: 0 of 6 links fine, no stall\n",
        ],
    ),
    (
        late,
        &[
            "n1 is SUSPECTED for ",
            "\nIt is late by every route; at 5 misses in a row it is Down.\n",
            "  rule        suspected: ",
        ],
    ),
];

#[test]
fn every_trouble_is_explained() {
    for (trouble, lines) in TROUBLES {
        let text = explain_text(&after(trouble), false);
        for line in lines {
            assert!(text.contains(line), "{line:?} is missing in:\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(
            text.lines().last().is_some_and(|line| line.starts_with("  rule ")),
            "a rule is one line: {text}"
        );
        assert!(!text.contains("null") && !text.contains(": \n") && text.lines().count() > 14, "{text}");
    }
}

#[test]
fn of_whom_others_observe_nothing_false_is_said() {
    let mut setup = Setup::new(20);
    setup.config.observers = Observers::Number(4);
    let mut world = World::new(setup, 3);
    world.run_for(30 * SECOND);
    let node = world.node(0).expect("it runs");
    let snapshot = node.snapshot(world.now());
    let all = snapshot.peers.iter().filter(|p| !p.observed);
    let number = |p: &lastseen::proto::PeerView| p.server_id[1..].parse::<usize>().unwrap();
    let other = all.map(number).next().expect("most are not observed");
    world.crash(other as u32, false);
    world.run_for(20 * SECOND);
    let peer = said_of(&world, other);
    let why = &peer["explain"];
    for (part, names) in [
        ("heartbeats", &["strip", "backing_off_seconds"][..]),
        ("missed", &["count", "without_echo"]),
        ("loss", &["rx", "tx"]),
        ("relays", &["asked", "answered", "last_asked_seconds", "whom"]),
        ("socket", &["errors", "last_error", "last_error_source", "last_error_seconds"]),
        ("setup", &["key_equal", "foreign_key_datagrams", "foreign_version_datagrams"]),
    ] {
        for name in names {
            assert!(why[part].get(name).is_some_and(Value::is_null), "{part} {name}: {}", why[part]);
        }
    }
    assert!(why["last_proof"].is_null() && why["said"].is_null() && why["observed"] == false, "{why}");
    assert_eq!(why["setup"]["version_equal"], true, "{why}");
    let text = explain_text(&peer, false);
    let facts: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("  ")?.split("  ").next()).collect();
    assert_eq!(facts, ["status", "measured", "observers", "myself", "setup", "rule"], "{text}");
    for part in
        [" not here: it is observed by n", " more\n", ": 4 say down, ", "version equal by its profile\n"]
    {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    // The oldest row of all is the dead one's; its observers' are fresh.
    let age = |value: &Value| value.as_f64().expect("it is known");
    let whole = world.node(0).unwrap().snapshot(world.now());
    let rows = whole.rows.iter().filter(|row| {
        row.watches
            .as_ref()
            .unwrap()
            .iter()
            .any(|at| *whole.rows[*at as usize].server_id == *format!("n{other}"))
    });
    let oldest = rows.filter_map(|row| row.age).max().unwrap().as_secs_f64();
    assert!((age(&why["observers"]["oldest_row_seconds"]) - oldest).abs() < 1e-6, "{why}");
}

#[test]
fn the_example_of_the_contract() {
    let peer = json!({
        "server_id": "web-7", "status": "down", "verdict": "down", "since_seconds": 42.0,
        "why": "silent to all 16 that observe it",
        "explain": {
            "meaning": "Nothing answered for its address (no port unreachable), so the machine or its network is \
                        gone, not only the daemon.",
            "rule": "down: all credible observers miss it",
            "status_since": "2026-11-23T03:12:07.123Z", "status_for_seconds": 42.0,
            "before": {"status": "healthy", "for_seconds": 1_036_800.0},
            "last_proof": {"kind": "echo", "age_seconds": 47.6, "rtt_seconds": 0.0004,
                           "address": "10.0.0.7:5278", "relay": null},
            "heartbeats": {"strip": "++++++++++++++++++++r+xxxxxxxxxx", "backing_off_seconds": 8.0},
            "missed": {"count": 10, "suspect_after": 2, "down_after": 5, "without_echo": 10},
            "relays": {"asked": 30, "answered": 0, "last_asked_seconds": 3.0, "whom": ["web-3", "web-19", "web-88"]},
            "socket": {"host": "10.0.0.7", "errors": 0, "within_seconds": 60.0,
                       "last_error": null, "last_error_source": null, "last_error_seconds": null},
            "observers": {"total": 16, "healthy": 0, "suspected": 0, "down": 16, "unknown": 0, "hear": 0, "miss": 16,
                          "oldest_row_seconds": 1.8},
            "myself": {"self_health": "ok", "links": 16, "links_up": 14,
                       "last_stall_seconds": 259_200.0, "last_stall_length_seconds": 1.5},
            "said": {"left": null, "paused": null},
            "setup": {"roster_equal": true, "settings_equal": true, "key_equal": true, "version_equal": true,
                      "foreign_key_datagrams": 0, "foreign_version_datagrams": 0},
        }
    });
    let text = explain_text(&peer, false);
    assert_eq!(
        text,
        "web-7 is DOWN for 42 s: silent to all 16 that observe it.
Nothing answered for its address (no port unreachable), so the machine or its
network is gone, not only the daemon.

  status      down since 2026-11-23T03:12:07Z (42 s); healthy for 12 d before
  last proof  echo, 47 s ago, 0.4 ms, from 10.0.0.7:5278
  heartbeats  ++++++++++++++++++++r+xxxxxxxxxx   oldest first; backing off, 8 s
              + answered   r after a retry   R by relay   x missed   v void
  missed      10 in a row (suspected at 2, down at 5)
  relays      30 asked (web-3, web-19, web-88), 0 answered
  socket      no error from 10.0.0.7 in 60 s
  observers   16: 16 say down, 0 hear it, 0 without a fresh row (oldest 1.8 s)
  myself      ok: 14 of 16 links fine, last stall 3 d ago, of 1.5 s
  it said     nothing: no leave, no drain, no pause
  setup       roster, settings, key and version equal when last heard
  rule        down: all credible observers miss it
"
    );
    assert!(explain_text(&peer, true).starts_with("\u{1b}[31mweb-7 is DOWN"));
}

#[test]
fn facts_of_other_peers() {
    for (setup_is, text) in [
        (
            json!({"roster_equal": false, "settings_equal": true, "key_equal": true, "version_equal": true}),
            "roster DIFFERENT; settings, key and version equal when last heard",
        ),
        (json!({"version_equal": true}), "version equal when last heard; roster, settings and key not told"),
        (
            json!({"foreign_key_datagrams": 3}),
            "roster, settings, key and version not told; 3 datagrams came from its address with a key that this node \
             lacks",
        ),
    ] {
        assert_eq!(setup(&setup_is, false), text);
    }
    assert_eq!(socket(&json!({"host": null})), "nothing was sent: its name does not resolve");
    assert_eq!(heartbeats(&json!({"strip": ""})), "none was judged yet");
    assert!(heartbeats(&json!({"strip": "+o"})).ends_with("v void\no heard, but it echoed nothing"));
    let both = json!({"left": {"reason": "removal", "age_seconds": 3.0},
                      "paused": {"length_seconds": 4.2, "age_seconds": 200.0}});
    assert_eq!(said(&both), "3.0 s ago that it leaves for good; 3 min ago that it slept 4.2 s");
    let hostile = json!({"server_id": "a\u{1b}[31m", "verdict": "down", "why": "x\ny"});
    assert!(!explain_text(&hostile, false).contains('\u{1b}'));
}
