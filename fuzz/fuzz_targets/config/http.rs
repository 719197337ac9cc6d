#[path = "../../../src/bin/lastseen/http/host.rs"]
pub(crate) mod host;
