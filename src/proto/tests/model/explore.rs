//! All states of a model, breadth first: what breaks a rule is shown by one of the shortest ways to it.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// No model has more states: the machine's memory ends before the states do.
const MOST: usize = 1 << 24;

/// What can happen, and what must hold.
pub(super) trait Model {
    type State;
    type Action: Copy + fmt::Debug;
    type Key: Hash;

    fn initial(&self) -> Self::State;

    /// States of one key are one state. A hash of 128 bits stands for it.
    fn key(&self, state: &Self::State) -> Self::Key;

    fn actions(&self, state: &Self::State) -> Vec<Self::Action>;

    /// What an action leads to; `None`: beyond the bounds of the model.
    ///
    /// # Errors
    /// The rule that it breaks.
    fn next(&self, state: &Self::State, action: Self::Action) -> Result<Option<Self::State>, String>;

    /// # Errors
    /// The rule that the state breaks.
    fn check(&self, state: &Self::State) -> Result<(), String>;
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Explored {
    pub(super) states: usize,
    pub(super) transitions: usize,
    /// Actions to the farthest state.
    pub(super) depth: usize,
}

/// A rule that does not hold, and how that came about.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) rule: String,
    way: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, after {}", self.rule, self.way.join(", "))
    }
}

/// Looks at every state that up to `depth` actions lead to.
///
/// # Errors
/// The first rule that breaks.
pub(super) fn explore<M: Model>(model: &M, depth: usize) -> Result<Explored, Broken> {
    let first = model.initial();
    let mut known = HashSet::from([fingerprint(&model.key(&first))]);
    // For each state the one that it was found from, and how.
    let mut found: Vec<Option<(usize, M::Action)>> = vec![None];
    let mut waiting = VecDeque::from([(0, 0, first)]);
    let mut explored = Explored { states: 1, ..Explored::default() };
    while let Some((at, steps, state)) = waiting.pop_front() {
        let broken = |rule, last: Option<M::Action>| Broken { rule, way: way(&found, at, last) };
        model.check(&state).map_err(|rule| broken(rule, None))?;
        explored.depth = steps;
        let mut new = Vec::new();
        for action in model.actions(&state).into_iter().filter(|_| steps < depth) {
            let next = model.next(&state, action).map_err(|rule| broken(rule, Some(action)))?;
            let Some(next) = next else { continue };
            explored.transitions += 1;
            if known.insert(fingerprint(&model.key(&next))) {
                new.push((action, next));
            }
        }
        for (action, next) in new {
            waiting.push_back((found.len(), steps + 1, next));
            found.push(Some((at, action)));
        }
        assert!(found.len() < MOST, "the bounds are too wide");
        explored.states = found.len();
    }
    Ok(explored)
}

fn way<A: Copy + fmt::Debug>(found: &[Option<(usize, A)>], mut at: usize, last: Option<A>) -> Vec<String> {
    let mut way: Vec<A> = last.into_iter().collect();
    while let Some((from, action)) = found[at] {
        way.push(action);
        at = from;
    }
    way.iter().rev().map(|action| format!("{action:?}")).collect()
}

fn fingerprint(key: &impl Hash) -> [u64; 2] {
    [0u8, 1].map(|salt| {
        let mut hasher = DefaultHasher::new();
        (salt, key).hash(&mut hasher);
        hasher.finish()
    })
}
