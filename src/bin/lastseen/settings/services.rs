//! `[[services]]`: what this node offers to clients, and how it finds out whether that works.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use lastseen::proto::{Service, ServiceAddress, ServiceName, ServiceState, Services};

use super::hooks::{authority, check_program, command};
use super::raw::{Fault, Raw, Setting, Source};
use super::section::{self, Of, Section};

/// Every key of a service.
const KEYS: [&str; 12] = [
    "name",
    "address",
    "weight",
    "version",
    "payload",
    "check_tcp",
    "check_http",
    "check_command",
    "check_interval",
    "check_timeout",
    "check_fall",
    "check_rise",
];
/// The ways to check.
const CHECKS: [&str; 3] = ["check_tcp", "check_http", "check_command"];
/// The most services: more do not fit into what a node may say.
const MOST: usize = 128;

/// What the default file says of them. They are no setting with a default.
pub(super) const HELP: &str = r#"
# What this node offers to clients, and tells to all nodes: see docs/services.md. Together 1024 bytes at most. The
# environment cannot set services. A reload changes them; what was published by `lastseen publish` stays.
# [[services]]
# Its name, the same at every node that offers it: 1 to 32 letters, digits and . - _
# name = "web"
# Where clients reach it, HOST:PORT.
# address = "10.0.0.7:80"
# So many shares of the sessions go to it, 1 to 255.
# weight = 1
# Of what it holds, if that matters: a higher one is newer.
# version = 0
# What clients are told beside that. It is not looked at here.
# payload = ""
# How this node finds out whether it works; without any of the three it passes. The first: somebody accepts connections
# at this address of this machine.
# check_tcp = "127.0.0.1:8080"
# Or: a GET of this is answered with 200 to 299.
# check_http = "http://127.0.0.1:8080/health"
# Or: this program ends with exit code 0. Its whole path, and its arguments; the rules are those of a hook's.
# check_command = ["/usr/local/bin/healthy", "--quick"]
# It is looked at so often, the first time at once. 100ms to 1h.
# check_interval = "10s"
# What takes longer has failed.
# check_timeout = "2s"
# So many failures in a row make it failed, 1 to 100. At the start it is failed until it has passed.
# check_fall = 2
# And so many successes in a row make it passing.
# check_rise = 1
"#;

/// A service of the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offered {
    /// Passing, whatever the check will say.
    pub(crate) service: Service,
    /// How its state is found out, if it is.
    pub(crate) check: Option<Check>,
}

/// A check, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// What is done.
    pub(crate) probe: Probe,
    /// How often.
    pub(crate) interval: Duration,
    /// For how long at most.
    pub(crate) timeout: Duration,
    /// So many failures in a row make it failed.
    pub(crate) fall: u32,
    /// So many successes in a row make it passing.
    pub(crate) rise: u32,
}

/// What a check does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Connects.
    Tcp(Local),
    /// Asks for this path.
    Http(Local, String),
    /// Runs a program: its absolute path, and its arguments.
    Command(Vec<String>),
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::Tcp(to) => write!(f, "tcp {}", to.name),
            Probe::Http(to, path) => write!(f, "http://{}{path}", to.name),
            Probe::Command(words) => f.write_str(&words[0]),
        }
    }
}

/// Whom a check asks: no name is looked up, since resolvers hang.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Local {
    /// As it was written.
    pub(crate) name: String,
    /// Tried in turn.
    pub(crate) addresses: Vec<SocketAddr>,
}

impl Local {
    /// Reads `127.0.0.1:8080` or `localhost:8080`; the port may be absent where there is one for that.
    fn read(text: &str, port: Option<u16>) -> Option<Local> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, digits)) if !digits.ends_with(']') => (host, digits.parse().ok()),
            _ => (text, port),
        };
        let port = port.filter(|port| *port > 0)?;
        let ips: Vec<IpAddr> = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => vec![inner.parse::<Ipv6Addr>().ok()?.into()],
            // As RFC 6761 has it.
            None if host == "localhost" => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            None => vec![host.parse::<Ipv4Addr>().ok()?.into()],
        };
        let addresses = ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        Some(Local { name: text.to_owned(), addresses })
    }
}

/// Reads every service; does not look at the programs.
///
/// # Errors
/// All that is wrong.
pub(crate) fn read(sourced: &(Raw, Source)) -> Result<Vec<Offered>, Vec<Fault>> {
    let sections = section::all("services", MOST, sourced).map_err(|fault| vec![fault])?;
    let mut faults = Vec::new();
    let mut all: Vec<(Offered, &Source)> = Vec::new();
    for section in sections {
        let Some(offered) = read_one(section, &mut faults) else { continue };
        let name = &offered.service.name;
        if let Some((_, first)) = all.iter().find(|(other, _)| other.service.name == *name) {
            let text = format!("the service {name} is there twice; it stands at {first} too");
            faults.push(Fault::at(&section.source, text));
        } else {
            all.push((offered, &section.source));
        }
    }
    let all: Vec<Offered> = all.into_iter().map(|(offered, _)| offered).collect();
    let fit = Services::new(all.iter().map(|offered| offered.service.clone()).collect());
    faults.extend(fit.err().map(|text| Fault::at(&sourced.1, text)));
    if faults.is_empty() { Ok(all) } else { Err(faults) }
}

