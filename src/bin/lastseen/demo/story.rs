//! The story that the demo tells: a crash, a restart, a freeze; each with what is expected, and by when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lastseen::net::Clock;
use lastseen::proto::{PeerStatus, Time};
use nix::sys::signal::Signal;

use super::ask::Ask;
use super::board::{Board, Picture, Seen};
use super::fleet::Fleet;
use super::screen::Screen;

const START_WITHIN: Duration = Duration::from_secs(20);
/// The detector's own promise is 2 s; a busy machine is given one more.
const CRASH_WITHIN: Duration = Duration::from_secs(3);
const RESTART_WITHIN: Duration = Duration::from_secs(2);
const SUSPECTED_WITHIN: Duration = Duration::from_secs(3);
const DOWN_WITHIN: Duration = Duration::from_secs(6);
const RESUME_WITHIN: Duration = Duration::from_secs(3);
/// How long the picture is left alone for who watches.
const PAUSE: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How the story ended.
pub(super) enum End {
    /// All was seen that was expected.
    Told,
    /// A signal came.
    Interrupted,
    /// What was expected and not seen.
    Missing(Vec<String>),
}

/// A signal came: whatever runs is to end.
struct Interrupted;

/// How often each observer has accused each peer: by (observer, peer).
type Accusations = BTreeMap<(usize, String), f64>;

pub(super) struct Story {
    fleet: Fleet,
    board: Board,
    screen: Screen,
    stop: Arc<AtomicBool>,
    start: Time,
    missing: Vec<String>,
}

impl Story {
    pub(super) fn new(fleet: Fleet, stop: Arc<AtomicBool>) -> Story {
        let urls = (0..fleet.len()).map(|index| fleet.url(index)).collect();
        let board = Board::watch(fleet.ids(), urls);
        Story { board, fleet, screen: Screen::new(), stop, start: Clock.now(), missing: Vec::new() }
    }

    /// Tells it from start to end. The nodes go on running.
    pub(super) fn tell(&mut self) -> End {
        match self.chapters() {
            Err(Interrupted) => End::Interrupted,
            Ok(()) if self.missing.is_empty() => End::Told,
            Ok(()) => End::Missing(std::mem::take(&mut self.missing)),
        }
    }

    fn chapters(&mut self) -> Result<(), Interrupted> {
        if !self.begin()? {
            return Ok(());
        }
        let before = self.accusations();
        // The first node stays as it is, to be looked at.
        let crashed = self.fleet.len() / 2;
        let frozen = self.fleet.len() - 1;
        self.pause()?;
        self.crash(crashed)?;
        self.pause()?;
        self.restart(crashed)?;
        self.pause()?;
        self.freeze(frozen)?;
        self.pause()?;
        self.judge_the_others(&before, &[crashed, frozen]);
        self.where_to_look();
        Ok(())
    }

    /// All nodes start, and hear each other.
    fn begin(&mut self) -> Result<bool, Interrupted> {
        let count = self.fleet.len();
        self.say(&format!("{count} nodes started, each a process of its own; heartbeats every second"));
        for index in 0..count {
            let pid = self.fleet.pid(index).unwrap_or_default();
            self.screen.say(&format!(
                "          {}  pid {pid}  {}",
                self.fleet.id(index),
                self.fleet.url(index)
            ));
        }
        let met = self.wait(START_WITHIN, |picture| (0..count).all(|node| picture.is_heard(node)))?;
        if met {
            self.say("every node hears every other");
        } else {
            self.miss(format!("every node hears every other within {}", seconds(START_WITHIN)));
        }
        Ok(met)
    }

    /// The process is killed, and the kernel answers for it: its port is closed.
    fn crash(&mut self, node: usize) -> Result<(), Interrupted> {
        let id = self.fleet.id(node).to_owned();
        self.say(&format!("SIGKILL to {id}: its process is gone without a word"));
        let since = Clock.now();
        self.fleet.kill(node);
        self.wait(CRASH_WITHIN, |picture| picture.all_say(node, PeerStatus::Down))?;
        self.tell_times(node, PeerStatus::Down, since, CRASH_WITHIN);
        self.tell_why(node);
        Ok(())
    }

    fn restart(&mut self, node: usize) -> Result<(), Interrupted> {
        let id = self.fleet.id(node).to_owned();
        self.say(&format!("{id} is started again"));
        let since = Clock.now();
        self.board.forget(node);
        if let Err(why) = self.fleet.launch(node) {
            self.miss(why);
            return Ok(());
        }
        self.wait(RESTART_WITHIN, |picture| picture.all_say(node, PeerStatus::Healthy))?;
        self.tell_times(node, PeerStatus::Healthy, since, RESTART_WITHIN);
        if !self.wait(RESTART_WITHIN, |picture| picture.is_heard(node))? {
            self.miss(format!("{id} hears all others within {} more", seconds(RESTART_WITHIN)));
        }
        Ok(())
    }

    /// The process stands still, and nobody answers for it.
    fn freeze(&mut self, node: usize) -> Result<(), Interrupted> {
        let id = self.fleet.id(node).to_owned();
        self.say(&format!("SIGSTOP to {id}: silent, as if its machine or its network were gone"));
        let since = Clock.now();
        self.fleet.signal(node, Signal::SIGSTOP);
        let others = self.fleet.len() - 1;
        let suspected = |p: &Picture| p.reached(node, PeerStatus::Suspected, since).len() == others;
        self.wait(SUSPECTED_WITHIN, suspected)?;
        self.tell_times(node, PeerStatus::Suspected, since, SUSPECTED_WITHIN);
        let left = DOWN_WITHIN.saturating_sub(Clock.now().since(since));
        self.wait(left, |picture| picture.all_say(node, PeerStatus::Down))?;
        self.tell_times(node, PeerStatus::Down, since, DOWN_WITHIN);
        self.tell_why(node);
        self.pause()?;
        self.say(&format!("SIGCONT to {id}: it goes on where it stood"));
        let since = Clock.now();
        self.fleet.signal(node, Signal::SIGCONT);
        self.wait(RESUME_WITHIN, |picture| picture.all_say(node, PeerStatus::Healthy))?;
        self.tell_times(node, PeerStatus::Healthy, since, RESUME_WITHIN);
        Ok(())
    }

