//! Fails when a hot path of the core costs more or less than `figures.toml` says: in instructions, allocations, bytes on the
//! wire; or when the program has another size, or other dependencies. Nothing here is timed, so nothing depends on the load.
//!
//! `.ci/guard` builds it and runs it: `lastseen-guard check|write PROGRAM`. By itself it runs `lastseen-guard paths` under
//! callgrind.
#![allow(clippy::unwrap_used, reason = "a check, as tests are")]

#[allow(dead_code, reason = "the benchmarks use the rest")]
#[path = "../../core/around.rs"]
mod around;
mod callgrind;
#[path = "../../../src/proto/tests/counting.rs"]
mod counting;
mod figures;
#[path = "../../core/frames.rs"]
mod frames;
#[path = "../../core/mesh.rs"]
mod mesh;
mod paths;
#[path = "../../core/player.rs"]
mod player;

use std::process::{Command, ExitCode};

use figures::Figures;
use lastseen::proto::seal::SEAL_LEN;

/// What is committed.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/figures.toml");

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["paths"] => {
            println!("{}", callgrind::cpu());
            paths::run_all().iter().for_each(|path| println!("{}", path.line()));
            ExitCode::SUCCESS
        }
        ["write", program] => {
            std::fs::write(FILE, measure(program).to_text()).unwrap();
            ExitCode::SUCCESS
        }
        ["check", program] => check(&measure(program)),
        _ => {
            eprintln!("lastseen-guard check|write PROGRAM");
            ExitCode::FAILURE
        }
    }
}

fn check(now: &Figures) -> ExitCode {
    let before = Figures::from_text(&std::fs::read_to_string(FILE).unwrap());
    println!("{}", now.to_text());
    let wrong = now.differs(&before);
    if wrong.is_empty() {
        return ExitCode::SUCCESS;
    }
    wrong.iter().for_each(|line| eprintln!("{line}"));
    eprintln!(
        "If this is meant, a gain too: `.ci/guard write`, and commit benches/guard/figures.toml with the reason."
    );
    ExitCode::FAILURE
}

/// Everything that is compared, as it is now.
fn measure(program: &str) -> Figures {
    let mut figures = Figures::default();
    let (cpu, costs) = callgrind::run();
    figures.made_with("compiler", &output("rustc", &["--version"]));
    figures.made_with("cpu", &cpu);
    for (path, instructions) in &costs {
        let each = (*instructions as f64 / path.operations as f64).round() as u64;
        figures.add("instructions", &path.name, each);
    }
    for (path, _) in costs.iter().filter(|(path, _)| path.allocations > 0) {
        figures.add("allocations", &path.name, path.allocations);
    }
    for (name, message) in frames::messages() {
        figures.add("bytes", name, (frames::HEADER.len() + message.encoded_len() + SEAL_LEN) as u64);
    }
    let mut mesh = mesh::Mesh::new(64);
    mesh.run(std::time::Duration::from_secs(1));
    figures.add("bytes", "interval_of_a_mesh_of_64", mesh.bytes);
    figures.add("size", "static_program", std::fs::metadata(program).unwrap().len());
    for (name, features) in [
        ("core", &["--no-default-features"][..]),
        ("core_and_shell", &["--no-default-features", "--features", "net"]),
        ("daemon", &[]),
    ] {
        figures.add("packages", name, packages(features));
    }
    figures
}

/// How many packages these features of the program need, on this system.
fn packages(features: &[&str]) -> u64 {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let tree = ["tree", "--locked", "--manifest-path", manifest, "-p", "lastseen", "-e", "normal"];
    let names = output("cargo", &[&tree[..], &["--prefix", "none", "--format", "{p}"], features].concat());
    let all: std::collections::BTreeSet<&str> =
        names.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    // It is one of them itself.
    all.len() as u64 - 1
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}
