//! The one loop.
//!
//! One turn: everything that the socket holds goes into the core, then commands, then the timeout, then everything
//! that the core wants done comes out. What a peer sent in time is thus never judged missing for want of reading:
//! the clock is read before each look into the socket, and the timeout is judged by the reading that came before
//! the look that found it empty.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use rand::TryRng;
use rand::rngs::SysRng;
use tokio::io::Ready;
use tokio::io::unix::AsyncFd;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use super::clock::Clock;
use super::error::NetError;
use super::handle::{COMMANDS, Command, EVENTS, Handle, Shared};
use super::socket::{Buffers, INTEREST, Socket, may_be_about_another, send_error_kind};
use crate::proto::{Change, Event, Instance, Keyring, Node, PeerConfig, Time, Transmit};

/// Datagrams received before what the core wants sent is sent; its queue is bounded.
const BATCH: usize = 64;
/// Errors read from the queue in a row.
const FAILURES: usize = 1024;
/// Two readings of the runtime's clock for one deadline differ by less, unless the machine was suspended.
const SLEEP_SLACK: Duration = Duration::from_micros(500);

/// What the shell is told beside the core's configuration.
#[derive(Default)]
pub struct Options {
    /// Called with every round-trip time measured (for a histogram). It runs inside the loop: it must not block.
    pub on_rtt: Option<Box<dyn FnMut(Duration) + Send>>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").finish_non_exhaustive()
    }
}

/// Binds `config.listen_address` and starts the loop as one task of the current tokio runtime, which needs its I/O
/// and its time driver. With port 0 the system chooses the port; the core is told the real one.
///
/// The task ends when [`Handle::leave`] is done; dropping the handles does not end it. Aborting it ends the node
/// without a word to its peers.
///
/// # Errors
/// See [`NetError`]; nothing runs then.
///
/// # Panics
/// If it is called outside of such a runtime.
pub async fn spawn(
    mut config: PeerConfig,
    keys: Keyring,
    options: Options,
) -> Result<(Handle, JoinHandle<()>), NetError> {
    config.validate()?;
    let address = config.listen_address;
    let bind_error = |source| NetError::Bind { address, source };
    let entries = config.static_peers.len();
    let socket = Socket::bind(address, entries).map_err(bind_error)?;
    let local = socket.local_addr();
    let io = socket.register().map_err(bind_error)?;
    config.listen_address.set_port(local.port());

    let clock = Clock;
    let now = clock.now();
    let node = Node::new(config, keys, draw_instance()?, draw()?, now)?;
    let (command_sender, commands) = mpsc::channel(COMMANDS);
    let (events, _) = broadcast::channel(EVENTS);
    let shared = Arc::new(Shared::new(local, entries));
    let handle = Handle::new(command_sender, events.downgrade(), Arc::clone(&shared));
    let driver = Driver {
        node,
        clock,
        now,
        emptied: now,
        drops: 0,
        buffers: Buffers::new(),
        out: Vec::with_capacity(2048),
        commands,
        events,
        shared,
        on_rtt: options.on_rtt,
        leaving: Vec::new(),
    };
    Ok((handle, tokio::spawn(driver.run(io))))
}

fn draw() -> Result<u64, NetError> {
    SysRng.try_next_u64().map_err(|e| NetError::Random(e.to_string()))
}

/// A fresh instance; never 0, which on the wire stands for no instance.
fn draw_instance() -> Result<Instance, NetError> {
    Ok(Instance(draw()?.max(1)))
}

/// Why a turn begins.
enum Wake {
    /// The socket has something, or the runtime is going away.
    Io,
    /// The core's deadline.
    Timer,
    /// A handle asks; `None`: there are no handles any more.
    Command(Option<Command>),
}

