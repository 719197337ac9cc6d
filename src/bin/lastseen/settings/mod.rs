//! Settings: defaults, then the file, then the environment, then flags; read as their types and checked.

mod dns_server;
pub(crate) mod duration;
pub(crate) mod file;
mod hooks;
mod identity;
mod keys;
mod labels;
mod listed;
mod listen;
mod mode;
pub(crate) mod peer_file;
mod plan;
mod raw;
mod report;
mod roster;
mod section;
mod services;
mod share;
pub(crate) mod sources;
pub(crate) mod table;
mod word;

use std::path::{Path, PathBuf};
use std::time::Duration;

use lastseen::proto::{Drain, Keyring, Migration, PeerConfig, SecretKey};
use tracing::warn;

use crate::args::Run;

pub(crate) use hooks::{Action, Hook, Needs, read as read_hooks};
pub(crate) use identity::{Identity, Resolved, Told};
pub(crate) use listed::Listed;
pub(crate) use listen::Listen;
pub(crate) use peer_file::PeerFile;
pub(crate) use plan::{RosterPlan, STATIC_PEERS};
pub(crate) use raw::{Detail, Fault, Level, LogFormat, Source, Transitions};
pub(crate) use report::{Report, series_of};
pub(crate) use roster::{Entry, Host, check_id};
pub(crate) use services::{Check, Local, Offered, Probe, read as read_services};
pub(crate) use table::{Sourced, Values, default_file};
pub(crate) use word::{Standing, Word};

/// What the HTTP listener is told.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    /// Addresses that serve everything.
    pub(crate) listen: Vec<Listen>,
    /// Addresses that serve only `/metrics`, `/livez`, `/readyz`, `/quorumz`.
    pub(crate) metrics_listen: Vec<Listen>,
    /// Connections at once.
    pub(crate) max_connections: usize,
    /// For a request to be complete.
    pub(crate) timeout: Duration,
}

/// What the control socket is told.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    /// Where it is, if there shall be one.
    pub(crate) socket: Option<PathBuf>,
    /// Its mode.
    pub(crate) mode: u32,
    /// Whether the operator named it.
    pub(crate) is_named: bool,
}

/// Settings that were read and hold together.
pub(crate) struct Settings {
    /// Every value.
    pub(crate) values: Values,
    /// Where each came from.
    pub(crate) sources: Sourced,
    /// The cluster's keys.
    pub(crate) keys: Vec<SecretKey>,
    /// What is called when something happens.
    pub(crate) hooks: Vec<Hook>,
    /// What this node offers.
    pub(crate) services: Vec<Offered>,
    /// What is odd, but no error.
    pub(crate) warnings: Vec<String>,
}

/// Reads all sources: the file, the environment, and the flags of `run`.
///
/// # Errors
/// All that is wrong.
pub(crate) fn load(config: Option<&Path>, run: &Run) -> Result<Settings, Vec<Fault>> {
    let mut sources = defaults();
    let mut faults = file::read(config, &mut sources);
    let warnings = sources::environment(std::env::vars_os(), &mut sources);
    sources::flags(run, &mut sources);
    let hooks = read_hooks(&sources["hooks"]).and_then(|hooks| {
        hooks::check_programs(&hooks, &sources["hooks"].1)?;
        Ok(hooks)
    });
    let hooks = hooks.map_err(|wrong| faults.extend(wrong)).unwrap_or_default();
    let services = read_services(&sources["services"]).and_then(|services| {
        services::check_programs(&services, &sources["services"].1)?;
        Ok(services)
    });
    let services = services.map_err(|wrong| faults.extend(wrong)).unwrap_or_default();
    let Some(values) = read(&sources, &mut faults) else { return Err(faults) };
    match keys::read(&values, &sources["security.key_files"].1) {
        Ok(keys) if faults.is_empty() => Ok(Settings { values, sources, keys, hooks, services, warnings }),
        Ok(_) => Err(faults),
        Err(wrong) => {
            faults.extend(wrong);
            Err(faults)
        }
    }
}

/// Reads every value, and checks all but the key files; what is wrong is added to `faults`. `None`: a value has not its type.
pub(crate) fn read(sources: &Sourced, faults: &mut Vec<Fault>) -> Option<Values> {
    let values = Values::read(sources).map_err(|wrong| faults.extend(wrong)).ok()?;
    faults.extend(ranges(&values, sources));
    faults.extend(check_refresh(&values, sources));
    faults.extend(listed::check_duplicates(&values.static_peers, &sources["static_peers"].1));
    if faults.is_empty() {
        // Only then: a misspelt key_files would look like none.
        faults.extend(keys::check_needed(&values));
    }
    Some(values)
}

