//! The control socket: what changes this node is asked here, and nowhere else. HTTP as on the listener, with POST alone
//! and small bodies.

mod body;
pub(crate) mod client;
mod drain;
mod services;
mod socket;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::post;
use axum::{Extension, Router};
use serde_json::json;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::drain::Order;
use crate::http::places::Places;
use crate::http::{self, answer, error};
use crate::reload::Outcome;
use crate::{rosters, settings};

/// Connections at once.
const CONNECTIONS: usize = 8;
/// The longest body, in bytes.
const BODY: usize = 4096;
/// For a request to be complete.
const COMPLETE_WITHIN: Duration = Duration::from_secs(10);
/// Orders of one kind that may wait.
const ORDERS: usize = 8;
/// For the last answers to be taken.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// Orders of one kind, each with the way for its answer.
pub(crate) type Orders<T> = mpsc::Receiver<oneshot::Sender<T>>;
type Sender<T> = mpsc::Sender<oneshot::Sender<T>>;

/// Where orders go.
#[derive(Clone)]
struct Desk {
    reload: Sender<Outcome>,
    leave: Sender<Result<(), String>>,
    drain: mpsc::Sender<Order>,
    services: mpsc::Sender<crate::services::Order>,
    bootstrap: mpsc::Sender<rosters::Order>,
}

/// What the daemon is ordered over the socket. Without a socket nothing ever comes.
pub(crate) struct Ordered {
    pub(crate) reload: Orders<Outcome>,
    pub(crate) leave: Orders<Result<(), String>>,
    pub(crate) drain: mpsc::Receiver<Order>,
    pub(crate) services: mpsc::Receiver<crate::services::Order>,
    pub(crate) bootstrap: mpsc::Receiver<rosters::Order>,
}

/// The socket, bound.
pub(crate) struct Control {
    listener: UnixListener,
    _file: socket::SocketFile,
    router: Router,
    places: Arc<Places>,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
struct Caller {
    uid: u32,
    pid: Option<i32>,
}

/// Binds the socket, if there shall be one, and says where. Must be called inside of the runtime.
///
/// # Errors
/// The socket that the operator named cannot be had. Without the default one the daemon runs.
pub(crate) fn bind(settings: &settings::Control) -> Result<(Option<Control>, Ordered), String> {
    let (reload, reloads) = mpsc::channel(ORDERS);
    let (leave, leaves) = mpsc::channel(ORDERS);
    let (drain, drains) = mpsc::channel(ORDERS);
    let (services, wishes) = mpsc::channel(ORDERS);
    let (bootstrap, bootstraps) = mpsc::channel(ORDERS);
    let ordered =
        Ordered { reload: reloads, leave: leaves, drain: drains, services: wishes, bootstrap: bootstraps };
    let Some(path) = &settings.socket else { return Ok((None, ordered)) };
    match listen(path, settings.mode, Desk { reload, leave, drain, services, bootstrap }) {
        Ok(control) => {
            info!("taking commands at {}", path.display());
            Ok((Some(control), ordered))
        }
        Err(e) => {
            let text = format!("no control socket at {}: {e}", path.display());
            if settings.is_named {
                return Err(format!(
                    "{text}; choose another path with [control] socket, or none with socket = \"\""
                ));
            }
            if e.kind() == io::ErrorKind::NotFound {
                info!("{text}")
            } else {
                warn!("{text}")
            }
            Ok((None, ordered))
        }
    }
}

fn listen(path: &Path, mode: u32, desk: Desk) -> io::Result<Control> {
    let (listener, file) = socket::bind(path, mode)?;
    let listener = UnixListener::from_std(listener)?;
    Ok(Control { listener, _file: file, router: routes(desk), places: Places::new(CONNECTIONS) })
}

fn routes(desk: Desk) -> Router {
    Router::new()
        .route("/api/v1/reload", post(reload))
        .route("/api/v1/leave", post(leave))
        .route("/api/v1/bootstrap", post(bootstrap))
        .route("/api/v1/drain", post(drain::drain))
        .route("/api/v1/undrain", post(drain::undrain))
        .route("/api/v1/publish", post(services::publish))
        .route("/api/v1/withdraw", post(services::withdraw))
        .route("/api/v1/labels", post(services::labels))
        .route("/api/v1/migrate", post(services::migrate))
        .fallback(|| async { error(StatusCode::NOT_FOUND, "not_found", "there is no such command", &[]) })
        .method_not_allowed_fallback(|| async {
            error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "only POST is served", &[])
        })
        .layer(middleware::from_fn(bounded))
        .layer(middleware::from_fn(http::harden))
        .with_state(desk)
}

