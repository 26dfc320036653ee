//! Who may commit: the rule, and the loop around it.
//!
//! A commit is judged against the newest snapshot. Each of its lanes must stand at the `seq` the
//! commit was built on; no hour it writes may be merged already, nor be final; the files it
//! replaces must be live. Then the next version is put if absent. Whoever loses that race starts
//! over with what stands there now: nothing judged against an older version counts.
//!
//! - A lane's `seq` moved on: the commit is mine only if that version bears its uuid (an earlier
//!   put was unclear and had landed after all). Otherwise somebody else owns the lane, or did:
//!   [`Outcome::Superseded`], and the state behind the commit is thrown away.
//! - It is the `seq` that is compared, not `next`: a commit that only moves the watermark keeps
//!   `next`, and a zombie must not then bring in records that are late by now.
//! - A put counts only if the version before it is still there afterwards. Old versions are
//!   cleaned away from the oldest on; a writer frozen for longer than that would otherwise fill a
//!   hole that nobody reads any more and take it for a commit.

use bytes::Bytes;
use uuid::Uuid;

use super::{
    LaneId, Positions, Snapshot,
    actions::{self, Action, Add, CommitInfo, FileFacts, MetaData, Protocol, Remove, Txn, WHAT},
    version_path,
};
use crate::{
    chain::decide,
    failpoint::{cross, rare},
    fault::{Fault, Kind, Result, Retry},
    model::{Millis, Pause, fresh_uuid},
    store::{Store, StorePath},
    table::definition::Definition,
};

/// How often an unclear answer is asked for again, and how many races may be lost in a row.
const ATTEMPTS: u32 = 14;
const RACES: u32 = 1000;

/// A commit: all of it or nothing.
#[derive(Clone, Debug)]
pub struct Change {
    /// The commit's own uuid, the same for all tries of it.
    pub commit: Uuid,
    /// Whether its files are there. Without them it is only looked for: it may have landed before, but
    /// it must not now.
    pub whole: bool,
    /// What it stores, at most once for a lane.
    pub lanes: Vec<LaneChange>,
}

/// What a commit stores for one lane.
#[derive(Clone, Debug)]
pub struct LaneChange {
    /// The lane.
    pub lane: LaneId,
    /// The `seq` of the commit that this one was built on (0: none).
    pub built_on: u64,
    /// What to store.
    pub positions: Positions,
    /// The hours that changed.
    pub files: Vec<NewFile>,
}

/// A live file, whole and durable already.
#[derive(Clone, Debug)]
pub struct NewFile {
    /// Its path within the table.
    pub path: String,
    /// What it holds.
    pub facts: FileFacts,
    /// Whether it stands in for a live file of the same lane and hour.
    pub replaces: bool,
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is this version.
    Committed {
        /// The version.
        version: u64,
    },
    /// It never will be: others have committed for these lanes, whose state is to be thrown away
    /// and rebuilt. The commit's other lanes may be committed again, without these.
    Superseded {
        /// The lanes.
        lanes: Vec<LaneId>,
    },
}