    /// Says when the first and the last of the others said `status`, and whether that was in time.
    fn tell_times(&mut self, node: usize, status: PeerStatus, since: Time, within: Duration) {
        let reached = self.board.picture().reached(node, status, since);
        let id = self.fleet.id(node).to_owned();
        let others = self.fleet.len() - 1;
        let after = |at: Time| seconds(at.since(since));
        if let (Some(first), Some(last)) = (reached.first(), reached.last()) {
            let (a, b) = (self.fleet.id(first.1), self.fleet.id(last.1));
            let line = format!(
                "{id} is {status} at {} of {others}: first at {a} after {}, last at {b} after {}",
                reached.len(),
                after(first.0),
                after(last.0)
            );
            self.say(&line);
        }
        let in_time = reached.iter().filter(|(at, _)| at.since(since) <= within).count();
        if in_time < others {
            let limit = seconds(within);
            self.miss(format!("{id} is {status} at all {others} within {limit}: it was at {in_time}"));
        }
    }

    fn tell_why(&mut self, node: usize) {
        let why = {
            let picture = self.board.picture();
            let bad = |(observer, said): (usize, Option<&super::ask::Said>)| {
                let said = said.filter(|said| said.status == PeerStatus::Down)?;
                Some(format!("          {} says {}: {}", self.fleet.id(observer), said.verdict, said.why))
            };
            picture.rows(node).find_map(bad)
        };
        if let Some(line) = why {
            self.screen.say(&line);
        }
    }

    /// Nobody was to be accused of anything but the two. The nodes' own counters know it, however short it was.
    fn judge_the_others(&mut self, before: &Option<Accusations>, faulty: &[usize]) {
        let Some((before, now)) = before.as_ref().zip(self.accusations()) else {
            return self.miss("every node tells its counters at /metrics".to_owned());
        };
        let faulty: Vec<&str> = faulty.iter().map(|index| self.fleet.id(*index)).collect();
        let wrong: Vec<String> = now
            .iter()
            // A restarted node counts from zero again, below what it had; that is no accusation either.
            .filter(|(key, count)| **count > before.get(key).copied().unwrap_or(0.0))
            .filter(|((_, peer), _)| !faulty.contains(&peer.as_str()))
            .map(|((observer, peer), _)| format!("{} accused {peer}", self.fleet.id(*observer)))
            .collect();
        if wrong.is_empty() {
            self.say("no other node was suspected by anybody, not even for a moment");
        } else {
            self.miss(format!("nobody else is accused, but {}", wrong.join(", ")));
        }
    }

    fn accusations(&self) -> Option<Accusations> {
        let mut all = Accusations::new();
        for observer in 0..self.fleet.len() {
            for (peer, count) in Ask::new(self.fleet.url(observer)).accusations()? {
                *all.entry((observer, peer)).or_default() += count;
            }
        }
        Some(all)
    }

    fn where_to_look(&mut self) {
        let url = self.fleet.url(0);
        self.say(&format!("look for yourself: {url}/ in a browser"));
        self.screen.say(&format!("                             curl {url}/metrics"));
        self.screen.say(&format!("                             lastseen peers --all --http {url}"));
    }

    /// Goes on until a signal: the table stays current, and every change is a line.
    pub(super) fn stay(&mut self) {
        self.say("the nodes go on; kill or stop one of them and see. Ctrl-C ends them all");
        let mut newest = Clock.now();
        while let Ok(false) = self.wait(LOOK_EVERY, |_| false) {
            let news: Vec<Seen> = {
                let picture = self.board.picture();
                picture.log.iter().filter(|seen| seen.at > newest).copied().collect()
            };
            for seen in news {
                newest = newest.max(seen.at);
                let (observer, subject) = (self.fleet.id(seen.observer), self.fleet.id(seen.subject));
                let line = format!("{observer} says that {subject} is {}", seen.to);
                self.say(&line);
            }
            self.missing.clear();
        }
    }

    fn pause(&mut self) -> Result<(), Interrupted> {
        self.wait(PAUSE, |_| false).map(drop)
    }

    /// Waits until the picture is as wanted, at most `within`. Says whether it is.
    fn wait(&mut self, within: Duration, is_met: impl Fn(&Picture) -> bool) -> Result<bool, Interrupted> {
        let until = Clock.now() + within;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Interrupted);
            }
            for (index, how) in self.fleet.ended() {
                self.board.forget(index);
                self.miss(how);
            }
            let met = {
                let picture = self.board.picture();
                self.screen.draw(&picture, &self.fleet);
                is_met(&picture)
            };
            let now = Clock.now();
            if met || now >= until {
                return Ok(met);
            }
            self.board.wait(LOOK_EVERY.min(until.since(now)));
        }
    }

    fn miss(&mut self, what: String) {
        self.say(&format!("NOT AS EXPECTED: {what}"));
        self.missing.push(what);
    }

    fn say(&mut self, line: &str) {
        let age = Clock.now().since(self.start).as_secs_f64();
        self.screen.say(&format!("{age:7.2} s {line}"));
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}
