//! Which events are known: a window over the ids of those taken last.
//!
//! A source that resumes repeats events, so an event whose id was taken before is dropped. The
//! window keeps each id for at least a time *and* keeps at least a number of the last ones: time
//! bounds what a busy source may repeat, the number what a quiet one may. The time is that of the
//! newest id given, not a clock's: while nothing comes, nothing is forgotten. Beyond a [most](MOST_IDS)
//! nothing is kept: a source that gives all it has at once would fill the memory within its time, and it
//! repeats what it gave last.
//!
//! An id is kept as its [`Fingerprint`]. The window is rebuilt from the spool and the topic after a start, so
//! these need not be the same in another version.
//!
//! An id takes 24 bytes in a queue in order of arrival, and 8 to 16 in a table of its places
//! there: 40 MB at most.

use std::{collections::VecDeque, time::Duration};

use crate::model::{Fingerprint, Millis};

/// So many ids are kept at most, unless at least so many more are asked for.
pub const MOST_IDS: usize = 1_000_000;

/// The window; see the module's text.
#[derive(Clone, Debug)]
pub struct Seen {
    window: Millis,
    min_ids: usize,
    max_ids: usize,

    queue: VecDeque<Entry>,
    // How many of its entries stand further back once more.
    num_moved: usize,
    // The number of the queue's front entry, counted from the first one ever, modulo 2³¹.
    front: u32,
    // Open addressing with linear probing, at most half full. It holds entries' numbers, or `FREE`.
    table: Vec<u32>,
    newest: Millis,
}

const FREE: u32 = u32::MAX;
const NUMBERS: u32 = (1 << 31) - 1;
const SMALLEST_TABLE: usize = 64;

// In the place of an id that has come again since, and stands further back.
const MOVED: Fingerprint = Fingerprint::NONE;

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: Fingerprint,
    time: Millis,
}

impl Seen {
    /// A window that knows nothing yet. It keeps ids for at least `window`, and at least the last
    /// `min_ids` ones; no more than these, or [`MOST_IDS`].
    pub fn new(window: Duration, min_ids: usize) -> Self {
        Self {
            window: Millis::try_from(window.as_millis()).unwrap_or(Millis::MAX),
            min_ids,
            max_ids: min_ids.max(MOST_IDS),
            queue: VecDeque::new(),
            num_moved: 0,
            front: 0,
            table: vec![FREE; SMALLEST_TABLE],
            newest: Millis::MIN,
        }
    }

    /// Takes an id that came at `time` (times may go back a little) and answers whether it is new.
    /// One that is known counts as come now: a quiet source repeats its last event at each resume, for
    /// days.
    pub fn insert(&mut self, hash: Fingerprint, time: Millis) -> bool {
        self.newest = self.newest.max(time);
        let found = self.find(&hash);
        let (Ok(slot) | Err(slot)) = found;
        if found.is_ok() {
            let before = self.place(self.table[slot]);
            self.queue[before].hash = MOVED;
            self.num_moved += 1;
        }
        self.table[slot] = self.number(self.queue.len());
        self.queue.push_back(Entry { hash, time });
        self.forget();
        if 2 * self.num_moved > self.queue.len() {
            self.queue.retain(|entry| entry.hash != MOVED);
            self.num_moved = 0;
            self.fill(self.table.len());
        } else if 2 * self.queue.len() > self.table.len() {
            self.fill(2 * self.table.len());
        }
        found.is_err()
    }

    /// Whether an id is known.
    pub fn contains(&self, hash: Fingerprint) -> bool {
        self.find(&hash).is_ok()
    }

