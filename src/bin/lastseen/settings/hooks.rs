//! `[[hooks]]`: what is called when something happens.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nix::unistd::{AccessFlags, access};

use super::nearest;
use super::raw::{Fault, Raw, Source};
use super::section::{self, Of, Section};
use super::word::Word;

/// Every key of a hook.
const KEYS: [&str; 10] = [
    "name",
    "on",
    "command",
    "url",
    "timeout",
    "at_most",
    "only_with_quorum",
    "needs",
    "hold_on_mass_loss",
    "damping",
];
/// The most hooks.
const MOST: usize = 64;
/// The longest time limit.
const LONGEST: Duration = Duration::from_secs(3600);

/// What the default file says of them. They stand last, and are no setting with a default.
pub(super) const HELP: &str = r#"
# What to call when something happens, once for each event. A node calls its own hooks: set them on one or two nodes.
# The environment cannot set hooks.
# [[hooks]]
# A name for the log. Empty: that of the program, or the url's host.
# name = ""
# When: what a peer comes to be, a status (down, suspected, healthy) or a verdict (refused, link_down, one_way, left,
# ...; up). Who left, drains or was never heard is no alarm: it is neither down nor suspected. Or what happens:
# quorum_lost, quorum_gained, mass_loss, mass_loss_over, restart, leave, drain, migrate, service, address, self, roster,
# reload, key.
# Beside other words healthy and up are told only of a peer that the hook was called for.
# on = ["down"]
# The program, by its whole path, and its arguments as they stand here; no shell. It reads the event from standard
# input, one line of JSON, and runs in / with no more environment than PATH and LANG. Nobody but its owner and its group
# may be able to change it.
# command = ["/usr/local/bin/page", "--team", "storage"]
# Or an address to which that JSON is posted. http alone; for https let curl be the command.
# url = "http://127.0.0.1:9000/lastseen"
# After so long it is killed, with all that it started, or given up.
# timeout = "10s"
# So many at once; 256 more may wait.
# at_most = 4
# Call it only while this node counts a quorum. For what acts that is not enough: see needs.
# only_with_quorum = false
# What must hold for a call, and is asked once more right before it. "guard": this node holds the quorum guard.
# "takeover": what the peer did may be taken over, since it has lost its own guard; for what a lost peer comes to be:
# down, refused, left, ...
# needs = ""
# Wait two heartbeat intervals, and while a mass loss goes on; then call for what still holds.
# hold_on_mass_loss = true
# For the same peer and word not again so soon. What still holds after that is told then.
# damping = "5m"
"#;

/// One hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    /// For the log.
    pub(crate) name: String,
    /// When; at least one.
    pub(crate) on: Vec<Word>,
    /// What.
    pub(crate) action: Action,
    /// For one call.
    pub(crate) timeout: Duration,
    /// Calls at once.
    pub(crate) at_most: usize,
    /// Whether it waits for a quorum.
    pub(crate) only_with_quorum: bool,
    /// What must hold, also right before the call.
    pub(crate) needs: Needs,
    /// Whether it waits for the end of a mass loss, and a little to see whether there is one.
    pub(crate) hold_on_mass_loss: bool,
    /// For so long not again for the same peer and word.
    pub(crate) damping: Duration,
}

/// What must hold for a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing.
    #[default]
    Nothing,
    /// This node holds the quorum guard.
    Guard,
    /// What the event's peer did may be taken over.
    Takeover,
}

/// What a hook does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Runs a program: its absolute path, and its arguments.
    Command(Vec<String>),
    /// Posts to this address.
    Post(String),
}

/// Reads every hook; does not look at the programs.
///
/// # Errors
/// All that is wrong.
pub(crate) fn read(sourced: &(Raw, Source)) -> Result<Vec<Hook>, Vec<Fault>> {
    let sections = section::all("hooks", MOST, sourced).map_err(|fault| vec![fault])?;
    let mut faults = Vec::new();
    let hooks = sections.iter().filter_map(|s| read_one(s, &mut faults)).collect();
    if faults.is_empty() { Ok(hooks) } else { Err(faults) }
}

fn read_one(section: &Section, faults: &mut Vec<Fault>) -> Option<Hook> {
    let mut of = Of { what: "hook", section, faults };
    of.know(&KEYS);
    let name: Option<String> = of.value("name", Some(None))?;
    let on = of.checked("on", None, on)?;
    let action = action(&mut of)?;
    let timeout = of.checked("timeout", Some(Duration::from_secs(10)), |timeout| {
        let fits = !timeout.is_zero() && timeout <= LONGEST;
        fits.then_some(timeout).ok_or_else(|| "right is more than 0s and at most 1h".to_owned())
    })?;
    let at_most = of.checked("at_most", Some(4), |n: u32| {
        (1..=64)
            .contains(&n)
            .then_some(n as usize)
            .ok_or_else(|| format!("{n} is out of range; right is 1 to 64"))
    })?;
    let only_with_quorum = of.checked("only_with_quorum", Some(false), |only| match on.as_slice() {
        [Word::Quorum(false)] if only => Err("quorum_lost never comes while there is a quorum".to_owned()),
        _ => Ok(only),
    })?;
    let needs = of.checked("needs", Some(String::new()), |text| needs(&text, &on))?;
    let name = name.unwrap_or_else(|| action.name());
    let hold_on_mass_loss = of.value("hold_on_mass_loss", Some(true))?;
    let damping = of.value("damping", Some(Duration::from_secs(300)))?;
    Some(Hook { name, on, action, timeout, at_most, only_with_quorum, needs, hold_on_mass_loss, damping })
}

