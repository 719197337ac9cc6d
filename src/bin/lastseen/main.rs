//! The daemon and its command line.

mod args;
mod check;
mod client;
mod config_check;
mod control;
#[cfg(test)]
mod corpus;
mod demo;
mod discovery;
mod drain;
mod exit;
mod hooks;
mod http;
mod log;
mod manual;
mod notify;
mod plan;
mod program;
#[cfg(test)]
mod reference;
mod reload;
mod rosters;
mod run;
mod services;
mod settings;
mod simulate;
mod views;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use lastseen::proto::SecretKey;
use rand::TryRng;
use rand::rngs::SysRng;

use args::{Cli, Command, Config};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error),
    };
    match cli.command {
        Command::Run(a) => run::run(&a),
        Command::Demo(a) => demo::run(&a),
        Command::Status(a) => views::run_status(&a),
        Command::Peers(a) => views::run_peers(&a),
        Command::Matrix(a) => views::run_matrix(&a),
        Command::Keys(a) => views::run_keys(&a),
        Command::Services(a) => views::run_services(&a),
        Command::Route(a) => views::run_route(&a),
        Command::Explain(a) => views::run_explain(&a),
        Command::Events(a) => views::run_events(&a),
        Command::Top(a) => views::run_top(&a),
        Command::Check(a) => check::run(&a),
        Command::Plan(a) => plan::run(&a),
        Command::Sim(a) => simulate::run(&a),
        Command::Reload(a) => control::client::run(&a, "reload"),
        Command::Drain(a) => control::client::drain(&a),
        Command::Undrain(a) => control::client::run(&a, "undrain"),
        Command::Publish(a) => control::client::publish(&a),
        Command::Withdraw(a) => control::client::withdraw(&a),
        Command::Label(a) => control::client::label(&a),
        Command::Migrate(a) => control::client::migrate(&a),
        Command::Bootstrap(a) => control::client::bootstrap(&a),
        Command::Leave(a) => control::client::run(&a, "leave"),
        Command::Keygen => keygen(),
        Command::Config(Config::Default) => exit::print(&settings::default_file()),
        Command::Config(Config::Check(a)) => config_check::run(&a),
        Command::Completions { shell } => completions(shell),
        Command::Man { directory } => manual::run(&directory),
    }
}

/// Prints a new cluster key, from the operating system's randomness.
fn keygen() -> ExitCode {
    let mut bytes = [0; 32];
    match SysRng.try_fill_bytes(&mut bytes) {
        Ok(()) => exit::print(&format!("{}\n", AsRef::<str>::as_ref(&SecretKey::new(bytes).to_text()))),
        Err(e) => exit::fail(&format!("the operating system gave no random bits: {e}")),
    }
}

fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "lastseen", &mut script);
    exit::print(&String::from_utf8_lossy(&script))
}
