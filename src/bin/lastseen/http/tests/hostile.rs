//! Clients that mean no good, and clients that sit there.

use super::*;

/// No timeout of the listener is in the way.
const NEVER: Duration = Duration::from_secs(3600);
const HOST: &str = "Host: 127.0.0.1\r\n";

async fn send(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// All that comes until the connection ends, which it must. A reset is an end.
async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENT, stream.read_to_end(&mut answer)).await.expect("it ends");
    String::from_utf8(answer).unwrap()
}

/// Reads an answer to `GET /livez` and no more.
async fn is_alive(stream: &mut TcpStream) {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok\n") {
        answer.push(tokio::time::timeout(PATIENT, stream.read_u8()).await.expect("an answer").unwrap());
    }
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn heads_that_are_wrong_or_too_large() {
    let (full, ..) = &node(8, PATIENT).await;
    let long = "a".repeat(20_000);
    let many = "A: b\r\n".repeat(101);
    for (head, allowed) in [
        (format!("GET /{long} HTTP/1.1\r\n{HOST}"), &[414, 431][..]),
        (format!("GET /livez HTTP/1.1\r\n{HOST}A: {long}\r\n"), &[431]),
        (format!("GET /livez HTTP/1.1\r\n{HOST}{many}"), &[431]),
        (format!("GET /li\0vez HTTP/1.1\r\n{HOST}"), &[400]),
        (format!("GET /livez HTTP/1.1\r\n{HOST}A: b\0c\r\n"), &[400]),
        (format!("GET /livez HTTP/1.1\r\n{HOST}A : b\r\n"), &[400]),
        (format!("GET /livez HTTP/9.9\r\n{HOST}"), &[400, 505]),
        ("GET /livez\r\n".to_owned(), &[400]),
        ("PRI * HTTP/2.0\r\n".to_owned(), &[0, 400, 505]),
        // Without a Host, as HTTP/1.0 may be.
        ("GET /livez HTTP/1.0\r\n".to_owned(), &[421]),
        (format!("GET /livez HTTP/1.0\r\n{HOST}"), &[200]),
        ("GET http://evil.example/livez HTTP/1.0\r\n".to_owned(), &[421]),
        (format!("GET http://127.0.0.1@evil.example/livez HTTP/1.1\r\n{HOST}"), &[421]),
        (format!("CONNECT evil.example:80 HTTP/1.1\r\n{HOST}"), &[421]),
        (format!("CONNECT 127.0.0.1:80 HTTP/1.1\r\n{HOST}"), &[404, 405]),
        (format!("OPTIONS * HTTP/1.1\r\n{HOST}"), &[404, 405]),
        (format!("TRACE /livez HTTP/1.1\r\n{HOST}"), &[405]),
        // No other protocol is spoken.
        (format!("GET /livez HTTP/1.1\r\n{HOST}Connection: close, Upgrade\r\nUpgrade: h2c\r\n"), &[200]),
        (format!("GET /livez HTTP/1.1\r\n{HOST}Content-Length: 5\r\nContent-Length: 6\r\n"), &[400]),
        (format!("GET /livez HTTP/1.1\r\n{HOST}Content-Length: -1\r\n"), &[400]),
        (format!("GET /livez HTTP/1.1\r\n{HOST}Content-Length: +5\r\n"), &[400]),
        (format!("GET /livez HTTP/1.1\r\n{HOST}Transfer-Encoding: gzip\r\n"), &[400]),
        (format!("GET /livez HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked, gzip\r\n"), &[400]),
        (format!("GET /livez HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n"), &[400]),
    ] {
        let close = if head.contains("Connection:") { "" } else { "Connection: close\r\n" };
        let answer = rest(send(*full, &format!("{head}{close}\r\n")).await).await;
        let shown = &head[..head.len().min(120)];
        assert!(allowed.contains(&status(&answer)), "{shown:?}: {answer}");
        assert!(!answer.contains(" 101 ") && answer.matches("HTTP/1.").count() <= 1, "{shown:?}: {answer}");
    }
}

