//! `lastseen services`.

use std::cmp::Reverse;
use std::process::ExitCode;

use serde_json::Value;

use super::table::Table;
use super::{TIMEOUT, colours, show};
use crate::args;
use crate::check::encode;
use crate::client::{self, plain, plain_json};

/// Lists the services, or the instances of one.
pub(crate) fn run_services(args: &args::Services) -> ExitCode {
    let label = args.label.as_ref().map(|label| format!("label={}&", encode(label))).unwrap_or_default();
    // Who drains, or fails, holds a version too.
    let all = if args.all || args.versions { "all=true" } else { "" };
    let path = match &args.name {
        None => format!("/api/v1/services?{label}"),
        Some(name) => format!("/api/v1/services/{}?{label}{all}", encode(name)),
    };
    show(args.watch, || {
        let told = client::get(&args.client.daemon.http, path.trim_end_matches(['&', '?']), TIMEOUT)?;
        Ok(match args {
            args::Services { client, .. } if client.json => plain_json(&told),
            args::Services { name: None, .. } => all_text(&told, colours()),
            args::Services { versions: true, .. } => versions_text(&told, colours()),
            args => one_text(&told, args.all, colours()),
        })
    })
}

fn list<'a>(told: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    told[key].as_array().into_iter().flatten()
}

/// A version as it is shown: 0 says nothing.
fn version(of: &Value) -> String {
    of.as_u64().filter(|version| *version > 0).map_or_else(|| "-".to_owned(), |version| version.to_string())
}

fn all_text(told: &Value, colours: bool) -> String {
    if list(told, "services").next().is_none() {
        return "no node offers a service\n".to_owned();
    }
    let mut table = Table::new(0);
    let head = ["SERVICE", "PASSING", "DRAINING", "FAILED", "UNREACHABLE", "NEWEST VERSION"];
    table.row(1, head.map(str::to_owned));
    let (mut services, mut without) = (0, 0);
    for service in list(told, "services") {
        let count = |state: &str| service[state].as_u64().unwrap_or(0);
        let [passing, others] =
            [count("passing"), count("draining") + count("failed") + count("unreachable")];
        services += 1;
        without += usize::from(passing == 0);
        let cells = ["passing", "draining", "failed", "unreachable"].map(|state| count(state).to_string());
        let [passing_cell, draining, failed, unreachable] = cells;
        table.row(
            if passing == 0 { 31 } else { 32 + u8::from(others > 0) },
            [
                plain(&service["name"]),
                passing_cell,
                draining,
                failed,
                unreachable,
                version(&service["newest_version"]),
            ],
        );
    }
    let end = match without {
        0 => "each has an instance that passes".to_owned(),
        n => format!("{n} without an instance that passes"),
    };
    table.render(colours) + &format!("\n{services} services, {end}\n")
}

fn one_text(told: &Value, all: bool, colours: bool) -> String {
    let name = plain(&told["name"]);
    let passes = |i: &&Value| i["state"] == "passing" && i["status"] != "down";
    let passing = list(told, "instances").filter(passes).count();
    let end = if all {
        format!("{} instances of {name}, {passing} pass on nodes that live\n", told["total"])
    } else {
        format!("{passing} instances of {name} pass on nodes that live (--all shows all)\n")
    };
    if list(told, "instances").next().is_none() {
        return end;
    }
    let mut table = Table::new(0);
    let head = ["NODE", "STATE", "VERDICT", "WEIGHT", "VERSION", "ADDRESS"];
    table.row(1, head.map(str::to_owned));
    for instance in list(told, "instances") {
        table.row(
            colour(instance),
            [
                plain(&instance["server_id"]),
                plain(&instance["state"]),
                plain(&instance["verdict"]),
                instance["weight"].to_string(),
                version(&instance["version"]),
                plain(&instance["address"]),
            ],
        );
    }
    table.render(colours) + "\n" + &end
}

/// The colour (of SGR) of an instance's line.
fn colour(instance: &Value) -> u8 {
    match (instance["state"].as_str(), instance["status"].as_str()) {
        (Some("failed"), _) | (_, Some("down")) => 31,
        (Some("passing"), Some("healthy")) => 32,
        _ => 33,
    }
}

