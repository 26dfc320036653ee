//! Who may commit: the loop around every change of the table.
//!
//! A change is judged against the newest snapshot, and if it fits, the next version is put if absent.
//! Whoever loses that race starts over with what stands there now: nothing judged against an older
//! version counts. What it takes to fit is the change's own rule: [`Lanes`](super::Lanes) for counts,
//! [`Close`](super::Close) and [`Swap`](super::Swap) for final hours, [`Rebuild`](super::Rebuild) and
//! [`Replace`](super::Replace) for corrections.
//!
//! A put counts only if the snapshot it was built on is proven *afterwards*
//! ([`Snapshot::prove`]). Old versions are cleaned away from the oldest on; a writer frozen for longer
//! than that would otherwise fill a hole that nobody reads any more and take it for a commit. To look
//! whether the version before still stands is not enough: that may be another sleeper's left-over.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;
use uuid::Uuid;

use super::{
    Snapshot,
    actions::{self, Action, CommitInfo, MetaData, Protocol},
    version_path,
};
use crate::{
    chain::decide,
    failpoint::{cross, rare},
    fault::{Fault, Kind, Result, Retry},
    model::{Millis, Pause, fresh_uuid},
    store::{Store, StorePath},
    table::{LaneId, definition::Definition},
};

/// How often an unclear answer is asked for again, and how many races may be lost in a row.
const ATTEMPTS: u32 = 14;
const RACES: u32 = 1000;

/// A change of the table: all of it or nothing.
pub trait Change: Send + Sync {
    /// Its own uuid, the same for all tries of it.
    fn commit(&self) -> Uuid;

    /// What the log's readers are told that it is.
    fn operation(&self) -> &'static str;

    /// Whether it may be made on this version.
    ///
    /// # Errors
    /// What keeps it from ever being made.
    fn judge(&self, snapshot: &Snapshot) -> Result<Verdict>;

    /// What it writes into the log, on a version that it fits.
    fn actions(&self, snapshot: &Snapshot, now: Millis) -> Vec<Action>;

    /// The lanes that it changes.
    fn lanes(&self) -> Vec<LaneId>;

    /// What its readers are told beside.
    fn parameters(&self) -> BTreeMap<String, Value> {
        BTreeMap::new()
    }

    /// Whether it makes the table a function of something else.
    fn redefines(&self) -> bool {
        false
    }
}

/// What a change is against a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be made.
    Fits,
    /// It was made: there.
    Landed(u64),
    /// It never will be, because of these of its lanes.
    Superseded(Vec<LaneId>),
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is this version.
    Committed {
        /// The version.
        version: u64,
    },
    /// It never will be: others have committed for these lanes, whose state is to be thrown away
    /// and rebuilt. The change's other lanes may be committed again, without these.
    Superseded {
        /// The lanes.
        lanes: Vec<LaneId>,
    },
}

/// The table at this path, made if there is none, by whoever comes first.
///
/// # Errors
/// `User` if the table there is a function of something else; those of [`Snapshot::load`] and
/// [`decide`].
pub async fn create(
    store: &dyn Store,
    pause: &dyn Pause,
    table: &StorePath,
    definition: &Definition,
    now: Millis,
) -> Result<Snapshot> {
    let snapshot = match Snapshot::load(store, table).await? {
        Some(snapshot) => snapshot,
        None => {
            let info = CommitInfo::new(now, "CREATE TABLE", fresh_uuid());
            let lines = actions::to_lines(&[
                Action { commit_info: Some(info), ..Action::default() },
                Action { protocol: Some(Protocol::OURS), ..Action::default() },
                Action { meta_data: Some(MetaData::new(definition, 0, now)?), ..Action::default() },
            ])?;
            if !decide(store, pause, &version_path(table, 0), lines.into()).await?.mine {
                rare("table.created_by_another");
            }
            let gone = || Fault::external("was made and is gone again").at(table);
            Snapshot::load(store, table).await?.ok_or_else(gone)?
        }
    };
    same_definition(&snapshot, definition)?;
    Ok(snapshot)
}

