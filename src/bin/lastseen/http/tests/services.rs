//! Services, routes, migrations and the guard, as three nodes tell them of which one is silent.

use lastseen::proto::{Labels, Move, Reason, ServerId, Service, ServiceState};

use super::*;

/// Two nodes that offer `web` and a third that is silent; the second offers `db` as well, and says more of both.
async fn offering() -> (SocketAddr, [Handle; 2]) {
    let (full, [one, two]) = two_of_three().await;
    let web = |address| Service::new("web", address).unwrap();
    let payload = |bytes: &[u8]| -> Box<[u8]> { bytes.into() };
    let offers = [
        (&one, Service { version: 7, ..web("10.0.0.1:80") }),
        (&two, Service { version: 9, weight: 3, payload: payload(b"blue"), ..web("10.0.0.2:80") }),
        (&two, Service { payload: payload(b"\x00\xff"), ..Service::new("db", "10.0.0.2:5432").unwrap() }),
    ];
    for (handle, service) in offers {
        handle.publish_service(service).await.unwrap().unwrap();
    }
    let zone = |zone: &str| Labels::new(vec![("zone".into(), zone.into())]).unwrap();
    one.set_labels(zone("a")).await.unwrap().unwrap();
    two.set_labels(zone("b")).await.unwrap().unwrap();
    once(full, "/api/v1/services/web?all=true&label=zone=b", |web| web["total"] == 1).await;
    once(full, "/api/v1/services/web", |web| web["total"] == 2).await;
    (full, [one, two])
}

async fn get(address: SocketAddr, path: &str) -> (u16, Value) {
    let (status, _, body) = ask(address, &format!("GET {path}"), "").await;
    (status, serde_json::from_str(&body).unwrap_or_else(|e| panic!("{body:?} is no JSON: {e}")))
}