fn read_one(section: &Section, faults: &mut Vec<Fault>) -> Option<Offered> {
    let mut of = Of { what: "service", section, faults };
    of.know(&KEYS);
    let name = of.checked("name", None, |text: String| ServiceName::new(&text))?;
    let address = of.checked("address", None, |text: String| ServiceAddress::new(&text))?;
    let weight = of.checked("weight", Some(1), |n: u32| {
        u8::try_from(n)
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(|| format!("{n} is out of range; right is 1 to 255"))
    })?;
    let version = of.value("version", Some(0))?;
    let payload: String = of.value("payload", Some(String::new()))?;
    let check = check(&mut of)?;
    let payload = payload.into_bytes().into();
    let service = Service { name, address, state: ServiceState::Passing, weight, version, payload };
    Some(Offered { service, check })
}

/// At most one of the three ways. The outer `None`: something is wrong, and told.
fn check(of: &mut Of<'_>) -> Option<Option<Check>> {
    let told: Vec<&str> = CHECKS.into_iter().filter(|key| of.has(key)).collect();
    let probe = match told[..] {
        [] => {
            let alone = KEYS.into_iter().find(|key| key.starts_with("check_") && of.has(key));
            let Some(key) = alone else { return Some(None) };
            of.fault(&format!("{key} without a check; add one of {}", CHECKS.join(", ")));
            return None;
        }
        ["check_tcp"] => Probe::Tcp(of.checked("check_tcp", None, tcp)?),
        ["check_http"] => of.checked("check_http", None, http)?,
        ["check_command"] => Probe::Command(of.checked("check_command", None, command)?),
        _ => {
            of.fault(&format!("{} exclude each other", told.join(" and ")));
            return None;
        }
    };
    let within = |least: Duration| {
        move |d: Duration| {
            let fits = (least..=Duration::from_secs(3600)).contains(&d);
            fits.then_some(d)
                .ok_or_else(|| format!("{} is out of range; right is {} to 1h", d.show(), least.show()))
        }
    };
    let times = |n: u32| {
        (1..=100).contains(&n).then_some(n).ok_or_else(|| format!("{n} is out of range; right is 1 to 100"))
    };
    Some(Some(Check {
        probe,
        interval: of.checked(
            "check_interval",
            Some(Duration::from_secs(10)),
            within(Duration::from_millis(100)),
        )?,
        timeout: of.checked(
            "check_timeout",
            Some(Duration::from_secs(2)),
            within(Duration::from_millis(1)),
        )?,
        fall: of.checked("check_fall", Some(2), times)?,
        rise: of.checked("check_rise", Some(1), times)?,
    }))
}

fn tcp(text: String) -> Result<Local, String> {
    Local::read(&text, None).ok_or_else(|| {
        format!("{text:?} is no address with a port; no names are looked up, write \"127.0.0.1:8080\"")
    })
}

fn http(text: String) -> Result<Probe, String> {
    if let Some(rest) = text.strip_prefix("https://") {
        return Err(format!(
            "https is not spoken here, since no TLS is linked; write check_command = [\"/usr/bin/curl\", \"-sf\", \
             \"https://{rest}\"]"
        ));
    }
    let wrong = || {
        format!(
            "{text:?} is no address of this machine; no names are looked up, write \"http://127.0.0.1:8080/health\""
        )
    };
    let rest = text.strip_prefix("http://").filter(|rest| rest.bytes().all(|b| b.is_ascii_graphic()));
    let rest = rest.and_then(|rest| rest.split('#').next()).ok_or_else(wrong)?;
    let authority = authority(rest).ok_or_else(wrong)?;
    let to = Local::read(authority, Some(80)).ok_or_else(wrong)?;
    let path = &rest[authority.len()..];
    Ok(Probe::Http(to, if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }))
}

/// A service for the report: where it is, and how it is checked.
pub(super) fn show(offered: &Offered) -> String {
    let Offered { service: Service { name, address, .. }, check } = offered;
    match check {
        Some(Check { probe, interval, .. }) => {
            format!("{name}: {address}, checked by {probe} every {}", super::duration::show(*interval))
        }
        None => format!("{name}: {address}"),
    }
}

/// Looks at the programs of all checks, as at those of hooks.
///
/// # Errors
/// All that are wrong.
pub(super) fn check_programs(all: &[Offered], source: &Source) -> Result<(), Vec<Fault>> {
    let check = |offered: &Offered| {
        let Some(Check { probe: Probe::Command(words), .. }) = &offered.check else { return None };
        let why = check_program(Path::new(&words[0])).err()?;
        Some(Fault::at(
            source,
            format!("the check of the service {}: {} {why}", offered.service.name, words[0]),
        ))
    };
    let faults: Vec<Fault> = all.iter().filter_map(check).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

#[cfg(test)]
mod tests;
