//! `howdah why PIPELINE`: which stage waits for which, as sentences. Who comes first in a pipeline waits for
//! those behind it, so the last one that waits is where to look.

use clap::Args;

use super::{NodeArguments, client::Node};
use crate::{
    api::views::{ActorView, PipelineView},
    cli::{DONE, block_on, terminal::say},
    fault::{Fault, Result},
};

/// Which pipeline, on which node.
#[derive(Args)]
pub struct Why {
    /// The pipeline
    #[arg(value_name = "PIPELINE")]
    pipeline: String,
    #[command(flatten)]
    node: NodeArguments,
}

/// Says it.
///
/// # Errors
/// The node cannot be reached or refuses; it has no such pipeline.
pub fn why(arguments: &Why) -> Result<u8> {
    let node = Node::new(&arguments.node)?;
    let (pipeline, actors) = block_on(async {
        let pipeline: PipelineView = node.get(&format!("/api/v1/pipelines/{}", arguments.pipeline)).await?;
        Ok::<_, Fault>((pipeline, node.actors().await?))
    })??;
    for sentence in sentences(&pipeline, &actors) {
        say!("{sentence}")?;
    }
    Ok(DONE)
}

/// One sentence for each actor that does not move records, and one for where to look first.
fn sentences(pipeline: &PipelineView, actors: &[ActorView]) -> Vec<String> {
    let mut found = Vec::new();
    for stage in &pipeline.stages {
        let its = actors.iter().filter(|actor| actor.pipeline == pipeline.id && actor.stage == stage.id);
        for actor in its {
            let edge = format!("from {} to {}", stage.reads, stage.writes);
            let behind = match actor.lag.records {
                ..=0 => String::new(),
                behind => format!(", {behind} records behind"),
            };
            let why = match (actor.state.as_str(), &actor.wish, &actor.waiting_on, &actor.last_error) {
                (_, Some(wish), ..) => Some(format!("is held by {}", wish.by)),
                ("waiting", _, Some(on), _) => Some(format!("waits for {on}")),
                ("running", ..) => None,
                (state, _, _, Some(error)) => Some(format!("is {}: {}", state.replace('_', " "), error.text)),
                (state, ..) => Some(format!("is {}", state.replace('_', " "))),
            };
            found.extend(why.map(|why| format!("{} ({edge}) {why}{behind}.", actor.id)));
        }
    }
    if found.is_empty() {
        found.push(format!("Nothing in {} waits.", pipeline.id));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::views::StageView,
        model::ActorId,
        vitals::{Hold, Kind, State, Vitals, Wish},
    };

    fn stage(id: &str, kind: Kind, reads: &str, writes: &str) -> StageView {
        let kind = kind.word().to_owned();
        StageView { id: id.into(), kind, replicas: 1, reads: reads.into(), writes: writes.into() }
    }

    #[test]
    fn each_edge_that_waits_is_a_sentence() {
        let pipeline = PipelineView {
            id: "p".into(),
            file: "p.toml".into(),
            bus: "kafka k:9092".into(),
            store: "hdfs".into(),
            stages: vec![
                stage("ingest", Kind::Ingester, "spool of collect", "topic t"),
                stage("archive", Kind::Archiver, "topic t", "archive /raw"),
                stage("edits", Kind::Aggregator, "topic t", "table /edits"),
            ],
        };
        let vitals = |name: &str, kind, state: State, lag| {
            let id = ActorId { pipeline: "p".into(), stage: name.into(), replica: 0 };
            let vitals = Vitals::new(id, kind);
            vitals.enter(state);
            vitals.lag.set(lag);
            vitals
        };
        let ingest = vitals("ingest", Kind::Ingester, State::Running, 0);
        let archive = vitals("archive", Kind::Archiver, State::Waiting("a back-off after 3 failures".into()), 70);
        let edits = vitals("edits", Kind::Aggregator, State::Stopped, 0);
        let views = |all: &[&Vitals]| all.iter().map(|vitals| ActorView::of(vitals, 0)).collect::<Vec<_>>();
        assert_eq!(sentences(&pipeline, &views(&[&ingest])), ["Nothing in p waits."]);
        edits.update(|life| {
            life.wish = Some(Wish { hold: Hold::Stopped, by: "anna from 10.0.0.7".into(), since: 1 });
        });
        assert_eq!(
            sentences(&pipeline, &views(&[&edits, &archive, &ingest])),
            [
                "p/archive/0 (from topic t to archive /raw) waits for a back-off after 3 failures, 70 records behind.",
                "p/edits/0 (from topic t to table /edits) is held by anna from 10.0.0.7.",
            ]
        );
    }
}
