//! The API over a toy of a node: every address by the document, and what it refuses.

use std::{sync::Arc, time::Duration};

use actix_web::{
    App,
    body::MessageBody as _,
    http::{Method, StatusCode},
    test::{TestRequest, call_service, init_service, read_body},
    web,
};
use async_trait::async_trait;
use boon::{Compiler, Schemas};
use serde_json::{Value, json};

use super::{
    Access, OPENAPI, Shared, routes,
    steer::{BusFigures, By, Done, Order, Steer},
    views::{PipelineView, StageView},
};
use crate::{
    bus::letters::Letter,
    fault::{Fault, Result},
    model::{ActorId, Incarnation, ManualClock, NodeId, Record},
    vitals::{Connections, Death, Hold, Kind, Loss, Moments, Reason, State, Vitals, Wish},
};

const NOW: i64 = 1_442_018_818_000;

struct Toy {
    pipelines: Vec<PipelineView>,
    actors: Vec<Arc<Vitals>>,
}

fn toy() -> Arc<Toy> {
    let actor =
        |stage: &str, kind| Vitals::new(ActorId { pipeline: "p".into(), stage: stage.into(), replica: 0 }, kind);
    let kinds = [
        ("collect", Kind::Collector),
        ("ingest", Kind::Ingester),
        ("archive", Kind::Archiver),
        ("edits", Kind::Aggregator),
    ];
    let actors: Vec<_> = kinds.iter().map(|(stage, kind)| actor(stage, *kind)).collect();
    let archive = &actors[2];
    archive.records_in.add(7);
    archive.lost.retention.add(3);
    archive.parked.set(1);
    archive.retention_ms.set(604_800_000);
    let loss = Loss { reason: Reason::Retention, number: 3, since: NOW - 10, last: NOW };
    archive.update(|life| life.losses.push(loss));
    archive.last_success.set(NOW);
    archive.lane(4, |lane| (lane.next, lane.end, lane.time) = (10, 15, NOW - 2_500));
    archive.update(|life| {
        life.state = State::Waiting("the bus \"k\"\n".into());
        life.since = NOW;
        life.incarnation = Incarnation(3);
        life.restarts.insert(Death::Panic, 2);
        life.last_error = Some((NOW, "broke".into()));
        life.wish = Some(Wish { hold: Hold::Paused, by: "anna from 10.0.0.7".into(), since: NOW });
    });
    let mut moments = Moments::default();
    moments.push(NOW - 400);
    archive.latency.observe(&moments, NOW);
    let stage = |(id, kind): &(&str, Kind)| StageView {
        id: (*id).to_owned(),
        kind: kind.word().to_owned(),
        replicas: 1,
        reads: "a".into(),
        writes: "b".into(),
    };
    let pipeline = PipelineView {
        id: "p".into(),
        file: "p.toml".into(),
        bus: "kafka".into(),
        store: "hdfs".into(),
        stages: kinds.iter().map(stage).collect(),
    };
    Arc::new(Toy { pipelines: vec![pipeline], actors })
}

#[async_trait]
impl Steer for Toy {
    fn node(&self) -> NodeId {
        NodeId::new("worker7")
    }

    fn pipelines(&self) -> &[PipelineView] {
        &self.pipelines
    }

    fn actors(&self) -> &[Arc<Vitals>] {
        &self.actors
    }

    async fn dead_letters(&self, _: &str, newest: u64) -> Result<Vec<Letter>> {
        let record = Record { offset: newest, time: NOW, key: None, value: Some("pay".into()), headers: Vec::new() };
        let text = str::to_owned;
        Ok(vec![Letter {
            topic: "t".into(),
            coordinate: text("t/0@7"),
            reason: text("newline"),
            detail: text("a line of the archive may hold no newline"),
            actor: text("p/archive/0"),
            file: None,
            record,
        }])
    }

    fn buses(&self) -> Vec<BusFigures> {
        let connections = Arc::<Connections>::default();
        connections.round_trip_us.set(2_500);
        vec![BusFigures { bus: "kafka k:9092".into(), connections }]
    }

    async fn order(&self, actor: &ActorId, order: Order, by: &By) -> Result<Done> {
        match order {
            Order::Roll => Err(Fault::user(format!("{actor} has nothing to roll"))),
            Order::Pause => Err(Fault::external("the bus is away")),
            Order::Stop => Err(Fault::internal("it died")),
            Order::Resume => std::future::pending().await,
            _ => Ok(Done { incarnation: Incarnation(4), text: format!("done for {by}") }),
        }
    }
}

/// Asks without a token, from this machine.
async fn ask(method: Method, path: &str) -> (StatusCode, String) {
    ask_as(None, method, path, &[("host", "localhost:7070")]).await
}

