//! Exit codes, and what is printed on the way out.

use std::io::{self, Write};
use std::process::ExitCode;

/// It did not work.
pub(crate) const FAILED: u8 = 1;
/// The command line is wrong.
pub(crate) const USAGE: u8 = 64;

/// Prints to standard output. A reader that has gone away (`| head`) is success.
pub(crate) fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => fail(&format!("cannot write: {e}")),
        _ => ExitCode::SUCCESS,
    }
}

/// Prints what went wrong to standard error.
pub(crate) fn fail(message: &str) -> ExitCode {
    complain(message);
    ExitCode::from(FAILED)
}

/// Prints to standard error; if that fails there is nobody left to tell.
pub(crate) fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "lastseen: {message}");
}

/// What clap has to say: help and version are success. `check` is read by machines that know other codes: there
/// bad usage is "cannot tell", or "not healthy" for a container's probe.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return print(&error.render().to_string());
    }
    let _ = error.print();
    let mut words = std::env::args_os().skip(1);
    if words.next().is_none_or(|command| command != "check") {
        return ExitCode::from(USAGE);
    }
    let _ = print("LASTSEEN UNKNOWN - bad usage, see lastseen check --help\n");
    ExitCode::from(if words.any(|w| w == "--self") { 1 } else { 3 })
}
