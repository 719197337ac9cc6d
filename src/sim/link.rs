//! Links as rules: a pure function from a datagram to what becomes of it.

use std::time::Duration;

use super::rng::Rng;
use crate::proto::Time;

/// What a rule does with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: the next rule decides.
    Pass,
    /// It comes so much later.
    After(Duration),
    /// It is lost.
    Drop,
    /// It comes, and a second time so much later.
    Twice(Duration),
    /// Its host, or a firewall, sends a port-unreachable error back.
    Refuse,
}

/// What a link, one direction of a pair, does to datagrams.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// `base` always, and up to `jitter` more, evenly: datagrams overtake each other.
    Delay {
        /// Least delay.
        base: Duration,
        /// What comes on top at most.
        jitter: Duration,
    },
    /// This share, late by an exponentially distributed time.
    Tail {
        /// Of all datagrams, 0 to 1.
        share: f64,
        /// Mean of the additional delay.
        mean: Duration,
    },
    /// Independent loss, 0 to 1 (Bernoulli).
    Loss(f64),
    /// Loss in bursts (Gilbert-Elliott, in continuous time): everything is lost in the bad state, nothing in the
    /// good one.
    Burst {
        /// Mean length of a bad period.
        bad: Duration,
        /// Mean length of a good one.
        good: Duration,
    },
    /// This share comes twice, the copy up to `within` later.
    Duplicate {
        /// Of all datagrams, 0 to 1.
        share: f64,
        /// The copy's greatest additional delay.
        within: Duration,
    },
    /// A bottleneck: so many bytes a second, with a queue that holds so much time of them.
    Rate {
        /// Bytes a second, UDP and IPv4 headers included.
        bytes: u32,
        /// What would wait longer is lost.
        queue: Duration,
    },
    /// What is longer than so many bytes, UDP and IPv4 headers included, is lost.
    Mtu(u32),
    /// Nothing passes.
    Cut,
    /// Nothing passes, and every datagram is answered by an error.
    Refuse,
}

/// What a rule remembers of one link.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// A burst: whether the link is bad, until when.
    bad: bool,
    until: Time,
}

impl Rule {
    /// Whether the rule needs a [`Memory`] for each link.
    pub fn remembers(&self) -> bool {
        matches!(self, Rule::Burst { .. } | Rule::Rate { .. })
    }

    /// Whether the rule can lose a heartbeat. What passes 576 bytes, as every path of IPv4 does, cannot: nothing that a
    /// heartbeat depends on is longer.
    pub fn loses(&self) -> bool {
        match self {
            Rule::Delay { .. } | Rule::Tail { .. } | Rule::Duplicate { .. } => false,
            Rule::Mtu(bytes) => *bytes < 576,
            _ => true,
        }
    }

    /// Whether nothing passes.
    pub fn cuts(&self) -> bool {
        matches!(self, Rule::Cut | Rule::Refuse)
    }

    /// What becomes of a datagram of `len` bytes of payload that is sent now.
    pub fn judge(&self, memory: &mut Memory, len: usize, now: Time, rng: &mut Rng) -> Verdict {
        match *self {
            Rule::Delay { base, jitter } => Verdict::After(base + jitter.mul_f64(rng.share())),
            Rule::Tail { share, mean } if rng.chance(share) => Verdict::After(rng.exponential(mean)),
            Rule::Loss(p) if rng.chance(p) => Verdict::Drop,
            Rule::Duplicate { share, within } if rng.chance(share) => {
                Verdict::Twice(within.mul_f64(rng.share()))
            }
            Rule::Mtu(bytes) if len + 28 > bytes as usize => Verdict::Drop,
            Rule::Tail { .. } | Rule::Loss(_) | Rule::Duplicate { .. } | Rule::Mtu(_) => Verdict::Pass,
            Rule::Burst { bad, good } => {
                if memory.until == Time::ZERO {
                    // As if it had run for ever.
                    memory.bad = rng.chance(bad.as_secs_f64() / (bad + good).as_secs_f64());
                    memory.until = now + rng.exponential(if memory.bad { bad } else { good });
                }
                while memory.until <= now {
                    memory.bad = !memory.bad;
                    let mean = if memory.bad { bad } else { good };
                    memory.until += rng.exponential(mean).max(Duration::from_micros(1));
                }
                if memory.bad { Verdict::Drop } else { Verdict::Pass }
            }
            Rule::Rate { bytes, queue } => {
                let free = memory.until.max(now);
                let wait = free.since(now);
                if wait > queue {
                    return Verdict::Drop;
                }
                let takes = Duration::from_secs_f64((len + 28) as f64 / f64::from(bytes.max(1)));
                memory.until = free + takes;
                Verdict::After(wait + takes)
            }
            Rule::Cut => Verdict::Drop,
            Rule::Refuse => Verdict::Refuse,
        }
    }
}

