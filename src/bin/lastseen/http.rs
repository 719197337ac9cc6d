//! The HTTP listener.

use lastseen::net::{Clock, Handle};

use crate::settings;

pub(crate) struct HttpServer;

pub(crate) struct Shared {
    pub(crate) handle: Handle,
    pub(crate) clock: Clock,
}

pub(crate) fn bind(_: &settings::Http, _: Shared) -> Result<HttpServer, String> {
    Ok(HttpServer)
}

impl HttpServer {
    pub(crate) async fn serve(self) {
        std::future::pending().await
    }
}
