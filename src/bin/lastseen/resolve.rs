//! Names of peers: looked up at the start, retried while they do not resolve, and looked up again now and then.
//! A name that stops resolving keeps its last good address.

use std::net::SocketAddr;
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
    addresses
}

/// Keeps the address of one peer right for as long as the daemon runs.
pub(crate) async fn keep(
    handle: Handle,
    index: usize,
    entry: Entry,
    listen: SocketAddr,
    mut known: Option<SocketAddr>,
) {
    let Host::Name(name) = &entry.host else { return };
    let mut retry = FIRST_RETRY;
    let mut is_failing = false;
    let mut pause = if known.is_some() { REFRESH } else { Duration::ZERO };
    loop {
        tokio::time::sleep(jittered(pause)).await;
        match lookup(name, entry.port, listen, known).await {
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
