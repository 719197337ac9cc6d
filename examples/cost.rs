//! What a node costs beside the bare pinger of `examples/bare_pinger.rs`, in one run on one machine: CPU seconds a
//! minute and memory of one node among N, all of them real processes on loopback, nobody asking anything over HTTP.
//!
//! ```sh
//! cargo build --release --bins --examples
//! cargo run --release --example cost -- 64 60          # nodes, seconds
//! ```

use std::error::Error;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lastseen::net::Clock;

/// What the start costs is over by then.
const SETTLE: Duration = Duration::from_secs(10);

struct Processes(Vec<Child>);

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Of one process.
struct Cost {
    cpu: f64,
    rss_kib: f64,
    pss_kib: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let nodes: usize = args.next().map_or(Ok(64), |n| n.parse())?;
    let seconds: u64 = args.next().map_or(Ok(60), |n| n.parse())?;
    let here = std::env::current_exe()?;
    let examples = here.parent().ok_or("this program has no directory")?;
    let daemon = examples.parent().ok_or("no directory above")?.join("lastseen");
    let over = Duration::from_secs(seconds);

    println!(
        "{nodes} nodes each, one exchange a pair or ping a second, over {seconds} s; mean of all processes"
    );
    println!("              CPU s/min   RSS KiB   PSS KiB");
    report("lastseen", nodes, over, |own, peers| lastseen(&daemon, own, peers))?;
    for how in ["spread", "burst"] {
        let pinger = examples.join("bare_pinger");
        report(&format!("bare, {how}"), nodes, over, |own, peers| bare(&pinger, how, own, peers))?;
    }
    Ok(())
}

fn report(
    name: &str,
    nodes: usize,
    over: Duration,
    command: impl Fn(SocketAddr, &[SocketAddr]) -> Command,
) -> Result<(), Box<dyn Error>> {
    let held: Vec<UdpSocket> =
        (0..nodes).map(|_| UdpSocket::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let addresses: Vec<SocketAddr> = held.iter().map(UdpSocket::local_addr).collect::<Result<_, _>>()?;
    drop(held);
    let mut processes = Processes(Vec::new());
    for own in &addresses {
        let peers: Vec<SocketAddr> = addresses.iter().filter(|a| *a != own).copied().collect();
        let mut command = command(*own, &peers);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        processes.0.push(command.spawn().map_err(|e| format!("{command:?}: {e}"))?);
    }
    std::thread::sleep(SETTLE);
    let (before, start) = (measure(&mut processes)?, Clock.now());
    std::thread::sleep(over);
    let (after, minutes) = (measure(&mut processes)?, Clock.now().since(start).as_secs_f64() / 60.0);
    let mean = |of: fn(&Cost) -> f64, all: &[Cost]| all.iter().map(of).sum::<f64>() / all.len() as f64;
    let cpu = (mean(|c| c.cpu, &after) - mean(|c| c.cpu, &before)) / minutes;
    println!(
        "{name:<12}  {cpu:>9.3} {:>9.0} {:>9.0}",
        mean(|c| c.rss_kib, &after),
        mean(|c| c.pss_kib, &after)
    );
    Ok(())
}

fn lastseen(daemon: &Path, own: SocketAddr, peers: &[SocketAddr]) -> Command {
    let mut command = Command::new(daemon);
    command.env_clear().env("LASTSEEN_CONTROL__SOCKET", "");
    command.args(["run", "--config", "/dev/null", "--http", "127.0.0.1:0"]);
    command.args(["--server-id", &format!("n{}", own.port()), "--listen", &own.to_string()]);
    for peer in peers {
        command.args(["--peer", &format!("n{}@{peer}", peer.port())]);
    }
    command
}

fn bare(pinger: &Path, how: &str, own: SocketAddr, peers: &[SocketAddr]) -> Command {
    let mut command = Command::new(pinger);
    command.env_clear().arg(how).arg(own.to_string()).args(peers.iter().map(SocketAddr::to_string));
    command
}

fn measure(processes: &mut Processes) -> Result<Vec<Cost>, Box<dyn Error>> {
    processes.0.iter_mut().map(cost_of).collect()
}

fn cost_of(child: &mut Child) -> Result<Cost, Box<dyn Error>> {
    if let Some(status) = child.try_wait()? {
        return Err(format!("a process has ended: {status}").into());
    }
    let proc = PathBuf::from(format!("/proc/{}", child.id()));
    // Nanoseconds on a CPU, of its one thread or of all that it has.
    let mut nanos = 0.0;
    for thread in std::fs::read_dir(proc.join("task"))? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        nanos += text.split_whitespace().next().ok_or("an empty schedstat")?.parse::<f64>()?;
    }
    let rollup = std::fs::read_to_string(proc.join("smaps_rollup"))?;
    let kib = |key: &str| -> Result<f64, Box<dyn Error>> {
        let line =
            rollup.lines().find_map(|line| line.strip_prefix(key)).ok_or("no such line in smaps_rollup")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    Ok(Cost { cpu: nanos / 1e9, rss_kib: kib("Rss:")?, pss_kib: kib("Pss:")? })
}
