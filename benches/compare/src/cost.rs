//! What the processes of a cluster have used, and what passed through their network namespace.

use std::fs;
use std::ops::Sub;

use crate::Failure;

/// Of all nodes together, since their start.
#[derive(Clone, Copy)]
pub struct Used {
    pub cpu_seconds: f64,
    pub udp_datagrams: f64,
    /// IP packets; on loopback all that are sent.
    pub packets: f64,
    /// With IP headers and what is in them.
    pub bytes: f64,
}

/// Of all nodes together, now.
#[derive(Clone, Copy)]
pub struct Size {
    pub threads: f64,
    pub rss_kib: f64,
    pub pss_kib: f64,
}

impl Sub for Used {
    type Output = Used;
    fn sub(self, before: Used) -> Used {
        Used {
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
            udp_datagrams: self.udp_datagrams - before.udp_datagrams,
            packets: self.packets - before.packets,
            bytes: self.bytes - before.bytes,
        }
    }
}

impl Used {
    pub fn by(pids: impl Iterator<Item = u32>) -> Result<Used, Failure> {
        let mut nanos = 0.0;
        for pid in pids {
            // On a CPU, of its one thread or of all that it has.
            for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
                let schedstat = fs::read_to_string(thread?.path().join("schedstat"))?;
                nanos += number(schedstat.split_whitespace().next())?;
            }
        }
        let devices = fs::read_to_string("/proc/thread-self/net/dev")?;
        let loopback =
            devices.lines().find_map(|line| line.trim().strip_prefix("lo:")).ok_or("no loopback")?;
        let received: Vec<&str> = loopback.split_whitespace().take(2).collect();
        Ok(Used {
            cpu_seconds: nanos / 1e9,
            udp_datagrams: udp_datagrams()?,
            packets: number(received.get(1).copied())?,
            bytes: number(received.first().copied())?,
        })
    }
}

impl Size {
    pub fn of(pids: impl Iterator<Item = u32>) -> Result<Size, Failure> {
        let mut all = Size { threads: 0.0, rss_kib: 0.0, pss_kib: 0.0 };
        for pid in pids {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            let kib = |key| rollup.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next());
            all.threads += fs::read_dir(format!("/proc/{pid}/task"))?.count() as f64;
            all.rss_kib += number(kib("Rss:"))?;
            all.pss_kib += number(kib("Pss:"))?;
        }
        Ok(all)
    }
}

/// Sent in this namespace: its row of names tells where the number is.
fn udp_datagrams() -> Result<f64, Failure> {
    let counters = fs::read_to_string("/proc/thread-self/net/snmp")?;
    let mut rows = counters.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (rows.next().ok_or("no names")?, rows.next().ok_or("no values")?);
    let at = names.split(' ').position(|name| name == "OutDatagrams").ok_or("no OutDatagrams")?;
    number(values.split(' ').nth(at))
}

fn number(text: Option<&str>) -> Result<f64, Failure> {
    Ok(text.ok_or("the kernel says less than is asked for")?.parse()?)
}
