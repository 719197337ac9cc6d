//! Migrations: the clients of a service are to leave a node, and every node is told once.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::drain::Reason;
use super::server_id::ServerId;
use super::service::ServiceName;
use super::verdict::Age;

/// Clients of a service are to move from one node to another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// Drawn by who announces it: by this it is told apart from all others.
    pub id: u64,
    /// Whose clients.
    pub service: ServiceName,
    /// Which node they are to leave.
    pub from: ServerId,
    /// Where they are to go; `None`: where [`route`](super::Catalog::route) leads them.
    pub to: Option<ServerId>,
    /// Why; empty: not told.
    pub reason: Reason,
    /// Until when, in seconds since 1970, by the wall clocks of all. Later nobody is told of it any more.
    pub deadline: u64,
}

impl Migration {
    /// Nobody is told of a migration for longer than this since he heard of it, whatever its deadline says.
    pub const LONGEST: Duration = Duration::from_secs(24 * 3600);
}

/// What is announced; the node draws the id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// See [`Migration`].
    pub service: ServiceName,
    /// See [`Migration`].
    pub from: ServerId,
    /// See [`Migration`].
    pub to: Option<ServerId>,
    /// See [`Migration`].
    pub reason: Reason,
    /// For how long it is told: at most [`Migration::LONGEST`].
    pub within: Duration,
}

/// A migration that goes on, at one moment: `web leaves web-1 for web-2 within 60 s: kernel upgrade`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrating {
    /// For how long.
    pub left: Duration,
    /// What was announced.
    pub migration: Migration,
}

impl fmt::Display for Migrating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Migration { service, from, to, reason, .. } = &self.migration;
        write!(f, "clients of {service} are to leave {from}")?;
        if let Some(to) = to {
            write!(f, " for {to}")?;
        }
        write!(f, " within {}", Age(self.left))?;
        match reason.as_str() {
            "" => Ok(()),
            reason => write!(f, ": {reason}"),
        }
    }
}

/// The migrations that one node announces, the oldest first: at most eight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Migration>")]
pub struct Migrations(Box<[Migration]>);

impl Migrations {
    /// The most at a time.
    pub const MOST: usize = 8;

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Migration> {
        self.0.iter()
    }
}

impl TryFrom<Vec<Migration>> for Migrations {
    type Error = String;
    fn try_from(all: Vec<Migration>) -> Result<Migrations, String> {
        if all.len() > Migrations::MOST {
            return Err(format!("{} migrations are too many; {} are the most", all.len(), Migrations::MOST));
        }
        Ok(Migrations(all.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_to_go_where() {
        let id = |text: &str| ServerId::new(text).unwrap();
        let migration = |to: Option<&str>, reason: &str| Migration {
            id: 7,
            service: ServiceName::new("web").unwrap(),
            from: id("web-1"),
            to: to.map(id),
            reason: Reason::new(reason).unwrap(),
            deadline: 0,
        };
        let text = |migration| Migrating { left: Duration::from_secs(60), migration }.to_string();
        assert_eq!(text(migration(None, "")), "clients of web are to leave web-1 within 60 s");
        let told = "clients of web are to leave web-1 for web-2 within 60 s: kernel upgrade";
        assert_eq!(text(migration(Some("web-2"), "kernel upgrade")), told);
        let all = |count| postcard::to_stdvec(&vec![migration(None, ""); count]).unwrap();
        assert!(postcard::from_bytes::<Migrations>(&all(8)).is_ok());
        assert!(postcard::from_bytes::<Migrations>(&all(9)).is_err());
    }
}
