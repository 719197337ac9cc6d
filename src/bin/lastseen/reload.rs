//! SIGHUP, `lastseen reload`, and where it is set a file that changes: the settings are read anew. What can change in a running
//! daemon changes; a file that is wrong changes nothing.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use lastseen::net::{Clock, Handle};
use serde_json::{Value, json};
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::control::Orders;
use crate::discovery::{LOOK_EVERY, Replan, Stamp, finished};
use crate::hooks::Hooks;
use crate::services::Settled;
use crate::settings::{self, Detail, Fault, Settings, Sourced, Transitions, Values};
use crate::{args, log};

/// What changes while the daemon runs, beside the keys (`security.*`).
const LIVE: [&str; 12] = [
    "dns_servers",
    "forget_after",
    "hooks",
    "labels",
    "log.level",
    "log.transitions",
    "metrics.detail",
    "peer_files",
    "refresh_interval",
    "reload_on_change",
    "services",
    "static_peers",
];

/// Settings that others look at whenever they need them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live {
    /// Whose transitions are logged.
    pub(crate) transitions: Transitions,
    /// What `/metrics` tells when the request does not say.
    pub(crate) detail: Detail,
}

impl Live {
    pub(crate) fn of(values: &Values) -> Live {
        Live { transitions: values.log_transitions, detail: values.metrics_detail }
    }
}

/// What came of the newest reload; at first of the start.
#[derive(Debug)]
pub(crate) struct Reloads {
    /// Whether it succeeded, and when one last did, in seconds since 1970.
    newest: Mutex<(bool, f64)>,
}

impl Reloads {
    /// The settings were read for the first time.
    pub(crate) fn started() -> Reloads {
        Reloads { newest: Mutex::new((true, now())) }
    }

    /// Whether the newest one succeeded, and when one last did, in seconds since 1970.
    pub(crate) fn newest(&self) -> (bool, f64) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, succeeded: bool) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = (succeeded, if succeeded { now() } else { newest.1 });
    }
}

fn now() -> f64 {
    Clock.since_1970().as_secs_f64()
}

/// What came of one reload; the error names the culprit.
pub(crate) type Outcome = Result<Reloaded, String>;

/// A reload that succeeded.
#[derive(Debug)]
pub(crate) struct Reloaded {
    keys: usize,
    /// The settings that differ and are in force now.
    changed: Vec<&'static str>,
    /// Those that differ and wait for the next start.
    waiting: Vec<&'static str>,
}

impl Reloaded {
    fn message(&self) -> String {
        let list = |head: &str, paths: &[&str]| match paths {
            [] => String::new(),
            paths => format!("; {head}: {}", paths.join(", ")),
        };
        format!(
            "reloaded: {} in force{}{}",
            count(self.keys),
            list("changed", &self.changed),
            list("changed, and in force after the next start", &self.waiting)
        )
    }

    /// As the control socket answers.
    pub(crate) fn json(&self) -> Value {
        json!({ "message": self.message(), "keys": self.keys, "changed": self.changed, "waiting": self.waiting })
    }
}

const ENDED: &str = "the detector's loop has ended";

/// What is to be in force, for who knows whether it can be.
pub(crate) struct Proposal<P, C> {
    pub(crate) plan: P,
    /// Is told what there is to know, or what is wrong.
    pub(crate) checked: oneshot::Sender<Result<C, String>>,
    /// Where that is dropped, nothing changes.
    pub(crate) go: oneshot::Receiver<oneshot::Sender<Result<(), String>>>,
}

/// A proposal that can be put into force. Dropping it changes nothing.
pub(crate) struct Fine(oneshot::Sender<oneshot::Sender<Result<(), String>>>);

/// Asks whether it can be.
///
/// # Errors
/// What is wrong with it; nothing changes.
pub(crate) async fn propose<P, C>(to: &mpsc::Sender<Proposal<P, C>>, plan: P) -> Result<(C, Fine), String> {
    let (checked, is_fine) = oneshot::channel();
    let (go, gone) = oneshot::channel();
    to.send(Proposal { plan, checked, go: gone }).await.map_err(|_| ENDED)?;
    Ok((is_fine.await.map_err(|_| ENDED)??, Fine(go)))
}

impl Fine {
    /// Puts it into force.
    ///
    /// # Errors
    /// What is wrong with it after all.
    pub(crate) async fn go(self) -> Result<(), String> {
        let (done, is_done) = oneshot::channel();
        self.0.send(done).map_err(|_| ENDED)?;
        is_done.await.map_err(|_| ENDED)?
    }
}

