//! What this node offers, and what is said of it: by its settings, over the control socket, and by checks. One task has all of
//! it; the detector waits for none of that.

mod check;
mod moving;

use std::collections::BTreeMap;
use std::time::Duration;

use lastseen::net::Handle;
use lastseen::proto::{Labels, Service, ServiceAddress, ServiceName, ServiceState, Services};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use crate::reload::Proposal;
use crate::settings::Offered;
use check::{Checking, Judged};
pub(crate) use moving::{Moving, away};

/// Judgements that may wait.
const JUDGED: usize = 16;
/// The daemon ends.
const ENDING: &str = "the daemon is about to end";

/// What is ordered.
#[derive(Debug, PartialEq)]
pub(crate) enum Wish {
    /// Offer a service, or say something else of it.
    Publish(Box<Publish>),
    /// Offer it no longer.
    Withdraw(ServiceName),
    /// Lay these labels over those of the settings, and take those away.
    Label { set: Labels, remove: Vec<String> },
    /// Tell clients to leave.
    Migrate(Box<Moving>),
}

/// What is said of a service; what is absent stays as it is, or is the default for a new one.
#[derive(Debug, PartialEq)]
pub(crate) struct Publish {
    pub(crate) name: ServiceName,
    pub(crate) address: Option<ServiceAddress>,
    pub(crate) state: Option<ServiceState>,
    pub(crate) weight: Option<u8>,
    pub(crate) version: Option<u64>,
    pub(crate) payload: Option<Vec<u8>>,
}

/// Why an order is not carried out.
#[derive(Debug, PartialEq)]
pub(crate) enum Refusal {
    /// There is no such node, and which is the nearest.
    UnknownPeer(String, Option<String>),
    /// All else.
    Other(String),
}

impl From<String> for Refusal {
    fn from(why: String) -> Refusal {
        Refusal::Other(why)
    }
}

impl From<&str> for Refusal {
    fn from(why: &str) -> Refusal {
        Refusal::Other(why.to_owned())
    }
}

/// What came of an order, for people and programs; the error names the culprit.
pub(crate) type Outcome = Result<Value, Refusal>;

/// An order, with the way for its answer.
pub(crate) type Order = (Wish, oneshot::Sender<Outcome>);

/// What the settings say of this node for clients.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settled {
    pub(crate) services: Vec<Offered>,
    pub(crate) labels: Labels,
}

/// A service of this node.
#[derive(Debug)]
struct Own {
    /// As it is published.
    service: Service,
    /// What the operator wants it to be.
    wanted: ServiceState,
    checking: Option<Checking>,
    /// Whether it goes when its section goes.
    is_settled: bool,
}

/// Of what is to pass, the check decides.
fn state_of(passes: bool, wanted: ServiceState) -> ServiceState {
    if wanted == ServiceState::Passing && !passes { ServiceState::Failed } else { wanted }
}

/// All that this node offers and says for clients.
pub(crate) struct Offers {
    handle: Handle,
    server_id: String,
    /// How long clients have, where the order does not say.
    move_within: Duration,
    own: BTreeMap<ServiceName, Own>,
    settled: Settled,
    /// Labels of the socket: `None` takes away one of the settings.
    laid: BTreeMap<String, Option<String>>,
    judged: (mpsc::Sender<Judged>, mpsc::Receiver<Judged>),
    /// That of the newest check.
    number: u64,
}

impl Offers {
    /// Of a node that says these labels already, and offers nothing yet.
    pub(crate) fn new(handle: Handle, server_id: &str, labels: Labels, move_within: Duration) -> Offers {
        Offers {
            handle,
            server_id: server_id.to_owned(),
            move_within,
            own: BTreeMap::new(),
            settled: Settled { services: Vec::new(), labels },
            laid: BTreeMap::new(),
            judged: mpsc::channel(JUDGED),
            number: 0,
        }
    }

    /// Offers these, obeys, and listens to the checks, until the daemon ends.
    pub(crate) async fn run(
        mut self,
        services: Vec<Offered>,
        mut orders: mpsc::Receiver<Order>,
        mut proposals: mpsc::Receiver<Proposal<Settled, ()>>,
    ) {
        if let Err(why) = self.settle(Settled { services, labels: self.settled.labels.clone() }).await {
            warn!("not all services are offered: {why}");
        }
        loop {
            tokio::select! {
                Some((wish, reply)) = orders.recv() => {
                    // Who no longer waits need not be told.
                    let _ = reply.send(self.obey(wish).await);
                }
                Some(judged) = self.judged.1.recv() => self.take(judged).await,
                Some(proposal) = proposals.recv() => {
                    let _ = proposal.checked.send(self.fit(&proposal.plan));
                    if let Ok(done) = proposal.go.await {
                        let _ = done.send(self.settle(proposal.plan).await);
                    }
                }
            }
        }
    }

