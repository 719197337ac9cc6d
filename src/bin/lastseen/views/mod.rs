//! The client commands.

use std::process::ExitCode;

use crate::args;

pub(crate) fn run_status(_: &args::Status) -> ExitCode {
    ExitCode::FAILURE
}

pub(crate) fn run_peers(_: &args::Peers) -> ExitCode {
    ExitCode::FAILURE
}

pub(crate) fn run_events(_: &args::Events) -> ExitCode {
    ExitCode::FAILURE
}
