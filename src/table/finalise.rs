//! Final hours: from the live files of all lanes to one file that plain readers see.
//!
//! 1. The hour is closed in the log ([`Close`]): no lane adds to it any more.
//! 2. Its live files are merged into one, which is renamed to `dt=<day>/<hour>.parquet`. From then on
//!    plain readers see the hour, once and for good. If a file stands there already, somebody has been
//!    here before: its rows must be the same, and it is adopted.
//! 3. A commit ([`Swap`]) puts it in the place of the live files, for those who read the log.

use std::collections::BTreeSet;

use super::{
    delta::{Close, Outcome, Swap},
    files,
    keeper::Keeper,
    parquet,
    window::{Hour, Merged, Row, rfc3339},
};
use crate::{
    failpoint::{cross, rare},
    fault::{Fault, Kind, Result, Retry},
    model::{Millis, TopicId, fresh_uuid},
    store::{Renamed, StorePath},
};

/// The folder of merged files on their way, within the table's.
pub const STAGING: &str = "_final";

/// How often a merged file is tried to be brought to its name.
const ATTEMPTS: u32 = 14;

const DAY: Millis = 24 * 3_600_000;

/// Where the merged file of an hour lies, within the table's folder.
pub fn final_path(hour: Hour) -> String {
    format!("dt={}/{}.parquet", hour.date(), hour.name())
}

/// The merged file for which this one in [`STAGING`] was on its way.
pub fn meant_for(name: &str) -> Option<String> {
    let (day, rest) = name.split_at_checked("2015-09-12".len())?;
    let (hour, _) = rest.strip_prefix('-')?.split_once('-')?;
    Some(format!("dt={day}/{hour}.parquet"))
}

impl Keeper {
    /// Says in the log which hours are final; the time up to which, if it moved.
    pub(super) async fn close(&mut self, topic: TopicId, num_partitions: u32) -> Result<Option<Millis>> {
        let Some(until) = Close::possible(&self.snapshot, topic, num_partitions) else { return Ok(None) };
        let close = Close { commit: fresh_uuid(), topic, num_partitions, until };
        match self.commit(&close).await? {
            Outcome::Committed { .. } => {
                cross("table.closed");
                self.pause.stepped();
                Ok(Some(until))
            }
            Outcome::Superseded { .. } => Ok(None),
        }
    }

    /// Merges and swaps every hour that is closed and still in live files; how many there were.
    pub(super) async fn swap(&mut self) -> Result<u64> {
        let mut swapped = 0;
        let hours = self.snapshot.all_live().filter_map(|(_, file)| file.hour);
        let hours: BTreeSet<_> = hours.filter(|&hour| self.snapshot.is_final(hour)).collect();
        for hour in hours {
            swapped += u64::from(self.swap_hour(hour).await?);
            self.pause.stepped();
        }
        Ok(swapped)
    }

    async fn swap_hour(&mut self, hour: Hour) -> Result<bool> {
        let live = |keeper: &Self| -> BTreeSet<String> {
            keeper.snapshot.live_of(hour).map(|(path, _)| path.to_owned()).collect()
        };
        let merges = live(self);
        let rows = match self.merge(&merges).await {
            // Who slept for long finds the files deleted, and in the log why.
            Err(fault) if fault.kind == Kind::Lost => {
                self.snapshot.follow(&*self.store).await?;
                return if live(self) == merges { Err(fault) } else { Ok(false) };
            }
            rows => rows?,
        };
        let path = final_path(hour);
        let size = self.bring(hour, &rows, &self.settings.path.join(&path)).await?;
        cross("table.final_there");
        let swap = Swap { commit: fresh_uuid(), hour, merges, path, facts: files::facts(hour, &rows, size) };
        let outcome = self.commit(&swap).await?;
        cross("table.swapped");
        Ok(matches!(outcome, Outcome::Committed { .. }))
    }

