//! The pages of the documentation that are made of the code: settings and commands. `UPDATE_SNAPSHOTS=1 cargo test
//! reference` writes them anew.

use std::fmt::Write as _;

use clap::CommandFactory;

use crate::args::Cli;
use crate::settings::{default_file, table::KEYS};

const CONFIGURATION: &str = "\
<!-- Made of the code: UPDATE_SNAPSHOTS=1 cargo test reference -->

# Configuration reference

Every setting, its default and its meaning, as `lastseen config default` prints them. A setting comes from, in this order: the
default, the file, the environment, the flags of `lastseen run`; the last one that names it holds. `lastseen config check FILE`
prints what holds and where it comes from.

- The file is TOML, `/etc/lastseen/lastseen.toml` unless `--config` says otherwise; that one may be absent. A key that is not
  known is an error that names it and the nearest right one.
- In the environment a setting has its path in capitals, with `__` for the dot: `LASTSEEN_HEARTBEAT_INTERVAL`,
  `LASTSEEN_HTTP__LISTEN`. Lists are split at commas. An unknown name only warns.
- Durations are a number and a unit in quotes: `\"500ms\"`, `\"1s\"`, `\"10m\"`, `\"1h\"`.
- `cluster`, `heartbeat_interval`, `heartbeat_timeout`, `suspect_after`, `down_after`, `max_backoff` and `observers` must be
  equal on all nodes. Where they are not, `lastseen explain PEER` says `config_mismatch`.
";

const COMMANDS: &str = "\
<!-- Made of the code: UPDATE_SNAPSHOTS=1 cargo test reference -->

# Command reference

What `--help` prints of every command. Exit codes are 0 done, 1 failed, 3 no daemon is reachable, 4 no such
peer, 64 wrong usage; those of `check` are its own, see [the monitoring plugin](http.md#as-a-monitoring-plugin).
";

/// Compares the page with the one in the repository; or writes it.
fn compare(name: &str, page: &str) {
    let path = format!("{}/docs/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, page).unwrap();
    }
    let old = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(page, old, "{path} is old: run with UPDATE_SNAPSHOTS=1");
}

#[test]
fn the_configuration_reference_is_current() {
    let mut page = CONFIGURATION.to_owned();
    let mut section = None;
    for key in KEYS {
        let (head, name) = key.section_and_name();
        if section.replace(head) != Some(head) {
            let title =
                if head.is_empty() { "At the top of the file".to_owned() } else { format!("`[{head}]`") };
            let _ = write!(page, "\n## {title}\n\n| key | default | meaning |\n| --- | --- | --- |\n");
        }
        let help = key.text().replace('|', "\\|");
        let _ = writeln!(page, "| `{name}` | `{}` | {help} |", key.default);
    }
    let services = ["name", "address", "check_tcp", "check_http", "check_command"];
    sections(
        &mut page,
        "services",
        "One section for each service: see [services.md](services.md).",
        &services,
    );
    sections(
        &mut page,
        "hooks",
        "One section for each hook: see [hooks.md](hooks.md).",
        &["on", "command", "url"],
    );
    compare("configuration.md", &page);
}

/// Appends the keys of a section that stands in the default file as comments: each below what it means. Those in
/// `without` have no default.
fn sections(page: &mut String, name: &str, what: &str, without: &[&str]) {
    let file = default_file();
    let (_, text) = file.split_once(&format!("# [[{name}]]\n")).expect("it is there");
    let text = text.split("\n\n").next().unwrap_or_default();
    let _ = write!(page, "\n## `[[{name}]]`\n\n{what}\n");
    let _ = write!(page, "\n| key | default | meaning |\n| --- | --- | --- |\n");
    let mut help = Vec::new();
    for line in text.lines().map(|line| line.trim_start_matches("# ")) {
        match line.split_once(" = ") {
            Some((name, default)) if !name.contains(' ') => {
                let default = if without.contains(&name) { "" } else { default };
                let code = if default.is_empty() { String::new() } else { format!("`{default}`") };
                let _ = writeln!(page, "| `{name}` | {code} | {} |", help.join(" "));
                help.clear();
            }
            _ => help.push(line),
        }
    }
    assert!(help.is_empty(), "every comment is that of a key: {help:?}");
}

#[test]
fn the_command_reference_is_current() {
    let mut cli = Cli::command();
    cli.build();
    let mut page = COMMANDS.to_owned();
    commands(&cli, "lastseen", &mut page);
    compare("commands.md", &page);
}

/// Appends a command's help, and that of those below it.
fn commands(command: &clap::Command, name: &str, page: &mut String) {
    let help = command.clone().term_width(100).mut_args(|arg| arg.hide_env_values(true)).render_long_help();
    let help = help.to_string();
    let help: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    let _ = write!(page, "\n## {name}\n\n```text\n{}\n```\n", help.join("\n"));
    for inner in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        commands(inner, &format!("{name} {}", inner.get_name()), page);
    }
}
