//! The image: nothing in it but the static program, and three containers of it that see one paused and one cut off.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lastseen::net::Clock;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::confined::{in_a_network_of_its_own, tool};
use crate::harness::within;
use crate::keys::make_key;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const NODES: [&str; 3] = ["web-1", "web-2", "web-3"];
/// Whom the image runs as.
const USER: u32 = 65532;
/// Names are looked up again within half a minute.
const SOON: Duration = Duration::from_secs(60);

/// A Docker daemon with all that it has in a directory of its own, in this thread's network, and with its mounts in a
/// namespace of its own.
struct Docker {
    directory: TempDir,
    daemon: Child,
    group: String,
}

impl Docker {
    fn start() -> Docker {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let group = format!("lastseen-{}", std::process::id());
        let log = fs::File::create(path("log")).unwrap();
        // In place of `unshare` there is soon the daemon: it has the number of this child.
        let mut daemon = Command::new("unshare");
        daemon.args(["--mount", "dockerd", "--storage-driver", "vfs", "--cgroup-parent", &group]);
        daemon.args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")]);
        daemon.args(["--host", &format!("unix://{}", path("sock"))]).stdin(Stdio::null()).stderr(log);
        let daemon = daemon.spawn().expect("unshare; this test needs it, and dockerd");
        let docker = Docker { directory, daemon, group };
        let answers = || docker.command(&["version"]).output().unwrap().status.success().then_some(());
        let log = || fs::read_to_string(docker.directory.path().join("log")).unwrap();
        assert!(within(SOON, answers).is_some(), "dockerd does not answer; it said: {}", log());
        docker
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        // The image needs none of what the newer builder does, and it is another package.
        command.args(args).env("DOCKER_BUILDKIT", "0").env("DOCKER_CONFIG", self.directory.path());
        command.env("DOCKER_HOST", format!("unix://{}", self.directory.path().join("sock").display()));
        command.stdin(Stdio::null());
        command
    }

    /// What it says to a command that must succeed.
    #[track_caller]
    fn ask(&self, args: &[&str]) -> String {
        let output = self.command(args).output().expect("docker; this test needs it");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {args:?}: {complaint}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Starts a node that finds the others by their names.
    fn run(&self, name: &str, key: &Path) {
        let (id, key) = (format!("LASTSEEN_SERVER_ID={name}"), format!("{}:/key:ro", key.display()));
        let peers = format!("LASTSEEN_STATIC_PEERS={}", NODES.map(|node| format!("{node}@{node}")).join(","));
        let settings = ["--env", &id, "--env", &peers, "--env", "LASTSEEN_SECURITY__KEY_FILES=/key"];
        let limits = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"];
        let place = ["--name", name, "--network", "cluster", "--volume", &key];
        self.ask(&[&["run", "--detach"][..], &place, &settings, &limits, &["lastseen"]].concat());
    }

    /// What a client command says in a container; nothing, as long as the daemon does not answer. The program is its own
    /// client.
    fn told(&self, node: &str, args: &[&str]) -> Value {
        let output =
            self.command(&[&["exec", node, "/lastseen"], args, &["--json"]].concat()).output().unwrap();
        if output.status.success() { serde_json::from_slice(&output.stdout).unwrap() } else { Value::Null }
    }

    fn peer(&self, observer: &str, peer: &str) -> Value {
        let told = self.told(observer, &["peers", "--all"]);
        let mut peers = told["peers"].as_array().into_iter().flatten();
        peers.find(|p| p["server_id"] == *peer).cloned().unwrap_or(Value::Null)
    }

    /// Waits until both say this of the third. How long it took, in seconds.
    #[track_caller]
    fn both_say(&self, of: &str, key: &str, value: &str) -> f64 {
        let begin = Clock.now();
        for observer in NODES.iter().filter(|node| **node != of) {
            let says = || (self.peer(observer, of)[key] == value).then_some(());
            let told = || self.ask(&["logs", observer]);
            assert!(within(SOON, says).is_some(), "{observer} does not call {of} {value}: {}", told());
        }
        Clock.now().since(begin).as_secs_f64()
    }

    /// Waits until all are well, as all see it, and as Docker sees it.
    #[track_caller]
    fn all_well(&self) -> f64 {
        let begin = Clock.now();
        for node in NODES {
            let proven = || (self.told(node, &["status"])["proven_peers"] == NODES.len()).then_some(());
            assert!(within(SOON, proven).is_some(), "{node}: {}", self.told(node, &["peers", "--all"]));
            let state = || self.ask(&["inspect", "--format", "{{.State.Health.Status}}", node]);
            assert!(within(SOON, || (state() == "healthy").then_some(())).is_some(), "{node} is {}", state());
        }
        Clock.now().since(begin).as_secs_f64()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = self.command(&[&["rm", "--force", "--volumes"], &NODES[..]].concat()).output();
        let _ = kill(Pid::from_raw(self.daemon.id().cast_signed()), Signal::SIGTERM);
        if within(SOON, || self.daemon.try_wait().ok().flatten()).is_none() {
            let _ = self.daemon.kill();
            let _ = self.daemon.wait();
        }
        // Its groups are empty now; of those of other processes this touches none.
        for controller in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir(controller.path().join(&self.group));
        }
    }
}

