//! Correcting a table after the fact: hours from the records, late ones too, or the whole table.
//!
//! A final hour is *rebuilt* from all the records that bus and archive have of it: nothing is late now.
//! If its rows come out other than they are, one commit puts them in their place. The table goes on
//! meanwhile; only hours that are final for all lanes can be rebuilt, so no lane writes to them.
//!
//! A table is *replaced* when all of it is to be counted again, by these settings or by others: it is
//! empty then, and its lanes begin where the records begin.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use super::{
    Settings,
    definition::{Definition, millis},
    delta::{self, HourFile, LaneId, Outcome, Rebuild, Replace, Snapshot},
    files,
    grid::{Hour, rfc3339},
    keeper::Keeper,
    window::{Merged, Row, Windows},
};
use crate::{
    bus::{Bus, TopicInfo, letters},
    failpoint::rare,
    fault::{Fault, Kind, Result},
    model::{Hole, Millis, Offset, Pause, Record, Why, fresh_uuid},
    store::Store,
};

/// How often an hour is begun again because somebody else was at it.
const TRIES: u32 = 10;

/// So many rows of a lane are held in memory; at some hundred bytes each.
const MAX_ROWS: usize = 500_000;

/// Where a rebuild takes its records from.
pub struct Source<'a> {
    /// A bus, perhaps with an archive behind it.
    pub bus: &'a dyn Bus,
    /// Whether to go on where records are gone that may belong to the hours.
    pub despite_gaps: bool,
}

/// What a rebuild did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Hours whose rows are others now.
    pub changed: Vec<Hour>,
    /// Hours that were right.
    pub same: u64,
    /// Where it ended: before the end of the range if the hours have more rows than fit in memory.
    pub until: Millis,
    /// Records that were read.
    pub records: u64,
    /// Up to where each lane was read.
    pub counted: BTreeMap<LaneId, Offset>,
    /// Offsets of records that nobody has any more and that may belong to the hours.
    pub gaps: Vec<(LaneId, Hole)>,
}

impl Keeper {
    /// Rebuilds the hours that begin within `range`, all of them final.
    ///
    /// Reads each lane's records from the beginning of the range less `future_bound` (bus time) up to what the
    /// lane has committed. What does not fit in memory is left for another call ([`Rebuilt::until`]).
    ///
    /// # Errors
    /// `User` if not all of the range is final; [`Kind::Lost`] if records are gone that may belong to it,
    /// unless gaps are accepted; those of bus and store. Hours that were corrected by then stay so.
    pub async fn rebuild(&mut self, topic: &TopicInfo, range: &Range<Millis>, source: &Source<'_>) -> Result<Rebuilt> {
        self.table.follow().await?;
        let until = self.table.snapshot.final_until();
        if until < Some(range.end) {
            let until = until.map_or("none is".to_owned(), |until| format!("all before {} are", rfc3339(until)));
            let text = format!("only final hours can be rebuilt, and {until}: the open ones are still counted");
            return Err(Fault::user(text).at(format!("table {}", self.settings.path)));
        }
        // What is closed and on its way to plain readers has to be there first.
        self.swap().await?;
        let (rows, mut rebuilt) = self.count(topic, range, source).await?;
        if !rebuilt.gaps.is_empty() && !source.despite_gaps {
            return Err(self.incomplete(&rebuilt.gaps));
        }
        let stands = self.table.snapshot.files().filter_map(|(_, file)| file.hour).map(|hour| (hour, Vec::new()));
        let range = range.start..rebuilt.until;
        let mut hours: BTreeMap<Hour, Vec<Row>> = stands.filter(|(hour, _)| range.contains(&hour.start())).collect();
        hours.extend(rows);
        for (hour, rows) in hours {
            if self.correct(hour, &rows, &rebuilt.counted).await? {
                rebuilt.changed.push(hour);
            } else {
                rebuilt.same += 1;
            }
            self.table.pause.stepped();
        }
        Ok(rebuilt)
    }

