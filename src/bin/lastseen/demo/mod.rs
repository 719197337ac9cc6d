//! `demo`: a few real nodes on loopback, what happens to them, and how long it takes the others to notice.

mod ask;
mod board;
mod fleet;
mod screen;
mod story;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use crate::{args, exit};
use fleet::Fleet;
use story::{End, Story};

pub(crate) fn run(args: &args::Demo) -> ExitCode {
    let stop = match watch_signals() {
        Ok(stop) => stop,
        Err(e) => return exit::fail(&format!("cannot wait for signals: {e}")),
    };
    let fleet = match Fleet::start(args.nodes.into()) {
        Ok(fleet) => fleet,
        Err(why) => return exit::fail(&why),
    };
    let mut story = Story::new(fleet, stop);
    let end = story.tell();
    if matches!(end, End::Told) && !args.once {
        story.stay();
        return ExitCode::SUCCESS;
    }
    match end {
        End::Told => ExitCode::SUCCESS,
        End::Interrupted if !args.once => ExitCode::SUCCESS,
        End::Interrupted => exit::fail("interrupted before the end"),
        End::Missing(missing) => {
            missing.iter().for_each(|what| exit::complain(&format!("not as expected: {what}")));
            ExitCode::from(exit::FAILED)
        }
    }
}

/// From now on SIGINT, SIGTERM and SIGHUP set the flag, so that the nodes are ended before the demo is.
fn watch_signals() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    drop(entered);
    let flag = Arc::clone(&stop);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            flag.store(true, Ordering::Relaxed);
        });
    });
    Ok(stop)
}