fn versions_text(told: &Value, colours: bool) -> String {
    let mut instances: Vec<&Value> = list(told, "instances").collect();
    instances.sort_by_key(|instance| Reverse(instance["version"].as_u64()));
    let newest = list(told, "sources").next().map(|source| &source["version"]);
    let mut table = Table::new(0);
    table.row(1, ["NODE", "VERSION", "STATE", "VERDICT", "SOURCE"].map(str::to_owned));
    for instance in instances {
        let source = list(told, "sources").find(|source| source["server_id"] == instance["server_id"]);
        let source = match source {
            Some(source) if Some(&source["version"]) == newest => "yes, the newest",
            Some(_) => "yes, older",
            None => "no",
        };
        table.row(
            colour(instance),
            [
                plain(&instance["server_id"]),
                version(&instance["version"]),
                plain(&instance["state"]),
                plain(&instance["verdict"]),
                source.to_owned(),
            ],
        );
    }
    let best: Vec<String> = list(told, "sources")
        .filter(|source| Some(&source["version"]) == newest)
        .map(|source| plain(&source["server_id"]))
        .collect();
    let name = plain(&told["name"]);
    let end = match newest {
        Some(newest) => {
            format!("a node that returns gets {name} at version {newest} from {}", best.join(", "))
        }
        None => format!("no healthy node says which version of {name} it holds"),
    };
    table.render(colours) + "\n" + &super::table::wrap(&end, 80).join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn instance(id: &str, state: &str, status: &str, version: u64) -> Value {
        json!({"server_id": id, "state": state, "status": status, "verdict": "up", "weight": 1, "version": version,
               "address": "10.0.0.1:80"})
    }

    fn web() -> Value {
        json!({
            "name": "web", "total": 4,
            "instances": [
                instance("web-1", "passing", "healthy", 7),
                instance("web-2", "draining", "healthy", 9),
                instance("web-3", "passing", "down", 9),
                instance("web-\u{1b}4", "failed", "healthy", 0),
            ],
            "sources": [{"server_id": "web-2", "version": 9}, {"server_id": "web-1", "version": 7}],
        })
    }

    #[test]
    fn all_services_and_which_have_none_that_passes() {
        let service = |name: &str, passing: u32, failed: u32, newest: Value| {
            json!({"name": name, "passing": passing, "draining": 0, "failed": failed, "unreachable": 1,
                   "newest_version": newest})
        };
        let told = json!({"services": [service("db", 0, 2, Value::Null), service("web", 12, 0, json!(9))]});
        assert_eq!(
            all_text(&told, false),
            "SERVICE  PASSING  DRAINING  FAILED  UNREACHABLE  NEWEST VERSION\n\
             db       0        0         2       1            -\n\
             web      12       0         0       1            9\n\n\
             2 services, 1 without an instance that passes\n"
        );
        assert!(
            all_text(&told, true).contains("\u{1b}[31mdb") && all_text(&told, true).contains("\u{1b}[33mweb")
        );
        assert_eq!(all_text(&json!({"services": []}), false), "no node offers a service\n");
    }

    #[test]
    fn the_instances_of_one() {
        assert_eq!(
            one_text(&web(), true, false),
            "NODE    STATE     VERDICT  WEIGHT  VERSION  ADDRESS\n\
             web-1   passing   up       1       7        10.0.0.1:80\n\
             web-2   draining  up       1       9        10.0.0.1:80\n\
             web-3   passing   up       1       9        10.0.0.1:80\n\
             web-\u{fffd}4  failed    up       1       -        10.0.0.1:80\n\n\
             4 instances of web, 1 pass on nodes that live\n"
        );
        let none = json!({"name": "web", "instances": [], "total": 0});
        assert_eq!(
            one_text(&none, false, false),
            "0 instances of web pass on nodes that live (--all shows all)\n"
        );
    }

    #[test]
    fn who_holds_the_newest_and_who_may_give_it() {
        assert_eq!(
            versions_text(&web(), false),
            "NODE    VERSION  STATE     VERDICT  SOURCE\n\
             web-2   9        draining  up       yes, the newest\n\
             web-3   9        passing   up       no\n\
             web-1   7        passing   up       yes, older\n\
             web-\u{fffd}4  -        failed    up       no\n\n\
             a node that returns gets web at version 9 from web-2\n"
        );
        let mut silent = web();
        silent["sources"] = json!([]);
        assert!(
            versions_text(&silent, false).ends_with("no healthy node says which version of web it holds\n")
        );
    }
}
