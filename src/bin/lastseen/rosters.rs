//! The state of rosters on disk, and `bootstrap`: the daemon's part of the quorum guard.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lastseen::net::{Handle, Rosters};
use lastseen::proto::{BootstrapRefused, RosterState, Scope};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use crate::settings::Values;

/// The longest file, in bytes. The longest state that the core makes has about half of that.
const LONGEST: u64 = 32 << 20;
/// The time limit for reading the state. If it passes, the node starts without the state.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// Members that a refusal names.
const NAMED: usize = 100;

/// The result of a bootstrap; the error is for the operator.
pub(crate) type Outcome = Result<Value, String>;

/// A bootstrap with the hash that confirms it, and where the answer goes.
pub(crate) type Order = (Option<u64>, oneshot::Sender<Outcome>);

/// The state that earlier runs kept in `state_dir`, and how this one keeps it. `None`: this node is no witness, because there
/// is no `state_dir`, or because the state there cannot be read (to start without it would forget it).
pub(crate) async fn kept(values: &Values) -> Option<Rosters> {
    let file = values.state_dir.as_ref()?.join("rosters.json");
    let (read, answer) = oneshot::channel();
    let theirs = file.clone();
    let reader = std::thread::Builder::new().name("rosters".to_owned()).spawn(move || {
        // The receiver is gone if reading took too long.
        let _ = read.send(load(&theirs));
    });
    let loaded = match (reader, tokio::time::timeout(READ_WITHIN, answer).await) {
        (Err(e), _) => Err(e),
        (Ok(_), Ok(Ok(loaded))) => loaded,
        (Ok(_), _) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("nothing within {READ_WITHIN:?}"))),
    };
    match loaded {
        Ok(state) => Some(Rosters { state, save: Box::new(saver(file)) }),
        Err(e) => {
            warn!(
                "cannot read {}: {e}; this node is no witness for the quorum guard until the next start",
                file.display()
            );
            None
        }
    }
}

/// Reads the state. A file that is not a state of this release is renamed.
///
/// # Errors
/// The file cannot be read, or a file that is not a state cannot be renamed.
fn load(file: &Path) -> io::Result<RosterState> {
    let meta = match fs::symlink_metadata(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(RosterState::default()),
        meta => meta?,
    };
    // To open a FIFO would wait for its writer.
    let read = match () {
        () if !meta.is_file() => Err("it is no regular file".to_owned()),
        () if meta.len() > LONGEST => Err(format!("it has more than {LONGEST} bytes")),
        () => parse(&fs::read(file)?),
    };
    read.or_else(|why| {
        let aside = file.with_extension("json.aside");
        fs::rename(file, &aside)?;
        warn!(
            "{} is not a roster state that this release can read ({why}); renamed to {}; this node has \
             forgotten its rosters",
            file.display(),
            aside.display()
        );
        Ok(RosterState::default())
    })
}

fn parse(bytes: &[u8]) -> Result<RosterState, String> {
    let state: RosterState = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    state.validate().map_err(|e| e.to_string())?;
    Ok(state)
}

/// Writes the state, and logs when writing begins to fail and when it works again.
fn saver(file: PathBuf) -> impl FnMut(&RosterState) -> io::Result<()> {
    let mut failing: Option<String> = None;
    move |state| {
        let saved = save(&file, state);
        match &saved {
            Ok(()) if failing.take().is_some() => info!("{} is written again", file.display()),
            Ok(()) => {}
            Err(e) => {
                let why = e.to_string();
                if failing.as_ref() != Some(&why) {
                    warn!(
                        "cannot write {}: {why}; a change of the roster counts only once it is on disk",
                        file.display()
                    );
                }
                failing = Some(why);
            }
        }
        saved
    }
}

/// Replaces the file as a whole, so that a loss of power leaves the old or the new one.
fn save(file: &Path, state: &RosterState) -> io::Result<()> {
    let new = file.with_extension("json.new");
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    serde_json::to_writer(&out, state)?;
    out.write_all(b"\n")?;
    out.sync_all()?;
    fs::rename(&new, file)?;
    let folder = file.parent().ok_or_else(|| io::Error::other("it is in no folder"))?;
    File::open(folder)?.sync_all()
}

/// Carries out bootstraps until the daemon ends.
pub(crate) async fn bootstrap(handle: Handle, mut orders: mpsc::Receiver<Order>) {
    while let Some((confirm, reply)) = orders.recv().await {
        // The requester may no longer be waiting for the answer.
        let _ = reply.send(confirmed(&handle, confirm).await);
    }
}

