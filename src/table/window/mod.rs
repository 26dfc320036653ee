//! The windows of one partition: records in, complete hours out. No I/O, no clock.
//!
//! The state is a pure function of the records and of where the commits were cut:
//!
//! - **The committed watermark judges.** All records of one commit `[next, next′)` are judged by
//!   the watermark that was stored with `next`; the new one, the largest event time seen minus
//!   the delay, is stored with `next′` and judges the records after it. A record is *late* if its
//!   hour is final under the judging watermark, and is left out.
//! - **Hours, not windows.** No window closes before its hour, so an hour's file is always written
//!   from the complete hour: after a restart at minute 50 all fifty minutes must come back, hence
//!   *rewind* is the first offset that feeds an hour that is not final.
//! - **Replay** of `[rewind, next)` under the stored watermark gives the state back: an hour that
//!   is not final under it was not final under any earlier, smaller one, so every record of it
//!   had been counted. Replay moves nothing.
//! - A record whose time is further ahead of its bus time than the bound is *future*: not counted,
//!   and it moves nothing. Every other readable time moves the watermark, also of records that
//!   are filtered or lack a key: time passes for the whole partition. A watermark never goes back.
//!
//! Rows come out sorted, hours in order: the same records give the same files.

mod reading;
mod row;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, ops::Range, sync::Arc};

pub use reading::Plan;
pub use row::{Cell, HourRows, Merged, Row, push_text, texts};

use crate::{
    model::{Millis, Offset, Record},
    table::grid::Hour,
    vitals::Moments,
};
use reading::{Reading, Scratch};

/// What became of records; their sum is the number of records taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Counted in a window.
    pub counted: u64,
    /// Kept out by a filter.
    pub filtered: u64,
    /// No value, no JSON, or a time or key that cannot be used.
    pub skipped: u64,
    /// Of an hour that is final.
    pub late: u64,
    /// Too far ahead of their bus time.
    pub future: u64,
}

impl Counts {
    /// How many records these are.
    pub fn total(&self) -> u64 {
        self.counted + self.filtered + self.skipped + self.late + self.future
    }

    /// These and those.
    pub fn add(&mut self, those: &Self) {
        self.counted += those.counted;
        self.filtered += those.filtered;
        self.skipped += those.skipped;
        self.late += those.late;
        self.future += those.future;
    }
}

/// What a commit at some offset says: see [`Windows::seal`].
#[derive(Clone, Debug, PartialEq)]
pub struct Seal {
    /// The first offset that feeds an hour that is not final under `watermark`.
    pub rewind: Offset,
    /// The watermark to be stored, if there is one yet.
    pub watermark: Option<Millis>,
    /// The hours that changed, each complete.
    pub hours: Vec<HourRows>,
}

/// The windows of one partition; see the module's text.
#[derive(Debug)]
pub struct Windows {
    plan: Arc<Plan>,
    judge: Option<Millis>,
    newest: Option<Millis>,
    hours: BTreeMap<Hour, Open>,
    scratch: Scratch,
}

// An hour that is not final.
#[derive(Debug)]
struct Open {
    first: Offset,
    changed: bool,
    committed: bool,
    windows: BTreeMap<Millis, Keyed>,
}

// The cells of one window, by the key that `push_text` makes.
type Keyed = BTreeMap<Box<[u8]>, Box<[Cell]>>;

impl Windows {
    /// Empty windows under this committed watermark.
    pub fn new(plan: Arc<Plan>, watermark: Option<Millis>) -> Self {
        Self { plan, judge: watermark, newest: None, hours: BTreeMap::new(), scratch: Scratch::default() }
    }

    /// Takes new records, in order of their offsets; also tells when those happened that are counted in a window.
    pub fn take(&mut self, records: &[Record]) -> (Counts, Moments) {
        self.walk(records, true)
    }

    /// Takes records of `[rewind, next)` again, silently.
    pub fn replay(&mut self, records: &[Record]) {
        self.walk(records, false);
    }

    /// Takes the rows that a commit wrote for an hour, in place of a replay of its records;
    /// `rewind` is the one stored with that commit.
    pub fn restore(&mut self, hour: Hour, rows: Vec<Row>, rewind: Offset) {
        let mut windows = BTreeMap::<Millis, Keyed>::new();
        for row in rows {
            let mut key = Vec::new();
            row.keys.iter().for_each(|text| push_text(&mut key, text));
            windows.entry(row.window_start).or_default().insert(key.into(), row.cells.into());
        }
        self.hours.insert(hour, Open { first: rewind, changed: false, committed: true, windows });
    }

