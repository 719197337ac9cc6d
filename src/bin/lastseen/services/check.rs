//! Checks: whether a service of this node works, as somebody on this machine finds it.

use std::io;
use std::time::Duration;

use lastseen::proto::ServiceName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::info;

use crate::program;
use crate::settings::{Check, Local, Probe, duration};

/// No first line of an answer is longer, in bytes.
const LINE: u64 = 256;

/// A check comes to another judgement.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) name: ServiceName,
    /// Which check: that of an earlier reload may be heard still.
    pub(super) number: u64,
    pub(super) passes: bool,
    /// Why it does not.
    pub(super) why: String,
}

/// A check that goes on. Dropping it ends it, and what it has started.
#[derive(Debug)]
pub(super) struct Checking {
    pub(super) check: Check,
    pub(super) number: u64,
    pub(super) passes: bool,
    task: AbortHandle,
}

impl Drop for Checking {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Checking {
    /// Begins at once. Whether the service `passes` is believed until the check has come to another judgement.
    pub(super) fn start(
        name: ServiceName,
        check: Check,
        passes: bool,
        number: u64,
        judged: mpsc::Sender<Judged>,
    ) -> Checking {
        let task = tokio::spawn(go_on(name, check.clone(), passes, number, judged)).abort_handle();
        Checking { check, number, passes, task }
    }
}

/// Looks again and again, one after the other.
async fn go_on(name: ServiceName, check: Check, passes: bool, number: u64, judged: mpsc::Sender<Judged>) {
    let mut health = Health { passes, against: 0 };
    let (mut tick, mut was_fine) = (interval(check.interval), true);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let found = look(&check.probe, check.timeout).await;
        let is_fine = found.is_ok();
        let why = found.err().unwrap_or_default();
        if was_fine && !is_fine {
            info!(service = name.as_str(), "the check of {name} fails: {why}");
        }
        was_fine = is_fine;
        if health.note(is_fine, &check) {
            let passes = health.passes;
            let told = judged.send(Judged { name: name.clone(), number, passes, why }).await;
            if told.is_err() {
                return;
            }
        }
    }
}

/// What is believed, and how many in a row have spoken against it.
#[derive(Debug)]
struct Health {
    passes: bool,
    against: u32,
}