/// A command gets its body whole, soon, and small.
async fn bounded(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match timeout(COMPLETE_WITHIN, to_bytes(body, BODY)).await {
        Ok(Ok(body)) => next.run(Request::from_parts(head, Body::from(body))).await,
        Ok(Err(_)) => {
            let text = format!("a body has at most {BODY} bytes");
            error(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &text, &[])
        }
        Err(_) => error(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body did not come in time", &[]),
    }
}

async fn reload(State(desk): State<Desk>, Extension(caller): Extension<Caller>) -> Response {
    caller.asks("reload");
    match order(&desk.reload, |reply| reply).await {
        Some(Ok(reloaded)) => answer(StatusCode::OK, &reloaded.json()),
        Some(Err(why)) => {
            let text = format!("nothing is reloaded: {why}");
            error(StatusCode::UNPROCESSABLE_ENTITY, "not_reloaded", &text, &[])
        }
        None => ending(),
    }
}

async fn leave(State(desk): State<Desk>, Extension(caller): Extension<Caller>) -> Response {
    caller.asks("leave");
    match order(&desk.leave, |reply| reply).await {
        Some(Ok(())) => answer(StatusCode::OK, &json!({ "message": "has left, announced as a removal" })),
        Some(Err(why)) => error(StatusCode::INTERNAL_SERVER_ERROR, "not_told", &why, &[]),
        None => ending(),
    }
}

/// `{"confirm": "0123456789ab"}`; the hash may be absent, and the body too.
async fn bootstrap(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    body: axum::body::Bytes,
) -> Response {
    let read = body::Body::read(&body, &["confirm"]);
    let confirm = match read.and_then(|body| body.parsed("confirm", crate::args::parse_hash)) {
        Ok(confirm) => confirm,
        Err(why) => return error(StatusCode::BAD_REQUEST, "bad_body", &why, &[]),
    };
    caller.asks("bootstrap");
    match order(&desk.bootstrap, |reply| (confirm, reply)).await {
        Some(Ok(done)) => answer(StatusCode::OK, &done),
        Some(Err(why)) => error(StatusCode::UNPROCESSABLE_ENTITY, "not_bootstrapped", &why, &[]),
        None => ending(),
    }
}

/// Gives an order and waits for what comes of it; `None` when the daemon ends.
async fn order<M, T>(to: &mpsc::Sender<M>, with: impl FnOnce(oneshot::Sender<T>) -> M) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    to.send(with(reply)).await.ok()?;
    answer.await.ok()
}

fn ending() -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, "ending", "the daemon is about to end", &[])
}

impl Caller {
    /// As the kernel tells; a process of another namespace has no number here.
    fn of(stream: &UnixStream) -> io::Result<Caller> {
        stream.peer_cred().map(|of| Caller { uid: of.uid(), pid: of.pid().filter(|pid| *pid > 0) })
    }

    fn asks(self, command: &str) {
        let (uid, pid) = (self.uid, self.pid);
        info!(uid, pid, "asked to {command}");
    }
}

impl Control {
    /// Serves until it is dropped.
    pub(crate) async fn serve(&self) {
        let next = |context: &mut Context<'_>| {
            self.listener.poll_accept(context).map(|accepted| {
                let (stream, _) = accepted?;
                let router = self.router.clone().layer(Extension(Caller::of(&stream)?));
                Ok((stream, router))
            })
        };
        http::accept(next, Arc::clone(&self.places), COMPLETE_WITHIN).await;
    }

    /// Waits until the last answers are taken, though not for long.
    pub(crate) async fn answered(&self) {
        // Who does not take its answer has gone.
        let _ = timeout(ANSWERED_WITHIN, self.places.empty()).await;
    }
}

#[cfg(test)]
mod tests;