fn ids(instances: &Value) -> Vec<&str> {
    instances.as_array().unwrap().iter().map(|i| i["server_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn services_and_what_they_are_good_for() {
    let (full, [_, two]) = offering().await;
    let (_, web) = get(full, "/api/v1/services/web").await;
    assert_eq!((ids(&web["instances"]), &web["name"]), (vec!["web-1", "web-2"], &json!("web")));
    assert_eq!(
        web["sources"],
        json!([{"server_id": "web-2", "version": 9}, {"server_id": "web-1", "version": 7}])
    );
    let blue = json!({
        "server_id": "web-2", "name": "web", "address": "10.0.0.2:80", "state": "passing", "status": "healthy",
        "verdict": "up", "weight": 3, "version": 9, "payload": "blue", "payload_base64": "Ymx1ZQ==",
        "labels": {"zone": "b"}, "draining": false,
    });
    assert_eq!(web["instances"][1], blue);
    assert_eq!(web["instances"][0]["payload_base64"], Value::Null);
    let (_, db) = get(full, "/api/v1/services/db").await;
    let payload = &db["instances"][0];
    assert_eq!((&payload["payload"], &payload["payload_base64"]), (&Value::Null, &json!("AP8=")));
    let (_, peer) = get(full, "/api/v1/peers/web-2").await;
    let offered: Vec<&Value> = peer["services"].as_array().unwrap().iter().map(|s| &s["name"]).collect();
    assert_eq!(offered, ["db", "web"], "by name, and its own alone");
    for (path, chosen) in [("web?label=zone=a", "web-1"), ("web?all=true&label=zone=b", "web-2")] {
        let (_, web) = get(full, &format!("/api/v1/services/{path}")).await;
        assert_eq!((ids(&web["instances"]), &web["total"]), (vec![chosen], &json!(1)), "{path}");
    }
    let failed = Service { state: ServiceState::Failed, ..Service::new("db", "10.0.0.2:5432").unwrap() };
    two.publish_service(failed).await.unwrap().unwrap();
    let all = once(full, "/api/v1/services", |all| all["services"][0]["failed"] == 1).await;
    let count = |name: &str, passing: u32, failed: u32, newest: Value| {
        json!({"name": name, "passing": passing, "draining": 0, "failed": failed, "unreachable": 0,
               "newest_version": newest})
    };
    let expected = json!([count("db", 0, 1, Value::Null), count("web", 2, 0, json!(9))]);
    assert_eq!((&all["services"], &all["total"], &all["next"]), (&expected, &json!(2), &Value::Null));
    let (_, db) = get(full, "/api/v1/services/db").await;
    assert_eq!((&db["total"], &db["instances"]), (&json!(0), &json!([])), "known, and not to be had");
    let (_, db) = get(full, "/api/v1/services/db?all=true").await;
    assert_eq!(db["instances"][0]["state"], "failed");
    let (_, all) = get(full, "/api/v1/services?label=zone=a").await;
    assert_eq!(all["services"], json!([count("web", 1, 0, json!(7))]));
}

#[tokio::test]
async fn a_session_has_its_way_as_the_handle_says() {
    let (full, [one, two]) = offering().await;
    for key in ["1", "a%20b", "%C3%A4"] {
        let (status, told) = get(full, &format!("/api/v1/route/web?key={key}")).await;
        let route = one.route("web", told["key"].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!((status, &told["service"]), (200, &json!("web")));
        assert_eq!(told["first"]["server_id"], *route.first.server_id);
        assert_eq!(told["second"]["server_id"], *route.second.unwrap().server_id);
        for (zone, first) in [("a", "web-1"), ("b", "web-2"), ("none", &route.first.server_id)] {
            let (_, told) = get(full, &format!("/api/v1/route/web?key={key}&prefer=zone={zone}")).await;
            assert_eq!(told["first"]["server_id"], first, "{zone}");
        }
    }
    let (status, told) = get(full, "/api/v1/route/db?key=1").await;
    assert_eq!((status, &told["first"]["server_id"], &told["second"]), (200, &json!("web-2"), &Value::Null));
    let failed = Service { state: ServiceState::Failed, ..Service::new("db", "10.0.0.2:5432").unwrap() };
    two.publish_service(failed).await.unwrap().unwrap();
    once(full, "/api/v1/services/db", |db| db["total"] == 0).await;
    let (status, _, body) = ask(full, "GET /api/v1/route/db?key=1", "").await;
    assert_eq!(status, 503);
    is_error(&body, "no_instance");
    for (path, status, code) in [
        ("route/wev?key=1", 404, "unknown_service"),
        ("services/wev", 404, "unknown_service"),
        ("route/web", 400, "bad_query"),
        ("route/web?key=1&prefer=zone", 400, "bad_query"),
        ("route/%ff?key=1", 400, "bad_query"),
        ("services/web?all=yes", 400, "bad_query"),
        ("services?all=true", 400, "bad_query"),
        ("migrations?all=true", 400, "bad_query"),
        ("peers/wb-2/takeover", 404, "unknown_peer"),
    ] {
        let (is, _, body) = ask(full, &format!("GET /api/v1/{path}"), "").await;
        assert_eq!(is, status, "{path}: {body}");
        let nearest = is_error(&body, code)["nearest"].clone();
        let wanted = match code {
            "unknown_service" => json!(["web", "db"]),
            "unknown_peer" => json!(["web-2", "web-3"]),
            _ => json!([]),
        };
        assert_eq!(nearest, wanted, "{path}");
    }
}

#[tokio::test]
async fn migrations_that_go_on() {
    let (full, [one, _two]) = offering().await;
    let id = |text| ServerId::new(text).unwrap();
    let moving = |within| Move {
        service: Service::new("web", "h:1").unwrap().name,
        from: id("web-1"),
        to: Some(id("web-2")),
        reason: Reason::new("kernel upgrade").unwrap(),
        within: Duration::from_secs(within),
    };
    one.migrate(moving(1)).await.unwrap().unwrap();
    let number = one.migrate(moving(600)).await.unwrap().unwrap();
    let told =
        once(full, "/api/v1/migrations", |told| told["migrations"].as_array().unwrap().len() == 1).await;
    let told = &told["migrations"][0];
    for (key, value) in [
        ("id", format!("{number:016x}").as_str()),
        ("by", "web-1"),
        ("service", "web"),
        ("from", "web-1"),
        ("to", "web-2"),
        ("reason", "kernel upgrade"),
    ] {
        assert_eq!(told[key], value, "{told}");
    }
    let left = told["seconds_left"].as_f64().unwrap();
    assert!((500.0..=601.0).contains(&left) && told["deadline"].as_str().unwrap().ends_with('Z'), "{told}");
}

#[tokio::test]
async fn the_guard_is_read_when_it_is_told() {
    let (full, [one, two]) = two_of_three().await;
    let (status, before) = get(full, "/quorumz?guard=true").await;
    assert_eq!((status, &before["guard"]), (503, &json!({"held": false, "seconds_left": null})), "not yet");
    // The third member of the roster never came, so an operator must say that nobody has another one.
    for node in [&one, &two] {
        let hash = node.snapshot().await.unwrap().roster_hash;
        while node.bootstrap(Some(hash)).await.unwrap().is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    // The quorum is there at once, the guard only when no other side can hold it any more.
    let (deadline, mut quorum_alone) = (Clock.now() + PATIENT, false);
    let held = loop {
        let (status, told) = get(full, "/quorumz?guard=true").await;
        let (held, quorum) = (told["guard"]["held"] == true, told["is_quorum_available"] == true);
        assert_eq!(status, if held { 200 } else { 503 }, "{told}");
        if held {
            break told;
        }
        quorum_alone |= quorum && get(full, "/quorumz").await.0 == 200;
        assert!(Clock.now() < deadline, "{told}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(quorum_alone, "{held}");
    assert!(held["guard"]["seconds_left"].as_f64().unwrap() > 0.0 && held["is_quorum_available"] == true);
    assert_eq!(get(full, "/api/v1/status").await.1["quorum_guard"], true);
    // Whom nobody has ever heard holds nothing; who is heard may.
    let safe = once(full, "/api/v1/peers/web-3/takeover", |told| told["safe"] == true).await;
    assert!(safe["guard"] == true && safe["seconds_left"].as_f64().unwrap() > 0.0, "{safe}");
    let (_, heard) = get(full, "/api/v1/peers/web-2/takeover").await;
    assert_eq!(
        (&heard["safe"], &heard["seconds_left"], &heard["guard"]),
        (&json!(false), &Value::Null, &json!(true))
    );
    two.leave(lastseen::proto::LeaveReason::Restart).await;
    one.quorum_guard().lost().await;
    assert_eq!(get(full, "/quorumz?guard=true").await.0, 503);
    assert_eq!(get(full, "/api/v1/status").await.1["quorum_guard"], false);
    let (_, told) = get(full, "/api/v1/peers/web-3/takeover").await;
    assert_eq!((&told["safe"], &told["guard"]), (&json!(false), &json!(false)), "not without the guard");
}

#[tokio::test]
async fn few_ask_at_once_what_may_be_taken_over() {
    let (full, _, _handle) = node(8, PATIENT).await;
    // Without a majority the answer takes an interval.
    let mut first = TcpStream::connect(full).await.unwrap();
    first.write_all(b"GET /api/v1/peers/web-2/takeover HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let deadline = Clock.now() + PATIENT;
    loop {
        let (status, _, body) = ask(full, "GET /api/v1/peers/web-2/takeover", "").await;
        if status == 503 {
            is_error(&body, "too_many_questions");
            break;
        }
        assert!(Clock.now() < deadline, "{body}");
        first
            .write_all(b"GET /api/v1/peers/web-2/takeover HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .unwrap();
    }
    once(full, "/api/v1/peers/web-2/takeover", |told| told["safe"] == false).await;
}