    /// The rows of each hour, from the records of all lanes.
    async fn count(
        &self,
        topic: &TopicInfo,
        range: &Range<Millis>,
        source: &Source<'_>,
    ) -> Result<(BTreeMap<Hour, Vec<Row>>, Rebuilt)> {
        let columns = self.table.snapshot.definition().columns();
        let mut hours = BTreeMap::<Hour, Merged<'_>>::new();
        let mut rebuilt = Rebuilt { until: range.end, ..Rebuilt::default() };
        // In the order in which an hour's live files are merged: sums of fractions depend on it.
        let mut lanes: Vec<_> = self.table.snapshot.lanes().filter(|(lane, _)| lane.topic == topic.id).collect();
        lanes.sort_by_key(|(lane, _)| lane.to_string());
        let poison = letters::poison(source.bus, topic).await?;
        for (lane, positions) in lanes {
            let earliest = range.start.saturating_sub(millis(self.settings.future_bound));
            let mut windows = Windows::new(Arc::clone(&self.table.plan), None);
            let mut gone = Gaps { earliest, open: Vec::new(), found: Vec::new() };
            let high = source.bus.watermarks(topic, lane.partition).await?.high;
            if positions.next > high {
                let at = format!("table {}, lane {lane}", self.settings.path);
                let text = format!("stands at {}, and the bus ends at {high}: it has lost records", positions.next);
                return Err(Fault::data(text).kind(Kind::Lost).at(at));
            }
            let from = source.bus.offset_before(topic, lane.partition, earliest).await?;
            let mut reader = source.bus.reader(topic, lane.partition, from).await?;
            while reader.position() < positions.next {
                let mut batch = reader.next().await?;
                batch.records.retain(|record| record.offset < positions.next);
                batch.to = batch.to.min(positions.next);
                letters::blind(&mut batch, lane.partition, &poison);
                gone.holes(batch.holes());
                gone.records(&batch.records);
                rebuilt.records += batch.records.len() as u64;
                windows.take(&batch.records);
                rebuilt.until = windows.keep_only(&(range.start..rebuilt.until), MAX_ROWS);
            }
            rebuilt.counted.insert(lane, positions.next);
            rebuilt.gaps.extend(gone.all().into_iter().map(|hole| (lane, hole)));
            for hour in windows.seal(positions.next, None).hours {
                let merged = hours.entry(hour.hour).or_insert_with(|| Merged::new(&columns));
                hour.rows.into_iter().for_each(|row| merged.add(row));
            }
        }
        let hours = hours.into_iter().filter(|(hour, _)| hour.start() < rebuilt.until);
        Ok((hours.map(|(hour, merged)| (hour, merged.rows())).collect(), rebuilt))
    }

    /// Commits these rows for the hour if it has others; whether it had.
    async fn correct(&mut self, hour: Hour, rows: &[Row], counted: &BTreeMap<LaneId, Offset>) -> Result<bool> {
        for _ in 0..TRIES {
            let replaces = self.table.snapshot.files_of(hour)?;
            if self.rows_of(&replaces).await? == rows {
                return Ok(false);
            }
            let file = HourFile { hour, generation: self.table.snapshot.generation_of(hour) + 1 };
            let name = || self.table.at(&file.rebuilt_path());
            let (at, size) = self.table.write_rows(rows, name).await?;
            let path = format!("{}/{}", delta::REBUILT, at.name());
            let facts = files::facts(hour, rows, size);
            let counted = counted.clone();
            let rebuild = Rebuild { commit: fresh_uuid(), hour, replaces, path, facts, counted };
            if let Outcome::Committed { .. } = self.table.commit(&rebuild).await? {
                return Ok(true);
            }
            rare("table.rebuild_again");
        }
        Err(Fault::external(format!("table {}, hour {hour}: others were at it {TRIES} times", self.settings.path)))
    }

    fn incomplete(&self, gaps: &[(LaneId, Hole)]) -> Fault {
        let mut places: Vec<_> =
            gaps.iter().map(|(lane, hole)| format!("{}@[{}, {})", lane.partition, hole.from, hole.to)).collect();
        let more = places.split_off(places.len().min(5)).len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let text = format!(
            "neither bus nor archive has records that may belong to these hours: {} of topic {}{more}; rebuild later \
             hours, or accept that their records are missing (--despite-gaps)",
            places.join(", "),
            self.settings.topic
        );
        Fault::data(text).kind(Kind::Lost).at(format!("table {}", self.settings.path))
    }
}

/// Offsets whose records are gone, as far as they may have a bus time of `earliest` or later.
struct Gaps {
    earliest: Millis,
    open: Vec<Hole>,
    found: Vec<Hole>,
}

impl Gaps {
    fn holes(&mut self, holes: Vec<Hole>) {
        self.open.extend(holes.into_iter().filter(|hole| matches!(hole.why, Why::Retention | Why::Start)));
    }

    /// Bus times do not go back: a hole before a record that is too early is too early itself.
    fn records(&mut self, records: &[Record]) {
        for record in records {
            if self.open.is_empty() {
                return;
            }
            let (before, after) = self.open.iter().partition(|hole| hole.to <= record.offset);
            self.open = after;
            if record.time >= self.earliest {
                self.found.extend::<Vec<_>>(before);
            }
        }
    }

    fn all(mut self) -> Vec<Hole> {
        self.found.append(&mut self.open);
        self.found
    }
}

/// Puts an empty table of these settings in the place of the one that is there; each of its lanes, and each
/// of these, begins again at the offset given.
///
/// # Errors
/// `User` if there is no table; those of [`delta::commit`].
pub async fn replace(
    settings: &Settings,
    store: &dyn Store,
    pause: &dyn Pause,
    begin: &[(LaneId, Offset)],
    now: Millis,
) -> Result<Snapshot> {
    let definition = Definition::of(settings);
    let none = || Fault::user(format!("there is no table at {}", settings.path));
    let mut snapshot = Snapshot::load(store, &settings.path).await?.ok_or_else(none)?;
    for _ in 0..TRIES {
        let replace = Replace::new(&snapshot, &definition, begin.to_vec(), now)?;
        if let Outcome::Committed { .. } =
            delta::commit(store, pause, &mut snapshot, &definition, &replace, now).await?
        {
            return Ok(snapshot);
        }
        rare("table.replace_again");
    }
    Err(Fault::external(format!("table {}: others committed {TRIES} times meanwhile", settings.path)))
}

#[cfg(test)]
mod tests;
