//! The one loop.
//!
//! One turn: everything that the socket holds goes into the core, then commands, then the timeout, then everything
//! that the core wants done comes out. What a peer sent in time is thus never judged missing for want of reading:
//! the clock is read before each look into the socket, and the timeout is judged by the reading that came before
//! the look that found it empty.
//!
//! To wake up costs more than all that is done then, so a busy loop is lazy: after a turn it looks neither at the
//! socket nor at the deadline for [`PeerConfig::laziness`], and what has come due meanwhile shares one turn. The
//! kernel's receive stamps keep dates and round-trip times true, and the core's retry time allows for it. A loop
//! that has little to do does not rest: resting would only add turns that find nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rand::TryRng;
use rand::rngs::SysRng;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::clock::{Clock, Suspension};
use super::error::NetError;
use super::gate::{Drained, Gate};
use super::guard::Window;
use super::handle::{COMMANDS, Command, Handle, Shared, Teller};
use super::keeper::{Keeper, Rosters};
use super::socket::{BATCH, Buffers, Datagram, FEW, Outgoing, Socket, may_be_about_another, send_error_kind};
use super::wait::Wait;
use crate::proto::{
    Catalog, Change, Drain, ErrorSource, Instance, Keyring, LeaveReason, Node, PeerConfig, Time,
};

/// Round-trip times handed over in one go; a snapshot does not wait for so many.
const ROUND_TRIPS: usize = 32;
/// A catalog of so many instances is made in no time.
const SMALL_CATALOG: usize = 256;
/// Errors read from the queue in a row.
const FAILURES: usize = 1024;
/// A turn that begins less than so many rests after the one before (in halves), and has work, makes the loop busy: a rest and
/// its rounding are less. One after a rest that had no work shows that there is little to do.
const BUSY_HALVES: u32 = 3;

/// Failed reads in one turn of which the error queue says nothing.
const UNKNOWN: u32 = 16;

/// What the shell is told beside the core's configuration.
#[derive(Default)]
pub struct Options {
    /// Called with every round-trip time measured (for a histogram), before the next snapshot at the latest. It runs
    /// inside the loop: it must not block.
    pub on_rtt: Option<Box<dyn FnMut(Duration) + Send>>,
    /// The node drains from its start on: no peer hears of it without.
    pub drain: Option<Drain>,
    /// The state of rosters. Without it the node is never a witness of its roster: it neither holds the quorum guard nor
    /// counts for the guard of others.
    pub rosters: Option<Rosters>,
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
    let wait = Wait::new(&socket).map_err(bind_error)?;
    config.listen_address.set_port(local.port());

    let clock = Clock;
    let now = clock.now();
    let rest = if Wait::CAN_REST { config.laziness() } else { Duration::ZERO };
    let gate = Gate::new(&config);
    let mut node = Node::new(config, keys, draw_instance()?, draw()?, now)?;
    let reading = clock.reading();
    node.set_wall_clock(reading.wall, reading.now);
    let (state, save) = options.rosters.map(|Rosters { state, save }| (state, save)).unzip();
    if let Some(state) = state {
        node.keep_rosters(state, reading.now)?;
    }
    if let Some(drain) = options.drain {
        node.drain(drain, reading.now);
    }
    let (command_sender, commands) = mpsc::channel(COMMANDS);
    // Without the thread nothing is ever saved, and the run stays `unsaved`.
    let keeper = save.and_then(|save| Keeper::start(save, command_sender.clone()).ok());
    let teller = Teller::new();
    let shared = Arc::new(Shared::new(local, entries, node.config().heartbeat_interval));
    let (catalog, catalogs) = watch::channel(Arc::default());
    let window = Arc::new(Window::new());
    let handle = Handle::new(command_sender, &teller, Arc::clone(&shared), catalogs, Arc::clone(&window));
    let driver = Driver {
        node,
        clock,
        suspension: Suspension::new(clock.suspended()),
        now,
        emptied: now,
        rest,
        began: now,
        busy: false,
        gate,
        buffers: Buffers::new(BATCH),
        outgoing: Outgoing::new(),
        commands,
        teller,
        shared,
        on_rtt: options.on_rtt,
        catalog,
        catalog_turn: 0,
        cataloged: now,
        window,
        keeper,
        leaving: Vec::new(),
    };
    Ok((handle, tokio::spawn(driver.run(socket, wait))))
}