    /// How many ids are known.
    pub fn len(&self) -> usize {
        self.queue.len() - self.num_moved
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    // The slot that holds the hash's entry, or the free one where it would go.
    fn find(&self, hash: &Fingerprint) -> Result<usize, usize> {
        let mut slot = self.home(hash);
        loop {
            match self.table[slot] {
                FREE => return Err(slot),
                number if self.entry(number).hash == *hash => return Ok(slot),
                _ => slot = self.after(slot),
            }
        }
    }

    fn forget(&mut self) {
        let oldest = self.newest.saturating_sub(self.window);
        while let Some(entry) = self.queue.front().copied()
            && (entry.hash == MOVED || self.len() > self.max_ids || (self.len() > self.min_ids && entry.time < oldest))
        {
            if entry.hash == MOVED {
                self.num_moved -= 1;
            } else if let Ok(slot) = self.find(&entry.hash) {
                self.free(slot);
            }
            self.queue.pop_front();
            self.front = self.front.wrapping_add(1) & NUMBERS;
        }
    }

    // Frees a slot and closes the gap, so that no search ends too early (Knuth, volume 3,
    // section 6.4, algorithm R).
    fn free(&mut self, mut gap: usize) {
        let mask = self.table.len() - 1;
        let mut slot = gap;
        loop {
            self.table[gap] = FREE;
            loop {
                slot = self.after(slot);
                if self.table[slot] == FREE {
                    return;
                }
                let home = self.home(&self.entry(self.table[slot]).hash);
                if slot.wrapping_sub(home) & mask >= slot.wrapping_sub(gap) & mask {
                    break;
                }
            }
            self.table[gap] = self.table[slot];
            gap = slot;
        }
    }

    // Makes the table anew, with so many slots.
    fn fill(&mut self, slots: usize) {
        self.table = vec![FREE; slots];
        for at in 0..self.queue.len() {
            if self.queue[at].hash != MOVED
                && let Err(free) = self.find(&self.queue[at].hash)
            {
                self.table[free] = self.number(at);
            }
        }
    }

    fn entry(&self, number: u32) -> Entry {
        self.queue[self.place(number)]
    }

    // Where the entry with this number stands in the queue, and the other way round.
    fn place(&self, number: u32) -> usize {
        (number.wrapping_sub(self.front) & NUMBERS) as usize
    }

    // Two thousand million ids would take 48 GB.
    fn number(&self, place: usize) -> u32 {
        self.front.wrapping_add(u32::try_from(place).unwrap_or(NUMBERS)) & NUMBERS
    }

    #[allow(clippy::cast_possible_truncation)] // the table's length is a power of two below 2³²
    fn home(&self, hash: &Fingerprint) -> usize {
        hash.half() as usize & (self.table.len() - 1)
    }

    fn after(&self, slot: usize) -> usize {
        (slot + 1) & (self.table.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(window_ms: u64, min_ids: usize, inserts: &[(&str, Millis)], new: &[bool], known: &[&str]) {
        let mut seen = Seen::new(Duration::from_millis(window_ms), min_ids);
        let answers: Vec<_> =
            inserts.iter().map(|&(id, time)| seen.insert(Fingerprint::of(id.as_bytes()), time)).collect();
        assert_eq!(answers, new, "{inserts:?}");
        assert_eq!(seen.len(), known.len(), "{inserts:?}");
        assert!(known.iter().all(|id| seen.contains(Fingerprint::of(id.as_bytes()))), "{known:?} after {inserts:?}");
    }

    #[test]
    fn a_known_id_is_not_new() {
        check(
            10,
            0,
            &[("a", 0), ("b", 1), ("a", 2), ("", 3), ("", 4)],
            &[true, true, false, true, false],
            &["a", "b", ""],
        );
    }

    #[test]
    fn an_id_is_kept_for_the_whole_window() {
        check(10, 0, &[("a", 0), ("b", 10)], &[true, true], &["a", "b"]);
        check(10, 0, &[("a", 0), ("b", 11), ("a", 11)], &[true, true, true], &["b", "a"]);
    }

    #[test]
    fn an_id_that_comes_again_and_again_is_known_for_ever() {
        check(
            10,
            0,
            &[("a", 0), ("b", 8), ("a", 9), ("c", 18), ("a", 19)],
            &[true, true, false, true, false],
            &["c", "a"],
        );
        let mut seen = Seen::new(Duration::ZERO, 10);
        assert_eq!((0..100_000).filter(|time| seen.insert(Fingerprint::of(b"a"), *time)).count(), 1);
        assert!((seen.len(), seen.queue.len()) <= (1, 3), "{} entries", seen.queue.len());
    }

    #[test]
    fn the_last_ids_are_kept_however_old() {
        check(10, 2, &[("a", 0), ("b", 1), ("c", 5_000)], &[true; 3], &["b", "c"]);
        check(10, 3, &[("a", 0), ("b", 1), ("c", 5_000)], &[true; 3], &["a", "b", "c"]);
    }

    #[test]
    fn times_that_go_back_keep_ids_longer_never_shorter() {
        check(10, 0, &[("a", 100), ("b", 50), ("c", 105)], &[true; 3], &["a", "b", "c"]);
        check(10, 0, &[("a", Millis::MIN), ("b", Millis::MAX)], &[true; 2], &["b"]);
    }

    /// What the window promises, without any thought of cost.
    struct Model {
        window: Millis,
        min_ids: usize,
        ids: Vec<(u64, Millis)>,
    }

    impl Model {
        fn insert(&mut self, id: u64, time: Millis, newest: Millis) -> bool {
            let before = self.ids.iter().position(|(known, _)| *known == id);
            if let Some(before) = before {
                self.ids.remove(before);
            }
            self.ids.push((id, time));
            while self.ids.len() > self.min_ids && self.ids[0].1 < newest - self.window {
                self.ids.remove(0);
            }
            before.is_none()
        }
    }

    #[test]
    fn it_knows_what_a_plain_list_knows() {
        let mut forgotten = 0;
        for seed in 0..60 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (window, min_ids) = (rng.i64(0..400), rng.usize(0..300));
            let mut model = Model { window, min_ids, ids: Vec::new() };
            let mut seen = Seen::new(Duration::from_millis(window.unsigned_abs()), min_ids);
            // The numbers of the entries pass through zero in some of the histories.
            seen.front = NUMBERS - rng.u32(0..4_000);
            let (mut now, mut newest) = (0, Millis::MIN);
            for step in 0..3_000 {
                now += rng.i64(0..3);
                let (id, time) = (rng.u64(0..1_000), now - rng.i64(0..20));
                newest = newest.max(time);
                let new = model.insert(id, time, newest);
                assert_eq!(seen.insert(Fingerprint::of(&id.to_le_bytes()), time), new, "seed {seed}, step {step}");
                assert_eq!(seen.len(), model.ids.len(), "seed {seed}, step {step}");
            }
            for id in 0..1_000_u64 {
                let known = model.ids.iter().any(|(known, _)| *known == id);
                assert_eq!(seen.contains(Fingerprint::of(&id.to_le_bytes())), known, "seed {seed}, id {id}");
                forgotten += u32::from(!known);
            }
        }
        assert!(forgotten > 10_000, "{forgotten}");
    }

    #[test]
    fn however_fast_they_come_no_more_are_kept_than_fit() {
        let mut seen = Seen::new(Duration::from_secs(900), 10);
        let id = |number: usize| Fingerprint::of(&number.to_le_bytes());
        for number in 0..MOST_IDS + 5 {
            assert!(seen.insert(id(number), 7));
        }
        assert_eq!(seen.len(), MOST_IDS);
        assert_eq!([4, 5, MOST_IDS + 4].map(|number| seen.contains(id(number))), [false, true, true]);
        assert_eq!(Seen::new(Duration::ZERO, 2 * MOST_IDS).max_ids, 2 * MOST_IDS, "a person may ask for more");
    }

    #[test]
    fn an_id_takes_forty_bytes_at_most() {
        let mut seen = Seen::new(Duration::ZERO, 100_000);
        for id in 0..300_000_u64 {
            assert!(seen.insert(Fingerprint::of(&id.to_le_bytes()), Millis::try_from(id).unwrap()));
        }
        assert_eq!(seen.len(), 100_000);
        let bytes = seen.queue.capacity() * size_of::<Entry>() + seen.table.len() * size_of::<u32>();
        assert!(bytes <= 45 * seen.len(), "{bytes} bytes");
    }
}