    async fn obey(&mut self, wish: Wish) -> Outcome {
        match wish {
            Wish::Publish(publish) => self.publish(*publish).await,
            Wish::Withdraw(name) => self.withdraw(&name).await,
            Wish::Label { set, remove } => self.label(&set, &remove).await,
            Wish::Migrate(moving) => moving.announce(&self.handle, &self.server_id, self.move_within).await,
        }
    }

    async fn publish(&mut self, told: Publish) -> Outcome {
        let Publish { name, address, state, weight, version, payload } = told;
        let known = self.own.get(&name);
        let (mut service, wanted) = match (known, &address) {
            (Some(own), _) => (own.service.clone(), own.wanted),
            (None, Some(address)) => (Service::new(name.as_str(), address.as_str())?, ServiceState::Passing),
            (None, None) => {
                return Err(format!("{name} is new here: its address is missing{}", self.offered()).into());
            }
        };
        let (is_new, wanted) = (known.is_none(), state.unwrap_or(wanted));
        service.address = address.unwrap_or(service.address);
        service.weight = weight.unwrap_or(service.weight);
        service.version = version.unwrap_or(service.version);
        service.payload = payload.map_or(service.payload, Into::into);
        service.state = state_of(known.is_none_or(Own::passes), wanted);
        self.tell(&service).await?;
        let answer = shown(&service, wanted, is_new);
        let own = self.own.entry(name).or_insert_with(|| Own::new(service.clone()));
        (own.service, own.wanted) = (service, wanted);
        info!("{}", answer["message"].as_str().unwrap_or_default());
        Ok(answer)
    }

    async fn withdraw(&mut self, name: &ServiceName) -> Outcome {
        if self.own.remove(name).is_none() {
            return Err(format!("this node offers no service {name}{}", self.offered()).into());
        }
        self.handle.withdraw_service(name.clone()).await.ok_or(ENDING)?;
        let message = format!("offers {name} no longer");
        info!("{message}");
        Ok(json!({ "message": message, "name": name.as_str() }))
    }

    async fn label(&mut self, set: &Labels, remove: &[String]) -> Outcome {
        let mut laid = self.laid.clone();
        laid.extend(set.iter().map(|(name, value)| (name.to_owned(), Some(value.to_owned()))));
        for name in remove {
            if self.settled.labels.get(name).is_some() {
                laid.insert(name.clone(), None);
            } else {
                laid.remove(name);
            }
        }
        let labels = lay(&self.settled.labels, &laid)?;
        self.handle.set_labels(labels.clone()).await.ok_or(ENDING)?.map_err(|e| e.to_string())?;
        self.laid = laid;
        let all: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let message =
            if all.is_empty() { "no labels".to_owned() } else { format!("labels: {}", all.join(", ")) };
        info!("{message}");
        Ok(json!({ "message": message, "labels": labels.iter().collect::<BTreeMap<_, _>>() }))
    }

    /// A check has come to another judgement.
    async fn take(&mut self, judged: Judged) {
        let Judged { name, number, passes, why } = judged;
        let Some(own) = self.own.get_mut(&name) else { return };
        let Some(checking) = own.checking.as_mut().filter(|checking| checking.number == number) else {
            return;
        };
        checking.passes = passes;
        let state = state_of(passes, own.wanted);
        let held = if own.wanted == ServiceState::Passing { "" } else { ", and stays as it was ordered" };
        if passes {
            info!(service = name.as_str(), "the check of {name} passes{held}");
        } else {
            warn!(service = name.as_str(), "the check of {name} has failed too often{held}: {why}");
        }
        if own.service.state != state {
            own.service.state = state;
            let service = own.service.clone();
            if let Err(why) = self.tell(&service).await {
                warn!("{name} is not told to be {state}: {why}");
            }
        }
    }

    /// Whether what the settings say could be put into force.
    fn fit(&self, next: &Settled) -> Result<(), String> {
        lay(&next.labels, &self.laid)?;
        let (gone, other) = self.differing(next);
        let is_other = |name: &ServiceName| other.iter().any(|offered| offered.service.name == *name);
        let stay = self.own.iter().filter(|(name, _)| !gone.contains(name) && !is_other(name));
        let all = stay.map(|(_, own)| &own.service).chain(other.iter().map(|offered| &offered.service));
        let fits = Services::new(all.cloned().collect());
        fits.map(drop).map_err(|why| format!("with those that were published over the socket, {why}"))
    }

