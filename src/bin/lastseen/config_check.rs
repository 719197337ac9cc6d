//! `config check`: a file as `run` would read it, without asking a resolver; and whether the change from another file keeps a quorum.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use lastseen::proto::{Keyring, PeerConfig};

use crate::settings::{self, Fault, Settings};
use crate::{args, discovery, exit};

/// A file that is right.
struct Checked {
    settings: Settings,
    config: PeerConfig,
    keys: Keyring,
    /// Every node that it names.
    names: BTreeSet<Arc<str>>,
    /// Whether nodes may be found that it does not name.
    is_open: bool,
}

/// Checks a file, and prints what it means.
pub(crate) fn run(a: &args::ConfigCheck) -> ExitCode {
    let read = |file| check(file).map_err(|faults| complain(&faults));
    let checked = match read(&a.file) {
        Ok(checked) => checked,
        Err(failed) => return failed,
    };
    let rollout = match a.against.as_deref().map(read) {
        Some(Ok(old)) => Some(Rollout::of(&old, &checked)),
        Some(Err(failed)) => return failed,
        None => None,
    };
    let Checked { settings, config, is_open, .. } = &checked;
    let told = rollout.as_ref().map(|rollout| rollout.verdict());
    let report = settings::Report {
        server_id: &config.server_id,
        peers: config.static_peers.len(),
        is_open: *is_open,
        rollout: told.as_ref().map(|told| (told.is_ok(), told.as_ref().unwrap_or_else(|why| why).as_str())),
    };
    match (exit::print(&report.print(settings, a.json)), told) {
        (_, Some(Err(_))) => ExitCode::from(exit::FAILED),
        (printed, _) => printed,
    }
}

fn complain(faults: &[Fault]) -> ExitCode {
    faults.iter().for_each(|fault| exit::complain(&fault.to_string()));
    ExitCode::from(exit::FAILED)
}

fn check(file: &std::path::Path) -> Result<Checked, Vec<Fault>> {
    let mut settings = settings::load(Some(file), &args::Run::default())?;
    let plan = settings.plan();
    let (roster, odd) = discovery::without_names(&plan);
    settings.warnings.extend(odd);
    let config = settings.peer_config(&roster).map_err(|fault| vec![fault])?;
    let mut names: BTreeSet<_> =
        config.static_peers.iter().map(|peer| Arc::clone(peer.roster_name())).collect();
    // On a machine that is no node the file still names all.
    if roster.len() > names.len() || settings.values.server_id.is_some() {
        names.insert(Arc::clone(&config.own_name));
    }
    let keys = Keyring::new(&config.cluster, &settings.keys, settings.values.insecure);
    let keys = keys.map_err(|e| vec![Fault::general(e.to_string())])?;
    Ok(Checked { config, keys, names, is_open: plan.is_open(), settings })
}

/// The change from one file to another, node by node.
#[derive(Debug, PartialEq, Eq)]
struct Rollout {
    before: usize,
    added: usize,
    removed: usize,
    /// Why nodes with the one and the other file do not understand each other.
    split: Option<String>,
    /// Whether nodes that no file names are not counted.
    is_open: bool,
}

impl Rollout {
    fn of(old: &Checked, new: &Checked) -> Rollout {
        let (before, after) = (&old.names, &new.names);
        let split = if old.config.cluster != new.config.cluster {
            Some(format!(
                "the cluster is called \"{}\" there, and \"{}\" here",
                old.config.cluster, new.config.cluster
            ))
        } else if !understands(&old.keys, &new.keys) || !understands(&new.keys, &old.keys) {
            Some("the key that one of them sends with is not among those of the other".to_owned())
        } else {
            None
        };
        Rollout {
            before: before.len(),
            added: after.difference(before).count(),
            removed: before.difference(after).count(),
            split,
            is_open: old.is_open || new.is_open,
        }
    }

    /// One sentence: whether more than half of all nodes are proven at every moment, when those who go leave first, then the
    /// roster changes, and then those who come are started.
    fn verdict(&self) -> Result<String, String> {
        let Rollout { before, added, removed, .. } = *self;
        if let Some(why) = &self.split {
            return Err(format!(
                "against the old file: no quorum on the way: a node with the new file and one with the old do not \
                 understand each other: {why}"
            ));
        }
        let (stay, after) = (before - removed, before - removed + added);
        let counted = if self.is_open { "; nodes that only DNS names are not counted" } else { "" };
        let change = format!("against the old file: {added} added, {removed} removed, {after} then{counted}");
        if 2 * stay <= before && removed > 0 {
            let most = at_most("remove", before.saturating_sub(1) / 2);
            return Err(format!(
                "{change}: no quorum once the {removed} have left, {stay} of {before} remain{most}"
            ));
        }
        if 2 * stay <= after && added > 0 {
            let most = at_most("add", stay.saturating_sub(1));
            return Err(format!(
                "{change}: no quorum until some of the {added} are started, {stay} of {after} run{most}"
            ));
        }
        let order = match (added, removed) {
            (0, 0) => "",
            (0, _) => ", if those who go leave first (`lastseen leave`)",
            (_, 0) => ", if the nodes that run get it first, and then the new ones are started",
            _ => {
                ", if those who go leave first (`lastseen leave`), then the nodes that stay get it, and then the new ones are started"
            }
        };
        Ok(format!("{change}: the quorum is kept{order}"))
    }
}

fn at_most(verb: &str, most: usize) -> String {
    if most == 0 {
        "; so few cannot change without that".to_owned()
    } else {
        format!("; {verb} {most} at most at a time")
    }
}

/// Whether a node with the keys `ours` opens what one with `theirs` seals. Equal ids are taken for equal keys.
fn understands(ours: &Keyring, theirs: &Keyring) -> bool {
    ours.index_of_id(theirs.id(0)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_half_must_run_at_every_moment() {
        let verdict = |before, added, removed| {
            Rollout { before, added, removed, split: None, is_open: false }.verdict()
        };
        for (before, added, removed) in [(3, 0, 0), (3, 0, 1), (3, 2, 0), (5, 0, 2), (5, 2, 2), (1, 0, 0)] {
            let told = verdict(before, added, removed).unwrap();
            assert!(told.contains("the quorum is kept"), "{told}");
        }
        for (before, added, removed, told) in [
            (3, 0, 2, "1 of 3 remain; remove 1 at most at a time"),
            (4, 0, 2, "2 of 4 remain; remove 1 at most at a time"),
            (3, 3, 0, "3 of 6 run; add 2 at most at a time"),
            (5, 3, 2, "3 of 6 run; add 2 at most at a time"),
            (1, 1, 0, "1 of 2 run; so few cannot change without that"),
            (0, 3, 0, "0 of 3 run; so few cannot change without that"),
        ] {
            let why = verdict(before, added, removed).unwrap_err();
            assert!(why.contains(told), "{why}");
        }
    }
}