/// The defaults: the default file is read like any other.
pub(crate) fn defaults() -> Sourced {
    let mut sources = Sourced::new();
    let faults = file::parse(&default_file(), |_| Source::Default, &mut sources);
    for name in section::NAMES {
        sources.insert(name, (raw::Raw::Sections(Vec::new()), Source::Default));
    }
    debug_assert_eq!(faults, Vec::new());
    sources
}

/// Nobody is asked all the time.
fn check_refresh(v: &Values, sources: &Sourced) -> Option<Fault> {
    let fine = (Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&v.refresh_interval);
    let text = || {
        format!("refresh_interval: {} is out of range; right is 1s to 1d", duration::show(v.refresh_interval))
    };
    (!fine).then(|| Fault::at(&sources["refresh_interval"].1, text()))
}

/// What holds of the heartbeats' settings: whether it does, of which, and what would be right.
fn rhythm(v: &Values) -> Vec<(bool, &'static str, String)> {
    let (interval, timeout, show) = (v.heartbeat_interval, v.heartbeat_timeout, duration::show);
    let (spacings, rest) = (interval * 2..=interval * 255, PeerConfig::longest_laziness(timeout));
    vec![
        (
            (Duration::from_millis(10)..=Duration::from_secs(3600)).contains(&interval),
            "heartbeat_interval",
            format!("{} is out of range; right is from 10ms to 1h", show(interval)),
        ),
        (
            !timeout.is_zero() && timeout <= interval,
            "heartbeat_timeout",
            format!(
                "{} does not fit; right is more than 0 and at most heartbeat_interval, {}",
                show(timeout),
                show(interval)
            ),
        ),
        (
            (2..=32).contains(&v.down_after),
            "down_after",
            format!("{} is out of range; right is 2 to 32", v.down_after),
        ),
        (
            (1..v.down_after.max(2)).contains(&v.suspect_after),
            "suspect_after",
            format!(
                "{} does not fit; right is at least 1 and less than down_after, {}",
                v.suspect_after, v.down_after
            ),
        ),
        (
            v.max_backoff.is_none_or(|longest| spacings.contains(&longest)),
            "max_backoff",
            format!(
                "{} does not fit; right is 2 to 255 intervals, {} to {}",
                show(v.max_backoff.unwrap_or_default()),
                show(*spacings.start()),
                show(*spacings.end())
            ),
        ),
        (
            v.laziness.is_none_or(|told| told <= rest),
            "laziness",
            format!(
                "{} is too long; right is at most a tenth of heartbeat_timeout and 50ms, {}",
                show(v.laziness.unwrap_or_default()),
                show(rest)
            ),
        ),
    ]
}

/// Rules about single values and between them. The core checks again; here the source is known.
fn ranges(v: &Values, sources: &Sourced) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut need = |fine: bool, path: &str, text: String| {
        if !fine {
            faults.push(Fault::at(&sources[path].1, format!("{path}: {text}")));
        }
    };
    if let Some(id) = &v.server_id {
        let checked = check_id(id);
        need(checked.is_ok(), "server_id", checked.err().unwrap_or_default());
    }
    let cluster =
        check_id(&v.cluster).map_err(|e| e.replace("an id", "a name").replace("the id", "the name"));
    need(cluster.is_ok(), "cluster", cluster.err().unwrap_or_default());
    for (fine, path, text) in rhythm(v) {
        need(fine, path, text);
    }
    need(
        !v.leave_grace.is_zero(),
        "leave_grace",
        "0s is too short; a restart takes a while, the default is 10m".to_owned(),
    );
    need(
        v.mass_loss.0 > 0.0,
        "mass_loss",
        "0% would call every loss a mass loss; right is more than 0% to 100%, which switches it off"
            .to_owned(),
    );
    need(
        v.http_max_connections >= 1,
        "http.max_connections",
        "0 serves nobody; right is at least 1".to_owned(),
    );
    need(!v.http_timeout.is_zero(), "http.timeout", "0s is too short; the default is 10s".to_owned());
    drains(v, need);
    faults
}

/// How long drains may be.
fn drains(v: &Values, mut need: impl FnMut(bool, &str, String)) {
    let (default, max, show) = (v.drain_default, v.drain_max, duration::show);
    need(
        !max.is_zero() && max <= Drain::LONGEST,
        "drain.max",
        format!("{} does not fit; right is more than 0 to {}", show(max), show(Drain::LONGEST)),
    );
    need(
        !default.is_zero() && default <= max,
        "drain.default",
        format!("{} does not fit; right is more than 0 and at most drain.max, {}", show(default), show(max)),
    );
    let (within, most) = (v.drain_move_within, Migration::LONGEST);
    need(
        (Duration::from_secs(1)..=most).contains(&within),
        "drain.move_within",
        format!("{} does not fit; right is 1s to {}", show(within), show(most)),
    );
}

