//! What is done with a cluster: nothing, to see what it costs; then faults, one after the other.

use std::time::{Duration, Instant};

use rand::RngExt;
use rand::seq::SliceRandom;

use crate::cluster::{Cluster, Detection};
use crate::cost::{Size, Used};
use crate::system::System;
use crate::{Failure, Plan};

/// What a start or a restart costs is over by then.
const SETTLE: Duration = Duration::from_secs(10);
/// Before the first fault: nobody judges by what happened at the start any more.
const CALM: Duration = Duration::from_secs(60);
/// Faults come at random phases of the interval.
const PHASES: Duration = Duration::from_secs(2);

/// One round, of one node: means.
pub struct Cost {
    pub cpu_seconds_a_minute: f64,
    pub threads: f64,
    pub rss_mib: f64,
    pub pss_mib: f64,
    pub udp_datagrams_a_second: f64,
    pub other_packets_a_second: f64,
    pub bytes_a_second: f64,
}

/// Of one system.
#[derive(Default)]
pub struct Results {
    pub costs: Vec<Cost>,
    pub crashes: Vec<Detection>,
    pub stops: Vec<Detection>,
    pub false_downs: usize,
    /// Something could not be measured.
    pub failed: bool,
}

#[derive(Clone, Copy)]
enum Fault {
    Crash,
    Stop,
}

impl Results {
    /// Measures what a quiet cluster costs, once more.
    pub fn cost(&mut self, system: &System, plan: &Plan) -> Result<(), Failure> {
        let mut cluster = whole(system, plan)?;
        self.costs.push(cost(&mut cluster, plan)?);
        self.false_downs += cluster.false_downs;
        Ok(())
    }

    /// Lets one fault after the other come to a cluster.
    pub fn suffer(&mut self, system: &System, plan: &Plan) -> Result<(), Failure> {
        let times = |fault, count| (0..count).map(move |_| fault);
        let mut faults = times(Fault::Crash, plan.crashes).chain(times(Fault::Stop, plan.stops)).peekable();
        // Everybody at most once: nobody is taken for one that comes and goes.
        let mut victims: Vec<usize> = (0..usize::from(plan.nodes)).collect();
        victims.shuffle(&mut rand::rng());
        let mut victims = victims.into_iter();
        while faults.peek().is_some() {
            let mut cluster = whole(system, plan)?;
            cluster.rest(CALM);
            for fault in faults.by_ref() {
                let node = victims.next().ok_or("more faults than nodes")?;
                let detection = suffer(&mut cluster, node, fault)?;
                match fault {
                    Fault::Crash => self.crashes.push(detection),
                    Fault::Stop => self.stops.push(detection),
                }
                if let Err(e) = cluster.becomes_whole() {
                    eprintln!("{system}: {e}; started anew");
                    break;
                }
                cluster.rest(SETTLE);
            }
            self.false_downs += cluster.false_downs;
        }
        Ok(())
    }
}

fn whole<'a>(system: &'a System, plan: &'a Plan) -> Result<Cluster<'a>, Failure> {
    let mut cluster = Cluster::start(system, plan)?;
    cluster.becomes_whole()?;
    cluster.rest(SETTLE);
    Ok(cluster)
}

fn cost(cluster: &mut Cluster<'_>, plan: &Plan) -> Result<Cost, Failure> {
    let (before, begin) = (Used::by(cluster.pids())?, Instant::now());
    cluster.rest(plan.over());
    let (used, seconds) = (Used::by(cluster.pids())? - before, begin.elapsed().as_secs_f64());
    let size = Size::of(cluster.pids())?;
    let nodes = f64::from(plan.nodes);
    Ok(Cost {
        cpu_seconds_a_minute: used.cpu_seconds / nodes / seconds * 60.0,
        threads: size.threads / nodes,
        rss_mib: size.rss_kib / nodes / 1024.0,
        pss_mib: size.pss_kib / nodes / 1024.0,
        udp_datagrams_a_second: used.udp_datagrams / nodes / seconds,
        other_packets_a_second: (used.packets - used.udp_datagrams) / nodes / seconds,
        bytes_a_second: used.bytes / nodes / seconds,
    })
}

/// One fault at a random moment, and its end.
fn suffer(cluster: &mut Cluster<'_>, node: usize, fault: Fault) -> Result<Detection, Failure> {
    cluster.rest(rand::rng().random_range(Duration::ZERO..PHASES));
    match fault {
        Fault::Crash => {
            let detection = cluster.kill(node)?;
            cluster.start_node(node)?;
            Ok(detection)
        }
        Fault::Stop => {
            let detection = cluster.stop(node)?;
            cluster.go_on(node)?;
            Ok(detection)
        }
    }
}
