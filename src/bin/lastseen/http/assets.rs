//! The dashboard: one page and what it loads, inside of the binary. It takes all that it shows from `/api/v1`.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::api;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const PAGE: &str = include_str!("../assets/index.html");

/// What the page loads: name, content type, text.
const ASSETS: [(&str, &str, &str); 11] = [
    ("style.css", CSS, include_str!("../assets/style.css")),
    ("theme.js", SCRIPT, include_str!("../assets/theme.js")),
    ("main.js", SCRIPT, include_str!("../assets/main.js")),
    ("link.js", SCRIPT, include_str!("../assets/link.js")),
    ("model.js", SCRIPT, include_str!("../assets/model.js")),
    ("dom.js", SCRIPT, include_str!("../assets/dom.js")),
    ("summary.js", SCRIPT, include_str!("../assets/summary.js")),
    ("peers.js", SCRIPT, include_str!("../assets/peers.js")),
    ("matrix.js", SCRIPT, include_str!("../assets/matrix.js")),
    ("timeline.js", SCRIPT, include_str!("../assets/timeline.js")),
    ("detail.js", SCRIPT, include_str!("../assets/detail.js")),
];

/// The page may load its own files and ask its own node, and nothing else: no inline script or style, no other origin.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) async fn page() -> Response {
    ([(header::CONTENT_TYPE, HTML), (header::CONTENT_SECURITY_POLICY, POLICY)], PAGE).into_response()
}

pub(super) async fn asset(name: Result<Path<String>, PathRejection>) -> Response {
    let found = name.ok().and_then(|Path(name)| ASSETS.iter().find(|(known, ..)| *known == name));
    match found {
        Some((_, kind, text)) => ([(header::CONTENT_TYPE, *kind)], *text).into_response(),
        None => api::error(StatusCode::NOT_FOUND, "not_found", "there is no such file", &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Raw bytes of all that a browser loads.
    const MOST: usize = 64 * 1024;

    fn texts() -> impl Iterator<Item = (&'static str, &'static str)> {
        std::iter::once(("index.html", PAGE)).chain(ASSETS.iter().map(|(name, _, text)| (*name, *text)))
    }

    #[test]
    fn the_page_is_small() {
        let bytes: usize = texts().map(|(_, text)| text.len()).sum();
        println!("{bytes} bytes");
        assert!(bytes < MOST, "{bytes} bytes");
    }

    #[test]
    fn nothing_is_asked_of_others_and_no_words_become_markup() {
        for (name, text) in texts() {
            // The names of XML are no addresses that anybody asks.
            let text = text.replace("http://www.w3.org/2000/svg", "");
            for foreign in ["http:", "https:", "//cdn", "@import", "url(", "wss:", "ws:"] {
                assert!(!text.contains(foreign), "{foreign} in {name}");
            }
            for markup in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("]
            {
                assert!(!text.contains(markup), "{markup} in {name}");
            }
        }
    }

    #[test]
    fn nothing_is_inline_that_the_policy_forbids() {
        for forbidden in ["style=", "<style", " on", "javascript:"] {
            let tags = PAGE.split('<').filter_map(|rest| rest.split_once('>')).map(|(tag, _)| tag);
            let mut tags = tags.map(|tag| format!("<{tag}"));
            assert!(!tags.any(|tag| tag.contains(forbidden)), "{forbidden}");
        }
        assert_eq!(
            PAGE.matches("<script").count(),
            PAGE.matches("<script src=\"/assets/").count()
                + PAGE.matches("<script type=\"module\" src=\"/assets/").count()
        );
    }

    #[test]
    fn every_file_that_is_asked_for_is_there() {
        for (name, text) in texts() {
            let from_page = text.split("\"/assets/").skip(1);
            let from_module = text.split("from \"./").skip(1);
            for rest in from_page.chain(from_module) {
                let asked = rest.split('"').next().unwrap_or_default();
                assert!(ASSETS.iter().any(|(known, ..)| *known == asked), "{name} asks for {asked}");
            }
        }
    }
}
