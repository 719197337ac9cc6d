//! `run`: settings to a running daemon, and its end.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use lastseen::metrics::Exporter;
use lastseen::net::{self, Clock, EventStream, Handle, NetError, Options};
use lastseen::proto::{LeaveReason, Scope, ServerId};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::control::{Control, Orders};
use crate::discovery::{Discovery, Failures};
use crate::drain::Drainer;
use crate::http::events::{Recorder, Shape};
use crate::notify::Notifier;
use crate::reload::{Live, Proposal, Reloader, Reloads};
use crate::services::{Offers, Settled};
use crate::settings::{LogFormat, Settings, Told};
use crate::{args, control, drain, exit, hooks, http, log, reload, rosters, services, settings};

/// Leaving is three datagrams a peer; whoever asked for the end does not wait longer than this.
const LEAVE_WITHIN: Duration = Duration::from_secs(3);

/// Runs the daemon until a signal.
pub(crate) fn run(args: &args::Run) -> ExitCode {
    let mut settings = match settings::load(args.config.as_deref(), args) {
        Ok(settings) => settings,
        Err(faults) => {
            faults.iter().for_each(|fault| exit::complain(&fault.to_string()));
            return ExitCode::from(exit::FAILED);
        }
    };
    log::init(settings.values.log_format, settings.values.log_level);
    for warning in &settings.warnings {
        warn!("{warning}");
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return exit::fail(&format!("cannot start: {e}")),
    };
    let outcome = runtime.block_on(serve(&mut settings, args));
    // A look-up may hang in the system's resolver: nobody waits for it.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) if settings.values.log_format == LogFormat::Json => {
            error!("{why}");
            ExitCode::from(exit::FAILED)
        }
        Err(why) => exit::fail(&why),
    }
}

/// Starts everything, waits for the end, and leaves.
async fn serve(settings: &mut Settings, args: &args::Run) -> Result<(), String> {
    let mut signals = Signals::new(args.until_stdin_closes)?;
    let hang_up = take(SignalKind::hangup())?;
    let plan = settings.take_plan();
    let mut discovery = tokio::select! {
        discovery = Discovery::start(plan, settings.identity()) => discovery,
        () = signals.next() => return Ok(()),
    };
    let roster = discovery.roster();
    let config = settings.peer_config(&roster).map_err(|fault| fault.to_string())?;
    let peers = config.static_peers.len();
    let is_unresolved = peers == roster.len() && roster.iter().any(|(_, address)| address.is_none());
    if settings.values.server_id.is_none() && is_unresolved {
        warn_of_host_name(&config.server_id);
    }
    drop(roster);
    let keys = settings.keyring(&settings.values.cluster.clone())?;
    let told = Told::by(&config);
    let (server_id, cluster) = (config.server_id.clone(), config.cluster.clone());
    let exporter = Exporter::new();
    let options = Options {
        on_rtt: Some(exporter.rtt_recorder()),
        drain: drain::saved(&settings.values),
        rosters: rosters::kept(&settings.values).await,
    };
    // A leave for good waits for the disk, for as long as the quorum guard waits at most.
    let leave_within = LEAVE_WITHIN + config.guard_wait();
    // Before any peer hears of this node.
    let (control, ordered) = control::bind(&settings.control())?;
    let http = settings.http();
    let server = bind_http(&http)?;
    let (handle, detector) = net::spawn(config, keys, options).await.map_err(|e| not_started(&e))?;
    let address = handle.local_addr();
    info!(%address, %server_id, %cluster, peers, "listening on {address}");
    let (live, seen) = watch::channel(Live::of(&settings.values));
    tokio::spawn(log::write_events(handle.subscribe(), seen.clone()));
    let reloads = Arc::new(Reloads::started());
    let known = Known { exporter, reloads: Arc::clone(&reloads), live: seen, failures: discovery.failures() };
    let (roster, plans) = mpsc::channel(1);
    tokio::spawn(discovery.keep(told, handle.clone(), plans));
    // At one moment, so that both number the events alike.
    let (recorded, hooked) = (handle.subscribe(), handle.subscribe());
    let shape = shape_of(&handle).await.ok_or("the detector's loop has ended")?;
    let (hooks, interval) = (std::mem::take(&mut settings.hooks), settings.values.heartbeat_interval);
    let hooks = hooks::start(hooks, handle.clone(), hooked, (shape.clone(), cluster.to_string()), interval);
    let served = server.map(|server| (server, http_state(&http, &handle, (shape, recorded), known)));
    let serving = serve_readers_and_orders(served, control.as_ref());
    let in_force = std::mem::take(&mut settings.sources);
    let watched = reload::watched(args, &settings.values);
    let (args, cluster) = (args.clone(), cluster.to_string());
    let offers = offer(settings, &handle, &server_id, ordered.services);
    let other = handle.clone();
    let reloader =
        Reloader { args, cluster, in_force, handle: other, hooks, reloads, live, roster, offers, watched };
    tokio::spawn(reloader.run(hang_up, ordered.reload));
    let own = ServerId::new(&server_id)?;
    tokio::spawn(Drainer::new(handle.clone(), own, &settings.values).run(ordered.drain));
    tokio::spawn(rosters::bootstrap(handle.clone(), ordered.bootstrap));
    let notifier = Notifier::from_environment();
    tokio::spawn(notifier.clone().tell(handle.clone()));
    tokio::select! {
        ended = until_end((&handle, leave_within), detector, &mut signals, control.as_ref(), ordered.leave, &notifier) => ended,
        ended = serving => Err(ended.to_owned()),
    }
}

