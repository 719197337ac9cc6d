//! The log on standard error: how it looks, and one line a transition with its cause.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lastseen::net::EventStream;
use lastseen::proto::{Change, Event, LeaveReason, PeerStatus, SelfHealth, Verdict};
use tracing::{debug, error, info, warn};

use crate::settings::{Level, LogFormat, Transitions};

/// So many lines about peers within [`WINDOW`]; what is more becomes one line at its end.
const LINES: usize = 10;
const WINDOW: Duration = Duration::from_secs(1);

static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// Lines about peers that were folded into one, since the start.
pub(crate) fn lines_suppressed() -> u64 {
    SUPPRESSED.load(Ordering::Relaxed)
}

/// Begins to log.
pub(crate) fn init(format: LogFormat, level: Level) {
    let level = match level {
        Level::Error => tracing::Level::ERROR,
        Level::Warn => tracing::Level::WARN,
        Level::Info => tracing::Level::INFO,
        Level::Debug => tracing::Level::DEBUG,
        Level::Trace => tracing::Level::TRACE,
    };
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal() && !no_color);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).init(),
    }
}

/// Writes every event until the detector ends.
pub(crate) async fn write_events(mut events: EventStream, policy: Transitions) {
    while let Some(event) = events.next().await {
        let mut window = Window::default();
        window.write(event, policy);
        let end = tokio::time::sleep(WINDOW);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => break,
                event = events.next() => match event {
                    Some(event) => window.write(event, policy),
                    None => break,
                },
            }
        }
        window.finish();
    }
}

/// The lines of one second.
#[derive(Default)]
struct Window {
    written: usize,
    held: Vec<String>,
    held_count: u64,
}

impl Window {
    fn write(&mut self, event: Result<Event, u64>, policy: Transitions) {
        let event = match event {
            Ok(event) => event,
            Err(lost) => return warn!(lost, "events were lost: too many came at once"),
        };
        let Some(peer) = event.peer.clone() else { return write_own(&event) };
        if policy == Transitions::None {
            return;
        }
        if policy == Transitions::Observed && !event.observed {
            return debug!(peer = &*peer, kind = event.change.kind(), "{peer}: {}", event.why);
        }
        if self.written < LINES {
            self.written += 1;
            return write_peer(&peer, &event);
        }
        self.held_count += 1;
        if self.held.len() < LINES {
            let to = match &event.change {
                Change::Status { to, .. } => to.as_str(),
                Change::Verdict { to, .. } => to.as_str(),
                change => change.kind(),
            };
            self.held.push(format!("{peer} {to}"));
        }
    }

    /// Writes one line for all that was held back.
    fn finish(&self) {
        if let Some(line) = self.summary() {
            SUPPRESSED.fetch_add(self.held_count, Ordering::Relaxed);
            warn!(count = self.held_count, "{line}");
        }
    }

    fn summary(&self) -> Option<String> {
        let total = self.held_count + self.written as u64;
        let etc = if self.held_count > self.held.len() as u64 { ", …" } else { "" };
        (self.held_count > 0).then(|| {
            format!(
                "{} more transitions, {total} within a second: {}{etc}",
                self.held_count,
                self.held.join(", ")
            )
        })
    }
}

