//! Three real cores, and every fate of their links and datagrams in a few heartbeats.

use std::cell::Cell;
use std::rc::Rc;

use super::*;

/// Its three pairs have their slots within less than half an interval.
const SEED: u64 = 1;
/// All links are open.
pub(super) const WHOLE: u8 = 0b11_1111;

/// One miss makes Suspected, two Down: so few datagrams decide most.
fn sharp(config: &mut PeerConfig) {
    (config.suspect_after, config.down_after) = (1, 2);
}

fn without_relays(config: &mut PeerConfig) {
    sharp(config);
    config.mechanisms.relays = false;
}

fn without_retries(config: &mut PeerConfig) {
    sharp(config);
    config.mechanisms.retries = false;
}

/// Three cores in their steady state, at a moment before the slots of all pairs: each heartbeat begins and ends within an
/// interval from then on.
pub(super) fn steady(change: fn(&mut PeerConfig)) -> Cluster {
    let mut cluster = Cluster::with(3, SEED, change);
    cluster.run_until(3 * SECOND, Cluster::is_whole);
    cluster.run(3 * SECOND);
    let (mut quiet, mut sent) = (0, 0);
    for _ in 0..200 {
        cluster.run(10 * MS);
        let now = cluster.sent.iter().sum();
        quiet = if now == sent { quiet + 1 } else { 0 };
        sent = now;
        if quiet == 51 {
            cluster.take_changes();
            return cluster;
        }
    }
    panic!("the slots are too far apart")
}

/// Whether the link from one node to another is open.
pub(super) fn passes(open: u8, from: usize, to: usize) -> bool {
    open >> (from * 2 + to - usize::from(to > from)) & 1 == 1
}

/// What passes to and from the dead decides nothing: it is looked at once, as open.
pub(super) fn decides(open: u8, dead: Option<usize>) -> bool {
    let touches = |dead: usize| (0..3).filter(move |n| *n != dead).flat_map(move |n| [(n, dead), (dead, n)]);
    dead.into_iter().flat_map(touches).all(|(from, to)| passes(open, from, to))
}

/// The links that are open in a heartbeat, of six bits for each.
fn links(cuts: u64, heartbeat: u64) -> u8 {
    (cuts >> (6 * heartbeat)) as u8 & WHOLE
}

/// Whether one node may be asked by another one about the third, and its answer comes.
fn relays(open: u8, dead: Option<usize>, me: usize, peer: usize) -> bool {
    let third = 3 - me - peer;
    let asked = [(me, third), (third, peer), (peer, third), (third, me)];
    ![Some(third), Some(peer)].contains(&dead) && asked.iter().all(|(from, to)| passes(open, *from, *to))
}

/// Whether what one node sends comes to another.
fn is_heard(open: u8, dead: Option<usize>, me: usize, peer: usize) -> bool {
    dead != Some(peer) && passes(open, peer, me)
}

/// Whether one node can learn that another one lives: it is heard, or the third is asked.
pub(super) fn hears(open: u8, dead: Option<usize>, me: usize, peer: usize) -> bool {
    is_heard(open, dead, me, peer) || relays(open, dead, me, peer)
}

/// All pairs of the nodes that live, and any peer.
pub(super) fn pairs(dead: Option<usize>) -> impl Iterator<Item = (usize, usize)> {
    (0..9).map(|n| (n / 3, n % 3)).filter(move |(me, peer)| me != peer && dead != Some(*me))
}

