//! Which keys are known: of elements with the same key the first one in the log wins.
//!
//! The index maps a key to the *coordinate* of the element that won it, so a replay of the winner is no
//! repetition: it is written again, which changes nothing. An element behind it with the key is one, for as long as
//! the key is known: until it is older than the horizon (by the records' bus times, never a clock's), or so many
//! keys were won after it that it is no longer among the most that are kept. Both are functions of the log, so
//! whoever reads it again comes to the same winners.
//!
//! A key is kept as its [`Fingerprint`], with its coordinate and time: about 75 bytes in a table that
//! is half full, and 100 at most when it has just grown. What lies on the bus is the key itself.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    time::Duration,
};

use crate::model::{Fingerprint, Millis, Offset};

/// For how long, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon {
    /// A key is known for so long after it was won.
    pub age: Duration,
    /// No more keys than this are known, for each partition.
    pub most: usize,
}

/// Where and when a key was won.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Winner {
    /// The record's offset.
    pub offset: Offset,
    /// Which of its elements.
    pub element: u32,
    /// The record's bus time.
    pub time: Millis,
}

impl Winner {
    fn is_at(&self, other: &Self) -> bool {
        (self.offset, self.element) == (other.offset, other.element)
    }

    fn is_behind(&self, other: &Self) -> bool {
        (self.offset, self.element) > (other.offset, other.element)
    }
}

/// What an element is to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its winner, and was so before: a replay.
    Known,
    /// Its winner from now on.
    Won,
    /// Another one won it.
    Repeated,
}

/// The index of one partition; see the module's text.
#[derive(Debug)]
pub struct Keys {
    age: Millis,
    most: usize,
    winners: HashMap<Fingerprint, Winner, BuildHasherDefault<Hashed>>,
    // In the order in which they were won. A key that was won again stands here twice; only the entry that
    // agrees with the table counts.
    order: VecDeque<(Fingerprint, Offset, u32)>,
}

impl Keys {
    /// An index that knows nothing.
    pub fn new(horizon: Horizon) -> Self {
        let age = Millis::try_from(horizon.age.as_millis()).unwrap_or(Millis::MAX);
        Self { age, most: horizon.most.max(1), winners: HashMap::default(), order: VecDeque::new() }
    }

    /// What the element at `place` is to this key; a winner is known from then on.
    pub fn judge(&mut self, key: &[u8], place: Winner) -> Verdict {
        let id = Fingerprint::of(key);
        match self.winners.get(&id) {
            Some(winner) if winner.is_at(&place) => return Verdict::Known,
            // Held by one behind it: the keys of a load came onto the bus and its position did not, and this is
            // one that the sink had refused.
            Some(winner) if winner.is_behind(&place) => {}
            Some(winner) if place.time.saturating_sub(winner.time) <= self.age => return Verdict::Repeated,
            _ => {}
        }
        self.insert(id, place);
        Verdict::Won
    }

    /// Takes in what was won in an earlier life; in the order in which it was won.
    pub fn restore(&mut self, key: &[u8], winner: Winner) {
        self.insert(Fingerprint::of(key), winner);
    }

    /// Its winner is none after all.
    pub fn give_back(&mut self, key: &[u8], winner: Winner) {
        let id = Fingerprint::of(key);
        if self.winners.get(&id).is_some_and(|known| known.is_at(&winner)) {
            self.winners.remove(&id);
        }
    }

    /// How many keys are known.
    pub fn len(&self) -> usize {
        self.winners.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.winners.is_empty()
    }

    fn insert(&mut self, id: Fingerprint, winner: Winner) {
        self.winners.insert(id, winner);
        self.order.push_back((id, winner.offset, winner.element));
        // What was given back stands here until it comes to the front, which may be long.
        if self.order.len() > 2 * self.winners.len() + 1_024 {
            let winners = &self.winners;
            self.order.retain(|(id, offset, element)| {
                winners.get(id).is_some_and(|known| (known.offset, known.element) == (*offset, *element))
            });
        }
        while let Some(&(id, offset, element)) = self.order.front() {
            let first = self.winners.get(&id).filter(|first| (first.offset, first.element) == (offset, element));
            let is_old = first.is_none_or(|first| winner.time.saturating_sub(first.time) > self.age);
            if !is_old && self.winners.len() <= self.most {
                break;
            }
            if first.is_some() {
                self.winners.remove(&id);
            }
            self.order.pop_front();
        }
    }
}

/// Ids are hashes already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = self.0.rotate_left(5) ^ u64::from_ne_bytes(word);
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = self.0.rotate_left(5) ^ word;
    }

    // The length of an array, which is the same for all.
    fn write_usize(&mut self, _: usize) {}
}

