//! `publish`, `withdraw`, `labels` and `migrate`, as they come over the socket.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lastseen::proto::{Labels, Reason, ServerId, ServiceAddress, ServiceName};
use serde_json::Value;

use super::body::Body;
use super::{Caller, Desk, ending, order};
use crate::http::{answer, error};
use crate::services::{Moving, Publish, Refusal, Wish};
use crate::settings::duration;

pub(super) async fn publish(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Response {
    carry_out(&desk, caller, "publish", read_publish(&body)).await
}

pub(super) async fn withdraw(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Response {
    carry_out(&desk, caller, "withdraw", read_withdraw(&body)).await
}

pub(super) async fn labels(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Response {
    carry_out(&desk, caller, "label", read_labels(&body)).await
}

pub(super) async fn migrate(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Response {
    carry_out(&desk, caller, "migrate", read_migrate(&body)).await
}

async fn carry_out(desk: &Desk, caller: Caller, command: &str, wish: Result<Wish, String>) -> Response {
    let wish = match wish {
        Ok(wish) => wish,
        Err(why) => return error(StatusCode::BAD_REQUEST, "bad_body", &why, &[]),
    };
    caller.asks(command);
    match order(&desk.services, |reply| (wish, reply)).await {
        Some(Ok(done)) => answer(StatusCode::OK, &done),
        Some(Err(Refusal::UnknownPeer(why, near))) => {
            let near: Vec<String> = near.into_iter().collect();
            error(StatusCode::NOT_FOUND, "unknown_peer", &why, &near)
        }
        Some(Err(Refusal::Other(why))) => error(StatusCode::UNPROCESSABLE_ENTITY, "refused", &why, &[]),
        None => ending(),
    }
}

fn read_publish(body: &[u8]) -> Result<Wish, String> {
    let known = ["name", "address", "state", "weight", "version", "payload", "payload_base64"];
    let body = Body::read(body, &known)?;
    let text = body.text("payload")?.map(|text| text.as_bytes().to_vec());
    let bytes = body.parsed("payload_base64", |text| {
        BASE64_STANDARD.decode(text).map_err(|e| format!("it is no base64: {e}"))
    })?;
    if text.is_some() && bytes.is_some() {
        return Err("payload and payload_base64 exclude each other".to_owned());
    }
    Ok(Wish::Publish(Box::new(Publish {
        name: body.needed("name", ServiceName::new)?,
        address: body.parsed("address", ServiceAddress::new)?,
        state: body.parsed("state", str::parse)?,
        weight: body.number("weight", (1, u8::MAX))?,
        version: body.number("version", (0, u64::MAX))?,
        payload: text.or(bytes),
    })))
}

fn read_withdraw(body: &[u8]) -> Result<Wish, String> {
    Body::read(body, &["name"])?.needed("name", ServiceName::new).map(Wish::Withdraw)
}

/// `{"set": {"zone": "a"}, "remove": ["rack"]}`; either may be absent.
fn read_labels(body: &[u8]) -> Result<Wish, String> {
    let body = Body::read(body, &["set", "remove"])?;
    let pairs = match body.value("set") {
        None => Some(Vec::new()),
        Some(set) => set.as_object().and_then(|set| {
            let pair = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
            set.iter().map(pair).collect()
        }),
    };
    let set = Labels::new(pairs.ok_or("set is no object of strings")?)?;
    let names = match body.value("remove") {
        None => Some(Vec::new()),
        Some(names) => names.as_array().and_then(|names| {
            let name = |name: &Value| name.as_str().map(str::to_owned);
            names.iter().map(name).collect()
        }),
    };
    let remove: Vec<String> = names.ok_or("remove is no list of strings")?;
    match remove.iter().find(|name| set.get(name).is_some()) {
        Some(name) => Err(format!("the label {name} is to be set and to be removed")),
        None => Ok(Wish::Label { set, remove }),
    }
}

fn read_migrate(body: &[u8]) -> Result<Wish, String> {
    let body = Body::read(body, &["service", "from", "to", "reason", "within"])?;
    Ok(Wish::Migrate(Box::new(Moving {
        service: body.needed("service", ServiceName::new)?,
        from: body.parsed("from", ServerId::new)?,
        to: body.parsed("to", ServerId::new)?,
        reason: body.parsed("reason", Reason::new)?.unwrap_or_default(),
        within: body.parsed("within", duration::parse)?,
    })))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lastseen::proto::ServiceState;

    use super::*;

    fn publish(name: &str) -> Publish {
        let name = ServiceName::new(name).unwrap();
        Publish { name, address: None, state: None, weight: None, version: None, payload: None }
    }

    #[test]
    fn what_is_absent_is_not_said() {
        let read = |body: &str| read_publish(body.as_bytes());
        let bare = Ok(Wish::Publish(Box::new(publish("web"))));
        assert_eq!(read(r#"{"name": "web"}"#), bare);
        assert_eq!(read(r#"{"name": "web", "address": null, "payload": null}"#), bare);
        let all = Publish {
            address: Some(ServiceAddress::new("a:1").unwrap()),
            state: Some(ServiceState::Draining),
            weight: Some(255),
            version: Some(u64::MAX),
            payload: Some(vec![0, 255]),
            ..publish("web")
        };
        let text = r#"{"name": "web", "address": "a:1", "state": "draining", "weight": 255,
            "version": 18446744073709551615, "payload_base64": "AP8="}"#;
        assert_eq!(read(text), Ok(Wish::Publish(Box::new(all))));
        let text = Publish { payload: Some("ä".into()), ..publish("web") };
        assert_eq!(read(r#"{"name": "web", "payload": "ä"}"#), Ok(Wish::Publish(Box::new(text))));
    }

    #[test]
    fn labels_are_set_and_removed() {
        let set = Labels::new(vec![("zone".into(), "a".into())]).unwrap();
        let read = |body: &str| read_labels(body.as_bytes());
        assert_eq!(
            read(r#"{"set": {"zone": "a"}, "remove": ["rack"]}"#),
            Ok(Wish::Label { set, remove: vec!["rack".into()] })
        );
        assert_eq!(read(""), Ok(Wish::Label { set: Labels::default(), remove: Vec::new() }));
        for (body, told) in [
            (r#"{"set": []}"#, "set is no object of strings"),
            (r#"{"set": {"a": 1}}"#, "set is no object of strings"),
            (r#"{"set": {"A": "x"}}"#, "not named right"),
            (r#"{"remove": "a"}"#, "remove is no list of strings"),
            (r#"{"set": {"a": "x"}, "remove": ["a"]}"#, "to be set and to be removed"),
            (r#"{"sets": {}}"#, "unknown field \"sets\""),
        ] {
            let error = read(body).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn who_is_to_go_where() {
        let id = |text: &str| ServerId::new(text).ok();
        let service = ServiceName::new("web").unwrap();
        let bare = Moving { service, from: None, to: None, reason: Reason::default(), within: None };
        let read = |body: &str| read_migrate(body.as_bytes());
        assert_eq!(read(r#"{"service": "web"}"#), Ok(Wish::Migrate(Box::new(Moving { ..bare }))));
        let text = r#"{"service": "web", "from": "n1", "to": "n2", "reason": "disks", "within": "90s"}"#;
        let Ok(Wish::Migrate(moving)) = read(text) else { panic!() };
        assert_eq!(
            (moving.from, moving.to, moving.within),
            (id("n1"), id("n2"), Some(Duration::from_secs(90)))
        );
        assert_eq!(moving.reason.as_str(), "disks");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, told) in [
            ("", "name is missing"),
            ("[]", "no object"),
            ("{", "no JSON"),
            (r#"{"name": "web", "adress": "a:1"}"#, "unknown field \"adress\"; known: name, address"),
            (r#"{"name": "a b"}"#, "no name of a service"),
            (r#"{"name": "web", "address": "a"}"#, "HOST:PORT is right"),
            (r#"{"name": "web", "state": "up"}"#, "passing, draining and failed are right"),
            (r#"{"name": "web", "weight": 0}"#, "weight is 0; a whole number from 1 to 255"),
            (r#"{"name": "web", "weight": "1"}"#, "weight is \"1\"; a whole number"),
            (r#"{"name": "web", "version": -1}"#, "version is -1; a whole number"),
            (r#"{"name": "web", "payload": 1}"#, "payload is 1; a string"),
            (r#"{"name": "web", "payload_base64": "?"}"#, "payload_base64: it is no base64"),
            (r#"{"name": "web", "payload": "", "payload_base64": ""}"#, "exclude each other"),
        ] {
            let error = read_publish(body.as_bytes()).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
        for (body, told) in [
            ("{}", "service is missing"),
            (r#"{"service": "web", "to": ""}"#, "to: it has 0 bytes"),
            (r#"{"service": "web", "within": "1 h"}"#, "write \"1h\""),
            (r#"{"service": "web", "reason": "<b>"}"#, "must not have the character <"),
        ] {
            let error = read_migrate(body.as_bytes()).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
        assert_eq!(read_withdraw(b"{}").unwrap_err(), "name is missing");
    }
}
