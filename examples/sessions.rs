//! A web server whose sessions each have a node, without a load balancer that knows: whoever is asked sends the client on.
//!
//! Three of these on one machine, each told the whole roster (its own entry says where it listens for the others):
//!
//! ```sh
//! R="a@127.0.0.1:7001 b@127.0.0.1:7002 c@127.0.0.1:7003"
//! sessions a $R    # and b, and c; each prints where clients ask
//! curl -L -H 'x-session: bob' http://ADDRESS/    # of any of them: it is always the same node that answers
//! ```
//!
//! Type `drain` into one, or send it SIGTERM: its sessions go elsewhere, each to its second choice, and it ends when nobody asks any
//! more.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use lastseen::net::{Clock, Handle, Options, spawn};
use lastseen::proto::{
    Drain, Keyring, LeaveReason, Move, PeerConfig, Reason, ServerId, Service, ServiceInstance, ServiceName,
    StaticPeer, Time,
};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// One heartbeat each so often: a crash is known after four. A second is what it is otherwise.
const INTERVAL: Duration = Duration::from_millis(250);
/// A node that drains ends when nobody has asked it anything for so long, or at the deadline.
const QUIET: Duration = Duration::from_secs(2);
const DRAIN: Duration = Duration::from_secs(60);
/// Sessions whose state is kept.
const SESSIONS: usize = 10_000;

struct Web {
    id: String,
    node: Handle,
    /// How often each session was here: what stands for the state of a real one.
    visits: Mutex<BTreeMap<String, u32>>,
    /// When somebody asked last.
    asked: Mutex<Time>,
    /// Whether its sessions are to go.
    leaves: AtomicBool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Fallible<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [id, roster @ ..] = &args[..] else { return Err("sessions ID ID@ADDRESS...".into()) };
    let entry = |text: &String| -> Fallible<StaticPeer> {
        let (id, address) = text.split_once('@').ok_or("an entry is ID@ADDRESS")?;
        Ok(StaticPeer { server_id: Some(id.into()), name: id.into(), address: Some(address.parse()?) })
    };
    let roster = roster.iter().map(entry).collect::<Fallible<Vec<_>>>()?;
    let own = roster.iter().find(|peer| *peer.name == **id).and_then(|peer| peer.address);
    let listen = own.ok_or("the roster has no such id")?;

    let mut config = PeerConfig::new(id, "example", listen, roster);
    (config.heartbeat_interval, config.heartbeat_timeout) = (INTERVAL, INTERVAL / 2);
    // Without a key, as here, anybody on this machine can speak for a node.
    let (node, _task) = spawn(config, Keyring::new("example", &[], true)?, Options::default()).await?;
    let listener = TcpListener::bind((listen.ip(), 0)).await?;
    let service = Service::new("web", &listener.local_addr()?.to_string())?;
    println!("{id}: clients at {}", service.address);
    node.publish_service(service).await.ok_or("the detector has ended")??;

    let asked = Mutex::new(Clock.now());
    let web = Arc::new(Web {
        id: id.clone(),
        node,
        visits: Mutex::default(),
        asked,
        leaves: AtomicBool::new(false),
    });
    tokio::spawn(Arc::clone(&web).follow_migrations());
    let app = Router::new().route("/", get(answer)).with_state(Arc::clone(&web));
    axum::serve(listener, app).with_graceful_shutdown(Arc::clone(&web).until_drained(orders()?)).await?;
    // Whatever was asked is answered: now the others are told, who would find out by themselves in a second.
    web.node.leave(LeaveReason::Restart).await;
    println!("{id}: has left");
    Ok(())
}

#[derive(serde::Deserialize)]
struct Asked {
    /// Who sent the client here.
    via: Option<String>,
    /// Its session, where it does not say that otherwise.
    session: Option<String>,
}

async fn answer(State(web): State<Arc<Web>>, Query(asked): Query<Asked>, headers: HeaderMap) -> Response {
    web.note_asked();
    let session = named(&headers, asked.session).unwrap_or_else(|| web.draw_session());
    let Some(route) = web.node.route("web", session.as_bytes()) else {
        // No instance passes, this one neither. That may be over in a moment.
        let retry = [(header::RETRY_AFTER, "1")];
        return (StatusCode::SERVICE_UNAVAILABLE, retry, "no instance passes\n").into_response();
    };
    // Whoever was sent here is served: the sender may know what this node does not know yet, and nobody is sent in circles. But
    // not where this node is to be left, lest a client that remembers that address stays.
    let may_stay = asked.via.is_some() && !web.leaves.load(Ordering::Relaxed);
    if *route.first.server_id != *web.id && !may_stay {
        return web.send_on(&route.first, &session);
    }
    let visits = web.count_visit(&session);
    let cookie = format!("session={session}; HttpOnly; SameSite=Lax");
    // Where a client that remembers this may ask if this node fails.
    let second = [Some(route.first), route.second].into_iter().flatten().find(|i| *i.server_id != *web.id);
    let second = second.map(|instance| instance.service.address.to_string()).unwrap_or_default();
    let headers = [(header::SET_COOKIE, cookie), (HeaderName::from_static("x-second"), second)];
    (headers, format!("session {session} at {}, visit {visits}\n", web.id)).into_response()
}

