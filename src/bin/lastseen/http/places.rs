//! The places of connections. When all are taken, one that waits for nothing but its client gives way to a newcomer:
//! who asks whether the node lives does not wait behind those who ask nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lastseen::net::Clock;
use lastseen::proto::Time;
use tokio::sync::Notify;
use tokio::time::timeout;

/// A reader that has taken nothing for so long gives way as well.
const STALLED: Duration = Duration::from_secs(1);

/// The places of one or more listeners.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    taken: Mutex<Vec<Arc<Place>>>,
    /// A place became free, or its connection idle.
    changed: Notify,
}

/// The place of one connection, known to its stream and to its answers.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    state: Mutex<State>,
    give_way: Notify,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// Answers that are being made. A stream of events is one for as long as it lasts.
    making: u32,
    /// The reader does not take all that was made.
    stalls: bool,
    /// When it began, made an answer, or wrote: the newest of these; while it stalls, the beginning of that.
    since: Time,
}

/// A place that is held: it becomes free when this is dropped.
#[derive(Debug)]
pub(crate) struct Held(pub(crate) Arc<Place>);

/// An answer is being made until this is dropped.
#[derive(Debug)]
pub(crate) struct Making(Arc<Place>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Places {
    /// So many places.
    pub(crate) fn new(most: usize) -> Arc<Places> {
        Arc::new(Places { most, taken: Mutex::default(), changed: Notify::new() })
    }

    /// A place for a newcomer. When all are taken, who is idle longest gives it up at once; without such a one this
    /// waits.
    pub(crate) async fn take(self: &Arc<Self>) -> Held {
        loop {
            if let Some(held) = self.try_take() {
                return held;
            }
            // Nobody tells when a reader has stalled for long enough.
            let _ = timeout(STALLED, self.changed.notified()).await;
        }
    }

    /// Returns when no place is taken.
    pub(crate) async fn empty(&self) {
        while !lock(&self.taken).is_empty() {
            self.changed.notified().await;
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Held> {
        let now = Clock.now();
        let mut taken = lock(&self.taken);
        if taken.len() >= self.most {
            let idle = taken.iter().enumerate().filter_map(|(at, place)| Some((place.idle_since(now)?, at)));
            let (_, longest) = idle.min()?;
            taken.swap_remove(longest).give_way.notify_one();
        }
        let state = Mutex::new(State { making: 0, stalls: false, since: now });
        let place = Arc::new(Place { places: Arc::clone(self), state, give_way: Notify::new() });
        taken.push(Arc::clone(&place));
        Some(Held(place))
    }
}

impl Place {
    /// Since when it waits for nothing but its client, if it does.
    fn idle_since(&self, now: Time) -> Option<Time> {
        let state = *lock(&self.state);
        let is_busy = state.making > 0 || state.stalls && now.since(state.since) < STALLED;
        (!is_busy).then_some(state.since)
    }

    /// Returns when a newcomer has got this place.
    pub(crate) async fn lost(&self) {
        self.give_way.notified().await;
    }

    /// An answer is being made from now on.
    pub(crate) fn make(self: &Arc<Self>) -> Arc<Making> {
        lock(&self.state).making += 1;
        Arc::new(Making(Arc::clone(self)))
    }

    /// Whether an answer is being made.
    pub(crate) fn is_making(&self) -> bool {
        lock(&self.state).making > 0
    }

    /// A write was tried; whether it has to wait for the reader.
    pub(crate) fn wrote(&self, stalls: bool) {
        let mut state = lock(&self.state);
        if state.stalls && stalls {
            return;
        }
        (state.stalls, state.since) = (stalls, Clock.now());
        drop(state);
        self.places.changed.notify_one();
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.making -= 1;
        state.since = Clock.now();
        drop(state);
        self.0.places.changed.notify_one();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let places = &self.0.places;
        lock(&places.taken).retain(|place| !Arc::ptr_eq(place, &self.0));
        places.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn give_way(places: &Arc<Places>) -> Held {
        places.try_take().expect("somebody gives way")
    }

    /// Of those who are idle since the same microsecond any may give way.
    fn a_moment_later() {
        let now = Clock.now();
        while Clock.now() == now {}
    }

    /// Whether this one has to go.
    fn is_lost(held: &Held) -> bool {
        !lock(&held.0.places.taken).iter().any(|place| Arc::ptr_eq(place, &held.0))
    }

    #[tokio::test]
    async fn who_is_idle_longest_gives_way_and_nobody_at_work() {
        let places = Places::new(3);
        let [first, second, third] = [(); 3].map(|()| {
            a_moment_later();
            places.try_take().unwrap()
        });
        assert!(![&first, &second, &third].into_iter().any(is_lost), "there was room");
        let making = first.0.make();
        a_moment_later();
        let fourth = give_way(&places);
        assert_eq!([&first, &second, &third].map(is_lost), [false, true, false], "the first is at work");
        drop(making);
        let fifth = give_way(&places);
        assert_eq!(
            [&first, &third, &fourth].map(is_lost),
            [false, true, false],
            "the first was at work since"
        );
        second.0.lost().await;
        third.0.lost().await;
        let _at_work = [&first, &fourth, &fifth].map(|held| held.0.make());
        assert!(places.try_take().is_none());
        drop((second, third));
        assert!(places.try_take().is_none(), "who lost its place frees none");
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_waits_for_the_first_that_is_done() {
        let places = Places::new(1);
        let held = places.take().await;
        let making = held.0.make();
        let newcomer = tokio::spawn({
            let places = Arc::clone(&places);
            async move { drop(places.take().await) }
        });
        for _ in 0..10 {
            tokio::time::sleep(STALLED).await;
            assert!(!newcomer.is_finished() && !is_lost(&held));
        }
        drop(making);
        newcomer.await.unwrap();
        assert!(is_lost(&held));
    }

    #[test]
    fn a_reader_that_stalls_gives_way_after_a_second() {
        let places = Places::new(1);
        let held = places.try_take().unwrap();
        held.0.wrote(true);
        let began = lock(&held.0.state).since;
        held.0.wrote(true);
        let late = |after| held.0.idle_since(began + after).is_some();
        assert_eq!([Duration::ZERO, STALLED / 2, STALLED].map(late), [false, false, true]);
        held.0.wrote(false);
        assert!(held.0.idle_since(Clock.now()).is_some(), "all is taken");
    }
}
