//! A pipeline as people look at it: its stages, and what each reads and writes.

use crate::{
    api::views::{PipelineView, StageView},
    bus::Bus,
    collect::Source,
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
        StageKind::Collector(settings) => {
            let Source::Sse(source) = &settings.source;
            (without_secrets(&source.url), format!("spool {}", settings.spool.path.display()))
        }
        StageKind::Ingester { collector, settings } => {
            (format!("spool of {collector}"), format!("topic {}", settings.topic))
        }
        StageKind::Archiver(settings) => (format!("topic {}", settings.topic), format!("archive {}", settings.path)),
        StageKind::Aggregator(settings) => (format!("topic {}", settings.topic), format!("table {}", settings.path)),
    };
    StageView { id: stage.id.to_string(), kind: stage.kind.word().to_owned(), replicas: stage.replicas, reads, writes }
}

/// An address without what may be a password: user, query and fragment.
fn without_secrets(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = plain.split_once("://") else { return plain.to_owned() };
    let (authority, path) = rest.split_once('/').map_or((rest, String::new()), |(a, path)| (a, format!("/{path}")));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_what_may_be_a_password() {
        for (url, shown) in [
            ("https://stream.example.org/v2/stream", "https://stream.example.org/v2/stream"),
            ("http://anna:s3cret@host:8080/a/b?token=s3cret#s3cret", "http://host:8080/a/b"),
            ("http://a@b@host", "http://host"),
            ("http://host?key=s3cret", "http://host"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }
}