/// The state of the loop.
struct Driver {
    node: Node,
    clock: Clock,
    /// The newest reading.
    now: Time,
    /// The reading before the socket was last seen empty: nothing that is received later arrived before it.
    emptied: Time,
    /// The socket's drop counter, as told to the core.
    drops: u32,
    buffers: Buffers,
    /// The datagram to send.
    out: Vec<u8>,
    commands: mpsc::Receiver<Command>,
    events: broadcast::Sender<Event>,
    shared: Arc<Shared>,
    on_rtt: Option<Box<dyn FnMut(Duration) + Send>>,
    /// Who waits for the end.
    leaving: Vec<oneshot::Sender<()>>,
}

impl Driver {
    async fn run(mut self, io: AsyncFd<Socket>) {
        let socket = io.get_ref();
        let mut sleep = pin!(tokio::time::sleep_until(self.clock.wake_at(self.now)));
        let mut handles = true;
        self.turn(socket, Ready::EMPTY, None);
        while !self.node.has_left() {
            let armed = self.arm(sleep.as_mut());
            let mut guard = None;
            let wake = tokio::select! {
                biased;
                ready = io.ready(INTEREST) => {
                    // Only a runtime that shuts down has no readiness to tell.
                    let Ok(ready) = ready else { break };
                    guard = Some(ready);
                    Wake::Io
                }
                () = sleep.as_mut(), if armed => Wake::Timer,
                command = self.commands.recv(), if handles => Wake::Command(command),
            };
            let command = match wake {
                Wake::Io | Wake::Timer => None,
                Wake::Command(command) => {
                    handles = command.is_some();
                    command
                }
            };
            let ready = guard.as_ref().map_or(Ready::EMPTY, |guard| guard.ready());
            let emptied = self.turn(socket, ready, command);
            match guard {
                Some(mut guard) if emptied => guard.clear_ready(),
                _ => {}
            }
            if !emptied {
                // Under a flood this loop always has work, and others share the thread.
                tokio::task::yield_now().await;
            }
        }
        for done in self.leaving {
            // Who no longer waits need not be told.
            let _ = done.send(());
        }
    }

    /// Sets the sleep to the core's deadline. Returns whether there is one.
    fn arm(&self, sleep: Pin<&mut Sleep>) -> bool {
        let Some(deadline) = self.node.poll_timeout() else { return false };
        let wake_at = self.clock.wake_at(deadline);
        let set_to = sleep.deadline();
        let off = wake_at.saturating_duration_since(set_to).max(set_to.saturating_duration_since(wake_at));
        // The runtime rounds up to its next millisecond, so a sleep that ended is always due for a new deadline,
        // and one whose end lies less than a millisecond ahead does not spin.
        if off > SLEEP_SLACK || sleep.is_elapsed() {
            sleep.reset(wake_at);
        }
        true
    }

    /// One turn. Returns whether the socket was seen empty.
    fn turn(&mut self, socket: &Socket, ready: Ready, command: Option<Command>) -> bool {
        let emptied = self.receive(socket, ready);
        self.obey(command);
        if self.node.poll_timeout().is_some_and(|deadline| deadline <= self.now) {
            self.node.handle_timeout(self.now);
        }
        self.flush(socket);
        emptied
    }

    /// Empties the error queue and the socket into the core. Returns whether the socket was seen empty; if not,
    /// at least all that it held at the beginning was read.
    fn receive(&mut self, socket: &Socket, ready: Ready) -> bool {
        self.now = self.clock.now();
        if has_errors(ready) {
            self.receive_failures(socket);
        }
        for n in 0..socket.capacity() {
            if n > 0 && n % BATCH == 0 {
                self.flush(socket);
            }
            let reading = self.clock.reading();
            self.now = reading.now;
            match socket.recv(&mut self.buffers) {
                Ok(datagram) => {
                    if let Some(total) = datagram.drops {
                        self.count_drops(total);
                    }
                    let received = reading.received(datagram.stamp, self.emptied);
                    let bytes = &mut self.buffers.data[..datagram.len];
                    // A rejected datagram is counted by the core, and is nothing else.
                    let _ = self.node.handle_datagram(
                        datagram.from,
                        datagram.local,
                        bytes,
                        received,
                        reading.now,
                    );
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    self.emptied = reading.now;
                    if n >= BATCH {
                        self.ask_drops(socket);
                    }
                    return true;
                }
                // The error of an earlier send, or a transient one: neither ends the loop.
                Err(_) => self.receive_failures(socket),
            }
        }
        self.ask_drops(socket);
        false
    }

