//! SIGHUP: the settings are read anew. What can change in a running daemon changes; a file that is wrong changes nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use lastseen::net::{Clock, Handle};
use tokio::signal::unix::Signal;
use tracing::{error, info, warn};

use crate::args;
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

/// Reads the settings anew when it is told to.
pub(crate) struct Reloader {
    pub(crate) args: args::Run,
    /// What was read last.
    pub(crate) in_force: Sourced,
    pub(crate) handle: Handle,
    pub(crate) reloads: Arc<Reloads>,
}

impl Reloader {
    /// Reloads at every signal.
    pub(crate) async fn run(mut self, mut hang_up: Signal) {
        while hang_up.recv().await.is_some() {
            let outcome = self.reload().await;
            self.reloads.note(outcome.is_ok());
            if let Err(why) = outcome {
                error!("nothing is reloaded: {why}");
            }
        }
    }

    /// Puts into force what can change: the keys, and whether datagrams without one are taken.
    async fn reload(&mut self) -> Result<(), String> {
        let mut settings = read(self.args.clone()).await?;
        let keys = settings.keys.len();
        let outcome = self.handle.set_keys(settings.keyring()?).await;
        outcome.ok_or("the detector's loop has ended")?.map_err(|e| e.to_string())?;
        info!("reloaded: {} in force", count(keys));
        let waiting = waiting(&settings.sources, &self.in_force);
        if !waiting.is_empty() {
            warn!("changed, and in force after the next start: {}", waiting.join(", "));
        }
        Ok(())
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

/// What differs and cannot change now. The roster's old entries are not kept, so it is not compared.
fn waiting(new: &Sourced, old: &Sourced) -> Vec<&'static str> {
    let can_change = |path: &str| path.starts_with("security.") || path == "static_peers";
    let differs = |path: &&str| old.get(*path).map(|o| &o.0) != new.get(*path).map(|n| &n.0);
    new.keys().copied().filter(|path| !can_change(path)).filter(differs).collect()
}
