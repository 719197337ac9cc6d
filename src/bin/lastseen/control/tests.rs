//! A real socket, spoken to byte by byte.

use std::path::PathBuf;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const PATIENT: Duration = Duration::from_secs(20);

/// A socket whose orders come out here.
fn control(dir: &tempfile::TempDir) -> (PathBuf, Ordered) {
    let path = dir.path().join("lastseen.sock");
    let settings = settings::Control { socket: Some(path.clone()), mode: 0o600, is_named: true };
    let (control, ordered) = bind(&settings).unwrap();
    tokio::spawn(async move { control.unwrap().serve().await });
    (path, ordered)
}

/// Everything that comes in answer to this.
async fn send(path: &Path, text: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENT, stream.read_to_string(&mut answer)).await.expect("it ends").unwrap();
    (answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), answer)
}

async fn ask(path: &Path, first: &str, body: &str) -> (u16, String) {
    let head = format!("{first} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    send(path, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).await
}

#[tokio::test]
async fn orders_arrive_and_their_answers_return() {
    let dir = tempfile::tempdir().unwrap();
    let (path, mut ordered) = control(&dir);
    let served = async {
        ordered.leave.recv().await.unwrap().send(Ok(())).unwrap();
        ordered.reload.recv().await.unwrap().send(Err("key file /nowhere: gone".into())).unwrap();
        drop(ordered.reload.recv().await.unwrap());
    };
    let asked = async {
        let (status, answer) = ask(&path, "POST /api/v1/leave", "").await;
        assert_eq!(status, 200, "{answer}");
        let (status, answer) = ask(&path, "POST /api/v1/reload", &"x".repeat(BODY)).await;
        assert!(status == 422 && answer.contains("/nowhere: gone"), "{answer}");
        let (status, answer) = ask(&path, "POST /api/v1/reload", "").await;
        assert!(status == 503 && answer.contains("\"ending\""), "{answer}");
        for header in ["content-security-policy: default-src 'none'", "x-content-type-options: nosniff"] {
            assert!(answer.contains(header), "{answer}");
        }
    };
    tokio::join!(served, asked);
}

#[tokio::test]
async fn what_is_no_order_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, mut ordered) = control(&dir);
    let long = "x".repeat(BODY + 1);
    for (first, body, status) in [
        ("GET /api/v1/leave", "", 405),
        ("HEAD /api/v1/leave", "", 405),
        ("PUT /api/v1/reload", "", 405),
        ("POST /api/v1/leave", long.as_str(), 413),
        ("POST /api/v1/nothing", "", 404),
        ("POST /api/v1/leave/../leave", "", 404),
        ("GET /api/v1/status", "", 404),
    ] {
        let (is, answer) = ask(&path, first, body).await;
        assert_eq!(is, status, "{first}: {answer}");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let is_error = serde_json::from_str::<Value>(body).is_ok_and(|body| body["error"].is_string());
        assert!(is_error || first.starts_with("HEAD"), "{answer}");
    }
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    let chunked = "POST /api/v1/leave HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (status, answer) = send(&path, &format!("{chunked}{chunk}{chunk}")).await;
    assert_eq!(status, 413, "{answer}");
    assert!(ordered.leave.try_recv().is_err() && ordered.reload.try_recv().is_err(), "nothing arrived");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let (path, mut ordered) = control(&dir);
    let head = "POST /api/v1/leave HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf";
    let (status, answer) = send(&path, head).await;
    assert!(status == 408 && answer.contains("too_slow"), "{answer}");
    assert!(ordered.leave.try_recv().is_err());
}

#[tokio::test]
async fn idle_connections_do_not_keep_orders_away() {
    let dir = tempfile::tempdir().unwrap();
    let (path, mut ordered) = control(&dir);
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(timeout(PATIENT, UnixStream::connect(&path)).await.expect("it is accepted").unwrap());
    }
    let served = async { ordered.leave.recv().await.unwrap().send(Ok(())).unwrap() };
    let (_, (status, answer)) = tokio::join!(served, ask(&path, "POST /api/v1/leave", ""));
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn only_a_socket_that_was_named_must_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing/lastseen.sock");
    let settings = |socket: Option<PathBuf>, is_named| settings::Control { socket, mode: 0o600, is_named };
    let error = bind(&settings(Some(missing.clone()), true)).err().unwrap();
    assert!(error.contains(missing.to_str().unwrap()) && error.contains("socket = \"\""), "{error}");
    assert!(bind(&settings(Some(missing), false)).unwrap().0.is_none());
    assert!(bind(&settings(None, true)).unwrap().0.is_none());
}
