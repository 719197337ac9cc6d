//! The migrations, for whoever moves clients.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use super::clock::Clock;
use crate::proto::{Announced, Catalog};

/// So many that are over are remembered, lest one is told again.
const REMEMBERED: usize = 1024;

/// Every migration, once: those that go on when the stream is made, and each that is announced later, by whichever node. Unlike
/// [`EventStream`](super::EventStream) it loses none to a slow reader, as long as that comes back before the deadline.
#[derive(Debug)]
pub struct MigrationStream {
    catalog: watch::Receiver<Arc<Catalog>>,
    told: BTreeSet<u64>,
}

impl MigrationStream {
    pub(super) fn new(catalog: watch::Receiver<Arc<Catalog>>) -> MigrationStream {
        MigrationStream { catalog, told: BTreeSet::new() }
    }

    /// The next one; `None` when the loop has ended. Safe to cancel: none is lost by it.
    pub async fn next(&mut self) -> Option<Announced> {
        loop {
            let catalog = Arc::clone(&self.catalog.borrow_and_update());
            if self.told.len() > REMEMBERED {
                let goes_on = |id: &u64| catalog.migrations.iter().any(|known| known.migration.id == *id);
                self.told.retain(goes_on);
            }
            let now = Clock.now();
            let known = catalog.migrations.iter().filter(|known| known.until > now);
            for announced in known {
                if self.told.insert(announced.migration.id) {
                    return Some(announced.clone());
                }
            }
            self.catalog.changed().await.ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Migration, Reason, ServerId, Service};

    fn catalog(ids: &[u64]) -> Arc<Catalog> {
        let announced = |id: &u64| Announced {
            by: "a".into(),
            migration: Migration {
                id: *id,
                service: Service::new("web", "h:1").unwrap().name,
                from: ServerId::new("a").unwrap(),
                to: None,
                reason: Reason::default(),
                deadline: 0,
            },
            until: Clock.now() + std::time::Duration::from_secs(60),
        };
        Arc::new(Catalog { migrations: ids.iter().map(announced).collect(), ..Catalog::default() })
    }

    #[tokio::test]
    async fn each_once_however_slow_the_reader_is() {
        let (sender, receiver) = watch::channel(catalog(&[1]));
        let mut stream = MigrationStream::new(receiver);
        sender.send_replace(catalog(&[1, 2]));
        sender.send_replace(catalog(&[1, 2, 3]));
        for id in 1..=3 {
            assert_eq!(stream.next().await.unwrap().migration.id, id);
        }
        sender.send_replace(catalog(&[2, 3]));
        sender.send_replace(catalog(&[2, 3, 4]));
        assert_eq!(stream.next().await.unwrap().migration.id, 4);
        drop(sender);
        assert!(stream.next().await.is_none());
    }
}