impl Settings {
    /// What the HTTP listener is told.
    pub(crate) fn http(&self) -> Http {
        let v = &self.values;
        Http {
            listen: v.http_listen.clone(),
            metrics_listen: v.http_metrics_listen.clone(),
            max_connections: v.http_max_connections as usize,
            timeout: v.http_timeout,
        }
    }

    /// What the control socket is told.
    pub(crate) fn control(&self) -> Control {
        Control {
            socket: self.values.control_socket.clone(),
            mode: self.values.control_mode.0,
            is_named: self.sources["control.socket"].1 != Source::Default,
        }
    }

    /// Where the roster comes from. It may be long, and is taken out of these settings.
    pub(crate) fn take_plan(&mut self) -> RosterPlan {
        let plan = self.plan();
        self.sources.remove("static_peers");
        self.values.static_peers = Vec::new();
        plan
    }

    /// Where the roster comes from.
    pub(crate) fn plan(&self) -> RosterPlan {
        let v = &self.values;
        RosterPlan {
            listed: v.static_peers.clone(),
            files: v.peer_files.clone(),
            refresh: v.refresh_interval,
            forget_after: v.forget_after,
            servers: v.dns_servers.iter().map(|server| server.0).collect(),
            only_loopback: v.key_files.is_empty() && !v.insecure,
        }
    }

    /// What is said of this node itself.
    pub(crate) fn identity(&self) -> Identity {
        let v = &self.values;
        Identity {
            server_id: v.server_id.clone(),
            listen: v.listen_address,
            advertise: v.advertise_address,
            settled: None,
        }
    }

    /// The keys of the wire in a cluster of that name. Without any, and with `insecure`, the key that the cluster's name gives is used. They are wiped
    /// from these settings.
    ///
    /// # Errors
    /// Two files with one key, or with keys of one key id.
    pub(crate) fn keyring(&mut self, cluster: &str) -> Result<Keyring, String> {
        let keys = std::mem::take(&mut self.keys);
        if self.values.insecure || keys.is_empty() {
            let why = if self.values.insecure { "insecure = true" } else { "no cluster key" };
            warn!(
                "{why}: datagrams without a cluster key are accepted, anybody who reaches the port can forge them"
            );
        }
        Keyring::new(cluster, &keys, self.values.insecure).map_err(|e| e.to_string())
    }

    /// The core's configuration for a node with this roster.
    ///
    /// # Errors
    /// The id contradicts the roster, or a value is out of the core's range.
    pub(crate) fn peer_config(&self, roster: &Resolved) -> Result<PeerConfig, Fault> {
        let v = &self.values;
        let source = &self.sources["server_id"].1;
        let Told { server_id, own_name, peers } =
            self.identity().split(roster).map_err(|text| Fault::at(source, text))?;
        check_id(&server_id).map_err(|e| {
            Fault::at(
                source,
                format!("the host name \"{server_id}\" cannot be this node's id: {e}; set server_id"),
            )
        })?;
        let mut config = PeerConfig::new(&server_id, &v.cluster, v.listen_address, peers);
        config.own_name = own_name;
        config.observers = v.observers;
        config.heartbeat_interval = v.heartbeat_interval;
        config.heartbeat_timeout = v.heartbeat_timeout;
        config.suspect_after = v.suspect_after;
        config.down_after = v.down_after;
        config.max_backoff = v.max_backoff.unwrap_or(v.heartbeat_interval * 10);
        config.laziness = v.laziness;
        config.leave_grace = v.leave_grace;
        config.mass_loss = v.mass_loss.0;
        config.labels = v.labels.clone();
        config.validate().map_err(|e| Fault::general(e.to_string()))?;
        Ok(config)
    }
}

