//! The crate as a dependency of somebody else's program, which has nothing but it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What uses the state machine alone.
const CORE: &str = r#"
use lastseen::proto::{Instance, Keyring, PeerConfig, Service};
use lastseen::{Node, Time};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = PeerConfig::new("one", "prod", "127.0.0.1:0".parse()?, Vec::new());
    let keys = Keyring::new("prod", &[], true)?;
    let mut node = Node::new(config, keys, Instance(1), 1, Time::ZERO)?;
    node.publish_service(Service::new("web", "127.0.0.1:80")?, Time::ZERO)?;
    assert!(node.catalog(Time::ZERO).route("web", b"session", None).is_some());
    Ok(())
}
"#;

/// What has a node that runs by itself.
const NET: &str = r#"
use lastseen::net::{Options, spawn};
use lastseen::proto::{Keyring, LeaveReason, PeerConfig};

async fn node() -> Result<(), Box<dyn std::error::Error>> {
    let config = PeerConfig::new("one", "prod", "127.0.0.1:0".parse()?, Vec::new());
    let (node, _task) = spawn(config, Keyring::new("prod", &[], true)?, Options::default()).await?;
    node.quorum_guard().held().await;
    assert!(node.route("web", b"session").is_none());
    node.leave(LeaveReason::Restart).await;
    Ok(())
}

fn main() {
    drop(node());
}
"#;

/// An empty program that depends on the crate with these features is checked, in our own versions of all other crates and
/// without a network.
#[track_caller]
fn compiles(features: &str, main: &str) -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    let manifest = format!(
        "[package]\nname = \"empty\"\nedition = \"2024\"\n\n[dependencies]\n\
         lastseen = {{ path = {root:?}, default-features = false, features = [{features}] }}\n"
    );
    std::fs::create_dir(dir.path().join("src")).unwrap();
    std::fs::write(dir.path().join("Cargo.toml"), manifest).unwrap();
    std::fs::write(dir.path().join("src/main.rs"), main).unwrap();
    std::fs::copy(root.join("Cargo.lock"), dir.path().join("Cargo.lock")).unwrap();
    // That of these tests: most of what it needs is there already.
    let tests: PathBuf = std::env::current_exe().unwrap();
    let target = tests.ancestors().nth(3).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["check", "--offline", "--target-dir"]).arg(target).current_dir(dir.path());
    let out = cargo.output().unwrap();
    if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
}

#[test]
#[ignore = "compiles the crate twice: slow"]
fn an_empty_program_may_depend_on_it() {
    compiles("", CORE).unwrap();
    compiles("\"net\"", NET).unwrap();
    let error = compiles("", NET).unwrap_err();
    assert!(error.contains("unresolved import `lastseen::net`"), "{error}");
}