    /// The services whose section has gone, and those of whom the settings say something else than before.
    fn differing(&self, next: &Settled) -> (Vec<ServiceName>, Vec<Offered>) {
        let names_it = |name: &ServiceName| next.services.iter().any(|offered| offered.service.name == *name);
        let gone = self.own.iter().filter(|(name, own)| own.is_settled && !names_it(name));
        let other = next.services.iter().filter(|offered| !self.settled.services.contains(offered));
        (gone.map(|(name, _)| name.clone()).collect(), other.cloned().collect())
    }

    /// From now on the settings say this. What they say as before is left alone.
    async fn settle(&mut self, next: Settled) -> Result<(), String> {
        self.laid.retain(|name, value| value.is_some() || next.labels.get(name).is_some());
        let labels = lay(&next.labels, &self.laid)?;
        if labels != lay(&self.settled.labels, &self.laid)? {
            self.handle.set_labels(labels).await.ok_or(ENDING)?.map_err(|e| e.to_string())?;
        }
        let (gone, mut other) = self.differing(&next);
        self.settled = next;
        for name in gone {
            self.own.remove(&name);
            self.handle.withdraw_service(name).await.ok_or(ENDING)?;
        }
        // Together they fit: what has grown waits for what has shrunk.
        loop {
            let (waiting, mut refused) = (other.len(), Ok(()));
            let mut left = Vec::new();
            for offered in other {
                if let Err(why) = self.offer(&offered).await {
                    refused = Err(why);
                    left.push(offered);
                }
            }
            if left.is_empty() || left.len() == waiting {
                return refused;
            }
            other = left;
        }
    }

    /// Offers what the settings say, as the operator wants it, with its check.
    async fn offer(&mut self, offered: &Offered) -> Result<(), String> {
        let name = &offered.service.name;
        let known = self.own.get(name);
        let wanted = known.map_or(ServiceState::Passing, |own| own.wanted);
        // What passes goes on to, until another check has looked.
        let passes = offered.check.is_none() || known.is_some_and(Own::passes);
        let service = Service { state: state_of(passes, wanted), ..offered.service.clone() };
        self.tell(&service).await?;
        let same = self.own.remove(name).and_then(|own| own.checking);
        let same = same.filter(|checking| Some(&checking.check) == offered.check.as_ref());
        let checking = match (same, &offered.check) {
            (Some(same), _) => Some(same),
            (None, Some(check)) => {
                self.number += 1;
                let judged = self.judged.0.clone();
                Some(Checking::start(name.clone(), check.clone(), passes, self.number, judged))
            }
            (None, None) => None,
        };
        self.own.insert(name.clone(), Own { service, wanted, checking, is_settled: true });
        Ok(())
    }

    async fn tell(&self, service: &Service) -> Result<(), String> {
        let told = self.handle.publish_service(service.clone()).await.ok_or(ENDING)?;
        told.map_err(|e| e.to_string())
    }

    /// For who has mistyped a name.
    fn offered(&self) -> String {
        let names: Vec<&str> = self.own.keys().map(ServiceName::as_str).collect();
        if names.is_empty() {
            "; it offers none".to_owned()
        } else {
            format!("; it offers {}", names.join(", "))
        }
    }
}

impl Own {
    /// One that the settings do not name.
    fn new(service: Service) -> Own {
        Own { service, wanted: ServiceState::Passing, checking: None, is_settled: false }
    }

    /// As far as its check knows.
    fn passes(&self) -> bool {
        self.checking.as_ref().is_none_or(|checking| checking.passes)
    }
}

/// What is said of a service that was published.
fn shown(service: &Service, wanted: ServiceState, is_new: bool) -> Value {
    let Service { name, address, state, weight, version, .. } = service;
    let by = if wanted == *state { "" } else { ", as its check finds" };
    json!({
        "message": format!("offers {name} at {address}: {state}{by}"),
        "name": name.as_str(),
        "address": address.as_str(),
        "state": state.as_str(),
        "weight": weight,
        "version": version,
        "is_new": is_new,
    })
}

/// The labels of the settings, with those of the socket over them.
fn lay(settled: &Labels, laid: &BTreeMap<String, Option<String>>) -> Result<Labels, String> {
    let mut all: BTreeMap<&str, &str> = settled.iter().collect();
    for (name, value) in laid {
        match value {
            Some(value) => all.insert(name, value),
            None => all.remove(name.as_str()),
        };
    }
    Labels::new(all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[cfg(test)]
mod tests;
