//! What an operator writes: the configuration file, variables of the environment, a key, shares, durations, scenarios; and
//! whom a listener answers.
//!
//! The first byte of an input says which of them the rest is.

use std::net::IpAddr;

use clap::Parser;
use lastseen::proto::SecretKey;
use lastseen::proto::seal::KeyTextError;
use lastseen::sim::Scenario;

use crate::args::{Cli, Command};
use crate::http::host;
use crate::settings::table::KEYS;
use crate::settings::{
    Entry, Fault, Listed, Report, Settings, Source, Sourced, Values, defaults, duration, file, peer_file,
    read, read_hooks, read_services, sources,
};

/// Runs one input: what it was, and what became of it. `None` if it is empty, or no text.
///
/// # Panics
/// If a promise of the settings does not hold.
pub(super) fn check(input: &[u8]) -> Option<&'static str> {
    let (what, text) = input.split_first()?;
    let text = std::str::from_utf8(text).ok()?;
    Some(match what % 8 {
        0..=2 => config_file(text),
        3 => variable(text),
        4 => scenario(text),
        5 => key(text),
        6 => words(text),
        _ => host_header(text),
    })
}

fn config_file(text: &str) -> &'static str {
    let mut sourced = defaults();
    let faults = file::parse(text, line, &mut sourced);
    let lines = 1 + text.matches('\n').count();
    for fault in &faults {
        let Some(Source::File { line, .. }) = fault.source else { panic!("{fault} names no line") };
        assert!((1..=lines).contains(&line), "{fault}: there are {lines} lines");
    }
    settle(sourced, faults, ["file", "file refused"])
}

fn line(line: usize) -> Source {
    Source::File { path: "f".to_owned(), line }
}

/// The first byte says which variable it is.
fn variable(text: &str) -> &'static str {
    let mut chars = text.chars();
    let which = chars.next().map_or(0, |which| which as usize);
    let name = sources::variable(KEYS[which % KEYS.len()].path);
    let mut sourced = defaults();
    let warnings = sources::environment([(name.into(), chars.as_str().into())].into_iter(), &mut sourced);
    assert_eq!(warnings, Vec::<String>::new());
    settle(sourced, Vec::new(), ["variable", "variable refused"])
}

/// What is accepted prints, and what is printed is read back as the same; what is refused is named.
fn settle(sourced: Sourced, mut faults: Vec<Fault>, names: [&'static str; 2]) -> &'static str {
    let hooks = read_hooks(&sourced["hooks"]).map_err(|wrong| faults.extend(wrong)).unwrap_or_default();
    let services =
        read_services(&sourced["services"]).map_err(|wrong| faults.extend(wrong)).unwrap_or_default();
    let values = read(&sourced, &mut faults);
    for fault in &faults {
        assert!(fault.source.is_some() || fault.text.starts_with("no cluster key"), "{fault} names no place");
    }
    let Some(values) = values.filter(|_| faults.is_empty()) else {
        assert!(!faults.is_empty(), "refused without a word");
        return names[1];
    };
    assert_eq!(read_back(&values).show(), values.show());
    let entries = values.static_peers.iter().filter_map(Listed::entry).cloned();
    let roster = entries.map(|entry| (entry.clone(), entry.literal())).collect();
    let (keys, warnings) = (Vec::new(), Vec::new());
    let settings = Settings { values, sources: sourced, keys, hooks, services, warnings };
    match settings.peer_config(&roster) {
        Ok(config) => {
            assert_eq!(config.validate(), Ok(()));
            let (is_open, peers) = (settings.plan().is_open(), config.static_peers.len());
            let report = Report { server_id: &config.server_id, peers, is_open, rollout: None };
            assert!(serde_json::from_str::<serde_json::Value>(&report.print(&settings, true)).is_ok());
            assert!(!report.print(&settings, false).is_empty());
            names[0]
        }
        Err(fault) => {
            assert!(KEYS.iter().any(|key| fault.text.contains(key.path)), "{fault} names no key");
            names[1]
        }
    }
}

/// The values as they are shown, read as a file.
fn read_back(values: &Values) -> Values {
    let (mut text, mut section) = (String::new(), "");
    for (path, value) in values.show() {
        let (head, name) = path.split_once('.').unwrap_or(("", path));
        if head != section {
            section = head;
            text.push_str(&format!("[{head}]\n"));
        }
        text.push_str(&format!("{name} = {value}\n"));
    }
    let mut sourced = defaults();
    let mut faults = file::parse(&text, line, &mut sourced);
    let again = read(&sourced, &mut faults);
    assert!(faults.is_empty(), "{faults:?} in\n{text}");
    again.expect("without a fault there are values")
}

fn scenario(text: &str) -> &'static str {
    match Scenario::parse(text) {
        Ok(scenario) => {
            let config = scenario.config();
            assert!(config.heartbeat_timeout <= config.heartbeat_interval);
            "scenario"
        }
        Err(why) => {
            assert!(!why.is_empty());
            "scenario refused"
        }
    }
}

/// A key has one text, but for the end of its line; what is wrong with it is told without it.
fn key(text: &str) -> &'static str {
    match SecretKey::from_text(text) {
        Ok(key) => {
            assert_eq!(key.to_text().as_str(), text.trim_end_matches(['\n', '\r']));
            "key"
        }
        Err(KeyTextError::Prefix) => "key without its prefix",
        Err(KeyTextError::Base64) => "key of other bytes",
    }
}

