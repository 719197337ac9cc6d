//! The HTTP listener: read-only, bounded, and only for those who call it by its name.

mod api;
mod assets;
pub(crate) mod events;
mod explain;
pub(crate) mod host;
mod json;
pub(crate) mod places;
mod ring;
mod stall;

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use lastseen::metrics::Exporter;
use lastseen::net::{Clock, Handle};
use lastseen::proto::{Scope, Snapshot};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tracing::{info, warn};

use crate::discovery::Failures;
use crate::reload::{Live, Reloads};
use crate::settings;
#[cfg(test)]
pub(crate) use api::one_peer;
pub(crate) use api::{answer, error};
pub(crate) use json::stamp_of;
use places::{Held, Places};
use stall::Stalling;

/// A loop that does not answer for so long does not turn.
pub(crate) const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// What every answer says, unless it says otherwise.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

/// What every answer is made from.
pub(crate) struct Shared {
    pub(crate) handle: Handle,
    pub(crate) clock: Clock,
    pub(crate) exporter: Exporter,
    pub(crate) events: Arc<events::Recorder>,
    pub(crate) reloads: Arc<Reloads>,
    pub(crate) live: watch::Receiver<Live>,
    pub(crate) failures: Arc<Failures>,
    /// Places for readers of events.
    pub(crate) streams: Arc<Semaphore>,
}

impl Shared {
    /// So much of the picture; `None` if the loop does not turn.
    async fn snapshot(&self, scope: Scope) -> Option<Snapshot> {
        tokio::time::timeout(ANSWERS_WITHIN, self.handle.snapshot_of(scope)).await.ok().flatten()
    }
}

/// Listeners that are bound, and do not answer yet.
pub(crate) struct HttpServer {
    /// What each may be called, and whether it tells more than monitoring asks for.
    listeners: Vec<(TcpListener, Arc<Own>, bool)>,
    places: Arc<Places>,
    timeout: Duration,
}

/// Binds every address. Must be called inside of the runtime.
///
/// # Errors
/// Names the address and what the system said.
pub(crate) fn bind(settings: &settings::Http) -> Result<HttpServer, String> {
    let mut listeners = Vec::new();
    let full = settings.listen.iter().map(|listen| (listen, true));
    for (listen, full) in full.chain(settings.metrics_listen.iter().map(|listen| (listen, false))) {
        let cannot = |e| format!("cannot listen on {} for HTTP: {e}", listen.text());
        let listener = std::net::TcpListener::bind(listen.text())
            .and_then(|l| l.set_nonblocking(true).map(|()| l))
            .and_then(TcpListener::from_std)
            .map_err(cannot)?;
        let ip = listener.local_addr().map_err(cannot)?.ip();
        listeners.push((listener, Arc::new(Own { ip, name: listen.name().map(str::to_owned) }), full));
    }
    Ok(HttpServer { listeners, places: Places::new(settings.max_connections), timeout: settings.timeout })
}

/// What a listener may be called.
struct Own {
    ip: IpAddr,
    name: Option<String>,
}

fn routes(shared: &Arc<Shared>, own: Arc<Own>, full: bool) -> Router {
    let mut router = Router::new()
        .route("/metrics", get(api::metrics))
        .route("/livez", get(api::livez))
        .route("/readyz", get(api::readyz))
        .route("/quorumz", get(api::quorumz));
    if full {
        router = router
            .route("/", get(assets::page))
            .route("/assets/{name}", get(assets::asset))
            .route("/api/v1/status", get(api::status))
            .route("/api/v1/peers", get(api::peers))
            .route("/api/v1/peers/{id}", get(api::peer))
            .route("/api/v1/matrix", get(api::matrix))
            .route("/api/v1/events", get(events::stream));
    }
    router
        .fallback(|| async { api::error(StatusCode::NOT_FOUND, "not_found", "there is no such page", &[]) })
        .method_not_allowed_fallback(|| async {
            api::error(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "only GET and HEAD are served",
                &[],
            )
        })
        .layer(middleware::from_fn_with_state(own, guard))
        .layer(middleware::from_fn(harden))
        .with_state(Arc::clone(shared))
}

/// Refuses foreign Host names (DNS rebinding).
async fn guard(State(own): State<Arc<Own>>, request: Request, next: Next) -> Response {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let is_own = |host: &str| host::is_own(host, own.ip, own.name.as_deref());
    // A target in absolute form names a host as well, and that one counts (RFC 9112, 3.2.2).
    let target = request.uri().authority().is_none_or(|authority| is_own(authority.as_str()));
    if target
        && hosts.next().and_then(|host| host.to_str().ok()).is_some_and(is_own)
        && hosts.next().is_none()
    {
        next.run(request).await
    } else {
        let text = "the Host header must be an IP address, localhost on a loopback listener, or a name in http.listen";
        api::error(StatusCode::MISDIRECTED_REQUEST, "host", text, &[])
    }
}

/// Says to browsers that nothing of this is a page that may load, be framed or be kept. A page that needs more says so
/// itself.
pub(crate) async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

impl HttpServer {
    /// Serves until it is dropped.
    pub(crate) async fn serve(self, shared: Shared) {
        let HttpServer { listeners, places, timeout } = self;
        let shared = Arc::new(shared);
        let serving = listeners.into_iter().map(|(listener, own, full)| {
            if let Ok(address) = listener.local_addr() {
                info!(%address, "http listening on {address}");
            }
            let router = routes(&shared, own, full);
            let next = move |context: &mut Context<'_>| {
                listener.poll_accept(context).map_ok(|(stream, _)| (stream, router.clone()))
            };
            accept(next, Arc::clone(&places), timeout)
        });
        futures_util::future::join_all(serving).await;
    }
}

/// Serves what `next` accepts, each connection by the router that comes with it.
pub(crate) async fn accept<S>(
    mut next: impl FnMut(&mut Context<'_>) -> Poll<io::Result<(S, Router)>>,
    places: Arc<Places>,
    timeout: Duration,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    loop {
        match poll_fn(&mut next).await {
            Ok((stream, router)) => {
                // While no place is to be had this one waits, and who comes after it waits in the kernel's queue. The
                // place is taken after the connection is there: a listener that nobody calls holds none.
                tokio::spawn(connection(stream, router, timeout, places.take().await));
                // What it has sent already is read before the next one can take its place.
                tokio::task::yield_now().await;
            }
            Err(e) => {
                // Out of descriptors, say: that passes.
                warn!("cannot accept an HTTP connection: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One connection: slow headers end it, and so does a reader that takes nothing, a newcomer, and an error.
async fn connection<S>(stream: S, router: Router, timeout: Duration, held: Held)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (router, place) = (TowerToHyperService::new(router), &held.0);
    let service = service_fn(|mut request: hyper::Request<Incoming>| {
        let making = place.make();
        request.extensions_mut().insert(Arc::clone(&making));
        let answer = router.call(request);
        async move {
            let answer = answer.await;
            drop(making);
            answer
        }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(Stalling::new(stream, timeout, Arc::clone(place))), service);
    tokio::select! {
        _ = serving => {}
        () = place.lost() => {}
    }
}

#[cfg(test)]
mod tests;
