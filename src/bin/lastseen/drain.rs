//! The daemon's drain: within its settings, and over a restart.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lastseen::net::{Clock, Handle};
use lastseen::proto::{Drain, Reason, ServerId, ServiceName};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use crate::http::stamp_of;
use crate::services;
use crate::settings::{Values, duration};

/// What is ordered.
#[derive(Debug, PartialEq)]
pub(crate) enum Wish {
    /// For how long, if that was said, and why.
    Drain(Option<Duration>, Reason),
    Undrain,
}

/// What came of it, for people and programs; the error names the culprit.
pub(crate) type Outcome = Result<Value, String>;

/// An order, with the way for its answer.
pub(crate) type Order = (Wish, oneshot::Sender<Outcome>);

/// Does what is ordered.
pub(crate) struct Drainer {
    handle: Handle,
    default: Duration,
    max: Duration,
    server_id: ServerId,
    /// How long clients have.
    move_within: Duration,
    file: Option<PathBuf>,
}

/// Where a drain is kept.
fn file(values: &Values) -> Option<PathBuf> {
    values.state_dir.as_ref().map(|dir| dir.join("drain.json"))
}

/// The drain that an earlier run left, if it is not over. What cannot be read is told, and is none.
pub(crate) fn saved(values: &Values) -> Option<Drain> {
    let file = file(values)?;
    match read(&file) {
        Ok(drain) => within(drain, Clock.since_1970(), values.drain_max),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => {
            warn!("the drain in {} is ignored: {e}", file.display());
            None
        }
    }
}

/// The drain, if it goes on, and no longer than one may be.
fn within(drain: Drain, now: Duration, max: Duration) -> Option<Drain> {
    let until = drain.until.min((now + max).as_secs());
    (until > now.as_secs()).then_some(Drain { until, ..drain })
}

fn read(file: &Path) -> io::Result<Drain> {
    let saved: Value = serde_json::from_str(&fs::read_to_string(file)?)?;
    let until = saved["until"].as_u64().ok_or_else(|| io::Error::other("it has no number \"until\""))?;
    // Why it drains is worth less than that it does.
    let reason = saved["reason"].as_str().and_then(|text| Reason::new(text).ok()).unwrap_or_default();
    Ok(Drain { until, reason })
}

/// Saves it as a whole or not at all; `None`: there is none any more.
fn save(file: &Path, drain: Option<&Drain>) -> io::Result<()> {
    let Some(drain) = drain else {
        return match fs::remove_file(file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        };
    };
    let new = file.with_extension("json.new");
    let mut out = File::create(&new)?;
    writeln!(out, "{}", json!({ "until": drain.until, "reason": drain.reason.as_str() }))?;
    out.sync_all()?;
    fs::rename(&new, file)
}

impl Drainer {
    pub(crate) fn new(handle: Handle, server_id: ServerId, values: &Values) -> Drainer {
        let Values { drain_default: default, drain_max: max, drain_move_within: move_within, .. } = *values;
        Drainer { handle, default, max, server_id, move_within, file: file(values) }
    }

    /// Obeys until the daemon ends.
    pub(crate) async fn run(self, mut orders: mpsc::Receiver<Order>) {
        while let Some((wish, reply)) = orders.recv().await {
            let outcome = match wish {
                Wish::Drain(length, reason) => self.drain(length.unwrap_or(self.default), reason).await,
                Wish::Undrain => self.undrain().await,
            };
            // Who no longer waits need not be told.
            let _ = reply.send(outcome);
        }
    }

    async fn drain(&self, length: Duration, reason: Reason) -> Outcome {
        let show = duration::show;
        if length > self.max {
            return Err(format!("{} is too long; [drain] max is {}", show(length), show(self.max)));
        }
        if length < Duration::from_secs(1) {
            return Err(format!("{} is too short; 1s is the least", show(length)));
        }
        let drain = Drain { until: (Clock.since_1970() + length).as_secs(), reason };
        self.handle.drain(drain.clone()).await.ok_or("the daemon is about to end")?;
        let moved = services::away(&self.handle, &self.server_id, &drain.reason, self.move_within).await;
        let moved = moved.ok_or("the daemon is about to end")?;
        let (stamp, why) = (stamp_of(drain.until), drain.reason.as_str());
        let colon = if why.is_empty() { "" } else { ": " };
        let clients = moved.text(self.move_within);
        let message = format!("drains for {}, until {stamp}{colon}{why}{clients}", show(length));
        info!("{message}");
        let kept = self.keep(Some(drain.clone())).await;
        let names = |names: &[ServiceName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        Ok(json!({
            "message": message + &kept,
            "draining_until": stamp,
            "draining_reason": why,
            "migrations": names(&moved.told),
            "not_announced": names(&moved.not_told),
        }))
    }

    async fn undrain(&self) -> Outcome {
        let drained = self.handle.undrain().await.ok_or("the daemon is about to end")?;
        let message = if drained { "drains no longer" } else { "does not drain: there is nothing to undo" };
        info!("{message}");
        let kept = self.keep(None).await;
        Ok(json!({ "message": message.to_owned() + &kept, "drained": drained }))
    }

    /// Keeps it for the next run. What is to be said of that: nothing, if all is well or it is not wanted.
    async fn keep(&self, drain: Option<Drain>) -> String {
        let Some(file) = self.file.clone() else { return String::new() };
        let name = file.display().to_string();
        // A disk may hang: the detector does not wait for it.
        let saved = tokio::task::spawn_blocking(move || save(&file, drain.as_ref())).await;
        match saved.unwrap_or_else(|e| Err(io::Error::other(e))) {
            Ok(()) => String::new(),
            Err(e) => {
                warn!("cannot write {name}: {e}");
                format!("; the next run will not know that: cannot write {name}: {e}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(until: u64, reason: &str) -> Drain {
        Drain { until, reason: Reason::new(reason).unwrap() }
    }

    #[test]
    fn a_drain_is_kept_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("drain.json");
        assert_eq!(read(&file).unwrap_err().kind(), io::ErrorKind::NotFound);
        for drain in [drain(7, "kernel upgrade"), drain(9, "")] {
            save(&file, Some(&drain)).unwrap();
            assert_eq!(read(&file).unwrap(), drain);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else lies there");
        save(&file, None).unwrap();
        save(&file, None).unwrap();
        assert!(!file.exists());
        assert!(save(&dir.path().join("missing/drain.json"), Some(&drain(7, ""))).is_err());
    }

    #[test]
    fn files_are_read_with_tolerance() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("drain.json");
        let read = |text: &str| {
            fs::write(&file, text).unwrap();
            read(&file).ok()
        };
        assert_eq!(read(r#"{"until": 5, "reason": "x", "more": 1}"#), Some(drain(5, "x")));
        assert_eq!(read(r#"{"until": 5, "reason": "a\nb"}"#), Some(drain(5, "")));
        assert_eq!(read(r#"{"until": 5}"#), Some(drain(5, "")));
        for wrong in ["", "{", "[]", r#"{"until": "5"}"#, r#"{"until": -5}"#] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_over_is_ignored_and_nothing_lasts_too_long() {
        let within = |until| within(drain(until, ""), Duration::from_secs(100), Duration::from_secs(60));
        assert_eq!([99, 100].map(within), [None, None]);
        assert_eq!([150, 999].map(within), [Some(drain(150, "")), Some(drain(160, ""))]);
    }
}
