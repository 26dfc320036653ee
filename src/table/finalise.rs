//! Final hours: from the live files of all lanes to one file that plain readers see.
//!
//! 1. The hour is closed in the log ([`Close`]): no lane adds to it any more.
//! 2. Its live files are merged into one, which is renamed to `dt=<day>/<hour>.parquet`. From then on
//!    plain readers see the hour, once and for good. If a file stands there already, somebody has been
//!    here before: its rows must be the same, and it is adopted.
//! 3. A commit ([`Swap`]) puts it in the place of the live files, for those who read the log.
//!
//! An hour that was rebuilt comes the same way, once nobody reads the file of before by the log any more:
//! that one goes, and the new one comes under a name of its own.

use std::collections::BTreeSet;

use super::{
    delta::{self, Close, HourFile, Outcome, STAGING, Swap},
    files,
    grid::{Hour, rfc3339},
    keeper::Keeper,
    parquet,
    window::{Merged, Row},
};
use crate::{
    failpoint::{cross, rare},
    fault::{Fault, Kind, Result, Retry},
    model::{Millis, TopicId, fresh_uuid},
    store::{Renamed, StorePath},
};

/// How often a merged file is tried to be brought to its name.
const ATTEMPTS: u32 = 14;

const DAY: Millis = 24 * 3_600_000;

impl Keeper {
    /// Says in the log which hours are final; the time up to which, if it moved.
    pub(super) async fn close(&mut self, topic: TopicId, num_partitions: u32) -> Result<Option<Millis>> {
        let Some(until) = Close::possible(&self.table.snapshot, topic, num_partitions) else { return Ok(None) };
        let close = Close { commit: fresh_uuid(), topic, num_partitions, until };
        match self.table.commit(&close).await? {
            Outcome::Committed { .. } => {
                cross("table.closed");
                self.table.pause.stepped();
                Ok(Some(until))
            }
            Outcome::Superseded { .. } => Ok(None),
        }
    }

    /// Merges and swaps every hour that is closed and not where plain readers see it; how many there were.
    pub(super) async fn swap(&mut self) -> Result<u64> {
        let mut swapped = 0;
        let hours = self.table.snapshot.hidden().filter_map(|(_, file)| file.hour);
        let hours: BTreeSet<_> = hours.filter(|&hour| self.table.snapshot.is_final(hour)).collect();
        if hours.is_empty() {
            return Ok(0);
        }
        let horizon = delta::horizon(&*self.table.store, &self.settings.path).await?;
        for hour in hours {
            if !self.is_still_read(hour, horizon) {
                swapped += u64::from(self.swap_hour(hour).await?);
                self.table.pause.stepped();
            }
        }
        Ok(swapped)
    }

    /// Whether an older file of this hour is named by a version that still stands: until then plain readers
    /// keep it.
    fn is_still_read(&self, hour: Hour, horizon: u64) -> bool {
        let mut removed = self.table.snapshot.removed().filter(|(_, version)| *version > horizon);
        removed.any(|(path, _)| HourFile::of_final(path).is_some_and(|file| file.hour == hour))
    }

    async fn swap_hour(&mut self, hour: Hour) -> Result<bool> {
        let merges = self.table.snapshot.hidden_of(hour);
        let rows = match self.rows_of(&merges).await {
            // Who slept for long finds the files deleted, and in the log why.
            Err(fault) if fault.kind == Kind::Lost => {
                self.table.follow().await?;
                return if self.table.snapshot.hidden_of(hour) == merges { Err(fault) } else { Ok(false) };
            }
            rows => rows?,
        };
        let file = HourFile { hour, generation: self.table.snapshot.generation_of(hour) };
        if file.generation > 0 {
            self.clear_older(file).await?;
        }
        let Some(size) = self.bring(file, &merges, &rows).await? else { return Ok(false) };
        cross("table.final_there");
        let path = file.final_path();
        let swap = Swap { commit: fresh_uuid(), hour, merges, path, facts: files::facts(hour, &rows, size) };
        let outcome = self.table.commit(&swap).await?;
        cross("table.swapped");
        Ok(matches!(outcome, Outcome::Committed { .. }))
    }

