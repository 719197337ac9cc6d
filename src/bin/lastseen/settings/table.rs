//! The table of settings: name, type, default and text of each, once. From it come the struct that the daemon
//! reads, the keys that a file and the environment may hold, and the default file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lastseen::proto::{Labels, Observers};

use super::dns_server::DnsServer;
use super::listed::Listed;
use super::listen::Listen;
use super::mode::Mode;
use super::peer_file::PeerFile;
use super::raw::{Detail, Fault, Level, LogFormat, Raw, Setting, Source, Transitions};
use super::share::Share;

/// One setting.
#[derive(Debug)]
pub(crate) struct Key {
    /// Section and name: `http.listen`.
    pub(crate) path: &'static str,
    /// The default as TOML.
    pub(crate) default: &'static str,
    /// What it is, one sentence or two a line.
    pub(crate) help: &'static [&'static str],
}

impl Key {
    /// Its section, empty at the top of the file, and its name there.
    pub(crate) fn section_and_name(&self) -> (&'static str, &'static str) {
        self.path.split_once('.').unwrap_or(("", self.path))
    }

    /// What it is, in one line.
    pub(crate) fn text(&self) -> String {
        self.help.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }
}

/// Every value with its source, by key.
pub(crate) type Sourced = BTreeMap<&'static str, (Raw, Source)>;

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty, $path:literal = $default:literal;)+) => {
        /// All settings, read as their types.
        #[derive(Clone, Debug)]
        pub(crate) struct Values { $($(#[doc = $doc])+ pub(crate) $field: $type,)+ }

        /// The settings in the order of the default file.
        pub(crate) const KEYS: &[Key] = &[$(Key { path: $path, default: $default, help: &[$($doc),+] },)+];

        impl Values {
            /// Reads every value; all that are wrong are told.
            pub(crate) fn read(sourced: &Sourced) -> Result<Values, Vec<Fault>> {
                let mut faults = Vec::new();
                $(let $field: Option<$type> = read_one(sourced, $path, &mut faults);)+
                match ($($field,)+) {
                    ($(Some($field),)+) => Ok(Values { $($field,)+ }),
                    _ => Err(faults),
                }
            }

            /// The values as TOML, by key.
            pub(crate) fn show(&self) -> Vec<(&'static str, String)> {
                vec![$(($path, self.$field.show()),)+]
            }
        }
    };
}

fn read_one<T: Setting>(sourced: &Sourced, path: &'static str, faults: &mut Vec<Fault>) -> Option<T> {
    let (raw, source) = sourced.get(path).expect("the default file holds every key");
    T::read(raw).map_err(|text| faults.push(Fault::at(source, format!("{path}: {text}")))).ok()
}

// Sections stand together and top-level keys first: the default file is printed in this order.
settings! {
    /// This node's own id, 1 to 64 bytes. Empty: the id of the entry of static_peers that has one of this
    /// machine's addresses, else the host name up to the first dot.
    server_id: Option<String>, "server_id" = r#""""#;
    /// The cluster's name, equal on all nodes. Nodes of another cluster do not understand each other.
    cluster: String, "cluster" = r#""default""#;
    /// UDP address to listen on; [::] serves IPv6 and IPv4.
    listen_address: SocketAddr, "listen_address" = r#""[::]:5278""#;
    /// The address under which the others reach this node. Only to find itself in static_peers behind NAT.
    advertise_address: Option<SocketAddr>, "advertise_address" = r#""""#;
    /// All nodes: "ID@HOST:PORT" or "HOST:PORT"; IPv6 in brackets, the port is 5278 if absent. The entry that
    /// is this node itself is left out, so one file serves the whole fleet. "dns+a://NAME:PORT" stands for a node at
    /// each address of a name, "dns+srv://NAME" for one at the target and port of each SRV record.
    static_peers: Vec<Listed>, "static_peers" = "[]";
    /// Files with more nodes, in the JSON or YAML of Prometheus' file_sd; "*" in a file's name stands for anything. A
    /// node has its id as "ID@HOST:PORT", or as the label server_id of a group of one. Changes count at once.
    peer_files: Vec<PeerFile>, "peer_files" = "[]";
    /// Names are looked up again so often; a failed look-up is tried again sooner. 1s to 1d.
    refresh_interval: Duration, "refresh_interval" = r#""30s""#;
    /// A node that was found by "dns+" stays for so long after answers have ceased to name it. Where nobody
    /// answers, it stays.
    forget_after: Duration, "forget_after" = r#""24h""#;
    /// DNS servers, "ADDRESS" or "ADDRESS:PORT", that are asked for all names of nodes. Empty: the system's
    /// resolver, and for SRV records those of /etc/resolv.conf.
    dns_servers: Vec<DnsServer>, "dns_servers" = "[]";
    /// Read this file and the keys' anew when one of them changes, as at SIGHUP.
    reload_on_change: bool, "reload_on_change" = "false";
    /// Each pair of nodes exchanges one heartbeat so often. Shorter detects faster and costs more. 10ms to 1h.
    heartbeat_interval: Duration, "heartbeat_interval" = r#""1s""#;
    /// A heartbeat that is not answered for so long is a miss. At most heartbeat_interval.
    heartbeat_timeout: Duration, "heartbeat_timeout" = r#""500ms""#;
    /// So many misses in a row make a peer suspected. At least 1, less than down_after.
    suspect_after: u32, "suspect_after" = "2";
    /// So many misses in a row make a peer down. 2 to 32.
    down_after: u32, "down_after" = "5";
    /// The longest spacing between pings to a peer that is down, 2 to 255 intervals. Empty: 10 intervals.
    max_backoff: Option<Duration>, "max_backoff" = r#""""#;
    /// How long a datagram may wait unread while there is much to do, so that many share a wake-up; 0s: not at all.
    /// At most, and where it is empty, a tenth of heartbeat_timeout and 50ms.
    laziness: Option<Duration>, "laziness" = r#""""#;
    /// How many nodes exchange heartbeats with one node: auto (all up to 64 peers, 16 above), all, or an even number
    /// from 4 to 64. Equal on all nodes.
    observers: Observers, "observers" = r#""auto""#;
    /// A node that was stopped on purpose raises no alarm for so long.
    leave_grace: Duration, "leave_grace" = r#""10m""#;
    /// When more than this share of the peers, and at least three, are lost within down_after intervals, that is told
    /// as a mass loss: what they share is at fault. It changes no status.
    mass_loss: Share, "mass_loss" = r#""20%""#;
    /// The directory where the node keeps its state across restarts: a drain, and the rosters for the quorum guard.
    /// Empty: nothing is kept, and the node neither holds the guard nor counts for the guard of others.
    state_dir: Option<PathBuf>, "state_dir" = r#""""#;
    /// What this node is for, where it stands, and the like, shown with it everywhere: { rack = "r7", role = "db" }.
    /// At most 16 labels of 512 bytes together. `lastseen label` lays others over them until the daemon ends.
    labels: Labels, "labels" = "{}";
    /// Files with the cluster's keys, at most four, not readable by others; made by `lastseen keygen`. The
    /// first one seals, all are accepted.
    key_files: Vec<PathBuf>, "security.key_files" = "[]";
    /// Run without a key although not only on loopback: who reaches the port can then forge heartbeats.
    insecure: bool, "security.insecure" = "false";
    /// text or json.
    log_format: LogFormat, "log.format" = r#""text""#;
    /// error, warn, info, debug or trace.
    log_level: Level, "log.level" = r#""info""#;
    /// Whose changes of status are logged: observed, all or none.
    log_transitions: Transitions, "log.transitions" = r#""observed""#;
    /// The socket for the commands that change the daemon (reload, drain, publish, leave, ...). Empty: none. Where the
    /// directory of the default is missing the daemon runs without.
    control_socket: Option<PathBuf>, "control.socket" = r#""/run/lastseen/lastseen.sock""#;
    /// The socket's mode: who may write to it may order.
    control_mode: Mode, "control.mode" = r#""0660""#;
    /// For how long `lastseen drain` drains when it is not told.
    drain_default: Duration, "drain.default" = r#""1h""#;
    /// The longest drain that may be ordered; at most 7d, since nobody counts a drain for longer.
    drain_max: Duration, "drain.max" = r#""24h""#;
    /// How long clients of this node's services are given to leave when it drains. 1s to 1d.
    drain_move_within: Duration, "drain.move_within" = r#""1m""#;
    /// Addresses of the HTTP listener (status, events, metrics); [] switches it off. A name of this machine in place
    /// of an address lets it be called by that name too.
    http_listen: Vec<Listen>, "http.listen" = r#"["127.0.0.1:5279"]"#;
    /// Addresses that serve only /metrics, /livez, /readyz and /quorumz, for scraping from elsewhere.
    http_metrics_listen: Vec<Listen>, "http.metrics_listen" = "[]";
    /// So many connections at once, at least 1. When all are taken, one that asks nothing gives way to a newcomer.
    http_max_connections: u32, "http.max_connections" = "64";
    /// A request that is not complete for so long is given up, and a connection that asks nothing for so long.
    http_timeout: Duration, "http.timeout" = r#""10s""#;
    /// summary (the node's own families) or peers (and some 35 series per peer).
    metrics_detail: Detail, "metrics.detail" = r#""peers""#;
}

/// The default file, with comments.
pub(crate) fn default_file() -> String {
    let mut out = String::from(
        "# lastseen: /etc/lastseen/lastseen.toml. Every value below is the default; keep only what you change.\n\
         # The environment overrides the file (LASTSEEN_HEARTBEAT_INTERVAL, LASTSEEN_HTTP__LISTEN), flags both.\n\
         # Durations are a number and a unit: \"500ms\", \"1s\", \"10m\", \"1h\".\n",
    );
    let mut section = "";
    for key in KEYS {
        let (head, name) = key.section_and_name();
        out.push('\n');
        if head != section {
            section = head;
            out.push_str(&format!("[{head}]\n"));
        }
        for line in key.help {
            out.push_str(&format!("#{line}\n"));
        }
        out.push_str(&format!("{name} = {}\n", key.default));
    }
    out + super::services::HELP + super::hooks::HELP
}