/// A share and a duration of the command line; and a file of peers.
fn words(text: &str) -> &'static str {
    if let Some(text) = text.strip_prefix('p') {
        return peers(text);
    }
    if let Some(text) = text.strip_prefix('d') {
        return match duration::parse(text) {
            Ok(read) => {
                assert_eq!(duration::parse(&duration::show(read)), Ok(read));
                "duration"
            }
            Err(why) => {
                assert!(why.contains("write "), "{why} tells nothing that is right");
                "duration refused"
            }
        };
    }
    let loss = format!("--loss={text}");
    match Cli::try_parse_from(["lastseen", "plan", "--nodes", "5", "--detect", "6s", &loss]) {
        Ok(Cli { command: Command::Plan(plan) }) => {
            assert!((0.0..1.0).contains(&plan.loss), "{} is no share", plan.loss);
            "share"
        }
        Ok(other) => panic!("{other:?} is no plan"),
        Err(_) => "share refused",
    }
}

/// In a file of peers is JSON, or after a `y` YAML. What is accepted are entries that read back.
fn peers(text: &str) -> &'static str {
    let yaml = text.strip_prefix('y');
    match peer_file::parse(yaml.unwrap_or(text), yaml.is_none()) {
        Ok(entries) => {
            assert!(entries.iter().all(|entry| Entry::parse(&entry.to_string()).as_ref() == Ok(entry)));
            "peers"
        }
        Err(why) => {
            assert!(!why.is_empty());
            "peers refused"
        }
    }
}

/// A listener answers who calls it by an address, and by no name that it does not have.
fn host_header(text: &str) -> &'static str {
    let (loopback, public): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [192, 0, 2, 1].into());
    let own = [
        host::is_own(text, public, None),
        host::is_own(text, loopback, None),
        host::is_own(text, public, Some("web-1.example")),
    ];
    let lower = text.to_ascii_lowercase();
    match own {
        [false, false, false] => "host refused",
        [true, true, true] => {
            let digits = text.bytes().filter(|b| b.is_ascii_digit() || *b == b':').count();
            assert!(digits > 1, "{text} is no address");
            "host, an address"
        }
        [false, true, false] => {
            assert!(lower.contains("localhost"), "{text}");
            "host, localhost"
        }
        [false, false, true] => {
            assert!(lower.contains("web-1.example"), "{text}");
            "host, a name"
        }
        _ => panic!("{text} is {own:?}"),
    }
}
