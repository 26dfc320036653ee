//! A receiver of OTLP sees how each batch goes from its source to what is committed, as one trace with parents.

use std::{
    collections::{BTreeMap, HashMap},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use howdah::recorded::Options;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message;

use super::{
    harness::{Served, judge_archive, judge_table, listener, repository, tempdir},
    steer::{Node, start_with},
};

/// A server that takes spans, as a collector of OpenTelemetry's would. It ends with the process.
struct Receiver {
    url: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Receiver {
    fn start() -> Self {
        let listener: TcpListener = listener();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let spans = Arc::default();
        let taken = Arc::clone(&spans);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let taken = Arc::clone(&taken);
                thread::spawn(move || serve(&connection.unwrap(), &taken));
            }
        });
        Self { url, spans }
    }
}

/// Answers requests until the other side hangs up.
fn serve(connection: &TcpStream, taken: &Mutex<Vec<Span>>) {
    let mut reader = BufReader::new(connection);
    loop {
        let mut head = Vec::new();
        let mut line = String::new();
        while reader.read_line(&mut line).unwrap() > 2 {
            head.push(std::mem::take(&mut line).to_ascii_lowercase());
        }
        let Some(request) = head.first() else { return };
        assert!(request.starts_with("post /v1/traces "), "{request}");
        assert!(head.iter().any(|line| line.trim() == "content-type: application/x-protobuf"), "{head:?}");
        let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.trim().parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
        let spans = request.resource_spans.into_iter().flat_map(|resource| {
            let name = resource.resource.as_ref().and_then(|resource| value(&resource.attributes, "service.name"));
            assert_eq!(name, Some("howdah".to_owned()));
            resource.scope_spans.into_iter().flat_map(|scope| scope.spans)
        });
        taken.lock().unwrap().extend(spans);
        let mut connection = connection;
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    }
}

fn value(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key}: {other:?}"),
    }
}

fn records(span: &Span) -> u64 {
    value(&span.attributes, "messaging.batch.message_count").unwrap().parse().unwrap()
}

/// Starts a node that traces every batch to that address.
fn start_traced(folder: &std::path::Path, source: &str, receiver: &str) -> Node {
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", receiver), ("OTEL_TRACES_SAMPLER_ARG", "1")];
    start_with(folder, source, "http", &variables.map(|(name, value)| (name, std::path::Path::new(value))))
}

#[test]
fn each_record_is_followed_from_its_source_to_the_archive_and_the_tables() {
    let folder = tempdir();
    let (data, events) = (folder.path().join("data"), repository("data/recentchange-2015-09-12.ndjson.gz"));
    let receiver = Receiver::start();
    let served = Served::start(&events, Options { speed: 2_000.0, ..Options::default() });
    let mut node = start_traced(folder.path(), &served.url, &receiver.url);
    // What a life has begun and not committed, its successor goes on with.
    for actor in ["wikimedia/archive/0", "wikimedia/edits/0"] {
        node.awaits(actor, "a first record", |actor| actor["in"]["records"].as_u64() > Some(0));
        node.says(&["restart", actor]);
    }
    node.running.await_records(&data, "wiki_changes", served.total);
    let ended = node.running.terminate_in_order();
    assert!(ended.log.contains("archived") && ended.log.contains("trace="), "{}", ended.log);

    let spans = receiver.spans.lock().unwrap();
    let by_id: HashMap<_, _> = spans.iter().map(|span| (&span.span_id, span)).collect();
    assert_eq!(by_id.len(), spans.len());
    let mut traced = BTreeMap::<_, u64>::new();
    for span in &*spans {
        let stage = value(&span.attributes, "stage").unwrap();
        let parent = by_id.get(&span.parent_span_id);
        let under = match span.name.as_str() {
            "collect" => "",
            "ingest" => "collect",
            "archive" | "aggregate" => "ingest",
            other => panic!("a span named {other}"),
        };
        assert_eq!(parent.map_or("", |parent| &parent.name), under, "{span:?}");
        if let Some(parent) = parent {
            assert_eq!(span.trace_id, parent.trace_id);
            assert!(span.start_time_unix_nano >= parent.start_time_unix_nano, "{span:?} {parent:?}");
            assert!(records(span) <= records(parent), "{span:?} {parent:?}");
        }
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano, "{span:?}");
        *traced.entry((span.name.as_str(), stage)).or_default() += records(span);
    }
    let stages = [
        ("aggregate", "edits"),
        ("aggregate", "sizes"),
        ("archive", "archive"),
        ("collect", "collect"),
        ("ingest", "ingest"),
    ];
    assert_eq!(traced, stages.map(|(name, stage)| ((name, stage.to_owned()), served.total)).into());
    judge_archive(&events, &data, &[]);
}

/// What is traced does not wait for who is not there.
#[test]
fn without_a_receiver_everything_goes_its_way() {
    let folder = tempdir();
    let (data, events) = (folder.path().join("data"), repository("data/recentchange-2015-09-12.ndjson.gz"));
    let served = Served::start(&events, Options::default());
    // Nobody listens there any more.
    let nobody = format!("http://{}", listener().local_addr().unwrap());
    let mut node = start_traced(folder.path(), &served.url, &nobody);
    node.running.await_records(&data, "wiki_changes", served.total);
    let ended = node.running.terminate_in_order();
    let said = ended.log.lines().filter(|line| line.contains("traces are not taken")).count();
    assert!(said == 1 && !ended.log.contains("ERROR"), "{}", ended.log);
    judge_archive(&events, &data, &[]);
    judge_table(&events, &data, &[]);
}
