//! The usual six families about the process, from `/proc` (on other systems there are none).

use std::fs;

use super::text::Text;

/// The kernel's unit of CPU time in `/proc` (USER_HZ): 100 on every architecture that Rust's std runs on.
const TICKS: f64 = 100.0;

/// Appends the families; what cannot be read is left out.
pub(super) fn write(text: &mut Text) {
    for (name, value) in read().into_iter().flatten() {
        text.value(name, value);
    }
}

fn read() -> Option<[(&'static str, f64); 6]> {
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
        ("process_cpu_seconds_total", (field(14)? + field(15)?) / TICKS),
        ("process_open_fds", fs::read_dir("/proc/self/fd").ok()?.count() as f64),
        ("process_max_fds", files.split_whitespace().next()?.parse().unwrap_or(f64::INFINITY)),
        ("process_virtual_memory_bytes", kilobytes("VmSize:")? * 1024.0),
        ("process_resident_memory_bytes", kilobytes("VmRSS:")? * 1024.0),
        ("process_start_time_seconds", boot + field(22)? / TICKS),
    ])
}
