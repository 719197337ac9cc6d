//! Other keys while the node runs.

use std::sync::Arc;

use super::Node;
use crate::proto::config::ConfigError;
use crate::proto::event::Change;
use crate::proto::seal::{Keyring, Tag};
use crate::proto::timer::Time;

impl Node {
    /// From now on these keys count: the first seals first tries, all open. What is known of the peers stays; a key that is in
    /// both keyrings goes on where it was, under the same numbers. The old keys are wiped from memory. What waits to be
    /// sent is dropped.
    ///
    /// # Errors
    /// Two nodes have one tag under a new key, both are named; the old keys stay in force.
    pub fn set_keys(&mut self, keys: Keyring, now: Time) -> Result<(), ConfigError> {
        let directory = self.directory.under(&self.config, &keys)?;
        self.advance(now);
        self.out.clear();
        // For each new key where the old keyring had it.
        let before: Vec<Option<usize>> = (0..keys.len()).map(|k| keys.place_in(k, &self.ring)).collect();
        let after = |old: usize| before.iter().position(|k| *k == Some(old));
        for account in &mut self.accounts {
            // What was asked under a key that is gone is not answered: whoever means it asks again.
            account.answer = account.answer.take().and_then(|mut question| {
                question.key = after(question.key)?;
                Some(question)
            });
        }
        let is_other = !before.iter().copied().eq((0..self.ring.len()).map(Some));
        (self.ring, self.directory) = (keys, Arc::new(directory));
        self.learned.clear();
        self.own_tags = self.ring.tags(&self.config.server_id);
        self.make_hello_keys();
        for peer in 0..self.sessions.len() {
            if !self.sessions[peer].tags.is_empty() {
                let id = Arc::clone(&self.registry.at(peer).server_id);
                let tags = self.tags_at(self.places[peer], &id);
                self.sessions[peer].rekey(tags.unwrap_or_else(|| self.ring.tags(&id)), &before);
            }
        }
        for guest in (0..self.guests.len()).rev() {
            let place = self.guests[guest].place;
            match self.id_at(place).and_then(|id| self.tags_at(place, &id)) {
                Some(tags) => self.guests[guest].session.rekey(tags, &before),
                None => self.dismiss(guest),
            }
        }
        for index in 0..self.others.len() {
            let place = self.others[index].place as usize;
            // Whom it does not observe may ask it something all the same.
            if let Some(id) = self.id_at(place).filter(|_| self.names_no_id(place)) {
                let _ = self.learn_tags(place, &id);
            }
        }
        if is_other {
            let ids: Vec<String> = self.ring.ids().map(|id| format!("{id:02x}")).collect();
            let why = format!("the keys are now {}; the first one is sent with", ids.join(", "));
            self.push_event(None, Change::Keys, why);
        }
        Ok(())
    }

    /// The tags of the node at `place`, one for each key; entered into the tables if the roster does not know its id. `None`:
    /// it tells the id of another node for its own. Two with one name would seal under the same numbers.
    pub(super) fn tags_at(&mut self, place: usize, id: &str) -> Option<Vec<Tag>> {
        if self.names_no_id(place) { self.learn_tags(place, id).ok() } else { Some(self.ring.tags(id)) }
    }
}
