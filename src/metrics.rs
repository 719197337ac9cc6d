//! Every metric family, fed from the core's plain counters; the table of their names is in `metrics/families.rs`.
//!
//! Process-wide counters and the histogram go through the `metrics` facade and its Prometheus exporter; states and
//! the families of each peer are written from the [`Snapshot`] at scrape time, since the exporter cannot remove a
//! series. All series are there from the start and go with the peer.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Histogram, with_local_recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::proto::{Catalog, PeerStatus, Reject, RelayResult, SendErrorKind, Snapshot, Stats, Time};
use families::family;
use text::Text;

mod families;
mod process;
mod text;

/// Upper bounds of the round-trip histogram's buckets, in seconds.
pub const RTT_BUCKETS: [f64; 15] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.5];
const RTT: &str = "lastseen_rtt_seconds";
/// The exporter keeps samples until somebody looks: looked at after so many.
const UPKEEP: u32 = 4096;

/// What may become of the call of a hook, in the order of [`Extra::hooks`].
pub const HOOK_RESULTS: [&str; 4] = ["ok", "failed", "timeout", "held"];

/// What the snapshot does not know.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// Log lines that were folded into others.
    pub log_lines_suppressed: u64,
    /// Events that slow readers lost, beside those that the core dropped.
    pub events_dropped: u64,
    /// Calls of hooks by result, and events that became no call.
    pub hooks: [u64; HOOK_RESULTS.len()],
    /// Whether the newest try to read the configuration anew failed.
    pub reload_failed: bool,
    /// When the configuration was last read, in seconds since 1970.
    pub config_loaded: f64,
    /// Whether the families of each peer are written; else the summary alone.
    pub peers: bool,
    /// Whether what every node sees of every other is written too.
    pub matrix: bool,
    /// Failed look-ups of the roster's sources, each with its name.
    pub discovery_failures: Vec<(Arc<str>, u64)>,
    /// Whether the quorum guard is held.
    pub quorum_guard: bool,
    /// The services, and the migrations.
    pub catalog: Arc<Catalog>,
}

/// Where a process-wide counter is read.
type Read = Box<dyn Fn(&Stats, &Extra) -> u64 + Send + Sync>;

/// The exporter of one node.
pub struct Exporter {
    handle: PrometheusHandle,
    counts: Vec<(Counter, Read)>,
    rtt: Histogram,
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

impl Default for Exporter {
    fn default() -> Exporter {
        Exporter::new()
    }
}

/// Registers the series of `name` whose label, if the family has one, has this value.
fn counter(
    name: &str,
    value: &'static str,
    read: impl Fn(&Stats, &Extra) -> u64 + Send + Sync + 'static,
) -> (Counter, Read) {
    let family = family(name);
    metrics::describe_counter!(family.name, family.unit, family.help);
    let counter = match family.labels {
        [] => metrics::counter!(family.name),
        [label, ..] => metrics::counter!(family.name, *label => value),
    };
    (counter, Box::new(read))
}

fn counters() -> Vec<(Counter, Read)> {
    let mut counts = vec![
        counter("heartbeats_sent_total", "", |s, _| s.heartbeats_sent),
        counter("heartbeats_missed_total", "", |s, _| s.heartbeats_missed),
        counter("heartbeat_retries_total", "", |s, _| s.heartbeat_retries),
        counter("restarts_total", "", |s, _| s.restarts),
        counter("false_downs_total", "", |s, _| s.false_downs),
        counter("syncs_total", "", |s, _| s.syncs),
        counter("datagrams_received_total", "", |s, _| s.datagrams_received),
        counter("datagrams_sent_total", "", |s, _| s.datagrams_sent),
        counter("received_bytes_total", "", |s, _| s.received_bytes),
        counter("sent_bytes_total", "", |s, _| s.sent_bytes),
        counter("socket_drops_total", "", |s, _| s.socket_drops),
        counter("socket_filtered_total", "", |s, _| s.socket_filtered),
        counter("stalls_total", "", |s, _| s.stalls),
        counter("log_lines_suppressed_total", "", |_, extra| extra.log_lines_suppressed),
        counter("events_dropped_total", "", |s, extra| s.events_dropped + extra.events_dropped),
    ];
    counts.extend(
        PeerStatus::ALL
            .map(|to| counter("transitions_total", to.as_str(), move |s, _| s.transitions[to as usize])),
    );
    counts.extend(
        RelayResult::ALL
            .map(|result| counter("relays_total", result.as_str(), move |s, _| s.relays[result as usize])),
    );
    counts.extend(
        HOOK_RESULTS
            .iter()
            .enumerate()
            .map(|(at, result)| counter("hooks_total", result, move |_, extra| extra.hooks[at])),
    );
    counts.extend(Reject::ALL.map(|reason| {
        counter("datagrams_rejected_total", reason.as_str(), move |s, _| s.rejected[reason as usize])
    }));
    counts.extend(
        SendErrorKind::ALL.map(|kind| {
            counter("send_errors_total", kind.as_str(), move |s, _| s.send_errors[kind as usize])
        }),
    );
    counts
}

impl Exporter {
    /// An exporter whose series are all there, at zero.
    pub fn new() -> Exporter {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(RTT.to_owned()), &RTT_BUCKETS)
            .expect("there are buckets")
            .build_recorder();
        with_local_recorder(&recorder, || {
            let rtt = family(RTT);
            metrics::describe_histogram!(rtt.name, rtt.unit, rtt.help);
            Exporter { handle: recorder.handle(), counts: counters(), rtt: metrics::histogram!(RTT) }
        })
    }

    /// Takes round-trip times; to be called from the detector's loop.
    pub fn rtt_recorder(&self) -> Box<dyn FnMut(Duration) + Send> {
        let (rtt, handle, mut samples) = (self.rtt.clone(), self.handle.clone(), 0);
        Box::new(move |time| {
            rtt.record(time.as_secs_f64());
            samples += 1;
            if samples == UPKEEP {
                samples = 0;
                handle.run_upkeep();
            }
        })
    }

    /// The whole exposition text. `wall`: seconds since 1970 of a core time.
    pub fn render(&self, snapshot: &Snapshot, extra: &Extra, wall: &dyn Fn(Time) -> f64) -> String {
        for (counter, read) in &self.counts {
            counter.absolute(read(&snapshot.stats, extra));
        }
        self.handle.run_upkeep();
        let mut text = Text(self.handle.render());
        text.cluster(snapshot, extra);
        process::write(&mut text);
        if extra.peers {
            text.peers(snapshot, extra.matrix, wall);
        }
        if extra.matrix {
            text.matrix(snapshot, wall);
        }
        text.0
    }
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
