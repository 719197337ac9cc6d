//! SIGHUP, and `lastseen reload`: the settings are read anew. What can change in a running daemon changes; a file that is wrong changes nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use lastseen::net::{Clock, Handle};
use serde_json::{Value, json};
use tokio::signal::unix::Signal;
use tracing::{error, info, warn};

use crate::args;
use crate::control::Orders;
use crate::hooks::Hooks;
use crate::settings::{self, Fault, Settings, Sourced};

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
    Clock.wall_now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
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

/// Reads the settings anew when it is told to.
pub(crate) struct Reloader {
    pub(crate) args: args::Run,
    /// What was read last.
    pub(crate) in_force: Sourced,
    pub(crate) handle: Handle,
    pub(crate) hooks: Hooks,
    pub(crate) reloads: Arc<Reloads>,
}

impl Reloader {
    /// Reloads at every signal and every order.
    pub(crate) async fn run(mut self, mut hang_up: Signal, mut orders: Orders<Outcome>) {
        loop {
            let reply = tokio::select! {
                Some(()) = hang_up.recv() => None,
                Some(reply) = orders.recv() => Some(reply),
                else => return,
            };
            let outcome = self.reload().await;
            self.reloads.note(outcome.is_ok());
            match &outcome {
                Ok(reloaded) if reloaded.waiting.is_empty() => info!("{}", reloaded.message()),
                Ok(reloaded) => warn!("{}", reloaded.message()),
                Err(why) => error!("nothing is reloaded: {why}"),
            }
            if let Some(reply) = reply {
                // Who no longer waits need not be told.
                let _ = reply.send(outcome);
            }
        }
    }

    /// Puts into force what can change: the keys, whether datagrams without one are taken, and the hooks.
    async fn reload(&mut self) -> Outcome {
        let mut settings = read(self.args.clone()).await?;
        let keys = settings.keys.len();
        let outcome = self.handle.set_keys(settings.keyring()?).await;
        outcome.ok_or("the detector's loop has ended")?.map_err(|e| e.to_string())?;
        self.hooks.set(settings.hooks);
        let (changed, waiting) =
            differing(&settings.sources, &self.in_force).partition(|path| can_change(path));
        self.in_force.extend(settings.sources.into_iter().filter(|(path, _)| can_change(path)));
        Ok(Reloaded { keys, changed, waiting })
    }
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
    path.starts_with("security.") || path == "hooks"
}

/// The settings that differ. The roster's old entries are not kept, so it is not compared.
fn differing(new: &Sourced, old: &Sourced) -> impl Iterator<Item = &'static str> {
    let differs = |path: &&str| old.get(*path).map(|o| &o.0) != new.get(*path).map(|n| &n.0);
    new.keys().copied().filter(|path| *path != "static_peers").filter(differs)
}