/// Serves as long as both do; what has ended.
async fn serve_readers_and_orders(
    readers: Option<(http::HttpServer, http::Shared)>,
    orders: Option<&Control>,
) -> &'static str {
    let readers = async {
        match readers {
            Some((server, state)) => server.serve(state).await,
            None => std::future::pending().await,
        }
    };
    let orders = async {
        match orders {
            Some(control) => control.serve().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = readers => "the HTTP listener has ended",
        () = orders => "the control socket has ended",
    }
}

/// Offers the services of the settings, and what is ordered beside them. Where others go.
fn offer(
    settings: &mut Settings,
    handle: &Handle,
    server_id: &str,
    orders: mpsc::Receiver<services::Order>,
) -> mpsc::Sender<Proposal<Settled, ()>> {
    let (services, v) = (std::mem::take(&mut settings.services), &settings.values);
    let (sender, proposals) = mpsc::channel(1);
    let offers = Offers::new(handle.clone(), server_id, v.labels.clone(), v.drain_move_within);
    tokio::spawn(offers.run(services, orders, proposals));
    sender
}

fn warn_of_host_name(id: &str) {
    warn!(
        "no entry of static_peers that resolves is this node: its id is the host name, {id}, unless server_id is set"
    );
}

/// What all events of this run have.
async fn shape_of(handle: &Handle) -> Option<Shape> {
    let first = handle.snapshot_of(Scope::Observed).await?;
    Some(Shape { instance: first.instance.to_string(), observer: first.server_id.to_string(), clock: Clock })
}

/// What the HTTP listener tells beside the picture.
struct Known {
    exporter: Exporter,
    reloads: Arc<Reloads>,
    live: watch::Receiver<Live>,
    failures: Arc<Failures>,
}

fn bind_http(http: &settings::Http) -> Result<Option<http::HttpServer>, String> {
    if http.listen.is_empty() && http.metrics_listen.is_empty() {
        return Ok(None);
    }
    let server = http::bind(http).map_err(|e| {
        format!("{e}; choose another address with --http ADDR (--http 127.0.0.1:0: any free port), or none with --http off")
    })?;
    Ok(Some(server))
}

