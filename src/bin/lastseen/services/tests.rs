//! Offers of a real detector, and checks of a listener of the test's own.

use lastseen::net::{self, Options};
use lastseen::proto::{Keyring, Migration, PeerConfig, Reason, ServerId, StaticPeer};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::settings::{Check, Local, Probe};

const AT_ALL: Duration = Duration::from_secs(30);

/// Of a node `a` that nobody has heard, and that knows of a peer `web-1`.
async fn offers() -> Offers {
    let peer = StaticPeer { server_id: Some("web-1".into()), name: "web-1".into(), address: None };
    let config = PeerConfig::new("a", "offers", ([127, 0, 0, 1], 0).into(), vec![peer]);
    let keys = Keyring::new("offers", &[], true).unwrap();
    let (handle, _detector) = net::spawn(config, keys, Options::default()).await.unwrap();
    Offers::new(handle, "a", labels(&[("rack", "r7"), ("zone", "a")]), Duration::from_secs(60))
}

fn labels(all: &[(&str, &str)]) -> Labels {
    Labels::new(all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()).unwrap()
}

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

fn said(text: &str) -> Publish {
    Publish { name: name(text), address: None, state: None, weight: None, version: None, payload: None }
}

fn at(text: &str, address: &str) -> Publish {
    Publish { address: Some(ServiceAddress::new(address).unwrap()), ..said(text) }
}

fn offered(text: &str, check: Option<Check>) -> Offered {
    Offered { service: Service::new(text, "h:1").unwrap(), check }
}

fn tcp(address: std::net::SocketAddr) -> Check {
    let probe = Probe::Tcp(Local { name: address.to_string(), addresses: vec![address] });
    Check { probe, interval: Duration::from_millis(100), timeout: Duration::from_secs(2), fall: 2, rise: 1 }
}

fn is_refused(outcome: Outcome, told: &str) {
    let Err(Refusal::Other(why)) = outcome else { panic!("{outcome:?}") };
    assert!(why.contains(told), "{why}");
}

impl Offers {
    async fn say(&mut self, publish: Publish) -> Outcome {
        self.obey(Wish::Publish(Box::new(publish))).await
    }

    async fn settle_on(&mut self, services: Vec<Offered>) {
        let settled = Settled { services, labels: self.settled.labels.clone() };
        self.fit(&settled).unwrap();
        self.settle(settled).await.unwrap();
    }

    /// What the detector tells, by name.
    fn told(&self) -> Vec<(String, ServiceState)> {
        let of = |i: &lastseen::proto::ServiceInstance| (i.service.name.to_string(), i.service.state);
        self.handle.catalog().instances.iter().map(of).collect()
    }

    /// Listens to the checks until the service is in this state.
    async fn until(&mut self, service: &str, state: ServiceState) {
        let look = async {
            while self.own[&name(service)].service.state != state {
                let judged = self.judged.1.recv().await.unwrap();
                self.take(judged).await;
            }
        };
        timeout(AT_ALL, look).await.unwrap_or_else(|_| panic!("{service} is not {state}"));
    }
}

#[tokio::test]
async fn what_is_not_said_again_stays_as_it_was() {
    let mut offers = offers().await;
    is_refused(offers.say(said("web")).await, "web is new here: its address is missing; it offers none");
    let first = Publish { weight: Some(3), version: Some(9), payload: Some(vec![1]), ..at("web", "h:1") };
    let answer = offers.say(first).await.unwrap();
    assert_eq!((&answer["is_new"], &answer["message"]), (&json!(true), &json!("offers web at h:1: passing")));
    let answer = offers.say(Publish { state: Some(ServiceState::Draining), ..said("web") }).await.unwrap();
    assert_eq!(
        (&answer["is_new"], &answer["state"], &answer["weight"]),
        (&json!(false), &json!("draining"), &json!(3))
    );
    let Service { address, version, payload, .. } = &offers.own[&name("web")].service;
    assert_eq!((address.as_str(), *version, &**payload), ("h:1", 9, &[1][..]));
    is_refused(
        offers.say(Publish { payload: Some(vec![0; 1024]), ..said("web") }).await,
        "1024 are the most",
    );
    is_refused(
        offers.say(Publish { payload: Some(vec![0; 1024]), ..at("db", "h:1") }).await,
        "1024 are the most",
    );
    assert_eq!(offers.told(), [("web".to_owned(), ServiceState::Draining)], "nothing has changed");
    is_refused(offers.withdraw(&name("wbe")).await, "no service wbe; it offers web");
    offers.withdraw(&name("web")).await.unwrap();
    assert_eq!(offers.told(), []);
}

