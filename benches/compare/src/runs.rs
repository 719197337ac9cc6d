//! What is done with a cluster: nothing, to see what it costs; then faults, one after the other.

use std::time::{Duration, Instant};

use rand::RngExt;

use crate::cluster::{Cluster, Detection};
use crate::cost::{Memory, Used};
use crate::system::System;
use crate::{Failure, Plan};

/// Until every node knows every other, after a start or a fault.
const WHOLE_WITHIN: Duration = Duration::from_secs(180);
/// What a start or a restart costs is over by then.
const SETTLE: Duration = Duration::from_secs(10);
/// Faults come at random phases of the interval.
const PHASES: Duration = Duration::from_secs(2);

/// One round, of one node: means.
pub struct Cost {
    pub cpu_seconds_a_minute: f64,
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
        if plan.seconds > 0 {
            let mut cluster = whole(system, plan)?;
            self.costs.push(cost(&mut cluster, plan)?);
            self.false_downs += cluster.false_downs;
        }
        Ok(())
    }

    /// Lets one fault after the other come to a cluster.
    pub fn suffer(&mut self, system: &System, plan: &Plan) -> Result<(), Failure> {
        let times = |fault, count| (0..count).map(move |_| fault);
        let mut faults = times(Fault::Crash, plan.crashes).chain(times(Fault::Stop, plan.stops)).peekable();
        while faults.peek().is_some() {
            let mut cluster = whole(system, plan)?;
            for fault in faults.by_ref() {
                let detection = suffer(&mut cluster, plan, fault)?;
                match fault {
                    Fault::Crash => self.crashes.push(detection),
                    Fault::Stop => self.stops.push(detection),
                }
                if !cluster.becomes_whole(WHOLE_WITHIN) {
                    eprintln!("{system}: not whole again after {WHOLE_WITHIN:?}; started anew");
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
    if !cluster.becomes_whole(WHOLE_WITHIN) {
        return Err(format!("not all nodes know each other after {WHOLE_WITHIN:?}").into());
    }
    cluster.rest(SETTLE);
    Ok(cluster)
}

fn cost(cluster: &mut Cluster<'_>, plan: &Plan) -> Result<Cost, Failure> {
    let (before, begin) = (Used::by(cluster.pids())?, Instant::now());
    cluster.rest(plan.over());
    let (used, seconds) = (Used::by(cluster.pids())? - before, begin.elapsed().as_secs_f64());
    let memory = Memory::of(cluster.pids())?;
    let nodes = f64::from(plan.nodes);
    Ok(Cost {
        cpu_seconds_a_minute: used.cpu_seconds / nodes / seconds * 60.0,
        rss_mib: memory.rss_kib / nodes / 1024.0,
        pss_mib: memory.pss_kib / nodes / 1024.0,
        udp_datagrams_a_second: used.udp_datagrams / nodes / seconds,
        other_packets_a_second: (used.packets - used.udp_datagrams) / nodes / seconds,
        bytes_a_second: used.bytes / nodes / seconds,
    })
}

/// One fault at a random node and moment, and its end.
fn suffer(cluster: &mut Cluster<'_>, plan: &Plan, fault: Fault) -> Result<Detection, Failure> {
    let mut rng = rand::rng();
    cluster.rest(rng.random_range(Duration::ZERO..PHASES));
    let node = rng.random_range(0..usize::from(plan.nodes));
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
