//! The roster: its entries, and which of them is this node itself.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The port of an entry or address that names none.
pub(crate) const DEFAULT_PORT: u16 = 5278;

/// A host as it is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    /// An address: nothing to resolve.
    Ip(IpAddr),
    /// A name for the resolver, in lower case.
    Name(String),
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    /// The id in front of the `@`.
    pub(crate) server_id: Option<String>,
    /// The host.
    pub(crate) host: Host,
    /// The port.
    pub(crate) port: u16,
}

impl Entry {
    /// Reads `ID@HOST:PORT` or a part of it.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub(crate) fn parse(text: &str) -> Result<Entry, String> {
        let wrong =
            |why: &str| format!("\"{text}\" is no peer: {why}; write \"ID@HOST:PORT\" or \"HOST:PORT\"");
        let (server_id, rest) = match text.split_once('@') {
            Some((id, rest)) => (Some(check_id(id).map_err(|e| wrong(&e))?.to_owned()), rest),
            None => (None, text),
        };
        // An IPv6 address without brackets has more than one colon: its last group is no port.
        if rest.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) {
            return Err(wrong(&format!("an IPv6 address stands in brackets, [{rest}]:{DEFAULT_PORT}")));
        }
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, _)) if host.starts_with('[') && !host.ends_with(']') => (rest, None),
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        };
        let port = match port {
            Some(digits) => digits
                .parse()
                .ok()
                .filter(|p| *p != 0)
                .ok_or_else(|| wrong("the port is a number from 1 to 65535"))?,
            None => DEFAULT_PORT,
        };
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(inner) => {
                Host::Ip(inner.parse().map_err(|_| wrong("what stands in brackets is no IPv6 address"))?)
            }
            None => match host.parse() {
                Ok(ip) => Host::Ip(ip),
                Err(_) => Host::Name(check_name(host).map_err(&wrong)?),
            },
        };
        if let Host::Ip(ip) = host
            && (ip.is_unspecified() || ip.is_multicast())
        {
            return Err(wrong(&format!("{ip} is the address of no node")));
        }
        Ok(Entry { server_id, host, port })
    }

    /// `HOST:PORT`: names the peer until its id is known.
    pub(crate) fn name(&self) -> String {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).to_string(),
            Host::Name(name) => format!("{name}:{}", self.port),
        }
    }

    /// The address, if the entry is one.
    pub(crate) fn literal(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Ip(ip) => Some(SocketAddr::new(ip, self.port)),
            Host::Name(_) => None,
        }
    }

    /// Whether it is on loopback whatever a resolver says.
    pub(crate) fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Ip(ip) => ip.is_loopback(),
            Host::Name(name) => is_local_name(name),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server_id {
            Some(id) => write!(f, "{id}@{}", self.name()),
            None => f.write_str(&self.name()),
        }
    }
}

/// Whether no resolver says that this name is another machine's.
pub(super) fn is_local_name(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

/// Checks a server id.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_id(id: &str) -> Result<&str, String> {
    match id {
        "" => Err("the id is empty".to_owned()),
        id if id.len() > 64 => Err(format!("an id has at most 64 bytes, this one {}", id.len())),
        id if id.chars().any(|c| c.is_control() || c.is_whitespace()) => {
            Err("an id has no spaces and no control characters".to_owned())
        }
        id => Ok(id),
    }
}

/// Checks a host name; answers it in lower case.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_name(name: &str) -> Result<String, &'static str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match name {
        "" => Err("the host is missing"),
        name if name.len() <= 253 && name.chars().all(fits) => Ok(name.to_ascii_lowercase()),
        _ => Err("the host is neither an address nor a name"),
    }
}

/// What tells this node from the others.
#[derive(Clone, Debug)]
pub(crate) struct Myself<'a> {
    /// The id that was set.
    pub(crate) server_id: Option<&'a str>,
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// Where others reach it, if that was set.
    pub(crate) advertise: Option<SocketAddr>,
    /// The addresses of the machine's interfaces.
    pub(crate) interfaces: &'a [IpAddr],
    /// The host name up to the first dot.
    pub(crate) host_name: &'a str,
}

