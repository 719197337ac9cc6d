//! Cut links and a node that hears nothing: what the ends say, what everybody else sees, and that nobody is blamed.

use std::net::IpAddr;
use std::time::Duration;

use lastseen::net::Clock;

use crate::confined::{Cut, in_a_network_of_its_own};
use crate::harness::{Cluster, Expected, watch};
use crate::innocent::{ACCUSED, DOWN, Innocent};

const NODES: usize = 6;
const NAMED_WITHIN: Duration = Duration::from_secs(8);
/// What both ends know is with all others so much later.
const SEEN_WITHIN: Duration = Duration::from_secs(8 + 3);
const HEALED_WITHIN: Duration = Duration::from_secs(8);
/// What was said once must stay so.
const STAYS: Duration = Duration::from_secs(5);
const ASK_EVERY: Duration = Duration::from_millis(200);
/// Pairs that are cut, one after the other: each end is a leader and a follower in its turn.
const PAIRS: [(usize, usize); 3] = [(0, 1), (4, 2), (5, 3)];

/// What one end of a link says of the other.
struct End {
    node: usize,
    other: usize,
    verdict: &'static str,
    why: &'static str,
    /// In the rows of all matrices.
    link: &'static str,
}

#[test]
#[ignore = "needs root: network namespaces, nft"]
fn a_link_cut_both_ways_is_named_at_both_ends_and_seen_by_all() {
    in_a_network_of_its_own(|| {
        let cluster = Cluster::start_apart(NODES, "error");
        for (a, b) in PAIRS {
            let end =
                |node, other| End { node, other, verdict: "link_down", why: "this node among", link: "down" };
            cut_and_heal(&cluster, &[(a, b), (b, a)], &[end(a, b), end(b, a)]);
        }
    });
}

#[test]
#[ignore = "needs root: network namespaces, nft"]
fn a_link_cut_one_way_is_named_at_both_ends_and_seen_by_all() {
    in_a_network_of_its_own(|| {
        let cluster = Cluster::start_apart(NODES, "error");
        for (speaks, deaf) in PAIRS {
            let ends = [
                End {
                    node: speaks,
                    other: deaf,
                    verdict: "one_way",
                    why: "it does not hear me",
                    link: "tx_lost",
                },
                End {
                    node: deaf,
                    other: speaks,
                    verdict: "one_way",
                    why: "I do not hear it",
                    link: "rx_lost",
                },
            ];
            cut_and_heal(&cluster, &[(speaks, deaf)], &ends);
        }
    });
}

#[test]
#[ignore = "needs root: network namespaces, nft"]
fn a_deaf_node_blames_itself_and_nobody_blames_it() {
    const DEAF: usize = NODES - 1;
    const FOR: Duration = Duration::from_secs(60);
    in_a_network_of_its_own(|| {
        let cluster = Cluster::start_apart(NODES, "error");
        let innocent = Innocent::among(&cluster, 0..NODES);
        let directions: Vec<(usize, usize)> = (0..DEAF).map(|from| (from, DEAF)).collect();
        let since = Clock.now();
        let cut = Cut::begin(&addresses(&cluster, &directions));

        let is_isolated = || cluster.json(DEAF, "/api/v1/status")["self_health"] == "isolated";
        let end =
            |node| End { node, other: DEAF, verdict: "one_way", why: "it does not hear me", link: "tx_lost" };
        let isolated = Expected::new("it says that it is isolated".to_owned(), NAMED_WITHIN, is_isolated);
        let at_others = (0..DEAF).map(|node| {
            let what = format!("n{} says that it is deaf", node + 1);
            Expected::new(what, NAMED_WITHIN, {
                let cluster = &cluster;
                move || is_said(cluster, &end(node))
            })
        });
        let moments = cluster.moments(since, &std::iter::once(isolated).chain(at_others).collect::<Vec<_>>());

        let mut others = (0..DEAF).cycle();
        watch(FOR.saturating_sub(Clock.now().since(since)), ASK_EVERY, |_| {
            let other = others.next().unwrap();
            innocent.are_not(ACCUSED, other);
            innocent.are_not(DOWN, DEAF);
            assert!(is_said(&cluster, &end(other)), "{}", cluster.tell());
            assert!(is_isolated(), "{}", cluster.json(DEAF, "/api/v1/status"));
            assert_ne!(cluster.has_quorum(DEAF), Some(true));
        });
        let began = Clock.now();
        let dropped = cut.end();
        let healed = cluster.healed(began, HEALED_WITHIN);
        (0..DEAF).for_each(|observer| innocent.are_not(ACCUSED, observer));
        let (isolated, at_others) = moments.split_at(1);
        println!(
            "deaf: isolated {isolated:.2?}, others {at_others:.2?}, healed {healed:.2?}; {dropped} dropped"
        );
    });
}

