//! `howdah table show`: the newest rows of a live table, and how far it stands.

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Args, Subcommand};

use super::{COMPLAINTS, DONE, block_on};
use crate::{
    config::{self, Pipeline, StageKind},
    fault::{Fault, Result},
    node,
    table::{
        Columns, View, show,
        window::{Cell, rfc3339},
    },
};

/// Commands on tables.
#[derive(Subcommand)]
pub enum Command {
    /// Print the newest rows of a pipeline's tables and how far each partition stands
    #[command(after_help = "Example:\n  howdah table show pipelines/wikimedia.toml --last 20\n\n\
        Exit codes: 0 done, 1 the file has complaints, 3 not reachable, 4 a file of the table is missing")]
    Show(Showing),
}

/// What to show.
#[derive(Args)]
pub struct Showing {
    /// The pipeline whose tables are meant
    file: PathBuf,
    /// Only the last so many windows
    #[arg(long, default_value_t = 3, value_name = "N")]
    last: usize,
    /// Everything as JSON, one object a table
    #[arg(long)]
    json: bool,
}

/// Runs a command on tables.
///
/// # Errors
/// Those of the store.
pub fn run(command: &Command) -> Result<u8> {
    let Command::Show(arguments) = command;
    let pipelines = match config::load(std::slice::from_ref(&arguments.file), &config::looking) {
        Ok(pipelines) => pipelines,
        Err(complaints) => {
            complaints.iter().for_each(|complaint| eprintln!("{complaint}"));
            return Ok(COMPLAINTS);
        }
    };
    for pipeline in &pipelines {
        for (name, view) in block_on(views(pipeline))?? {
            match view {
                None => println!("{name}: there is no table yet"),
                Some(view) if arguments.json => println!("{}", json(&name, &view)?),
                Some(view) => print(&name, &view, arguments.last),
            }
        }
    }
    Ok(DONE)
}

/// The tables of a pipeline as they are now.
async fn views(pipeline: &Pipeline) -> Result<Vec<(String, Option<View>)>> {
    let store = node::open_store_to_read(&pipeline.store).await?;
    let mut views = Vec::new();
    for stage in &pipeline.stages {
        if let StageKind::Aggregator(settings) = &stage.kind {
            views.push((settings.path.to_string(), show(&*store, &settings.path, None, None).await?));
        }
    }
    Ok(views)
}

fn print(name: &str, view: &View, last: usize) {
    let mut starts: Vec<_> = view.rows.iter().map(|row| row.window_start).collect();
    starts.dedup();
    let from = starts.iter().rev().nth(last.saturating_sub(1)).copied().unwrap_or(i64::MIN);
    println!("{name}: version {}, {} rows in {} windows", view.version, view.rows.len(), starts.len());
    for (lane, positions) in &view.positions {
        let watermark = positions.watermark.map_or("none".to_owned(), rfc3339);
        println!("  partition {}: up to offset {}, watermark {watermark}", lane.partition, positions.next);
    }
    println!("{}", headings(&view.columns).join("\t"));
    for row in view.rows.iter().filter(|row| row.window_start >= from) {
        let mut line = vec![rfc3339(row.window_start), rfc3339(row.window_start + view.columns.window)];
        line.extend(row.keys.iter().cloned());
        line.extend(row.cells.iter().map(|cell| match cell {
            Cell::Long(number) => number.to_string(),
            Cell::Double(number) => number.to_string(),
            Cell::Null => String::new(),
        }));
        println!("{}", line.join("\t"));
    }
}

fn headings(columns: &Columns) -> Vec<String> {
    let fixed = ["window_start", "window_end"].map(str::to_owned);
    let measures = columns.measures.iter().map(|column| column.name.clone());
    fixed.into_iter().chain(columns.keys.iter().cloned()).chain(measures).collect()
}

fn json(name: &str, view: &View) -> Result<String> {
    let names = headings(&view.columns);
    let rows = view.rows.iter().map(|row| {
        let times = [row.window_start, row.window_start + view.columns.window];
        let cells = row.cells.iter().map(|cell| match cell {
            Cell::Long(number) => (*number).into(),
            Cell::Double(number) => (*number).into(),
            Cell::Null => serde_json::Value::Null,
        });
        let values = times.map(|time| rfc3339(time).into()).into_iter();
        let values = values.chain(row.keys.iter().map(|key| key.as_str().into())).chain(cells);
        names.iter().cloned().zip(values).collect::<serde_json::Map<_, _>>()
    });
    let positions = view.positions.iter().map(|(lane, positions)| {
        serde_json::json!({
            "topic_id": lane.topic,
            "partition": lane.partition,
            "next": positions.next,
            "watermark": positions.watermark.map(rfc3339),
        })
    });
    let whole = serde_json::json!({
        "table": name,
        "version": view.version,
        "positions": positions.collect::<Vec<_>>(),
        "rows": rows.collect::<Vec<_>>(),
    });
    serde_json::to_string(&whole).map_err(|error| Fault::internal(error.to_string()))
}

/// What a whole table sums up to, by key.
pub struct Totals {
    keys: Vec<String>,
    measure: String,
    sums: BTreeMap<String, i64>,
}

impl Totals {
    /// The key columns' names.
    pub fn headings(&self) -> String {
        format!("{} by {}", self.measure, self.keys.join(", "))
    }

    /// The `n` keys with the largest sums.
    pub fn top(&self, n: usize) -> Vec<(&str, u64)> {
        let mut rows: Vec<_> =
            self.sums.iter().map(|(key, sum)| (key.as_str(), (*sum).max(0).unsigned_abs())).collect();
        rows.sort_by(|(a_key, a), (b_key, b)| b.cmp(a).then(a_key.cmp(b_key)));
        rows.truncate(n);
        rows
    }
}

/// Of each table of a pipeline the sums of its first measure that is a count, over all windows.
///
/// # Errors
/// Those of the store.
pub async fn totals(pipeline: &Pipeline) -> Result<Vec<(String, Totals)>> {
    let mut all = Vec::new();
    for (name, view) in views(pipeline).await? {
        let Some(view) = view else { continue };
        let mut sums: BTreeMap<String, i64> = BTreeMap::new();
        let is_whole = |cell: &Cell| matches!(cell, Cell::Long(_));
        let Some(at) = view.rows.first().and_then(|row| row.cells.iter().position(is_whole)) else { continue };
        for row in &view.rows {
            if let Some(Cell::Long(number)) = row.cells.get(at) {
                *sums.entry(row.keys.join(", ")).or_default() += number;
            }
        }
        let measure = view.columns.measures.get(at).map_or(String::new(), |column| column.name.clone());
        all.push((name, Totals { keys: view.columns.keys, measure, sums }));
    }
    Ok(all)
}