/// Which links a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    All,
    /// From one of the first to one of the second.
    Between(Vec<u32>, Vec<u32>),
    /// All that such a node sends or receives.
    Touching(Vec<u32>),
    /// Between nodes of different groups; who is in none is alone.
    Across(Vec<Vec<u32>>),
}

impl Scope {
    /// Whether the link from `from` to `to` is one of them.
    pub fn covers(&self, from: u32, to: u32) -> bool {
        match self {
            Scope::All => true,
            Scope::Between(a, b) => a.contains(&from) && b.contains(&to),
            Scope::Touching(nodes) => nodes.contains(&from) || nodes.contains(&to),
            Scope::Across(groups) => !groups.iter().any(|g| g.contains(&from) && g.contains(&to)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Share of 100,000 datagrams, one every 10 ms, that a rule drops, and the mean length of its runs of losses.
    fn losses(rule: Rule) -> (f64, Duration) {
        let (mut rng, mut memory) = (Rng::new(1), Memory::default());
        let (mut lost, mut runs, mut before) = (0u32, 0u32, false);
        for n in 0..100_000u32 {
            let now = Time::from_micros(1) + MS * 10 * n;
            let drops = rule.judge(&mut memory, 60, now, &mut rng) == Verdict::Drop;
            lost += u32::from(drops);
            runs += u32::from(drops && !before);
            before = drops;
        }
        (f64::from(lost) / 1e5, MS * 10 * lost / runs.max(1))
    }

    #[test]
    fn losses_have_their_share_and_length() {
        let (share, _) = losses(Rule::Loss(0.3));
        assert!((share - 0.3).abs() < 0.01, "{share}");
        let (share, length) = losses(Rule::Burst { bad: MS * 500, good: MS * 1500 });
        assert!((share - 0.25).abs() < 0.03, "{share}");
        assert!(length.abs_diff(MS * 500) < MS * 60, "{length:?}");
        assert_eq!(losses(Rule::Cut).0, 1.0);
    }

    #[test]
    fn a_bottleneck_delays_then_drops() {
        let rule = Rule::Rate { bytes: 1000, queue: MS * 250 };
        let (mut rng, mut memory) = (Rng::new(1), Memory::default());
        let now = Time::from_micros(5_000_000);
        // 100 bytes with headers take 100 ms each.
        let verdicts: Vec<_> = (0..4).map(|_| rule.judge(&mut memory, 72, now, &mut rng)).collect();
        let after = Verdict::After;
        assert_eq!(verdicts, [after(MS * 100), after(MS * 200), after(MS * 300), Verdict::Drop]);
        let later = rule.judge(&mut memory, 72, now + MS * 1000, &mut rng);
        assert_eq!(later, after(MS * 100), "the queue is empty again");
    }

    #[test]
    fn a_small_mtu_loses_what_is_long() {
        let (mut rng, mut memory) = (Rng::new(1), Memory::default());
        let mut judge = |len| Rule::Mtu(1000).judge(&mut memory, len, Time::ZERO, &mut rng);
        assert_eq!((judge(972), judge(973)), (Verdict::Pass, Verdict::Drop), "with 28 bytes of headers");
        assert!(Rule::Mtu(575).loses() && !Rule::Mtu(576).loses());
    }

    #[test]
    fn scopes() {
        let across = Scope::Across(vec![vec![0, 1], vec![2]]);
        assert!(across.covers(0, 2) && across.covers(2, 1) && across.covers(3, 4) && !across.covers(1, 0));
        let one_way = Scope::Between(vec![0], vec![1, 2]);
        assert!(one_way.covers(0, 2) && !one_way.covers(2, 0));
        assert!(Scope::Touching(vec![3]).covers(3, 0) && Scope::Touching(vec![3]).covers(0, 3));
    }
}