async fn ask_as(token: Option<&str>, method: Method, path: &str, headers: &[(&str, &str)]) -> (StatusCode, String) {
    let access = Access::new(token.map(str::to_owned));
    let clock = Arc::new(ManualClock::at(NOW));
    let shared = web::Data::new(Shared { steer: toy(), clock, access });
    let app = init_service(App::new().app_data(shared).configure(routes::configure)).await;
    let mut request = TestRequest::with_uri(path).method(method);
    for &header in headers {
        request = request.insert_header(header);
    }
    let answer = call_service(&app, request.to_request()).await;
    let status = answer.status();
    // What follows the changes has no end.
    if path.ends_with("changes") && status == StatusCode::OK {
        let mut body = Box::pin(answer.into_body());
        let first = std::future::poll_fn(|context| body.as_mut().poll_next(context)).await;
        return (status, String::from_utf8(first.unwrap().unwrap().to_vec()).unwrap());
    }
    (status, String::from_utf8(read_body(answer).await.to_vec()).unwrap())
}

fn document() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

/// Whether an answer is as the document has it for this address and status.
#[track_caller]
fn check_shape(path: &str, method: &str, status: StatusCode, body: &str) {
    let code = status.as_u16().to_string();
    let at = format!("{method} {path} {code}");
    let document = document();
    let mut answer = document["paths"][path][method]["responses"][&code].clone();
    if let Some(name) = answer["$ref"].as_str() {
        answer = document.pointer(name.trim_start_matches('#')).unwrap().clone();
    }
    let content = &answer["content"];
    assert!(content.is_object(), "{at} is not in the document: {body}");
    let Some(schema) = content["application/json"]["schema"].as_object() else { return };
    let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
    compiler.set_default_draft(boon::Draft::V2020_12);
    compiler.enable_format_assertions();
    let mut whole = json!(schema);
    whole["components"] = document["components"].clone();
    compiler.add_resource("http://h/schema", whole).unwrap();
    let index = compiler.compile("http://h/schema", &mut schemas).unwrap();
    let body: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{at}: no JSON: {body}"));
    schemas.validate(&body, index).unwrap_or_else(|error| panic!("{at}: {error}\n{body:#}"));
}

#[actix::test]
async fn every_address_answers_as_the_document_says() {
    let document = document();
    let mut asked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let filled = path.replace("{pipeline}", "p").replace("{stage}", "archive").replace("{replica}", "0");
        let filled = filled.replace("{order}", "restart");
        for (method, _) in methods.as_object().unwrap() {
            let (status, body) = ask(method.to_uppercase().parse().unwrap(), &filled).await;
            let expected = if path == "/readyz" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
            assert_eq!(status, expected, "{path}: {body}");
            check_shape(path, method, status, &body);
            let (other, _) = ask(Method::DELETE, &filled).await;
            assert_eq!(other, StatusCode::METHOD_NOT_ALLOWED, "{path}");
            asked += 1;
        }
    }
    assert_eq!(asked, 12);
}

#[actix::test]
async fn an_actor_is_told_as_it_is() {
    let (_, body) = ask(Method::GET, "/api/v1/actors/p/archive/0").await;
    let told: Value = serde_json::from_str(&body).unwrap();
    let time = "2015-09-12T00:46:58.000Z";
    let loss = json!({
        "reason": "retention", "number": 3, "since": "2015-09-12T00:46:57.990Z", "last": time,
        "text": "3 records that the bus had deleted",
    });
    let expected = json!({
        "id": "p/archive/0", "pipeline": "p", "stage": "archive", "replica": 0, "kind": "archiver",
        "state": "waiting", "waiting_on": "the bus \"k\"\n", "since": time, "incarnation": 3,
        "restarts": {"panic": 2}, "last_error": {"time": time, "text": "broke"},
        "wish": {"hold": "paused", "by": "anna from 10.0.0.7", "since": time},
        "mailbox": {"depth": 0, "capacity": 0, "waited_ms": 0},
        "in": {"records": 7, "bytes": 0}, "out": {"records": 0, "bytes": 0},
        "dead_letters": 0, "open_windows": 0, "losses": [loss],
        "lag": {"records": 5, "seconds": 2.5}, "offsets": {"4": {"next": 10, "end": 15}},
        "watermark": null, "last_success": time,
    });
    assert_eq!(told, expected);
}