#[tokio::test]
async fn a_check_decides_unless_the_operator_does() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut offers = offers().await;
    offers.settle_on(vec![offered("web", Some(tcp(address)))]).await;
    assert_eq!(offers.told(), [("web".to_owned(), ServiceState::Failed)], "until it has passed");
    offers.until("web", ServiceState::Passing).await;
    for state in [ServiceState::Draining, ServiceState::Failed] {
        offers.say(Publish { state: Some(state), ..said("web") }).await.unwrap();
        assert_eq!(offers.told(), [("web".to_owned(), state)]);
    }
    drop(listener);
    let judged = timeout(AT_ALL, offers.judged.1.recv()).await.unwrap().unwrap();
    assert!(!judged.passes, "{judged:?}");
    offers.say(Publish { state: Some(ServiceState::Draining), ..said("web") }).await.unwrap();
    offers.take(judged).await;
    assert_eq!(offers.told(), [("web".to_owned(), ServiceState::Draining)], "as it was ordered");
    let answer = offers.say(Publish { state: Some(ServiceState::Passing), ..said("web") }).await.unwrap();
    assert_eq!(answer["message"], "offers web at h:1: failed, as its check finds");
    let _listener = TcpListener::bind(address).await.unwrap();
    offers.until("web", ServiceState::Passing).await;
}

#[tokio::test]
async fn a_reload_changes_what_differs_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let check = tcp(listener.local_addr().unwrap());
    let mut offers = offers().await;
    let web = offered("web", Some(check.clone()));
    offers.settle_on(vec![web.clone(), offered("db", None), offered("old", None)]).await;
    offers.until("web", ServiceState::Passing).await;
    offers.say(at("mine", "h:9")).await.unwrap();
    offers.say(Publish { state: Some(ServiceState::Draining), ..said("db") }).await.unwrap();
    offers.say(Publish { weight: Some(7), ..said("web") }).await.unwrap();
    let heavy = |mut offered: Offered| {
        offered.service.weight = 9;
        offered
    };
    offers.settle_on(vec![web.clone(), heavy(offered("db", None))]).await;
    let state = |offers: &Offers, of: &str| {
        (offers.own[&name(of)].service.state, offers.own[&name(of)].service.weight)
    };
    assert_eq!(state(&offers, "web"), (ServiceState::Passing, 7), "left alone");
    assert_eq!(state(&offers, "db"), (ServiceState::Draining, 9), "what was ordered stays");
    let names: Vec<String> = offers.told().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["db", "mine", "web"]);
    let number = offers.own[&name("web")].checking.as_ref().unwrap().number;
    offers.settle_on(vec![heavy(web.clone())]).await;
    assert_eq!(state(&offers, "web"), (ServiceState::Passing, 9));
    assert_eq!(offers.own[&name("web")].checking.as_ref().unwrap().number, number, "its check goes on");
    let other = offered("web", Some(Check { fall: 3, ..check }));
    offers.settle_on(vec![other]).await;
    assert_eq!(state(&offers, "web"), (ServiceState::Passing, 1), "until the new check has looked");
    let stale = Judged { name: name("web"), number, passes: false, why: String::new() };
    offers.take(stale).await;
    assert_eq!(state(&offers, "web").0, ServiceState::Passing, "that check is over");
    offers.settle_on(Vec::new()).await;
    assert_eq!(offers.told(), [("mine".to_owned(), ServiceState::Passing)]);
}

#[tokio::test]
async fn services_that_fit_together_follow_those_that_do() {
    let mut offers = offers().await;
    let long = |text: &str, bytes: usize| {
        let mut offered = offered(text, None);
        offered.service.payload = vec![0; bytes].into();
        offered
    };
    offers.settle_on(vec![long("a", 20), long("b", 900)]).await;
    offers.settle_on(vec![long("a", 900), long("b", 20)]).await;
    let told: Vec<usize> = offers.own.values().map(|own| own.service.payload.len()).collect();
    assert_eq!(told, [900, 20]);
    offers.say(Publish { payload: Some(vec![0; 60]), ..at("mine", "h:9") }).await.unwrap();
    let settled = Settled { services: vec![long("a", 900), long("b", 60)], labels: Labels::default() };
    let why = offers.fit(&settled).unwrap_err();
    assert!(why.starts_with("with those that were published over the socket, the services have 10"), "{why}");
}

