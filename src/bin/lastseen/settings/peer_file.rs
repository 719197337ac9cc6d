//! Files of peers in the format of Prometheus' `file_sd`: which there are, and what stands in one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::check_id;
use super::raw::{Raw, Setting, quoted, text};
use super::roster::Entry;

/// The label that gives an id to the one target of its group.
const ID: &str = "server_id";

/// One item of `peer_files`: a file, or all that match its last component with a `*` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerFile {
    /// As it is written.
    pub(crate) path: PathBuf,
    /// What stands before and after the `*` in the last component.
    around: Option<(String, String)>,
}

impl PeerFile {
    /// Reads a path.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub(crate) fn parse(text: &str) -> Result<PeerFile, String> {
        let wrong = |why: &str| {
            format!(
                "\"{text}\" is no file of peers: {why}; write \"/etc/lastseen/peers.json\", \".yml\" or \"*.yaml\""
            )
        };
        let path = PathBuf::from(text);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if ![".json", ".yml", ".yaml"].iter().any(|end| name.ends_with(end)) {
            return Err(wrong("its name ends neither in .json nor in .yml or .yaml"));
        }
        let around = name.split_once('*').map(|(head, tail)| (head.to_owned(), tail.to_owned()));
        if text.matches('*').count() > usize::from(around.is_some()) {
            return Err(wrong("one * at most, and only after the last /"));
        }
        Ok(PeerFile { around, path })
    }

    /// The files that there are now, sorted; the file itself, there or not, if no `*` is in its name.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(crate) fn paths(&self) -> std::io::Result<Vec<PathBuf>> {
        let Some((head, tail)) = &self.around else { return Ok(vec![self.path.clone()]) };
        let directory = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let fits = |name: &str| {
            name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
        };
        let mut paths = Vec::new();
        for found in std::fs::read_dir(directory)? {
            let found = found?;
            // A shell's * hides these as well; editors write them.
            if found
                .file_name()
                .to_str()
                .is_some_and(|name| fits(name) && (!name.starts_with('.') || head.starts_with('.')))
            {
                paths.push(found.path());
            }
        }
        paths.sort_unstable();
        Ok(paths)
    }

    /// Whether the file may come and go: it matches a `*`.
    pub(crate) fn is_pattern(&self) -> bool {
        self.around.is_some()
    }
}

