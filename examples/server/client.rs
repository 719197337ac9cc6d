//! A client of `web`: sessions that ask fifty times a second, go where they are told, and know their second choice by heart.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream, Lines};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Fallible;

/// Between two requests.
const PAUSE: Duration = Duration::from_millis(20);
/// Who says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many other servers are tried for one request.
const HOPS: usize = 8;

/// Runs so many sessions until standard input ends. Each tells who answers it whenever that changes; the end is a count.
pub(super) async fn run(address: &str, sessions: usize) -> Fallible<()> {
    let (over, _) = watch::channel(false);
    let mut running = JoinSet::new();
    for n in 0..sessions {
        let session = Session {
            key: format!("s{n}"),
            address: address.to_owned(),
            second: None,
            connection: None,
            verb: "web",
            count: Count::default(),
        };
        running.spawn(session.run(over.subscribe()));
    }
    std::thread::spawn(move || {
        std::io::stdin().lines().for_each(drop);
        over.send_replace(true);
    });
    let mut all = Count::default();
    while let Some(count) = running.join_next().await {
        let Count { asked, told, failed_over, failed } = count?;
        all.asked += asked;
        all.told += told;
        all.failed_over += failed_over;
        all.failed += failed;
    }
    println!(
        "asked {}, told to go {}, failed over {}, failed {}",
        all.asked, all.told, all.failed_over, all.failed
    );
    Ok(())
}

#[derive(Default)]
struct Count {
    /// Requests.
    asked: usize,
    /// How often a server named another one.
    told: usize,
    /// How often one did not answer, and the second choice was asked.
    failed_over: usize,
    /// Requests that nobody answered.
    failed: usize,
}

struct Session {
    key: String,
    /// Whom it asks.
    address: String,
    /// Whom it asks where that one fails.
    second: Option<String>,
    connection: Option<Lines<BufStream<TcpStream>>>,
    /// `web`, or `sent` where it was told to go or had to: then it stays.
    verb: &'static str,
    count: Count,
}

impl Session {
    async fn run(mut self, mut over: watch::Receiver<bool>) -> Count {
        let mut served_by = String::new();
        while !*over.borrow() {
            self.count.asked += 1;
            match self.ask().await {
                Some(server) => {
                    if served_by != server {
                        println!("{}: {server}", self.key);
                    }
                    served_by = server;
                }
                None => self.count.failed += 1,
            }
            tokio::select! {
                () = self.rest() => (),
                _ = over.changed() => (),
            }
        }
        self.count
    }

    /// Who answers: the one it is with, or whoever it is told to ask, or its second choice.
    async fn ask(&mut self) -> Option<String> {
        for _ in 0..HOPS {
            match self.ask_once().await {
                Some(answer) => {
                    if let Some(address) = answer.strip_prefix("go ") {
                        self.go(address);
                        continue;
                    }
                    let answer = answer.strip_prefix("web from ")?;
                    let (server, second) =
                        answer.split_once(" else ").map_or((answer, None), |(s, e)| (s, Some(e)));
                    self.second = second.map(str::to_owned);
                    return Some(server.to_owned());
                }
                None => {
                    self.count.failed_over += 1;
                    (self.connection, self.verb) = (None, "sent");
                    self.address = self.second.take()?;
                }
            }
        }
        None
    }

    /// What the server says; `None`: it does not.
    async fn ask_once(&mut self) -> Option<String> {
        let request = format!("{} {}\n", self.verb, self.key);
        let asking = async {
            if self.connection.is_none() {
                let stream = TcpStream::connect(&self.address).await?;
                self.connection = Some(BufStream::new(stream).lines());
            }
            let lines = self.connection.as_mut().expect("it was just made");
            // The server may be closing: what it said before it did is still to be read.
            let written = async {
                lines.get_mut().write_all(request.as_bytes()).await?;
                lines.get_mut().flush().await
            };
            let written = written.await;
            match lines.next_line().await {
                Ok(Some(line)) => Ok(Some(line)),
                ended => written.and(ended),
            }
        };
        timeout(PATIENCE, asking).await.ok()?.ok()?
    }

    /// Nothing but `go` comes unasked.
    async fn rest(&mut self) {
        let pause = tokio::time::sleep(PAUSE);
        if let Some(lines) = &mut self.connection
            && let Ok(Ok(Some(line))) = timeout(PAUSE, lines.next_line()).await
            && let Some(address) = line.strip_prefix("go ")
        {
            self.go(address);
        }
        pause.await;
    }

    fn go(&mut self, address: &str) {
        self.count.told += 1;
        (self.address, self.connection, self.verb) = (address.to_owned(), None, "sent");
    }
}
