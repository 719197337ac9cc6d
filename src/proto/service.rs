//! Services: what a node offers to clients, and whether that works. They travel in a record of their own.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::server_id::is_printable;

/// Whether a service takes clients, by its own node's word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ServiceState {
    /// It works.
    #[default]
    Passing,
    /// It works, and takes no new clients: those that it has are to leave.
    Draining,
    /// It does not work.
    Failed,
}

impl ServiceState {
    /// All three, from best to worst.
    pub const ALL: [ServiceState; 3] = [ServiceState::Passing, ServiceState::Draining, ServiceState::Failed];

    /// The name in JSON, settings and commands: `passing`, `draining`, `failed`.
    pub const fn as_str(self) -> &'static str {
        match self {
            ServiceState::Passing => "passing",
            ServiceState::Draining => "draining",
            ServiceState::Failed => "failed",
        }
    }
}

impl fmt::Display for ServiceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for ServiceState {
    type Err = String;

    fn from_str(text: &str) -> Result<ServiceState, String> {
        let known = ServiceState::ALL.into_iter().find(|state| state.as_str() == text);
        known.ok_or_else(|| format!("{text:?} is no state; passing, draining and failed are right"))
    }
}

/// A service's name: 1 to 32 bytes of letters, digits and `. - _`, beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "&str")]
pub struct ServiceName(Box<str>);

impl ServiceName {
    /// The most bytes.
    pub const LONGEST: usize = 32;

    /// A name.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn new(text: &str) -> Result<ServiceName, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if begins && text.len() <= ServiceName::LONGEST && text.chars().all(plain) {
            return Ok(ServiceName(text.into()));
        }
        Err(format!(
            "{text:?} is no name of a service; 1 to {} letters, digits and . - _ are right, the first a letter or digit",
            ServiceName::LONGEST
        ))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for ServiceName {
    type Error = String;
    fn try_from(text: &str) -> Result<ServiceName, String> {
        ServiceName::new(text)
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Where clients reach a service: `HOST:PORT`, with a name or an address (`[::1]:80`), at most 128 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "&str")]
pub struct ServiceAddress(Box<str>);

impl ServiceAddress {
    /// The most bytes.
    pub const LONGEST: usize = 128;

    /// An address.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn new(text: &str) -> Result<ServiceAddress, String> {
        let (host, port) = text.rsplit_once(':').unwrap_or_default();
        let bare = !host.contains(':') || host.starts_with('[') && host.ends_with(']');
        let port = port.parse::<u16>().is_ok_and(|port| port > 0) && !port.starts_with('+');
        if text.len() <= ServiceAddress::LONGEST
            && !host.is_empty()
            && bare
            && port
            && text.chars().all(is_printable)
        {
            return Ok(ServiceAddress(text.into()));
        }
        Err(format!(
            "{text:?} is no address of a service; HOST:PORT is right, of at most {} bytes",
            ServiceAddress::LONGEST
        ))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for ServiceAddress {
    type Error = String;
    fn try_from(text: &str) -> Result<ServiceAddress, String> {
        ServiceAddress::new(text)
    }
}

impl fmt::Display for ServiceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One service of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// What it is called: the same at all nodes that offer it, and once at each.
    pub name: ServiceName,
    /// Where clients reach it.
    pub address: ServiceAddress,
    /// Whether it takes clients.
    pub state: ServiceState,
    /// Its share of the sessions beside the other instances; 1 to 255.
    pub weight: u8,
    /// Which version of the service's state it holds: higher is newer; 0: it does not say.
    pub version: u64,
    /// What its clients are to know beside; nobody else reads it.
    pub payload: Box<[u8]>,
}

impl Service {
    /// One that passes, of weight 1, and says no more.
    ///
    /// # Errors
    /// What is wrong with the name or the address.
    pub fn new(name: &str, address: &str) -> Result<Service, String> {
        Ok(Service {
            name: ServiceName::new(name)?,
            address: ServiceAddress::new(address)?,
            state: ServiceState::Passing,
            weight: 1,
            version: 0,
            payload: Box::default(),
        })
    }
}

/// The services of one node, by name, each name once: together at most 1024 bytes as they travel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Service>")]
pub struct Services(Box<[Service]>);

impl Services {
    /// The most bytes that they take on the wire.
    pub const LONGEST: usize = 1024;

