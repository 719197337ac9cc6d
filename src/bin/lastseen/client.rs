//! Asks a running daemon.

use std::io::{BufRead, BufReader, Read};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use crate::exit;

/// The daemon is not reachable.
pub(crate) const UNREACHABLE: u8 = 3;
/// There is no such peer, or service.
pub(crate) const NO_SUCH_PEER: u8 = 4;

/// No answer is longer, in bytes.
const LONGEST: u64 = 64 << 20;

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
            ClientError::Unreachable(why) => return unreachable(why, "--http URL (or LASTSEEN_HTTP)"),
            // What else answers there is no daemon that could be asked, or not for this.
            ClientError::Foreign(why) => exit::complain(&format!("{why}; name a daemon with --http URL")),
            ClientError::Refused(..) => exit::complain(&self.text()),
        }
        ExitCode::from(match self {
            ClientError::Refused(404, body) if names_nothing(body) => NO_SUCH_PEER,
            // What is asked comes from the command line.
            ClientError::Refused(400, _) => exit::USAGE,
            _ => exit::FAILED,
        })
    }

    /// What is wrong, in one sentence.
    pub(crate) fn text(&self) -> String {
        match self {
            ClientError::Unreachable(why) | ClientError::Foreign(why) => why.clone(),
            ClientError::Refused(404, body) if body["error"] == "not_found" => {
                "that listener of the daemon serves metrics alone, or the daemon is older than this command"
                    .to_owned()
            }
            ClientError::Refused(_, body) => no_such_peer(body),
        }
    }
}

/// Whether what was asked for by its name is not there.
fn names_nothing(error: &Value) -> bool {
    ["unknown_peer", "unknown_service"].iter().any(|code| error["error"] == *code)
}

/// Says that no daemon is reachable, how to start one, and by which flag another is named; the exit code.
pub(crate) fn unreachable(why: &str, flag: &str) -> ExitCode {
    exit::complain(&format!(
        "{why}; start one with `systemctl start lastseen` or `lastseen run`, or name another with {flag}"
    ));
    ExitCode::from(UNREACHABLE)
}

/// The daemon's message, and the nearest names.
fn no_such_peer(body: &Value) -> String {
    let near: Vec<String> = body["nearest"].as_array().into_iter().flatten().map(plain).collect();
    let message = plain(&body["message"]);
    if near.is_empty() { message } else { format!("{message}; the nearest are {}", near.join(", ")) }
}

fn agent(timeout: Option<Duration>) -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_connect(Some(timeout.unwrap_or(Duration::from_secs(5))))
        .timeout_recv_response(Some(timeout.unwrap_or(Duration::from_secs(5))))
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

/// GET of a page: status code and text.
///
/// # Errors
/// No answer, or one that breaks off.
pub(crate) fn text(base: &str, path: &str, timeout: Duration) -> Result<(u16, String), ClientError> {
    let (status, body) = call(base, path, Some(timeout))?;
    Ok((status, read(base, body)?))
}

fn read(base: &str, body: ureq::Body) -> Result<String, ClientError> {
    let mut text = String::new();
    body.into_reader()
        .take(LONGEST)
        .read_to_string(&mut text)
        .map_err(|e| ClientError::Unreachable(format!("the daemon at {base} broke off: {e}")))?;
    Ok(text)
}

/// What a page of JSON says.
pub(crate) fn parse(base: &str, path: &str, status: u16, text: &str) -> Result<Value, ClientError> {
    let value: Value = serde_json::from_str(text).map_err(|_| {
        ClientError::Foreign(format!("what answers at {base}{path} is no lastseen (status {status})"))
    })?;
    if status < 400 { Ok(value) } else { Err(ClientError::Refused(status, value)) }
}

/// GET of a page that answers with JSON.
pub(crate) fn get(base: &str, path: &str, timeout: Duration) -> Result<Value, ClientError> {
    let (status, text) = text(base, path, timeout)?;
    parse(base, path, status, &text)
}

/// Whether the daemon says that its loop turns; every listener of it answers that.
pub(crate) fn is_alive(base: &str, timeout: Duration) -> Result<(), ClientError> {
    match text(base, "/livez", timeout)? {
        (200, text) if text.trim() == "ok" => Ok(()),
        (status, text) => {
            parse(base, "/livez", status, &text)?;
            Err(ClientError::Foreign(format!("what answers at {base}/livez is no lastseen")))
        }
    }
}

/// Reads a stream of events: `each` gets the data of one, and whether it tells of a gap. It ends when `each` says
/// false, or the stream does.
pub(crate) fn events(
    base: &str,
    path: &str,
    mut each: impl FnMut(&str, bool) -> bool,
) -> Result<(), ClientError> {
    let (status, body) = call(base, path, None)?;
    if status >= 400 {
        return parse(base, path, status, &read(base, body)?).map(drop);
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

/// Characters that move a terminal, or turn what it shows around.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A JSON string as text without control characters: nothing from afar moves a terminal.
pub(crate) fn plain(value: &Value) -> String {
    plain_text(value.as_str().unwrap_or_default())
}

/// The same of any text.
pub(crate) fn plain_text(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// JSON in which such characters are escaped, on one line. They stand within strings, so it means the same.
pub(crate) fn plain_json(value: &Value) -> String {
    let mut text = String::new();
    for c in value.to_string().chars() {
        if is_unsafe(c) {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_from_afar_moves_a_terminal() {
        let hostile = json!("a\u{1b}[31m\u{9b}2J\u{202e}\nb\u{7f}");
        assert_eq!(plain(&hostile), "a\u{fffd}[31m\u{fffd}2J\u{fffd}\u{fffd}b\u{fffd}");
        let text = plain_json(&hostile);
        assert_eq!(text, "\"a\\u001b[31m\\u009b2J\\u202e\\nb\\u007f\"\n");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), hostile, "it means the same");
    }

    #[test]
    fn no_such_peer_names_the_nearest() {
        let body = json!({"message": "no peer is called \"web-9\"", "nearest": ["web-1", "web\u{1b}-2"]});
        assert_eq!(no_such_peer(&body), "no peer is called \"web-9\"; the nearest are web-1, web\u{fffd}-2");
        assert_eq!(no_such_peer(&json!({"message": "m", "nearest": []})), "m");
        let no_page =
            ClientError::Refused(404, json!({"error": "not_found", "message": "there is no such page"}));
        assert!(!names_nothing(&json!({"error": "no_instance"})), "that is a failure");
        assert!(
            ["unknown_peer", "unknown_service"].iter().all(|code| names_nothing(&json!({"error": code})))
        );
        assert!(no_page.text().contains("serves metrics alone"), "{}", no_page.text());
    }

    #[test]
    fn an_answer_is_told_from_another_servers() {
        assert!(matches!(parse("b", "/p", 200, "<html>"), Err(ClientError::Foreign(_))));
        assert!(matches!(parse("b", "/p", 503, "{}"), Err(ClientError::Refused(503, _))));
        assert!(parse("b", "/p", 200, "{}").is_ok());
    }
}
