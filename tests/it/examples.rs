//! The examples, each as a process of its own, and what they promise: whoever drains fails nobody.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lastseen::proto::{Catalog, Labels, PeerStatus, Service, ServiceInstance, Verdict};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{AT_ALL, Cluster, within};

const IDS: [&str; 3] = ["a", "b", "c"];
const SESSIONS: usize = 24;

/// Where cargo puts an example, beside these tests, as it does before it runs all of them.
fn path_of(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().unwrap().with_file_name("examples").join(name);
    let changed = |path: &Path| path.metadata().and_then(|it| it.modified()).ok();
    let made = changed(&path).unwrap_or_else(|| panic!("cargo build --examples has not made {name} yet"));
    let sources = std::fs::read_to_string(path.with_extension("d")).unwrap();
    let newer = sources.split(' ').skip(1).find(|it| changed(Path::new(it.trim())) > Some(made));
    assert_eq!(newer, None, "cargo build --examples has yet to make {name} anew");
    path
}

/// An example that runs, and the lines that it has written. Dropping it kills it.
struct Program {
    name: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Program {
    fn start(name: &str, args: &[&str]) -> Program {
        let mut command = Command::new(path_of(name));
        command.args(args).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (output, lines) = (child.stdout.take().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let written = Arc::clone(&lines);
        std::thread::spawn(move || {
            let read = BufReader::new(output).lines().map_while(Result::ok);
            read.for_each(|line| written.lock().unwrap().push(line));
        });
        Program { name: args.join(" "), child, lines }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits for something in what it has written.
    #[track_caller]
    fn until<T>(&self, what: &str, look: impl Fn(&[String]) -> Option<T>) -> T {
        let found = within(AT_ALL, || look(&self.lines()));
        found.unwrap_or_else(|| panic!("{}: no {what} in {:#?}", self.name, self.lines())).0
    }

    /// Waits for a line that begins so; its rest.
    #[track_caller]
    fn says(&self, begin: &str) -> String {
        self.until(begin, |lines| lines.iter().find_map(|line| line.strip_prefix(begin)).map(str::to_owned))
    }

    fn order(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Waits for its end, by itself, without an error; all that it has written.
    #[track_caller]
    fn ended(&mut self) -> Vec<String> {
        let ended = within(AT_ALL, || self.child.try_wait().unwrap());
        let (status, _) = ended.unwrap_or_else(|| panic!("{} goes on: {:#?}", self.name, self.lines()));
        assert!(status.success(), "{}: {status}", self.name);
        // The reader ends when it has read all.
        within(AT_ALL, || (Arc::strong_count(&self.lines) == 1).then_some(())).unwrap();
        self.lines()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Three nodes of an example, and where their clients connect.
struct Three {
    roster: Vec<String>,
    nodes: Vec<Program>,
    addresses: Vec<String>,
}

impl Three {
    fn start(example: &str, before: &[&str]) -> Three {
        let ip = IpAddr::from(Cluster::own_address()(0));
        let held = IDS.map(|_| UdpSocket::bind((ip, 0)).unwrap());
        let address = |(id, udp): (&&str, &UdpSocket)| format!("{id}@{}", udp.local_addr().unwrap());
        let roster = IDS.iter().zip(&held).map(address).collect();
        drop(held);
        let mut three = Three { roster, nodes: Vec::new(), addresses: Vec::new() };
        for id in IDS {
            let (node, address) = three.launch(example, before, id);
            three.nodes.push(node);
            three.addresses.push(address);
        }
        three
    }

    fn launch(&self, example: &str, before: &[&str], id: &str) -> (Program, String) {
        let args: Vec<&str> =
            before.iter().copied().chain([id]).chain(self.roster.iter().map(String::as_str)).collect();
        let node = Program::start(example, &args);
        let address = node.says(&format!("{id}: clients at "));
        (node, address)
    }

    /// Asks a server in its own words.
    fn ask(&self, n: usize, line: &str) -> Option<String> {
        let mut stream = TcpStream::connect(&self.addresses[n]).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        writeln!(stream, "{line}").ok()?;
        BufReader::new(stream).lines().next()?.ok()
    }

    #[track_caller]
    fn says(&self, n: usize, line: &str, answer: &str) {
        let said = within(AT_ALL, || (self.ask(n, line).as_deref() == Some(answer)).then_some(()));
        assert!(said.is_some(), "{line}: {:?} instead of {answer}", self.ask(n, line));
    }

    /// Waits until every server of lines sends every session where it belongs.
    fn agree(&self) {
        for key in keys() {
            let [first, second] = choices(&key);
            for n in 0..IDS.len() {
                let answer = if n == first {
                    format!("web from {} else {}", IDS[first], self.addresses[second])
                } else {
                    format!("go {}", self.addresses[first])
                };
                self.says(n, &format!("web {key}"), &answer);
            }
        }
    }
}

/// To whom a session goes among all three, and where then: as every node of every release chooses.
fn choices(key: &str) -> [usize; 2] {
    let instance = |id: &str| ServiceInstance {
        server_id: id.into(),
        service: Service::new("web", "h:1").unwrap(),
        labels: Labels::default(),
        status: PeerStatus::Healthy,
        verdict: Verdict::Up,
        drains: false,
    };
    let catalog = Catalog { instances: IDS.map(instance).into(), ..Catalog::default() };
    let route = catalog.route("web", key.as_bytes(), None).unwrap();
    let at = |instance: &ServiceInstance| IDS.iter().position(|id| **id == *instance.server_id).unwrap();
    [at(route.first), at(route.second.unwrap())]
}

fn keys() -> impl Iterator<Item = String> {
    (0..SESSIONS).map(|n| format!("s{n}"))
}

/// Who answered each session, in order, as a client told.
fn served(lines: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut served: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, id) in lines.iter().filter_map(|line| line.split_once(": ")) {
        served.entry(key.to_owned()).or_default().push(id.to_owned());
    }
    served
}

/// One node goes away under a client of 24 sessions, which goes on until `go` is done. Returns how many of them it had, and the client's count: of what was asked, told
/// to go, failed over, and failed. Only its own sessions have moved, each to its second choice.
fn lose(three: &mut Three, gone: usize, go: impl FnOnce(&mut Three)) -> (usize, [usize; 4]) {
    three.agree();
    let mut client = Program::start("server", &["client", &three.addresses[0], &SESSIONS.to_string()]);
    let expected = |is_gone: bool| -> BTreeMap<String, Vec<String>> {
        let way = |key: String| {
            let [first, second] = choices(&key);
            let moves = is_gone && first == gone;
            let way = if moves { vec![IDS[first], IDS[second]] } else { vec![IDS[first]] };
            (key, way.into_iter().map(str::to_owned).collect())
        };
        keys().map(way).collect()
    };
    client.until("session everywhere", |lines| (served(lines) == expected(false)).then_some(()));
    go(three);
    client.until("second choice", |lines| (served(lines) == expected(true)).then_some(()));
    // The end of its input is the client's end.
    drop(client.child.stdin.take());
    let lines = client.ended();
    assert_eq!(served(&lines), expected(true));
    let count: Vec<usize> = lines
        .last()
        .unwrap()
        .split(", ")
        .map(|part| part.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    let had = keys().filter(|key| choices(key)[0] == gone).count();
    assert!(had > 0 && had < SESSIONS, "{had}");
    println!("{had} of {SESSIONS} sessions moved: {}", lines.last().unwrap());
    (had, count.try_into().unwrap())
}

#[test]
fn a_loop_of_std_sockets_joins_a_cluster() {
    let lines = Program::start("blocking", &[]).ended();
    let said = |line: &str| lines.iter().any(|said| said.contains(line));
    for id in IDS {
        assert!(
            said(&format!("{id}: web passes at [\"a\", \"b\", \"c\"], session 7 goes to Some(\"b\")")),
            "{lines:#?}"
        );
        assert!(said(&format!("{id}: holds the quorum guard, for ")), "{lines:#?}");
        assert!(said(&format!("{id}: has left")), "{lines:#?}");
    }
    assert!(said("a: c: it said that it leaves for a restart"), "{lines:#?}");
}

#[test]
fn a_server_that_drains_fails_nobody() {
    let mut three = Three::start("server", &["serve"]);
    let (had, [asked, told, failed_over, failed]) = lose(&mut three, 1, |three| {
        three.nodes[1].order("drain");
        assert_eq!(three.nodes[1].ended().last().unwrap(), "b: leaves, with 0 clients");
    });
    assert_eq!([failed_over, failed], [0, 0], "of {asked}");
    assert!(asked >= 10 * SESSIONS && told >= had, "{asked} {told}");
    for n in [0, 2] {
        three.nodes[n].says(&format!("{}: clients of web are to leave b", IDS[n]));
        three.nodes[n].says(&format!("{}: clients of store are to leave b", IDS[n]));
    }
}

#[test]
fn who_loses_his_server_finds_the_second_one_and_another_primary() {
    let mut three = Three::start("server", &["serve"]);
    three.nodes[0].says("a: is primary: true");
    three.says(0, "set hello", "1.1 hello");
    three.says(2, "get", "1.1 hello");
    let to_primary = format!("go {}", three.addresses[0]);
    three.says(1, "set other", &to_primary);
    let (had, [asked, _, failed_over, failed]) = lose(&mut three, 0, |three| {
        three.nodes[0].kill();
        three.nodes[1].says("b: is primary: true");
    });
    assert_eq!([failed_over, failed], [had, 0], "of {asked}");
    assert!(asked >= 10 * SESSIONS, "{asked}");
    three.says(1, "set again", "2.1 again");
    let (node, address) = three.launch("server", &["serve"], "a");
    (three.nodes[0], three.addresses[0]) = (node, address);
    three.nodes[0].says("a: has 2.1 again from ");
    three.nodes[0].says("a: is primary: true");
    three.nodes[1].says("b: is primary: false");
    three.says(0, "set back", "3.1 back");
    three.says(1, "get", "3.1 back");
}

/// One who asks a web server as a browser does that remembers where it was sent, and where else it may ask.
struct Visitor {
    agent: ureq::Agent,
    session: String,
    base: String,
    second: Option<String>,
    failed_over: usize,
}

/// Whoever visits ends with this, be it by a panic.
struct AtTheEnd<'a>(&'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What it is told: by whom, and how often it was there.
type Visit = (String, u32);

impl Visitor {
    fn new(session: &str, address: &str) -> Visitor {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(2)))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None);
        let agent = config.build().into();
        let base = format!("http://{address}/");
        Visitor { agent, session: session.to_owned(), base, second: None, failed_over: 0 }
    }

    /// Follows whoever sends it on; where nobody answers it asks its second choice.
    fn visit(&mut self) -> Result<Visit, String> {
        for _ in 0..8 {
            let asked = self.agent.get(&self.base).header("x-session", &self.session).call();
            let mut answer = match asked {
                Ok(answer) => answer,
                Err(error) => {
                    self.failed_over += 1;
                    let second = self.second.take().ok_or_else(|| error.to_string())?;
                    self.base = format!("http://{second}/?via=failure");
                    continue;
                }
            };
            let header = |name: &str| Some(answer.headers().get(name)?.to_str().unwrap().to_owned());
            match answer.status().as_u16() {
                307 => self.base = header("location").unwrap(),
                200 => {
                    self.second = header("x-second");
                    let text = answer.body_mut().read_to_string().unwrap();
                    let told = text.trim_end().strip_prefix(&format!("session {} at ", self.session));
                    let (id, visits) = told.and_then(|told| told.split_once(", visit ")).unwrap();
                    return Ok((id.to_owned(), visits.parse().unwrap()));
                }
                other => return Err(format!("{other}, retry after {:?}", header("retry-after"))),
            }
        }
        Err("sent in circles".to_owned())
    }

    /// Visits until it is over; all that it was told.
    fn stay(
        mut self,
        is_over: &AtomicBool,
        visits: &AtomicUsize,
    ) -> (String, Vec<Result<Visit, String>>, usize) {
        let mut told = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            told.push(self.visit());
            visits.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(100));
        }
        (self.session, told, self.failed_over)
    }
}

#[test]
fn sessions_of_a_web_server_go_on_elsewhere() {
    let mut three = Three::start("sessions", &[]);
    for key in keys() {
        let [first, _] = choices(&key);
        for address in &three.addresses {
            let at = || Visitor::new(&key, address).visit().is_ok_and(|(id, _)| id == IDS[first]);
            assert!(within(AT_ALL, || at().then_some(())).is_some(), "{key} is not at {}", IDS[first]);
        }
    }
    let (is_over, visits) = (AtomicBool::new(false), AtomicUsize::new(0));
    let told = std::thread::scope(|threads| {
        let end = AtTheEnd(&is_over);
        let begin = |(n, key): (usize, String)| {
            let visitor = Visitor::new(&key, &three.addresses[n % 3]);
            threads.spawn(|| visitor.stay(&is_over, &visits))
        };
        let visitors: Vec<_> = keys().enumerate().map(begin).collect();
        let all_visit = |times: usize| {
            let until = visits.load(Ordering::Relaxed) + times * SESSIONS;
            assert!(within(AT_ALL, || (visits.load(Ordering::Relaxed) >= until).then_some(())).is_some());
        };
        all_visit(2);
        let b = &mut three.nodes[1];
        kill(Pid::from_raw(b.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        b.ended();
        all_visit(2);
        drop(end);
        visitors.into_iter().map(|visitor| visitor.join().unwrap()).collect::<Vec<_>>()
    });
    let mut moved = 0;
    for (key, told, failed_over) in told {
        assert_eq!(failed_over, 0, "{key}: {told:?}");
        let mut ids: Vec<String> = told.iter().map(|told| told.clone().unwrap().0).collect();
        ids.dedup();
        let [first, second] = choices(&key);
        let way = if first == 1 { vec![IDS[first], IDS[second]] } else { vec![IDS[first]] };
        assert_eq!(ids, way, "{key}");
        moved += ids.len() - 1;
    }
    println!("{moved} of {SESSIONS} sessions moved, in {} visits", visits.load(Ordering::Relaxed));
    // Where none is left that takes sessions, a client is told to come back.
    three.nodes[0].order("drain");
    three.nodes[2].order("drain");
    let mut last = Visitor::new("s0", &three.addresses[2]);
    let refused = within(AT_ALL, || last.visit().err()).unwrap().0;
    assert_eq!(refused, "503, retry after Some(\"1\")");
}