    async fn merge(&self, paths: &BTreeSet<String>) -> Result<Vec<Row>> {
        let columns = self.snapshot.definition().columns();
        let mut merged = Merged::new(&columns);
        for path in paths {
            files::read_rows(&*self.store, &self.snapshot, path).await?.into_iter().for_each(|row| merged.add(row));
        }
        Ok(merged.rows())
    }

    /// Brings these rows to where plain readers see them; the file's length.
    ///
    /// What stands there is believed only after a rename has answered so: a file that was merely read may
    /// be gone after a power cut, and then the log would name nothing.
    async fn bring(&self, hour: Hour, rows: &[Row], target: &StorePath) -> Result<u64> {
        let mut attempt = 0;
        loop {
            let name = || {
                let name = format!("{}-{}-{}.parquet", hour.date(), hour.name(), fresh_uuid().simple());
                self.settings.path.join(STAGING).join(&name)
            };
            let (from, size) = files::write_rows(&*self.store, &*self.pause, &self.plan, rows, name).await?;
            cross("table.final_staged");
            match self.store.rename_if_absent(&from, target).await {
                Ok(Renamed::Done) => return Ok(size),
                Ok(Renamed::TargetExists) => {
                    rare("table.final_stands");
                    self.store.delete(&from).await?;
                    return self.adopt(rows, target).await;
                }
                Ok(Renamed::SourceMissing) => rare("table.final_vanished"),
                Err(fault) if fault.retry == Retry::Never || attempt == ATTEMPTS => return Err(fault.at(target)),
                Err(_) => rare("table.final_again"),
            }
            attempt += 1;
            self.pause.pause(attempt).await;
        }
    }

    /// A file that stands there already, if it holds the same rows.
    async fn adopt(&self, rows: &[Row], target: &StorePath) -> Result<u64> {
        let gone = || Fault::external("was there and is gone").at(target);
        let standing = self.store.read(target).await?.ok_or_else(gone)?;
        let size = standing.len() as u64;
        let found = parquet::read(&self.snapshot.definition().columns(), standing).map_err(|fault| fault.at(target))?;
        if found == rows {
            return Ok(size);
        }
        let text = format!(
            "it holds {} rows that are not the {} of this hour in the table: another program wrote or changed it; \
             move it away, and it is written again",
            found.len(),
            rows.len()
        );
        Err(Fault::data(text).kind(Kind::Lost).at(target))
    }

    /// Puts `_SUCCESS` into the folder of each day that has hours, all of them final and in their files.
    pub(super) async fn mark_days(&mut self) -> Result<()> {
        let waiting = self.snapshot.all_live().filter_map(|(_, file)| file.hour).map(Hour::start).min();
        let until = self.snapshot.final_until().into_iter().chain(waiting).min().unwrap_or(Millis::MIN);
        let hours = self.snapshot.files().filter_map(|(_, file)| file.hour);
        let days = hours.map(|hour| hour.start().div_euclid(DAY) * DAY).filter(|day| day + DAY <= until);
        let fresh: BTreeSet<_> = days.filter(|day| !self.marked.contains(day)).collect();
        for day in fresh {
            let date = rfc3339(day);
            let folder = self.settings.path.join(&format!("dt={}", date.split('T').next().unwrap_or(&date)));
            let mark = folder.join("_SUCCESS");
            if self.store.stat(&mark).await?.is_none() {
                self.store.put_if_absent(&mark, bytes::Bytes::new()).await?;
            }
            self.marked.insert(day);
            self.pause.stepped();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_on_its_way_says_where_it_was_meant_for() {
        assert_eq!(meant_for("2015-09-12-14-00ff.parquet").as_deref(), Some("dt=2015-09-12/14.parquet"));
        for odd in ["", "2015-09-12", "2015-09-12-", "2015-09-12-14", "é015-09-12é14-0"] {
            assert_eq!(meant_for(odd), None, "{odd}");
        }
    }
}