/// The one of `words` that `text` most likely meant: at most a third of it differs, or one is short for the other.
pub(crate) fn nearest<'a>(text: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let text = text.to_lowercase();
    let distance = |word: &str| strsim::damerau_levenshtein(&text, &word.to_lowercase());
    let (word, differs) = words.into_iter().map(|w| (w, distance(w))).min_by_key(|(_, d)| *d)?;
    let is_short = text.len() >= 3 && (word.starts_with(&text) || text.starts_with(word));
    (differs <= 1 + word.len() / 3 || is_short).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `text` as a file and reads every value.
    fn read(text: &str) -> Result<Values, String> {
        let mut sources = defaults();
        let mut faults = file::parse(text, |line| Source::File { path: "f".into(), line }, &mut sources);
        let values = Values::read(&sources).map_err(|wrong| faults.extend(wrong)).ok();
        faults.extend(values.iter().flat_map(|v| ranges(v, &sources)));
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        values.filter(|_| told.is_empty()).ok_or(told.join("\n"))
    }

    #[test]
    fn the_default_file_holds_the_defaults_of_the_core() {
        let v = read("").unwrap();
        let core = PeerConfig::new("a", &v.cluster, v.listen_address, Vec::new());
        assert_eq!(
            (v.heartbeat_interval, v.heartbeat_timeout),
            (core.heartbeat_interval, core.heartbeat_timeout)
        );
        assert_eq!(
            (v.suspect_after, v.down_after, v.leave_grace, v.mass_loss.0),
            (core.suspect_after, core.down_after, core.leave_grace, core.mass_loss)
        );
        assert_eq!(core.max_backoff, v.heartbeat_interval * 10);
        assert_eq!(read(&default_file()).unwrap().show(), v.show());
        assert!(default_file().lines().all(|l| l.len() <= 120));
    }

    #[test]
    fn faults_name_line_culprit_and_what_is_right() {
        for (text, told) in [
            (
                "\nheartbeat_intervall = \"1s\"",
                "f:2: unknown key \"heartbeat_intervall\"; did you mean \"heartbeat_interval\"?",
            ),
            ("listen = []", "f:1: unknown key \"listen\"; did you mean \"listen\" in the section [http]?"),
            (
                "[log]\ncluster = \"x\"",
                "f:2: unknown key \"log.cluster\"; did you mean \"cluster\" at the top, before any section?",
            ),
            ("[http]\nlisten_adress = 1", "f:2: unknown key \"http.listen_adress\""),
            ("[htp]", "f:1: unknown section [htp]; did you mean [http]?"),
            ("http = 1", "f:1: http is a section; write [http] and its keys below"),
            ("qqqq = 1", "f:1: unknown key \"qqqq\"; `lastseen config default` prints all there are"),
            (
                "heartbeat_interval = \"1 sec\"",
                "f:1: heartbeat_interval: \"1 sec\" is not a duration; write \"1s\"",
            ),
            (
                "heartbeat_interval = 1",
                "f:1: heartbeat_interval: 1 is not a duration; write it as a string with a unit, like \"1s\"",
            ),
            ("static_peers = \"a:1\"", "f:1: static_peers: \"a:1\" is not a list; write [\"a:1\"]"),
            ("suspect_after = \"2\"", "f:1: suspect_after: \"2\" is not a whole number, like 5"),
            (
                "suspect_after = 5",
                "f:1: suspect_after: 5 does not fit; right is at least 1 and less than down_after, 5",
            ),
            ("mass_loss = \"0%\"", "f:1: mass_loss: 0% would call every loss a mass loss"),
            ("mass_loss = 20", "f:1: mass_loss: 20 is not a share; write \"20%\""),
            ("heartbeat_timeout = \"2s\"", "f:1: heartbeat_timeout: 2s does not fit"),
            (
                "listen_address = \"0.0.0.0\"",
                "f:1: listen_address: \"0.0.0.0\" is not an IP address with a port; write \"0.0.0.0:5278\"",
            ),
            (
                "[log]\nlevel = \"warning\"",
                "f:2: log.level: \"warning\" is none of error, warn, info, debug, trace; did you mean \"warn\"?",
            ),
            ("[security]\ninsecure = \"yes\"", "f:2: security.insecure: \"yes\" is neither true nor false"),
            ("a = ", "f:1: "),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(told), "{text}\n{error}");
        }
    }

    #[test]
    fn strings_are_shown_as_toml_and_json_read_them() {
        let text = "cluster = \"a\u{200b}b\"\n[security]\nkey_files = [\"/k\\u0001\\\"\\\\\u{301}\"]";
        let values = read(text).unwrap();
        let shown = values.show();
        let of = |path| &shown.iter().find(|(other, _)| *other == path).unwrap().1;
        let (cluster, files) = (of("cluster"), of("security.key_files"));
        let again = read(&format!("cluster = {cluster}\n[security]\nkey_files = {files}")).unwrap();
        assert_eq!((again.cluster, again.key_files), (values.cluster, values.key_files.clone()));
        let json: Vec<std::path::PathBuf> = serde_json::from_str(files).unwrap();
        assert_eq!(json, values.key_files);
    }
}