/// Exactly one of the two.
fn action(of: &mut Of<'_>) -> Option<Action> {
    match (of.has("command"), of.has("url")) {
        (true, false) => of.checked("command", None, command).map(Action::Command),
        (false, true) => of.checked("url", None, url).map(Action::Post),
        (both, _) => {
            of.fault(if both { "command and url exclude each other" } else { "command or url is missing" });
            None
        }
    }
}

fn on(words: Vec<String>) -> Result<Vec<Word>, String> {
    if words.is_empty() {
        return Err("[] waits for nothing; write [\"down\"]".to_owned());
    }
    let read = |text: &String| {
        Word::all().find(|word| word.as_str() == text).ok_or_else(|| {
            let all: Vec<&str> = Word::all().map(Word::as_str).collect();
            nearest(text, all.iter().copied()).map_or_else(
                || format!("\"{text}\" is none of {}", all.join(", ")),
                |word| format!("there is no \"{text}\"; did you mean \"{word}\"?"),
            )
        })
    };
    words.iter().map(read).collect()
}

fn needs(text: &str, on: &[Word]) -> Result<Needs, String> {
    let is_of_the_lost = |word: &&Word| word.is_lasting() && !word.is_all_clear();
    match (text, on.iter().find(|word| !is_of_the_lost(word))) {
        ("", _) => Ok(Needs::Nothing),
        ("guard", _) => Ok(Needs::Guard),
        ("takeover", None) => Ok(Needs::Takeover),
        ("takeover", Some(word)) => Err(format!(
            "there is nothing to take over at \"{}\"; right are down, suspected, and verdicts of a lost peer like refused and left",
            word.as_str()
        )),
        _ => Err(format!("\"{text}\" is neither \"guard\" nor \"takeover\"")),
    }
}

pub(super) fn command(words: Vec<String>) -> Result<Vec<String>, String> {
    match words.first() {
        Some(program) if words.iter().any(|word| word.contains('\0')) => {
            Err(format!("a word of {program:?} has a zero byte, which no program can be given"))
        }
        Some(program) if program.starts_with('/') => Ok(words),
        Some(program) => Err(format!(
            "{program:?} is no absolute path; write the whole one, like \"/usr/local/bin/page\", and each argument apart"
        )),
        None => Err("[] is no command; write [\"/usr/local/bin/page\"]".to_owned()),
    }
}

fn url(text: String) -> Result<String, String> {
    let is_plain = text.bytes().all(|b| b.is_ascii_graphic());
    match text.split_once("://").map(|(scheme, rest)| (scheme, rest, authority(rest))) {
        Some(("http", _, Some(authority))) if authority.contains('@') => {
            Err("credentials do not belong into an address, which is logged; let a command send them"
                .to_owned())
        }
        Some(("http", _, Some(_))) if is_plain => Ok(text),
        Some(("https", rest, _)) => Err(format!(
            "https is not spoken here, since no TLS is linked; write command = [\"/usr/bin/curl\", \"-sf\", \
             \"--data-binary\", \"@-\", \"https://{rest}\"]"
        )),
        _ => Err(format!("{text:?} is no address; write \"http://127.0.0.1:9000/lastseen\"")),
    }
}

/// Host and port, of what follows the scheme.
pub(super) fn authority(rest: &str) -> Option<&str> {
    rest.split(['/', '?', '#'])
        .next()
        .filter(|authority| !authority.is_empty() && !authority.starts_with(':'))
}

/// A hook for the report: its name, and when.
pub(super) fn show(hook: &Hook) -> String {
    let words: Vec<&str> = hook.on.iter().map(|word| word.as_str()).collect();
    format!("{}: {}", hook.name, words.join(", "))
}

impl Action {
    fn name(&self) -> String {
        let name = match self {
            Action::Command(words) => words[0].rsplit('/').next(),
            Action::Post(url) => url.split_once("://").and_then(|(_, rest)| authority(rest)),
        };
        name.unwrap_or_default().to_owned()
    }
}

/// Looks at the programs of all hooks: what is run with this node's rights must not be anybody's to change.
///
/// # Errors
/// All that are wrong.
pub(crate) fn check_programs(hooks: &[Hook], source: &Source) -> Result<(), Vec<Fault>> {
    let check = |hook: &Hook| {
        let Action::Command(words) = &hook.action else { return None };
        let why = check_program(Path::new(&words[0])).err()?;
        Some(Fault::at(source, format!("the hook {}: {} {why}", hook.name, words[0])))
    };
    let faults: Vec<Fault> = hooks.iter().filter_map(check).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// Looks at one program.
///
/// # Errors
/// It is not there, cannot be run, or others can change it.
pub(super) fn check_program(program: &Path) -> Result<(), String> {
    // Where a name is a link, what it leads to is looked at, and the directory of that.
    let program = program.canonicalize().map_err(|e| format!("cannot be run: {e}"))?;
    let mode = |path: &Path| path.metadata().map(|m| m.permissions().mode()).map_err(|e| e.to_string());
    if !program.is_file() {
        return Err("is no regular file".to_owned());
    }
    access(&program, AccessFlags::X_OK)
        .map_err(|_| format!("cannot be run; `chmod +x {}`", program.display()))?;
    if mode(&program)? & 0o002 != 0 {
        return Err(format!("can be changed by others; `chmod o-w {}`", program.display()));
    }
    let directory = program.parent().unwrap_or(Path::new("/"));
    // In a sticky one nobody replaces what is not his.
    if mode(directory)? & 0o1002 == 0o002 {
        return Err(format!("can be replaced by others; `chmod o-w {}`", directory.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
