//! Traces: how a sample of the batches goes from its source to what is committed, as spans that any receiver of
//! OTLP over HTTP takes (<https://opentelemetry.io/docs/specs/otlp/>). Off unless somebody asks for them.
//!
//! A span begins with data and ends when that is durable, minutes later and in another actor, maybe in another
//! life of it. So it is no scope of code, and nothing of this goes through `tracing`: whoever takes a batch
//! begins a span, and ends it with the commit. From the spool on, each record of a sampled batch bears the
//! context of the span that sent it, as the header `traceparent` (<https://www.w3.org/TR/trace-context/>). What a
//! life has begun and not committed, its successor begins again with the records.
//!
//! Sampled is a received batch as a whole: the decision falls once, at the collector.

mod export;
mod runs;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry::{
    Context as Around, KeyValue,
    propagation::TextMapPropagator,
    trace::{Span as _, SpanContext, SpanKind, Status, TraceContextExt, Tracer as _, TracerProvider},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, Span as SdkSpan},
};

use self::export::Telling;
pub use self::runs::{Handed, Run, Taken};
use crate::{
    fault::{Fault, Result},
    model::{ActorId, Batch, Clock, Header, Millis, NodeId, Offset, Record, without_secrets},
};

/// The header of a record that bears where its trace goes on.
const TRACEPARENT: &str = "traceparent";

/// So many spans wait to be sent, and no more: an archiver ends those of minutes at once.
const QUEUE: usize = 8_192;

/// Where spans go.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The address that takes them by POST: `http://collector:4318/v1/traces`.
    pub endpoint: String,
    /// The share of received batches that is traced: 0 to 1.
    pub ratio: f64,
}

/// Begins spans; cheap to clone. Without settings it is off, begins none, and costs nothing.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<Open>>);

#[derive(Debug)]
struct Open {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Tracer {
    /// Sends spans in the background, in batches, from a thread of its own. Where nobody takes them they are
    /// dropped: what is traced never waits.
    ///
    /// # Errors
    /// `User`: the address is none.
    pub fn open(settings: &Settings, node: &NodeId) -> Result<Self> {
        // Whoever speaks TLS first says by which library; after that, this is no news.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let exporter = SpanExporter::builder().with_http().with_endpoint(&settings.endpoint).build();
        let shown = without_secrets(&settings.endpoint);
        let exporter = exporter.map_err(|error| Fault::user(format!("traces to {shown}: {error}")))?;
        let config = BatchConfigBuilder::default().with_max_queue_size(QUEUE).build();
        let processor = BatchSpanProcessor::builder(Telling::new(exporter, shown)).with_batch_config(config).build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.ratio))))
            .with_resource(
                Resource::builder()
                    .with_service_name("howdah")
                    .with_attributes([
                        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                        KeyValue::new("host.name", node.to_string()),
                    ])
                    .build(),
            )
            .build();
        let tracer = provider.tracer("howdah");
        Ok(Self(Some(Arc::new(Open { provider, tracer }))))
    }

    /// Whether anything is traced at all.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins a trace, if this one is sampled.
    pub fn begin(&self, name: &'static str, actor: &ActorId, at: Millis) -> Option<Span> {
        self.span(name, SpanKind::Internal, actor, &Around::new(), at)
    }

    /// Goes on with a trace: a span under the one that has sent what this actor sends on.
    pub fn send(&self, name: &'static str, actor: &ActorId, under: &Context, at: Millis) -> Option<Span> {
        self.span(name, SpanKind::Producer, actor, &under.around(), at)
    }

    /// Goes on with a trace: a span under the one that has sent what this actor has taken.
    pub fn take(&self, name: &'static str, actor: &ActorId, under: &Context, at: Millis) -> Option<Span> {
        self.span(name, SpanKind::Consumer, actor, &under.around(), at)
    }

    fn span(&self, name: &'static str, kind: SpanKind, actor: &ActorId, around: &Around, at: Millis) -> Option<Span> {
        let open = self.0.as_ref()?;
        let span = open
            .tracer
            .span_builder(name)
            .with_kind(kind)
            .with_start_time(system_time(at))
            .with_attributes([
                KeyValue::new("pipeline", actor.pipeline.to_string()),
                KeyValue::new("stage", actor.stage.to_string()),
                KeyValue::new("replica", i64::from(actor.replica)),
            ])
            .start_with_context(&open.tracer, around);
        span.is_recording().then_some(Span(span))
    }

    /// The sampled batches among these records, from offset `from` on.
    pub fn look(&self, batch: &Batch, from: Offset, clock: &dyn Clock) -> Vec<Run> {
        let mut taken = Taken::default();
        if self.is_on() {
            taken.look(batch, from, clock.now());
        }
        taken.done(Offset::MAX)
    }

    /// Sends what has ended, for so long at most; nothing is begun after that.
    pub fn close(&self, within: Duration) {
        if let Some(open) = &self.0
            && let Err(error) = open.provider.shutdown_with_timeout(within)
        {
            tracing::warn!(error = %error, "the last spans were not sent");
        }
    }
}

