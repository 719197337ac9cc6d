//! What `static_peers` lists: entries, and names of which each address or service record is a node.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use super::raw::{Fault, Raw, Setting, Source, quoted, text};
use super::roster::{DEFAULT_PORT, Entry, check_name, is_local_name};

/// One item of `static_peers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listed {
    /// One node.
    Entry(Entry),
    /// `dns+a://NAME:PORT`: each address of the name is a node.
    Addresses {
        /// In lower case.
        name: String,
        /// Of all of them.
        port: u16,
    },
    /// `dns+srv://NAME`: the target and port of each record are a node.
    Services {
        /// In lower case.
        name: String,
    },
}

impl Listed {
    /// Reads an entry, or `dns+a://NAME[:PORT]`, or `dns+srv://NAME`.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub(crate) fn parse(text: &str) -> Result<Listed, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Entry::parse(text).map(Listed::Entry);
        };
        let wrong = |why: &str| {
            format!(
                "\"{text}\" is no peer: {why}; write \"dns+a://NAME:{DEFAULT_PORT}\" or \"dns+srv://NAME\""
            )
        };
        if rest.contains('@') {
            return Err(wrong("an id is of one node, and the name of many"));
        }
        if rest.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            return Err(wrong("it is an address, which stands for itself"));
        }
        match (scheme, rest.rsplit_once(':')) {
            ("dns+a", port) => {
                let (name, port) = match port {
                    Some((name, digits)) => (name, digits.parse().ok().filter(|p| *p != 0)),
                    None => (rest, Some(DEFAULT_PORT)),
                };
                let port = port.ok_or_else(|| wrong("the port is a number from 1 to 65535"))?;
                Ok(Listed::Addresses { name: check_dns(name).map_err(wrong)?, port })
            }
            ("dns+srv", None) => Ok(Listed::Services { name: check_dns(rest).map_err(wrong)? }),
            ("dns+srv", Some(_)) => Err(wrong("each SRV record has a port of its own")),
            _ => Err(wrong("there are no others such than dns+a:// and dns+srv://")),
        }
    }

    /// The entry, if it is one.
    pub(crate) fn entry(&self) -> Option<&Entry> {
        match self {
            Listed::Entry(entry) => Some(entry),
            _ => None,
        }
    }

    /// Whether it is on loopback whatever a resolver says.
    pub(crate) fn is_loopback(&self) -> bool {
        match self {
            Listed::Entry(entry) => entry.is_loopback(),
            Listed::Addresses { name, .. } | Listed::Services { name } => is_local_name(name),
        }
    }
}

/// A name that can be asked for: labels of 1 to 63 characters. The dot at its end is left out.
fn check_dns(name: &str) -> Result<String, &'static str> {
    let name = check_name(name.strip_suffix('.').unwrap_or(name))?;
    if name.split('.').all(|label| (1..=63).contains(&label.len())) {
        Ok(name)
    } else {
        Err("between its dots a name has 1 to 63 characters")
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listed::Entry(entry) => entry.fmt(f),
            Listed::Addresses { name, port } => write!(f, "dns+a://{name}:{port}"),
            Listed::Services { name } => write!(f, "dns+srv://{name}"),
        }
    }
}

impl Setting for Listed {
    fn read(raw: &Raw) -> Result<Self, String> {
        Listed::parse(text(raw, "\"ID@HOST:PORT\"")?)
    }
    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

/// No two items may name one node, or one name.
pub(crate) fn check_duplicates(listed: &[Listed], source: &Source) -> Vec<Fault> {
    let (mut faults, mut ids, mut places) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    for item in listed {
        let id = item.entry().and_then(|entry| entry.server_id.as_deref());
        let place = item.entry().map_or_else(|| item.to_string(), Entry::name);
        let same_id = id.and_then(|id| ids.insert(id, item)).map(|earlier| (earlier, "the same id"));
        let same_place = places.insert(place, item).map(|earlier| (earlier, "the same address"));
        if let Some((earlier, what)) = same_id.or(same_place) {
            faults.push(Fault::at(
                source,
                format!(
                    "static_peers: \"{earlier}\" and \"{item}\" have {what}; every node stands there once"
                ),
            ));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_many_nodes_read_back_as_they_are_shown() {
        for (text, shown) in [
            ("dns+a://nodes.example", "dns+a://nodes.example:5278"),
            ("dns+a://Nodes.Example.:7", "dns+a://nodes.example:7"),
            ("dns+srv://_lastseen._udp.example.org", "dns+srv://_lastseen._udp.example.org"),
            ("a@10.0.0.1", "a@10.0.0.1:5278"),
        ] {
            let listed = Listed::parse(text).unwrap();
            assert_eq!(listed.to_string(), shown);
            assert_eq!(Listed::parse(shown), Ok(listed));
        }
    }

    #[test]
    fn what_is_no_name_of_many_is_told_what_would_be_right() {
        for (text, told) in [
            ("dns+a://", "the host is missing"),
            ("dns+a://a..b", "between its dots"),
            ("dns+a://x:0", "the port is a number from 1 to 65535"),
            ("dns+a://10.0.0.1", "it is an address"),
            ("dns+a://[::1]", "it is an address"),
            ("dns+a://web-1@x", "an id is of one node"),
            ("dns+srv://x:5278", "each SRV record has a port of its own"),
            ("dns+srv://x y", "neither an address nor a name"),
            ("dns://x", "write \"dns+a://NAME:5278\" or \"dns+srv://NAME\""),
            ("x y", "write \"ID@HOST:PORT\""),
        ] {
            let why = Listed::parse(text).unwrap_err();
            assert!(why.contains(told) && why.contains(text), "{text}: {why}");
        }
    }

    #[test]
    fn nobody_stands_there_twice() {
        let listed = |texts: &[&str]| texts.iter().map(|t| Listed::parse(t).unwrap()).collect::<Vec<_>>();
        let told = |texts: &[&str]| check_duplicates(&listed(texts), &Source::Default).len();
        assert_eq!(told(&["a@10.0.0.1", "b@10.0.0.2", "10.0.0.3", "dns+a://x", "dns+a://x:1"]), 0);
        assert_eq!(told(&["a@10.0.0.1", "a@10.0.0.2"]), 1);
        assert_eq!(told(&["a@10.0.0.1", "10.0.0.1:5278"]), 1);
        assert_eq!(told(&["dns+srv://x", "dns+srv://X"]), 1);
    }
}