/// One way in which links are cut and opened, heartbeat by heartbeat: six bits each. In each of them the cores must miss whom
/// they cannot hear, and nobody else; and once all is open again all must be well.
fn cut_in_turn(
    cuts: u64,
    heartbeats: u64,
    dead: Option<usize>,
    change: fn(&mut PeerConfig),
) -> Result<(), String> {
    let mut cluster = steady(change);
    let start = cluster.now;
    let open = move |heartbeat| if heartbeat < heartbeats { links(cuts, heartbeat) } else { WHOLE };
    cluster.rule = Box::new(move |packet, now| {
        let open = open(now.since(start).as_secs());
        if passes(open, packet.from, packet.to) { Fate::After(PATH) } else { Fate::Lost }
    });
    dead.into_iter().for_each(|node| cluster.crash(node));
    let (mut missed, mut alone) = ([[0; 3]; 3], [false; 3]);
    for heartbeat in 0..heartbeats {
        cluster.run(SECOND);
        let (before, open) = (missed, open(heartbeat));
        for (me, peer) in pairs(dead) {
            let trusted = before[me][3 - me - peer] < cluster.node(me).config().suspect_after;
            let counted = cluster.node(me).registry().get_peer(&name(peer)).unwrap().missed_heartbeats;
            let heard = match relays(open, dead, me, peer) {
                _ if is_heard(open, dead, me, peer) => true,
                // Only who is Healthy is asked, and who was Suspected may be so again too late.
                true if !trusted => counted == 0,
                relayed => relayed,
            };
            missed[me][peer] = match before[me][peer] + 1 {
                _ if heard => 0,
                // When an isolation ends, what was missed is forgiven but for one.
                most if alone[me] => counted.clamp(1, most),
                most => most,
            };
            let hears = |other: usize| other != me && is_heard(links(cuts, heartbeat - 1), dead, me, other);
            let heard_lately = heartbeat > 0 && (0..3).any(hears);
            is_judged(&cluster, me, peer, missed[me][peer], heard_lately)
                .map_err(|what| format!("{cuts:b} {dead:?} {heartbeat}: {what}"))?;
        }
        for (me, alone) in alone.iter_mut().enumerate() {
            *alone |= (0..3).all(|peer| peer == me || missed[me][peer] > 0);
        }
    }
    heals(&mut cluster, dead).map_err(|what| format!("{cuts:b} {dead:?}: {what}"))
}

/// Checks that a node has counted `missed` misses of a peer, and has given it the status that follows. `heard_lately`: the node
/// heard a peer in the previous heartbeat, so it may call the peer Down before it notices that it is isolated.
fn is_judged(
    cluster: &Cluster,
    me: usize,
    peer: usize,
    missed: u32,
    heard_lately: bool,
) -> Result<(), String> {
    let node = cluster.node(me);
    let info = node.registry().get_peer(&name(peer)).unwrap();
    let thresholds = node.config().thresholds();
    let is_its = |at: usize, event: &Event| at == me && event.peer.as_deref() == Some(name(peer).as_str());
    let last = cluster.events.iter().rev().find_map(|(at, event)| match event.change {
        Change::Status { .. } if is_its(*at, event) => event.evidence.as_ref(),
        _ => None,
    });
    let early = heard_lately && last.is_some_and(|evidence| evidence.self_health != SelfHealth::Isolated);
    let before = early && info.status == PeerStatus::Down;
    let isolated = node.snapshot(cluster.now).self_health == SelfHealth::Isolated;
    let expected = match missed {
        0 => PeerStatus::Healthy,
        n if n < thresholds.down_after => PeerStatus::Suspected,
        // Who hears nobody gives nobody up.
        _ if isolated && !before => PeerStatus::Suspected,
        _ => PeerStatus::Down,
    };
    if (info.missed_heartbeats, info.status) == (missed, expected) {
        return Ok(());
    }
    Err(format!(
        "{me} says that {peer} is {:?} after {} misses, not {expected:?} after {missed}",
        info.status, info.missed_heartbeats
    ))
}

/// The dead is Down at all others within the bound, and these are well with each other.
fn heals(cluster: &mut Cluster, dead: Option<usize>) -> Result<(), String> {
    let status = |peer| if dead == Some(peer) { PeerStatus::Down } else { PeerStatus::Healthy };
    let well = |c: &Cluster| pairs(dead).all(|(me, peer)| c.status(peer, me) == status(peer));
    for _ in 0..30 {
        if well(cluster) && is_settled(cluster) {
            return Ok(());
        }
        cluster.run(SECOND);
    }
    let told: Vec<_> = pairs(dead).map(|(me, peer)| (me, peer, cluster.status(peer, me))).collect();
    Err(format!("not well 30 s later: {told:?}, settled: {}", is_settled(cluster)))
}

