//! What a cluster will do and cost, from formulas, and from runs.
//!
//! Theory, for independent loss p in each direction: a try fails with q1 = 1 - (1-p)^2, since ping and pong must pass. A
//! heartbeat is missed if its three tries fail, and what m relays are asked, four datagrams each: q = q1^3 (e + (1-e) (1 -
//! (1-p)^4)^m), where e is the part of the silent heartbeats about which nobody is asked any more, since a node asks 64
//! questions an interval at most. The detector counts any sign of life, so this is an upper bound, for paths no slower than
//! [`Prediction::slowest_round_trip`]. Misses of different heartbeats being independent, an observer calls a healthy peer Down 3600/T (1-q) q^k times an hour, at an interval of T seconds and k
//! misses in a row. A silent crash is Down after a time that is uniform on ((k-1) T + timeout, k T + timeout].

use std::time::Duration;

use super::link::{Rule, Scope};
use super::rng::Rng;
use super::world::{Setup, World, index};
use crate::proto::{Change, Observers, PeerConfig, PeerStatus};

/// Tries in a heartbeat.
const TRIES: i32 = 3;
/// Other nodes asked in a heartbeat: two rounds of three.
const RELAYS: usize = 6;
/// How much later, in intervals, those hear of a crash who do not observe the crashed node, about.
const TOLD: f64 = 0.15;
/// Questions of a node in an interval.
const QUESTIONS: f64 = 64.0;
/// An idle ping or pong on an IPv4 network: 22 bytes header, 12 body, 16 seal, 28 IPv4 and UDP. Of 256 pings, and so of 512
/// datagrams, one is padded to 1200 bytes of UDP payload.
pub const DATAGRAM_BYTES: f64 = 78.0 + (1228.0 - 78.0) / 512.0;

/// A cluster and its settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// How many nodes.
    pub nodes: usize,
    /// How many of them observe each.
    pub observers: Observers,
    /// Independent loss in each direction, 0 up to, but without, 1.
    pub loss: f64,
    /// One heartbeat a pair every so often.
    pub interval: Duration,
    /// A heartbeat without evidence for so long is a miss.
    pub timeout: Duration,
    /// Misses in a row that make a peer Down.
    pub down_after: u32,
}

/// What formulas say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// From a silent crash to Down at one node: half of the times, 99 of 100, and at most. Who does not observe the crashed
    /// one is told by most of its observers, a seventh of an interval later.
    pub detection: [Duration; 3],
    /// The probability that a heartbeat of a healthy peer is missed, at most.
    pub miss: f64,
    /// False Downs in the whole cluster in a day, at most.
    pub false_downs: f64,
    /// The slowest steady path on which all tries and relays fit into the timeout. With r the round trip and l the
    /// longest that a loop leaves a datagram unread, a try follows another after r + 2l, and a question that goes out
    /// with the third passes two paths and three loops: 2 (r + 2l) + 2r + 3l.
    pub slowest_round_trip: Duration,
    /// Datagrams that a node sends in a second while nothing is lost; it receives as many.
    pub datagrams: f64,
    /// The same with this loss, about.
    pub datagrams_under_loss: f64,
}

impl Prediction {
    /// Bytes that a node sends in a second while nothing is lost, headers included.
    pub fn bytes(&self) -> f64 {
        self.datagrams * DATAGRAM_BYTES
    }
}

impl Plan {
    /// What the formulas say of it.
    pub fn predict(&self) -> Prediction {
        let (t, tau, k) = (self.interval, self.timeout, f64::from(self.down_after));
        let told = if self.degree() + 1 < self.nodes { TOLD } else { 0.0 };
        let at = |share: f64| t.mul_f64(k - 1.0 + share + told) + tau;
        let peers = self.degree() as f64;
        let q = self.miss();
        let hourly = 3600.0 / t.as_secs_f64() * (1.0 - q) * q.powi(self.down_after as i32);
        let quiet = peers / t.as_secs_f64();
        Prediction {
            detection: [at(0.5), at(0.99), at(1.0)],
            miss: q,
            false_downs: hourly * 24.0 * peers * self.nodes as f64,
            slowest_round_trip: tau.saturating_sub(self.config().laziness() * 7) / 4,
            datagrams: quiet,
            datagrams_under_loss: quiet * self.cost_of_loss(),
        }
    }