    /// Forgets all hours but those that begin within `range`, and of these the last ones where there are more
    /// than `max_rows`; when the first of those begins, else the range's end.
    pub fn keep_only(&mut self, range: &Range<Millis>, max_rows: usize) -> Millis {
        self.hours.retain(|hour, _| range.contains(&hour.start()));
        let mut num_rows = 0;
        let too_many = |(&hour, open): (&Hour, &Open)| {
            // The first hour is kept, however large: there has to be an end.
            let is_first = num_rows == 0;
            num_rows += open.windows.values().map(BTreeMap::len).sum::<usize>();
            (num_rows > max_rows && !is_first).then_some(hour)
        };
        let Some(hour) = self.hours.iter().find_map(too_many) else { return range.end };
        self.hours.split_off(&hour);
        hour.start()
    }

    /// Whether this hour is final under the committed watermark.
    pub fn is_final(&self, hour: Hour) -> bool {
        self.plan.grid.is_final(hour, self.judge)
    }

    /// How many windows are not final.
    pub fn num_open(&self) -> usize {
        self.hours.values().map(|open| open.windows.len()).sum()
    }

    /// Ends a commit before `next` and begins the one after it.
    ///
    /// `follow` is a watermark to take over if it is larger: the idle rule's. From here on records
    /// are judged by the watermark of the answer, and the hours final under it are forgotten. So
    /// the answer must become durable as it is, or these windows be thrown away.
    pub fn seal(&mut self, next: Offset, follow: Option<Millis>) -> Seal {
        let seen = self.newest.map(|time| time.saturating_sub(self.plan.delay));
        let watermark = self.judge.max(seen).max(follow);
        let mut hours = Vec::new();
        for (&hour, open) in self.hours.iter_mut().filter(|(_, open)| open.changed) {
            hours.push(HourRows { hour, rows: open.rows(), replaces: open.committed });
            open.changed = false;
            open.committed = true;
        }
        self.judge = watermark;
        self.hours.retain(|&hour, _| !self.plan.grid.is_final(hour, watermark));
        let rewind = self.hours.values().map(|open| open.first).min().unwrap_or(next);
        Seal { rewind, watermark, hours }
    }

    fn walk(&mut self, records: &[Record], live: bool) -> (Counts, Moments) {
        let plan = Arc::clone(&self.plan);
        let (mut counts, mut moments) = (Counts::default(), Moments::default());
        let mut found = Vec::new();
        for record in records {
            let Some(value) = &record.value else {
                counts.skipped += 1;
                continue;
            };
            #[cfg(test)]
            crate::failpoint::tests_only::look(value);
            let reading = plan.read(value, &mut found, &mut self.scratch);
            let (Reading::Usable(time) | Reading::Filtered(Some(time)) | Reading::Unusable(Some(time))) = reading
            else {
                *if reading == Reading::Filtered(None) { &mut counts.filtered } else { &mut counts.skipped } += 1;
                continue;
            };
            let future = time > record.time.saturating_add(plan.future_bound);
            if live && !future {
                self.newest = self.newest.max(Some(time));
            }
            match reading {
                Reading::Filtered(_) => counts.filtered += 1,
                Reading::Unusable(_) => counts.skipped += 1,
                Reading::Usable(_) if future => counts.future += 1,
                Reading::Usable(_) if self.is_final(plan.grid.hour_of(time)) => counts.late += 1,
                Reading::Usable(_) => {
                    counts.counted += 1;
                    moments.push(time);
                    self.add(&plan, record.offset, time, live);
                }
            }
        }
        (counts, moments)
    }

    fn add(&mut self, plan: &Plan, offset: Offset, time: Millis, live: bool) {
        let fresh = || Open { first: offset, changed: false, committed: !live, windows: BTreeMap::new() };
        let hour = self.hours.entry(plan.grid.hour_of(time)).or_insert_with(fresh);
        hour.changed |= live;
        let rows = hour.windows.entry(plan.grid.window_of(time)).or_default();
        let key = self.scratch.key.as_slice();
        let add = |cells: &mut [Cell]| {
            for ((column, cell), &number) in plan.columns.measures.iter().zip(cells).zip(&self.scratch.numbers) {
                column.op.add(cell, number);
            }
        };
        if let Some(cells) = rows.get_mut(key) {
            add(cells);
        } else {
            let mut cells = plan.columns.zeros();
            add(&mut cells);
            rows.insert(key.into(), cells);
        }
    }
}

impl Open {
    fn rows(&self) -> Vec<Row> {
        let row = |start: Millis, key: &[u8], cells: &[Cell]| Row {
            window_start: start,
            keys: texts(key),
            cells: cells.to_vec(),
        };
        self.windows
            .iter()
            .flat_map(|(&start, rows)| rows.iter().map(move |(key, cells)| row(start, key, cells)))
            .collect()
    }
}
