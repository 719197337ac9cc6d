//! The way to one hook: its calls, so many at once, each only if what the hook needs holds right before it.

use std::sync::Arc;

use lastseen::net::{Clock, Handle};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tracing::{info, warn};

use super::call::{self, Failure};
use super::decide::Call;
use super::{FAILED, OK, TIMEOUT, count};
use crate::settings::{Hook, Needs};

/// Calls of one hook that wait for a place; more are held.
pub(super) const QUEUE: usize = 256;

/// A call that waits for a place, and what is told by it.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) call: Call,
    pub(super) told: Value,
}

/// A hook, and where its calls go.
pub(super) type Lane = (Arc<Hook>, mpsc::Sender<Queued>);
/// A call that was not made, and of which hook.
pub(super) type Back = (Arc<Hook>, Call);

/// A way to each hook, and who waits at its end. Dropping one ends that after the calls that wait.
pub(super) fn open(hooks: &[Hook], handle: &Handle, back: &mpsc::Sender<Back>) -> Vec<Lane> {
    let lane = |hook: &Hook| {
        let (hook, (sender, calls)) = (Arc::new(hook.clone()), mpsc::channel(QUEUE));
        tokio::spawn(serve(Arc::clone(&hook), calls, handle.clone(), back.clone()));
        (hook, sender)
    };
    hooks.iter().map(lane).collect()
}

/// Calls one hook, so many times at once.
async fn serve(hook: Arc<Hook>, mut calls: mpsc::Receiver<Queued>, handle: Handle, back: mpsc::Sender<Back>) {
    let places = Arc::new(Semaphore::new(hook.at_most));
    while let Some(Queued { call, told }) = calls.recv().await {
        let place = Arc::clone(&places).acquire_owned().await;
        let (hook, handle, back) = (Arc::clone(&hook), handle.clone(), back.clone());
        tokio::spawn(async move {
            if holds(hook.needs, &call, &handle).await {
                make(&hook, told, &handle).await;
            } else {
                info!(
                    hook = hook.name,
                    "the hook {} is not called yet: what it needs does not hold", hook.name
                );
                // Where the desk has gone nobody is to be called any more.
                let _ = back.send((hook, call)).await;
            }
            drop(place);
        });
    }
}

/// Whether what the hook needs holds now.
async fn holds(needs: Needs, call: &Call, handle: &Handle) -> bool {
    match (needs, &call.event.1.peer) {
        (Needs::Nothing, _) => true,
        (Needs::Takeover, Some(peer)) => {
            handle.takeover_safe(peer).await.is_some_and(|until| Clock.now() < until)
                && handle.quorum_guard().is_held()
        }
        (Needs::Guard | Needs::Takeover, _) => handle.quorum_guard().is_held(),
    }
}

async fn make(hook: &Hook, mut told: Value, handle: &Handle) {
    let name = &hook.name;
    told["quorum_guard"] = json!(handle.quorum_guard().is_held());
    match call::call(&hook.action, format!("{told}\n"), hook.timeout).await {
        Ok(()) => {
            count(OK, 1);
            info!(hook = name, "the hook {name} was called");
        }
        Err(Failure::Failed(why)) => {
            count(FAILED, 1);
            warn!(hook = name, "the hook {name} failed: {why}");
        }
        Err(Failure::Timeout) => {
            count(TIMEOUT, 1);
            warn!(hook = name, "the hook {name} was given up after {:?}", hook.timeout);
        }
    }
}