impl Setting for PeerFile {
    fn read(raw: &Raw) -> Result<Self, String> {
        PeerFile::parse(text(raw, "a path in quotes")?)
    }
    fn show(&self) -> String {
        quoted(&self.path.display().to_string())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    targets: Vec<String>,
    labels: Option<BTreeMap<String, Label>>,
}

/// Only text can be an id; what other labels are is of no interest.
#[derive(Deserialize)]
#[serde(untagged)]
enum Label {
    Text(String),
    Other(IgnoredAny),
}

/// Reads what stands in a file: YAML, or JSON if that is the end of its name.
///
/// # Errors
/// The first thing that is wrong, and what would be right.
pub(crate) fn parse(text: &str, is_json: bool) -> Result<Vec<Entry>, String> {
    if text.trim().is_empty() {
        // A file that is just being written looks so, too.
        return Err("it is empty; for no peers write []".to_owned());
    }
    let right = "right is [{targets: [\"ID@HOST:PORT\"]}]";
    let groups: Vec<Group> = if is_json {
        serde_json::from_str(text).map_err(|e| format!("{e}; {right}"))?
    } else {
        yaml_serde::from_str(text).map_err(|e| format!("{e}; {right}"))?
    };
    let mut entries = Vec::new();
    for Group { targets, labels } in groups {
        let id = match labels.unwrap_or_default().remove(ID) {
            Some(Label::Text(id)) => Some(id),
            Some(Label::Other(_)) => return Err(format!("the label {ID} is no text; write it in quotes")),
            None => None,
        };
        if let (Some(id), false) = (&id, targets.len() == 1) {
            return Err(format!(
                "the label {ID} \"{id}\" has {} targets; it names one: give each a group of its own, or write \"ID@HOST:PORT\"",
                targets.len()
            ));
        }
        for target in targets {
            entries.push(entry(&target, id.as_deref())?);
        }
    }
    Ok(entries)
}

fn entry(target: &str, label: Option<&str>) -> Result<Entry, String> {
    let mut entry = Entry::parse(target)?;
    if let Some(label) = label {
        check_id(label).map_err(|e| format!("the label {ID} \"{label}\" of {target}: {e}"))?;
        if let Some(id) = entry.server_id.replace(label.to_owned())
            && id != label
        {
            return Err(format!(
                "\"{target}\" has the label {ID} \"{label}\", which is another id; write one of them"
            ));
        }
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_targets_are_read() {
        let json = r#"[{"targets": ["a@10.0.0.1", "web-2.example:7"], "labels": {"rack": 7}},
                       {"targets": ["10.0.0.3:1"], "labels": {"server_id": "c", "job": "x"}}, {"targets": []}]"#;
        let yaml = "- targets: [a@10.0.0.1, 'web-2.example:7']\n  labels:\n    rack: 7\n\
                    - targets:\n  - 10.0.0.3:1\n  labels: {server_id: c, job: x}\n- targets: []\n  labels:\n";
        for (text, is_json) in [(json, true), (yaml, false), (json, false)] {
            let entries: Vec<String> = parse(text, is_json).unwrap().iter().map(Entry::to_string).collect();
            assert_eq!(entries, ["a@10.0.0.1:5278", "web-2.example:7", "c@10.0.0.3:1"]);
        }
        assert_eq!(parse("[]", true), Ok(Vec::new()));
        assert_eq!(parse("[]", false), Ok(Vec::new()));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named() {
        for (text, told) in [
            ("", "for no peers write []"),
            (" \n", "for no peers write []"),
            ("[{\"targets\": [\"a@10.0.0.1\"", "line 1"),
            ("{\"targets\": []}", "right is [{targets"),
            ("[{\"target\": []}]", "`target`"),
            ("[{\"labels\": {}}]", "`targets`"),
            ("[{\"targets\": [\"a@\"]}]", "\"a@\" is no peer"),
            ("[{\"targets\": [\"dns+a://x\"]}]", "\"dns+a://x\" is no peer"),
            ("[{\"targets\": [\"x\", \"y\"], \"labels\": {\"server_id\": \"a\"}}]", "\"a\" has 2 targets"),
            ("[{\"targets\": [\"x\"], \"labels\": {\"server_id\": 7}}]", "server_id is no text"),
            ("[{\"targets\": [\"x\"], \"labels\": {\"server_id\": \"a b\"}}]", "an id has no spaces"),
            ("[{\"targets\": [\"b@x\"], \"labels\": {\"server_id\": \"a\"}}]", "another id"),
        ] {
            for is_json in [true, false] {
                let why = parse(text, is_json).unwrap_err();
                assert!(why.contains(told), "{text}: {why}");
            }
        }
    }

    #[test]
    fn a_star_stands_for_the_files_of_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.json", "a.json", "c.yml", ".hidden.json"] {
            std::fs::write(dir.path().join(name), "[]").unwrap();
        }
        let paths = |name: &str| {
            let file = PeerFile::parse(dir.path().join(name).to_str().unwrap()).unwrap();
            let names = file.paths().unwrap();
            names.iter().map(|p| p.file_name().unwrap().to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(paths("*.json"), ["a.json", "b.json"]);
        assert_eq!(paths("c*.yml"), ["c.yml"]);
        assert_eq!(paths("not-there.yaml"), ["not-there.yaml"]);
        for (text, told) in [
            ("", "ends neither"),
            ("/peers.toml", "ends neither"),
            ("/*/a.json", "one * at most"),
            ("/**.json", "one * at most"),
        ] {
            let why = PeerFile::parse(text).unwrap_err();
            assert!(why.contains(told), "{why}");
        }
    }
}