fn write_peer(peer: &str, event: &Event) {
    let why = &event.why;
    let verdict = event.verdict.map(|v| v.as_str());
    match &event.change {
        Change::Status { from, to } => match to {
            PeerStatus::Suspected => info!(peer, %from, %to, verdict, "{peer} suspected: {why}"),
            // It was said before it happened, and raises no alarm.
            PeerStatus::Down if event.verdict == Some(Verdict::Left) => {
                info!(peer, %from, %to, verdict, "{peer} left: {why}")
            }
            PeerStatus::Down if event.verdict == Some(Verdict::Draining) => {
                info!(peer, %from, %to, verdict, "{peer} is away while it drains: {why}")
            }
            PeerStatus::Down => warn!(peer, %from, %to, verdict, "{peer} down: {why}"),
            PeerStatus::Healthy => info!(peer, %from, %to, verdict, "{peer} heard again: {why}"),
        },
        // Nothing new happened, but now it is an alarm.
        Change::Verdict { from, to }
            if from.is_announced() && matches!(to, Verdict::Down | Verdict::Refused) =>
        {
            warn!(peer, from = from.as_str(), to = to.as_str(), "{peer} down: {why}");
        }
        // The event of the drain says so.
        Change::Verdict { from: Verdict::Draining, to: Verdict::Up }
        | Change::Verdict { from: Verdict::Up, to: Verdict::Draining } => {}
        Change::Verdict { from, to } => {
            info!(peer, from = from.as_str(), to = to.as_str(), "{peer} is {}: {why}", to.as_str());
        }
        Change::Restart => info!(peer, verdict, "{peer} restarted: {why}"),
        Change::Leave(reason) => {
            let reason = if *reason == LeaveReason::Removal { "removal" } else { "restart" };
            info!(peer, reason, verdict, "{peer} leaves: {why}");
        }
        Change::Drain { until } => info!(peer, until, verdict, "{peer}: {why}"),
        Change::Address { from, to } => info!(peer, %from, %to, "{peer} moved: {why}"),
        other => debug!(peer, kind = other.kind(), "{why}"),
    }
}

fn write_own(event: &Event) {
    let why = &event.why;
    match &event.change {
        Change::Quorum { available: true } => info!(quorum = true, "quorum: {why}"),
        Change::Quorum { available: false } => warn!(quorum = false, "no quorum: {why}"),
        Change::MassLoss { begins: true } => warn!(mass_loss = true, "mass loss: {why}"),
        Change::MassLoss { begins: false } => info!(mass_loss = false, "mass loss is over: {why}"),
        Change::Health { from, to } if *to == SelfHealth::Ok => {
            info!(from = from.as_str(), to = to.as_str(), "this node is well: {why}");
        }
        Change::Health { from, to } => {
            warn!(from = from.as_str(), to = to.as_str(), "this node is {}: {why}", to.as_str());
        }
        Change::Drain { until } => info!(until, "this node: {why}"),
        Change::Stall(late) => warn!(stall_seconds = late.as_secs_f64(), "stalled: {why}"),
        Change::Rollback => error!("this process was cloned or rolled back: {why}"),
        Change::Keys | Change::Roster => info!("{why}"),
        other => debug!(kind = other.kind(), "{why}"),
    }
}

#[cfg(test)]
mod tests {
    use lastseen::proto::Time;

    use super::*;

    fn down(peer: &str) -> Result<Event, u64> {
        let change = Change::Status { from: PeerStatus::Suspected, to: PeerStatus::Down };
        Ok(Event {
            at: Time::ZERO,
            peer: Some(peer.into()),
            observed: true,
            change,
            verdict: None,
            why: "silent".into(),
            evidence: None,
        })
    }

    #[test]
    fn more_than_ten_lines_in_a_second_become_one() {
        let mut window = Window::default();
        for n in 0..10 {
            window.write(down(&format!("p{n}")), Transitions::Observed);
        }
        assert_eq!(window.summary(), None);
        for n in 10..12 {
            window.write(down(&format!("p{n}")), Transitions::Observed);
        }
        let line = "2 more transitions, 12 within a second: p10 down, p11 down";
        assert_eq!(window.summary().as_deref(), Some(line));
        for n in 12..25 {
            window.write(down(&format!("p{n}")), Transitions::Observed);
        }
        let line = window.summary().unwrap();
        assert!(line.starts_with("15 more transitions, 25 within a second: p10 down, "), "{line}");
        assert!(line.ends_with(", p19 down, …"), "{line}");
    }

    #[test]
    fn none_writes_nothing_about_peers() {
        let mut window = Window::default();
        (0..25).for_each(|_| window.write(down("p"), Transitions::None));
        assert_eq!((window.written, window.summary()), (0, None));
    }
}
