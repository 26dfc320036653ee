//! One commit for all lanes of a replica: files first, then the log.
//!
//! Each changed hour becomes a live file of its lane, written whole and closed before the log
//! names it; after any error the file is written again under a fresh name, and what lies there is
//! left to the clean-up. Then one version of the table takes them all in.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::{
    Settings,
    definition::Definition,
    delta::{self, Change, FileFacts, LaneChange, LaneId, NewFile, Outcome, Snapshot},
    lane::{Lane, Sealed},
    parquet,
    window::{HourRows, Plan, Row},
};
use crate::{
    failpoint::{cross, rare},
    fault::{Fault, Kind, Result, Retry},
    model::{Clock, Millis, Offset, Pause, fresh_uuid},
    store::{SharedStore, Store, StorePath},
};

/// How often a live file is written again.
const ATTEMPTS: u32 = 14;

/// From so many rows on an hour is encoded on a thread for blocking work; below it takes about a
/// millisecond.
const MANY_ROWS: usize = 5_000;

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
    store: SharedStore,
    pause: Arc<dyn Pause>,
    clock: Arc<dyn Clock>,
    definition: Definition,
    plan: Arc<Plan>,
    snapshot: Snapshot,
}

impl Committer {
    /// Opens the table, and makes it if there is none.
    ///
    /// # Errors
    /// Those of [`delta::create`].
    pub async fn open(
        settings: &Settings,
        store: SharedStore,
        pause: Arc<dyn Pause>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let definition = Definition::of(settings);
        let snapshot = delta::create(&*store, &*pause, &settings.path, &definition, clock.now()).await?;
        Ok(Self { store, pause, clock, definition, plan: Arc::new(Plan::new(settings)), snapshot })
    }

    /// The newest version it has seen.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Looks for newer versions.
    ///
    /// # Errors
    /// Those of [`Snapshot::refresh`].
    pub async fn refresh(&mut self) -> Result<()> {
        self.snapshot.refresh(&*self.store).await
    }

    /// The lane as the snapshot has it; `start` is where to begin if it never committed.
    pub fn lane(&self, id: LaneId, start: Offset) -> Lane {
        Lane::open(Arc::clone(&self.plan), id, self.snapshot.positions(id), start)
    }

    /// Gives a lane that was just opened its state back from its live files, for when the bus no
    /// longer has the records to replay.
    ///
    /// # Errors
    /// [`Kind::Lost`] for a file that is gone or cannot be read; `Internal` if the snapshot is no
    /// longer the one that the lane was opened from.
    pub async fn restore(&self, lane: &mut Lane) -> Result<()> {
        rare("table.restored");
        if self.snapshot.positions(lane.id()) != Some(lane.sealed()) {
            return Err(Fault::internal(format!("lane {}: restored from another snapshot than its own", lane.id())));
        }
        let mut hours = Vec::new();
        for (path, file) in self.snapshot.live(lane.id()) {
            if let Some(hour) = file.hour.filter(|&hour| !lane.is_final(hour)) {
                hours.push((hour, read_rows(&*self.store, &self.snapshot, path).await?));
            }
        }
        lane.restore(hours);
        Ok(())
    }

    /// Writes the files and commits.
    ///
    /// # Errors
    /// Those of [`delta::commit`], and of the store when a file cannot be written. After a fault
    /// that can be retried, give the same proposal again; or throw its lanes away.
    pub async fn commit(&mut self, proposal: &Proposal) -> Result<Outcome> {
        self.snapshot.refresh(&*self.store).await?;
        let stands = |sealed: &Sealed| self.snapshot.positions(sealed.lane).map_or(0, |p| p.seq) == sealed.built_on;
        // What has landed or is superseded already needs no files: the log says which.
        let write = proposal.lanes.iter().all(stands);
        let mut lanes = Vec::new();
        for sealed in &proposal.lanes {
            let mut files = Vec::new();
            for hour in sealed.hours.iter().filter(|_| write) {
                files.push(self.write_live(sealed, hour).await?);
                self.pause.stepped();
            }
            let Sealed { lane, built_on, positions, .. } = *sealed;
            lanes.push(LaneChange { lane, built_on, positions, files });
        }
        if write {
            cross("table.live_written");
        }
        let change = Change { commit: proposal.commit, whole: write, lanes };
        let Self { store, pause, snapshot, definition, .. } = self;
        delta::commit(&**store, &**pause, snapshot, definition, &change, self.clock.now()).await
    }

    async fn write_live(&self, sealed: &Sealed, hour: &HourRows) -> Result<NewFile> {
        let bytes = self.encode(&hour.rows).await?;
        let starts = || hour.rows.iter().map(|row| row.window_start);
        let nowhere: Millis = hour.hour.start();
        let facts = FileFacts {
            hour: hour.hour,
            size: bytes.len() as u64,
            num_rows: hour.rows.len() as u64,
            windows: (starts().min().unwrap_or(nowhere), starts().max().unwrap_or(nowhere)),
        };
        let mut attempt = 0;
        loop {
            let path = sealed.lane.live_path(sealed.positions.seq);
            match write_file(&*self.store, &self.snapshot.table().join(&path), bytes.clone()).await {
                Ok(()) => return Ok(NewFile { path, facts, replaces: hour.replaces }),
                Err(fault) if fault.retry == Retry::Never || attempt == ATTEMPTS => return Err(fault),
                Err(_) => rare("table.live_again"),
            }
            attempt += 1;
            self.pause.pause(attempt).await;
        }
    }

    async fn encode(&self, rows: &[Row]) -> Result<Bytes> {
        if rows.len() < MANY_ROWS {
            return parquet::write(self.plan.columns(), rows);
        }
        let (plan, rows) = (Arc::clone(&self.plan), rows.to_vec());
        let encoded = tokio::task::spawn_blocking(move || parquet::write(plan.columns(), &rows)).await;
        encoded.map_err(|error| Fault::internal(format!("parquet: {error}")))?
    }
}

async fn write_file(store: &dyn Store, path: &StorePath, bytes: Bytes) -> Result<()> {
    let mut writer = store.create(path).await?;
    writer.append(bytes).await?;
    writer.close().await
}

/// The rows of a file of the table.
pub(super) async fn read_rows(store: &dyn Store, snapshot: &Snapshot, path: &str) -> Result<Vec<Row>> {
    let at = snapshot.table().join(path);
    let gone = || Fault::data("the log names this file and it is not there").kind(Kind::Lost).at(&at);
    let bytes = store.read(&at).await?.ok_or_else(gone)?;
    parquet::read(&snapshot.definition().columns(), bytes).map_err(|fault| fault.at(&at))
}
