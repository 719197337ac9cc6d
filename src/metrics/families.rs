//! The table of every family: name, type, unit, help and labels come from here and nowhere else.

use metrics::Unit;

/// What a family measures, in the words of the exposition format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One family.
#[derive(Debug)]
pub(super) struct Family {
    /// With its prefix.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) unit: Unit,
    pub(super) help: &'static str,
    /// In the order in which they are written.
    pub(super) labels: &'static [&'static str],
}

/// The family called `lastseen_` and `name`, or `name` itself.
pub(super) fn family(name: &str) -> &'static Family {
    let is_called = |f: &&Family| f.name == name || f.name.strip_prefix("lastseen_") == Some(name);
    FAMILIES.iter().find(is_called).expect("every family that is written is in the table; a test renders all")
}

macro_rules! families {
    ($($name:literal $kind:ident $unit:ident [$($label:literal),*] $help:literal)*) => {
        /// All families, in the order of the contract.
        pub(super) static FAMILIES: &[Family] = &[$(Family {
            name: $name,
            kind: Kind::$kind,
            unit: Unit::$unit,
            help: $help,
            labels: &[$($label),*],
        }),*];
    };
}

families! {
    "lastseen_build_info" Gauge Count ["version", "revision"] "Always 1."
    "lastseen_node_info" Gauge Count ["server_id", "cluster_name"]
        "Always 1; joins the scrape target to the peer label of others."
    "lastseen_cluster_nodes" Gauge Count ["status"]
        "Nodes of the roster, this one included, by status as seen here."
    "lastseen_cluster_verdicts" Gauge Count ["verdict"] "Peers by verdict as seen here."
    "lastseen_cluster_degraded" Gauge Count [] "1 if some node is suspected or down and that is an alarm."
    "lastseen_cluster_quorum_available" Gauge Count [] "1 if more than half of all nodes are proven."
    "lastseen_cluster_quorum_guard" Gauge Count []
        "1 while this node holds the quorum guard: only then what acts may act here."
    "lastseen_cluster_migrations" Gauge Count [] "Migrations that are announced and not over."
    "lastseen_service_instances" Gauge Count ["name", "state"]
        "Instances of the service by state as seen here; unreachable: on nodes that are down."
    "lastseen_cluster_mass_loss" Gauge Count []
        "1 if many peers were lost at once, until half of them are back or five minutes pass."
    "lastseen_self_health" Gauge Count ["state"] "1 for the state of this node, 0 for the others."
    "lastseen_secure" Gauge Count [] "1 if a cluster key is configured."
    "lastseen_insecure" Gauge Count [] "1 if datagrams that anybody can make, without a cluster key, are accepted."
    "lastseen_key_peers" Gauge Count ["key"] "Observed peers whose newest datagram used this key."
    "lastseen_observed_peers" Gauge Count [] "Peers that this node observes."
    "lastseen_unresolved_peers" Gauge Count [] "Peers whose name does not resolve."
    "lastseen_roster_hash" Gauge Count [] "Hash of the roster, 48 bits; equal on all nodes."
    "lastseen_config_hash" Gauge Count [] "Hash of the settings that must agree, 48 bits; equal on all nodes."
    "lastseen_config_last_reload_successful" Gauge Count []
        "1 if the last reading of the configuration succeeded."
    "lastseen_config_last_reload_success_timestamp_seconds" Gauge Seconds []
        "When the configuration was last read with success, in seconds since 1970."
    "lastseen_discovery_failures_total" Counter Count ["source"] "Failed look-ups of roster sources."
    "lastseen_drain_end_timestamp_seconds" Gauge Seconds []
        "When the drain of this node ends, in seconds since 1970; 0 if it does not drain."
    "lastseen_heartbeats_sent_total" Counter Count [] "Heartbeats begun by a ping or hello of this node."
    "lastseen_heartbeats_missed_total" Counter Count [] "Heartbeats that timed out."
    "lastseen_heartbeat_retries_total" Counter Count [] "Tries of a heartbeat after the first."
    "lastseen_relays_total" Counter Count ["result"]
        "Questions to other nodes about a silent peer, by what became of them."
    "lastseen_transitions_total" Counter Count ["to"] "Changes of a peer's status as seen here."
    "lastseen_restarts_total" Counter Count [] "New runs of peers."
    "lastseen_false_downs_total" Counter Count []
        "Downs whose peer came back as the same run: wrong, or a cut."
    "lastseen_syncs_total" Counter Count []
        "Parts of the table of records that differed from a neighbour's for a while and were synced."
    "lastseen_datagrams_received_total" Counter Count [] "Datagrams received."
    "lastseen_datagrams_sent_total" Counter Count [] "Datagrams sent."
    "lastseen_received_bytes_total" Counter Bytes [] "UDP payload received, in bytes."
    "lastseen_sent_bytes_total" Counter Bytes [] "UDP payload sent, in bytes."
    "lastseen_datagrams_rejected_total" Counter Count ["reason"]
        "Datagrams rejected, by the check that failed."
    "lastseen_send_errors_total" Counter Count ["kind"] "Errors of datagrams sent, by kind."
    "lastseen_socket_drops_total" Counter Count []
        "Datagrams that the kernel dropped from the receive queue."
    "lastseen_socket_filtered_total" Counter Count []
        "Datagrams that the kernel kept out of the receive queue while it overflowed: not from a peer's address, or under no key of ours."
    "lastseen_stalls_total" Counter Count [] "Times the detector's loop woke later than planned."
    "lastseen_stall_seconds_total" Counter Seconds []
        "Time by which the detector's loop woke late, in seconds."
    "lastseen_log_lines_suppressed_total" Counter Count [] "Log lines folded into others."
    "lastseen_events_dropped_total" Counter Count [] "Events lost: too many at once, or a reader too slow."
    "lastseen_hooks_total" Counter Count ["result"]
        "Calls of hooks, by what became of them; held: an event that was waited for and became no call."
    "lastseen_rtt_seconds" Histogram Seconds [] "Round-trip times to all observed peers, in seconds."
    "process_cpu_seconds_total" Counter Seconds [] "User and system CPU time, in seconds."
    "process_open_fds" Gauge Count [] "Open file descriptors."
    "process_max_fds" Gauge Count [] "Most file descriptors."
    "process_virtual_memory_bytes" Gauge Bytes [] "Virtual memory, in bytes."
    "process_resident_memory_bytes" Gauge Bytes [] "Resident memory, in bytes."
    "process_start_time_seconds" Gauge Seconds [] "Start of the process, in seconds since 1970."
    "lastseen_peer_info" Gauge Count ["peer", "address"] "Always 1; with the labels of the peer, each as label_*."
    "lastseen_peer_status" Gauge Count ["peer", "status"] "1 for the status that holds, 0 for the others."
    "lastseen_peer_verdict" Gauge Count ["peer", "verdict"] "1 for the verdict that holds, 0 for the others."
    "lastseen_peer_observers" Gauge Count ["peer", "says"] "Observers of the peer, by their newest row."
    "lastseen_peer_link_up" Gauge Count ["peer"] "1 unless the link is known to be cut."
    "lastseen_peer_last_seen_timestamp_seconds" Gauge Seconds ["peer"]
        "The newest proof of life, in seconds since 1970; NaN if never heard."
    "lastseen_peer_missed_heartbeats" Gauge Count ["peer"] "Heartbeats missed in a row."
    "lastseen_peer_rtt_seconds" Gauge Seconds ["peer"]
        "Smoothed round-trip time, in seconds; NaN if not measured yet."
    "lastseen_peer_loss_ratio" Gauge Count ["peer", "direction"]
        "Share lost of the last 64 datagrams received (rx) or sent (tx); NaN if not measured yet."
    "lastseen_peer_received_bytes_total" Counter Bytes ["peer"]
        "Authentic UDP payload from the peer, in bytes."
    "lastseen_peer_sent_bytes_total" Counter Bytes ["peer"] "UDP payload sent to the peer, in bytes."
    "lastseen_peer_restarts_total" Counter Count ["peer"] "New runs of the peer."
    "lastseen_peer_false_downs_total" Counter Count ["peer"] "Downs of the peer that were wrong, or a cut."
    "lastseen_peer_transitions_total" Counter Count ["peer", "to"]
        "Changes of the peer's status as seen here."
    "lastseen_matrix_link_up" Gauge Count ["observer", "peer"]
        "0 if the observer says that its link to the peer is cut, else 1; NaN if it has not heard the peer yet."
    "lastseen_matrix_alive" Gauge Count ["observer", "peer"]
        "0 if the observer says that the peer is down, else 1; NaN if it has not heard the peer yet."
    "lastseen_matrix_row_timestamp_seconds" Gauge Seconds ["observer"]
        "The observer's newest word, in seconds since 1970; NaN if there is none that can be believed."
}