/// The settings in force, and what came of the newest try to read them.
pub(crate) struct Reloader {
    pub(crate) args: args::Run,
    /// The name under which this node runs: another one waits for the next start, and keys are of this one until then.
    pub(crate) cluster: String,
    /// What was read last, but for `static_peers`: those are with the roster.
    pub(crate) in_force: Sourced,
    pub(crate) handle: Handle,
    pub(crate) hooks: Hooks,
    pub(crate) reloads: Arc<Reloads>,
    pub(crate) live: watch::Sender<Live>,
    /// Where another roster goes.
    pub(crate) roster: mpsc::Sender<Replan>,
    /// Where other services and labels go.
    pub(crate) offers: mpsc::Sender<Proposal<Settled, ()>>,
    /// The files that are looked at, if any.
    pub(crate) watched: Vec<PathBuf>,
}

impl Reloader {
    /// Reloads at every signal and every order, and when a watched file changes.
    pub(crate) async fn run(mut self, mut hang_up: Signal, mut orders: Orders<Outcome>) {
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut looking, mut seen) = (None, None);
        loop {
            let reply = tokio::select! {
                Some(()) = hang_up.recv() => None,
                Some(reply) = orders.recv() => Some(reply),
                _ = tick.tick(), if looking.is_none() && !self.watched.is_empty() => {
                    looking = Some(self.look());
                    continue;
                }
                Some(stamps) = finished(&mut looking) => {
                    let before = seen.replace(stamps);
                    if before.is_none() || before == seen {
                        continue;
                    }
                    None
                }
            };
            let outcome = self.reload().await;
            self.reloads.note(outcome.is_ok());
            match &outcome {
                Ok(reloaded) if reloaded.waiting.is_empty() => info!("{}", reloaded.message()),
                Ok(reloaded) => warn!("{}", reloaded.message()),
                Err(why) => error!("nothing is reloaded: {why}"),
            }
            let why =
                outcome.as_ref().map_or_else(|why| format!("nothing is reloaded: {why}"), Reloaded::message);
            self.handle.note_reload(outcome.is_ok(), why).await;
            if let Some(reply) = reply {
                // Who no longer waits need not be told.
                let _ = reply.send(outcome);
            }
        }
    }

    /// What tells the state of the watched files from another. They may lie where looking at them hangs.
    fn look(&self) -> JoinHandle<Vec<(PathBuf, Option<Stamp>)>> {
        let watched = self.watched.clone();
        let look = |path: PathBuf| {
            let stamp = Stamp::of(&path).ok();
            (path, stamp)
        };
        tokio::task::spawn_blocking(move || watched.into_iter().map(look).collect())
    }

    /// Puts into force what can change, if all of it is right.
    async fn reload(&mut self) -> Outcome {
        let mut settings = read(self.args.clone()).await?;
        let (keys, keyring, plan) =
            (settings.keys.len(), settings.keyring(&self.cluster)?, settings.take_plan());
        let settled = Settled { services: settings.services, labels: settings.values.labels.clone() };
        let (has_other_peers, roster) = propose(&self.roster, plan).await?;
        let ((), offers) = propose(&self.offers, settled).await?;
        // Where a key is refused the others are not told to go on, and stay.
        self.handle.set_keys(keyring).await.ok_or(ENDED)?.map_err(|e| e.to_string())?;
        roster.go().await?;
        offers.go().await?;
        self.hooks.set(settings.hooks);
        log::set_level(settings.values.log_level);
        self.live.send_replace(Live::of(&settings.values));
        self.watched = watched(&self.args, &settings.values);
        let (mut changed, waiting): (Vec<_>, _) =
            differing(&settings.sources, &self.in_force).partition(|path| can_change(path));
        changed.extend(has_other_peers.then_some("static_peers"));
        changed.sort_unstable();
        self.in_force.extend(settings.sources.into_iter().filter(|(path, _)| can_change(path)));
        Ok(Reloaded { keys, changed, waiting })
    }
}

/// The files that are looked at: where it is set, the settings' own and those of the keys.
pub(crate) fn watched(args: &args::Run, values: &Values) -> Vec<PathBuf> {
    if !values.reload_on_change {
        return Vec::new();
    }
    let own = args.config.clone().unwrap_or_else(|| settings::file::DEFAULT_PATH.into());
    [own].into_iter().chain(values.key_files.iter().cloned()).collect()
}

fn count(keys: usize) -> String {
    match keys {
        0 => "no cluster key, that is the one that the cluster's name gives, is".to_owned(),
        1 => "1 key is".to_owned(),
        many => format!("{many} keys are"),
    }
}

/// A file may lie where reading hangs: the detector does not wait for it.
async fn read(args: args::Run) -> Result<Settings, String> {
    let read = tokio::task::spawn_blocking(move || settings::load(args.config.as_deref(), &args)).await;
    let faults = |faults: Vec<Fault>| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    read.map_err(|e| format!("cannot read the settings: {e}"))?.map_err(faults)
}

fn can_change(path: &str) -> bool {
    path.starts_with("security.") || LIVE.contains(&path)
}

/// The settings that differ.
fn differing(new: &Sourced, old: &Sourced) -> impl Iterator<Item = &'static str> {
    let differs = |path: &&str| old.get(*path).map(|o| &o.0) != new.get(*path).map(|n| &n.0);
    new.keys().copied().filter(differs)
}
