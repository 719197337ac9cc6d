//! Files of peers: read when they change, which their stamps tell. That works on every file system, and where a file is replaced
//! as a whole or by another target of a link.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use crate::settings::{Entry, PeerFile, peer_file};

/// No file of peers is longer, in bytes.
const LONGEST: u64 = 32 << 20;

/// What tells one state of a file from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// Of the file that the path leads to now.
    ///
    /// # Errors
    /// There is none, or it cannot be looked at.
    pub(crate) fn of(path: &Path) -> io::Result<Stamp> {
        let found = fs::metadata(path)?;
        Ok(Stamp {
            file: (found.dev(), found.ino()),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }
}

/// One file, as it was last seen.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// The item of `peer_files` that it belongs to.
    source: Arc<str>,
    /// `None`: not there, or not to be looked at.
    stamp: Option<Stamp>,
    /// Its newest good content.
    entries: Arc<[Entry]>,
}

/// All files, as they were last seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files(BTreeMap<PathBuf, Seen>);

/// What came of looking at them.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    pub(crate) files: Files,
    /// Whether other peers may stand there than before.
    pub(crate) changed: bool,
    /// What is wrong since this look, by the item of `peer_files`.
    pub(crate) faults: Vec<(Arc<str>, String)>,
}

impl Files {
    /// The peers of every file, with the item of `peer_files` that they come from.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&Arc<str>, &Entry)> {
        self.0.values().flat_map(|seen| seen.entries.iter().map(|entry| (&seen.source, entry)))
    }

    /// Looks at all files of `plan`, and reads what has changed. A file that is wrong, or missing, keeps what stood there; but one
    /// that a pattern no longer finds is gone. May block.
    pub(crate) fn look(&self, plan: &[PeerFile], only_loopback: bool) -> Looked {
        let mut looked = Looked::default();
        for file in plan {
            let source: Arc<str> = file.path.display().to_string().into();
            let paths = match file.paths() {
                Ok(paths) => paths,
                Err(e) => {
                    looked.keep(self, &source, &e);
                    continue;
                }
            };
            for path in paths {
                let before = self.0.get(&path);
                let seen = Seen { source: Arc::clone(&source), ..before.cloned().unwrap_or_default() };
                looked.look_at(path, seen, before.is_none(), file.is_pattern(), only_loopback);
            }
        }
        looked.changed = looked.files.entries().ne(self.entries());
        looked
    }
}

impl Looked {
    /// The directory of a pattern cannot be read: as long as that lasts, what was found in it stays.
    fn keep(&mut self, before: &Files, source: &Arc<str>, e: &io::Error) {
        let known = before.0.iter().filter(|(_, seen)| seen.source == *source);
        self.files.0.extend(known.map(|(path, seen)| (path.clone(), seen.clone())));
        // The pattern's own place, where no file can be, says that it was told.
        let seen = Seen { source: Arc::clone(source), ..Seen::default() };
        if self.files.0.insert(PathBuf::from(&**source), seen).is_none() {
            self.faults.push((Arc::clone(source), format!("{source}: {e}")));
        }
    }

    fn look_at(&mut self, path: PathBuf, mut seen: Seen, is_new: bool, may_go: bool, only_loopback: bool) {
        // Before it is read: what is written meanwhile is seen at the next look.
        let stamp = Stamp::of(&path);
        if let Err(e) = &stamp {
            if may_go && e.kind() == io::ErrorKind::NotFound {
                return;
            }
            if seen.stamp.take().is_some() || is_new {
                self.faults.push((Arc::clone(&seen.source), format!("{}: {e}", path.display())));
            }
        } else if let Some(stamp) = stamp.ok().filter(|stamp| seen.stamp.as_ref() != Some(stamp)) {
            match read(&path, stamp.size, only_loopback) {
                Ok(entries) => seen.entries = entries.into(),
                Err(why) => {
                    self.faults.push((Arc::clone(&seen.source), format!("{}: {why}", path.display())))
                }
            }
            seen.stamp = Some(stamp);
        }
        self.files.0.insert(path, seen);
    }
}