/// All cuts of so many heartbeats, and all among the survivors of a crash. How many.
fn every_cut(heartbeats: u64, change: fn(&mut PeerConfig)) -> Result<usize, String> {
    let mut runs = 0;
    for dead in [None, Some(0), Some(1), Some(2)] {
        let all = 0..1u64 << (6 * heartbeats);
        for cuts in all.filter(|cuts| (0..heartbeats).all(|at| decides(links(*cuts, at), dead))) {
            cut_in_turn(cuts, heartbeats, dead, change)?;
            runs += 1;
        }
    }
    println!("every cut of {heartbeats} heartbeats: {runs} runs");
    Ok(runs)
}

#[test]
fn whoever_can_be_heard_is_not_missed_and_nobody_else_is_not() {
    assert_eq!(every_cut(2, sharp), Ok(64 * 64 + 3 * 4 * 4));
}

#[test]
#[ignore = "a minute of cuts; CI runs it"]
fn whoever_can_be_heard_is_not_missed_for_longer() {
    let change = |config: &mut PeerConfig| (config.suspect_after, config.down_after) = (1, 3);
    assert_eq!(every_cut(3, change), Ok(64 * 64 * 64 + 3 * 4 * 4 * 4));
}

#[test]
fn without_relays_or_retries_some_are_missed_that_can_be_heard() {
    for change in [without_relays, without_retries] {
        let broken = every_cut(1, change).expect_err("a mechanism is missing");
        println!("{broken}");
        assert!(broken.contains("is Suspected after 1 misses, not Healthy after 0"), "{broken}");
    }
}

/// What becomes of a datagram beside the ordinary.
const ODD: [Fate; 3] =
    [Fate::Lost, Fate::After(Duration::from_millis(800)), Fate::Twice(PATH, Duration::from_millis(300))];

#[derive(Clone, Copy, Debug)]
enum Fault {
    Nothing,
    Crash(usize),
    Restart(usize),
}

/// What happens in two heartbeats, and when.
#[derive(Clone, Copy, Debug)]
struct Story {
    fault: Fault,
    after: Duration,
    change: fn(&mut PeerConfig),
}

impl Story {
    /// One way in which it goes. How many datagrams could have had another fate.
    fn tell(&self, odd: &[(usize, Fate)]) -> Result<usize, String> {
        let mut cluster = steady(self.change);
        let (start, count) = (cluster.now, Rc::new(Cell::new(0)));
        let (counted, fates) = (count.clone(), odd.to_vec());
        cluster.rule = Box::new(move |_, now| {
            if now.since(start) >= 2 * SECOND {
                return Fate::After(PATH);
            }
            fate(&counted, &fates)
        });
        cluster.run(self.after);
        let result = match self.fault {
            Fault::Nothing => {
                cluster.run(4 * SECOND);
                Ok(())
            }
            Fault::Crash(node) => is_found_out(&mut cluster, node),
            Fault::Restart(node) => is_known_again(&mut cluster, node),
        };
        let well = result.and_then(|()| self.ends_well(&mut cluster));
        well.map_err(|what| format!("{:?} {:?} {odd:?}: {what}", self.fault, self.after))?;
        Ok(count.get())
    }

    /// Nobody was called what it is not, and all is settled.
    fn ends_well(&self, cluster: &mut Cluster) -> Result<(), String> {
        let dead = match self.fault {
            Fault::Crash(node) => Some(node),
            _ => None,
        };
        heals(cluster, dead)?;
        let mut given_up = BTreeSet::new();
        for (observer, peer, to) in cluster.take_changes() {
            let fits = match self.fault {
                Fault::Nothing => false,
                // What is late tells that it lived, and raises no dead.
                Fault::Crash(node) => peer == name(node) && !given_up.contains(&observer),
                // It has not spoken for a while.
                Fault::Restart(node) => {
                    [name(observer), peer.clone()].contains(&name(node)) && to != PeerStatus::Down
                }
            };
            if !fits {
                return Err(format!("{observer} calls {peer} {to:?}"));
            }
            if to == PeerStatus::Down {
                given_up.insert(observer);
            }
        }
        Ok(())
    }
}

