//! Migrations that this node announces: by order, and because it drains.

use std::time::Duration;

use lastseen::net::{Clock, Handle};
use lastseen::proto::{Migrating, Migration, Move, Reason, Scope, ServerId, ServiceName, ServiceState};
use serde_json::json;
use tracing::{info, warn};

use super::{ENDING, Outcome, Refusal};
use crate::http::stamp_of;
use crate::settings::{duration, nearest};

/// Clients that are to leave a node.
#[derive(Debug, PartialEq)]
pub(crate) struct Moving {
    pub(crate) service: ServiceName,
    /// `None`: this node.
    pub(crate) from: Option<ServerId>,
    pub(crate) to: Option<ServerId>,
    pub(crate) reason: Reason,
    /// `None`: as the settings say.
    pub(crate) within: Option<Duration>,
}

impl Moving {
    /// Announces it.
    pub(super) async fn announce(self, handle: &Handle, own: &str, default: Duration) -> Outcome {
        let Moving { service, from, to, reason, within } = self;
        let own = ServerId::new(own)?;
        let from = from.unwrap_or_else(|| own.clone());
        let within = check(within.unwrap_or(default))?;
        if to.as_ref() == Some(&from) {
            return Err(format!("clients that leave {from} cannot go to {from}").into());
        }
        let known = handle.snapshot_of(Scope::Peers).await.ok_or(ENDING)?;
        for id in [&from].into_iter().chain(&to).filter(|id| **id != own) {
            if !known.peers.iter().any(|peer| *peer.server_id == *id.as_str()) {
                let near = nearest(id.as_str(), known.peers.iter().map(|peer| &*peer.server_id));
                let why = format!("no node is called {:?}", id.as_str());
                return Err(Refusal::UnknownPeer(why, near.map(str::to_owned)));
            }
        }
        let moving = Move { service, from, to, reason, within };
        let id = handle.migrate(moving.clone()).await.ok_or(ENDING)?.map_err(|e| e.to_string())?;
        let deadline = (Clock.since_1970() + within).as_secs();
        let Move { service, from, to, reason, .. } = moving;
        let is_offered = handle.catalog().instances(service.as_str()).any(|i| *i.server_id == *from.as_str());
        let odd = if is_offered { "" } else { "; as far as this node knows that one does not offer it" };
        let mut answer = json!({
            "migration": format!("{id:016x}"),
            "service": service.as_str(),
            "from": from.as_str(),
            "to": to.as_ref().map(ServerId::as_str),
            "reason": reason.as_str(),
            "deadline": stamp_of(deadline),
        });
        let migration = Migration { id, service, from, to, reason, deadline };
        let message = format!("{}{odd}", Migrating { left: within, migration });
        info!("{message}");
        answer["message"] = json!(message);
        Ok(answer)
    }
}

fn check(within: Duration) -> Result<Duration, String> {
    let (show, most) = (duration::show, Migration::LONGEST);
    if (Duration::from_secs(1)..=most).contains(&within) {
        return Ok(within);
    }
    Err(format!("within {} does not fit; right is 1s to {}", show(within), show(most)))
}

/// Which services' clients were told to leave a node that drains.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) told: Vec<ServiceName>,
    /// Those of whom nobody is told, and why.
    pub(crate) not_told: Vec<ServiceName>,
    pub(crate) why: String,
}

/// The clients of every service that passes here are to leave; but where that is announced already. `None` when the daemon
/// ends.
pub(crate) async fn away(
    handle: &Handle,
    own: &ServerId,
    reason: &Reason,
    within: Duration,
) -> Option<Moved> {
    let catalog = handle.catalog();
    let leaves = |name: &ServiceName| {
        let own = own.as_str();
        catalog.migrations.iter().any(|known| {
            *known.by == *own && known.migration.service == *name && known.migration.from.as_str() == own
        })
    };
    let of_mine = catalog.instances.iter().filter(|instance| *instance.server_id == *own.as_str());
    let passing = of_mine.map(|mine| &mine.service).filter(|service| service.state == ServiceState::Passing);
    let mut moved = Moved::default();
    for service in passing.map(|service| service.name.clone()).filter(|name| !leaves(name)) {
        let (from, reason) = (own.clone(), reason.clone());
        let moving = Move { service: service.clone(), from, to: None, reason, within };
        match handle.migrate(moving).await? {
            Ok(_) => moved.told.push(service),
            Err(e) => {
                warn!("clients of {service} are not told to leave: {e}");
                moved.not_told.push(service);
                moved.why = e.to_string();
            }
        }
    }
    Some(moved)
}

impl Moved {
    /// For the answer to a drain: nothing, if there is nothing to tell.
    pub(crate) fn text(&self, within: Duration) -> String {
        let list =
            |names: &[ServiceName]| names.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(", ");
        let mut text = String::new();
        if !self.told.is_empty() {
            text +=
                &format!("; clients of {} are to leave within {}", list(&self.told), duration::show(within));
        }
        if !self.not_told.is_empty() {
            text += &format!("; those of {} are not told: {}", list(&self.not_told), self.why);
        }
        text
    }
}