    /// False Downs in the whole cluster in `length`, on paths of this round trip: at most so many in 999 of 1000 runs. Where
    /// the path is too slow for more than one try, only that counts.
    pub(super) fn most_false_downs(&self, round_trip: Duration, length: Duration) -> u64 {
        let said = self.predict();
        let one_try = 1.0 - (1.0 - self.loss).powi(2);
        let q = if round_trip <= said.slowest_round_trip { said.miss } else { one_try };
        // Losses may overlap for a part of the time: between none and all of them the rate is highest at k / (k + 1).
        let k = f64::from(self.down_after);
        let q = q.min(k / (k + 1.0));
        let heartbeats = length.as_secs_f64() / self.interval.as_secs_f64();
        let pairs = (self.nodes * self.degree()) as f64;
        poisson_999(pairs * heartbeats * (1.0 - q) * q.powi(self.down_after as i32))
    }

    /// How many observe one node.
    pub fn degree(&self) -> usize {
        self.observers.most(self.nodes.saturating_sub(1))
    }

    fn miss(&self) -> f64 {
        let passes = 1.0 - self.loss;
        let relays = RELAYS.min(self.degree().saturating_sub(1)) as i32;
        let unasked = self.unasked();
        let by_relays = (1.0 - passes.powi(4)).powi(relays);
        (1.0 - passes.powi(2)).powi(TRIES) * (unasked + (1.0 - unasked) * by_relays)
    }

    /// Questions that a node has in an interval, about all peers. The leader of a pair asks three with its first retry,
    /// three more with the second if none of them answered; the follower when no try of the leader came.
    fn questions(&self) -> f64 {
        let passes = 1.0 - self.loss;
        let q1 = 1.0 - passes * passes;
        let relays = 3.0_f64.min(self.degree().saturating_sub(1) as f64);
        let silent = (1.0 - passes.powi(4)).powf(relays);
        let pairs = self.degree() as f64 / 2.0;
        pairs * (q1 + q1 * q1 * silent + self.loss.powi(TRIES)) * relays
    }

    /// The probability that the questions of an interval are spent before a certain peer's turn: so many rounds about
    /// others came before. Their number is about Poisson's; where the mean alone is so much, 1.
    fn unasked(&self) -> f64 {
        let (mean, rounds) = (self.questions() / 3.0, (QUESTIONS / 3.0) as u32);
        if mean >= f64::from(rounds) {
            return 1.0;
        }
        // The tail term by term: as a difference to 1 it would drown in rounding.
        let first = (1..=rounds).fold((-mean).exp(), |term, i| term * mean / f64::from(i));
        let terms = (rounds + 1..rounds + 200).scan(first, |term, i| {
            let this = *term;
            *term *= mean / f64::from(i);
            Some(this)
        });
        terms.sum()
    }

    /// How much more than without loss is sent: pings and their pongs until one try succeeds, and what relays pass on.
    fn cost_of_loss(&self) -> f64 {
        let passes = 1.0 - self.loss;
        let q1 = 1.0 - passes * passes;
        let tries = (1.0 + q1 + q1 * q1) * (1.0 + passes) / 2.0;
        let relayed = 1.0 + passes + passes.powi(2) + passes.powi(3);
        tries + self.questions().min(QUESTIONS) * relayed / self.degree().max(1) as f64
    }

    /// The longest interval, and so the cheapest settings for so many nodes and observers under this loss, with which 99 of
    /// 100 crashes are Down within `detect` and at most `false_downs` false Downs are expected in the whole cluster in a
    /// day; `None`: there is none.
    pub fn cheapest(&self, detect: Duration, false_downs: f64) -> Option<Plan> {
        self.within(detect).find(|plan| plan.predict().false_downs <= false_downs)
    }

