//! A pipeline as people look at it: its stages, and what each reads and writes.

use crate::{
    api::views::{PipelineView, StageView},
    bus::Bus,
    config::{Pipeline, Stage, StageKind},
    store::Store,
};

/// The outline of a pipeline that runs on these.
pub(super) fn outline(pipeline: &Pipeline, bus: &dyn Bus, store: &dyn Store) -> PipelineView {
    PipelineView {
        id: pipeline.id.to_string(),
        file: pipeline.file.display().to_string(),
        bus: bus.describe(),
        store: store.describe(),
        stages: pipeline.stages.iter().map(stage_view).collect(),
    }
}

fn stage_view(stage: &Stage) -> StageView {
    let (reads, writes) = match &stage.kind {
        StageKind::Collector(settings) => (settings.source.shown(), format!("spool {}", settings.spool.path.display())),
        StageKind::Ingester { collector, settings } => {
            (format!("spool of {collector}"), format!("topic {}", settings.topic))
        }
        StageKind::Archiver(settings) => (format!("topic {}", settings.topic), format!("archive {}", settings.path)),
        StageKind::Aggregator(settings) => (format!("topic {}", settings.topic), format!("table {}", settings.path)),
        StageKind::Loader(settings) => (format!("topic {}", settings.topic), settings.sink.shown()),
    };
    StageView { id: stage.id.to_string(), kind: stage.kind.word().to_owned(), replicas: stage.replicas, reads, writes }
}