/// A span that has begun. Dropped without an end, it ends as one that nothing came of.
#[derive(Debug)]
pub struct Span(SdkSpan);

impl Span {
    /// What a record bears so that its trace goes on under this span.
    pub fn context(&self) -> Context {
        Context(self.0.span_context().clone())
    }

    /// It came to its end.
    pub fn end(mut self, at: Millis, facts: impl IntoIterator<Item = KeyValue>) {
        self.0.set_attributes(facts);
        self.0.end_with_timestamp(system_time(at));
    }

    /// It failed.
    pub fn fail(mut self, fault: &Fault, at: Millis) {
        self.0.set_status(Status::error(fault.to_string()));
        self.0.end_with_timestamp(system_time(at));
    }
}

/// A fact about a span; the names are those of OpenTelemetry's conventions where it has one.
pub fn fact(name: &'static str, value: u64) -> KeyValue {
    KeyValue::new(name, i64::try_from(value).unwrap_or(i64::MAX))
}

/// As [`fact`], of a text.
pub fn text(name: &'static str, value: &str) -> KeyValue {
    KeyValue::new(name, value.to_owned())
}

fn system_time(at: Millis) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(at).unwrap_or(0))
}

/// Where a trace goes on: the place of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context(SpanContext);

impl Context {
    /// The one that a record bears, if it does.
    pub fn of(record: &Record) -> Option<Self> {
        Self::parse(record.header(TRACEPARENT)?)
    }

    fn parse(traceparent: &[u8]) -> Option<Self> {
        let text = String::from_utf8(traceparent.to_vec()).ok()?;
        let carrier = HashMap::from([(TRACEPARENT.to_owned(), text)]);
        let around = TraceContextPropagator::new().extract_with_context(&Around::new(), &carrier);
        let context = around.span().span_context().clone();
        (context.is_valid() && context.is_sampled()).then_some(Self(context))
    }

    /// The header that bears it.
    pub fn header(&self) -> Header {
        let mut carrier = HashMap::new();
        TraceContextPropagator::new().inject_context(&self.around(), &mut carrier);
        (TRACEPARENT.into(), carrier.remove(TRACEPARENT).unwrap_or_default().into())
    }

    /// The trace's id, as log lines name it: 32 hexadecimal digits.
    pub fn trace(&self) -> String {
        self.0.trace_id().to_string()
    }

    fn around(&self) -> Around {
        Around::new().with_remote_span_context(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the W3C's recommendation, section 3.2.3.
    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_is_read_and_written_as_the_recommendation_has_it() {
        let context = Context::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!(context.trace(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.header(), ("traceparent".into(), EXAMPLE.into()));
    }

    #[test]
    fn what_is_no_context_or_not_sampled_is_none() {
        let unsampled = EXAMPLE.replace("-01", "-00");
        for text in [&b""[..], b"\xff", b"00-0-0-01", unsampled.as_bytes()] {
            assert_eq!(Context::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn without_settings_nothing_is_traced() {
        let actor = ActorId { pipeline: "p".into(), stage: "s".into(), replica: 0 };
        assert!(Tracer::default().begin("collect", &actor, 0).is_none());
    }
}
