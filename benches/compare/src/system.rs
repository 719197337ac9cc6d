//! The systems that are compared: how a node of each is started, and how it says of another that it is up or down.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use clap::ValueEnum;
use serde_json::Value;

use crate::agent::{Kind, address};
use crate::{Failure, Plan};

/// Of serf's RPC listeners, which nobody uses.
const FIRST_RPC_PORT: u16 = 25_001;
/// Above so many peers lastseen no longer has everybody watch everybody.
const FULL_MESH: usize = 64;

#[derive(Clone, Debug)]
pub enum System {
    /// The daemon, with its defaults but for these settings.
    Lastseen(Vec<(String, String)>),
    /// Debian's package.
    Serf,
    /// A rival's library in a small agent of this program.
    Agent(Kind),
}

impl FromStr for System {
    type Err = String;

    fn from_str(text: &str) -> Result<System, String> {
        let (name, settings) = text.split_once(':').unwrap_or((text, ""));
        let setting = |pair: &str| -> Result<(String, String), String> {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("{pair}: no KEY=VALUE"))?;
            Ok((key.to_owned(), value.to_owned()))
        };
        let settings: Vec<_> =
            settings.split(',').filter(|pair| !pair.is_empty()).map(setting).collect::<Result<_, _>>()?;
        match name {
            "lastseen" => Ok(System::Lastseen(settings)),
            _ if !settings.is_empty() => Err(format!("{name} has no settings here")),
            "serf" => Ok(System::Serf),
            _ => Ok(System::Agent(Kind::from_str(name, false)?)),
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            System::Lastseen(settings) => {
                f.write_str("lastseen")?;
                settings.iter().try_for_each(|(key, value)| write!(f, ", {key} = {value}"))
            }
            System::Serf => write!(f, "serf {}", installed_serf().as_deref().unwrap_or_default()),
            System::Agent(Kind::BareSpread) => f.write_str("bare pinger, spread"),
            System::Agent(Kind::BareBurst) => f.write_str("bare pinger, burst"),
            System::Agent(Kind::Foca) => write!(f, "foca {}", locked("foca")),
            System::Agent(Kind::Memberlist) => write!(f, "memberlist {} (Rust)", locked("memberlist")),
            System::Agent(Kind::Chitchat) => write!(f, "chitchat {}", locked("chitchat")),
        }
    }
}

impl System {
    pub fn all(nodes: usize) -> Vec<System> {
        let observers = |count: &str| System::Lastseen(vec![("observers".to_owned(), count.to_owned())]);
        let mut all = vec![System::Lastseen(Vec::new())];
        all.extend((nodes > FULL_MESH + 1).then(|| observers("all")));
        all.extend([observers("4"), System::Serf]);
        all.extend(Kind::value_variants().iter().map(|kind| System::Agent(*kind)));
        all
    }

    pub fn is_installed(&self) -> bool {
        !matches!(self, System::Serf) || installed_serf().is_some()
    }

    /// Whether a node takes the others for up from its start, and says nothing of it.
    pub fn presumes(&self) -> bool {
        matches!(self, System::Lastseen(_))
    }

    /// Starts one node of so many; it ends with this program, by whatever death.
    pub fn command(&self, plan: &Plan, own: u16) -> Result<Command, Failure> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        match self {
            System::Lastseen(settings) => lastseen(&mut command, &plan.lastseen, settings, plan.nodes, own),
            System::Serf => serf(&mut command, own),
            System::Agent(kind) => {
                let kind = kind.to_possible_value().ok_or("an agent without a name")?;
                // This very program, even if its file is built anew meanwhile.
                command.arg(format!("/proc/{}/exe", std::process::id())).args(["agent", kind.get_name()]);
                command.args([own, plan.nodes].map(|number| number.to_string()));
            }
        }
        Ok(command)
    }

    /// What a line of its output says: of which node, and whether it is up.
    pub fn says(&self, line: &str) -> Option<(u16, bool)> {
        let (node, is_up) = match self {
            System::Lastseen(_) => return of_log(line),
            System::Serf => {
                let (_, event) = line.split_once("serf: EventMember")?;
                let (event, rest) = event.split_once(": n")?;
                let is_up = match event {
                    "Join" => true,
                    "Failed" => false,
                    _ => return None,
                };
                (rest.split(' ').next()?, is_up)
            }
            System::Agent(_) => match line.split_once(' ')? {
                ("up", node) => (node, true),
                ("down", node) => (node, false),
                _ => return None,
            },
        };
        Some((node.parse().ok()?, is_up))
    }
}

