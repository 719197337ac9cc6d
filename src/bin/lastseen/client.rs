//! Asks a running daemon.

use std::io::{BufRead, BufReader, Read};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use crate::exit;

/// The daemon is not reachable.
pub(crate) const UNREACHABLE: u8 = 3;
/// There is no such peer.
pub(crate) const NO_SUCH_PEER: u8 = 4;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// No daemon there, or it does not answer.
    Unreachable(String),
    /// It answers with an error: status code and body.
    Refused(u16, Value),
    /// What answers is no lastseen.
    Foreign(String),
}

impl ClientError {
    /// Says it on standard error; the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            ClientError::Unreachable(why) => {
                exit::complain(&format!(
                    "{why}; start a daemon with `lastseen run`, or name another with --http URL"
                ));
                ExitCode::from(UNREACHABLE)
            }
            ClientError::Refused(404, body) if body["error"] == "unknown_peer" => {
                let near: Vec<&str> =
                    body["nearest"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                let near = if near.is_empty() {
                    String::new()
                } else {
                    format!("; the nearest are {}", near.join(", "))
                };
                exit::complain(&format!("{}{near}", plain(&body["message"])));
                ExitCode::from(NO_SUCH_PEER)
            }
            ClientError::Refused(_, body) => exit::fail(&plain(&body["message"])),
            ClientError::Foreign(why) => exit::fail(why),
        }
    }
}

fn agent(timeout: Option<Duration>) -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_connect(Some(timeout.unwrap_or(Duration::from_secs(5))))
        .timeout_global(timeout)
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .into()
}

fn call(base: &str, path: &str, timeout: Option<Duration>) -> Result<(u16, ureq::Body), ClientError> {
    let base = base.trim_end_matches('/');
    let base = if base.contains("://") { base.to_owned() } else { format!("http://{base}") };
    let response = agent(timeout)
        .get(format!("{base}{path}"))
        .call()
        .map_err(|e| ClientError::Unreachable(format!("no daemon answers at {base}: {e}")))?;
    Ok((response.status().as_u16(), response.into_body()))
}

/// GET of a page that answers with JSON.
pub(crate) fn get(base: &str, path: &str, timeout: Duration) -> Result<Value, ClientError> {
    let (status, mut body) = call(base, path, Some(timeout))?;
    let mut text = String::new();
    body.as_reader()
        .take(64 << 20)
        .read_to_string(&mut text)
        .map_err(|e| ClientError::Unreachable(format!("the daemon at {base} broke off: {e}")))?;
    let value = serde_json::from_str(&text).map_err(|_| {
        ClientError::Foreign(format!("what answers at {base}{path} is no lastseen (status {status})"))
    })?;
    if status < 400 { Ok(value) } else { Err(ClientError::Refused(status, value)) }
}

/// Reads a stream of events: `each` gets the data of one; it ends when `each` says false, or the stream does.
pub(crate) fn events(
    base: &str,
    path: &str,
    mut each: impl FnMut(&str, bool) -> bool,
) -> Result<(), ClientError> {
    let (status, body) = call(base, path, None)?;
    if status >= 400 {
        return Err(ClientError::Foreign(format!("the daemon at {base} has no events (status {status})")));
    }
    let mut reset = false;
    for line in BufReader::new(body.into_reader()).lines() {
        let line =
            line.map_err(|e| ClientError::Unreachable(format!("the daemon at {base} has gone: {e}")))?;
        if line == "event: reset" {
            reset = true;
        } else if let Some(data) = line.strip_prefix("data: ")
            && !each(data, std::mem::take(&mut reset))
        {
            return Ok(());
        }
    }
    Ok(())
}

/// A JSON string as text without control characters: nothing from afar moves a terminal.
pub(crate) fn plain(value: &Value) -> String {
    value.as_str().unwrap_or_default().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
