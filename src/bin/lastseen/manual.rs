//! The manual: a page of every command, as the command line is read, and one of the settings, from their table.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use crate::args::Cli;
use crate::exit;
use crate::settings::table::KEYS;

/// Writes all pages into a directory.
pub(crate) fn run(directory: &Path) -> ExitCode {
    match write(directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => exit::fail(&format!("cannot write the manual to {}: {e}", directory.display())),
    }
}

fn write(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Cli::command(), directory)?;
    let mut overview = File::options().append(true).open(directory.join("lastseen.1"))?;
    overview.write_all(more().to_roff().as_bytes())?;
    fs::write(directory.join("lastseen.toml.5"), settings().to_roff())
}

/// What the overview says that the command line does not.
fn more() -> Roff {
    let mut page = Roff::new();
    page.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in [
        ("0", "Done. Of check: all is well."),
        ("1", "Failed. Of check: degraded; of check --self: the detector's loop does not turn."),
        ("2", "Of check: no quorum, or the peer is down."),
        ("3", "No daemon is reachable. Of check: it cannot tell."),
        ("4", "There is no such peer."),
        ("64", "The command line is wrong. Of check: 3."),
    ] {
        tagged(&mut page, &[bold(code)], meaning);
    }
    page.control("SH", ["FILES"]);
    for (path, meaning) in [
        ("/etc/lastseen/lastseen.toml", "The settings, see lastseen.toml(5)."),
        ("/run/lastseen/lastseen.sock", "The control socket: who may write to it may give orders."),
    ] {
        tagged(&mut page, &[italic(path)], meaning);
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("lastseen.toml"), roman("(5), "), bold("systemctl"), roman("(1)")]);
    page
}

/// `lastseen.toml(5)`.
fn settings() -> Roff {
    let mut page = Roff::new();
    page.control("TH", ["lastseen.toml", "5", "", concat!("lastseen ", env!("CARGO_PKG_VERSION"))]);
    page.control("SH", ["NAME"]);
    page.text([roman("lastseen.toml - settings of the failure detector lastseen")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(
        "TOML. Every key may be left out; below it stands with its default. The environment overrides the file \
         (LASTSEEN_HEARTBEAT_INTERVAL, LASTSEEN_HTTP__LISTEN, lists by comma), and flags override both. Durations are a \
         number and a unit: \"500ms\", \"1s\", \"10m\", \"1h\".",
    )]);
    page.text([
        bold("lastseen config check"),
        roman(" FILE says what is wrong with a file, and what it costs."),
    ]);
    let mut section = None;
    for key in KEYS {
        let (head, name) = key.section_and_name();
        if section.replace(head) != Some(head) {
            let head = if head.is_empty() { "AT THE TOP".to_owned() } else { format!("[{head}]") };
            page.control("SH", [head.as_str()]);
        }
        tagged(&mut page, &[bold(name), roman(format!(" = {}", key.default))], &key.text());
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("lastseen"), roman("(1)")]);
    page
}

fn tagged(page: &mut Roff, tag: &[Inline], text: &str) {
    page.control("TP", []);
    page.text(tag.to_vec());
    page.text([roman(text)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_every_setting_has_its_place() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path()).unwrap();
        let page = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = command.get_name();
            assert!(page(&format!("lastseen-{name}.1")).contains(".SH NAME"), "{name}");
            assert!(page("lastseen.1").contains(&format!("lastseen\\-{name}(1)")), "{name}");
        }
        assert!(page("lastseen.1").contains(".SH \"EXIT STATUS\""), "{}", page("lastseen.1"));
        let settings = page("lastseen.toml.5");
        for key in KEYS {
            let name = key.path.rsplit('.').next().unwrap();
            assert!(settings.contains(&format!("\\fB{name}\\fR = ")), "{name} in {settings}");
        }
    }
}