#[tokio::test]
async fn labels_of_the_socket_lie_over_those_of_the_settings() {
    let mut offers = offers().await;
    let answer = |outcome: Outcome| outcome.unwrap()["message"].as_str().unwrap().to_owned();
    let none = Labels::default();
    assert_eq!(answer(offers.label(&none, &[]).await), "labels: rack=r7, zone=a");
    let set = labels(&[("role", "db"), ("zone", "b")]);
    assert_eq!(answer(offers.label(&set, &["rack".to_owned()]).await), "labels: role=db, zone=b");
    let next =
        Settled { services: Vec::new(), labels: labels(&[("rack", "r8"), ("zone", "c"), ("row", "4")]) };
    offers.settle(next).await.unwrap();
    assert_eq!(answer(offers.label(&none, &["role".to_owned()]).await), "labels: row=4, zone=b");
    let many: Vec<(String, String)> = (0..15).map(|n| (format!("l{n}"), "x".to_owned())).collect();
    is_refused(offers.label(&Labels::new(many).unwrap(), &[]).await, "17 labels are too many");
    assert_eq!(answer(offers.label(&none, &[]).await), "labels: row=4, zone=b", "nothing has changed");
    let back = Settled { services: Vec::new(), labels: labels(&[("zone", "c")]) };
    offers.settle(back).await.unwrap();
    offers.settle(Settled { services: Vec::new(), labels: labels(&[("rack", "r9")]) }).await.unwrap();
    let all = answer(offers.label(&none, &["zone".to_owned(), "nothing".to_owned()]).await);
    assert_eq!(all, "labels: rack=r9", "one that is written anew is there again");
}

fn moving(service: &str) -> Moving {
    Moving { service: name(service), from: None, to: None, reason: Reason::default(), within: None }
}

#[tokio::test]
async fn clients_are_told_to_leave_a_node_that_is_known() {
    let mut offers = offers().await;
    offers.say(at("web", "h:1")).await.unwrap();
    let id = |text: &str| ServerId::new(text).ok();
    let mut order = async |moving| offers.obey(Wish::Migrate(Box::new(moving))).await;
    let answer =
        order(Moving { to: id("web-1"), reason: Reason::new("disks").unwrap(), ..moving("web") }).await;
    let answer = answer.unwrap();
    assert_eq!(answer["message"], "clients of web are to leave a for web-1 within 60 s: disks");
    assert_eq!([&answer["from"], &answer["to"]], ["a", "web-1"]);
    let odd = order(moving("db")).await.unwrap();
    assert!(odd["message"].as_str().unwrap().ends_with("that one does not offer it"), "{odd}");
    let unknown = order(Moving { from: id("web-2"), ..moving("web") }).await.unwrap_err();
    assert_eq!(unknown, Refusal::UnknownPeer("no node is called \"web-2\"".into(), Some("web-1".into())));
    is_refused(order(Moving { to: id("a"), ..moving("web") }).await, "cannot go to a");
    let day = Migration::LONGEST + Duration::from_secs(1);
    for within in [Duration::ZERO, day] {
        is_refused(order(Moving { within: Some(within), ..moving("web") }).await, "right is 1s to 1d");
    }
}

#[tokio::test]
async fn a_drain_tells_of_what_fits_once() {
    let mut offers = offers().await;
    let own = ServerId::new("a").unwrap();
    for n in 0..9 {
        offers.say(at(&format!("s{n}"), "h:1")).await.unwrap();
    }
    offers.say(Publish { state: Some(ServiceState::Failed), ..at("dead", "h:1") }).await.unwrap();
    let (reason, within) = (Reason::new("disks").unwrap(), Duration::from_secs(60));
    let moved = away(&offers.handle, &own, &reason, within).await.unwrap();
    assert_eq!((moved.told.len(), &moved.not_told), (8, &vec![name("s8")]));
    let text = moved.text(within);
    assert!(
        text.starts_with(
            "; clients of s0, s1, s2, s3, s4, s5, s6, s7 are to leave within 1m; those of s8 are"
        ),
        "{text}"
    );
    assert!(text.contains("8 migrations go on"), "{text}");
    let catalog = offers.handle.catalog();
    assert!(catalog.migrations.iter().all(|known| known.migration.reason == reason));
    let again = away(&offers.handle, &own, &reason, within).await.unwrap();
    assert_eq!((again.told.len(), again.not_told.len()), (0, 1), "the others are told already");
    assert_eq!(moving::Moved::default().text(within), "");
}
