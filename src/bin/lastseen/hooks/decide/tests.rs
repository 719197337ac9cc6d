use lastseen::proto::{PeerStatus, SelfHealth, Verdict};

use super::*;
use crate::settings::Action;

const SECOND: Duration = Duration::from_secs(1);

fn hook(words: &[&str]) -> Hook {
    let word = |text: &&str| Word::all().find(|word| word.as_str() == *text).unwrap();
    Hook {
        name: "h".into(),
        on: words.iter().map(word).collect(),
        action: Action::Command(vec!["/bin/true".into()]),
        timeout: SECOND,
        at_most: 1,
        only_with_quorum: false,
        hold_on_mass_loss: true,
        damping: 300 * SECOND,
    }
}

/// Hooks with a hand clock, in seconds, at an interval of one.
struct Bench {
    decider: Decider,
    standings: BTreeMap<String, (PeerStatus, Verdict)>,
    now: u64,
    held: u64,
}

use PeerStatus::{Down, Healthy, Suspected};

impl Bench {
    fn new(hooks: Vec<Hook>) -> Bench {
        let decider = Decider::new(hooks.into(), SECOND);
        Bench { decider, standings: BTreeMap::new(), now: 0, held: 0 }
    }

    fn at(&self) -> Time {
        Time::ZERO + Duration::from_secs(self.now)
    }

    fn event(&mut self, peer: Option<&str>, change: Change, verdict: Option<Verdict>) {
        let peer = peer.map(Arc::from);
        let event = Event {
            at: self.at(),
            peer,
            observed: true,
            change,
            verdict,
            why: String::new(),
            evidence: None,
        };
        self.decider.handle_event((Some(1), Arc::new(event)), self.at());
    }

    /// A peer is so now; told as the core tells it.
    fn is(&mut self, peer: &str, status: PeerStatus, verdict: Verdict) {
        let was = self.standings.insert(peer.to_owned(), (status, verdict)).unwrap_or((Healthy, Verdict::Up));
        let change = if was.0 == status {
            Change::Verdict { from: was.1, to: verdict }
        } else {
            Change::Status { from: was.0, to: status }
        };
        self.event(Some(peer), change, Some(verdict));
    }

    /// Time passes, second by second; whom the hooks are called for meanwhile: place, peer and word.
    fn calls(&mut self, seconds: u64) -> Vec<String> {
        let mut calls = Vec::new();
        for passed in 0..=seconds {
            self.now += u64::from(passed > 0);
            self.decider.handle_timeout(self.at());
            self.held += self.decider.take_held();
            while let Some(call) = self.decider.poll_call() {
                let peer = call.event.1.peer.as_deref().unwrap_or("-").to_owned();
                calls.push(format!("{} {peer} {}", call.hook, call.word.as_str()));
            }
        }
        calls
    }
}

#[test]
fn a_down_is_told_once_and_after_two_intervals() {
    let mut bench = Bench::new(vec![hook(&["down"])]);
    bench.is("a", Suspected, Verdict::Down);
    bench.is("a", Down, Verdict::Down);
    assert_eq!(bench.calls(1), [""; 0]);
    assert_eq!(bench.calls(1), ["0 a down"]);
    bench.is("a", Down, Verdict::Refused);
    assert_eq!(bench.calls(1000), [""; 0], "it is down still, and that is no news");
    assert_eq!((bench.held, bench.decider.poll_timeout()), (0, None), "nothing waits");
}

#[test]
fn who_is_back_before_is_not_told_of() {
    let mut bench = Bench::new(vec![hook(&["down", "healthy"])]);
    bench.is("a", Down, Verdict::Down);
    assert_eq!(bench.calls(1), [""; 0]);
    bench.is("a", Healthy, Verdict::Up);
    assert_eq!(bench.calls(100), [""; 0]);
    assert_eq!(bench.held, 2, "nor is its return, since nobody knows that it was away");
}

#[test]
fn what_is_no_alarm_is_none_until_it_becomes_one() {
    let mut bench = Bench::new(vec![hook(&["down", "suspected"]), hook(&["left"])]);
    bench.is("a", Healthy, Verdict::Left);
    bench.is("a", Down, Verdict::Left);
    bench.is("new", Suspected, Verdict::Unknown);
    bench.is("new", Down, Verdict::Unknown);
    assert_eq!(bench.calls(600), ["1 a left"]);
    bench.is("a", Down, Verdict::Down);
    assert_eq!(bench.calls(3), ["0 a down"], "it did not come back in time");
    assert_eq!(bench.held, 0);
}

#[test]
fn one_event_is_one_call_of_a_hook() {
    let mut bench = Bench::new(vec![hook(&["refused", "down"]), hook(&["refused"]), hook(&["link_down"])]);
    bench.is("a", Down, Verdict::Refused);
    assert_eq!(bench.calls(5), ["0 a refused", "1 a refused"]);
}

