//! Metrics.

use std::time::Duration;

pub(crate) fn rtt_recorder() -> Box<dyn FnMut(Duration) + Send> {
    Box::new(|_| {})
}
