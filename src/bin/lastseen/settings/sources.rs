//! What overrides the file: the environment, then the flags.

use std::ffi::OsString;

use super::nearest;
use super::raw::{Raw, Source};
use super::table::{KEYS, Sourced};
use crate::args::Run;

/// The environment variable of a key: capitals, dots as `__`.
pub(crate) fn variable(path: &str) -> String {
    format!("LASTSEEN_{}", path.replace('.', "__").to_uppercase())
}

/// Takes every `LASTSEEN_*` variable; returns what to warn about.
pub(crate) fn environment(
    vars: impl Iterator<Item = (OsString, OsString)>,
    sourced: &mut Sourced,
) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, value) in vars {
        let Some(name) = name.to_str().filter(|n| n.starts_with("LASTSEEN_")) else { continue };
        if let Some(key) = KEYS.iter().find(|k| variable(k.path) == name) {
            match value.into_string() {
                Ok(text) => {
                    drop(sourced.insert(key.path, (Raw::Untyped(text), Source::Environment(name.to_owned()))))
                }
                Err(_) => {
                    warnings.push(format!("the environment variable {name} is no valid UTF-8; it is ignored"))
                }
            }
        } else if !is_foreign(name) {
            let names: Vec<String> = KEYS.iter().map(|k| variable(k.path)).collect();
            let hint =
                nearest(name, names.iter().map(String::as_str)).map(|n| format!("; did you mean {n}?"));
            warnings.push(format!(
                "unknown environment variable {name}, it is ignored{}",
                hint.unwrap_or_default()
            ));
        }
    }
    warnings
}

/// Variables that others set: Kubernetes for a Service of our name, and the address that client commands ask.
fn is_foreign(name: &str) -> bool {
    let rest = name.strip_prefix("LASTSEEN_").unwrap_or(name);
    let services = ["_PORT", "_SERVICE_HOST"];
    rest == "HTTP"
        || rest.starts_with("PORT")
        || rest.starts_with("SERVICE_")
        || services.iter().any(|part| rest.contains(part))
}

/// Takes the flags of `run`.
pub(crate) fn flags(run: &Run, sourced: &mut Sourced) {
    let texts = [
        ("server_id", "--server-id", &run.server_id),
        ("listen_address", "--listen", &run.listen),
        ("heartbeat_interval", "--interval", &run.interval),
        ("heartbeat_timeout", "--timeout", &run.timeout),
    ];
    for (path, flag, value) in texts {
        if let Some(text) = value {
            sourced.insert(path, (Raw::Untyped(text.clone()), Source::Flag(flag)));
        }
    }
    if !run.peer.is_empty() {
        sourced.insert("static_peers", (Raw::List(run.peer.clone()), Source::Flag("--peer")));
    }
    if let Some(address) = &run.http {
        let listen = if address == "off" { Vec::new() } else { vec![address.clone()] };
        sourced.insert("http.listen", (Raw::List(listen), Source::Flag("--http")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> (Sourced, Vec<String>) {
        let mut sourced = Sourced::new();
        let warnings = environment(vars.iter().map(|(n, v)| ((*n).into(), (*v).into())), &mut sourced);
        (sourced, warnings)
    }

    #[test]
    fn takes_keys_of_sections_and_lists() {
        let (sourced, warnings) =
            read(&[("LASTSEEN_HTTP__LISTEN", "127.0.0.1:1, 127.0.0.1:2"), ("HOME", "/")]);
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(sourced["http.listen"].1, Source::Environment("LASTSEEN_HTTP__LISTEN".into()));
    }

    #[test]
    fn warns_of_unknown_and_ignores_kubernetes() {
        let (sourced, warnings) = read(&[
            ("LASTSEEN_PORT", "tcp://10.0.0.1:5279"),
            ("LASTSEEN_PORT_5279_TCP_ADDR", "10.0.0.1"),
            ("LASTSEEN_SERVICE_HOST", "10.0.0.1"),
            ("LASTSEEN_SERVICE_PORT_METRICS", "5279"),
            ("LASTSEEN_METRICS_PORT_5279_TCP", "x"),
            ("LASTSEEN_METRICS_SERVICE_HOST", "10.0.0.1"),
            ("LASTSEEN_METRICS_SERVICE_PORT", "5279"),
            ("LASTSEEN_HTTP", "http://127.0.0.1:1"),
            ("LASTSEEN_CLUSTR", "prod"),
        ]);
        assert!(sourced.is_empty());
        assert_eq!(warnings.len(), 1);
        assert!(
            warnings[0].contains("LASTSEEN_CLUSTR") && warnings[0].contains("LASTSEEN_CLUSTER?"),
            "{warnings:?}"
        );
    }
}
