//! A partition: the majority keeps the quorum, the minority loses it, and both come together again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lastseen::net::Clock;
use lastseen::proto::Time;

use crate::confined::{Cut, in_a_network_of_its_own};
use crate::harness::{AT_ALL, Cluster, Expected, within};

const NODES: usize = 5;
const DOWN_WITHIN: Duration = Duration::from_secs(8);
/// From then on no two sides have a quorum at once.
const ONE_QUORUM_AFTER: Duration = Duration::from_secs(3);
/// The first pings to who is Down are close together.
const HEALED_SOON: Duration = Duration::from_secs(8);
/// Later ones come every ten intervals, and those of all pairs that were cut at one moment come in step.
const HEALED_LATE: Duration = Duration::from_secs(10 + 2);
/// Who is cut off from all others, for how long, and how long it may take until all is well.
const SPLITS: [([usize; 2], Duration, Duration); 3] = [
    ([3, 4], Duration::from_secs(10), HEALED_SOON),
    ([0, 2], Duration::from_secs(20), HEALED_LATE),
    ([1, 4], Duration::from_secs(40), HEALED_LATE),
];

/// An answer of `/quorumz`.
struct Answer {
    asked: Time,
    node: usize,
    quorum: bool,
}

#[test]
#[ignore = "needs root: network namespaces, nft"]
fn never_two_sides_with_a_quorum() {
    in_a_network_of_its_own(|| {
        let cluster = Cluster::start_apart(NODES, "error");
        let all = |quorum: bool| (0..NODES).all(|n| cluster.has_quorum(n) == Some(quorum));
        within(AT_ALL, || all(true).then_some(())).expect("all have a quorum at first");
        for (minority, length, healed_within) in SPLITS {
            split(&cluster, &minority, length, healed_within);
            within(AT_ALL, || all(true).then_some(())).expect("all have a quorum again");
        }
    });
}

/// Cuts the minority off for so long, and lets it back in.
fn split(cluster: &Cluster, minority: &[usize], length: Duration, healed_within: Duration) {
    let is_cut = |a: usize, b: usize| minority.contains(&a) != minority.contains(&b);
    let pairs = (0..NODES).flat_map(|a| (0..NODES).map(move |b| (a, b))).filter(|(a, b)| a != b);
    let ip = |n: usize| cluster.nodes[n].udp.ip();
    let directions: Vec<_> = pairs.filter(|(a, b)| is_cut(*a, *b)).map(|(a, b)| (ip(a), ip(b))).collect();

    let since = Clock.now();
    let cut = Cut::begin(&directions);
    let (answers, moments) = sampled(cluster, || {
        let down = |n: usize| {
            let what = format!("n{} calls the other side down, and no other node", n + 1);
            Expected::new(what, DOWN_WITHIN, move || calls_down(cluster, n, |other| is_cut(n, other)))
        };
        let moments = cluster.moments(since, &(0..NODES).map(down).collect::<Vec<_>>());
        within(length.saturating_sub(Clock.now().since(since)), || None::<()>);
        for n in 0..NODES {
            assert!(calls_down(cluster, n, |other| is_cut(n, other)), "{}", cluster.tell());
        }
        moments
    });
    let began = Clock.now();
    let dropped = cut.end();
    let healed = cluster.healed(began, healed_within);

    for answer in &answers {
        let (at, n) = (answer.asked.since(since), answer.node + 1);
        if !minority.contains(&answer.node) {
            assert!(answer.quorum, "n{n} of the majority has no quorum {at:?} after the cut");
        } else if at > ONE_QUORUM_AFTER {
            assert!(!answer.quorum, "n{n} of the minority has a quorum {at:?} after the cut");
        }
    }
    for n in 0..NODES {
        let count = answers.iter().filter(|answer| answer.node == n).count();
        assert!(count as f64 > length.as_secs_f64(), "n{} has answered {count} times in {length:?}", n + 1);
    }
    let lost = answers.iter().filter(|answer| answer.quorum && minority.contains(&answer.node));
    let lost = lost.map(|answer| answer.asked.since(since)).max().unwrap_or_default();
    println!(
        "split for {length:?}: minority's last quorum {lost:.2?}, down {moments:.2?}, healed {healed:.2?}; \
         {} answers, {dropped} dropped",
        answers.len()
    );
}

/// Whether `observer` calls just these down, and all others healthy.
fn calls_down(cluster: &Cluster, observer: usize, is_down: impl Fn(usize) -> bool) -> bool {
    let peers = cluster.peers(observer);
    let status = |n: usize| peers.iter().find(|peer| peer["server_id"] == *cluster.nodes[n].id);
    let right = |n: usize| {
        status(n).is_some_and(|peer| peer["status"] == if is_down(n) { "down" } else { "healthy" })
    };
    (0..NODES).filter(|n| *n != observer).all(right)
}

/// Asks all nodes for their quorum, over and over, while `run` runs.
fn sampled<T>(cluster: &Cluster, run: impl FnOnce() -> T) -> (Vec<Answer>, T) {
    /// Also when `run` panics, or nobody would ever see that.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let is_over = AtomicBool::new(false);
    let ask = |node| {
        let asked = Clock.now();
        cluster.has_quorum(node).map(|quorum| Answer { asked, node, quorum })
    };
    std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut answers = Vec::new();
            within(Duration::MAX, || {
                answers.extend((0..NODES).filter_map(ask));
                is_over.load(Ordering::Relaxed).then_some(())
            });
            answers
        });
        let end = End(&is_over);
        let result = run();
        drop(end);
        (sampler.join().unwrap(), result)
    })
}
