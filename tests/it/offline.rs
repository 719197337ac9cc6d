//! The commands that need no daemon: `plan` and `sim`.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn lastseen(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lastseen")).args(args).env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_plan_is_a_table_for_people() {
    let plan = lastseen(&["plan", "--nodes", "20", "--loss", "10%", "--detect", "8s"]);
    let expected = "\
20 nodes, each watching all others; 10 % loss in each direction

                                these settings      the cheapest
heartbeat_interval                          1s            2290ms
heartbeat_timeout                        500ms            1145ms
down_after                                   5                 3
detection, half of all                  5.00 s            6.87 s
detection, 99 of 100                    5.49 s            7.99 s
false Downs a day, at most               6e-18              2e-8
  for round trips up to                37.5 ms          198.8 ms
datagrams a second and node               19.0               8.3
  with the loss, about                    41.0              17.9
bytes a second and node                   1525               666
";
    let plan = text(&plan.stdout);
    assert!(plan.starts_with(expected), "{plan}");
    assert!(
        plan.ends_with("heartbeat_interval = \"2290ms\"\nheartbeat_timeout = \"1145ms\"\ndown_after = 3\n")
    );
    assert!(plan.lines().all(|line| line.len() <= 80));
}

#[test]
fn a_plan_is_json_for_tools_and_can_be_simulated() {
    let args = ["plan", "--nodes", "8", "--loss", "0.05", "--detect", "6s", "--simulate", "5", "--json"];
    let plan = json(&lastseen(&args));
    for column in ["these", "cheapest"] {
        let (said, seen) = (&plan[column], &plan[column]["simulated"]);
        assert_eq!(seen["detected"], 35, "{plan:#}");
        assert_eq!(seen["false_downs"], 0);
        let (p99, most) = (&seen["detection_p99_seconds"], &said["detection_max_seconds"]);
        assert!(p99.as_f64().unwrap() <= most.as_f64().unwrap() + 0.5, "{plan:#}");
        assert_eq!(said["meets_the_wish"], true);
    }
}

#[test]
fn wishes_that_cannot_be_met_are_said_so() {
    let plan = lastseen(&["plan", "--nodes", "20", "--loss", "90%", "--detect", "1s"]);
    let plan = text(&plan.stdout);
    assert!(plan.contains("no settings find 99 of 100 crashes within 1s"), "{plan}");
    assert!(!plan.contains("--detect"), "no time is enough: {plan}");
    let plan = lastseen(&["plan", "--nodes", "20", "--loss", "40%", "--detect", "1s"]);
    let plan = text(&plan.stdout);
    let (_, told) = plan.split_once("--detect ").expect("a longer time");
    let enough = told.split_once(' ').unwrap().0;
    let plan = lastseen(&["plan", "--nodes", "20", "--loss", "40%", "--detect", enough]);
    assert!(text(&plan.stdout).ends_with("down_after = 10\n"), "{enough}: {}", text(&plan.stdout));
    for (args, told) in [
        (["--nodes", "20", "--loss", "101%", "--detect", "1s"], "\"101%\" is no share"),
        (["--nodes", "1", "--loss", "1%", "--detect", "1s"], "1 nodes; it must be 2 to 20000"),
        (["--nodes", "9", "--loss", "1%", "--detect", "5"], "write \"5s\""),
    ] {
        let output = lastseen(&[&["plan"], &args[..]].concat());
        assert_eq!(output.status.code(), Some(64), "{args:?}");
        assert!(text(&output.stderr).contains(told), "{}", text(&output.stderr));
    }
}

#[test]
fn a_scenario_runs_the_same_way_twice() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/partition.toml");
    let run = |seed| json(&lastseen(&["sim", file.to_str().unwrap(), "--seed", seed, "--json"]));
    let first = run("7");
    assert_eq!((&first, &first["downs"]["false"]), (&run("7"), &Value::from(0)));
    assert_ne!(first["digest"], run("8")["digest"]);
}

#[test]
fn a_seed_of_the_swarm_is_written_out_and_runs_the_same_way() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("seed.toml");
    let at = file.to_str().unwrap();
    assert_eq!(lastseen(&["sim", "--swarm", "1", "--seed", "12", "--write", at]).status.code(), Some(0));
    // The file names its seed.
    let named = json(&lastseen(&["sim", at, "--json"]));
    assert_eq!(named["seed"], Value::from(12));
    assert_eq!(named, json(&lastseen(&["sim", at, "--seed", "12", "--json"])));
    let two = lastseen(&["sim", "--swarm", "2", "--write", at]);
    assert!(text(&two.stderr).contains("--swarm 1"), "{}", text(&two.stderr));
}

#[test]
fn a_scenario_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wrong.toml");
    std::fs::write(&file, "nodes = 5\nduration = 1\nlooss = 0.1\n").unwrap();
    let output = lastseen(&["sim", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(told.contains("wrong.toml") && told.contains("looss"), "{told}");
    assert_eq!(lastseen(&["sim"]).status.code(), Some(64), "neither a file nor a swarm");
}