#[cfg(test)]
mod tests {
    use super::{Verdict::*, *};

    fn keys(age: u64, most: usize) -> Keys {
        Keys::new(Horizon { age: Duration::from_millis(age), most })
    }

    fn at(offset: Offset, time: Millis) -> Winner {
        Winner { offset, element: 0, time }
    }

    #[test]
    fn the_first_one_wins_and_a_replay_of_it_is_no_repetition() {
        let mut keys = keys(100, 10);
        let judged: Vec<_> = [("a", 0), ("b", 1), ("a", 2), ("a", 0), ("b", 1), ("b", 3)]
            .map(|(key, offset)| keys.judge(key.as_bytes(), at(offset, 0)))
            .into();
        assert_eq!(judged, [Won, Won, Repeated, Known, Known, Repeated]);
        let second = Winner { element: 1, ..at(0, 0) };
        assert_eq!((keys.judge(b"a", second), keys.judge(b"c", second)), (Repeated, Won));
    }

    #[test]
    fn keys_that_are_given_back_take_no_room() {
        let mut keys = keys(1_000_000, 100);
        keys.judge(b"good", at(0, 0));
        for n in 1..50_000_u64 {
            let place = at(n, 0);
            assert_eq!(keys.judge(&n.to_le_bytes(), place), Won);
            keys.give_back(&n.to_le_bytes(), place);
        }
        assert!(keys.len() == 1 && keys.order.len() < 2_000, "{} places", keys.order.len());
        assert_eq!(keys.judge(b"good", at(50_000, 0)), Repeated);
    }

    #[test]
    fn a_key_is_known_for_its_horizon_and_then_won_anew() {
        let mut keys = keys(100, 10);
        assert_eq!(keys.judge(b"a", at(0, 0)), Won);
        assert_eq!(keys.judge(b"a", at(1, 100)), Repeated);
        assert_eq!(keys.judge(b"a", at(2, 101)), Won);
        assert_eq!(keys.judge(b"a", at(3, 201)), Repeated);
        assert_eq!((keys.len(), keys.order.len()), (1, 1));
    }

    #[test]
    fn no_more_than_the_most_are_known_and_the_oldest_go_first() {
        let mut keys = keys(1_000, 2);
        for (offset, key) in (0..).zip(["a", "b", "c"]) {
            assert_eq!(keys.judge(key.as_bytes(), at(offset, 0)), Won);
        }
        assert_eq!(keys.len(), 2);
        assert_eq!(keys.judge(b"b", at(3, 0)), Repeated);
        assert_eq!(keys.judge(b"a", at(4, 0)), Won);
        assert_eq!(keys.judge(b"b", at(5, 0)), Won, "it had to go for a");
    }

    /// What the index promises, without any thought of cost.
    #[derive(Default)]
    struct Model(Vec<(u64, Winner)>);

    impl Model {
        fn judge(&mut self, key: u64, place: Winner, age: Millis, most: usize) -> Verdict {
            match self.0.iter().find(|(known, _)| *known == key) {
                Some((_, winner)) if winner.is_at(&place) => return Known,
                Some((_, winner)) if place.time - winner.time <= age => return Repeated,
                _ => {}
            }
            self.0.retain(|(known, winner)| *known != key && place.time - winner.time <= age);
            self.0.push((key, place));
            let extra = self.0.len().saturating_sub(most);
            self.0.drain(..extra);
            Won
        }
    }

    #[test]
    fn it_knows_what_a_plain_list_knows_and_a_restart_knows_it_too() {
        for seed in 0..100 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (age, most, kinds) = (rng.i64(0..300), rng.usize(1..60), rng.u64(1..100));
            let fresh = || keys(age.unsigned_abs(), most);
            let (mut index, mut model) = (fresh(), Model::default());
            let (mut time, mut won) = (0, Vec::new());
            for offset in 0..1_000 {
                time += rng.i64(0..5);
                let (key, place) = (rng.u64(0..kinds), at(offset, time));
                let verdict = index.judge(&key.to_le_bytes(), place);
                assert_eq!(verdict, model.judge(key, place, age, most), "seed {seed}, offset {offset}");
                if verdict == Won {
                    won.push((key, place));
                }
                if rng.u8(..) == 0 {
                    // What lies on the bus gives back the same index.
                    index = fresh();
                    won.iter().for_each(|(key, winner)| index.restore(&key.to_le_bytes(), *winner));
                }
            }
            assert!(index.len() <= most && index.order.len() <= 1_000, "seed {seed}");
        }
    }
}
