//! The HTTP listener: read-only, bounded, and only for those who call it by its name.

mod api;
pub(crate) mod events;
mod json;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use lastseen::metrics::Exporter;
use lastseen::net::{Clock, Handle};
use lastseen::proto::Snapshot;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{info, warn};

use crate::settings;

/// A loop that does not answer for so long does not turn.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// What every answer is made from.
pub(crate) struct Shared {
    pub(crate) handle: Handle,
    pub(crate) clock: Clock,
    pub(crate) exporter: Exporter,
    pub(crate) events: Arc<events::Recorder>,
    /// When the configuration was read, in seconds since 1970.
    pub(crate) loaded: f64,
    pub(crate) detail: settings::Detail,
}

impl Shared {
    /// The picture; `None` if the loop does not turn.
    async fn snapshot(&self) -> Option<Snapshot> {
        tokio::time::timeout(ANSWERS_WITHIN, self.handle.snapshot()).await.ok().flatten()
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
    let full = settings.listen.iter().map(|address| (*address, true));
    for (address, full) in full.chain(settings.metrics_listen.iter().map(|address| (*address, false))) {
        let listener = std::net::TcpListener::bind(address)
            .and_then(|l| l.set_nonblocking(true).map(|()| l))
            .and_then(TcpListener::from_std)
            .map_err(|e| format!("cannot listen on {address} for HTTP: {e}"))?;
        let address = listener.local_addr().unwrap_or(address);
        info!(%address, "http listening on {address}");
        listeners.push((listener, routes(&shared, address, full)));
    }
    let connections = Arc::new(Semaphore::new(settings.max_connections));
    Ok(HttpServer { listeners, connections, timeout: settings.timeout })
}

fn routes(shared: &Arc<Shared>, address: SocketAddr, full: bool) -> Router {
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
        .layer(middleware::from_fn_with_state(address, guard))
        .with_state(Arc::clone(shared))
}

/// Refuses foreign Host names (DNS rebinding), and forbids storing.
async fn guard(State(address): State<SocketAddr>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|h| h.to_str().ok());
    let mut response = if host.is_some_and(|host| is_own_host(host, address.ip())) {
        next.run(request).await
    } else {
        let text = "the Host header must be an IP address, or localhost on a loopback listener";
        api::error(StatusCode::MISDIRECTED_REQUEST, "host", text, &[])
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An IP address; or `localhost`, where the listener can be reached by it.
fn is_own_host(host: &str, listener: IpAddr) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(':') && !port.contains(']') && port.parse::<u16>().is_ok() => {
            name
        }
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    let local = listener.is_loopback() || listener.is_unspecified();
    bare.parse::<IpAddr>().is_ok() || local && bare.eq_ignore_ascii_case("localhost")
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
        // Who comes when all places are taken waits in the kernel's queue.
        let Ok(place) = Arc::clone(&connections).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
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

/// One connection: slow headers end it, and so does an error.
async fn connection(stream: TcpStream, router: Router, timeout: Duration) {
    let service = TowerToHyperService::new(router);
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_rule() {
        let loopback: IpAddr = [127, 0, 0, 1].into();
        let public: IpAddr = [192, 0, 2, 1].into();
        for (host, listener, own) in [
            ("127.0.0.1:5279", loopback, true),
            ("127.0.0.1", loopback, true),
            ("[::1]:5279", loopback, true),
            ("::1", loopback, true),
            ("localhost:5279", loopback, true),
            ("LOCALHOST", loopback, true),
            ("localhost", public, false),
            ("10.0.0.7:5279", public, true),
            ("evil.example", loopback, false),
            ("evil.example:5279", loopback, false),
            ("127.0.0.1.evil.example", loopback, false),
            ("", loopback, false),
            ("[::1]:x", loopback, false),
        ] {
            assert_eq!(is_own_host(host, listener), own, "{host} at {listener}");
        }
    }
}