    /// Empties the error queue into the core, up to a bound.
    fn receive_failures(&mut self, socket: &Socket) {
        for _ in 0..FAILURES {
            let Some(failure) = socket.recv_failure(&mut self.buffers) else { return };
            let quoted = &self.buffers.data[..failure.len];
            self.node.handle_send_error(failure.to, failure.kind, quoted, self.now);
        }
    }

    /// A datagram tells only of drops before it was queued, so after a burst the socket itself is asked: the core
    /// must know before it judges.
    fn ask_drops(&mut self, socket: &Socket) {
        if let Some(total) = socket.drops() {
            self.count_drops(total);
        }
    }

    /// The counter wraps, and one told by an older datagram may lie behind.
    fn count_drops(&mut self, total: u32) {
        let new = total.wrapping_sub(self.drops);
        if (1..=u32::MAX / 2).contains(&new) {
            self.drops = total;
            self.node.handle_drops(u64::from(new), self.now);
        }
    }

    /// Does what the handles ask for, at most as much as waits.
    fn obey(&mut self, first: Option<Command>) {
        let mut next = first;
        let mut any = false;
        for _ in 0..COMMANDS {
            let Some(command) = next.take().or_else(|| self.commands.try_recv().ok()) else { break };
            any = true;
            match command {
                Command::Snapshot(reply) => {
                    // Who no longer waits need not be told.
                    let _ = reply.send(self.node.snapshot(self.now));
                }
                Command::Leave(reason, done) => {
                    if self.leaving.is_empty() {
                        self.node.leave(reason, self.now);
                    }
                    self.leaving.push(done);
                }
                Command::Addresses => {}
            }
        }
        // After any command, since the queue may have been too full for one that is only about addresses.
        if any {
            for (entry, address) in self.shared.take_addresses() {
                self.node.set_address(entry, address, self.now);
            }
        }
    }

    /// Takes out all that the core wants done.
    fn flush(&mut self, socket: &Socket) {
        self.transmit(socket);
        if self.publish() {
            self.transmit(socket);
        }
        if let Some(on_rtt) = &mut self.on_rtt {
            while let Some(rtt) = self.node.poll_rtt() {
                on_rtt(rtt);
            }
        }
    }

    fn transmit(&mut self, socket: &Socket) {
        while let Some(transmit) = self.node.poll_transmit(&mut self.out) {
            self.send(socket, transmit);
        }
    }

    /// Sends what is in `out`. A datagram for which there is no room now is dropped and counted: by the time there
    /// is, it would tell old news.
    fn send(&mut self, socket: &Socket, Transmit { to, from }: Transmit) {
        let mut sent = socket.send(&self.out, to, from);
        if sent.as_ref().is_err_and(may_be_about_another) {
            // The error of an earlier datagram, to another peer, fails this one: read it, and try once more.
            self.receive_failures(socket);
            sent = socket.send(&self.out, to, from);
        }
        if let Err(e) = sent {
            self.node.handle_send_error(to, send_error_kind(&e), &[], self.now);
        }
    }

    /// Hands the events to all streams. Returns whether the node got a new instance.
    fn publish(&mut self) -> bool {
        let mut renewed = false;
        while let Some(event) = self.node.poll_event() {
            // Without random bits the old instance stays, and the core asks again when it is echoed again.
            if event.change == Change::Rollback
                && let Ok(instance) = draw_instance()
            {
                self.node.renew(instance, self.now);
                renewed = true;
            }
            // No stream, no reader: nothing is lost.
            let _ = self.events.send(event);
        }
        renewed
    }
}

#[cfg(target_os = "linux")]
fn has_errors(ready: Ready) -> bool {
    ready.is_error()
}

#[cfg(not(target_os = "linux"))]
fn has_errors(_ready: Ready) -> bool {
    false
}