    /// For each number of misses the longest interval with which 99 of 100 crashes are Down within `detect`.
    fn within(&self, detect: Duration) -> impl Iterator<Item = Plan> {
        let told = if self.degree() + 1 < self.nodes { TOLD } else { 0.0 };
        (3..=10)
            .map(move |down_after| {
                // (k - 1 + 0.99 + told) T + T/2 <= D, in steps of 10 ms.
                let longest = detect.as_secs_f64() / (f64::from(down_after) + 0.49 + told);
                let interval = Duration::from_millis((longest * 100.0).floor() as u64 * 10);
                Plan { interval, timeout: interval / 2, down_after, ..*self }
            })
            .filter(Plan::is_valid)
    }

    /// What would do where a wish cannot be met: the least time to detect with as many false Downs, in steps of a tenth, up
    /// to an hour; and the fewest false Downs a day with as much time.
    pub fn instead(&self, detect: Duration, false_downs: f64) -> (Option<Duration>, Option<f64>) {
        let longer = std::iter::successors(Some(detect), |d| Some(d.mul_f64(1.1)));
        let mut longer = longer.take_while(|d| *d <= Duration::from_secs(3600));
        let enough = longer.find(|d| self.cheapest(*d, false_downs).is_some());
        (enough, self.within(detect).map(|plan| plan.predict().false_downs).min_by(f64::total_cmp))
    }

    fn is_valid(&self) -> bool {
        PeerConfig { server_id: "n0".into(), ..self.config() }.validate().is_ok()
    }