fn draw() -> Result<u64, NetError> {
    SysRng.try_next_u64().map_err(|e| NetError::Random(e.to_string()))
}

/// A fresh instance; never 0, which on the wire stands for no instance.
fn draw_instance() -> Result<Instance, NetError> {
    Ok(Instance(draw()?.max(1)))
}

/// The state of the loop.
struct Driver {
    node: Node,
    clock: Clock,
    suspension: Suspension,
    /// The newest reading.
    now: Time,
    /// The reading before the socket was last seen empty: nothing that is received later arrived before it.
    emptied: Time,
    /// How long to rest after a turn while there is much to do; zero: never.
    rest: Duration,
    /// When the newest turn began, and whether that was hard upon the one before.
    began: Time,
    busy: bool,
    gate: Gate,
    buffers: Buffers,
    outgoing: Outgoing,
    commands: mpsc::Receiver<Command>,
    teller: Teller,
    shared: Arc<Shared>,
    on_rtt: Option<Box<dyn FnMut(Duration) + Send>>,
    catalog: watch::Sender<Arc<Catalog>>,
    /// Which one that is, and when it was made.
    catalog_turn: u64,
    cataloged: Time,
    window: Arc<Window>,
    /// Writes the state of rosters.
    keeper: Option<Keeper>,
    /// Who waits for the end.
    leaving: Vec<oneshot::Sender<LeaveReason>>,
}

/// However the loop ends, the guard ends with it.
impl Drop for Driver {
    fn drop(&mut self) {
        self.window.set((Time::from_micros(u64::MAX), Time::ZERO));
    }
}

impl Driver {
    async fn run(mut self, socket: Socket, mut wait: Wait) {
        let mut handles = true;
        let mut emptied = self.turn(&socket, None);
        while !self.node.has_left() {
            let mut command = None;
            if emptied {
                let rests = self.busy;
                let until = if rests { Some(self.now + self.rest) } else { self.node.poll_timeout() };
                tokio::select! {
                    biased;
                    waited = wait.wait(&socket, until, !rests) => {
                        if waited.is_err() {
                            // Only of a runtime that shuts down.
                            break;
                        }
                    }
                    asked = self.commands.recv(), if handles => {
                        handles = asked.is_some();
                        command = asked;
                    }
                }
            } else {
                // Under a flood this loop always has work, and others share the thread.
                tokio::task::yield_now().await;
            }
            emptied = self.turn(&socket, command);
        }
        if let Some(reason) = self.node.leave_reason() {
            for done in self.leaving.drain(..) {
                // Who no longer waits need not be told.
                let _ = done.send(reason);
            }
        }
    }

    /// One turn. Returns whether the socket was seen empty.
    fn turn(&mut self, socket: &Socket, command: Option<Command>) -> bool {
        let before = self.began;
        let drained = self.receive(socket);
        self.gate.note(socket, &mut self.node, drained, self.now);
        // Where the queue overflows, whoever rests only loses more of it.
        let may_rest = !self.gate.is_crowded(self.now);
        let is_due = |node: &Node, now| node.poll_timeout().is_some_and(|deadline| deadline <= now);
        let had_work = drained.read > 0 || command.is_some() || is_due(&self.node, self.now);
        self.busy = may_rest && had_work && self.began.since(before) < self.rest * BUSY_HALVES / 2;
        self.obey(socket, command);
        if is_due(&self.node, self.now) {
            if let Some(length) = self.suspension.since(self.clock.suspended()) {
                self.node.handle_suspension(length, self.now);
            }
            self.node.handle_timeout(self.now);
        }
        self.flush(socket);
        drained.emptied
    }

