//! The command line, as clap reads it. What it accepts is checked further in `settings`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use lastseen::proto::Observers;

use crate::settings::duration;

/// Tells you which of your machines are alive, and whether the fault is the machine, the link, or you.
#[derive(Debug, Parser)]
#[command(name = "lastseen", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon
    Run(Run),
    /// Start a few nodes on loopback and watch them
    Demo(Demo),
    /// Show how this node sees the cluster
    Status(View),
    /// List the peers that are not up
    Peers(Peers),
    /// Show who hears whom, as far as this node can know
    Matrix(View),
    /// Say what is the matter with a peer, and what that rests on
    Explain(Explain),
    /// Show the newest events
    Events(Events),
    /// List the services, or the instances of one
    Services(Services),
    /// Say to which instance of a service a session goes
    Route(Route),
    /// Show which key each peer sends with, and which keys may go
    Keys(View),
    /// Watch the cluster in this terminal: peers, matrix, events
    Top(Top),
    /// Answer as a monitoring plugin: one line and an exit code
    Check(Check),
    /// What a cluster of some size will do and cost, and the cheapest settings for a wish
    Plan(Plan),
    /// Run a scenario in the simulator, or a swarm of random ones
    Sim(Sim),
    /// Make the daemon read its settings anew, and say what came of it
    Reload(Order),
    /// Announce that this node will be away: as long as it drains, its absence raises no alarm
    Drain(Drain),
    /// Call the drain of this node off
    Undrain(Order),
    /// Offer a service on this node, or say something else of it
    Publish(Publish),
    /// Offer a service on this node no longer
    Withdraw(Withdraw),
    /// Set labels of this node, take them away, or show them
    Label(Label),
    /// Announce that the clients of a service are to leave a node
    Migrate(Migrate),
    /// Take this node out of the cluster: its peers are told, raise no alarm, and the daemon ends
    Leave(Order),
    /// Make this node a witness of its roster for the quorum guard, after a change that its members cannot agree on by themselves
    Bootstrap(Bootstrap),
    /// Print a new cluster key
    Keygen,
    /// Print the default configuration, or check a file
    #[command(subcommand)]
    Config(Config),
    /// Print the completion script of a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a directory, for packages
    #[command(hide = true)]
    Man {
        /// Where to
        directory: PathBuf,
    },
}

/// `run`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Run {
    /// Configuration file [default: /etc/lastseen/lastseen.toml, which may be absent]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// This node's own id
    #[arg(long, value_name = "ID")]
    pub(crate) server_id: Option<String>,
    /// UDP address to listen on
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// A peer; may be repeated
    #[arg(long, value_name = "[ID@]HOST:PORT")]
    pub(crate) peer: Vec<String>,
    /// Address of the HTTP listener, or "off"
    #[arg(long, value_name = "ADDR|off")]
    pub(crate) http: Option<String>,
    /// Heartbeat interval
    #[arg(long, value_name = "DURATION")]
    pub(crate) interval: Option<String>,
    /// Heartbeat timeout
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<String>,
    /// End as at SIGTERM when standard input is closed: whoever started it is gone
    #[arg(long, hide = true)]
    pub(crate) until_stdin_closes: bool,
}

/// `demo`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Demo {
    /// How many nodes
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(2..=64))]
    pub(crate) nodes: u16,
    /// Play the story once and exit
    #[arg(long)]
    pub(crate) once: bool,
}

/// `plan`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Plan {
    /// How many nodes
    #[arg(long, value_name = "N")]
    pub(crate) nodes: usize,
    /// Independent loss in each direction, like 2% or 0.02
    #[arg(long, value_name = "P", value_parser = share)]
    pub(crate) loss: f64,
    /// How many observe each node: auto, all, or a number
    #[arg(long, default_value = "auto", value_name = "N")]
    pub(crate) observers: Observers,
    /// Within how long 99 of 100 crashes shall be Down
    #[arg(long, value_name = "D", value_parser = duration::parse)]
    pub(crate) detect: Duration,
    /// Heartbeat interval
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration::parse)]
    pub(crate) interval: Duration,
    /// Heartbeat timeout [default: half of the interval]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) timeout: Option<Duration>,
    /// Misses in a row that make a peer Down
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub(crate) down_after: u32,
    /// Most false Downs in the whole cluster in a day [default: one in a year]
    #[arg(long, default_value_t = 1.0 / 365.0, value_name = "N", hide_default_value = true)]
    pub(crate) false_downs: f64,
    /// Simulate it too, with so many crashes
    #[arg(long, value_name = "CRASHES", num_args = 0..=1, default_missing_value = "20")]
    pub(crate) simulate: Option<u32>,
    /// The seed of the simulation
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A share: `2%` or `0.02`.
fn share(text: &str) -> Result<f64, String> {
    let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |n| (n, 100.0));
    match number.trim().parse::<f64>() {
        Ok(value) if (0.0..1.0).contains(&(value / scale)) => Ok(value / scale),
        _ => Err(format!("\"{text}\" is no share; write 0% to 99.9%, or 0 to 0.999")),
    }
}

