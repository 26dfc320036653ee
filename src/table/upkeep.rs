//! A log and a folder that do not grow for ever.
//!
//! - Every so often a checkpoint holds the newest version whole.
//! - The *horizon* is the newest checkpoint that is older than the history that was asked for, by the
//!   store's own clock, and has enough versions above it. A marker says so; then all that lies below it
//!   in the log goes, oldest first.
//! - A file that was taken out of the table goes once no version that still stands names it: once the
//!   version that took it out is not above the horizon.
//! - A live file that no version ever named goes once its lane has committed that `seq`: nobody can
//!   commit it any more. Until then it may be of an owner that sleeps, however long.
//!
//! No clock of a node decides anything, and no wrong clock of the store more than how long the history
//! is: a clock that jumps ahead shortens it to the number of versions that always stay.

use super::{
    delta::{self, HourFile, LIVE, LOG, LaneId, REBUILT, STAGING, checkpoint_path, checkpoint_version, commit_version},
    files,
    keeper::Keeper,
};
use crate::{
    failpoint::{cross, rare},
    fault::Result,
    model::Millis,
    store::Entry,
};

/// So many files of the table more make the distance between two checkpoints one version longer, so that the
/// bytes written for a commit do not grow with the table's age.
const FILES_PER_VERSION: u64 = 8;

impl Keeper {
    /// A checkpoint of the newest version, if it is time for one; its version.
    pub(super) async fn make_checkpoint(&mut self) -> Result<Option<u64>> {
        let last = match self.checkpoint {
            Some(last) => last,
            None => {
                let log = self.table.list(LOG).await?;
                log.iter().filter_map(|entry| checkpoint_version(&entry.name)).max().unwrap_or(0)
            }
        };
        self.checkpoint = Some(last);
        let num_files = self.table.snapshot.files().count() as u64;
        let every = self.settings.checkpoint_every.max(num_files / FILES_PER_VERSION);
        if self.table.snapshot.version() < last + every {
            return Ok(None);
        }
        // Only what is proven to be the log may be held up to others as the log.
        self.table.follow().await?;
        let version = self.table.snapshot.version();
        let bytes = files::encode_checkpoint(&self.table.snapshot).await?;
        self.table.store.put_if_absent(&checkpoint_path(&self.settings.path, version), bytes).await?;
        self.checkpoint = Some(version);
        cross("table.checkpointed");
        self.table.pause.stepped();
        Ok(Some(version))
    }

    /// Deletes what lies below the horizon in the log; `made` is the version of the checkpoint just made.
    /// How many files that were.
    pub(super) async fn clean(&mut self, made: u64) -> Result<u64> {
        let log = self.table.list(LOG).await?;
        let checkpoint = |entry: &Entry| Some((checkpoint_version(&entry.name)?, entry.modified));
        let checkpoints: Vec<_> = log.iter().filter_map(checkpoint).collect();
        // The store's own clock, as of a moment ago.
        let Some(&(_, now)) = checkpoints.iter().find(|(version, _)| *version == made) else { return Ok(0) };
        let history = Millis::try_from(self.settings.history.as_millis()).unwrap_or(Millis::MAX);
        let is_old = |&&(version, modified): &&(u64, Millis)| {
            modified <= now.saturating_sub(history) && version + self.settings.checkpoint_every <= made
        };
        let mut markers = delta::markers(&*self.table.store, &self.settings.path).await?;
        let standing = markers.last().copied().unwrap_or(0);
        let horizon = checkpoints.iter().filter(is_old).map(|(version, _)| *version).fold(standing, u64::max);
        if horizon > standing {
            let marker = delta::marker_path(&self.settings.path, horizon);
            self.table.store.put_if_absent(&marker, "versions below this one may be gone\n".into()).await?;
            cross("table.marked");
            // The one before stays: whoever lists the folder right now must not miss both.
            markers.pop();
            for old in markers {
                self.table.store.delete(&delta::marker_path(&self.settings.path, old)).await?;
            }
        }
        let mut deleted = 0;
        for entry in &log {
            let version = commit_version(&entry.name).or_else(|| checkpoint_version(&entry.name));
            if version.is_some_and(|version| version < horizon) {
                deleted += u64::from(self.table.delete(&format!("{LOG}/{}", entry.name)).await?);
            }
        }
        if deleted > 0 {
            cross("table.cleaned");
        }
        Ok(deleted)
    }

    /// Deletes the table's files that nobody can read and nobody can commit any more; how many there were.
    pub(super) async fn vacuum(&mut self) -> Result<u64> {
        let live = self.table.list(LIVE).await?;
        let rebuilt = self.table.list(REBUILT).await?;
        let staged = self.table.list(STAGING).await?;
        let horizon = delta::horizon(&*self.table.store, &self.settings.path).await?;
        // After the listings: what was committed since then is known.
        self.table.follow().await?;
        let removed = self.table.snapshot.removed().filter(|(_, version)| *version <= horizon);
        let removed: Vec<_> = removed.map(|(path, _)| path.to_owned()).collect();
        let mut deleted = 0;
        for path in removed {
            if HourFile::of_final(&path).is_some_and(|file| self.is_shown_instead(file)) {
                continue;
            }
            // Files of other programs are theirs to delete.
            if path.starts_with(&format!("{REBUILT}/"))
                || path.starts_with("dt=")
                || LaneId::of_live_path(&path).is_some()
            {
                deleted += u64::from(self.table.delete(&path).await?);
            }
            self.table.snapshot.forget(&path);
        }
        let mut left_over: Vec<_> = live.iter().map(|entry| format!("{LIVE}/{}", entry.name)).collect();
        left_over.retain(|path| self.is_left_over(path));
        let is_there = |file: HourFile| self.table.snapshot.has(&file.final_path());
        let is_there = |entry: &&Entry| HourFile::of_hidden(&entry.name).is_some_and(is_there);
        left_over.extend(staged.iter().filter(is_there).map(|entry| format!("{STAGING}/{}", entry.name)));
        let rebuilt = rebuilt.iter().map(|entry| format!("{REBUILT}/{}", entry.name));
        left_over.extend(rebuilt.filter(|path| self.is_outdated(path)));
        for path in left_over {
            rare("table.left_over_deleted");
            deleted += u64::from(self.table.delete(&path).await?);
        }
        Ok(deleted)
    }

    /// Whether no version names this live file and none ever will.
    fn is_left_over(&self, path: &str) -> bool {
        let Some((lane, seq)) = LaneId::of_live_path(path) else { return false };
        let committed = self.table.snapshot.positions(lane).map_or(0, |positions| positions.seq);
        self.is_unknown(path) && seq <= committed
    }

    /// Whether plain readers see this file of before until the hour's new one comes.
    fn is_shown_instead(&self, file: HourFile) -> bool {
        !self.table.snapshot.is_final(file.hour) || !self.table.snapshot.hidden_of(file.hour).is_empty()
    }

    /// Whether no version names this rebuilt hour and none ever will: there is one of its generation or a newer.
    fn is_outdated(&self, path: &str) -> bool {
        let Some(file) = HourFile::of_rebuilt(path) else { return false };
        let newest = self.table.snapshot.generation_of(file.hour);
        self.is_unknown(path) && file.generation <= newest
    }

    fn is_unknown(&self, path: &str) -> bool {
        !self.table.snapshot.has(path) && !self.table.snapshot.remembers(path)
    }
}
