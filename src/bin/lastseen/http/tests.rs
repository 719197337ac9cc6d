//! A real listener, spoken to byte by byte.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use lastseen::net::{self, Options, Rosters};
use lastseen::proto::{Keyring, PeerConfig, RosterState, StaticPeer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

mod hostile;
mod services;

/// A node with the silent peer `web-2`: its full listener and the one for metrics alone. Keep the handle.
async fn node(connections: usize, timeout: Duration) -> (SocketAddr, SocketAddr, Handle) {
    let peer = StaticPeer { server_id: Some("web-2".into()), name: "127.0.0.1:9".into(), address: None };
    let handle = detector("web-1", ([127, 0, 0, 1], 0).into(), vec![peer]).await;
    let (full, metrics) = serve(&handle, connections, timeout);
    (full, metrics, handle)
}

async fn detector(id: &str, address: SocketAddr, peers: Vec<StaticPeer>) -> Handle {
    let mut config = PeerConfig::new(id, "test", address, peers);
    (config.heartbeat_interval, config.heartbeat_timeout) =
        (Duration::from_millis(200), Duration::from_millis(100));
    let keys = Keyring::new("test", &[], true).unwrap();
    let rosters = Rosters { state: RosterState::default(), save: Box::new(|_| Ok(())) };
    let options = Options { rosters: Some(rosters), ..Options::default() };
    net::spawn(config, keys, options).await.unwrap().0
}

/// The full listener of a node and the one for metrics alone.
fn serve(handle: &Handle, connections: usize, timeout: Duration) -> (SocketAddr, SocketAddr) {
    let events = Arc::new(events::Recorder::new(events::Shape {
        instance: "ab".into(),
        observer: "web-1".into(),
        clock: Clock,
    }));
    tokio::spawn(Arc::clone(&events).record(handle.subscribe()));
    let live = Live { transitions: settings::Transitions::Observed, detail: settings::Detail::Peers };
    let shared = Shared {
        handle: handle.clone(),
        clock: Clock,
        exporter: Exporter::new(),
        events,
        reloads: Arc::new(Reloads::started()),
        live: watch::channel(live).1,
        failures: Arc::default(),
        streams: Arc::new(Semaphore::new(1)),
        questions: Semaphore::new(1),
    };
    let any = settings::Listen::parse("127.0.0.1:0").unwrap();
    let settings = settings::Http {
        listen: vec![any.clone()],
        metrics_listen: vec![any],
        max_connections: connections,
        timeout,
    };
    let server = bind(&settings).unwrap();
    let addresses: Vec<SocketAddr> = server.listeners.iter().map(|(l, ..)| l.local_addr().unwrap()).collect();
    tokio::spawn(server.serve(shared));
    (addresses[0], addresses[1])
}

/// `web-1` and `web-2`, which know each other, and the silent `web-3`: the full listener of the first. Keep the handles.
async fn two_of_three() -> (SocketAddr, [Handle; 2]) {
    // A loopback address that nothing else on this machine takes ports of.
    static CLUSTERS: AtomicU8 = AtomicU8::new(200);
    let [low, high, ..] = std::process::id().to_le_bytes();
    let ip = [127, 1 + high % 254, low, CLUSTERS.fetch_add(1, Ordering::Relaxed)];
    let held = [1, 2].map(|_| UdpSocket::bind(SocketAddr::from((ip, 0))).unwrap());
    let [first, second] = held.each_ref().map(|socket| socket.local_addr().unwrap());
    drop(held);
    let peer = |id: &str, address: SocketAddr| StaticPeer {
        server_id: Some(id.into()),
        name: address.to_string().into(),
        address: Some(address),
    };
    let silent = || peer("web-3", ([127, 0, 0, 1], 9).into());
    let one = detector("web-1", first, vec![peer("web-2", second), silent()]).await;
    let two = detector("web-2", second, vec![peer("web-1", first), silent()]).await;
    (serve(&one, 8, PATIENT).0, [one, two])
}

/// The page as JSON, once it is as it must be.
async fn once(address: SocketAddr, path: &str, is: impl Fn(&Value) -> bool) -> Value {
    let deadline = Clock.now() + PATIENT;
    loop {
        let (status, _, body) = ask(address, &format!("GET {path}"), "").await;
        let body: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{body:?} is no JSON: {e}"));
        if status == 200 && is(&body) {
            return body;
        }
        assert!(Clock.now() < deadline, "{path} still says {body}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const PATIENT: Duration = Duration::from_secs(10);

/// The whole answer to a request, whose head is `first` and a Host that is right unless given.
async fn ask(address: SocketAddr, first: &str, more: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let host = if more.contains("Host:") { "" } else { "Host: 127.0.0.1\r\n" };
    let request = format!("{first} HTTP/1.1\r\n{host}{more}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENT, stream.read_to_string(&mut answer)).await.expect("an answer").unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

/// Whether a head, in small letters, says all that every one must.
#[track_caller]
fn is_hardened(head: &str) {
    for line in [
        "cache-control: no-store",
        "content-security-policy: default-src 'none'; frame-ancestors 'none'",
        "cross-origin-resource-policy: same-origin",
        "referrer-policy: no-referrer",
        "x-content-type-options: nosniff",
    ] {
        assert_eq!(head.lines().filter(|l| *l == line).count(), 1, "{line} in {head}");
    }
    assert!(!head.contains("access-control-"), "{head}");
}

fn is_error(body: &str, code: &str) -> Value {
    let body: Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{body:?} is no JSON: {e}"));
    assert_eq!(body["error"], code, "{body}");
    assert!(body["message"].is_string() && body["nearest"].is_array() && body["generated_at"].is_string());
    body
}

#[tokio::test]
async fn pages_answer() {
    let (full, metrics, _handle) = node(8, PATIENT).await;
    for (path, status) in [
        ("/metrics", 200),
        ("/metrics?detail=summary", 200),
        ("/metrics?detail=matrix", 200),
        ("/livez", 200),
        ("/readyz", 200),
        ("/quorumz", 503),
        ("/quorumz?guard=true", 503),
        ("/api/v1/status", 200),
        ("/api/v1/peers?status=healthy&limit=1", 200),
        ("/api/v1/peers/web-2", 200),
        ("/api/v1/matrix", 200),
        ("/api/v1/matrix?edges=all", 200),
        ("/api/v1/services", 200),
        ("/api/v1/migrations", 200),
        ("/api/v1/peers/web-2/takeover", 200),
    ] {
        let (is, head, body) = ask(full, &format!("GET {path}"), "").await;
        assert_eq!(is, status, "{path}: {body}");
        is_hardened(&head);
        assert!(!body.is_empty(), "{path}: {head}");
        let (is, head, body) = ask(full, &format!("HEAD {path}"), "").await;
        assert_eq!((is, body.as_str()), (status, ""), "HEAD {path}: {head}");
        let expected = if path.starts_with("/api") { 404 } else { status };
        assert_eq!(ask(metrics, &format!("GET {path}"), "").await.0, expected, "metrics only: {path}");
    }
}

#[tokio::test]
async fn the_dashboard_is_served_where_the_api_is() {
    let (full, metrics, _handle) = node(8, PATIENT).await;
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/assets/style.css", "text/css; charset=utf-8"),
        ("/assets/main.js", "text/javascript; charset=utf-8"),
    ] {
        let (status, head, body) = ask(full, &format!("GET {path}"), "").await;
        assert_eq!(status, 200, "{path}: {body}");
        assert!(head.lines().any(|line| line == format!("content-type: {kind}")), "{path}: {head}");
        assert!(head.contains("cache-control: no-store") && head.contains("nosniff"), "{path}: {head}");
        let (status, head, body) = ask(full, &format!("HEAD {path}"), "").await;
        assert_eq!((status, body.as_str()), (200, ""), "{path}: {head}");
        assert_eq!(ask(metrics, &format!("GET {path}"), "").await.0, 404, "metrics only: {path}");
        assert_eq!(ask(full, &format!("GET {path}"), "Host: evil.example\r\n").await.0, 421, "{path}");
    }
    let (_, head, _) = ask(full, "GET /", "").await;
    let policy = "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                  img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    assert_eq!(
        head.lines().filter(|line| line.starts_with("content-security-policy")).collect::<Vec<_>>(),
        [policy]
    );
    is_hardened(&ask(full, "GET /assets/main.js", "").await.1);
    for path in ["/assets/nothing.js", "/assets/%ff", "/assets/..%2findex.html"] {
        let (status, head, body) = ask(full, &format!("GET {path}"), "").await;
        assert_eq!(status, 404, "{path}: {head}");
        is_error(&body, "not_found");
    }
}

#[tokio::test]
async fn errors_are_json() {
    let (full, metrics, _handle) = node(8, PATIENT).await;
    for (address, first, more, status, code) in [
        (full, "GET /nothing", "", 404, "not_found"),
        (metrics, "GET /api/v1/status", "", 404, "not_found"),
        (full, "POST /metrics", "", 405, "method_not_allowed"),
        (full, "DELETE /api/v1/peers/web-2", "", 405, "method_not_allowed"),
        (full, "GET /metrics?detail=none", "", 400, "bad_query"),
        (full, "GET /api/v1/peers?limit=x", "", 400, "bad_query"),
        (full, "GET /api/v1/matrix?edges=some", "", 400, "bad_query"),
        (full, "GET /api/v1/matrix?colour=red", "", 400, "bad_query"),
        (full, "GET /api/v1/peers?colour=red", "", 400, "bad_query"),
        (full, "GET /api/v1/peers/%ff", "", 400, "bad_query"),
        (full, "GET /api/v1/events?colour=red", "", 400, "bad_query"),
        (metrics, "GET /quorumz?guard=yes", "", 400, "bad_query"),
        (full, "GET /livez", "Host: evil.example\r\n", 421, "host"),
        (full, "GET /livez", "Host: 127.0.0.1\r\nHost: evil.example\r\n", 421, "host"),
        (metrics, "GET /metrics", "Host: evil.example:80\r\n", 421, "host"),
        (full, "GET /nothing", "Host: evil.example\r\n", 421, "host"),
        (full, "GET http://evil.example/livez", "Host: 127.0.0.1\r\n", 421, "host"),
        (full, "GET http://127.0.0.1/nothing", "Host: 127.0.0.1\r\n", 404, "not_found"),
    ] {
        let (is, head, body) = ask(address, first, more).await;
        assert_eq!(is, status, "{first} {more}: {body}");
        is_hardened(&head);
        is_error(&body, code);
    }
    let (status, _, body) = ask(full, "GET /api/v1/peers/wb-2", "").await;
    assert_eq!((status, &is_error(&body, "unknown_peer")["nearest"][0]), (404, &Value::from("web-2")));
}

#[tokio::test]
async fn the_nearest_to_what_can_be_no_id_are_not_looked_for() {
    let (full, ..) = &node(8, PATIENT).await;
    for (length, found) in [(64, 1), (65, 0), (15_000, 0)] {
        let id = format!("web-2{}", "2".repeat(length - 5));
        let (status, _, body) = ask(*full, &format!("GET /api/v1/peers/{id}"), "").await;
        assert_eq!(status, 404);
        assert_eq!(is_error(&body, "unknown_peer")["nearest"].as_array().unwrap().len(), found, "{length}");
    }
}

#[tokio::test]
async fn json_has_the_fields_of_the_contract() {
    let (full, ..) = &node(8, PATIENT).await;
    let status: Value = serde_json::from_str(&ask(*full, "GET /api/v1/status", "").await.2).unwrap();
    for field in "generated_at server_id cluster version wire_version instance listen_address uptime_seconds secure \
        self_health total_peers healthy_peers proven_peers suspected_peers down_peers is_degraded is_quorum_available \
        quorum_needed verdicts mass_loss draining_until observers roster_hash config_hash oldest_row_seconds strangers"
        .split_whitespace()
    {
        assert!(status.get(field).is_some(), "{field} is missing in {status}");
    }
    let peers: Value = serde_json::from_str(&ask(*full, "GET /api/v1/peers", "").await.2).unwrap();
    assert_eq!((&peers["total"], &peers["next"]), (&Value::from(1), &Value::Null));
    for field in "server_id address status verdict conditions why since observed last_seen_seconds missed_heartbeats \
        bytes_received bytes_sent link observers instance uptime_seconds version wire_version key labels draining_until"
        .split_whitespace()
    {
        assert!(peers["peers"][0].get(field).is_some(), "{field} is missing in {peers}");
    }
    assert!(peers["peers"][0].get("explain").is_none(), "a list has no room for it: {peers}");
    let peer: Value = serde_json::from_str(&ask(*full, "GET /api/v1/peers/web-2", "").await.2).unwrap();
    for field in
        "headline facts meaning rule status_since status_for_seconds before last_proof heartbeats missed loss relays socket \
        observers myself said setup"
            .split_whitespace()
    {
        assert!(peer["explain"].get(field).is_some(), "{field} is missing in {peer}");
    }
    let at = peers["generated_at"].as_str().unwrap();
    assert!(at.len() == 24 && at.ends_with('Z') && at.as_bytes()[19] == b'.', "{at}");
}

#[tokio::test]
async fn the_matrix_has_all_nodes_and_their_ages_and_what_is_not_fine() {
    let (full, _handles) = two_of_three().await;
    let watched = |matrix: &Value, from: &str| -> Vec<String> {
        matrix["rows"][from]["peers"]
            .as_object()
            .into_iter()
            .flat_map(|peers| peers.keys().cloned())
            .collect()
    };
    // Fine is who is not named; the silent one nobody has heard yet.
    let matrix = once(full, "/api/v1/matrix", |matrix| {
        matrix["rows"]["web-2"]["age_seconds"].is_number()
            && ["web-1", "web-2"].iter().all(|from| watched(matrix, from) == ["web-3"])
    });
    let matrix = matrix.await;
    assert_eq!(matrix["nodes"], json!(["web-1", "web-2", "web-3"]));
    assert!(matrix["generated_at"].is_string(), "{matrix}");
    assert!(matrix["rows"]["web-1"]["age_seconds"].is_number(), "{matrix}");
    assert_eq!(
        matrix["rows"]["web-3"],
        json!({"age_seconds": null, "stale_seconds": null, "cut": false, "peers": {}})
    );
    for from in ["web-1", "web-2"] {
        let silent = &matrix["rows"][from]["peers"]["web-3"];
        assert!(silent["status"] == "unknown" && silent["link"].is_string(), "{matrix}");
        assert_eq!(matrix["rows"][from]["stale_seconds"], Value::Null);
    }
    let all = once(full, "/api/v1/matrix?edges=all", |all| {
        let fine = json!({"status": "healthy", "link": "up"});
        all["rows"]["web-1"]["peers"]["web-2"] == fine && all["rows"]["web-2"]["peers"]["web-1"] == fine
    });
    let all = all.await;
    assert_eq!(all["nodes"], matrix["nodes"]);
    let edges = ["web-1", "web-2", "web-3"].map(|from| watched(&all, from).join(" "));
    assert_eq!(edges, ["web-2 web-3", "web-1 web-3", ""], "{all}");
    assert_eq!(all["rows"]["web-1"]["peers"]["web-3"]["status"], "unknown");
}

#[tokio::test]
async fn the_matrix_is_among_the_metrics_where_it_is_asked_for() {
    let (full, _handles) = two_of_three().await;
    once(full, "/api/v1/matrix?edges=all", |all| {
        let fine = json!({"status": "healthy", "link": "up"});
        all["rows"]["web-1"]["peers"]["web-2"] == fine && all["rows"]["web-2"]["peers"]["web-1"] == fine
    })
    .await;
    let (_, _, text) = ask(full, "GET /metrics?detail=matrix", "").await;
    for family in ["matrix_link_up", "matrix_alive"] {
        for (observer, peer, value) in [
            ("web-1", "web-2", "1"),
            ("web-2", "web-1", "1"),
            ("web-1", "web-3", "NaN"),
            ("web-2", "web-3", "NaN"),
        ] {
            let line = format!("lastseen_{family}{{observer=\"{observer}\",peer=\"{peer}\"}} {value}\n");
            assert!(text.contains(&line), "{line} is missing in:\n{text}");
        }
        assert!(!text.contains(&format!("lastseen_{family}{{observer=\"web-3\"")), "it has no row:\n{text}");
    }
    let stamp = "lastseen_matrix_row_timestamp_seconds{observer=";
    assert!(text.contains(&format!("{stamp}\"web-3\"}} NaN\n")), "{text}");
    assert_eq!(text.matches(stamp).count(), 3, "{text}");
    for path in ["/metrics", "/metrics?detail=peers", "/metrics?detail=summary"] {
        let (_, _, text) = ask(full, &format!("GET {path}"), "").await;
        assert!(!text.contains("lastseen_matrix_"), "{path}:\n{text}");
    }
}

#[tokio::test]
async fn a_stream_of_events_begins_and_leaves_room() {
    let (full, _, _handle) = node(8, PATIENT).await;
    let (status, head, body) = ask(full, "GET /api/v1/events?since=cd-7&follow=false", "").await;
    assert!(status == 200 && head.contains("content-type: text/event-stream"), "{head}");
    is_hardened(&head);
    assert!(
        body.contains("retry: 2000\n\n") && body.contains("event: reset\ndata: {\"lost\":null}\n\n"),
        "{body}"
    );
    let (_, _, body) = ask(full, "GET /api/v1/events?follow=false", "Last-Event-ID: cd-7\r\n").await;
    assert!(body.contains("event: reset\n"), "{body}");
    // A reader that stays has the one place.
    let mut reader = TcpStream::connect(full).await.unwrap();
    reader.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    reader.read_u8().await.unwrap();
    let (status, _, body) = ask(full, "GET /api/v1/events", "").await;
    assert_eq!(status, 503);
    is_error(&body, "too_many_streams");
    assert_eq!(ask(full, "GET /livez", "").await.0, 200);
}

#[tokio::test]
async fn silence_gives_its_place_away() {
    // One place, and two listeners: that nobody calls one of them does not stop the other.
    let (full, metrics, _handle) = node(1, Duration::from_millis(200)).await;
    let mut silent = TcpStream::connect(full).await.unwrap();
    silent.write_all(b"GET /li").await.unwrap();
    assert_eq!(ask(full, "GET /livez", "").await.0, 200);
    assert_eq!(ask(metrics, "GET /livez", "").await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_is_left() {
    let second = Duration::from_secs(1);
    let (near, far) = tokio::io::duplex(8);
    let places = Places::new(1);
    let held = places.take().await;
    let mut plain = Stalling::new(near, second, Arc::clone(&held.0));
    let error = plain.write_all(b"more than eight bytes").await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    drop(far);
    let (near, _far) = tokio::io::duplex(8);
    let _making = held.0.make();
    let mut patient = Stalling::new(near, second, Arc::clone(&held.0));
    let write = tokio::time::timeout(second * 20, patient.write_all(b"more than eight bytes")).await;
    assert!(write.is_err(), "a reader of events is waited for");
}