/// Refuses settings by which the table at this path is not made, if there is one and it can be read: what
/// cannot is for those to deal with who open it.
///
/// # Errors
/// `User`, with the three ways on.
pub async fn check_definition(store: &dyn Store, table: &StorePath, definition: &Definition) -> Result<()> {
    match Snapshot::load(store, table).await {
        Ok(Some(snapshot)) => same_definition(&snapshot, definition),
        Ok(None) | Err(_) => Ok(()),
    }
}

/// Commits; `snapshot` is what the outcome was judged by, or newer.
///
/// The same change may be given again after a fault: if it had landed, that is seen.
///
/// # Errors
/// [`Kind::Unknown`] when it stays unclear whether it happened; `User` when another program has
/// changed the table so that the rule cannot be kept; those of the store.
pub async fn commit(
    store: &dyn Store,
    pause: &dyn Pause,
    snapshot: &mut Snapshot,
    definition: &Definition,
    change: &dyn Change,
    now: Millis,
) -> Result<Outcome> {
    for _ in 0..RACES {
        snapshot.refresh(store).await?;
        if !change.redefines() {
            same_definition(snapshot, definition)?;
        }
        match change.judge(snapshot)? {
            Verdict::Fits => {}
            Verdict::Landed(version) => return conclude(store, pause, snapshot, change, version).await,
            Verdict::Superseded(lanes) => {
                rare("table.superseded");
                return Ok(Outcome::Superseded { lanes });
            }
        }
        let version = snapshot.version() + 1;
        let info = CommitInfo::new(now, change.operation(), change.commit());
        let info = CommitInfo { operation_parameters: change.parameters(), ..info };
        let mut actions = vec![Action { commit_info: Some(info), ..Action::default() }];
        actions.extend(change.actions(snapshot, now));
        let lines: Bytes = actions::to_lines(&actions)?.into();
        cross("table.before_commit");
        let put = decide(store, pause, &version_path(snapshot.table(), version), lines).await;
        match put {
            Ok(standing) if standing.mine => {
                cross("table.committed");
                return conclude(store, pause, snapshot, change, version).await;
            }
            Ok(_) => rare("table.lost_race"),
            Err(fault) => {
                if fault.kind == Kind::Unknown {
                    rare("table.unknown");
                }
                return Err(fault);
            }
        }
    }
    Err(Fault::external(format!("table {}: lost {RACES} races in a row", snapshot.table())))
}

// The version stands there and is mine; it counts if what it was built on is the log.
async fn conclude(
    store: &dyn Store,
    pause: &dyn Pause,
    snapshot: &mut Snapshot,
    change: &dyn Change,
    version: u64,
) -> Result<Outcome> {
    if prove(store, pause, snapshot).await? {
        // It is made, whatever this reading says; the next commit reads again.
        if snapshot.refresh(store).await.is_err() {
            rare("table.committed_unseen");
        }
        return Ok(Outcome::Committed { version });
    }
    // Perhaps it is made and perhaps it is a left-over: who builds the state anew need not know.
    rare("table.log_cleaned");
    snapshot.reload(store).await?;
    Ok(Outcome::Superseded { lanes: change.lanes() })
}

async fn prove(store: &dyn Store, pause: &dyn Pause, snapshot: &mut Snapshot) -> Result<bool> {
    let mut attempt = 0;
    loop {
        match snapshot.prove(store).await {
            Ok(proven) => return Ok(proven),
            Err(fault) if attempt == ATTEMPTS || fault.retry == Retry::Never => {
                rare("table.unknown");
                return Err(fault.kind(Kind::Unknown).unknown_effect());
            }
            Err(_) => attempt += 1,
        }
        pause.pause(attempt).await;
    }
}

fn same_definition(snapshot: &Snapshot, definition: &Definition) -> Result<()> {
    let differences = snapshot.definition().differences(definition);
    if differences.is_empty() {
        return Ok(());
    }
    Err(Fault::user(format!(
        "table {} was made by other settings ({}). There are three ways on: give the table a new path; or count it \
         all again by these settings, with `howdah table rebuild FILE --table NAME --all`; or go back to its settings",
        snapshot.table(),
        differences.join("; ")
    )))
}
