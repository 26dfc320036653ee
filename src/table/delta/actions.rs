//! The lines of a commit, as the Delta protocol writes them.
//!
//! <https://github.com/delta-io/delta/blob/master/PROTOCOL.md>, section "Actions". Only what a
//! table of ours uses; unknown lines and fields are passed over in reading, as the protocol asks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{FORMAT, LaneId};
use crate::{
    fault::{Fault, Kind, Result},
    model::{Millis, fresh_uuid},
    store::StorePath,
    table::{
        definition::{Columns, Definition},
        grid::{Hour, rfc3339},
    },
};

/// The tag under which a file carries its hour.
const HOUR_TAG: &str = "howdah.hour";

/// The tag under which a checkpoint keeps the version that removed a file.
const VERSION_TAG: &str = "howdah.version";

/// Where the metadata keeps the table's definition.
pub const FINGERPRINT: &str = "howdah.fingerprint";

/// Where the metadata keeps the number of the layout.
pub const FORMAT_KEY: &str = "howdah.format";

/// Where the metadata keeps how often the table was replaced, if it was.
pub const GENERATION: &str = "howdah.generation";

/// A line of a commit: one of these.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Action {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_info: Option<CommitInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<MetaData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub txn: Option<Txn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove: Option<Remove>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add: Option<Add>,
}

