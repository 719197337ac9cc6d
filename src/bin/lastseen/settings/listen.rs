//! Where an HTTP listener is.

use std::net::SocketAddr;

use super::raw::{Raw, Setting, text};
use super::roster::{Host, check_name};

/// An address, or a name of this machine: it is resolved at the start, and the listener may be called by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    host: Host,
    port: u16,
}

impl Listen {
    /// What to bind: `HOST:PORT`.
    pub(crate) fn text(&self) -> String {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).to_string(),
            Host::Name(name) => format!("{name}:{}", self.port),
        }
    }

    /// The name, if it is one.
    pub(crate) fn name(&self) -> Option<&str> {
        match &self.host {
            Host::Ip(_) => None,
            Host::Name(name) => Some(name),
        }
    }
}

impl Listen {
    /// Reads `ADDRESS:PORT` or `NAME:PORT`.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub(crate) fn parse(text: &str) -> Result<Listen, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Listen { host: Host::Ip(address.ip()), port: address.port() });
        }
        let parsed = text.rsplit_once(':').and_then(|(host, port)| {
            let name =
                check_name(host).ok().filter(|name| !name.starts_with(|c: char| c.is_ascii_digit()))?;
            Some(Listen { host: Host::Name(name), port: port.parse().ok()? })
        });
        parsed.ok_or_else(|| {
            let right = match text.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
                Ok(ip) => SocketAddr::new(ip, 5279).to_string(),
                Err(_) => "127.0.0.1:5279\", \"HOST:5279".to_owned(),
            };
            format!("\"{text}\" is not an address or name with a port; write \"{right}\"")
        })
    }
}

impl Setting for Listen {
    fn read(raw: &Raw) -> Result<Self, String> {
        Listen::parse(text(raw, "\"127.0.0.1:5279\"")?)
    }
    fn show(&self) -> String {
        format!("\"{}\"", self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_read() {
        for (text, name) in
            [("127.0.0.1:0", None), ("[::]:5279", None), ("Web-1.example:5279", Some("web-1.example"))]
        {
            let listen = Listen::parse(text).unwrap();
            assert_eq!((listen.text(), listen.name()), (text.to_ascii_lowercase(), name));
        }
        for (text, right) in [
            ("10.0.0.7", "write \"10.0.0.7:5279\""),
            ("::1", "write \"[::1]:5279\""),
            ("web-1", "\"HOST:5279\""),
            ("web-1:port", "\"HOST:5279\""),
            ("10.0.0.777:80", "\"HOST:5279\""),
        ] {
            let wrong = Listen::parse(text).unwrap_err();
            assert!(wrong.contains(right), "{text}: {wrong}");
        }
    }
}
