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
        needs: Needs::Nothing,
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
fn what_needs_the_guard_waits_for_it() {
    let guarded = Hook { needs: Needs::Guard, ..hook(&["down", "self"]) };
    let mut bench = Bench::new(vec![guarded]);
    let health = Change::Health { from: SelfHealth::Ok, to: SelfHealth::Isolated };
    bench.event(None, Change::Quorum { available: true }, None);
    bench.event(None, health.clone(), None);
    bench.is("a", Down, Verdict::Down);
    bench.is("b", Down, Verdict::Down);
    assert_eq!(bench.calls(100), [""; 0], "a quorum is not enough");
    assert_eq!(bench.held, 1, "what only happens does not wait");
    bench.is("b", Healthy, Verdict::Up);
    bench.decider.set_guard(true);
    assert_eq!(bench.calls(1), ["0 a down"]);
    bench.event(None, health, None);
    assert_eq!((bench.calls(0), bench.decider.poll_question()), (vec!["0 - self".to_owned()], None));
}

/// Who is asked about, while so many seconds pass.
fn questions(bench: &mut Bench, seconds: u64) -> Vec<String> {
    let calls = bench.calls(seconds);
    assert_eq!(calls, [""; 0]);
    std::iter::from_fn(|| bench.decider.poll_question()).map(|peer| peer.to_string()).collect()
}

fn takeover(words: &[&str]) -> Hook {
    Hook { needs: Needs::Takeover, ..hook(words) }
}

#[test]
fn what_takes_over_waits_until_that_is_safe() {
    let mut bench = Bench::new(vec![takeover(&["down"]), takeover(&["refused"])]);
    let a: Arc<str> = "a".into();
    bench.is("a", Down, Verdict::Refused);
    assert_eq!(questions(&mut bench, 10), [""; 0], "without the guard nobody need be asked");
    bench.decider.set_guard(true);
    assert_eq!(questions(&mut bench, 10), ["a"], "once, whatever waits for the answer");
    bench.decider.handle_answer(&a, None, bench.at());
    assert_eq!(questions(&mut bench, 1), ["a"], "not yet, so it is asked again");
    let until = bench.at() + SECOND;
    bench.decider.handle_answer(&a, Some(until), bench.at());
    bench.decider.set_guard(false);
    assert_eq!(questions(&mut bench, 0), [""; 0], "the guard is lost meanwhile");
    bench.decider.set_guard(true);
    bench.now += 1;
    assert_eq!(questions(&mut bench, 0), ["a"], "the answer is too old by then");
    let until = bench.at() + SECOND;
    bench.decider.handle_answer(&a, Some(until), bench.at());
    assert_eq!(bench.calls(0), ["0 a down", "1 a refused"]);
    assert_eq!((bench.calls(1000), bench.held, bench.decider.poll_question()), (vec![], 0, None));
}

#[test]
fn who_is_back_is_not_taken_over() {
    let mut bench = Bench::new(vec![takeover(&["down"])]);
    bench.decider.set_guard(true);
    bench.is("a", Down, Verdict::Down);
    assert_eq!(questions(&mut bench, 3), ["a"]);
    bench.is("a", Healthy, Verdict::Up);
    bench.decider.handle_answer(&"a".into(), Some(bench.at() + SECOND), bench.at());
    assert_eq!((questions(&mut bench, 10), bench.held), (vec![], 1));
}

#[test]
fn all_have_their_turn_to_be_asked_about() {
    let mut bench = Bench::new(vec![Hook { hold_on_mass_loss: false, ..takeover(&["down"]) }]);
    bench.decider.set_guard(true);
    let peers = ["a", "b", "c", "d", "e", "f"];
    peers.iter().for_each(|peer| bench.is(peer, Down, Verdict::Down));
    let mut asked = Vec::new();
    for _ in 0..3 {
        let now = questions(&mut bench, 1);
        assert_eq!(now.len(), QUESTIONS);
        for peer in &now {
            bench.decider.handle_answer(&peer.as_str().into(), None, bench.at());
        }
        asked.extend(now);
    }
    assert_eq!(asked.concat(), "abcdefabcdef");
}

#[test]
fn what_does_not_hold_right_before_the_call_waits_again() {
    let mut bench = Bench::new(vec![takeover(&["down"]), Hook { needs: Needs::Guard, ..hook(&["restart"]) }]);
    bench.decider.set_guard(true);
    let call = |bench: &mut Bench| {
        assert_eq!(questions(bench, 3), ["a"]);
        bench.decider.handle_answer(&"a".into(), Some(bench.at() + 60 * SECOND), bench.at());
        bench.decider.handle_timeout(bench.at());
        bench.decider.poll_call().unwrap()
    };
    bench.is("a", Down, Verdict::Down);
    let first = call(&mut bench);
    bench.decider.put_back(&first, bench.at());
    let second = call(&mut bench);
    assert_eq!(
        (second.word, second.event.1.at),
        (first.word, first.event.1.at),
        "neither damped nor forgotten"
    );
    bench.is("a", Healthy, Verdict::Up);
    bench.decider.put_back(&second, bench.at());
    assert_eq!((questions(&mut bench, 10), bench.held), (vec![], 1), "it is back");
    bench.event(Some("a"), Change::Restart, Some(Verdict::Up));
    let restart = bench.decider.poll_call().unwrap();
    bench.decider.put_back(&restart, bench.at());
    assert_eq!((bench.calls(10), bench.held), (vec![], 2), "what only happened is held");
}

#[test]
fn an_alarm_that_was_not_made_has_no_all_clear() {
    let mut bench = Bench::new(vec![Hook { needs: Needs::Guard, ..hook(&["down", "healthy"]) }]);
    bench.decider.set_guard(true);
    bench.is("a", Down, Verdict::Down);
    assert_eq!(bench.calls(1), [""; 0]);
    bench.now += 1;
    bench.decider.handle_timeout(bench.at());
    let call = bench.decider.poll_call().unwrap();
    bench.decider.put_back(&call, bench.at());
    bench.is("a", Healthy, Verdict::Up);
    assert_eq!((bench.calls(10), bench.held), (vec![], 2));
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