#[test]
fn a_mass_loss_puts_alarms_off_and_loses_none() {
    let held = hook(&["down", "mass_loss", "mass_loss_over"]);
    let hasty = Hook { hold_on_mass_loss: false, ..hook(&["down"]) };
    let mut bench = Bench::new(vec![held, hasty]);
    for peer in ["a", "b", "c"] {
        bench.is(peer, Down, Verdict::Down);
    }
    bench.event(None, Change::MassLoss { begins: true }, None);
    assert_eq!(bench.calls(100), ["1 a down", "1 b down", "1 c down", "0 - mass_loss"]);
    bench.is("a", Healthy, Verdict::Up);
    bench.event(None, Change::MassLoss { begins: false }, None);
    assert_eq!(bench.calls(1), ["0 - mass_loss_over", "0 b down", "0 c down"]);
    assert_eq!(bench.held, 1, "a is back");
}

#[test]
fn a_peer_is_told_of_again_only_after_a_while_but_then_it_is() {
    let mut bench = Bench::new(vec![hook(&["down", "healthy"])]);
    bench.is("a", Down, Verdict::Down);
    assert_eq!(bench.calls(2), ["0 a down"]);
    bench.is("a", Healthy, Verdict::Up);
    assert_eq!(bench.calls(0), ["0 a healthy"], "good news is not put off");
    bench.is("a", Down, Verdict::Down);
    bench.is("b", Down, Verdict::Down);
    assert_eq!(bench.calls(298), ["0 b down"], "another peer is not damped");
    assert_eq!(bench.calls(5), ["0 a down"], "5 min after the first time, since it is down still");
    bench.is("a", Healthy, Verdict::Up);
    bench.is("a", Down, Verdict::Down);
    bench.is("a", Healthy, Verdict::Up);
    assert_eq!(bench.calls(1000), ["0 a healthy"]);
    assert_eq!(bench.held, 2, "the third time, and the return from it");
}

#[test]
fn what_acts_waits_for_a_quorum() {
    let mut bench = Bench::new(vec![
        Hook { only_with_quorum: true, ..hook(&["down", "self"]) },
        hook(&["quorum_lost", "quorum_gained"]),
    ]);
    let health = Change::Health { from: SelfHealth::Ok, to: SelfHealth::Isolated };
    bench.event(None, health.clone(), None);
    bench.is("a", Down, Verdict::Down);
    bench.is("b", Down, Verdict::Down);
    assert_eq!(bench.calls(100), [""; 0]);
    assert_eq!(bench.held, 1, "what only happens does not wait");
    bench.is("b", Healthy, Verdict::Up);
    bench.event(None, Change::Quorum { available: true }, None);
    assert_eq!(bench.calls(1), ["1 - quorum_gained", "0 a down"]);
    bench.event(None, health, None);
    bench.event(None, Change::Quorum { available: false }, None);
    assert_eq!(bench.calls(1), ["0 - self", "1 - quorum_lost"]);
}

#[test]
fn what_only_happens_is_told_at_once_and_damped() {
    let mut bench = Bench::new(vec![hook(&["restart"])]);
    let mut restart = |peer| {
        bench.event(Some(peer), Change::Restart, Some(Verdict::Up));
        bench.calls(0)
    };
    assert_eq!(restart("a"), ["0 a restart"]);
    assert_eq!(restart("a"), [""; 0]);
    assert_eq!(restart("b"), ["0 b restart"]);
    bench.event(None, Change::MassLoss { begins: true }, None);
    bench.event(Some("c"), Change::Restart, Some(Verdict::Up));
    assert_eq!((bench.calls(500), bench.held), (vec![], 2));
}

#[test]
fn who_has_gone_from_the_roster_is_not_told_of() {
    let mut bench = Bench::new(vec![hook(&["down"])]);
    bench.is("a", Down, Verdict::Down);
    bench.is("b", Down, Verdict::Down);
    bench.decider.keep(|peer| peer != "a");
    assert_eq!((bench.calls(10), bench.held), (vec!["0 b down".to_owned()], 1));
    assert_eq!(bench.decider.standing("a"), Standing::FINE);
}

#[test]
fn where_good_news_is_all_it_is_news() {
    let mut bench = Bench::new(vec![Hook { hold_on_mass_loss: false, ..hook(&["up"]) }]);
    bench.is("a", Healthy, Verdict::Unknown);
    bench.is("b", Healthy, Verdict::Up);
    assert_eq!(bench.calls(0), [""; 0], "b was presumed so");
    bench.is("a", Healthy, Verdict::Up);
    assert_eq!(bench.calls(0), ["0 a up"]);
}

#[test]
fn hooks_that_stay_keep_what_waits() {
    let (down, left) = (hook(&["down"]), hook(&["left"]));
    let mut bench = Bench::new(vec![hook(&["suspected"]), down.clone()]);
    bench.is("told", Down, Verdict::Down);
    assert_eq!(bench.calls(2), ["1 told down"]);
    bench.is("a", Suspected, Verdict::Up);
    bench.is("b", Down, Verdict::Down);
    bench.decider.set([left, down].into());
    bench.is("told", Healthy, Verdict::Up);
    bench.is("told", Down, Verdict::Down);
    assert_eq!(bench.calls(10), ["1 b down"], "a's hook is gone; the other one has told of this peer before");
    assert_eq!(bench.held, 1);
    assert_eq!(bench.calls(300), ["1 told down"]);
}