    /// Deletes what there is of older generations of this hour: first what a sleeper may still bring, then
    /// what plain readers see. They see nothing of the hour until the new file is there, and never both.
    async fn clear_older(&self, file: HourFile) -> Result<()> {
        let is_older = |other: HourFile| other.hour == file.hour && other.generation < file.generation;
        let day = format!("dt={}", file.hour.date());
        for entry in self.table.list(STAGING).await? {
            if HourFile::of_hidden(&entry.name).is_some_and(is_older) {
                self.table.delete(&format!("{STAGING}/{}", entry.name)).await?;
            }
        }
        for entry in self.table.list(&day).await? {
            if HourFile::of_final(&format!("{day}/{}", entry.name)).is_some_and(is_older) {
                self.table.delete(&format!("{day}/{}", entry.name)).await?;
            }
        }
        Ok(())
    }

    /// The rows of these files, those of a window and key as one.
    pub(super) async fn rows_of(&self, paths: &BTreeSet<String>) -> Result<Vec<Row>> {
        let columns = self.table.snapshot.definition().columns();
        let mut merged = Merged::new(&columns);
        for path in paths {
            self.table.read_rows(path).await?.into_iter().for_each(|row| merged.add(row));
        }
        Ok(merged.rows())
    }

    /// Brings these rows to where plain readers see them; the file's length, or `None` if the hour is held
    /// by other files by now.
    ///
    /// What stands there is believed only after a rename has answered so: a file that was merely read may
    /// be gone after a power cut, and then the log would name nothing. And the log is looked at *between*
    /// staging and rename: who clears an older generation has put the newer one into the log before it
    /// deletes what is staged, so whoever sleeps in between finds the one or misses the other.
    pub(super) async fn bring(
        &mut self,
        file: HourFile,
        merges: &BTreeSet<String>,
        rows: &[Row],
    ) -> Result<Option<u64>> {
        let target = &self.table.at(&file.final_path());
        let mut attempt = 0;
        loop {
            let name = || self.table.at(&file.staged_path());
            let (from, size) = self.table.write_rows(rows, name).await?;
            cross("table.final_staged");
            self.table.follow().await?;
            if self.table.snapshot.hidden_of(file.hour) != *merges {
                rare("table.final_too_late");
                self.table.store.delete(&from).await?;
                return Ok(None);
            }
            match self.table.store.rename_if_absent(&from, target).await {
                Ok(Renamed::Done) => return Ok(Some(size)),
                Ok(Renamed::TargetExists) => {
                    rare("table.final_stands");
                    self.table.store.delete(&from).await?;
                    return self.adopt(rows, target).await.map(Some);
                }
                Ok(Renamed::SourceMissing) => rare("table.final_vanished"),
                Err(fault) if fault.retry == Retry::Never || attempt == ATTEMPTS => return Err(fault.at(target)),
                Err(_) => rare("table.final_again"),
            }
            attempt += 1;
            self.table.pause.pause(attempt).await;
        }
    }

    /// A file that stands there already, if it holds the same rows.
    async fn adopt(&self, rows: &[Row], target: &StorePath) -> Result<u64> {
        let gone = || Fault::external("was there and is gone").at(target);
        let standing = self.table.store.read(target).await?.ok_or_else(gone)?;
        let size = standing.len() as u64;
        let found =
            parquet::read(&self.table.snapshot.definition().columns(), standing).map_err(|fault| fault.at(target))?;
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
        let waiting = self.table.snapshot.all_live().filter_map(|(_, file)| file.hour).map(Hour::start).min();
        let until = self.table.snapshot.final_until().into_iter().chain(waiting).min().unwrap_or(Millis::MIN);
        let hours = self.table.snapshot.files().filter_map(|(_, file)| file.hour);
        let days = hours.map(|hour| hour.start().div_euclid(DAY) * DAY).filter(|day| day + DAY <= until);
        let fresh: BTreeSet<_> = days.filter(|day| !self.marked.contains(day)).collect();
        for day in fresh {
            let date = rfc3339(day);
            let folder = self.table.at(&format!("dt={}", date.split('T').next().unwrap_or(&date)));
            let mark = folder.join("_SUCCESS");
            if self.table.store.stat(&mark).await?.is_none() {
                self.table.store.put_if_absent(&mark, bytes::Bytes::new()).await?;
            }
            self.marked.insert(day);
            self.table.pause.stepped();
        }
        Ok(())
    }
}
