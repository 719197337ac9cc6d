//! The processes of one system, and what each says of the others.

use std::io::{BufRead, BufReader, pipe};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::system::System;
use crate::{Failure, Plan};

/// Until every node knows every other, after a start or a fault.
const WHOLE_WITHIN: Duration = Duration::from_secs(180);

/// One word of one node about another, dated when it was read.
struct Told {
    at: Instant,
    observer: usize,
    subject: usize,
    is_up: bool,
}

struct Node {
    child: Child,
    /// Reads what it says until it ends.
    reader: JoinHandle<()>,
}

pub struct Cluster<'a> {
    system: &'a System,
    plan: &'a Plan,
    nodes: Vec<Option<Node>>,
    told: Receiver<Told>,
    teller: Sender<Told>,
    /// `up[observer][subject]`, by the newest word.
    up: Vec<Vec<bool>>,
    /// At whom there is a fault, or was the last one.
    faulty: Option<usize>,
    /// Words that a node is down at which there was no fault.
    pub false_downs: usize,
}

/// Seconds from a fault to Down: at the first, and at all of the others if they all said so in time.
pub struct Detection {
    pub first: Option<f64>,
    pub all: Option<f64>,
}

impl<'a> Cluster<'a> {
    /// Starts all nodes.
    pub fn start(system: &'a System, plan: &'a Plan) -> Result<Cluster<'a>, Failure> {
        let (teller, told) = channel();
        let count = usize::from(plan.nodes);
        let mut cluster = Cluster {
            system,
            plan,
            nodes: (0..count).map(|_| None).collect(),
            told,
            teller,
            up: vec![vec![false; count]; count],
            faulty: None,
            false_downs: 0,
        };
        (0..count).try_for_each(|node| cluster.start_node(node))?;
        Ok(cluster)
    }

    pub fn start_node(&mut self, number: usize) -> Result<(), Failure> {
        let mut command = self.system.command(self.plan, u16::try_from(number)?)?;
        let (output, writer) = pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let child = command.spawn().map_err(|e| format!("setpriv: {e}"))?;
        // It holds the ends that are written to: the reader ends with the process.
        drop(command);
        let (system, teller) = (self.system.clone(), self.teller.clone());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let at = Instant::now();
                if let Some((subject, is_up)) = system.says(&line) {
                    // Nobody listens any more when the cluster ends.
                    let _ = teller.send(Told { at, observer: number, subject: subject.into(), is_up });
                }
            }
        });
        self.nodes[number] = Some(Node { child, reader });
        self.up[number].fill(self.system.presumes());
        Ok(())
    }

    pub fn pids(&self) -> impl Iterator<Item = u32> {
        self.nodes.iter().flatten().map(|node| node.child.id())
    }

    /// Waits until every node has every other for up, by its newest word.
    pub fn becomes_whole(&mut self) -> Result<(), String> {
        let end = Instant::now() + WHOLE_WITHIN;
        loop {
            let Some((observer, subject)) = self.missing() else { return Ok(()) };
            if self.listen(end).is_none() {
                return Err(format!("n{observer} does not know n{subject} after {WHOLE_WITHIN:?}"));
            }
        }
    }

    /// Two of which one has not the other for up.
    fn missing(&self) -> Option<(usize, usize)> {
        let of = |(observer, row): (usize, &Vec<bool>)| {
            let missing = |subject: &usize| !row[*subject] && *subject != observer;
            Some((observer, (0..row.len()).find(missing)?))
        };
        self.up.iter().enumerate().find_map(of)
    }

    /// Nothing is done for so long but to listen.
    pub fn rest(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while self.listen(end).is_some() {}
    }

    pub fn kill(&mut self, number: usize) -> Result<Detection, Failure> {
        let since = Instant::now();
        let mut node = self.nodes[number].take().ok_or("it does not run")?;
        node.child.kill()?;
        node.child.wait()?;
        node.reader.join().map_err(|_| "a reader panicked")?;
        Ok(self.detection(number, since))
    }

    pub fn stop(&mut self, number: usize) -> Result<Detection, Failure> {
        let since = Instant::now();
        self.signal(number, Signal::SIGSTOP)?;
        Ok(self.detection(number, since))
    }

    pub fn go_on(&mut self, number: usize) -> Result<(), Failure> {
        self.signal(number, Signal::SIGCONT)
    }

    fn signal(&self, number: usize, signal: Signal) -> Result<(), Failure> {
        let node = self.nodes[number].as_ref().ok_or("it does not run")?;
        Ok(kill(Pid::from_raw(i32::try_from(node.child.id())?), signal)?)
    }

    /// How long after `since` the others have called it down, if they do before the deadline.
    fn detection(&mut self, faulty: usize, since: Instant) -> Detection {
        self.faulty = Some(faulty);
        let end = since + Duration::from_secs(self.plan.deadline);
        let mut first = None;
        loop {
            let Some(told) = self.listen(end) else { return Detection { first, all: None } };
            if told.subject != faulty || told.is_up || told.at < since {
                continue;
            }
            let after = (told.at - since).as_secs_f64();
            first.get_or_insert(after);
            if (0..self.up.len()).all(|observer| observer == faulty || !self.up[observer][faulty]) {
                return Detection { first, all: Some(after) };
            }
        }
    }

    /// The next word; `None`: there was none before `end`.
    fn listen(&mut self, end: Instant) -> Option<Told> {
        let told = self.told.recv_timeout(end.saturating_duration_since(Instant::now())).ok()?;
        if let Some(up) = self.up.get_mut(told.observer).and_then(|row| row.get_mut(told.subject)) {
            let is_false = *up && !told.is_up && self.faulty != Some(told.subject);
            self.false_downs += usize::from(is_false);
            *up = told.is_up;
        }
        Some(told)
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        for node in self.nodes.iter_mut().flatten() {
            let _ = node.child.kill();
            let _ = node.child.wait();
        }
    }
}
