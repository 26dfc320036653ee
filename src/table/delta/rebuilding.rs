//! The two commits that correct a table: an hour's rows, or the whole table.
//!
//! [`Rebuild`] puts other rows in the place of those of a final hour. The log's readers see them at once,
//! from a file of a hidden folder; plain readers see the old file until no version that still stands
//! names it, and then the new one.
//!
//! [`Replace`] empties the table and says where each lane begins again, perhaps under another
//! definition. It is another table then, at the same place: its id is new, and a lane's `seq` goes on, so
//! that nobody who built on the table before can commit.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use uuid::Uuid;

use super::{
    LaneId, Positions, Snapshot,
    actions::{self, Action, Add, FileFacts, MetaData, Remove, Txn, WHAT},
    commit::{Change, Verdict},
};
use crate::{
    failpoint::rare,
    fault::Result,
    model::{Millis, Offset, fresh_uuid},
    table::{definition::Definition, grid::Hour},
};

/// Other rows for a final hour.
#[derive(Clone, Debug)]
pub struct Rebuild {
    /// The commit's own uuid.
    pub commit: Uuid,
    /// The hour.
    pub hour: Hour,
    /// The files that hold it until now, by their paths.
    pub replaces: BTreeSet<String>,
    /// The path of the file that does from now on.
    pub path: String,
    /// What it holds.
    pub facts: FileFacts,
    /// Up to where the records of each lane were counted.
    pub counted: BTreeMap<LaneId, Offset>,
}

impl Change for Rebuild {
    fn commit(&self) -> Uuid {
        self.commit
    }

    fn operation(&self) -> &'static str {
        "REBUILD HOUR"
    }

    fn lanes(&self) -> Vec<LaneId> {
        Vec::new()
    }

    fn parameters(&self) -> BTreeMap<String, Value> {
        let counted: Vec<_> = self.counted.iter().map(|(lane, next)| format!("{lane}@{next}")).collect();
        let texts = [("hour", self.hour.to_string()), ("counted", counted.join(" "))];
        texts.into_iter().map(|(name, text)| (name.to_owned(), text.into())).collect()
    }

    fn judge(&self, snapshot: &Snapshot) -> Result<Verdict> {
        if snapshot.has(&self.path) {
            return Ok(Verdict::Landed(snapshot.version()));
        }
        let stands = snapshot.files_of(self.hour)?;
        if stands != self.replaces || !snapshot.is_final(self.hour) {
            rare("table.rebuilt_by_another");
            return Ok(Verdict::Superseded(Vec::new()));
        }
        Ok(Verdict::Fits)
    }

    fn actions(&self, snapshot: &Snapshot, now: Millis) -> Vec<Action> {
        let mut actions: Vec<_> = removed(snapshot, now, |path| self.replaces.contains(path)).collect();
        actions.push(Action { add: Some(Add::new(&self.path, &self.facts, now)), ..Action::default() });
        actions
    }
}

/// An empty table in the place of this one, from which all is counted again.
#[derive(Clone, Debug)]
pub struct Replace {
    commit: Uuid,
    meta: MetaData,
    begin: Vec<(LaneId, Offset)>,
    version: u64,
}

impl Replace {
    /// Puts a table of this definition in the place of this version, in which each lane of the topic begins
    /// again at these offsets.
    ///
    /// # Errors
    /// `Internal`, which would be a mistake in the definition's code.
    pub fn new(
        snapshot: &Snapshot,
        definition: &Definition,
        begin: Vec<(LaneId, Offset)>,
        now: Millis,
    ) -> Result<Self> {
        let meta = MetaData::new(definition, snapshot.newest_generation() + 1, now)?;
        Ok(Self { commit: fresh_uuid(), meta, begin, version: snapshot.version() })
    }
}

impl Change for Replace {
    fn commit(&self) -> Uuid {
        self.commit
    }

    fn operation(&self) -> &'static str {
        "REPLACE TABLE"
    }

    fn lanes(&self) -> Vec<LaneId> {
        Vec::new()
    }

    fn redefines(&self) -> bool {
        true
    }

    fn judge(&self, snapshot: &Snapshot) -> Result<Verdict> {
        if snapshot.id() == self.meta.id {
            return Ok(Verdict::Landed(snapshot.version()));
        }
        if snapshot.version() != self.version {
            return Ok(Verdict::Superseded(Vec::new()));
        }
        Ok(Verdict::Fits)
    }

    fn actions(&self, snapshot: &Snapshot, now: Millis) -> Vec<Action> {
        let mut actions = vec![Action { meta_data: Some(self.meta.clone()), ..Action::default() }];
        for &(lane, begin) in &self.begin {
            let seq = snapshot.positions(lane).map_or(0, |positions| positions.seq) + 1;
            actions.extend(stored(
                &self.meta.id,
                lane,
                Positions { seq, next: begin, rewind: begin, watermark: None },
                now,
            ));
        }
        actions.extend(removed(snapshot, now, |_| true));
        actions
    }
}

/// What a lane stores, as the log has it.
pub(super) fn stored(table: &str, lane: LaneId, positions: Positions, now: Millis) -> impl Iterator<Item = Action> {
    let whole = |number: u64| i64::try_from(number).ok();
    let versions = [whole(positions.seq), whole(positions.next), whole(positions.rewind), positions.watermark];
    WHAT.into_iter().zip(versions).filter_map(move |(what, version)| {
        let txn = Txn { app_id: actions::app_id(table, lane, what), version: version?, last_updated: Some(now) };
        Some(Action { txn: Some(txn), ..Action::default() })
    })
}

fn removed(snapshot: &Snapshot, now: Millis, which: impl Fn(&str) -> bool) -> impl Iterator<Item = Action> {
    let files = snapshot.files().filter(move |(path, _)| which(path));
    files.map(move |(_, file)| Action { remove: Some(Remove::new(&file.add, now)), ..Action::default() })
}