    /// Empties the socket into the core, and the error queue whenever that fails a read. If it was not seen empty, at least all
    /// that it held at the beginning was read.
    fn receive(&mut self, socket: &Socket) -> Drained {
        let (mut read, mut unknown) = (0, 0);
        let mut reading = self.clock.reading();
        (self.now, self.began) = (reading.now, reading.now);
        self.node.set_wall_clock(reading.wall, reading.now);
        while read < socket.capacity() {
            match socket.recv(&mut self.buffers) {
                Ok(count) => {
                    for n in 0..count {
                        let (Datagram { from, local, stamp, .. }, bytes) = self.buffers.datagram(n);
                        let received = reading.received(stamp, self.emptied);
                        // A rejected datagram is counted by the core, and is nothing else.
                        let _ = self.node.handle_datagram(from, local, bytes, received, reading.now);
                    }
                    read += count;
                    if count >= FEW {
                        // There may be many more, and the core's queue is bounded.
                        self.flush(socket);
                    }
                    reading = self.clock.reading();
                    self.now = reading.now;
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    self.emptied = reading.now;
                    return Drained { read, emptied: true };
                }
                // The error of an earlier send: what it is about is in the error queue.
                Err(_) if self.receive_failures(socket) => {}
                // A transient one does not end the loop, and one that stays does not make it spin.
                Err(_) => {
                    unknown += 1;
                    if unknown == UNKNOWN {
                        return Drained { read, emptied: true };
                    }
                }
            }
        }
        Drained { read, emptied: false }
    }

    /// Empties the error queue into the core, up to a bound. Returns whether there was anything in it.
    fn receive_failures(&mut self, socket: &Socket) -> bool {
        for n in 0..FAILURES {
            let Some(failure) = socket.recv_failure(&mut self.buffers) else { return n > 0 };
            let quoted = &self.buffers.data[..failure.len];
            self.node.handle_send_error(failure.to, failure.kind, failure.source, quoted, self.now);
        }
        true
    }

    /// Does what the handles ask for, at most as much as waits.
    fn obey(&mut self, socket: &Socket, first: Option<Command>) {
        let mut next = first;
        let mut any = false;
        for _ in 0..COMMANDS {
            let Some(command) = next.take().or_else(|| self.commands.try_recv().ok()) else { break };
            any = true;
            match command {
                Command::Snapshot(scope, reply) => {
                    self.hand_over_round_trips();
                    // Who no longer waits need not be told.
                    let _ = reply.send(self.node.snapshot_of(scope, self.now));
                }
                Command::Leave(reason, done) => {
                    if self.leaving.is_empty() {
                        self.node.leave(reason, self.now);
                    }
                    self.leaving.push(done);
                }
                Command::Drain(drain, reply) => {
                    self.node.drain(drain, self.now);
                    let _ = reply.send(());
                }
                Command::Undrain(reply) => {
                    let _ = reply.send(self.node.undrain(self.now));
                }
                Command::Labels(labels, reply) => {
                    let _ = reply.send(self.node.set_labels(labels, self.now));
                }
                Command::Publish(service, reply) => {
                    let _ = reply.send(self.node.publish_service(service, self.now));
                }
                Command::Withdraw(name, reply) => {
                    let _ = reply.send(self.node.withdraw_service(&name, self.now));
                }
                Command::Migrate(moving, reply) => {
                    let _ = reply.send(self.node.migrate(moving, self.now));
                }
                Command::Takeover(peer, reply) => {
                    self.node.watch_takeover(&peer, self.now);
                    let _ = reply.send(self.node.takeover_safe(&peer, self.now));
                }
                Command::Bootstrap(confirm, reply) => {
                    let _ = reply.send(self.node.bootstrap(confirm, self.now));
                }
                Command::Saved(number, true) => self.node.handle_state_saved(number, self.now),
                Command::Saved(number, false) => self.node.handle_state_failed(number, self.now),
                Command::Keys(keys, reply) => {
                    // The core drops what waits.
                    self.transmit(socket);
                    let _ = reply.send(self.node.set_keys(keys, self.now));
                }
                Command::Roster(static_peers, own_name, reply) => {
                    // The core drops what waits, and what was told before means entries of the old roster.
                    self.transmit(socket);
                    self.take_addresses();
                    let entries = static_peers.len();
                    let set = self.node.set_roster(static_peers, own_name, self.now);
                    if set.is_ok() {
                        self.shared.set_entries(entries);
                    }
                    let _ = reply.send(set);
                }
                Command::Reloaded(succeeded, why) => self.node.note_reload(succeeded, &why, self.now),
                Command::Addresses => {}
            }
        }
        // After any command, since the queue may have been too full for one that is only about addresses.
        if any {
            self.take_addresses();
        }
    }