impl Myself<'_> {
    /// Whether `address` is this node's. A loopback address means another machine's to everyone else, and one
    /// machine may run many nodes on loopback: such an address counts only if it is exactly where this node listens.
    fn has(&self, address: SocketAddr) -> bool {
        if self.advertise == Some(address) {
            return true;
        }
        let ip = address.ip().to_canonical();
        let listen = self.listen.ip().to_canonical();
        self.listen.port() == address.port()
            && (ip == listen
                || (listen.is_unspecified() && !ip.is_loopback() && self.interfaces.contains(&ip)))
    }

    /// The one entry whose name does not resolve now and is this machine's: a resolver that is down at the start
    /// must not change who a node is.
    fn find_by_name(&self, roster: &[(Entry, Option<SocketAddr>)]) -> Vec<bool> {
        let is_mine = |(entry, address): &(Entry, Option<SocketAddr>)| {
            let Host::Name(name) = &entry.host else { return false };
            let short = name.split('.').next().unwrap_or_default();
            address.is_none()
                && entry.port == self.listen.port()
                && short.eq_ignore_ascii_case(self.host_name)
        };
        let mine: Vec<bool> = roster.iter().map(is_mine).collect();
        if mine.iter().filter(|m| **m).count() == 1 { mine } else { vec![false; roster.len()] }
    }

    /// This node's id, and for each entry whether it is this node.
    ///
    /// # Errors
    /// The id that was set contradicts the roster's for this node's own address.
    pub(crate) fn find(&self, roster: &[(Entry, Option<SocketAddr>)]) -> Result<(String, Vec<bool>), String> {
        let mut here: Vec<bool> =
            roster.iter().map(|(_, address)| address.is_some_and(|a| self.has(a))).collect();
        if self.server_id.is_none() && !here.contains(&true) {
            here = self.find_by_name(roster);
        }
        let named = roster
            .iter()
            .zip(&here)
            .filter(|(_, here)| **here)
            .find(|((entry, _), _)| entry.server_id.is_some());
        if let (Some(given), Some(((entry, address), _))) = (self.server_id, named)
            && entry.server_id.as_deref() != Some(given)
        {
            let id = entry.server_id.as_deref().unwrap_or_default();
            let address = address.map(|a| a.to_string()).unwrap_or_default();
            return Err(format!(
                "server_id is \"{given}\", but static_peers says that {address}, an address of this machine, is \"{id}\" \
                 (\"{entry}\"); correct either of them, or leave server_id empty"
            ));
        }
        let own = self
            .server_id
            .or(named.and_then(|((entry, _), _)| entry.server_id.as_deref()))
            .unwrap_or(self.host_name);
        let is_own = roster
            .iter()
            .zip(&here)
            .map(|((entry, _), here)| *here || entry.server_id.as_deref() == Some(own));
        Ok((own.to_owned(), is_own.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster(entries: &[&str]) -> Vec<(Entry, Option<SocketAddr>)> {
        entries.iter().map(|t| Entry::parse(t).unwrap()).map(|e| (e.clone(), e.literal())).collect()
    }

    const INTERFACES: [IpAddr; 2] =
        [IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1)), IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7))];

    fn myself(listen: &str) -> Myself<'static> {
        Myself {
            server_id: None,
            listen: listen.parse().unwrap(),
            advertise: None,
            interfaces: &INTERFACES,
            host_name: "web-7",
        }
    }

    #[test]
    fn entries_read_back_as_they_are_shown() {
        for text in ["a@10.0.0.1:5278", "10.0.0.1:1", "web-1.example:5278", "x@[::1]:7"] {
            assert_eq!(Entry::parse(text).unwrap().to_string(), text);
        }
        for (text, full) in
            [("a@host", "a@host:5278"), ("[::1]", "[::1]:5278"), ("10.0.0.1", "10.0.0.1:5278")]
        {
            assert_eq!(Entry::parse(text).unwrap().to_string(), full);
        }
        for text in
            ["", "@h:1", "a@", "h:0", "h:70000", "h:x", "::1", "[::1", "[h]:1", "a b:1", "x/y:1", "0.0.0.0:1"]
        {
            assert!(Entry::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_entry_with_my_address_is_me() {
        let roster = roster(&["a@10.0.0.6:5278", "b@10.0.0.7:5278", "c@10.0.0.7:5279"]);
        assert_eq!(myself("[::]:5278").find(&roster), Ok(("b".to_owned(), vec![false, true, false])));
        assert_eq!(myself("10.0.0.7:5279").find(&roster), Ok(("c".to_owned(), vec![false, false, true])));
        assert_eq!(myself("[::]:1").find(&roster), Ok(("web-7".to_owned(), vec![false; 3])));
    }

    #[test]
    fn on_loopback_only_where_i_listen_is_me() {
        let roster = roster(&["a@127.0.0.1:5278", "b@127.0.0.2:5278"]);
        assert_eq!(myself("127.0.0.2:5278").find(&roster), Ok(("b".to_owned(), vec![false, true])));
        assert_eq!(myself("0.0.0.0:5278").find(&roster), Ok(("web-7".to_owned(), vec![false, false])));
    }

    #[test]
    fn behind_nat_the_advertised_address_or_the_id_is_me() {
        let roster = roster(&["a@192.0.2.1:5278", "web-7@192.0.2.2:5278"]);
        assert_eq!(myself("[::]:5278").find(&roster), Ok(("web-7".to_owned(), vec![false, true])));
        let advertised = Myself { advertise: "192.0.2.1:5278".parse().ok(), ..myself("[::]:5278") };
        assert_eq!(advertised.find(&roster), Ok(("a".to_owned(), vec![true, false])));
    }

    #[test]
    fn without_a_resolver_the_one_entry_with_my_host_name_is_me() {
        let entries = ["a@web-6.example", "b@web-7.example", "c@web-7.example:9"];
        let found = myself("[::]:5278").find(&roster(&entries));
        assert_eq!(found, Ok(("b".to_owned(), vec![false, true, false])));
        let two = roster(&["a@web-7.north", "b@web-7.south"]);
        assert_eq!(myself("[::]:5278").find(&two), Ok(("web-7".to_owned(), vec![false; 2])));
    }

    #[test]
    fn an_id_that_contradicts_the_roster_is_an_error() {
        let given = Myself { server_id: Some("web-9"), ..myself("[::]:5278") };
        let error = given.find(&roster(&["web-3@10.0.0.7:5278"])).unwrap_err();
        assert!(error.contains("\"web-9\"") && error.contains("\"web-3\""), "{error}");
    }
}
