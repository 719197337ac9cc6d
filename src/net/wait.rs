//! Waiting: for a datagram, for a deadline, or, while the loop rests, for a deadline alone.
//!
//! On Linux both are one descriptor: an epoll instance with the socket and a timer on the core's own clock. So a
//! rest is a real one (a datagram wakes nobody, only an error of the network does), a deadline costs one system
//! call, and a sleep through which the machine was suspended ends on time. Elsewhere the runtime's own timer serves, and the loop never rests.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(not(target_os = "linux"), test))]
mod portable;

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

#[cfg(target_os = "linux")]
pub(super) use linux::Wait;
#[cfg(not(target_os = "linux"))]
pub(super) use portable::Wait;

/// Registers a descriptor with the current runtime, for reading.
///
/// # Errors
/// The system's, if it can watch no more.
///
/// # Panics
/// If there is no current runtime with an I/O driver.
fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` keeps its descriptor open and the same until it is dropped.
    #[expect(unsafe_code, reason = "tokio has no sound safe way to watch a descriptor of one's own")]
    let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    Ok(registered?)
}

/// Waits until the descriptor is readable. That is told once for each datagram or deadline: what is there has to be
/// taken before the next wait.
async fn readable(fd: &AsyncFd<OwnedFd>) -> io::Result<()> {
    fd.ready(Interest::READABLE).await?.clear_ready();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::super::clock::Clock;
    use super::super::socket::{Buffers, Socket};
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn pair() -> (Socket, Socket) {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        (Socket::bind(any, 4).unwrap(), Socket::bind(any, 4).unwrap())
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let all = async { tokio::time::timeout(Duration::from_secs(10), future).await.expect("in time") };
        runtime.block_on(all)
    }

    /// Both kinds end at the deadline, and sooner for a datagram.
    macro_rules! waits {
        ($name:ident, $wait:ty, $rests:literal) => {
            #[test]
            fn $name() {
                block_on(async {
                    assert_eq!(<$wait>::CAN_REST, $rests);
                    let (one, other) = pair();
                    let mut wait = <$wait>::new(&one).unwrap();
                    let start = Clock.now();
                    let deadline = start + Duration::from_millis(30);
                    wait.wait(&one, Some(deadline), true).await.unwrap();
                    assert!(Clock.now() >= deadline, "no datagram: not before the deadline");
                    other.send_one(b"one", one.local_addr(), None).unwrap();
                    wait.wait(&one, Some(start + LONG), true).await.unwrap();
                    assert_eq!(one.recv(&mut Buffers::new(1)).unwrap(), 1, "a datagram ends it");
                    other.send_one(b"two", one.local_addr(), None).unwrap();
                    wait.wait(&one, None, true).await.unwrap();
                    wait.wait(&one, Some(start), true).await.unwrap();
                });
            }
        };
    }

    #[cfg(target_os = "linux")]
    waits!(the_wait_of_linux, linux::Wait, true);
    waits!(the_portable_wait, portable::Wait, false);

    #[cfg(target_os = "linux")]
    #[test]
    fn a_datagram_does_not_end_a_rest() {
        block_on(async {
            let (one, other) = pair();
            let mut wait = Wait::new(&one).unwrap();
            other.send_one(b"one", one.local_addr(), None).unwrap();
            let deadline = Clock.now() + Duration::from_millis(30);
            wait.wait(&one, Some(deadline), false).await.unwrap();
            assert!(Clock.now() >= deadline);
            wait.wait(&one, Some(deadline + LONG), true).await.unwrap();
            assert!(Clock.now() < deadline + LONG / 2, "what waited is seen at once");
        });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_error_ends_a_rest() {
        block_on(async {
            let (one, other) = pair();
            let mut wait = Wait::new(&one).unwrap();
            let (closed, start) = (other.local_addr(), Clock.now());
            drop(other);
            one.send_one(b"one", closed, None).unwrap();
            wait.wait(&one, Some(start + LONG), false).await.unwrap();
            assert!(Clock.now() < start + LONG / 2);
            assert!(one.recv_failure(&mut Buffers::new(1)).is_some_and(|f| f.to == closed));
        });
    }
}
