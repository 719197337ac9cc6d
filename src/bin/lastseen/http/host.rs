//! Whom a listener answers: those who call it by a name of its own. A page in a browser that had its own name
//! resolved to this address (DNS rebinding) does not.

use std::net::IpAddr;

/// Whether `host`, as in the header, is an IP address; or `localhost`, where the listener can be reached by it; or
/// the name that it is configured with.
pub(crate) fn is_own(host: &str, listener: IpAddr, configured: Option<&str>) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(':') && !port.contains(']') && port.parse::<u16>().is_ok() => {
            name
        }
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    let local = listener.is_loopback() || listener.is_unspecified();
    bare.parse::<IpAddr>().is_ok()
        || local && bare.eq_ignore_ascii_case("localhost")
        || configured.is_some_and(|name| bare.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_rule() {
        let loopback: IpAddr = [127, 0, 0, 1].into();
        let public: IpAddr = [192, 0, 2, 1].into();
        let any: IpAddr = [0, 0, 0, 0].into();
        for (host, listener, own) in [
            ("127.0.0.1:5279", loopback, true),
            ("127.0.0.1", loopback, true),
            ("[::1]:5279", loopback, true),
            ("::1", loopback, true),
            ("localhost:5279", loopback, true),
            ("LOCALHOST", loopback, true),
            ("localhost", any, true),
            ("localhost", public, false),
            ("10.0.0.7:5279", public, true),
            ("evil.example", loopback, false),
            ("evil.example:5279", loopback, false),
            ("127.0.0.1.evil.example", loopback, false),
            ("localhost.evil.example", loopback, false),
            ("evil.example:127.0.0.1", loopback, false),
            ("127.0.0.1:65536", loopback, false),
            ("0x7f000001", loopback, false),
            ("", loopback, false),
            ("[::1]:x", loopback, false),
        ] {
            assert_eq!(is_own(host, listener, None), own, "{host} at {listener}");
        }
        assert!(is_own("Web-1.example:5279", public, Some("web-1.example")));
        assert!(!is_own("web-2.example:5279", public, Some("web-1.example")));
    }
}