#[tokio::test]
async fn what_hides_in_a_body_is_no_request() {
    let (full, ..) = &node(8, PATIENT).await;
    let hidden = format!("GET /quorumz HTTP/1.1\r\n{HOST}\r\n");
    let length = hidden.len();
    for framing in [
        format!("Content-Length: {length}\r\n\r\n{hidden}"),
        format!("Content-Length: {}\r\n\r\n{hidden}", length + 1),
        format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{hidden}\r\n0\r\n\r\n"),
        format!("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{hidden}\r\n0\r\n\r\n"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{length:x}\r\n{hidden}\r\n0\r\n\r\n"),
        format!("Transfer-Encoding: xchunked\r\nContent-Length: {length}\r\n\r\n{hidden}"),
        format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\nContent-Length: 0\r\n\r\n{hidden}"),
        format!("Transfer-Encoding: chunked\r\n\r\n{length:x};{}\r\n{hidden}\r\n0\r\n\r\n", "x".repeat(9000)),
    ] {
        let last = format!("GET /readyz HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n");
        let answer = rest(send(*full, &format!("GET /livez HTTP/1.1\r\n{HOST}{framing}{last}")).await).await;
        assert!(!answer.contains("is_quorum_available"), "{framing:?}: {answer}");
        assert!([200, 400].contains(&status(&answer)), "{framing:?}: {answer}");
    }
}

#[tokio::test]
async fn a_body_that_nobody_reads_ends_the_connection() {
    let (full, _, _handle) = node(8, NEVER).await;
    let chunk = format!("2000\r\n{}\r\n", "x".repeat(0x2000));
    for framing in ["Content-Length: 10000000000", "Transfer-Encoding: chunked"] {
        let head = format!("GET /livez HTTP/1.1\r\n{HOST}{framing}\r\n");
        // Slow: it only says that there will be more.
        let answer = rest(send(full, &format!("{head}\r\n")).await).await;
        assert_eq!(status(&answer), 200, "{framing}: {answer}");
        let answer = rest(send(full, &format!("{head}Expect: 100-continue\r\n\r\n")).await).await;
        assert_eq!(status(&answer), 200, "nobody asks for the body: {framing}: {answer}");
        // Fast: what the kernel takes is all that is taken.
        let mut stream = send(full, &format!("{head}\r\n")).await;
        let mut taken = 0;
        let ended = async {
            while stream.write_all(chunk.as_bytes()).await.is_ok() {
                taken += chunk.len()
            }
        };
        tokio::time::timeout(PATIENT, ended).await.expect("it ends");
        assert!(taken < 16 << 20, "{framing}: {taken} bytes were taken");
    }
}

#[tokio::test]
async fn who_asks_without_end_and_reads_nothing_is_left() {
    let (full, _, _handle) = node(8, Duration::from_millis(200)).await;
    let asks = format!("GET /metrics HTTP/1.1\r\n{HOST}\r\n").repeat(1000);
    let mut stream = TcpStream::connect(full).await.unwrap();
    let mut taken = 0;
    let ended = async {
        while stream.write_all(asks.as_bytes()).await.is_ok() {
            taken += asks.len()
        }
    };
    tokio::time::timeout(PATIENT, ended).await.expect("it ends");
    assert!(taken < 16 << 20, "{taken} bytes were taken");
}

#[tokio::test]
async fn no_path_leads_out_and_nothing_is_echoed_as_a_page() {
    let (full, ..) = &node(8, PATIENT).await;
    for path in [
        "/api/v1/peers/../../../../etc/passwd",
        "/api/v1/peers/..%2f..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%5c..%5cetc%5cpasswd",
        "/..\\..\\etc\\passwd",
        "//etc/passwd",
        "/api/v1/peers//etc/passwd",
        "/api/v1/peers/%00",
        "/api/v1/peers/web-2%00",
        "/api/v1/peers/%c0%ae%c0%ae%c0%af",
        "/api/v1/peers/%ed%a0%80",
        "/api/v1/peers/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
        "/api/v1/peers?%3Cscript%3E=1",
        "/metrics?detail=%3Cscript%3E",
        "/api/v1/peers/web-2%0d%0aSet-Cookie:%20a=b",
        "/LIVEZ",
        "/livez/",
        "/livez%2f",
    ] {
        let (status, head, body) = ask(*full, &format!("GET {path}"), "").await;
        assert!([400, 404].contains(&status), "{path}: {status} {body}");
        assert!(
            serde_json::from_str::<Value>(&body).is_ok_and(|body| body["error"].is_string()),
            "{path}: {body}"
        );
        assert!(!body.contains("root:"), "{path}: {body}");
        assert!(
            head.contains("content-type: application/json\r\n") || head.ends_with("application/json"),
            "{head}"
        );
        assert!(!head.contains("set-cookie"), "{path}: {head}");
        is_hardened(&head);
    }
}

#[tokio::test]
async fn nothing_can_be_changed_here() {
    let (full, metrics, _handle) = node(8, PATIENT).await;
    let picture = async || {
        let mut status: Value = serde_json::from_str(&ask(full, "GET /api/v1/status", "").await.2).unwrap();
        for field in ["generated_at", "uptime_seconds", "oldest_row_seconds"] {
            status[field].take();
        }
        status
    };
    let before = picture().await;
    for address in [full, metrics] {
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
            for path in ["/", "/livez", "/metrics", "/api/v1/peers/web-2", "/api/v1/leave", "/api/v1/reload"]
            {
                let (status, head, _) =
                    ask(address, &format!("{method} {path}"), "Content-Length: 0\r\n").await;
                assert!([404, 405].contains(&status), "{method} {path}: {status}");
                is_hardened(&head);
            }
        }
    }
    assert_eq!(picture().await, before);
}

#[tokio::test]
async fn a_connection_that_asks_no_more_is_closed() {
    let (full, _, _handle) = node(8, Duration::from_millis(200)).await;
    let mut stream = send(full, &format!("GET /livez HTTP/1.1\r\n{HOST}\r\n")).await;
    is_alive(&mut stream).await;
    assert_eq!(rest(stream).await, "");
}

#[tokio::test]
async fn who_is_idle_gives_way_at_once_and_a_reader_of_events_does_not() {
    let (full, _, _handle) = node(3, NEVER).await;
    let mut reader = send(full, &format!("GET /api/v1/events HTTP/1.1\r\n{HOST}\r\n")).await;
    reader.read_u8().await.unwrap();
    let mut idle = send(full, &format!("GET /livez HTTP/1.1\r\n{HOST}\r\n")).await;
    is_alive(&mut idle).await;
    let mut halves = Vec::new();
    for _ in 0..20 {
        halves.push(send(full, "GET /li").await);
        let began = Clock.now();
        assert_eq!(ask(full, "GET /livez", "").await.0, 200);
        assert!(Clock.now().since(began) < Duration::from_secs(1), "nobody waits for those who ask nothing");
    }
    assert_eq!(rest(idle).await, "");
    for half in halves.drain(..18) {
        assert_eq!(rest(half).await, "");
    }
    let more =
        tokio::time::timeout(Duration::from_millis(100), async { while reader.read_u8().await.is_ok() {} });
    assert!(more.await.is_err(), "the reader of events is still there");
}