#[actix::test]
async fn what_is_not_there_is_said_with_what_was_probably_meant() {
    for (method, path, of, nearest) in [
        (Method::GET, "/api/v1/actors/p/archiv/0", "/api/v1/actors/{pipeline}/{stage}/{replica}", "p/archive/0"),
        (Method::GET, "/api/v1/actors/p/archive/00", "/api/v1/actors/{pipeline}/{stage}/{replica}", "p/archive/0"),
        (Method::GET, "/api/v1/pipelines/q", "/api/v1/pipelines/{pipeline}", ""),
        (
            Method::POST,
            "/api/v1/actors/p/archive/0/restrat",
            "/api/v1/actors/{pipeline}/{stage}/{replica}/{order}",
            "restart",
        ),
    ] {
        let (status, body) = ask(method.clone(), path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        check_shape(of, &method.as_str().to_lowercase(), status, &body);
        let told: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(told["nearest"].as_str().unwrap_or_default(), nearest, "{body}");
    }
    assert_eq!(ask(Method::GET, "/nothing/here").await.0, StatusCode::NOT_FOUND);
}

#[actix::test]
async fn an_order_is_answered_with_what_came_of_it() {
    const PATH: &str = "/api/v1/actors/{pipeline}/{stage}/{replica}/{order}";
    for (order, status) in [("restart", 200), ("roll", 409), ("pause", 503), ("stop", 500)] {
        let (found, body) = ask(Method::POST, &format!("/api/v1/actors/p/archive/0/{order}")).await;
        assert_eq!(found.as_u16(), status, "{order}: {body}");
        check_shape(PATH, "post", found, &body);
    }
    let headers = [("host", "localhost"), ("x-howdah-user", "anna")];
    let (_, body) = ask_as(None, Method::POST, "/api/v1/actors/p/archive/0/start", &headers).await;
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(told, json!({"id": "p/archive/0", "incarnation": 4, "text": "done for anna from nowhere"}));
}

#[actix::test]
async fn an_order_without_an_effect_is_told_in_a_minute() {
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let (status, body) = ask(Method::POST, "/api/v1/actors/p/archive/0/resume").await;
    assert_eq!((status, begun.elapsed().as_secs()), (StatusCode::GATEWAY_TIMEOUT, Duration::from_secs(60).as_secs()));
    assert!(body.contains("waits for the bus"), "{body}");
}

#[actix::test]
async fn only_whether_it_lives_is_told_to_everybody() {
    for path in document()["paths"].as_object().unwrap().keys() {
        let filled = path.replace("{pipeline}", "p").replace("{stage}", "archive").replace("{replica}", "0");
        let (filled, method) = match filled.strip_suffix("{order}") {
            Some(start) => (format!("{start}restart"), Method::POST),
            None => (filled, Method::GET),
        };
        let open = matches!(path.as_str(), "/healthz" | "/readyz");
        let bare = ask_as(Some("0123456789abcdef"), method.clone(), &filled, &[]).await;
        assert_eq!(bare.0 == StatusCode::UNAUTHORIZED, !open, "{path}");
        let shown = [("authorization", "Bearer 0123456789abcdef")];
        let with = ask_as(Some("0123456789abcdef"), method.clone(), &filled, &shown).await;
        assert_ne!(with.0, StatusCode::UNAUTHORIZED, "{path}");
        let elsewhere = ask_as(None, method, &filled, &[("host", "evil.example")]).await;
        assert_eq!(elsewhere.0 == StatusCode::FORBIDDEN, !open, "{path}");
    }
    // What is no address is no way to learn the addresses either.
    assert_eq!(ask_as(Some("0123456789abcdef"), Method::GET, "/x", &[]).await.0, StatusCode::UNAUTHORIZED);
}

#[actix::test]
async fn prometheus_is_told_every_figure_with_its_labels() {
    let (_, text) = ask(Method::GET, "/metrics").await;
    let labels = r#"pipeline="p",stage="archive",replica="0""#;
    for line in [
        format!("howdah_records_in_total{{{labels}}} 7"),
        r#"howdah_lost_records_total{pipeline="p",stage="archive",replica="0",reason="retention"} 3"#.to_owned(),
        r#"howdah_actor_state{pipeline="p",stage="archive",replica="0",state="waiting"} 1"#.to_owned(),
        r#"howdah_actor_state{pipeline="p",stage="archive",replica="0",state="running"} 0"#.to_owned(),
        r#"howdah_actor_restarts_total{pipeline="p",stage="archive",replica="0",cause="panic"} 2"#.to_owned(),
        format!("howdah_lag_records{{{labels}}} 5"),
        format!("howdah_lag_seconds{{{labels}}} 2.5"),
        format!("howdah_parked_partitions{{{labels}}} 1"),
        format!("howdah_unacknowledged_lost_records{{{labels}}} 3"),
        format!("howdah_topic_retention_seconds{{{labels}}} 604800"),
        r#"howdah_topic_retention_seconds{pipeline="p",stage="edits",replica="0"} inf"#.to_owned(),
        format!(r#"howdah_bus_to_archive_seconds_bucket{{{labels},le="0.25"}} 0"#),
        format!(r#"howdah_bus_to_archive_seconds_bucket{{{labels},le="0.5"}} 1"#),
        format!(r#"howdah_bus_to_archive_seconds_bucket{{{labels},le="+Inf"}} 1"#),
        format!("howdah_bus_to_archive_seconds_count{{{labels}}} 1"),
        r#"howdah_spool_full_in_seconds{pipeline="p",stage="collect",replica="0"} inf"#.to_owned(),
        r#"howdah_bus_round_trip_seconds{bus="kafka k:9092"} 0.0025"#.to_owned(),
        format!(r#"howdah_build_info{{version="{}"}} 1"#, env!("CARGO_PKG_VERSION")),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
    assert!(text.lines().any(|line| line.starts_with("process_open_fds ")), "{text}");
}
