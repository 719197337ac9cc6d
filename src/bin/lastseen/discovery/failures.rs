//! Failed look-ups, counted by source.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A count for each source that there is.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<BTreeMap<Arc<str>, u64>>);

impl Failures {
    /// These are the sources from now on; who stays keeps its count.
    pub(super) fn expect(&self, sources: impl Iterator<Item = Arc<str>>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts =
            sources.map(|source| (Arc::clone(&source), counts.get(&source).copied().unwrap_or(0))).collect();
    }

    pub(super) fn count(&self, source: &Arc<str>) {
        if let Some(count) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(source) {
            *count += 1;
        }
    }

    /// All counts.
    pub(crate) fn all(&self) -> Vec<(Arc<str>, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(source, count)| (Arc::clone(source), *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_there_from_the_start_and_goes_with_its_count() {
        let failures = Failures::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        failures.expect([Arc::clone(&a)].into_iter());
        failures.count(&a);
        failures.count(&b);
        failures.expect([Arc::clone(&a), Arc::clone(&b)].into_iter());
        assert_eq!(failures.all(), [(Arc::clone(&a), 1), (Arc::clone(&b), 0)]);
        failures.expect([b].into_iter());
        failures.expect([a.clone()].into_iter());
        assert_eq!(failures.all(), [(a, 0)]);
    }
}