fn read(path: &Path, size: u64, only_loopback: bool) -> Result<Vec<Entry>, String> {
    if size > LONGEST {
        return Err(format!("it has {size} bytes; {LONGEST} are the most"));
    }
    let text = fs::read_to_string(path).map_err(|e| e.to_string())?;
    let entries = peer_file::parse(&text, path.extension().is_some_and(|end| end == "json"))?;
    match entries.iter().find(|entry| only_loopback && !entry.is_loopback()) {
        Some(entry) => Err(format!(
            "no cluster key, and \"{entry}\" is not on loopback; name a key in [security] key_files"
        )),
        None => Ok(entries),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &Files) -> Vec<String> {
        files.entries().map(|(_, entry)| entry.to_string()).collect()
    }

    /// Writes a file anew under its name, as the caller of this format should.
    fn replace(path: &Path, text: &str) {
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, path).unwrap();
    }

    #[test]
    fn a_file_that_is_wrong_or_missing_keeps_its_last_good_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("peers.json");
        let plan = [PeerFile::parse(path.to_str().unwrap()).unwrap()];
        let none = Files::default().look(&plan, false);
        assert_eq!((none.faults.len(), names(&none.files).len()), (1, 0), "it may be made later");
        assert!(none.faults[0].1.contains("peers.json: No such file"), "{:?}", none.faults);
        replace(&path, "[{\"targets\": [\"a@10.0.0.1:1\"]}]");
        let good = none.files.look(&plan, false);
        assert_eq!(
            (good.changed, good.faults.len(), names(&good.files)),
            (true, 0, vec!["a@10.0.0.1:1".to_owned()])
        );
        let same = good.files.look(&plan, false);
        assert_eq!((same.changed, same.faults.len()), (false, 0));
        replace(&path, "[{\"targets\": [\"b@10.0.0.1:1\"");
        let half = same.files.look(&plan, false);
        assert_eq!((half.changed, half.faults.len(), names(&half.files).len()), (false, 1, 1));
        assert_eq!(half.files.look(&plan, false).faults.len(), 0, "it is told once");
        fs::remove_file(&path).unwrap();
        let gone = half.files.look(&plan, false);
        assert_eq!((gone.changed, gone.faults.len(), names(&gone.files).len()), (false, 1, 1));
        assert_eq!(gone.files.look(&plan, false).faults.len(), 0, "it is told once");
        replace(&path, "[]");
        let empty = gone.files.look(&plan, false);
        assert_eq!((empty.changed, empty.faults.len(), names(&empty.files).len()), (true, 0, 0));
    }

    #[test]
    fn what_a_pattern_no_longer_finds_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        for (name, peer) in [("a.yml", "a@127.0.0.1:1"), ("b.yml", "b@10.0.0.2:1")] {
            fs::write(dir.path().join(name), format!("- targets: [\"{peer}\"]")).unwrap();
        }
        let plan = [PeerFile::parse(dir.path().join("*.yml").to_str().unwrap()).unwrap()];
        let both = Files::default().look(&plan, false).files;
        assert_eq!(names(&both), ["a@127.0.0.1:1", "b@10.0.0.2:1"]);
        let near = Files::default().look(&plan, true);
        assert_eq!(names(&near.files), ["a@127.0.0.1:1"]);
        assert!(near.faults[0].1.contains("no cluster key, and \"b@10.0.0.2:1\""), "{:?}", near.faults);
        fs::remove_file(dir.path().join("a.yml")).unwrap();
        let one = both.look(&plan, false);
        assert_eq!(
            (one.changed, one.faults.len(), names(&one.files)),
            (true, 0, vec!["b@10.0.0.2:1".to_owned()])
        );
        drop(dir);
        let none = one.files.look(&plan, false);
        assert_eq!((none.changed, names(&none.files).len()), (false, 1), "the directory is away");
    }
}
