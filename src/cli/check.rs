//! `howdah check FILE…`: says everything that is wrong with pipelines' files, or what they mean.
//!
//! Works offline and touches nothing but the files named. Several files are checked as those of
//! one process: together. With `--schema` it prints what an editor needs to say much of this while a
//! file is written.

use std::{fmt::Write as _, path::PathBuf, time::Duration};

use super::terminal::{counted, write};
use crate::{
    bus::{Cleanup, TopicSpec},
    config::{self, BusSettings, Pipeline, StageKind, StoreSettings, show_duration, show_size},
    fault::Result,
};

#[derive(clap::Args)]
#[command(after_help = "Example:
  howdah check pipelines/wikimedia.toml
  howdah check --schema > howdah.schema.json")]
pub struct Arguments {
    /// Pipeline files
    #[arg(required_unless_present = "schema", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print the JSON Schema of pipeline files, for editors
    #[arg(long, conflicts_with = "files")]
    schema: bool,
}

/// Runs the command and answers with its exit code: 0 when all is fine, 1 with complaints.
///
/// # Errors
/// Those of standard output.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let (text, code) = match arguments.schema {
        true => (format!("{:#}\n", config::schema()), 0),
        false => report(&arguments.files, &config::environment),
    };
    write(text)?;
    Ok(code)
}

/// What the command prints, and its exit code.
fn report(paths: &[PathBuf], env: &dyn Fn(&str) -> Option<String>) -> (String, u8) {
    let mut text = String::new();
    match config::load(paths, env) {
        Ok(pipelines) => {
            for pipeline in &pipelines {
                text.push_str(&describe(pipeline));
            }
            let _ = writeln!(text, "{}: no complaints", counted(pipelines.len() as u64, "file"));
            (text, 0)
        }
        Err(complaints) => {
            for complaint in &complaints {
                let _ = writeln!(text, "{complaint}");
            }
            let files = counted(paths.len() as u64, "file");
            let _ = writeln!(text, "{files}: {}", counted(complaints.len() as u64, "complaint"));
            (text, 1)
        }
    }
}

fn describe(pipeline: &Pipeline) -> String {
    let mut lines = Vec::new();
    let (kind, place) = match &pipeline.bus {
        BusSettings::Embedded { path } => ("embedded", path.display().to_string()),
        BusSettings::Kafka(settings) => ("kafka", settings.brokers.clone()),
    };
    lines.push(["bus".to_owned(), kind.to_owned(), place]);
    let (kind, place) = match &pipeline.store {
        StoreSettings::Local { root } => ("local", root.display().to_string()),
        StoreSettings::Hdfs(settings) => ("hdfs", settings.url.clone()),
    };
    lines.push(["store".to_owned(), kind.to_owned(), place]);
    for topic in &pipeline.topics {
        lines.push(["topic".to_owned(), topic.name.to_string(), topic_in_words(topic)]);
    }
    for stage in &pipeline.stages {
        let actors = counted(stage.replicas.into(), "actor");
        let what = format!("{} ({actors}): {}", stage.kind.word(), stage_in_words(&stage.kind));
        lines.push(["stage".to_owned(), stage.id.to_string(), what]);
    }
    let width = lines.iter().map(|[_, name, _]| name.len()).max().unwrap_or_default();
    let mut text = format!("{}: pipeline {}\n", pipeline.file.display(), pipeline.id);
    for [what, name, words] in lines {
        let _ = writeln!(text, "  {what:<6} {name:<width$}  {words}");
    }
    for notice in &pipeline.notices {
        let _ = writeln!(text, "  notice {notice}");
    }
    text
}

fn topic_in_words(topic: &TopicSpec) -> String {
    let partitions = counted(topic.num_partitions.into(), "partition");
    let kept = match topic.cleanup {
        Cleanup::Compact => "the last record of each key".to_owned(),
        Cleanup::Delete { retention_ms, retention_bytes } => {
            let age =
                retention_ms.map(|ms| show_duration(Duration::from_millis(u64::try_from(ms).unwrap_or_default())));
            match (age, retention_bytes.map(show_size)) {
                (None, None) => "without limit".to_owned(),
                (Some(age), None) => age,
                (None, Some(bytes)) => format!("{bytes} each"),
                (Some(age), Some(bytes)) => format!("{age}, at most {bytes} each"),
            }
        }
    };
    format!("{partitions}, keeps {kept}")
}

fn stage_in_words(kind: &StageKind) -> String {
    match kind {
        StageKind::Collector(settings) => {
            format!("{} to {}", settings.source.shown(), settings.spool.path.display())
        }
        StageKind::Ingester { collector, settings } => format!("{collector}'s spool to topic {}", settings.topic),
        StageKind::Archiver(settings) => format!("topic {} to {}", settings.topic, settings.path),
        StageKind::Aggregator(settings) => format!("topic {} to {}", settings.topic, settings.path),
        StageKind::Loader(settings) => format!("topic {} to {}", settings.topic, settings.sink.shown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        (name == "HOWDAH_CONTACT").then(|| "ops@example.org".to_owned())
    }

    #[test]
    fn a_fine_file_is_described() {
        let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/wikimedia.toml"));
        let (text, code) = report(std::slice::from_ref(&path), &env);
        assert_eq!(code, 0, "{text}");
        let expected = format!(
            "{}: pipeline wikimedia
  bus    embedded                   ./howdah-data/bus
  store  local                      ./howdah-data/store
  topic  wiki_changes               1 partition, keeps 7d, at most 8GiB each
  topic  wiki_changes.dead_letters  1 partition, keeps 30d
  topic  howdah_positions           1 partition, keeps the last record of each key
  stage  collect                    collector (1 actor): https://stream.wikimedia.org/v2/stream/recentchange \
             to ./howdah-data/spool/wikimedia
  stage  ingest                     ingester (1 actor): collect's spool to topic wiki_changes
  stage  archive                    archiver (1 actor): topic wiki_changes to /user/bigdata/flume/raw/wiki_changes
  stage  edits                      aggregator (1 actor): topic wiki_changes to /user/bigdata/aggregates/wiki_edits_minute
  stage  sizes                      aggregator (1 actor): topic wiki_changes to /user/bigdata/aggregates/wiki_bytes_minute
1 file: no complaints
",
            path.display()
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn complaints_are_listed_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let bad = folder.path().join("bad.toml");
        std::fs::write(&bad, "format = 2\n").unwrap();
        let missing = folder.path().join("missing.toml");
        let (text, code) = report(&[missing.clone(), bad.clone()], &env);
        assert_eq!(code, 1);
        let expected = format!(
            "{}: cannot be read: No such file or directory (os error 2)
{}:1:10: format: format 2 is unknown to this howdah, allowed: 1
2 files: 2 complaints
",
            missing.display(),
            bad.display()
        );
        assert_eq!(text, expected);
    }
}