/// `sim`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Sim {
    /// A scenario (TOML)
    #[arg(value_name = "FILE", required_unless_present = "swarm")]
    pub(crate) file: Option<PathBuf>,
    /// The run's seed, or the first of a swarm's [default: the seeds that the file names, else 1]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// So many seeds, each with a random scenario of its own
    #[arg(long, value_name = "COUNT", conflicts_with = "file")]
    pub(crate) swarm: Option<u64>,
    /// Write the scenario of the seed to this file instead of running it; with `--swarm 1`
    #[arg(long, value_name = "FILE", requires = "swarm")]
    pub(crate) write: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which running daemon is asked.
#[derive(Args, Clone, Debug)]
pub(crate) struct Daemon {
    /// The daemon's HTTP address
    #[arg(long, value_name = "URL", env = "LASTSEEN_HTTP", default_value = "http://127.0.0.1:5279")]
    pub(crate) http: String,
}

/// `bootstrap`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Bootstrap {
    /// The hash of the present roster. Without it nothing changes: the command prints the
    /// hash, and the members that this node does not hear
    #[arg(long, value_name = "ROSTER_HASH", value_parser = is_hash)]
    pub(crate) confirm: Option<String>,
    /// The daemon to order.
    #[command(flatten)]
    pub(crate) order: Order,
}

/// Parses a roster's hash, as `status` shows it.
pub(crate) fn parse_hash(text: &str) -> Result<u64, String> {
    let is_hash = text.len() == 12 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let parsed = u64::from_str_radix(text, 16).ok().filter(|_| is_hash);
    parsed.ok_or_else(|| {
        format!("{text:?} is not the hash of a roster (12 hexadecimal digits, see `lastseen bootstrap`)")
    })
}

/// The text itself, if it is the hash of a roster.
fn is_hash(text: &str) -> Result<String, String> {
    parse_hash(text).map(|_| text.to_owned())
}

/// `drain`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Drain {
    /// For how long, like 30m [default: that of the daemon's settings, 1h]
    #[arg(value_name = "FOR", value_parser = is_duration)]
    pub(crate) length: Option<String>,
    /// Why: shown wherever the drain is
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// The daemon to order.
    #[command(flatten)]
    pub(crate) order: Order,
}

/// The text itself, if it is a duration.
fn is_duration(text: &str) -> Result<String, String> {
    duration::parse(text).map(|_| text.to_owned())
}

/// `publish`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Publish {
    /// The service's name, the same at every node that offers it
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Where clients reach it [default: as it was; a new one needs it]
    #[arg(value_name = "HOST:PORT")]
    pub(crate) address: Option<String>,
    /// Whether it takes clients; "passing" leaves that to its check, if it has one [default: as it was, or passing]
    #[arg(long, value_name = "STATE", value_parser = ["passing", "draining", "failed"])]
    pub(crate) state: Option<String>,
    /// So many shares of the sessions go to it [default: as it was, or 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) weight: Option<u8>,
    /// Of what it holds: a higher one is newer [default: as it was, or 0]
    #[arg(long, value_name = "N")]
    pub(crate) version: Option<u64>,
    /// What clients are told beside that [default: as it was, or nothing]
    #[arg(long, value_name = "TEXT")]
    pub(crate) payload: Option<String>,
    /// The daemon to order.
    #[command(flatten)]
    pub(crate) order: Order,
}

/// `withdraw`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Withdraw {
    /// The service's name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The daemon to order.
    #[command(flatten)]
    pub(crate) order: Order,
}

/// `label`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Label {
    /// NAME=VALUE sets a label, NAME- takes one away; without any, those in force are shown
    #[arg(value_name = "NAME=VALUE|NAME-", value_parser = label)]
    pub(crate) labels: Vec<(String, Option<String>)>,
    /// The daemon to order.
    #[command(flatten)]
    pub(crate) order: Order,
}

/// `zone=a` sets, `zone-` takes away.
fn label(text: &str) -> Result<(String, Option<String>), String> {
    let set = text.split_once('=').map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
    set.or_else(|| text.strip_suffix('-').map(|name| (name.to_owned(), None)))
        .ok_or_else(|| format!("write {text}=VALUE to set it, or {text}- to take it away"))
}

