//! The usual six families about the process, from `/proc` (on other systems there are none).

use std::fmt::Write;
use std::fs;

/// The kernel's unit of CPU time in `/proc` (USER_HZ): 100 on every architecture that Rust's std runs on.
const TICKS: f64 = 100.0;

/// Appends the families; what cannot be read is left out.
pub(super) fn write(out: &mut String) {
    let Some(families) = read() else { return };
    for (name, kind, help, value) in families {
        let _ = writeln!(
            out,
            "# HELP process_{name} {help}\n# TYPE process_{name} {kind}\nprocess_{name} {value}"
        );
    }
}

type Family = (&'static str, &'static str, &'static str, f64);

fn read() -> Option<[Family; 6]> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold anything; what follows it is plain.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|f| f.parse::<f64>().ok());
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = |key: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let files = limits.lines().find_map(|l| l.strip_prefix("Max open files"))?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot = boot.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse::<f64>().ok()?;
    Some([
        (
            "cpu_seconds_total",
            "counter",
            "User and system CPU time, in seconds.",
            (field(14)? + field(15)?) / TICKS,
        ),
        ("open_fds", "gauge", "Open file descriptors.", fs::read_dir("/proc/self/fd").ok()?.count() as f64),
        (
            "max_fds",
            "gauge",
            "Most file descriptors.",
            files.split_whitespace().next()?.parse().unwrap_or(f64::INFINITY),
        ),
        ("virtual_memory_bytes", "gauge", "Virtual memory, in bytes.", kilobytes("VmSize:")? * 1024.0),
        ("resident_memory_bytes", "gauge", "Resident memory, in bytes.", kilobytes("VmRSS:")? * 1024.0),
        (
            "start_time_seconds",
            "gauge",
            "Start of the process, in seconds since 1970.",
            boot + field(22)? / TICKS,
        ),
    ])
}
