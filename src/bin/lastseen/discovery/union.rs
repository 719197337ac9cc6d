//! All sources together: every node stands in the roster once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::settings::{Entry, Host, Resolved};

/// An entry of some source.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    pub(super) entry: &'a Entry,
    pub(super) source: &'a Arc<str>,
    /// What it resolved to.
    pub(super) address: Option<SocketAddr>,
    /// Whether it is written in `static_peers`, where an address keeps what it says.
    pub(super) is_static: bool,
}

/// The roster, and what is odd about it. Of two that are one node the first counts. Of two names with one address the one that
/// has it already (by `held`) keeps it, else the first; the other counts as not resolved: a wrong record loses nobody.
pub(super) fn unite(
    candidates: &[Candidate<'_>],
    held: impl Fn(&Entry) -> Option<SocketAddr>,
) -> (Resolved, Vec<String>) {
    let mut odd = Vec::new();
    let mut ids: BTreeMap<&str, &Candidate<'_>> = BTreeMap::new();
    let mut places: BTreeMap<(&Host, u16), &Candidate<'_>> = BTreeMap::new();
    let mut once: Vec<&Candidate<'_>> = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let Candidate { entry, source, .. } = candidate;
        let same_id =
            entry.server_id.as_deref().and_then(|id| ids.get(id)).map(|first| (first, "the same id"));
        let place = (&entry.host, entry.port);
        let same = same_id.or_else(|| places.get(&place).map(|first| (first, "the same address")));
        if let Some((first, what)) = same {
            odd.push(format!(
                "\"{entry}\" of {source} is left out: \"{}\" of {} has {what}",
                first.entry, first.source
            ));
            continue;
        }
        if let Some(id) = entry.server_id.as_deref() {
            ids.insert(id, candidate);
        }
        places.insert(place, candidate);
        once.push(candidate);
    }
    let mut owners: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    let literal = |c: &Candidate<'_>| c.is_static && c.entry.literal().is_some();
    let holds = |c: &Candidate<'_>| c.address.is_some() && held(c.entry) == c.address;
    let ranks: [&dyn Fn(&Candidate<'_>) -> bool; 3] = [&literal, &holds, &|_| true];
    for rank in ranks {
        for (n, candidate) in once.iter().enumerate().filter(|(_, c)| rank(c)) {
            if let Some(address) = candidate.address {
                owners.entry(address).or_insert(n);
            }
        }
    }
    let mut roster = Vec::with_capacity(once.len());
    for (n, Candidate { entry, source, address, .. }) in once.iter().enumerate() {
        let owner = address.and_then(|address| owners.get(&address)).filter(|owner| **owner != n);
        match owner.map(|owner| once[*owner]) {
            None => roster.push(((*entry).clone(), *address)),
            Some(owner) if entry.literal().is_some() => {
                odd.push(format!(
                    "\"{entry}\" of {source} is left out: it is the address of \"{}\"",
                    owner.entry
                ));
            }
            Some(owner) => {
                odd.push(format!(
                    "\"{entry}\" of {source} resolves to the address of \"{}\"; every node has its own",
                    owner.entry
                ));
                roster.push(((*entry).clone(), None));
            }
        }
    }
    (roster, odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries with what they resolve to; before a bar those of `static_peers`. The roster as text, and how much is odd.
    fn united(texts: &[(&str, &str)], held: &[(&str, &str)]) -> (Vec<String>, usize) {
        let entries: Vec<Entry> =
            texts.iter().map(|(t, _)| Entry::parse(t.trim_start_matches('|')).unwrap()).collect();
        let source: Arc<str> = "s".into();
        let candidates: Vec<Candidate<'_>> = entries
            .iter()
            .zip(texts)
            .map(|(entry, (text, at))| {
                let address = entry.literal().or(at.parse().ok());
                Candidate { entry, source: &source, address, is_static: !text.starts_with('|') }
            })
            .collect();
        let held = |entry: &Entry| {
            let (_, at) = held.iter().find(|(name, _)| *name == entry.name())?;
            at.parse().ok()
        };
        let (roster, odd) = unite(&candidates, held);
        let text = |(e, a): &(Entry, Option<SocketAddr>)| match a {
            Some(a) => format!("{e} {a}"),
            None => format!("{e} -"),
        };
        (roster.iter().map(text).collect(), odd.len())
    }

    #[test]
    fn the_first_source_of_a_node_counts() {
        let found = united(
            &[("a@10.0.0.1:1", ""), ("|10.0.0.1:1", ""), ("|a@10.0.0.2:1", ""), ("|b@10.0.0.3:1", "")],
            &[],
        );
        assert_eq!(
            found,
            (vec!["a@10.0.0.1:1 10.0.0.1:1".to_owned(), "b@10.0.0.3:1 10.0.0.3:1".to_owned()], 2)
        );
        // The same machine by its name, and by its address from elsewhere.
        let found = united(&[("a@x:1", "10.0.0.1:1"), ("|10.0.0.1:1", "")], &[]);
        assert_eq!(found, (vec!["a@x:1 10.0.0.1:1".to_owned()], 1));
    }

    #[test]
    fn no_two_peers_have_one_address() {
        let names =
            [("a@x:1", "10.0.0.1:1"), ("b@y:1", "10.0.0.2:1"), ("c@10.0.0.1:1", ""), ("d@z:1", "10.0.0.2:1")];
        let (roster, odd) = united(&names, &[]);
        assert_eq!(roster, ["a@x:1 -", "b@y:1 10.0.0.2:1", "c@10.0.0.1:1 10.0.0.1:1", "d@z:1 -"]);
        assert_eq!(odd, 2);
        let (roster, odd) = united(&names, &[("z:1", "10.0.0.2:1"), ("y:1", "10.0.0.9:1")]);
        assert_eq!(roster[1], "b@y:1 -", "it stays with who has it");
        assert_eq!((roster[3].as_str(), odd), ("d@z:1 10.0.0.2:1", 2));
    }
}
