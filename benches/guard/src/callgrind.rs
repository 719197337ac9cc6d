//! Counts the instructions of the paths.

use std::path::Path as File;
use std::process::Command;

use crate::paths::Path;

/// What the AEAD and the hash look for in a processor: they choose their code by it, and callgrind tells them of its own.
#[cfg(target_arch = "x86_64")]
pub(crate) fn cpu() -> String {
    let all = [
        ("aes", is_x86_feature_detected!("aes")),
        ("sse4.1", is_x86_feature_detected!("sse4.1")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("adx", is_x86_feature_detected!("adx")),
        ("vaes", is_x86_feature_detected!("vaes")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
    ];
    let has = all.iter().filter(|(_, has)| *has).map(|(name, _)| format!(" {name}"));
    std::env::consts::ARCH.to_owned() + &has.collect::<String>()
}

/// Elsewhere the name of the architecture has to do.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn cpu() -> String {
    std::env::consts::ARCH.to_owned()
}

/// The function whose calls are counted.
const MEASURED: &str = "lastseen_guard::paths::measured";
/// What is not counted in these calls: what the system's allocator does depends on what it did before, so also on the length of a
/// path. How often it is asked is compared by itself.
const ALLOCATOR: [&str; 4] = ["malloc", "calloc", "realloc", "free"];

/// Runs the paths under callgrind: what processor they saw, and what each of them cost.
pub(crate) fn run() -> (String, Vec<(Path, u64)>) {
    let folder = std::env::temp_dir().join(format!("lastseen-guard-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let out = folder.join("profile");
    let output = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind", &format!("--toggle-collect={MEASURED}")])
        .args(ALLOCATOR.map(|function| format!("--toggle-collect={function}")))
        // Between the calls a toggle of the allocator's counts the wrong way round.
        .args([&format!("--zero-before={MEASURED}"), &format!("--dump-after={MEASURED}")])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().unwrap())
        .arg("paths")
        .output()
        .expect("valgrind runs (Debian: valgrind)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines();
    let cpu = lines.next().unwrap().to_owned();
    let mut profile = 0;
    let mut cost = |path: Path| {
        let parts = profile + 1..=profile + path.profiles;
        profile = *parts.end();
        let total = parts.map(|part| totals(&folder.join(format!("profile.{part}")))).sum();
        (path, total)
    };
    let all = lines.map(|line| cost(Path::read(line).unwrap())).collect();
    std::fs::remove_dir_all(&folder).unwrap();
    (cpu, all)
}

/// The instructions of one profile.
fn totals(file: &File) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let line = text.lines().find_map(|line| line.strip_prefix("totals: ")).unwrap();
    let total = line.trim().parse().unwrap();
    assert!(total > 0, "{}: nothing was counted", file.display());
    total
}