/// It crashes, and is Down at both others within `down_after` heartbeats and one more, and the timeout twice.
fn is_found_out(cluster: &mut Cluster, node: usize) -> Result<(), String> {
    cluster.crash(node);
    let others = || (0..3).filter(move |other| *other != node);
    let config = cluster.node(others().next().unwrap()).config();
    let bound = config.heartbeat_interval * (config.down_after + 1) + config.heartbeat_timeout * 2;
    cluster.run(bound);
    let alive: Vec<_> = others().filter(|other| cluster.status(node, *other) != PeerStatus::Down).collect();
    if !alive.is_empty() {
        return Err(format!("not Down at {alive:?} after {bound:?}"));
    }
    // What is late brings nobody back.
    cluster.run(5 * SECOND);
    Ok(())
}

/// It starts anew, and its new run is believed by both others.
fn is_known_again(cluster: &mut Cluster, node: usize) -> Result<(), String> {
    cluster.crash(node);
    cluster.start(node);
    let run = cluster.node(node).instance();
    cluster.run(5 * SECOND);
    let others = (0..3).filter(|other| *other != node);
    let believed: Vec<_> = others.map(|other| cluster.view(node, other).instance).collect();
    if believed.iter().any(|believed| *believed != Some(run)) {
        return Err(format!("believed are {believed:?} instead of {run:?}"));
    }
    Ok(())
}

/// Every crash and every restart, at four moments of a heartbeat.
fn every_fault(most: usize) -> usize {
    let mut runs = 0;
    for fault in (0..3).flat_map(|node| [Fault::Crash(node), Fault::Restart(node)]) {
        for after in (0..4).map(|quarter| SECOND / 4 * quarter) {
            let story = Story { fault, after, change: sharp };
            runs += every_way(&ODD, most, |odd| story.tell(odd)).unwrap_or_else(|broken| panic!("{broken}"));
        }
    }
    println!("every fault, {most} datagrams of other fates: {runs} runs");
    runs
}

const QUIET: Story = Story { fault: Fault::Nothing, after: Duration::ZERO, change: sharp };

#[test]
fn three_lost_datagrams_make_nobody_suspected() {
    let runs = every_way(&ODD, 3, |odd| QUIET.tell(odd)).unwrap_or_else(|broken| panic!("{broken}"));
    println!("three datagrams of other fates: {runs} runs");
    assert!(runs >= 22_000, "{runs}");
}

#[test]
fn without_relays_three_lost_datagrams_do() {
    let story = Story { change: without_relays, ..QUIET };
    let broken = every_way(&ODD, 3, |odd| story.tell(odd)).expect_err("relays are missing");
    println!("{broken}");
    assert!(broken.contains("Suspected"), "{broken}");
}

#[test]
fn a_crash_is_found_out_and_a_restart_is_known_whatever_is_lost() {
    assert!(every_fault(1) >= 1_400);
}

#[test]
#[ignore = "fifty thousand fates; CI runs it"]
fn a_crash_is_found_out_and_a_restart_is_known_whatever_more_is_lost() {
    assert!(every_fault(2) >= 50_000);
}

#[test]
fn what_is_not_found_out_or_not_known_again_is_noticed() {
    let mut cluster = steady(sharp);
    cluster.rule = cut(PATH, |from, _| from == 0);
    // Node 2 hears nobody, and gives nobody up.
    assert!(is_found_out(&mut cluster, 1).is_err_and(|broken| broken.contains("not Down at [2]")));
    let mut cluster = steady(sharp);
    cluster.rule = cut(PATH, |from, to| (from, to) == (0, 1));
    assert!(is_known_again(&mut cluster, 1).is_err_and(|broken| broken.contains("believed are")));
    let mut cluster = steady(|config| config.down_after = 32);
    cluster.crash(1);
    assert!(heals(&mut cluster, Some(1)).is_err_and(|broken| broken.contains("not well")));
}
