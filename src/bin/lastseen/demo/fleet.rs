//! The demo's nodes: real processes of this very binary, on loopback.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Lines kept of what a node logged, for the case that it ends by itself.
const TAIL: usize = 10;
const ANY_PORT: &str = "127.0.0.1:0";

/// All nodes. Dropping it ends every process.
pub(super) struct Fleet {
    exe: PathBuf,
    nodes: Vec<DemoNode>,
}

struct DemoNode {
    id: String,
    udp: SocketAddr,
    http: SocketAddr,
    child: Option<Child>,
    tail: Arc<Mutex<VecDeque<String>>>,
}

impl Fleet {
    /// Starts `count` nodes.
    ///
    /// # Errors
    /// What the system refused. What was started before is ended.
    pub(super) fn start(count: usize) -> Result<Fleet, String> {
        let exe = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
        let nodes = reserve(count).map_err(|e| format!("cannot get {count} ports on loopback: {e}"))?;
        let mut fleet = Fleet { exe, nodes };
        for index in 0..count {
            fleet.launch(index)?;
        }
        Ok(fleet)
    }

    /// Starts the process of a node that has none.
    ///
    /// # Errors
    /// What the system refused.
    pub(super) fn launch(&mut self, index: usize) -> Result<(), String> {
        let node = &self.nodes[index];
        let mut command = Command::new(&self.exe);
        // Nothing of a daemon that is installed on this machine: neither its file nor its environment.
        command.args(["run", "--config", "/dev/null", "--until-stdin-closes", "--server-id", &node.id]);
        command.args(["--listen", &node.udp.to_string(), "--http", &node.http.to_string()]);
        for peer in self.nodes.iter().filter(|peer| peer.id != node.id) {
            command.args(["--peer", &format!("{}@{}", peer.id, peer.udp)]);
        }
        for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("LASTSEEN_")) {
            command.env_remove(name);
        }
        command.env("LASTSEEN_CONTROL__SOCKET", "");
        // A group of its own: Ctrl-C is for the demo, which then ends its nodes.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("cannot start {}: {e}", node.id))?;
        let tail = Arc::clone(&node.tail);
        let stderr = child.stderr.take().expect("it was asked for above");
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
                if tail.len() == TAIL {
                    tail.pop_front();
                }
                tail.push_back(line);
            }
        });
        self.nodes[index].child = Some(child);
        Ok(())
    }

    /// Kills a node without a word (SIGKILL), and takes its body away.
    pub(super) fn kill(&mut self, index: usize) {
        if let Some(mut child) = self.nodes[index].child.take() {
            // Neither fails but for a process that is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends a signal to a node that runs.
    pub(super) fn signal(&self, index: usize, signal: Signal) {
        if let Some(pid) = self.pid(index).and_then(|pid| i32::try_from(pid).ok()) {
            // It was not waited for yet, so the number is still its own.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// The process of a node that has one.
    pub(super) fn pid(&self, index: usize) -> Option<u32> {
        self.nodes[index].child.as_ref().map(Child::id)
    }

    /// Nodes whose process has ended by itself, or was ended by somebody else, since the last call.
    pub(super) fn ended(&mut self) -> Vec<(usize, String)> {
        let mut ended = Vec::new();
        for (index, node) in self.nodes.iter_mut().enumerate() {
            let Some(Ok(Some(status))) = node.child.as_mut().map(Child::try_wait) else { continue };
            node.child = None;
            let tail = node.tail.lock().unwrap_or_else(PoisonError::into_inner);
            let said = tail.back().map_or(String::new(), |line| format!("; it said: {line}"));
            ended.push((index, format!("{} has ended ({status}){said}", node.id)));
        }
        ended
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn id(&self, index: usize) -> &str {
        &self.nodes[index].id
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.id.clone()).collect()
    }

    pub(super) fn url(&self, index: usize) -> String {
        format!("http://{}", self.nodes[index].http)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for index in 0..self.nodes.len() {
            self.kill(index);
        }
    }
}

/// Ports that are free now. All are held until all are chosen, so that none is chosen twice.
fn reserve(count: usize) -> std::io::Result<Vec<DemoNode>> {
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        held.push((UdpSocket::bind(ANY_PORT)?, TcpListener::bind(ANY_PORT)?));
    }
    let node = |(n, (udp, tcp)): (usize, &(UdpSocket, TcpListener))| {
        let id = format!("node-{}", n + 1);
        Ok(DemoNode {
            id,
            udp: udp.local_addr()?,
            http: tcp.local_addr()?,
            child: None,
            tail: Arc::default(),
        })
    };
    held.iter().enumerate().map(node).collect()
}