impl Health {
    /// Takes what was found. Whether something else is believed now.
    fn note(&mut self, is_fine: bool, check: &Check) -> bool {
        if is_fine == self.passes {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let enough = self.against >= if is_fine { check.rise } else { check.fall };
        if enough {
            *self = Health { passes: is_fine, against: 0 };
        }
        enough
    }
}

/// Looks once.
async fn look(probe: &Probe, limit: Duration) -> Result<(), String> {
    let looked = async {
        match probe {
            Probe::Tcp(to) => connect(to).await.map(drop),
            Probe::Http(to, path) => get(to, path).await,
            Probe::Command(words) => program::run(words, String::new()).await,
        }
    };
    // What is dropped at the limit is closed, or killed.
    let ended = timeout(limit, looked).await;
    ended.unwrap_or_else(|_| Err(format!("nothing within {}", duration::show(limit))))
}

async fn connect(to: &Local) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(&to.addresses[..]).await.map_err(|e| e.to_string())?;
    match is_itself(&stream) {
        Ok(false) => Ok(stream),
        Ok(true) => Err("nobody listens there".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

/// Who calls a free port from which calls are made too may be given that one, and meet itself.
fn is_itself(stream: &TcpStream) -> io::Result<bool> {
    Ok(stream.local_addr()? == stream.peer_addr()?)
}

/// Asks for a page, and reads no more than the first line of the answer.
async fn get(to: &Local, path: &str) -> Result<(), String> {
    let mut stream = connect(to).await?;
    let (host, version) = (&to.name, env!("CARGO_PKG_VERSION"));
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: lastseen/{version}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
    let (mut line, mut rest) = (Vec::new(), stream.take(LINE));
    while !line.contains(&b'\n') {
        if rest.read_buf(&mut line).await.map_err(|e| e.to_string())? == 0 {
            return Err("what answers there does not speak HTTP".to_owned());
        }
    }
    match status(&line) {
        Some(200..=299) => Ok(()),
        Some(other) => Err(format!("is answered with {other}")),
        None => Err("what answers there does not speak HTTP".to_owned()),
    }
}

/// The status code of an answer that begins so.
fn status(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line.split(|b| *b == b'\n').next()?).ok()?;
    let mut words = line.split_ascii_whitespace();
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next().filter(|code| code.len() == 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn check(fall: u32, rise: u32) -> Check {
        let probe = Probe::Command(Vec::new());
        Check { probe, interval: Duration::from_secs(1), timeout: LONG, fall, rise }
    }

    #[test]
    fn so_many_in_a_row_turn_it() {
        let judge = |passes, found: &str, check: &Check| -> String {
            let mut health = Health { passes, against: 0 };
            let is = |fine| if fine { '+' } else { '-' };
            found
                .chars()
                .map(|c| {
                    health.note(c == '+', check);
                    is(health.passes)
                })
                .collect()
        };
        assert_eq!(judge(false, "-+-+", &check(1, 1)), "-+-+");
        assert_eq!(judge(false, "++-+++--+---", &check(3, 2)), "-++++++++++-");
        assert_eq!(judge(true, "-+-+--", &check(2, 3)), "+++++-");
        let mut health = Health { passes: true, against: 0 };
        assert!(!health.note(true, &check(1, 1)) && health.note(false, &check(1, 1)));
    }

    #[test]
    fn only_a_status_of_http_counts() {
        for (line, code) in [
            ("HTTP/1.1 200 OK\r\n", Some(200)),
            ("HTTP/1.0 503\n", Some(503)),
            ("HTTP/1.1 2000 OK\r\n", None),
            ("SSH-2.0-OpenSSH 200\r\n", None),
            ("\r\n", None),
        ] {
            assert_eq!(status(line.as_bytes()), code, "{line:?}");
        }
    }

    /// What a check finds where this is answered.
    async fn asked(answer: &'static [u8]) -> (Result<(), String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                assert!(stream.read_buf(&mut request).await.unwrap() > 0);
            }
            stream.write_all(answer).await.unwrap();
            String::from_utf8(request).unwrap()
        });
        let to = Local { name: at.to_string(), addresses: vec![at] };
        let found = look(&Probe::Http(to, "/health?full".to_owned()), LONG).await;
        (found, served.await.unwrap())
    }

    #[tokio::test]
    async fn an_answer_of_http_is_judged_by_its_status() {
        let (found, request) = asked(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(found, Ok(()));
        assert!(request.starts_with("GET /health?full HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        let refused = asked(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await.0;
        assert_eq!(refused, Err("is answered with 503".to_owned()));
        for foreign in [&b"SSH-2.0-x\r\n"[..], b"", b"HTTP/1.1 200", &[b'x'; 4096]] {
            let found = asked(foreign).await.0.unwrap_err();
            // Of an answer that is not read to its end the rest may be met by a reset.
            assert!(found.contains("does not speak HTTP") || found.contains("reset"), "{found}");
        }
    }

    #[tokio::test]
    async fn who_meets_itself_has_met_nobody() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let own = socket.local_addr().unwrap();
        assert!(is_itself(&socket.connect(own).await.unwrap()).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(!is_itself(&other).unwrap());
    }

    #[tokio::test]
    async fn who_does_not_answer_has_failed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let to = Local { name: at.to_string(), addresses: vec![at] };
        assert_eq!(look(&Probe::Tcp(to.clone()), LONG).await, Ok(()), "it is in the queue");
        let silent = look(&Probe::Http(to.clone(), "/".to_owned()), Duration::from_millis(100)).await;
        assert_eq!(silent, Err("nothing within 100ms".to_owned()));
        drop(listener);
        assert!(look(&Probe::Tcp(to), LONG).await.is_err());
        let command = |script: &str| Probe::Command(["/bin/sh", "-c", script].map(str::to_owned).to_vec());
        assert_eq!(look(&command("exit 0"), LONG).await, Ok(()));
        assert_eq!(look(&command("exit 3"), LONG).await, Err("ended with exit status: 3".to_owned()));
        let hangs = look(&command("exec sleep 600"), Duration::from_millis(100)).await;
        assert_eq!(hangs, Err("nothing within 100ms".to_owned()));
    }
}
