//! Linux: epoll and timerfd.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

use super::super::clock;
use super::super::socket::Socket;
use super::{readable, register};
use crate::proto::Time;

/// What the loop waits with.
#[derive(Debug)]
pub(in crate::net) struct Wait {
    epoll: Epoll,
    timer: TimerFd,
    /// The epoll instance again, as the runtime knows it.
    both: AsyncFd<OwnedFd>,
    /// What the timer is set to, and whether the socket is watched.
    until: Option<Time>,
    looks: bool,
}

impl Wait {
    /// Whether a wait can leave the socket alone.
    pub(in crate::net) const CAN_REST: bool = true;

    /// For `socket`, in the current runtime.
    pub(in crate::net) fn new(socket: &Socket) -> io::Result<Wait> {
        let timer = TimerFd::new(clock::TIMER, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        epoll.add(timer.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        let both = register(epoll.0.try_clone()?)?;
        Ok(Wait { epoll, timer, both, until: None, looks: true })
    }

    /// Waits until `until`, for an error of the socket, or, if `look`, for a datagram; it may end early. Safe to cancel.
    ///
    /// # Errors
    /// Only of a runtime that shuts down.
    pub(in crate::net) async fn wait(
        &mut self,
        socket: &Socket,
        until: Option<Time>,
        look: bool,
    ) -> io::Result<()> {
        if until != self.until {
            match until {
                // A time of zero would switch the timer off.
                Some(at) => self.timer.set(
                    Expiration::OneShot(TimeSpec::from_duration(
                        at.max(Time::from_micros(1)).since(Time::ZERO),
                    )),
                    TimerSetTimeFlags::TFD_TIMER_ABSTIME,
                )?,
                None => self.timer.unset()?,
            }
            self.until = until;
        }
        if look != self.looks {
            // Errors cannot be masked, and should not: that a host refuses is worth a look at once.
            let events = if look { EpollFlags::EPOLLIN } else { EpollFlags::empty() };
            self.epoll.modify(socket, &mut EpollEvent::new(events, 0))?;
            self.looks = look;
        }
        readable(&self.both).await
    }
}