fn http_state(
    http: &settings::Http,
    handle: &Handle,
    (shape, recorded): (Shape, EventStream),
    known: Known,
) -> http::Shared {
    let events = Arc::new(Recorder::new(shape));
    tokio::spawn(Arc::clone(&events).record(recorded));
    let Known { exporter, reloads, live, failures } = known;
    http::Shared {
        handle: handle.clone(),
        clock: Clock,
        exporter,
        events,
        reloads,
        live,
        failures,
        // Half of the places, none of a single one: the others are for those who come and go.
        streams: Arc::new(Semaphore::new(http.max_connections / 2)),
        questions: Semaphore::new(http::QUESTIONS),
    }
}

/// Waits for a signal or an order, leaves, and gives up waiting at the next signal or after `leave_within`. An order is
/// answered when all is done.
async fn until_end(
    (handle, leave_within): (&Handle, Duration),
    mut detector: JoinHandle<()>,
    signals: &mut Signals,
    control: Option<&Control>,
    mut orders: Orders<Result<(), String>>,
    notifier: &Notifier,
) -> Result<(), String> {
    let order = tokio::select! {
        () = signals.next() => None,
        Some(reply) = orders.recv() => Some(reply),
        ended = &mut detector => return Err(match ended {
            Ok(()) => "the detector's loop has ended".to_owned(),
            Err(e) => format!("the detector's loop has ended: {e}"),
        }),
    };
    let (reason, name) = match order {
        None => (LeaveReason::Restart, "restart"),
        Some(_) => (LeaveReason::Removal, "removal"),
    };
    info!("leaving, announced as a {name}");
    notifier.stopping().await;
    let told = tokio::select! {
        told = handle.leave(reason) => Some(told.unwrap_or(reason)),
        () = tokio::time::sleep(leave_within) => None,
        () = signals.next() => None,
    };
    let left = match told {
        None => Err("left without telling every peer".to_owned()),
        Some(told) if told != reason => {
            Err("has left, announced as a restart: the disk did not take the leave for good (see state_dir)"
                .to_owned())
        }
        Some(_) => Ok(()),
    };
    if let Err(why) = &left {
        warn!("{why}");
    }
    if let (Some(reply), Some(control)) = (order, control) {
        // Who no longer waits need not be told.
        let _ = reply.send(left);
        // Whoever waits behind it is told that this is the end.
        drop(orders);
        control.answered().await;
    }
    Ok(())
}

/// What the shell says when it does not start, with the way out.
fn not_started(error: &NetError) -> String {
    match error {
        NetError::Bind { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => format!(
            "{error}; is lastseen running already? A second node on this machine needs --listen with another port, \
             and --http off or --http 127.0.0.1:0 (any free port)"
        ),
        NetError::Bind { source, .. } if source.kind() == std::io::ErrorKind::AddrNotAvailable => {
            format!(
                "{error}; --listen (or listen_address) must be an address of this machine, or [::] for all"
            )
        }
        other => other.to_string(),
    }
}

/// SIGTERM and SIGINT: both ask for the end. So does, if that is wanted, the end of standard input.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    stdin: Option<oneshot::Receiver<()>>,
}

fn take(kind: SignalKind) -> Result<Signal, String> {
    signal(kind).map_err(|e| format!("cannot handle signals: {e}"))
}

impl Signals {
    fn new(until_stdin_closes: bool) -> Result<Signals, String> {
        let stdin = until_stdin_closes.then(|| {
            let (closed, receiver) = oneshot::channel();
            std::thread::spawn(move || {
                // What comes is of no interest, and an error is an end too.
                let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
                let _ = closed.send(());
            });
            receiver
        });
        Ok(Signals {
            terminate: take(SignalKind::terminate())?,
            interrupt: take(SignalKind::interrupt())?,
            stdin,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = closed(&mut self.stdin) => {}
        }
    }
}

/// Returns once when standard input is closed, if that is watched.
async fn closed(stdin: &mut Option<oneshot::Receiver<()>>) {
    match stdin {
        Some(receiver) => {
            let _ = receiver.await;
            *stdin = None;
        }
        None => std::future::pending().await,
    }
}
