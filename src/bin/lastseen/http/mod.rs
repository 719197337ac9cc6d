//! The HTTP listener: read-only, bounded, and only for those who call it by its name.

mod api;
pub(crate) mod events;
mod explain;
pub(crate) mod host;
mod json;
mod ring;
mod stall;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use lastseen::metrics::Exporter;
use lastseen::net::{Clock, Handle};
use lastseen::proto::{Scope, Snapshot};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{info, warn};

use crate::reload::Reloads;
use crate::settings;
#[cfg(test)]
pub(crate) use api::one_peer;
use stall::{Patience, Stalling};

/// A loop that does not answer for so long does not turn.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// What every answer is made from.
pub(crate) struct Shared {
    pub(crate) handle: Handle,
    pub(crate) clock: Clock,
    pub(crate) exporter: Exporter,
    pub(crate) events: Arc<events::Recorder>,
    pub(crate) reloads: Arc<Reloads>,
    pub(crate) detail: settings::Detail,
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
    listeners: Vec<(TcpListener, Router)>,
    connections: Arc<Semaphore>,
    timeout: Duration,
}

/// Binds every address. Must be called inside of the runtime.
///
/// # Errors
/// Names the address and what the system said.
pub(crate) fn bind(settings: &settings::Http, shared: Shared) -> Result<HttpServer, String> {
    let shared = Arc::new(shared);
    let mut listeners = Vec::new();
    let full = settings.listen.iter().map(|listen| (listen, true));
    for (listen, full) in full.chain(settings.metrics_listen.iter().map(|listen| (listen, false))) {
        let cannot = |e| format!("cannot listen on {} for HTTP: {e}", listen.text());
        let listener = std::net::TcpListener::bind(listen.text())
            .and_then(|l| l.set_nonblocking(true).map(|()| l))
            .and_then(TcpListener::from_std)
            .map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        info!(%address, "http listening on {address}");
        let own = Arc::new(Own { ip: address.ip(), name: listen.name().map(str::to_owned) });
        listeners.push((listener, routes(&shared, own, full)));
    }
    let connections = Arc::new(Semaphore::new(settings.max_connections));
    Ok(HttpServer { listeners, connections, timeout: settings.timeout })
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
        .with_state(Arc::clone(shared))
}

/// Refuses foreign Host names (DNS rebinding), and forbids storing.
async fn guard(State(own): State<Arc<Own>>, request: Request, next: Next) -> Response {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let is_own = match (hosts.next().and_then(|h| h.to_str().ok()), hosts.next()) {
        (Some(host), None) => host::is_own(host, own.ip, own.name.as_deref()),
        _ => false,
    };
    let mut response = if is_own {
        next.run(request).await
    } else {
        let text = "the Host header must be an IP address, localhost on a loopback listener, or a name in http.listen";
        api::error(StatusCode::MISDIRECTED_REQUEST, "host", text, &[])
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl HttpServer {
    /// Serves until it is dropped.
    pub(crate) async fn serve(self) {
        let HttpServer { listeners, connections, timeout } = self;
        let serving = listeners
            .into_iter()
            .map(|(listener, router)| accept(listener, router, connections.clone(), timeout));
        futures_util::future::join_all(serving).await;
    }
}

async fn accept(listener: TcpListener, router: Router, connections: Arc<Semaphore>, timeout: Duration) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // When all places are taken this one waits, and who comes after it waits in the kernel's queue. The
                // place is taken after the connection is there: a listener that nobody calls holds none.
                let Ok(place) = Arc::clone(&connections).acquire_owned().await else { return };
                let router = router.clone();
                tokio::spawn(async move {
                    connection(stream, router, timeout).await;
                    drop(place);
                });
            }
            Err(e) => {
                // Out of descriptors, say: that passes.
                warn!("cannot accept an HTTP connection: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One connection: slow headers end it, and so does a reader that takes nothing, and an error.
async fn connection(stream: TcpStream, router: Router, timeout: Duration) {
    let patience = Patience::default();
    let service = TowerToHyperService::new(router.layer(Extension(patience.clone())));
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(Stalling::new(stream, timeout, patience)), service)
        .await;
}

#[cfg(test)]
mod tests;
