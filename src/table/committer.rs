//! One commit for all lanes of a replica: files first, then the log.
//!
//! Each changed hour becomes a live file of its lane, written whole and closed before the log
//! names it; after any error the file is written again under a fresh name, and what lies there is
//! left to the clean-up. Then one version of the table takes them all in.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    Settings,
    delta::{LIVE, LaneChange, LaneId, Lanes, NewFile, Outcome, Snapshot},
    files,
    lane::{Lane, Sealed},
    opened::Opened,
    window::HourRows,
};
use crate::{
    failpoint::{cross, rare},
    fault::{Fault, Result},
    model::{Clock, Offset, Pause, fresh_uuid},
    store::SharedStore,
};

/// A commit of a replica's lanes; the same one may be given again after a fault.
#[derive(Clone, Debug)]
pub struct Proposal {
    commit: Uuid,
    lanes: Vec<Sealed>,
}

impl Proposal {
    /// A commit of what these lanes sealed; each lane at most once.
    pub fn new(lanes: Vec<Sealed>) -> Self {
        Self { commit: fresh_uuid(), lanes }
    }

    /// What it is made of.
    pub fn lanes(&self) -> &[Sealed] {
        &self.lanes
    }

    /// The same without these lanes, after [`Outcome::Superseded`]; `None` if nothing is left.
    pub fn without(self, lanes: &[LaneId]) -> Option<Self> {
        let lanes: Vec<_> = self.lanes.into_iter().filter(|sealed| !lanes.contains(&sealed.lane)).collect();
        (!lanes.is_empty()).then(|| Self::new(lanes))
    }
}

/// A table that is written to.
pub struct Committer {
    table: Opened,
}

impl Committer {
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
        Ok(Self { table: Opened::open(settings, store, pause, clock).await? })
    }

    /// The newest version it has seen.
    pub fn snapshot(&self) -> &Snapshot {
        &self.table.snapshot
    }

    /// Looks for newer versions.
    ///
    /// # Errors
    /// Those of [`Snapshot::follow`].
    pub async fn follow(&mut self) -> Result<()> {
        self.table.follow().await
    }

    /// The lane as the snapshot has it; `start` is where to begin if it never committed.
    pub fn lane(&self, id: LaneId, start: Offset) -> Lane {
        let least = self.table.snapshot.least_watermark();
        Lane::open(Arc::clone(&self.table.plan), id, self.table.snapshot.positions(id), start, least)
    }

    /// Gives a lane that was just opened its state back from its live files, for when the bus no
    /// longer has the records to replay.
    ///
    /// # Errors
    /// [`Kind::Lost`](crate::fault::Kind::Lost) for a file that is gone or cannot be read; `Internal` if the snapshot is no
    /// longer the one that the lane was opened from.
    pub async fn restore(&self, lane: &mut Lane) -> Result<()> {
        rare("table.restored");
        if self.table.snapshot.positions(lane.id()) != Some(lane.sealed()) {
            return Err(Fault::internal(format!("lane {}: restored from another snapshot than its own", lane.id())));
        }
        let mut hours = Vec::new();
        for (path, file) in self.table.snapshot.live(lane.id()) {
            if let Some(hour) = file.hour.filter(|&hour| !lane.is_final(hour)) {
                hours.push((hour, self.table.read_rows(path).await?));
            }
        }
        lane.restore(hours);
        Ok(())
    }

    /// Writes the files and commits.
    ///
    /// # Errors
    /// Those of [`delta::commit`](super::delta::commit), and of the store when a file cannot be written. After a fault
    /// that can be retried, give the same proposal again; or throw its lanes away.
    pub async fn commit(&mut self, proposal: &Proposal) -> Result<Outcome> {
        self.table.snapshot.refresh(&*self.table.store).await?;
        let stands =
            |sealed: &Sealed| self.table.snapshot.positions(sealed.lane).map_or(0, |p| p.seq) == sealed.built_on;
        // What has landed or is superseded already needs no files: the log says which.
        let write = proposal.lanes.iter().all(stands);
        let mut lanes = Vec::new();
        for sealed in &proposal.lanes {
            let mut files = Vec::new();
            for hour in sealed.hours.iter().filter(|_| write) {
                files.push(self.write_live(sealed, hour).await?);
                self.table.pause.stepped();
            }
            let Sealed { lane, built_on, positions, .. } = *sealed;
            lanes.push(LaneChange { lane, built_on, positions, files });
        }
        if write {
            cross("table.live_written");
        }
        let change = Lanes { commit: proposal.commit, whole: write, lanes };
        self.table.commit(&change).await
    }

    async fn write_live(&self, sealed: &Sealed, hour: &HourRows) -> Result<NewFile> {
        let name = || self.table.at(&sealed.lane.live_path(sealed.positions.seq));
        let (at, size) = self.table.write_rows(&hour.rows, name).await?;
        let path = format!("{LIVE}/{}", at.name());
        Ok(NewFile { path, facts: files::facts(hour.hour, &hour.rows, size), replaces: hour.replaces })
    }
}