/// The paths of the files in an image, but for those that Docker puts into every container.
fn files(docker: &Docker) -> Vec<String> {
    docker.ask(&["create", "--name", "still", "lastseen"]);
    let archive = docker.directory.path().join("archive");
    docker.ask(&["export", "--output", archive.to_str().unwrap(), "still"]);
    docker.ask(&["rm", "still"]);
    let all = tool("tar", &["--list", "--file", archive.to_str().unwrap()], "");
    let is_dockers = |path: &str| {
        path == ".dockerenv" || ["dev/", "etc/", "proc/", "sys/"].iter().any(|d| path.starts_with(d))
    };
    all.lines().filter(|path| !is_dockers(path)).map(str::to_owned).collect()
}

#[test]
fn the_example_for_compose_names_every_node_once() {
    let text = include_str!("../../deploy/docker/compose.example.yml");
    let file: Value = yaml_serde::from_str(text).unwrap();
    let peers = NODES.map(|node| format!("{node}@{node}")).join(",");
    assert_eq!(file["x-settings"]["LASTSEEN_STATIC_PEERS"], *peers);
    let services = file["services"].as_object().unwrap();
    assert_eq!(services.keys().collect::<Vec<_>>(), NODES);
    for (name, service) in services {
        let environment = &service["environment"];
        assert_eq!(environment["LASTSEEN_SERVER_ID"], **name);
        assert_eq!(environment["LASTSEEN_HTTP__METRICS_LISTEN"], *format!("{name}:5279"));
    }
}

#[test]
#[ignore = "needs root, dockerd, and what deploy/static.sh builds"]
fn three_containers_see_one_paused_and_one_cut_off() {
    let context = format!("{ROOT}/target/image");
    assert!(Path::new(&context).exists(), "deploy/static.sh builds what is tested here");
    in_a_network_of_its_own(|| {
        let docker = Docker::start();
        docker.ask(&[
            "build",
            "--tag",
            "lastseen",
            "--file",
            &format!("{ROOT}/deploy/docker/Dockerfile"),
            &context,
        ]);
        assert_eq!(files(&docker), ["lastseen"]);

        let key = docker.directory.path().join("key");
        make_key(&key, 7);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
        chown(&key, Some(USER), Some(USER)).unwrap();
        docker.ask(&["network", "create", "cluster"]);
        NODES.iter().for_each(|node| docker.run(node, &key));
        let up = docker.all_well();
        let run = |node: &str| docker.peer("web-1", node)["instance"].clone();
        let before = [run("web-2"), run("web-3")];

        docker.ask(&["pause", "web-3"]);
        let down = docker.both_say("web-3", "status", "down");
        docker.ask(&["unpause", "web-3"]);
        let back = docker.both_say("web-3", "status", "healthy");
        println!("all well after {up:.1} s; paused: down {down:.1} s, healthy again {back:.1} s");
        docker.all_well();

        docker.ask(&["network", "disconnect", "cluster", "web-2"]);
        let down = docker.both_say("web-2", "status", "down");
        let own = || docker.told("web-2", &["status"]);
        let alone =
            || (own()["is_quorum_available"] == false && own()["self_health"] == "isolated").then_some(());
        assert!(within(SOON, alone).is_some(), "{}", own());
        docker.ask(&["network", "connect", "cluster", "web-2"]);
        let back = docker.both_say("web-2", "status", "healthy");
        println!("cut off: down {down:.1} s, healthy again {back:.1} s");
        docker.all_well();

        assert_eq!([run("web-2"), run("web-3")], before, "nobody was started again");
        let events = docker.ask(&["exec", "web-1", "/lastseen", "events", "--json"]);
        let paused =
            |line: &str| line.contains("\"verdict\":\"paused\"") && line.contains("\"peer\":\"web-3\"");
        assert!(events.lines().any(paused), "a pause is told as one: {events}");
    });
}
