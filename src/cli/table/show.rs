//! `howdah table show`: the newest rows of a live table, and how far it stands.

use crate::{
    cli::terminal::{counted, say},
    config::{Pipeline, StageKind},
    fault::{Fault, Result},
    node,
    table::{Columns, View, grid::rfc3339, show, window::Cell},
};

/// The tables of a pipeline as they are now.
pub(super) async fn views(pipeline: &Pipeline) -> Result<Vec<(String, Option<View>)>> {
    let store = node::open_store_to_read(&pipeline.store).await?;
    let mut views = Vec::new();
    for stage in &pipeline.stages {
        if let StageKind::Aggregator(settings) = &stage.kind {
            views.push((settings.path.to_string(), show(&*store, &settings.path, None, None).await?));
        }
    }
    Ok(views)
}

/// Prints the newest windows for a person.
///
/// # Errors
/// Those of standard output.
pub(super) fn print(name: &str, view: &View, last: usize) -> Result<()> {
    let mut starts: Vec<_> = view.rows.iter().map(|row| row.window_start).collect();
    starts.dedup();
    let from = starts.iter().rev().nth(last.saturating_sub(1)).copied().unwrap_or(i64::MIN);
    let (rows, windows) = (counted(view.rows.len() as u64, "row"), counted(starts.len() as u64, "window"));
    say!("{name}: version {}, {rows} in {windows}", view.version)?;
    for (lane, positions) in &view.positions {
        let watermark = positions.watermark.map_or("none".to_owned(), rfc3339);
        say!("  partition {}: up to offset {}, watermark {watermark}", lane.partition, positions.next)?;
    }
    if let Some(until) = view.final_until {
        say!("  final until {}", rfc3339(until))?;
    }
    say!("{}", headings(&view.columns).join("\t"))?;
    for row in view.rows.iter().filter(|row| row.window_start >= from) {
        let mut line = vec![rfc3339(row.window_start), rfc3339(row.window_start + view.columns.window)];
        line.extend(row.keys.iter().cloned());
        line.extend(row.cells.iter().map(|cell| match cell {
            Cell::Long(number) => number.to_string(),
            Cell::Double(number) => number.to_string(),
            Cell::Null => String::new(),
        }));
        say!("{}", line.join("\t"))?;
    }
    Ok(())
}

fn headings(columns: &Columns) -> Vec<String> {
    let fixed = ["window_start", "window_end"].map(str::to_owned);
    let measures = columns.measures.iter().map(|column| column.name.clone());
    fixed.into_iter().chain(columns.keys.iter().cloned()).chain(measures).collect()
}

/// Everything, as JSON.
pub(super) fn json(name: &str, view: &View) -> Result<String> {
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
        "final_until": view.final_until.map(rfc3339),
        "rows": rows.collect::<Vec<_>>(),
    });
    serde_json::to_string(&whole).map_err(|error| Fault::internal(error.to_string()))
}