async fn confirmed(handle: &Handle, confirm: Option<u64>) -> Outcome {
    let ending = "the daemon is about to end";
    match handle.bootstrap(confirm).await.ok_or(ending)? {
        Ok(()) => {
            let snapshot = handle.snapshot_of(Scope::Observed).await.ok_or(ending)?;
            let hash = hash(snapshot.roster_hash);
            let message = format!("is a witness of roster {hash} now, and has forgotten all former ones");
            warn!("{message}");
            Ok(json!({ "message": message, "roster_hash": hash }))
        }
        Err(refused) => Err(why(&refused, confirm)),
    }
}

/// A roster's hash, as `status` shows it.
pub(crate) fn hash(roster: u64) -> String {
    format!("{roster:012x}")
}

fn why(refused: &BootstrapRefused, confirm: Option<u64>) -> String {
    match refused {
        BootstrapRefused::Unconfirmed { roster_hash, unheard } => {
            let hash = hash(*roster_hash);
            let wrong = confirm.map_or_else(String::new, |given| format!(", not {given:012x}"));
            let silent = match &unheard[..] {
                [] => "This node hears every member of this roster and of former ones.".to_owned(),
                some => format!(
                    "This node does not hear these members of this roster or of former ones: {}.",
                    names(some)
                ),
            };
            format!(
                "not confirmed: the hash of this node's roster is {hash}{wrong}. {silent} If each member that is not heard is stopped, or has \
                 this roster, run `lastseen bootstrap --confirm {hash}` on more than half of the nodes"
            )
        }
        BootstrapRefused::Unsaved => {
            "refused: this node keeps no state of rosters yet; set state_dir to a folder that it can write"
                .to_owned()
        }
        BootstrapRefused::OtherWitness(peer) => {
            format!("refused: {peer} is a witness of another roster; give both the same roster first")
        }
        BootstrapRefused::Leaving => "refused: this node is leaving".to_owned(),
        other => format!("refused: {other:?}"),
    }
}

fn names(all: &[Arc<str>]) -> String {
    let more = all.len().saturating_sub(NAMED);
    let named = all[..all.len() - more].join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastseen::proto::Member;

    fn state(name: &str) -> RosterState {
        let member = Member { name: name.to_owned(), ..Member::default() };
        RosterState { format: 1, witness: true, roster: vec![member], ..RosterState::default() }
    }

    #[test]
    fn a_state_is_kept_and_nothing_else_lies_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rosters.json");
        assert_eq!(load(&file).unwrap(), RosterState::default(), "a first start");
        for state in [state("web-1"), state("web-2")] {
            save(&file, &state).unwrap();
            assert_eq!(load(&file).unwrap(), state);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(save(&dir.path().join("missing/rosters.json"), &state("a")).is_err());
    }

    #[test]
    fn a_torn_foreign_or_newer_file_is_put_aside_and_the_node_starts() {
        let newer = r#"{"format":2,"config_hash":0,"guard_wait":0,"witness":true,"roster":[],"former":[]}"#;
        for text in ["", "{\"format\":1,\"config_ha", "[]", "{\"until\": 5}", newer] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("rosters.json");
            fs::write(&file, text).unwrap();
            assert_eq!(load(&file).unwrap(), RosterState::default(), "{text}");
            assert!(!file.exists());
            assert_eq!(fs::read_to_string(dir.path().join("rosters.json.aside")).unwrap(), text);
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let no_folder = dir.path().join("file");
        fs::write(&no_folder, "").unwrap();
        assert!(load(&no_folder.join("rosters.json")).is_err(), "state_dir is a file");
        let fifo = dir.path().join("rosters.json");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(
            load(&fifo).unwrap(),
            RosterState::default(),
            "a FIFO is no state, and nobody waits for its writer"
        );
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let unheard = vec!["web-4".into(), "web-5".into()];
        let text = why(&BootstrapRefused::Unconfirmed { roster_hash: 0xab, unheard }, Some(7));
        assert!(
            text.starts_with(
                "not confirmed: the hash of this node's roster is 0000000000ab, not 000000000007. "
            ),
            "{text}"
        );
        assert!(text.contains(": web-4, web-5. ") && text.contains("--confirm 0000000000ab"), "{text}");
        assert_eq!(crate::args::parse_hash("0000000000ab"), Ok(0xab));
        assert!(
            ["", "ab", "+000000000ab", "0000000000ag"]
                .iter()
                .all(|text| crate::args::parse_hash(text).is_err())
        );
    }
}
