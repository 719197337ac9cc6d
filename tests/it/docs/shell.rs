//! The commands of a page: which of them call `lastseen`, and what comes of running them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::page::{Block, Page};
use crate::harness::within;

/// For all commands of one page.
const LONGEST: Duration = Duration::from_secs(120);

impl Block {
    pub(super) fn is_shell(&self) -> bool {
        self.info.split(' ').next() == Some("sh")
    }

    /// What cargo does is what built this test; the rest says so if it cannot run here.
    pub(super) fn runs(&self) -> bool {
        self.info == "sh" && !self.text.starts_with("cargo ")
    }
}

/// The calls of `lastseen` in a script: their words, up to what ends a command.
pub(super) fn calls(script: &str) -> Vec<Vec<String>> {
    let script = script.replace("\\\n", " ").replace("cargo run --release -- ", "lastseen ");
    let mut calls = Vec::new();
    for line in script.lines() {
        let line = line.split(" #").next().unwrap_or_default();
        for command in line.split(['|', ';', '&', '(', ')', '<', '>']) {
            let mut words = command.split_whitespace();
            // What may stand before: assignments, words of the shell, who is to run it.
            if words.by_ref().take_while(|w| *w != "lastseen").all(is_before) && command.contains("lastseen ")
            {
                let quotes = |w: &str| w.trim_matches(['"', '\'']).to_owned();
                calls.push(words.map(quotes).collect());
            }
        }
    }
    calls
}

fn is_before(word: &str) -> bool {
    word.contains('=') || ["if", "while", "until", "do", "then", "!", "sudo", "exec", "nohup"].contains(&word)
}

/// What `lastseen` says of itself, asked once for each command.
#[derive(Default)]
pub(super) struct Help(BTreeMap<Vec<String>, String>);

impl Help {
    fn of(&mut self, command: &[String]) -> &str {
        self.0.entry(command.to_vec()).or_insert_with(|| {
            let out =
                Command::new(env!("CARGO_BIN_EXE_lastseen")).args(command).arg("--help").output().unwrap();
            String::from_utf8(out.stdout).unwrap()
        })
    }

    /// What is wrong with the words behind `lastseen`, if anything is.
    pub(super) fn fault(&mut self, words: &[String]) -> Option<String> {
        let mut command = Vec::new();
        for word in words.iter().take_while(|w| !w.starts_with('-')) {
            let names = self.of(&command).split_once("Commands:").map(|(_, rest)| rest.to_owned());
            let Some(names) = names else { break };
            let is_named = |line: &str| line.split_whitespace().next() == Some(word);
            if !names.lines().any(is_named) {
                return Some(format!("there is no command {word:?}"));
            }
            command.push(word.clone());
        }
        let help: BTreeSet<&str> = self.of(&command).split([' ', '\n', ',', '=', '[', ']', '.']).collect();
        let flags = words.iter().filter(|w| w.starts_with('-')).map(|w| w.split('=').next().unwrap_or(w));
        flags
            .map(str::to_owned)
            .find(|flag| !help.contains(&**flag))
            .map(|flag| format!("`lastseen {}` has no flag {flag}", command.join(" ")))
    }
}

/// Whether a shell reads it; else what it says.
pub(super) fn parses(script: &str) -> Result<(), String> {
    let out = Command::new("sh").args(["-n", "-c", script]).output().unwrap();
    if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
}

/// The blocks of a page that run, each line at its line of the page, so that the shell names that; all else is empty.
pub(super) fn script(page: &Page) -> String {
    let mut script = String::new();
    for block in page.blocks.iter().filter(|b| b.it.runs()) {
        let gap = block.line - 1 - script.lines().count();
        script.push_str(&"\n".repeat(gap));
        script.push_str(&block.it.text);
    }
    script
}

/// Runs the script in `dir`, where also its output goes.
pub(super) fn run(script: &str, dir: &Path, environment: &[(&str, String)]) -> Result<(), String> {
    let log = dir.join("output");
    let output = File::create(&log).unwrap();
    let bin = Path::new(env!("CARGO_BIN_EXE_lastseen")).parent().unwrap().display();
    let mut shell = Command::new("bash");
    // The first line, which on a page is its heading.
    let head = "set -euo pipefail; trap 'echo \"this failed: line $LINENO\"' ERR";
    shell.args(["-c", &format!("{head}\n{}", script.strip_prefix('\n').unwrap_or(script))]);
    shell.env_clear().env("PATH", format!("{bin}:/usr/local/bin:/usr/bin:/bin")).env("HOME", dir);
    shell.envs(environment.iter().map(|(name, value)| (name, value))).current_dir(dir).process_group(0);
    shell.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
    let mut child = shell.spawn().unwrap();
    let group = Pid::from_raw(child.id().try_into().unwrap());
    let ended = within(LONGEST, || child.try_wait().unwrap());
    // What it started goes with it.
    let _ = killpg(group, Signal::SIGKILL);
    let _ = child.wait();
    let told = std::fs::read_to_string(&log).unwrap();
    match ended {
        Some((status, _)) if status.success() => Ok(()),
        Some((status, _)) => Err(format!("{status}\n{told}")),
        None => Err(format!("not done after {LONGEST:?}\n{told}")),
    }
}

#[test]
fn calls_in_a_script() {
    let words = |script| calls(script).iter().map(|c| c.join(" ")).collect::<Vec<_>>();
    assert_eq!(words("a=1 lastseen run --http off & echo lastseen | x"), ["run --http off"]);
    assert_eq!(
        words("until lastseen check; do lastseen peers \\\n --all; done # lastseen no"),
        ["check", "peers --all"]
    );
    assert_eq!(words("cargo run --release -- demo\nlastseen keygen >lastseen"), ["demo", "keygen"]);
    let fault = |call: &str| Help::default().fault(&call.split(' ').map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(fault("config check FILE --json"), None);
    assert_eq!(fault("config chek").unwrap(), "there is no command \"chek\"");
    assert_eq!(fault("status --http=x --al").unwrap(), "`lastseen status` has no flag --al");
}