enum Verdict {
    Fits,
    Landed(u64),
    Superseded(Vec<LaneId>),
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
                Action { meta_data: Some(MetaData::new(definition, now)?), ..Action::default() },
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
    change: &Change,
    now: Millis,
) -> Result<Outcome> {
    for _ in 0..RACES {
        snapshot.refresh(store).await?;
        same_definition(snapshot, definition)?;
        match judge(snapshot, change)? {
            Verdict::Fits if change.whole => {}
            Verdict::Fits => {
                rare("table.without_files");
                return Ok(Outcome::Superseded { lanes: change.lanes.iter().map(|lane| lane.lane).collect() });
            }
            Verdict::Landed(version) => return conclude(store, pause, snapshot, change, version).await,
            Verdict::Superseded(lanes) => {
                rare("table.superseded");
                return Ok(Outcome::Superseded { lanes });
            }
        }
        let version = snapshot.version() + 1;
        let lines: Bytes = actions::to_lines(&actions(snapshot, change, now))?.into();
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

// The version stands there and is mine; it counts if the one before stands there too.
async fn conclude(
    store: &dyn Store,
    pause: &dyn Pause,
    snapshot: &mut Snapshot,
    change: &Change,
    version: u64,
) -> Result<Outcome> {
    if is_there(store, pause, &version_path(snapshot.table(), version - 1)).await? {
        // It is made, whatever this reading says; the next commit reads again.
        if snapshot.refresh(store).await.is_err() {
            rare("table.committed_unseen");
        }
        return Ok(Outcome::Committed { version });
    }
    rare("table.log_cleaned");
    let table = snapshot.table().clone();
    let gone = || Fault::data("its log is gone").kind(Kind::Lost).at(&table);
    *snapshot = Snapshot::load(store, &table).await?.ok_or_else(gone)?;
    Ok(Outcome::Superseded { lanes: change.lanes.iter().map(|lane| lane.lane).collect() })
}

async fn is_there(store: &dyn Store, pause: &dyn Pause, path: &StorePath) -> Result<bool> {
    let mut attempt = 0;
    loop {
        match store.stat(path).await {
            Ok(entry) => return Ok(entry.is_some()),
            Err(fault) if attempt == ATTEMPTS || fault.retry == Retry::Never => {
                rare("table.unknown");
                return Err(fault.kind(Kind::Unknown).unknown_effect());
            }
            Err(_) => attempt += 1,
        }
        pause.pause(attempt).await;
    }
}

fn judge(snapshot: &Snapshot, change: &Change) -> Result<Verdict> {
    let grid = snapshot.definition().grid();
    let mut superseded = Vec::new();
    for LaneChange { lane, built_on, files, .. } in &change.lanes {
        let standing = snapshot.positions(*lane).unwrap_or_default();
        if standing.seq != *built_on {
            match snapshot.last_commit(*lane) {
                Some((version, commit)) if commit == change.commit => {
                    rare("table.mine_after_unknown");
                    return Ok(Verdict::Landed(version));
                }
                _ => superseded.push(*lane),
            }
            continue;
        }
        if files.iter().any(|file| snapshot.is_merged(file.facts.hour)) {
            rare("table.hour_merged");
            superseded.push(*lane);
            continue;
        }
        for NewFile { facts, replaces, .. } in files {
            let at = || format!("table {}, lane {lane}, hour {}", snapshot.table(), facts.hour);
            if grid.is_final(facts.hour, standing.watermark) {
                return Err(Fault::internal("an hour that is final was about to be written").at(at()));
            }
            let num_live = snapshot.live(*lane).filter(|(_, file)| file.hour == Some(facts.hour)).count();
            if num_live != usize::from(*replaces) {
                return Err(Fault::user(format!(
                    "{num_live} live files where howdah left {}: another program has rewritten the table; \
                     restore that version, or give the table a new path",
                    u8::from(*replaces)
                ))
                .at(at()));
            }
        }
    }
    Ok(if superseded.is_empty() { Verdict::Fits } else { Verdict::Superseded(superseded) })
}

fn actions(snapshot: &Snapshot, change: &Change, now: Millis) -> Vec<Action> {
    let info = CommitInfo::new(now, "STREAMING UPDATE", change.commit);
    let mut actions = vec![Action { commit_info: Some(info), ..Action::default() }];
    for LaneChange { lane, positions, files, .. } in &change.lanes {
        let whole = |number: u64| i64::try_from(number).ok();
        let versions = [whole(positions.seq), whole(positions.next), whole(positions.rewind), positions.watermark];
        for (what, version) in WHAT.into_iter().zip(versions) {
            let txn =
                |version| Txn { app_id: actions::app_id(snapshot.id(), *lane, what), version, last_updated: Some(now) };
            actions.extend(version.map(|version| Action { txn: Some(txn(version)), ..Action::default() }));
        }
        for NewFile { path, facts, .. } in files {
            let replaced = snapshot.live(*lane).filter(|(_, file)| file.hour == Some(facts.hour));
            actions.extend(replaced.map(|(path, file)| {
                let remove = Remove::new(path, file.dt.clone(), file.size, now);
                Action { remove: Some(remove), ..Action::default() }
            }));
            actions.push(Action { add: Some(Add::new(path, facts, now)), ..Action::default() });
        }
    }
    actions
}

fn same_definition(snapshot: &Snapshot, definition: &Definition) -> Result<()> {
    let differences = snapshot.definition().differences(definition);
    if differences.is_empty() {
        return Ok(());
    }
    Err(Fault::user(format!(
        "table {} was made by other settings ({}): give the table a new path, or go back to its settings",
        snapshot.table(),
        differences.join("; ")
    )))
}
