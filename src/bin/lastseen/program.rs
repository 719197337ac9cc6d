//! Programs that an operator has named: run without a shell, with nothing of this node's, and killed with all that they started.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Semaphore;

use crate::client::plain_text;

/// So much of what a program complains about is kept, in bytes.
const KEPT: usize = 4096;
/// For what a program that has ended wrote last.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// So many may be about to start: where starts hang, and others follow them, threads are left for all else.
const MOST: usize = 64;
static STARTING: Semaphore = Semaphore::const_new(MOST);
/// Where programs that a program's own names are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a program, its absolute path and its arguments, and gives it `input`; what is wrong is told in one line. Whatever is in
/// the environment of this node, or open here, is not the program's business. Where this is dropped before the end, it is killed
/// with all that it started.
///
/// # Errors
/// It cannot be run, or does not end with success.
pub(crate) async fn run(words: &[String], input: String) -> Result<(), String> {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env_clear().env("PATH", PATH).env("LANG", "C").current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    let place = STARTING.acquire().await.expect("it is never closed");
    // It may lie where starting it hangs, and this thread is the detector's.
    let started = tokio::task::spawn_blocking(move || {
        let child = command.spawn();
        drop(place);
        child
    });
    let started = started.await;
    let cannot = |e: &dyn std::fmt::Display| format!("cannot be run: {e}");
    let mut child = started.map_err(|e| cannot(&e))?.map_err(|e| cannot(&e))?;
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let mut group = Group(child.id());
    let mut complaint = Vec::new();
    let end = attend(&mut child, (stdin, input), stderr, &mut complaint).await;
    group.0 = None;
    match end {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("ended with {status}{}", said(&complaint))),
        Err(e) => Err(format!("cannot be waited for: {e}")),
    }
}

/// Gives the program its input, and listens to its complaint, until it ends.
async fn attend(
    child: &mut Child,
    (stdin, input): (Option<ChildStdin>, String),
    stderr: Option<impl AsyncRead + Unpin>,
    complaint: &mut Vec<u8>,
) -> std::io::Result<ExitStatus> {
    let give = async {
        if let Some(mut stdin) = stdin {
            // A program need not read it.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let listen = listen(stderr, complaint);
    tokio::pin!(listen);
    let both = async { tokio::join!(give, &mut listen) };
    let status = tokio::select! {
        status = child.wait() => status,
        // Both pipes are closed, and it goes on.
        _ = both => return child.wait().await,
    };
    // What it left behind may hold the pipe open for ever.
    let _ = tokio::time::timeout(LAST_WORDS, listen).await;
    status
}

/// Keeps the beginning, and reads on to the end: a program is not stopped by what nobody reads.
async fn listen(from: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut buffer = [0; 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let room = KEPT - kept.len();
        kept.extend_from_slice(&buffer[..n.min(room)]);
    }
}

/// A complaint for the log: one line, nothing that moves a terminal.
fn said(complaint: &[u8]) -> String {
    let text = plain_text(String::from_utf8_lossy(complaint).trim());
    if text.is_empty() { text } else { format!("; it says: {text}") }
}

/// The processes that a program started, and it. Dropping this kills them, as long as the program was not waited for: after
/// that, others may have its number.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0.and_then(|id| i32::try_from(id).ok()) {
            // If there is none left, that is what is wanted.
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    async fn outcome(script: &str) -> Result<(), String> {
        timeout(LONG, run(&shell(script), "{\"peer\":\"n2\"}\n".to_owned())).await.expect("it ends")
    }

    #[tokio::test]
    async fn the_input_comes_over_standard_input_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("seen");
        let script = format!("{{ cat; pwd; env; ls -l /proc/self/fd; }} > {}", file.display());
        assert_eq!(outcome(&script).await, Ok(()));
        let seen = std::fs::read_to_string(&file).unwrap();
        assert!(seen.starts_with("{\"peer\":\"n2\"}\n/\n"), "{seen}");
        let variables: Vec<&str> = seen.lines().filter(|l| l.contains('=')).collect();
        // The shell itself sets PWD, and some shells more.
        let foreign = |line: &&&str| {
            !["PATH=", "LANG=", "PWD=", "SHLVL=", "_="].iter().any(|name| line.starts_with(name))
        };
        assert_eq!(variables.iter().filter(foreign).count(), 0, "{seen}");
        let open = |line: &&str| line.contains(" -> ") && !line.contains("/proc/");
        assert_eq!(seen.lines().filter(open).count(), 3 + inherited(), "{seen}");
    }

    /// How many descriptors this process was given that every program it starts is given too.
    fn inherited() -> usize {
        let infos = std::fs::read_dir("/proc/self/fdinfo").unwrap().map_while(Result::ok);
        let is_given_on = |number: u32, info: &str| {
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            number > 2 && i64::from_str_radix(flags.trim(), 8).unwrap() & 0o2_000_000 == 0
        };
        let read = |entry: std::fs::DirEntry| {
            // One of another test may be closed meanwhile.
            let info = std::fs::read_to_string(entry.path()).ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, info))
        };
        infos.filter_map(read).filter(|(number, info)| is_given_on(*number, info)).count()
    }

    #[tokio::test]
    async fn a_failure_says_what_the_program_said_in_one_plain_line() {
        let why = outcome("printf 'a\\033[2Jb\\nc' >&2; exit 7").await.unwrap_err();
        assert_eq!(why, "ended with exit status: 7; it says: a\u{fffd}[2Jb\u{fffd}c");
        let why = outcome("yes | head -c 1000000 >&2; exit 1").await.unwrap_err();
        assert!((KEPT..KEPT + 100).contains(&why.chars().count()), "{}", why.len());
        let gone = run(&["/no/such".into()], String::new()).await.unwrap_err();
        assert!(gone.starts_with("cannot be run: "), "{gone}");
    }

    #[tokio::test]
    async fn one_more_start_waits_for_those_that_hang() {
        let hang = STARTING.acquire_many(u32::try_from(MOST).unwrap()).await.unwrap();
        assert!(timeout(Duration::from_millis(50), outcome("exit 0")).await.is_err());
        drop(hang);
        assert_eq!(outcome("exit 0").await, Ok(()));
    }

    #[tokio::test]
    async fn a_program_need_not_read_and_may_leave_others_behind() {
        assert_eq!(run(&shell("exit 0"), "x".repeat(1 << 20)).await, Ok(()));
        // Whoever holds the pipe is not waited for.
        assert_eq!(outcome("exec 3>&2; sleep 60 & exit 0").await, Ok(()));
    }

    #[tokio::test]
    async fn who_takes_too_long_is_killed_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pids");
        let script = format!("sleep 600 & echo $! $$ > {}; trap '' TERM; wait", file.display());
        let words = shell(&script);
        assert!(timeout(Duration::from_secs(2), run(&words, String::new())).await.is_err());
        let pids = std::fs::read_to_string(&file).unwrap();
        let is_dead = |pid: &str| {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            state.is_empty() || state.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
        };
        // The child of the killed one dies at some time, and is reaped by somebody else.
        let all_dead = async {
            while !pids.split_whitespace().all(is_dead) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LONG, all_dead).await.expect("they die");
        assert_eq!(pids.split_whitespace().count(), 2);
    }
}
