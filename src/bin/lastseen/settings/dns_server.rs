//! The address of a DNS server.

use std::net::{IpAddr, SocketAddr};

use super::raw::{Raw, Setting, text};

/// An address; the port is 53 if absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DnsServer(pub(crate) SocketAddr);

impl Setting for DnsServer {
    fn read(raw: &Raw) -> Result<Self, String> {
        let text = text(raw, "\"10.0.0.53\"")?;
        let ip = || text.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        let address = text.parse().ok().or_else(|| ip().map(|ip| SocketAddr::new(ip, 53)));
        address.map(DnsServer).ok_or_else(|| {
            format!(
                "\"{text}\" is not the address of a DNS server; write \"10.0.0.53\" or \"127.0.0.1:8600\""
            )
        })
    }
    fn show(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_53_if_absent() {
        for (text, shown) in [
            ("10.0.0.53", "\"10.0.0.53:53\""),
            ("127.0.0.1:8600", "\"127.0.0.1:8600\""),
            ("::1", "\"[::1]:53\""),
            ("[::1]", "\"[::1]:53\""),
        ] {
            assert_eq!(DnsServer::read(&Raw::Text(text.into())).unwrap().show(), shown);
        }
        let why = DnsServer::read(&Raw::Text("dns.example".into())).unwrap_err();
        assert!(why.contains("write \"10.0.0.53\""), "{why}");
    }
}