    fn config(&self) -> PeerConfig {
        PeerConfig {
            heartbeat_interval: self.interval,
            heartbeat_timeout: self.timeout,
            down_after: self.down_after,
            suspect_after: 2.min(self.down_after.saturating_sub(1)),
            max_backoff: self.interval * 10,
            observers: self.observers,
            ..Setup::new(2).config
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn check(&self) -> Result<(), String> {
        if !(2..=20_000).contains(&self.nodes) {
            return Err(format!("{} nodes; it must be 2 to 20000", self.nodes));
        }
        if !(0.0..1.0).contains(&self.loss) {
            return Err(format!("a loss of {}; it must be 0 % to less than 100 %", self.loss));
        }
        PeerConfig { server_id: "n0".into(), ..self.config() }.validate().map_err(|e| e.to_string())
    }

    /// Simulates `crashes` silent crashes, one after the other, under the plan's loss.
    pub fn simulate(&self, crashes: u32, seed: u64) -> Measured {
        let setup = Setup { config: self.config(), cheap_seal: true, ..Setup::new(self.nodes) };
        let (mut world, mut rng) = (World::new(setup, seed), Rng::new(!seed));
        world.run_for(self.interval * 10);
        world.add_rule(Scope::All, Rule::Loss(self.loss));
        world.run_for(self.interval * 5);
        let mut m = Measured::default();
        world.take_records();
        let (start, before) = (world.elapsed(), sent(&world));
        world.run_for(self.interval * 30);
        let quiet = (world.elapsed() - start).as_secs_f64() * self.nodes as f64;
        m.datagrams = (sent(&world).0 - before.0) as f64 / quiet;
        m.bytes = (sent(&world).1 - before.1) as f64 / quiet + m.datagrams * 28.0;
        for _ in 0..crashes {
            world.run_for(rng.between(Duration::ZERO, self.interval));
            let victim = rng.below(self.nodes) as u32;
            let at = world.now();
            // Who has not noticed yet that it is back from its last crash notices nothing now.
            let notices = |n: &u32| *n != victim && world.status(*n, victim) != Some(PeerStatus::Down);
            m.expected += (0..self.nodes as u32).filter(notices).count();
            world.crash(victim, false);
            world.run_for(self.interval * (self.down_after + 2) + self.timeout);
            for record in world.take_records() {
                if !matches!(record.event.change, Change::Status { to: PeerStatus::Down, .. }) {
                    continue;
                }
                if record.event.peer.as_deref().and_then(index) == Some(victim) {
                    m.detection.push(record.at.since(at));
                } else {
                    m.false_downs += 1;
                }
            }
            world.start(victim);
            world.run_for(self.interval * 4);
            world.take_records();
        }
        m.detection.sort();
        m.length = world.elapsed();
        m
    }
}

/// The least number that a Poisson variable of this mean exceeds in at most one of 1000 cases.
fn poisson_999(mean: f64) -> u64 {
    let (mut n, mut term) = (0, (-mean).exp());
    let mut sum = term;
    // Far out where the mean is large the first terms vanish, and with them the sum: then the normal distribution serves.
    if mean > 100.0 {
        return (mean + 3.1 * mean.sqrt() + 2.0) as u64;
    }
    while sum < 0.999 {
        n += 1;
        term *= mean / n as f64;
        sum += term;
    }
    n
}

fn sent(world: &World) -> (u64, u64) {
    (0..world.len() as u32).map(|n| world.host(n).sent()).fold((0, 0), |a, s| (a.0 + s.0, a.1 + s.1))
}

/// What runs showed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// From each crash to Down at each observer, in order.
    pub detection: Vec<Duration>,
    /// How many there should be.
    pub expected: usize,
    /// Downs about nodes that ran.
    pub false_downs: u64,
    /// Datagrams that a node sent in a second, with the loss.
    pub datagrams: f64,
    /// Bytes that a node sent in a second, with the loss, headers included.
    pub bytes: f64,
    /// How long the runs were.
    pub length: Duration,
}

impl Measured {
    /// The detection time that this share of all was no longer than; `None`: nothing was detected.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let last = self.detection.len().checked_sub(1)?;
        self.detection.get((last as f64 * share).round() as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn plan(nodes: usize, loss: f64) -> Plan {
        Plan { nodes, observers: Observers::All, loss, interval: SECOND, timeout: SECOND / 2, down_after: 5 }
    }

    /// False Downs a peer-hour at a miss probability of q.
    fn hourly(q: f64) -> f64 {
        3600.0 * (1.0 - q) * q.powi(5)
    }

    #[test]
    fn formulas_give_the_published_figures() {
        // The table of reference: reply only, and any new datagram where both sides ping, without retries.
        let cases = [(0.01, 1.1e-5, 1.1e-15), (0.05, 0.029, 9.9e-9), (0.1, 0.72, 8.7e-6), (0.3, 60.9, 0.26)];
        for (p, reply_only, any) in cases {
            let q1 = 1.0 - (1.0f64 - p).powi(2);
            for (q, wanted) in [(q1, reply_only), (p * q1, any)] {
                assert!((hourly(q) / wanted - 1.0f64).abs() < 0.06, "{p}: {} for {wanted}", hourly(q));
            }
        }
        // Two nodes have no relay: the tries alone.
        let q = plan(2, 0.3).predict().miss;
        assert!((q - 0.51f64.powi(3)).abs() < 1e-12, "{q}");
        let three = plan(3, 0.3).predict().miss;
        assert!((three - q * (1.0 - 0.7f64.powi(4))).abs() < 1e-12, "{three}");
    }

    #[test]
    fn questions_run_out_in_large_meshes() {
        // Measured in runs of 200 nodes: 1.04e-3 and 2.94e-2 of all heartbeats were missed at 15 and 30 %.
        for (loss, measured) in [(0.15, 1.04e-3), (0.3, 2.94e-2)] {
            let miss = plan(200, loss).predict().miss;
            assert!(miss > measured && miss < measured * 30.0, "{loss}: {miss}");
        }
        assert!(plan(16, 0.3).unasked() < 0.01 && plan(200, 0.02).unasked() < 0.01);
        assert_eq!(plan(16, 0.0).predict().slowest_round_trip, Duration::from_micros(37_500));
    }

    #[test]
    fn a_run_stays_within_the_formulas() {
        for loss in [0.0, 0.1, 0.3] {
            let plan = plan(16, loss);
            let (said, seen) = (plan.predict(), plan.simulate(20, 1));
            assert_eq!(seen.detection.len(), seen.expected, "every crash is seen by all");
            assert_eq!(seen.false_downs, 0);
            assert!(seen.quantile(0.99).unwrap() <= said.detection[2] + SECOND, "{seen:?}");
            let half = seen.quantile(0.5).unwrap();
            assert!(half.abs_diff(said.detection[0]) < SECOND / 3, "{half:?}");
            assert!(seen.datagrams < said.datagrams_under_loss * 1.1, "{} {said:?}", seen.datagrams);
            // The formula counts no sign of life that comes with what others ask.
            assert!(seen.datagrams > said.datagrams_under_loss * 0.75, "{} {said:?}", seen.datagrams);
            if loss == 0.0 {
                assert!((seen.datagrams / said.datagrams - 1.0).abs() < 0.02, "{}", seen.datagrams);
                assert!(seen.bytes <= said.bytes() && seen.bytes > said.bytes() * 0.85, "{}", seen.bytes);
            }
        }
    }

    #[test]
    fn rings_cost_what_their_observers_cost() {
        let plan = Plan { observers: Observers::Auto, ..plan(200, 0.02) };
        let (said, seen) = (plan.predict(), plan.simulate(8, 1));
        assert_eq!((plan.degree(), said.datagrams), (16, 16.0));
        assert!(
            (seen.datagrams / said.datagrams_under_loss - 1.0).abs() < 0.1,
            "{} {said:?}",
            seen.datagrams
        );
        assert_eq!((seen.detection.len(), seen.false_downs), (seen.expected, 0));
        for (share, said) in [(0.5, said.detection[0]), (0.99, said.detection[1])] {
            let seen = seen.quantile(share).unwrap();
            assert!(seen.abs_diff(said) < SECOND / 5, "{share}: {seen:?}, said was {said:?}");
        }
    }

    #[test]
    fn quantiles_of_poisson() {
        // From tables.
        for (mean, most) in [(0.0, 0), (0.0005, 0), (0.01, 1), (1.0, 5), (10.0, 21), (100.0, 132)] {
            assert_eq!(poisson_999(mean), most, "{mean}");
        }
        assert!(poisson_999(101.0).abs_diff(134) < 3);
    }

    #[test]
    fn what_cannot_be_had_is_not_promised() {
        assert_eq!(plan(200, 0.9).cheapest(SECOND * 5, 0.001), None);
        assert_eq!(plan(200, 0.02).cheapest(Duration::from_millis(20), 0.001), None);
        // What is proposed instead can be had, and hardly less would do.
        let wish = plan(20, 0.4);
        assert_eq!(wish.cheapest(SECOND, 1e-3), None);
        let (Some(enough), Some(fewest)) = wish.instead(SECOND, 1e-3) else { panic!("there is a way") };
        assert!(wish.cheapest(enough, 1e-3).is_some() && wish.cheapest(enough.mul_f64(0.9), 1e-3).is_none());
        assert!(wish.cheapest(SECOND, fewest).is_some() && wish.cheapest(SECOND, fewest * 0.9).is_none());
        assert_eq!(plan(20, 0.9).instead(SECOND, 1e-3).0, None, "no time is enough");
    }

    proptest! {
        #[test]
        fn the_cheapest_meets_the_wish_and_is_the_cheapest(
            nodes in 2usize..300, loss in 0.0..0.35f64, detect in 500u64..60_000,
        ) {
            let (detect, most) = (Duration::from_millis(detect), 1.0 / 365.0);
            if let Some(plan) = plan(nodes, loss).cheapest(detect, most) {
                let said = plan.predict();
                prop_assert!(plan.check().is_ok() && said.false_downs <= most && said.detection[1] <= detect);
                // One miss fewer would allow a longer interval, and too many false Downs.
                let longest = detect.as_secs_f64() / (f64::from(plan.down_after) - 0.51);
                let longer = Duration::from_millis((longest * 100.0).floor() as u64 * 10);
                let cheaper = Plan { interval: longer, timeout: longer / 2, down_after: plan.down_after - 1, ..plan };
                prop_assert!(plan.down_after == 3 || cheaper.predict().false_downs > most * 0.99);
            }
        }

        #[test]
        fn more_loss_is_never_better(nodes in 2usize..300, low in 0.0..0.5f64, more in 0.0..0.4f64) {
            let (a, b) = (plan(nodes, low).predict(), plan(nodes, low + more).predict());
            prop_assert!(a.miss <= b.miss && a.false_downs <= b.false_downs * 1.000_001);
        }
    }
}
