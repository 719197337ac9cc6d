//! What the system takes away from some processes: the network of the machine, datagrams, CPU time. All of it ends
//! with the test, however that ends.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

/// Runs `test` in a thread with a new network namespace: the sockets that it opens and the processes that it starts
/// are in there, where nothing is but a loopback interface. The namespace ends with the last of them.
pub(crate) fn in_a_network_of_its_own(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace; this test needs root");
            tool("ip", &["link", "set", "lo", "up"], "");
            test();
        });
        if let Err(panic) = inside.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// The datagrams that a namespace loses at random, on arrival: in the output hook the sender would learn of it.
pub(crate) struct Loss;

impl Loss {
    /// From now on so many of a hundred are lost. Nothing else in this namespace may use UDP.
    pub(crate) fn begin(percent: u32) -> Loss {
        let rules = format!(
            "table ip lossy {{
                counter arrived {{ }}
                counter lost {{ }}
                chain input {{
                    type filter hook input priority 0; policy accept;
                    meta l4proto udp counter name arrived
                    meta l4proto udp numgen random mod 100 < {percent} counter name lost drop
                }}
            }}"
        );
        tool("nft", &["-f", "-"], &rules);
        Loss
    }

    /// Ends it. How many datagrams arrived at the hook, and how many of those were lost.
    pub(crate) fn end(self) -> (u64, u64) {
        let [arrived, lost] = remove("lossy", ["arrived", "lost"]);
        (arrived, lost)
    }
}

/// Datagrams that a namespace drops on arrival, by the addresses that they come from and go to.
pub(crate) struct Cut;

impl Cut {
    /// From now on no datagram passes in these directions: from, to.
    pub(crate) fn begin(directions: &[(IpAddr, IpAddr)]) -> Cut {
        let cut: Vec<String> = directions.iter().map(|(from, to)| format!("{from} . {to}")).collect();
        let rules = format!(
            "table ip cut {{
                counter dropped {{ }}
                set directions {{
                    type ipv4_addr . ipv4_addr
                    elements = {{ {} }}
                }}
                chain input {{
                    type filter hook input priority 0; policy accept;
                    meta l4proto udp ip saddr . ip daddr @directions counter name dropped drop
                }}
            }}",
            cut.join(", ")
        );
        tool("nft", &["-f", "-"], &rules);
        Cut
    }

    /// Ends it. How many datagrams were dropped.
    pub(crate) fn end(self) -> u64 {
        let [dropped] = remove("cut", ["dropped"]);
        dropped
    }
}

/// Removes a table of the namespace. How many packets its counters counted.
fn remove<const COUNT: usize>(table: &str, counters: [&str; COUNT]) -> [u64; COUNT] {
    let counted = tool("nft", &["--json", "list", "counters", "table", "ip", table], "");
    tool("nft", &["delete", "table", "ip", table], "");
    let counted: Value = serde_json::from_str(&counted).unwrap();
    let all = counted["nftables"].as_array().unwrap();
    counters.map(|name| {
        let counter = all.iter().map(|entry| &entry["counter"]).find(|counter| counter["name"] == name);
        counter.and_then(|counter| counter["packets"].as_u64()).unwrap_or_else(|| panic!("{counted}"))
    })
}

/// A control group with too little CPU time for its processes. Dropping it lets them go.
pub(crate) struct Starvation {
    group: PathBuf,
    parent: PathBuf,
    glutton: Option<Child>,
}

impl Starvation {
    /// A group that gets `quota` in every second. What it needs depends on the machine, so a process that eats all
    /// it gets is in it too; that also overdraws the quota, and the group then lies still for some periods.
    pub(crate) fn new(quota: Duration) -> Starvation {
        static GROUPS: AtomicU32 = AtomicU32::new(1);
        let parent = cpu_controller();
        let number = GROUPS.fetch_add(1, Ordering::Relaxed);
        let group = parent.join(format!("lastseen-{}-{number}", std::process::id()));
        fs::create_dir(&group).unwrap_or_else(|e| panic!("{}: {e}; this test needs root", group.display()));
        let mut starvation = Starvation { group, parent, glutton: None };
        starvation.set("cpu.cfs_period_us", "1000000").unwrap();
        starvation.set("cpu.cfs_quota_us", &quota.as_micros().to_string()).unwrap();
        // It ends by itself if this process is killed.
        let mut glutton = Command::new("sh");
        glutton.args(["-c", "while kill -0 $PPID; do :; done"]).stdin(Stdio::null()).stderr(Stdio::null());
        let glutton = starvation.glutton.insert(glutton.spawn().unwrap()).id();
        starvation.add(glutton);
        starvation
    }

    /// From now on this process is in it.
    pub(crate) fn add(&self, pid: u32) {
        self.set("cgroup.procs", &pid.to_string()).unwrap();
    }

    fn set(&self, file: &str, value: &str) -> io::Result<()> {
        fs::write(self.group.join(file), value)
    }

    /// A group can be removed when nobody is in it; who still runs goes back to where it came from.
    fn remove(&mut self) -> io::Result<()> {
        // First of all, since nobody ends who gets no time to.
        self.set("cpu.cfs_quota_us", "-1")?;
        if let Some(glutton) = &mut self.glutton {
            glutton.kill()?;
            glutton.wait()?;
        }
        for pid in fs::read_to_string(self.group.join("cgroup.procs"))?.lines() {
            // One that has just ended need not go anywhere.
            let _ = fs::write(self.parent.join("cgroup.procs"), pid);
        }
        fs::remove_dir(&self.group)
    }
}

impl Drop for Starvation {
    fn drop(&mut self) {
        if let Err(e) = self.remove() {
            eprintln!("{} stays: {e}", self.group.display());
        }
    }
}

/// Where the CPU controller of cgroup v1 is mounted.
fn cpu_controller() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let is_it = |fields: &[&str]| fields[2] == "cgroup" && fields[3].split(',').any(|option| option == "cpu");
    let mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = mounts.filter(|fields| fields.len() > 3).find(|fields| is_it(fields));
    PathBuf::from(mount.expect("the cpu controller of cgroup v1 is mounted; this test needs it")[1])
}

/// Runs a program to its end, with this on its standard input. Its output; it must succeed.
pub(crate) fn tool(program: &str, args: &[&str], input: &str) -> String {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{program}: {e}; this test needs it"));
    // Who fails before it has read all of it says why.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {}\n{complaint}{input}", output.status);
    String::from_utf8(output.stdout).unwrap()
}