/// The session that a client names: by header, by cookie, or in the address that it was sent to. What is no plain word is none,
/// since it goes into headers.
fn named(headers: &HeaderMap, sent: Option<String>) -> Option<String> {
    let header = headers.get("x-session").and_then(|value| value.to_str().ok());
    let cookies = headers.get(header::COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let cookie = cookies.split("; ").find_map(|cookie| cookie.strip_prefix("session="));
    header.or(cookie).or(sent.as_deref()).filter(|session| is_plain(session)).map(str::to_owned)
}

fn is_plain(session: &str) -> bool {
    (1..=64).contains(&session.len()) && session.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

impl Web {
    /// A key that nobody else draws; a real one would also be one that nobody guesses.
    fn draw_session(&self) -> String {
        format!("{}-{}", self.id, Clock.now().as_micros())
    }

    /// The session travels along, since cookies of one node's name do not reach another one's.
    fn send_on(&self, to: &ServiceInstance, session: &str) -> Response {
        let there = format!("http://{}/?via={}&session={session}", to.service.address, self.id);
        (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, there)]).into_response()
    }

    fn count_visit(&self, session: &str) -> u32 {
        let mut visits = self.visits.lock().unwrap_or_else(PoisonError::into_inner);
        if visits.len() >= SESSIONS && !visits.contains_key(session) {
            visits.pop_first();
        }
        let count = visits.entry(session.to_owned()).or_default();
        *count += 1;
        *count
    }

    fn note_asked(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Clock.now();
    }

    /// What is announced, here or elsewhere. This is where a real one hands the state of its sessions over, before they arrive.
    async fn follow_migrations(self: Arc<Self>) {
        let mut migrations = self.node.migrations();
        while let Some(announced) = migrations.next().await {
            let migration = announced.migration;
            println!("{}: clients of {} are to leave {}", self.id, migration.service, migration.from);
            if migration.from.as_str() == self.id {
                self.leaves.store(true, Ordering::Relaxed);
                let leaving =
                    std::mem::take(&mut *self.visits.lock().unwrap_or_else(PoisonError::into_inner));
                for session in leaving.keys() {
                    let to = self.node.route("web", session.as_bytes()).map(|route| route.first.server_id);
                    println!("{}: session {session} goes to {to:?}", self.id);
                }
            }
        }
    }

    /// Returns when this node was told to drain, and nobody asks it anything any more.
    async fn until_drained(self: Arc<Self>, mut orders: mpsc::Receiver<()>) {
        let _ = orders.recv().await;
        println!("{}: drains", self.id);
        if let Err(error) = self.drain().await {
            eprintln!("{}: cannot tell the others: {error}", self.id);
        }
        let begin = Clock.now();
        self.note_asked();
        let is_over = || {
            let (now, asked) = (Clock.now(), *self.asked.lock().unwrap_or_else(PoisonError::into_inner));
            now.since(asked) >= QUIET || now.since(begin) >= DRAIN
        };
        while !is_over() {
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// From now on nobody is routed here, and to be away is no alarm; all nodes are told that the sessions are to move.
    async fn drain(&self) -> Fallible<()> {
        let ended = "the detector has ended";
        let reason = Reason::new("it was told to drain")?;
        let until = (Clock.since_1970() + DRAIN).as_secs();
        self.node.drain(Drain { until, reason: reason.clone() }).await.ok_or(ended)?;
        let from = ServerId::new(&self.id)?;
        let web = ServiceName::new("web")?;
        let moving = Move { service: web, from, to: None, reason, within: DRAIN };
        self.node.migrate(moving).await.ok_or(ended)??;
        Ok(())
    }
}

/// SIGTERM, or `drain` on standard input.
fn orders() -> std::io::Result<mpsc::Receiver<()>> {
    let (order, orders) = mpsc::channel(1);
    let (by_signal, mut terminate) = (order.clone(), signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        while terminate.recv().await.is_some() {
            let _ = by_signal.try_send(());
        }
    });
    // A thread, since standard input cannot be waited for without blocking.
    std::thread::spawn(move || {
        for _ in std::io::stdin().lines().map_while(Result::ok).filter(|line| line == "drain") {
            let _ = order.try_send(());
        }
    });
    Ok(orders)
}
