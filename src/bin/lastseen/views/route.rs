//! `lastseen route`.

use std::process::ExitCode;

use serde_json::Value;

use super::{TIMEOUT, show};
use crate::args;
use crate::check::encode;
use crate::client::{self, plain, plain_json};

/// Says where a session goes.
pub(crate) fn run_route(args: &args::Route) -> ExitCode {
    let prefer = args.prefer.as_ref().map(|label| format!("&prefer={}", encode(label))).unwrap_or_default();
    let path = format!("/api/v1/route/{}?key={}{prefer}", encode(&args.service), encode(&args.key));
    show(false, || {
        let route = client::get(&args.client.daemon.http, &path, TIMEOUT)?;
        Ok(if args.client.json { plain_json(&route) } else { text(&route, args.prefer.as_deref()) })
    })
}

/// The address alone on the first line, for scripts.
fn text(route: &Value, prefer: Option<&str>) -> String {
    let (first, second) = (&route["first"], &route["second"]);
    let why = match prefer {
        Some(label) if has(first, label) => format!(", which has {}", client::plain_text(label)),
        Some(label) => format!("; none that passes has {}", client::plain_text(label)),
        None => String::new(),
    };
    let verdict = match first["status"].as_str() {
        Some("healthy") => plain(&first["verdict"]),
        _ => {
            format!("{}, {}; none that passes is healthy", plain(&first["status"]), plain(&first["verdict"]))
        }
    };
    let mut text =
        format!("{}\n\nfirst   {} ({verdict}{why})\n", plain(&first["address"]), plain(&first["server_id"]));
    text += &if second.is_null() {
        "second  none: no other instance passes\n".to_owned()
    } else {
        format!("second  {} at {}, if that fails\n", plain(&second["server_id"]), plain(&second["address"]))
    };
    text
}

/// Whether an instance's node has the label `NAME=VALUE`.
fn has(instance: &Value, label: &str) -> bool {
    label.split_once('=').is_some_and(|(name, value)| instance["labels"][name] == value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn instance(id: &str, status: &str) -> Value {
        let verdict = if status == "healthy" { "up" } else { "link_down" };
        json!({"server_id": id, "address": format!("{id}:80"), "status": status, "verdict": verdict,
               "labels": {"zone": "a"}})
    }

    #[test]
    fn the_first_line_is_the_address_and_the_rest_says_why() {
        let mut route =
            json!({"first": instance("web-1", "healthy"), "second": instance("web-2\u{1b}", "healthy")});
        assert_eq!(
            text(&route, None),
            "web-1:80\n\nfirst   web-1 (up)\nsecond  web-2\u{fffd} at web-2\u{fffd}:80, if that fails\n"
        );
        route["second"] = Value::Null;
        assert_eq!(
            text(&route, Some("zone=a")),
            "web-1:80\n\nfirst   web-1 (up, which has zone=a)\nsecond  none: no other instance passes\n"
        );
        assert!(text(&route, Some("zone=b")).contains("(up; none that passes has zone=b)"));
        route["first"] = instance("web-1", "suspected");
        assert!(text(&route, None).contains("(suspected, link_down; none that passes is healthy)"));
    }
}
