//! The control socket of real daemons, asked by the real commands.

use std::fs;
use std::process::{Command, Output, Stdio};

use nix::unistd::getuid;
use serde_json::{Value, json};

use crate::harness::{AT_ALL, Cluster, within};
use crate::keys::{keys_in_force, make_key, section};

/// Runs to the end: exit code, standard output, standard error.
pub(crate) fn run(mut command: Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

#[test]
fn leave_is_told_as_a_removal_and_ends_the_daemon() {
    let mut cluster = Cluster::start(3);
    let since = lastseen::net::Clock.now();
    let (code, said, complaint) = run(cluster.order(1, &["leave"]));
    assert!(code == 0 && said.contains("announced as a removal"), "{said}{complaint}");
    assert_eq!(cluster.ended(1), Some(0));
    assert!(!cluster.socket(1).exists(), "it is removed at the end");
    cluster.all_say(1, "verdict", "left", since, AT_ALL);
    let told = |event: &Value| event["type"] == "leave" && event["peer"] == "n2" && event["to"] == "removal";
    for n in [0, 2] {
        cluster.event(n, told);
        assert_eq!(cluster.json(n, "/api/v1/status")["is_degraded"], false, "it raises no alarm");
    }
    for command in ["leave", "reload"] {
        let (code, _, complaint) = run(cluster.order(1, &[command]));
        let path = cluster.socket(1).display().to_string();
        assert!(code == 3 && complaint.contains(&path), "{code}: {complaint}");
        assert!(complaint.contains("--socket PATH"), "{complaint}");
    }
}

#[test]
fn reload_says_what_came_of_it() {
    let cluster = Cluster::with_files(2, |dir| {
        make_key(&dir.join("one"), 1);
        make_key(&dir.join("two"), 2);
        section(dir, &["one"])
    });
    let before = cluster.transitions();
    let reload = || -> Value {
        let (code, said, complaint) = run(cluster.order(0, &["reload", "--json"]));
        assert_eq!(code, 0, "{complaint}");
        let mut told: Value = serde_json::from_str(&said).unwrap();
        assert!(told["message"].take().as_str().unwrap().starts_with("reloaded: "), "{said}");
        told
    };
    let told = |keys: u32, changed: Value, waiting: Value| json!({"message": null, "keys": keys, "changed": changed, "waiting": waiting});
    assert_eq!(reload(), told(1, json!([]), json!([])));
    let both = section(cluster.dir(), &["one", "two"]);
    cluster.write_settings(0, &both);
    assert_eq!(reload(), told(2, json!(["security.key_files"]), json!([])));
    assert_eq!(reload(), told(2, json!([]), json!([])), "once is enough");
    cluster.write_settings(0, &format!("leave_grace = \"11m\"\n{both}"));
    for _ in 0..2 {
        assert_eq!(reload(), told(2, json!([]), json!(["leave_grace"])));
    }
    let (code, said, _) = run(cluster.order(0, &["reload"]));
    assert!(code == 0 && said.contains("after the next start: leave_grace"), "{said}");
    cluster.write_settings(0, "colour = \"red\"\n");
    let (code, said, complaint) = run(cluster.order(0, &["reload"]));
    assert!(code == 1 && said.is_empty(), "{code}: {said}");
    assert!(complaint.contains("nothing is reloaded: ") && complaint.contains("\"colour\""), "{complaint}");
    assert_eq!(keys_in_force(&cluster, 0).len(), 2);
    assert_eq!(cluster.value(0, "lastseen_config_last_reload_successful"), 0.0);
    cluster.nobody_else_accused(&before, &[]);
}

#[test]
fn a_dead_daemons_socket_is_replaced_and_a_live_one_is_not() {
    let mut cluster = Cluster::start(2);
    cluster.kill(0);
    assert!(cluster.socket(0).exists(), "nobody was left to remove it");
    cluster.launch(0);
    cluster.all_up(AT_ALL);
    let answers = |cluster: &Cluster| run(cluster.order(0, &["reload"])).0 == 0;
    assert!(answers(&cluster));
    let second =
        cluster.order(0, &["run", "--config", "/dev/null", "--listen", "127.0.0.1:0", "--http", "off"]);
    let (code, _, complaint) = run(second);
    assert!(code == 1 && complaint.contains("a daemon listens there already"), "{code}: {complaint}");
    assert!(complaint.contains(cluster.socket(0).to_str().unwrap()), "{complaint}");
    assert!(answers(&cluster), "the first is not disturbed");
}

#[test]
fn the_log_says_who_asked() {
    let mut cluster = Cluster::start(2);
    cluster.kill(0);
    let log = cluster.dir().join("log");
    let file = fs::File::create(&log).unwrap();
    cluster.launch_with(0, |command| {
        command.stderr(file);
    });
    cluster.all_up(AT_ALL);
    let asking = cluster.order(0, &["reload"]).stdout(Stdio::null()).spawn().unwrap();
    let told = format!("asked to reload uid={} pid={}", getuid(), asking.id());
    assert!(asking.wait_with_output().unwrap().status.success());
    let lines = || Some(fs::read_to_string(&log).unwrap()).filter(|text| text.contains(&told));
    assert!(within(AT_ALL, lines).is_some(), "no {told:?} in {}", fs::read_to_string(&log).unwrap());
}
