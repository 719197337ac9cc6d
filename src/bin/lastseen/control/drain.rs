//! `drain` and `undrain`, as they come over the socket.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use lastseen::proto::Reason;

use super::body::Body;
use super::{Caller, Desk, ending, order};
use crate::drain::Wish;
use crate::http::{answer, error};
use crate::settings::duration;

pub(super) async fn drain(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Response {
    match wish(&body) {
        Ok(wish) => carry_out(&desk, caller, "drain", wish).await,
        Err(why) => error(StatusCode::BAD_REQUEST, "bad_body", &why, &[]),
    }
}

pub(super) async fn undrain(State(desk): State<Desk>, Extension(caller): Extension<Caller>) -> Response {
    carry_out(&desk, caller, "undrain", Wish::Undrain).await
}

async fn carry_out(desk: &Desk, caller: Caller, command: &str, wish: Wish) -> Response {
    caller.asks(command);
    match order(&desk.drain, |reply| (wish, reply)).await {
        Some(Ok(done)) => answer(StatusCode::OK, &done),
        Some(Err(why)) => error(StatusCode::UNPROCESSABLE_ENTITY, "not_drained", &why, &[]),
        None => ending(),
    }
}

/// `{"for": "30m", "reason": "kernel upgrade"}`; either may be absent, and the body too.
fn wish(body: &[u8]) -> Result<Wish, String> {
    let body = Body::read(body, &["for", "reason"])?;
    let reason = body.parsed("reason", Reason::new)?.unwrap_or_default();
    Ok(Wish::Drain(body.parsed("for", duration::parse)?, reason))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn bodies_say_for_how_long_and_why() {
        let drain = |seconds: Option<u64>, reason| {
            Ok(Wish::Drain(seconds.map(Duration::from_secs), Reason::new(reason).unwrap()))
        };
        for (body, expected) in [
            ("", drain(None, "")),
            ("{}", drain(None, "")),
            (r#"{"for": "30m", "reason": "it's disks"}"#, drain(Some(1800), "it's disks")),
            (r#"{"for": null, "reason": null}"#, drain(None, "")),
        ] {
            assert_eq!(wish(body.as_bytes()), expected, "{body}");
        }
        for (body, told) in [
            ("[]", "no object"),
            ("{", "no JSON"),
            (r#"{"fro": "1h"}"#, "unknown field \"fro\""),
            (r#"{"for": 5}"#, "for is 5; a string"),
            (r#"{"for": "5 min"}"#, "write \"5m\""),
            (r#"{"reason": "<b>"}"#, "must not have the character <"),
        ] {
            let error = wish(body.as_bytes()).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
