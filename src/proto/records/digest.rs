//! Digests: which parts of two tables differ, and which of them is asked for.

use std::ops::Range;
use std::time::Duration;

use super::Digest;
use crate::proto::timer::Time;

/// Nodes in one bucket of the digest, while there are fewer than [`BUCKETS`] buckets.
const BUCKET: usize = 64;
/// The most buckets.
const BUCKETS: usize = 64;
/// A bucket that stays unequal for so many intervals is synced although it changes, or left for another one.
const PATIENCE: u32 = 8;
/// All buckets at once, where rosters differ and so do buckets.
pub(crate) const EVERY: u8 = u8::MAX;

/// What was compared with a neighbour and was not equal.
#[derive(Clone, Copy, Debug)]
struct Unequal {
    bucket: u8,
    mine: [u8; 3],
    theirs: [u8; 3],
    /// Since when.
    since: Time,
}

/// What differs from a neighbour's table.
#[derive(Clone, Debug, Default)]
struct Difference {
    unequal: Option<Unequal>,
    /// When it was last asked for a bucket.
    asked: Option<Time>,
    /// How often a digest was told.
    told: u8,
}

/// What a neighbour's digest says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compared {
    /// The neighbour's bucket is the same.
    Equal,
    /// It is another one, and was before: without a change on either side, or with one.
    Unequal { stays: bool },
    /// It may soon be the same; or another bucket is looked at.
    Other,
}

/// The buckets of a table: parts of it in the order of places.
#[derive(Clone, Debug)]
pub(super) struct Buckets {
    nodes: usize,
    /// For each bucket, over the hashes of its records.
    hashes: Vec<u32>,
    /// When each was last asked of a neighbour.
    asked: Box<[Option<Time>]>,
    differences: Vec<Difference>,
    /// Which one is told next.
    turn: usize,
    /// When one was last asked for that changes all the time.
    restless: Option<Time>,
}

impl Buckets {
    pub(super) fn new(nodes: usize, neighbours: usize) -> Buckets {
        let count = nodes.div_ceil(BUCKET).clamp(1, BUCKETS);
        Buckets {
            nodes,
            hashes: vec![0; count],
            asked: vec![None; count].into(),
            differences: vec![Difference::default(); neighbours],
            turn: 0,
            restless: None,
        }
    }

    /// A record of the node at `place` has another hash than before.
    pub(super) fn replace(&mut self, place: usize, before: u32, hash: u32) {
        let bucket = place * self.hashes.len() / self.nodes;
        self.hashes[bucket] ^= before ^ hash;
    }

    /// The places in a bucket.
    pub(super) fn places(&self, bucket: u8) -> Range<usize> {
        if bucket == EVERY {
            return 0..self.nodes;
        }
        let begin = |bucket: usize| (bucket * self.nodes).div_ceil(self.hashes.len());
        let bucket = usize::from(bucket).min(self.hashes.len());
        begin(bucket)..begin(bucket + 1).min(self.nodes)
    }

    /// What was compared with a neighbour is of no use any more.
    pub(super) fn forget(&mut self, neighbour: usize) {
        self.differences[neighbour] = Difference::default();
    }

    /// Equal for equal tables.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn hashes(&self) -> &[u32] {
        &self.hashes
    }

    /// Whether a bucket was unequal to that of `neighbour` when it was last compared.
    #[cfg(test)]
    pub(super) fn differs(&self, neighbour: usize) -> bool {
        self.differences[neighbour].unequal.is_some()
    }

    fn digest_of(&self, bucket: usize) -> Digest {
        let [a, b, c, d] = self.hashes[bucket].to_le_bytes();
        Digest { bucket: bucket as u8, hash: [a ^ d, b, c] }
    }

    /// What to tell `neighbour`: three times of four the bucket that last differed from its, else the next one in turn.
    pub(super) fn digest(&mut self, neighbour: usize) -> Digest {
        let Difference { unequal, told, .. } = &mut self.differences[neighbour];
        *told = told.wrapping_add(1);
        if let Some(unequal) = unequal.filter(|_| *told % 4 != 0) {
            return self.digest_of(usize::from(unequal.bucket));
        }
        self.turn = (self.turn + 1) % self.hashes.len();
        self.digest_of(self.turn)
    }

    /// Compares what `neighbour` tells; `pause`: an interval.
    pub(super) fn compare(
        &mut self,
        neighbour: usize,
        theirs: Digest,
        now: Time,
        pause: Duration,
    ) -> Compared {
        if usize::from(theirs.bucket) >= self.hashes.len() {
            return Compared::Other;
        }
        let mine = self.digest_of(usize::from(theirs.bucket)).hash;
        let unequal = &mut self.differences[neighbour].unequal;
        if mine == theirs.hash {
            unequal.take_if(|known| known.bucket == theirs.bucket);
            return Compared::Equal;
        }
        match unequal {
            Some(known) if known.bucket == theirs.bucket => {
                let stays = (known.mine, known.theirs) == (mine, theirs.hash);
                (known.mine, known.theirs) = (mine, theirs.hash);
                return Compared::Unequal { stays };
            }
            // One after the other, unless nothing comes of it.
            Some(known) if now.since(known.since) < pause * PATIENCE => {}
            _ => *unequal = Some(Unequal { bucket: theirs.bucket, mine, theirs: theirs.hash, since: now }),
        }
        Compared::Other
    }

    /// Whether `neighbour` is now to be asked for this bucket, which is unequal: in each `pause` one bucket of each neighbour
    /// and each bucket of one neighbour, since many may lack the same, or have it; and what does not stay as it is seldom.
    pub(super) fn ask(
        &mut self,
        neighbour: usize,
        bucket: u8,
        stays: bool,
        now: Time,
        pause: Duration,
    ) -> bool {
        let is_old = |at: Option<Time>, age: Duration| at.is_none_or(|at| now.since(at) >= age);
        let Difference { unequal, asked: of_it, .. } = &mut self.differences[neighbour];
        let of_all = &mut self.asked[usize::from(bucket)];
        let (long, since) = (pause * PATIENCE, unequal.map(|unequal| unequal.since));
        let restless = is_old(since, long) && is_old(*of_it, long) && is_old(self.restless, pause);
        if !is_old(*of_it, pause) || !is_old(*of_all, pause) || !(stays || restless) {
            return false;
        }
        (*of_it, *of_all) = (Some(now), Some(now));
        if !stays {
            self.restless = Some(now);
        }
        true
    }
}