/// Who committed and when. `txn_id` is the commit's own uuid, by which its author knows it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommitInfo {
    #[serde(default)]
    pub timestamp: Millis,
    #[serde(default)]
    pub operation: String,
    #[serde(default)]
    pub operation_parameters: BTreeMap<String, Value>,
    #[serde(default)]
    pub engine_info: String,
    #[serde(default)]
    pub txn_id: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Protocol {
    pub min_reader_version: u32,
    pub min_writer_version: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetaData {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub format: Format,
    pub schema_string: String,
    pub partition_columns: Vec<String>,
    #[serde(default)]
    pub configuration: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_time: Option<Millis>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Format {
    pub provider: String,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Txn {
    pub app_id: String,
    pub version: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<Millis>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Add {
    pub path: String,
    pub partition_values: BTreeMap<String, Option<String>>,
    pub size: u64,
    pub modification_time: Millis,
    pub data_change: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, Option<String>>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Remove {
    pub path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<Millis>,
    pub data_change: bool,
    #[serde(default)]
    pub extended_file_metadata: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_values: Option<BTreeMap<String, Option<String>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, Option<String>>>,
}

impl CommitInfo {
    /// What a commit of this process says of itself.
    pub fn new(timestamp: Millis, operation: &str, commit: Uuid) -> Self {
        Self {
            timestamp,
            operation: operation.to_owned(),
            operation_parameters: BTreeMap::new(),
            engine_info: concat!("howdah/", env!("CARGO_PKG_VERSION")).to_owned(),
            txn_id: Some(commit.to_string()),
        }
    }
}

impl Protocol {
    /// What a reader and a writer of our tables need: the oldest.
    pub const OURS: Self = Self { min_reader_version: 1, min_writer_version: 2 };
}

impl MetaData {
    /// The metadata of a new table; the least `generation` of its hours is 0, or above those of a table
    /// that it replaces.
    ///
    /// # Errors
    /// `Internal`, which would be a mistake in the definition's code.
    pub fn new(definition: &Definition, generation: u64, created: Millis) -> Result<Self> {
        let fixed = [(FINGERPRINT.to_owned(), definition.text()?), (FORMAT_KEY.to_owned(), FORMAT.to_string())];
        let mut configuration = BTreeMap::from(fixed);
        if generation > 0 {
            configuration.insert(GENERATION.to_owned(), generation.to_string());
        }
        Ok(Self {
            id: fresh_uuid().to_string(),
            name: None,
            description: None,
            format: Format { provider: "parquet".to_owned(), options: BTreeMap::new() },
            schema_string: schema(&definition.columns()),
            partition_columns: vec!["dt".to_owned()],
            configuration,
            created_time: Some(created),
        })
    }
}

fn schema(columns: &Columns) -> String {
    let field = |name: &str, of: &str| json!({"name": name, "type": of, "nullable": true, "metadata": {}});
    let mut fields = vec![field("window_start", "timestamp"), field("window_end", "timestamp")];
    fields.extend(columns.keys.iter().map(|name| field(name, "string")));
    fields.extend(columns.measures.iter().map(|c| field(&c.name, if c.op.whole() { "long" } else { "double" })));
    fields.push(field("dt", "string"));
    json!({"type": "struct", "fields": fields}).to_string()
}

/// What is known of a file that is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// Its hour.
    pub hour: Hour,
    /// Its length in bytes.
    pub size: u64,
    /// Its rows.
    pub num_rows: u64,
    /// When its first and its last window begin.
    pub windows: (Millis, Millis),
}

impl Add {
    /// Adds this file to the table.
    pub fn new(path: &str, facts: &FileFacts, at: Millis) -> Self {
        let (first, last) = facts.windows;
        let stats = json!({
            "numRecords": facts.num_rows,
            "minValues": {"window_start": stat_time(first)},
            "maxValues": {"window_start": stat_time(last)},
            "nullCount": {"window_start": 0},
        });
        Self {
            path: path.to_owned(),
            partition_values: day(facts.hour.date()),
            size: facts.size,
            modification_time: at,
            data_change: true,
            stats: Some(stats.to_string()),
            tags: Some([(HOUR_TAG.to_owned(), Some(facts.hour.to_string()))].into()),
        }
    }

    /// The hour it holds, if it is a file of ours.
    pub fn hour(&self) -> Option<Hour> {
        Hour::parse(self.tags.as_ref()?.get(HOUR_TAG)?.as_deref()?)
    }

    /// How many rows it holds, if it says so.
    pub fn num_rows(&self) -> Option<u64> {
        serde_json::from_str::<Value>(self.stats.as_deref()?).ok()?.get("numRecords")?.as_u64()
    }
}

impl Remove {
    /// Takes this file out of the table.
    pub fn new(add: &Add, at: Millis) -> Self {
        Self {
            path: add.path.clone(),
            deletion_timestamp: Some(at),
            data_change: true,
            extended_file_metadata: Some(true),
            partition_values: Some(add.partition_values.clone()),
            size: Some(add.size),
            tags: None,
        }
    }

    /// The version that removed it, if a checkpoint of ours says so.
    pub fn version(&self) -> Option<u64> {
        self.tags.as_ref()?.get(VERSION_TAG)?.as_deref()?.parse().ok()
    }

    /// The same for a checkpoint: without the version it could not be known when its file may go.
    #[must_use]
    pub fn with_version(&self, version: u64) -> Self {
        Self { tags: Some([(VERSION_TAG.to_owned(), Some(version.to_string()))].into()), ..self.clone() }
    }
}

fn day(dt: String) -> BTreeMap<String, Option<String>> {
    [("dt".to_owned(), Some(dt))].into()
}

// Statistics have times in milliseconds, always with three digits.
fn stat_time(time: Millis) -> String {
    let second = rfc3339(time.div_euclid(1000) * 1000);
    format!("{}.{:03}Z", second.trim_end_matches('Z'), time.rem_euclid(1000))
}

/// What a lane stores, in the order of the table in the module's text.
pub const WHAT: [&str; 4] = ["seq", "next", "rewind", "watermark"];

/// The application id under which a lane stores `what`; `table` is the id in the table's metadata,
/// which stays when its folder is moved.
pub fn app_id(table: &str, lane: LaneId, what: &str) -> String {
    format!("howdah/{table}/{}/{}/{what}", lane.topic, lane.partition)
}

/// The application id under which the table stores where its final hours end; see [`super`].
pub fn final_id(table: &str) -> String {
    format!("howdah/{table}/final")
}

/// The lane and what it stores under an application id of ours; `None` for those of others.
pub fn of_app_id<'a>(table: &str, id: &'a str) -> Option<(LaneId, &'a str)> {
    let rest = id.strip_prefix("howdah/")?.strip_prefix(table)?.strip_prefix('/')?;
    let mut parts = rest.splitn(3, '/');
    let topic = crate::model::TopicId(Uuid::try_parse(parts.next()?).ok()?);
    let partition = parts.next()?.parse().ok()?;
    Some((LaneId { topic, partition }, parts.next()?))
}

/// A commit's file.
///
/// # Errors
/// `Internal`, which would be a mistake in this file.
pub fn to_lines(actions: &[Action]) -> Result<Vec<u8>> {
    let mut lines = Vec::new();
    for action in actions {
        let write = serde_json::to_writer(&mut lines, action);
        write.map_err(|error| Fault::internal(format!("delta action: {error}")))?;
        lines.push(b'\n');
    }
    Ok(lines)
}

/// The actions of a commit's file.
///
/// # Errors
/// [`Kind::Lost`] for a line that is none, with its number.
pub fn of_lines(path: &StorePath, file: &[u8]) -> Result<Vec<Action>> {
    let mut actions = Vec::new();
    for (number, line) in file.split(|&byte| byte == b'\n').enumerate() {
        if !line.iter().all(u8::is_ascii_whitespace) {
            let action = serde_json::from_slice(line).map_err(|error| {
                Fault::data(format!("line {}: no delta action: {error}", number + 1)).kind(Kind::Lost).at(path)
            })?;
            actions.push(action);
        }
    }
    Ok(actions)
}