/// `migrate`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Migrate {
    /// The service's name
    #[arg(value_name = "SERVICE")]
    pub(crate) service: String,
    /// Which node they are to leave [default: this one]
    #[arg(long, value_name = "ID")]
    pub(crate) from: Option<String>,
    /// Where they are to go [default: where routing leads them]
    #[arg(long, value_name = "ID")]
    pub(crate) to: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// How long they have, like 1m [default: that of the daemon's settings, 1m]
    #[arg(long, value_name = "DURATION", value_parser = is_duration)]
    pub(crate) within: Option<String>,
    /// The daemon to order.
    #[command(flatten)]
    pub(crate) order: Order,
}

/// `reload`, `undrain`, `leave`: what changes the daemon.
#[derive(Args, Clone, Debug)]
pub(crate) struct Order {
    /// The daemon's control socket
    #[arg(
        long,
        value_name = "PATH",
        env = "LASTSEEN_CONTROL__SOCKET",
        default_value = "/run/lastseen/lastseen.sock"
    )]
    pub(crate) socket: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What all commands share that show what a running daemon says.
#[derive(Args, Clone, Debug)]
pub(crate) struct Client {
    /// The daemon to ask.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `status`, `matrix`, `keys`.
#[derive(Args, Clone, Debug)]
pub(crate) struct View {
    /// The daemon to ask.
    #[command(flatten)]
    pub(crate) client: Client,
    /// Repeat until interrupted
    #[arg(long)]
    pub(crate) watch: bool,
}

/// `peers`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Peers {
    /// The daemon to ask.
    #[command(flatten)]
    pub(crate) client: Client,
    /// Repeat until interrupted
    #[arg(long)]
    pub(crate) watch: bool,
    /// All peers, also those that are up
    #[arg(long)]
    pub(crate) all: bool,
    /// Only peers of this status
    #[arg(long, value_name = "STATUS", value_parser = ["healthy", "suspected", "down"])]
    pub(crate) status: Option<String>,
    /// Only peers of this verdict
    #[arg(long, value_name = "VERDICT")]
    pub(crate) verdict: Option<String>,
    /// Only peers with this label
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) label: Option<String>,
    /// Only peers that this node observes itself
    #[arg(long)]
    pub(crate) observed: bool,
}

/// `services`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Services {
    /// The daemon to ask.
    #[command(flatten)]
    pub(crate) client: Client,
    /// Repeat until interrupted
    #[arg(long)]
    pub(crate) watch: bool,
    /// Only this service: its instances that pass, on nodes that live
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Who holds which version of its state, the newest first, and so may be the source for a node that returns
    #[arg(long, requires = "name")]
    pub(crate) versions: bool,
    /// All instances of it
    #[arg(long, requires = "name")]
    pub(crate) all: bool,
    /// Only instances on nodes with this label
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) label: Option<String>,
}

/// `route`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Route {
    /// The daemon to ask.
    #[command(flatten)]
    pub(crate) client: Client,
    /// The service
    #[arg(value_name = "SERVICE")]
    pub(crate) service: String,
    /// What names the session: a user's id, say
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
    /// To a node with this label, where one can be had
    #[arg(long, value_name = "LABEL=VALUE")]
    pub(crate) prefer: Option<String>,
}

/// `explain`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Explain {
    /// The daemon to ask.
    #[command(flatten)]
    pub(crate) client: Client,
    /// Repeat until interrupted
    #[arg(long)]
    pub(crate) watch: bool,
    /// The peer's id
    #[arg(value_name = "PEER")]
    pub(crate) peer: String,
}

/// `events`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Events {
    /// The daemon to ask.
    #[command(flatten)]
    pub(crate) client: Client,
    /// Go on with new events until interrupted
    #[arg(long)]
    pub(crate) follow: bool,
}

/// `top`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Top {
    /// The daemon to ask.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
}

/// `check`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Check {
    /// The daemon to ask.
    #[command(flatten)]
    pub(crate) daemon: Daemon,
    /// Only whether the detector's loop turns (container health)
    #[arg(long = "self", conflicts_with_all = ["peer", "warning", "critical"])]
    pub(crate) own: bool,
    /// Only this peer
    #[arg(long, value_name = "ID", conflicts_with_all = ["warning", "critical"])]
    pub(crate) peer: Option<String>,
    /// Warn from so many nodes suspected or down on [default: 1]
    #[arg(long, value_name = "N")]
    pub(crate) warning: Option<u64>,
    /// Critical from so many nodes suspected or down on [default: only loss of quorum]
    #[arg(long, value_name = "N")]
    pub(crate) critical: Option<u64>,
    /// Give up after so long
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration::parse)]
    pub(crate) timeout: Duration,
}

/// `config`.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Print the default configuration, with comments
    Default,
    /// Check a file; print the effective values with their source and what they cost
    Check(ConfigCheck),
}

/// `config check`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ConfigCheck {
    /// The file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Say whether the change from this file keeps a quorum [exit code 1: it does not]
    #[arg(long, value_name = "OLD")]
    pub(crate) against: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