/// Cuts these directions until all have seen it and it has stayed so, then waits until all is well again.
fn cut_and_heal(cluster: &Cluster, directions: &[(usize, usize)], ends: &[End; 2]) {
    let innocent = Innocent::among(cluster, 0..NODES);
    let thirds: Vec<usize> = (0..NODES).filter(|n| ends.iter().all(|end| end.node != *n)).collect();
    let since = Clock.now();
    let cut = Cut::begin(&addresses(cluster, directions));
    let at_end = ends.iter().map(|end| {
        let what = format!("n{} says {} of n{}", end.node + 1, end.verdict, end.other + 1);
        Expected::new(what, NAMED_WITHIN, || is_said(cluster, end))
    });
    let at_third = thirds.iter().map(|third| {
        let what = format!("n{} sees it from both ends", third + 1);
        Expected::new(what, SEEN_WITHIN, || is_seen(cluster, *third, ends))
    });
    let moments = cluster.moments(since, &at_end.chain(at_third).collect::<Vec<_>>());
    watch(STAYS, ASK_EVERY, |_| {
        for end in ends {
            assert!(is_said(cluster, end), "{}", cluster.tell());
        }
        for third in &thirds {
            assert!(is_seen(cluster, *third, ends), "n{}\n{}", third + 1, cluster.tell());
            assert!(cluster.peers(*third).iter().all(|peer| peer["verdict"] == "up"), "{}", cluster.tell());
        }
    });
    let since = Clock.now();
    let dropped = cut.end();
    let healed = cluster.healed(since, HEALED_WITHIN);
    (0..NODES).for_each(|observer| innocent.are_not(ACCUSED, observer));
    let (at_ends, at_thirds) = moments.split_at(ends.len());
    let verdict = ends[0].verdict;
    println!("{verdict}: ends {at_ends:.2?}, others {at_thirds:.2?}, healed {healed:.2?}; {dropped} dropped");
}

fn is_said(cluster: &Cluster, end: &End) -> bool {
    let peer = cluster.peer(end.node, end.other);
    let why = peer["why"].as_str().unwrap_or_default();
    peer["status"] == "healthy" && peer["verdict"] == end.verdict && why.contains(end.why)
}

/// Whether the matrix that `third` draws has both ends' words, and no others.
fn is_seen(cluster: &Cluster, third: usize, ends: &[End; 2]) -> bool {
    let matrix = cluster.json(third, "/api/v1/matrix");
    let id = |n: usize| cluster.nodes[n].id.as_str();
    let says = |end: &End| {
        let peers = &matrix["rows"][id(end.node)]["peers"];
        *peers == serde_json::json!({ id(end.other): { "status": "healthy", "link": end.link } })
    };
    ends.iter().all(says)
}

fn addresses(cluster: &Cluster, directions: &[(usize, usize)]) -> Vec<(IpAddr, IpAddr)> {
    let ip = |n: usize| cluster.nodes[n].udp.ip();
    directions.iter().map(|(from, to)| (ip(*from), ip(*to))).collect()
}
