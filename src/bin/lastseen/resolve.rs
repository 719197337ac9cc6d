//! Names of peers: looked up at the start, retried while they do not resolve, and looked up again now and then.
//! A name that stops resolving keeps its last good address.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lastseen::net::Handle;
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::settings::{Entry, Host};

/// The start waits so long for names. A dead resolver must not keep the detector from starting.
const AT_START: Duration = Duration::from_secs(2);
/// The spacing of retries doubles from the first to the longest.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// A name that resolved is looked up again so often.
const REFRESH: Duration = Duration::from_secs(30);

/// The address of each peer, by its index in the core's configuration.
pub(crate) type Addresses = Arc<Mutex<Vec<Option<SocketAddr>>>>;

/// Looks up all names at once. `None`: not resolved within [`AT_START`].
pub(crate) async fn at_start(entries: &[Entry], listen: SocketAddr) -> Vec<Option<SocketAddr>> {
    let mut addresses: Vec<Option<SocketAddr>> = entries.iter().map(Entry::literal).collect();
    let mut lookups = JoinSet::new();
    for (index, entry) in entries.iter().enumerate() {
        if let Host::Name(name) = &entry.host {
            let (name, port) = (name.clone(), entry.port);
            lookups.spawn(async move { (index, lookup(&name, port, listen, None).await) });
        }
    }
    let all = async {
        while let Some(done) = lookups.join_next().await {
            if let Ok((index, Ok(address))) = done {
                addresses[index] = Some(address);
            }
        }
    };
    // Late answers are not lost: `keep` asks again at once.
    let _ = tokio::time::timeout(AT_START, all).await;
    drop_shared(entries, &mut addresses);
    addresses
}

/// No two peers have one address: what stands in the roster as an address keeps it, then the first name. The other
/// name counts as not resolved, so that a wrong record does not keep the detector from starting.
fn drop_shared(entries: &[Entry], addresses: &mut [Option<SocketAddr>]) {
    for index in 0..addresses.len() {
        let is_taken = |(other, address): (usize, &Option<SocketAddr>)| {
            other != index
                && *address == addresses[index]
                && (other < index || entries[other].literal().is_some())
        };
        if entries[index].literal().is_none() && addresses.iter().enumerate().any(is_taken) {
            addresses[index] = None;
        }
    }
}

/// Keeps the address of one peer right for as long as the daemon runs.
pub(crate) async fn keep(
    handle: Handle,
    index: usize,
    entry: Entry,
    listen: SocketAddr,
    addresses: Addresses,
) {
    let Host::Name(name) = &entry.host else { return };
    let mut known = addresses.lock().expect("no holder panics")[index];
    let mut retry = FIRST_RETRY;
    let mut is_failing = false;
    let mut pause = if known.is_some() { REFRESH } else { Duration::ZERO };
    loop {
        tokio::time::sleep(jittered(pause)).await;
        let found = lookup(name, entry.port, listen, known).await.and_then(|a| claim(&addresses, index, a));
        match found {
            Ok(address) => {
                if known != Some(address) || is_failing {
                    info!(peer = %entry, %address, "name resolves");
                }
                if known != Some(address) {
                    handle.set_address(index, address);
                }
                (known, is_failing, retry, pause) = (Some(address), false, FIRST_RETRY, REFRESH);
            }
            Err(why) => {
                if !is_failing {
                    let until = known
                        .map_or("it is unknown until then".to_owned(), |a| format!("{a} is kept until then"));
                    warn!(peer = %entry, "name does not resolve, trying on ({until}): {why}");
                }
                (is_failing, pause) = (true, retry);
                retry = (retry * 2).min(LONGEST_RETRY);
            }
        }
    }
}

/// Notes the address of a peer, unless it is another's.
fn claim(addresses: &Addresses, index: usize, address: SocketAddr) -> Result<SocketAddr, String> {
    let mut addresses = addresses.lock().expect("no holder panics");
    if addresses.iter().enumerate().any(|(other, a)| other != index && *a == Some(address)) {
        return Err(format!("it is {address}, and so is another peer; every node has its own address"));
    }
    addresses[index] = Some(address);
    Ok(address)
}

/// Asks the system's resolver. Of many answers the one in use stays, so that rotating answers move nothing.
async fn lookup(
    name: &str,
    port: u16,
    listen: SocketAddr,
    known: Option<SocketAddr>,
) -> Result<SocketAddr, String> {
    let answers = tokio::net::lookup_host((name, port)).await.map_err(|e| e.to_string())?;
    choose(answers.collect(), listen, known).ok_or_else(|| format!("no address that {listen} can reach"))
}

/// A socket on [::] reaches both families, any other only its own.
fn choose(answers: Vec<SocketAddr>, listen: SocketAddr, known: Option<SocketAddr>) -> Option<SocketAddr> {
    let both = listen.is_ipv6() && listen.ip().is_unspecified();
    let mut fit = answers.into_iter().filter(|a| both || a.is_ipv4() == listen.is_ipv4());
    match known {
        Some(known) => {
            let first = fit.next()?;
            Some(if first == known || fit.any(|a| a == known) { known } else { first })
        }
        None => fit.next(),
    }
}

/// `pause`, shorter by up to a quarter, so that a fleet started at once does not ask at once.
fn jittered(pause: Duration) -> Duration {
    let random = SysRng.try_next_u32().unwrap_or(0);
    pause.mul_f64(1.0 - 0.25 * f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_peers_have_one_address() {
        let entries = ["a@x", "b@y", "c@10.0.0.1:1", "d@z"].map(|t| Entry::parse(t).unwrap());
        let (one, two) = ("10.0.0.1:1".parse().ok(), "10.0.0.2:1".parse().ok());
        let mut addresses = [one, two, one, two];
        drop_shared(&entries, &mut addresses);
        assert_eq!(addresses, [None, two, one, None]);
        let addresses = Addresses::new(Mutex::new(addresses.to_vec()));
        assert!(claim(&addresses, 0, two.unwrap()).is_err());
        assert!(claim(&addresses, 1, two.unwrap()).is_ok());
        assert!(claim(&addresses, 0, "10.0.0.3:1".parse().unwrap()).is_ok());
    }

    #[test]
    fn the_address_in_use_stays_while_it_is_among_the_answers() {
        let a = |t: &str| t.parse::<SocketAddr>().unwrap();
        let answers = || vec![a("[2001:db8::1]:1"), a("10.0.0.1:1"), a("10.0.0.2:1")];
        let (both, v4) = (a("[::]:5278"), a("0.0.0.0:5278"));
        assert_eq!(choose(answers(), both, None), Some(a("[2001:db8::1]:1")));
        assert_eq!(choose(answers(), v4, None), Some(a("10.0.0.1:1")));
        assert_eq!(choose(answers(), v4, Some(a("10.0.0.2:1"))), Some(a("10.0.0.2:1")));
        assert_eq!(choose(answers(), v4, Some(a("10.0.0.9:1"))), Some(a("10.0.0.1:1")));
        assert_eq!(choose(vec![a("[::1]:1")], v4, None), None);
    }
}
