//! Orders to a running daemon, over its control socket.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use lastseen::net::Clock;
use serde_json::{Value, json};

use super::socket::connect;
use crate::client::{ClientError, parse, plain, plain_json, unreachable};
use crate::{args, exit};

/// How long the daemon may take.
const WITHIN: Duration = Duration::from_secs(10);
/// No answer is longer, in bytes.
const LONGEST: usize = 64 * 1024;

/// Orders a drain.
pub(crate) fn drain(args: &args::Drain) -> ExitCode {
    let wish = json!({ "for": args.length, "reason": args.reason });
    order(&args.order, "drain", &wish.to_string())
}

/// Offers a service.
pub(crate) fn publish(args: &args::Publish) -> ExitCode {
    let wish = json!({
        "name": args.name,
        "address": args.address,
        "state": args.state,
        "weight": args.weight,
        "version": args.version,
        "payload": args.payload,
    });
    order(&args.order, "publish", &wish.to_string())
}

/// Offers it no longer.
pub(crate) fn withdraw(args: &args::Withdraw) -> ExitCode {
    order(&args.order, "withdraw", &json!({ "name": args.name }).to_string())
}

/// Changes labels, or shows them.
pub(crate) fn label(args: &args::Label) -> ExitCode {
    let set = args.labels.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let set: BTreeMap<_, _> = set.collect();
    let remove = args.labels.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name);
    let wish = json!({ "set": set, "remove": remove.collect::<Vec<_>>() });
    order(&args.order, "labels", &wish.to_string())
}

/// Announces that clients are to move.
pub(crate) fn migrate(args: &args::Migrate) -> ExitCode {
    let wish = json!({
        "service": args.service,
        "from": args.from,
        "to": args.to,
        "reason": args.reason,
        "within": args.within,
    });
    order(&args.order, "migrate", &wish.to_string())
}

/// Makes the node a witness of its roster.
pub(crate) fn bootstrap(args: &args::Bootstrap) -> ExitCode {
    order(&args.order, "bootstrap", &json!({ "confirm": args.confirm }).to_string())
}

/// Gives the order `command`, and prints what came of it.
pub(crate) fn run(args: &args::Order, command: &str) -> ExitCode {
    order(args, command, "")
}

fn order(order: &args::Order, command: &str, body: &str) -> ExitCode {
    let answer = match talk(Path::new(&order.socket), command, body, WITHIN) {
        Ok(answer) => answer,
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            let socket = &order.socket;
            return exit::fail(&format!(
                "{socket}: {e}; its mode and its group say who may order (`ls -l {socket}`): be root, or of that group"
            ));
        }
        Err(e) if e.kind() == io::ErrorKind::TimedOut => {
            return exit::fail(&format!("{}: {e}; the order may still be carried out", order.socket));
        }
        Err(e) => {
            return unreachable(&format!("no daemon answers at {}: {e}", order.socket), "--socket PATH");
        }
    };
    match read(&order.socket, &answer) {
        Ok(answer) if order.json => exit::print(&plain_json(&answer)),
        Ok(answer) => exit::print(&format!("{}\n", plain(&answer["message"]))),
        Err(ClientError::Foreign(why)) => exit::fail(&format!("{why}; name a daemon's with --socket PATH")),
        Err(error) => error.report(),
    }
}

fn read(socket: &str, answer: &str) -> Result<Value, ClientError> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    parse(socket, "", status, body)
}

/// One request and the whole answer, which ends with the connection.
fn talk(socket: &Path, command: &str, body: &str, within: Duration) -> io::Result<String> {
    let deadline = Clock.now() + within;
    let mut stream = connect(socket, within)?;
    let head = "HTTP/1.1\r\nHost: localhost\r\nConnection: close";
    let length = body.len();
    write!(stream, "POST /api/v1/{command} {head}\r\nContent-Length: {length}\r\n\r\n{body}")?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let left = deadline.since(Clock.now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("nothing within {within:?}")));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&buffer[..n]),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(e) => return Err(e),
        }
        if answer.len() > LONGEST {
            return Err(io::Error::other("the answer is too long for a daemon of this kind"));
        }
    }
    String::from_utf8(answer).map_err(|_| io::Error::other("the answer is no text"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_daemon_that_stands_still_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lastseen.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let error = talk(&path, "reload", "", Duration::from_millis(100)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn what_answers_may_be_something_else() {
        let json = "{\"message\": \"done\"}";
        let read = |head: &str, body: &str| read("s", &format!("{head}\r\n\r\n{body}"));
        assert_eq!(read("HTTP/1.1 200 OK", json).unwrap()["message"], "done");
        assert!(matches!(read("HTTP/1.1 422 No", json), Err(ClientError::Refused(422, _))));
        for (head, body) in [("HTTP/1.1 200 OK", "<html>"), ("SSH-2.0", ""), ("", "")] {
            assert!(matches!(read(head, body), Err(ClientError::Foreign(_))), "{head} {body}");
        }
    }
}