    fn take_addresses(&mut self) {
        for (entry, address) in self.shared.take_addresses() {
            self.node.set_address(entry, address, self.now);
        }
    }

    /// Takes out all that the core wants done.
    fn flush(&mut self, socket: &Socket) {
        self.transmit(socket);
        if self.publish() {
            self.transmit(socket);
        }
        if let Some(keeper) = &self.keeper
            && let Some(state) = self.node.poll_state()
        {
            keeper.offer(state);
        }
        self.show();
        if self.node.round_trips() >= ROUND_TRIPS {
            self.hand_over_round_trips();
        }
    }

    /// What is read without asking the loop.
    fn show(&mut self) {
        self.window.set(self.node.guard_window());
        let turn = self.node.catalog_turn();
        // A large one costs milliseconds, and may change in every turn.
        let pause = self.node.config().heartbeat_interval / 16;
        if self.catalog.borrow().instances.len() > SMALL_CATALOG && self.now.since(self.cataloged) < pause {
            return;
        }
        self.cataloged = self.now;
        if std::mem::replace(&mut self.catalog_turn, turn) != turn {
            let catalog = self.node.catalog(self.now);
            self.catalog.send_if_modified(|known| {
                let is_new = **known != catalog;
                if is_new {
                    *known = Arc::new(catalog);
                }
                is_new
            });
        }
    }

    fn hand_over_round_trips(&mut self) {
        if let Some(on_rtt) = &mut self.on_rtt {
            while let Some(rtt) = self.node.poll_rtt() {
                on_rtt(rtt);
            }
        }
    }

    fn transmit(&mut self, socket: &Socket) {
        let mut now = self.clock.now();
        while self.outgoing.fill(|bytes| self.node.poll_transmit(now, bytes)) {
            self.send(socket);
            now = self.clock.now();
            self.node.handle_sent(now);
        }
    }

    /// Sends the batch. A datagram for which there is no room now is dropped and counted: by the time there is, it would
    /// tell old news.
    fn send(&mut self, socket: &Socket) {
        let (mut first, mut again) = (0, None);
        while first < self.outgoing.len() {
            match socket.send(&self.outgoing, first) {
                Ok(sent) => {
                    first = sent.end;
                    if !sent.is_all {
                        self.receive_failures(socket);
                        again = Some(first);
                    }
                }
                // The error of an earlier datagram, to another peer, fails this one: read it, and try once more.
                Err(e) if again != Some(first) && may_be_about_another(&e) => {
                    self.receive_failures(socket);
                    again = Some(first);
                }
                Err(e) => {
                    let to = self.outgoing.to(first);
                    let source = ErrorSource::ThisHost;
                    self.node.handle_send_error(to, send_error_kind(&e), source, &[], self.now);
                    first += 1;
                }
            }
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
            self.teller.tell(event);
        }
        self.teller.dropped(self.node.stats().events_dropped);
        renewed
    }
}
