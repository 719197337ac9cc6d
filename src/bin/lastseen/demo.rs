//! `demo`.

use std::process::ExitCode;

use crate::args;

pub(crate) fn run(_: &args::Demo) -> ExitCode {
    ExitCode::FAILURE
}