    /// Services in any order.
    ///
    /// # Errors
    /// What is wrong with them, and what would be right.
    pub fn new(mut services: Vec<Service>) -> Result<Services, String> {
        services.sort_by(|a, b| a.name.cmp(&b.name));
        Services::try_from(services)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Service> {
        self.0.iter()
    }

    /// The one called so.
    pub fn get(&self, name: &ServiceName) -> Option<&Service> {
        self.0.iter().find(|service| service.name == *name)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These, with `service` in the place of the one of its name.
    ///
    /// # Errors
    /// See [`Services::new`].
    pub fn with(&self, service: Service) -> Result<Services, String> {
        let others = self.0.iter().filter(|other| other.name != service.name).cloned();
        Services::new(others.chain([service.clone()]).collect())
    }

    /// These, without the one called so.
    pub fn without(&self, name: &ServiceName) -> Services {
        Services(self.0.iter().filter(|service| service.name != *name).cloned().collect())
    }

    /// Bytes on the wire.
    pub(crate) fn encoded_len(&self) -> usize {
        let size = postcard::ser_flavors::Size::default();
        postcard::serialize_with_flavor(self, size).expect("counting cannot fail")
    }
}

impl TryFrom<Vec<Service>> for Services {
    type Error = String;

    /// Services in their order.
    fn try_from(services: Vec<Service>) -> Result<Services, String> {
        if let Some(pair) = services.windows(2).find(|pair| pair[0].name >= pair[1].name) {
            return Err(format!("the service {} is there twice, or out of order", pair[1].name));
        }
        if let Some(service) = services.iter().find(|service| service.weight == 0) {
            return Err(format!("the service {} has a weight of 0; 1 to 255 are right", service.name));
        }
        let services = Services(services.into());
        let bytes = services.encoded_len();
        if bytes > Services::LONGEST {
            return Err(format!(
                "the services have {bytes} bytes together; {} are the most",
                Services::LONGEST
            ));
        }
        Ok(services)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_plain() {
        for right in ["web", "db-1", "a.b_c", &"x".repeat(32)] {
            assert_eq!(ServiceName::new(right).unwrap().as_str(), right);
        }
        for wrong in ["", "-a", "a b", "a/b", "ä", &"x".repeat(33)] {
            assert!(ServiceName::new(wrong).is_err(), "{wrong:?}");
        }
        for right in ["10.0.0.7:80", "db.example.org:5432", "[::1]:65535"] {
            assert_eq!(ServiceAddress::new(right).unwrap().as_str(), right);
        }
        for wrong in ["", "a", ":80", "a:", "a:0", "a:+80", "a:65536", "::1:80", "a b:80", "<a>:80", "[::1]"]
        {
            assert!(ServiceAddress::new(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn services_are_few_and_each_once() {
        let web = Service::new("web", "a:80").unwrap();
        let db = Service {
            weight: 9,
            version: 300,
            payload: (*b"\0x").into(),
            ..Service::new("db", "a:1").unwrap()
        };
        let both = Services::new(vec![web.clone(), db.clone()]).unwrap();
        assert_eq!(both.iter().collect::<Vec<_>>(), [&db, &web]);
        assert_eq!(both.get(&web.name), Some(&web));
        let bytes = postcard::to_stdvec(&both).unwrap();
        assert_eq!(
            (both.encoded_len(), postcard::from_bytes::<Services>(&bytes).unwrap()),
            (bytes.len(), both.clone())
        );
        let failed = Service { state: ServiceState::Failed, ..web.clone() };
        assert_eq!(both.with(failed.clone()).unwrap().get(&web.name), Some(&failed));
        assert_eq!(both.without(&db.name), Services::new(vec![web.clone()]).unwrap());
        let backwards = postcard::to_stdvec(&[&web, &db][..]).unwrap();
        assert!(postcard::from_bytes::<Services>(&backwards).is_err(), "out of order");
        for (wrong, told) in [
            (vec![web.clone(), web.clone()], "twice"),
            (vec![Service { weight: 0, ..web.clone() }], "weight of 0"),
            (vec![Service { payload: vec![0; 1024].into(), ..web }], "bytes together; 1024 are the most"),
        ] {
            let error = Services::new(wrong).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
