//! The commit of counts: what a replica stores for its lanes.
//!
//! Each lane must stand at the `seq` the commit was built on, no hour it writes may be final, and the
//! files it replaces must be live.
//!
//! - A lane's `seq` moved on: the commit is mine only if that version bears its uuid (an earlier
//!   put was unclear and had landed after all). Otherwise somebody else owns the lane, or did:
//!   superseded, and the state behind the commit is thrown away.
//! - It is the `seq` that is compared, not `next`: a commit that only moves the watermark keeps
//!   `next`, and a zombie must not then bring in records that are late by now.
//! - A lane's first commit stores at least the watermark under which the table's final hours are final
//!   for it too: a partition that was added later brings nothing into them.

use uuid::Uuid;

use super::{
    LaneId, Positions, Snapshot,
    actions::{Action, Add, FileFacts, Remove},
    commit::{Change, Verdict},
    rebuilding::stored,
};
use crate::{
    failpoint::rare,
    fault::{Fault, Result},
    model::Millis,
};

/// A commit of a replica's lanes.
#[derive(Clone, Debug)]
pub struct Lanes {
    /// The commit's own uuid.
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

/// A file, whole and durable already.
#[derive(Clone, Debug)]
pub struct NewFile {
    /// Its path within the table.
    pub path: String,
    /// What it holds.
    pub facts: FileFacts,
    /// Whether it stands in for a live file of the same lane and hour.
    pub replaces: bool,
}

impl Change for Lanes {
    fn commit(&self) -> Uuid {
        self.commit
    }

    fn operation(&self) -> &'static str {
        "STREAMING UPDATE"
    }

    fn lanes(&self) -> Vec<LaneId> {
        self.lanes.iter().map(|lane| lane.lane).collect()
    }

    fn judge(&self, snapshot: &Snapshot) -> Result<Verdict> {
        let mut superseded = Vec::new();
        for change in &self.lanes {
            let standing = snapshot.positions(change.lane).unwrap_or_default();
            if standing.seq != change.built_on {
                match snapshot.last_commit(change.lane) {
                    Some((version, commit)) if commit == self.commit => {
                        rare("table.mine_after_unknown");
                        return Ok(Verdict::Landed(version));
                    }
                    _ => superseded.push(change.lane),
                }
            } else if change.built_on == 0 && change.positions.watermark < snapshot.least_watermark() {
                rare("table.begun_below_the_final_hours");
                superseded.push(change.lane);
            } else {
                change.check_files(snapshot, standing)?;
            }
        }
        Ok(if !superseded.is_empty() {
            Verdict::Superseded(superseded)
        } else if self.whole {
            Verdict::Fits
        } else {
            rare("table.without_files");
            Verdict::Superseded(self.lanes())
        })
    }

    fn actions(&self, snapshot: &Snapshot, now: Millis) -> Vec<Action> {
        let mut actions = Vec::new();
        for LaneChange { lane, positions, files, .. } in &self.lanes {
            actions.extend(stored(snapshot.id(), *lane, *positions, now));
            for NewFile { path, facts, .. } in files {
                let replaced = snapshot.live(*lane).filter(|(_, file)| file.hour == Some(facts.hour));
                actions.extend(replaced.map(|(_, file)| {
                    let remove = Remove::new(&file.add, now);
                    Action { remove: Some(remove), ..Action::default() }
                }));
                actions.push(Action { add: Some(Add::new(path, facts, now)), ..Action::default() });
            }
        }
        actions
    }
}

impl LaneChange {
    fn check_files(&self, snapshot: &Snapshot, standing: Positions) -> Result<()> {
        let grid = snapshot.definition().grid();
        for NewFile { facts, replaces, .. } in &self.files {
            let at = || format!("table {}, lane {}, hour {}", snapshot.table(), self.lane, facts.hour);
            if grid.is_final(facts.hour, standing.watermark) || snapshot.is_final(facts.hour) {
                return Err(Fault::internal("an hour that is final was about to be written").at(at()));
            }
            let num_live = snapshot.live(self.lane).filter(|(_, file)| file.hour == Some(facts.hour)).count();
            if num_live != usize::from(*replaces) {
                return Err(Fault::user(format!(
                    "{num_live} live files where howdah left {}: another program has rewritten the table; \
                     restore that version, or give the table a new path",
                    u8::from(*replaces)
                ))
                .at(at()));
            }
        }
        Ok(())
    }
}
