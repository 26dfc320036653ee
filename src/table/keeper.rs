//! What keeps a table in order while it grows: one replica does it, between and beside the commits of
//! all, and nothing breaks if two do.
//!
//! A [`round`](Keeper::round) makes hours final ([`finalise`](super::finalise)) and keeps log and folder
//! bounded ([`upkeep`](super::upkeep)). Each step is one change of the table or one deletion that no
//! reader can notice, so a keeper may die at any point, and another may be at the same step.

use std::{collections::BTreeSet, sync::Arc};

use super::{Settings, delta::Snapshot, opened::Opened};
use crate::{
    bus::TopicInfo,
    fault::Result,
    model::{Clock, Millis, Pause},
    store::SharedStore,
};

/// Keeps a table in order; see the module's text.
pub struct Keeper {
    pub(super) table: Opened,
    pub(super) settings: Settings,
    /// The newest checkpoint that is known.
    pub(super) checkpoint: Option<u64>,
    /// The days that have their `_SUCCESS`, by when they begin.
    pub(super) marked: BTreeSet<Millis>,
}

/// What a round did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The time before which all hours are final, if it moved.
    pub closed: Option<Millis>,
    /// Hours brought to where plain readers see them.
    pub swapped: u64,
    /// The version of the checkpoint that was made.
    pub checkpoint: Option<u64>,
    /// Files that were deleted: of the log, and of the table.
    pub deleted: u64,
}

impl Keeper {
    /// Opens the table, and makes it if there is none.
    ///
    /// # Errors
    /// Those of [`delta::create`](super::delta::create).
    pub async fn open(
        settings: &Settings,
        store: SharedStore,
        pause: Arc<dyn Pause>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let table = Opened::open(settings, store, pause, clock).await?;
        Ok(Self { table, settings: settings.clone(), checkpoint: None, marked: BTreeSet::new() })
    }

    /// Does all that is to be done by now; `topic` is the topic as the bus reports it.
    ///
    /// # Errors
    /// Those of the store; [`Kind::Lost`](crate::fault::Kind::Lost) for a file of the table that is gone
    /// or not what it was. The next round goes on from there.
    pub async fn round(&mut self, topic: &TopicInfo) -> Result<Kept> {
        self.table.follow().await?;
        let closed = self.close(topic.id, topic.num_partitions).await?;
        let swapped = self.swap().await?;
        if self.settings.success_files {
            self.mark_days().await?;
        }
        let checkpoint = self.make_checkpoint().await?;
        let deleted = match checkpoint {
            Some(version) => self.clean(version).await? + self.vacuum().await?,
            None => 0,
        };
        Ok(Kept { closed, swapped, checkpoint, deleted })
    }

    /// The version it has seen last.
    pub fn snapshot(&self) -> &Snapshot {
        &self.table.snapshot
    }
}

#[cfg(test)]
mod tests;