fn lastseen(command: &mut Command, program: &Path, settings: &[(String, String)], nodes: u16, own: u16) {
    command.env_clear().env("PATH", "/usr/bin:/bin");
    command.env("LASTSEEN_CONTROL__SOCKET", "").env("LASTSEEN_LOG__FORMAT", "json");
    command.env("LASTSEEN_LOG__TRANSITIONS", "all");
    for (key, value) in settings {
        command.env(format!("LASTSEEN_{}", key.to_uppercase().replace('.', "__")), value);
    }
    command.arg(program).args(["run", "--config", "/dev/null", "--http", "127.0.0.1:0"]);
    command.args(["--server-id", &format!("n{own}"), "--listen", &address(own).to_string()]);
    for peer in (0..nodes).filter(|peer| *peer != own) {
        command.args(["--peer", &format!("n{peer}@{}", address(peer))]);
    }
}

/// A change of status in the daemon's log. Of whom was never heard, since it starts later, it says `unknown`, and raises no
/// alarm.
fn of_log(line: &str) -> Option<(u16, bool)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let is_up = match line["to"].as_str()? {
        "healthy" => true,
        "down" if line["verdict"] != "unknown" => false,
        _ => return None,
    };
    Some((line["peer"].as_str()?.strip_prefix('n')?.parse().ok()?, is_up))
}

fn serf(command: &mut Command, own: u16) {
    command.args(["serf", "agent", "-profile=lan", "-retry-interval=1s"]);
    command.arg(format!("-node=n{own}")).arg(format!("-bind={}", address(own)));
    command.arg(format!("-rpc-addr=127.0.0.1:{}", FIRST_RPC_PORT + own));
    for seed in (0..3).filter(|seed| *seed != own).take(2) {
        command.arg(format!("-retry-join={}", address(seed)));
    }
}

fn installed_serf() -> Option<String> {
    let found = Command::new("dpkg-query").args(["-W", "-f", "${Version}", "serf"]).output().ok()?;
    found.status.success().then(|| String::from_utf8_lossy(&found.stdout).into_owned())
}

/// The version of a crate that is linked.
fn locked(name: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let package = lock.split_once(&format!("name = \"{name}\"\nversion = \"")).map(|(_, rest)| rest);
    package.and_then(|rest| rest.split('"').next()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_says_who_is_up_and_who_is_down() {
        let lastseen = System::Lastseen(Vec::new());
        let down = r#"{"level":"WARN","message":"n2 down: ...","peer":"n2","from":"suspected","to":"down"}"#;
        assert_eq!(lastseen.says(down), Some((2, false)));
        assert_eq!(lastseen.says(&down.replace(r#""down""#, r#""healthy""#)), Some((2, true)));
        assert_eq!(lastseen.says(&down.replace(r#""down""#, r#""suspected""#)), None);
        assert_eq!(lastseen.says(&down.replace("}", r#","verdict":"unknown"}"#)), None);
        let failed = "    2026/11/26 10:21:36 [INFO] serf: EventMemberFailed: n31 127.0.0.1";
        assert_eq!(System::Serf.says(failed), Some((31, false)));
        assert_eq!(System::Serf.says(&failed.replace("Failed", "Join")), Some((31, true)));
        assert_eq!(System::Serf.says("[INFO] memberlist: Suspect n1 has failed, no acks received"), None);
        assert_eq!(System::Agent(Kind::Foca).says("up 7"), Some((7, true)));
        assert_eq!(System::Agent(Kind::Foca).says("down 7"), Some((7, false)));
    }

    #[test]
    fn names_are_read_and_shown() {
        let read = |text: &str| text.parse::<System>().map(|system| system.to_string());
        assert_eq!(
            read("lastseen:observers=4,log.level=warn").as_deref(),
            Ok("lastseen, observers = 4, log.level = warn")
        );
        assert_eq!(read("foca").as_deref(), Ok(format!("foca {}", locked("foca")).as_str()));
        assert!(!locked("foca").is_empty());
        assert!(read("foca:a=b").is_err());
        assert!(read("lastseen:observers").is_err());
        assert!(read("nobody").is_err());
    }
}
