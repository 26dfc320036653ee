//! Which address answers with what.

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    body::BoxBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{StatusCode, header},
    middleware::{Next, from_fn},
    web::{self, Data, Path, ServiceConfig},
};
use serde_json::json;
use tokio::time::timeout;

use super::{
    OPENAPI,
    access::{Refusal, by},
    changes, metrics,
    shared::Shared,
    steer::Order,
    views::{ActorView, LetterView, NodeView, unready},
};
use crate::{
    fault::{Domain, Fault},
    model::{ActorId, nearest},
    vitals::Vitals,
};

/// How long an order is waited for. It goes on behind that.
const EFFECT: Duration = Duration::from_secs(60);

/// How long the bus may take to show dead letters.
const LETTERS: Duration = Duration::from_secs(10);

/// Of each topic's dead letters so many records are looked at, from the end.
const NEWEST: u64 = 100;

/// Bytes of a request's body; no address takes one.
const BODY: usize = 1024;

/// All addresses.
pub fn configure(config: &mut ServiceConfig) {
    config.app_data(web::PayloadConfig::new(BODY));
    config.service(web::resource("/healthz").get(health)).service(web::resource("/readyz").get(ready));
    let api = web::scope("")
        .wrap(from_fn(guarded))
        .service(web::resource("/metrics").get(measured))
        .service(web::resource("/api/v1/openapi.json").get(document))
        .service(web::resource("/api/v1/node").get(node))
        .service(web::resource("/api/v1/pipelines").get(pipelines))
        .service(web::resource("/api/v1/pipelines/{pipeline}").get(pipeline))
        .service(web::resource("/api/v1/pipelines/{pipeline}/dead-letters").get(dead_letters))
        .service(web::resource("/api/v1/actors").get(actors))
        .service(web::resource("/api/v1/actors/{pipeline}/{stage}/{replica}").get(actor))
        .service(web::resource("/api/v1/actors/{pipeline}/{stage}/{replica}/{order}").post(order))
        .service(web::resource("/api/v1/changes").get(changes::follow))
        .default_service(web::to(nowhere));
    config.service(api);
}

async fn guarded(request: ServiceRequest, next: Next<BoxBody>) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let admitted = match request.app_data::<Data<Shared>>() {
        Some(shared) => shared.access.admit(request.request()),
        None => Err((StatusCode::INTERNAL_SERVER_ERROR, "not set up")),
    };
    match admitted {
        Ok(()) => next.call(request).await,
        Err((status, text)) => {
            let from = request.peer_addr().map_or_else(String::new, |from| from.ip().to_string());
            tracing::warn!(from, path = request.path(), status = status.as_u16(), "a request was refused");
            Ok(request.into_response(refused((status, text))))
        }
    }
}

fn refused((status, text): Refusal) -> HttpResponse {
    let mut answer = HttpResponse::build(status);
    if status == StatusCode::UNAUTHORIZED {
        answer.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
    }
    answer.json(json!({ "error": text }))
}

fn failed(status: StatusCode, text: impl Into<String>) -> HttpResponse {
    HttpResponse::build(status).json(json!({ "error": text.into() }))
}

async fn health() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "alive": true }))
}

async fn ready(shared: Data<Shared>) -> HttpResponse {
    let waits = unready(shared.steer.actors());
    let status = if waits.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    HttpResponse::build(status).json(json!({ "ready": waits.is_empty(), "waits": waits }))
}

async fn measured(shared: Data<Shared>) -> HttpResponse {
    match metrics::render(&*shared.steer, shared.clock.now()) {
        Ok(text) => HttpResponse::Ok().content_type(prometheus::TEXT_FORMAT).body(text),
        Err(fault) => failed(StatusCode::INTERNAL_SERVER_ERROR, fault.message),
    }
}

async fn document() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(OPENAPI)
}

async fn node(shared: Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().json(NodeView::of(&shared.steer.node(), shared.steer.pipelines(), shared.steer.actors()))
}

async fn pipelines(shared: Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "pipelines": shared.steer.pipelines() }))
}

async fn pipeline(shared: Data<Shared>, name: Path<String>) -> HttpResponse {
    let all = shared.steer.pipelines();
    match all.iter().find(|pipeline| pipeline.id == *name) {
        Some(found) => HttpResponse::Ok().json(found),
        None => unknown("pipeline", &name, all.iter().map(|pipeline| pipeline.id.clone())),
    }
}

async fn dead_letters(shared: Data<Shared>, name: Path<String>) -> HttpResponse {
    let all = shared.steer.pipelines();
    if !all.iter().any(|pipeline| pipeline.id == *name) {
        return unknown("pipeline", &name, all.iter().map(|pipeline| pipeline.id.clone()));
    }
    match timeout(LETTERS, shared.steer.dead_letters(&name, NEWEST)).await {
        Ok(Ok(letters)) => {
            let letters: Vec<_> = letters.iter().map(LetterView::of).collect();
            HttpResponse::Ok().json(json!({ "dead_letters": letters }))
        }
        Ok(Err(fault)) => failed(StatusCode::SERVICE_UNAVAILABLE, fault.message),
        Err(_) => {
            failed(StatusCode::SERVICE_UNAVAILABLE, format!("the bus did not answer within {} s", LETTERS.as_secs()))
        }
    }
}

async fn actors(shared: Data<Shared>) -> HttpResponse {
    let now = shared.clock.now();
    let actors: Vec<_> = shared.steer.actors().iter().map(|vitals| ActorView::of(vitals, now)).collect();
    HttpResponse::Ok().json(json!({ "actors": actors }))
}

async fn actor(shared: Data<Shared>, path: Path<(String, String, String)>) -> HttpResponse {
    let (pipeline, stage, replica) = path.into_inner();
    match find(&shared, &pipeline, &stage, &replica) {
        Ok(vitals) => HttpResponse::Ok().json(ActorView::of(vitals, shared.clock.now())),
        Err(unknown) => *unknown,
    }
}

async fn order(
    shared: Data<Shared>,
    path: Path<(String, String, String, String)>,
    request: HttpRequest,
) -> HttpResponse {
    let (pipeline, stage, replica, word) = path.into_inner();
    let id = match find(&shared, &pipeline, &stage, &replica) {
        Ok(vitals) => vitals.id.clone(),
        Err(unknown) => return *unknown,
    };
    let Ok(order) = word.parse::<Order>() else {
        return unknown("order", &word, Order::ALL.map(|order| order.word().to_owned()).into_iter());
    };
    let by = by(&request);
    // On a task of its own: who hangs up takes nothing back.
    let (steer, actor) = (Arc::clone(&shared.steer), id.clone());
    #[allow(clippy::disallowed_methods, reason = "a panic in it is this request's answer")]
    let doing = actix_web::rt::spawn(async move {
        let done = steer.order(&actor, order, &by).await;
        match &done {
            Ok(done) => {
                tracing::info!(target: "audit", %actor, %order, by = by.who, from = by.from, outcome = done.text, "order");
            }
            Err(fault) => {
                tracing::warn!(target: "audit", %actor, %order, by = by.who, from = by.from, error = %fault, "order");
            }
        }
        done
    });
    match timeout(EFFECT, doing).await {
        Ok(Ok(Ok(done))) => {
            HttpResponse::Ok().json(json!({ "id": id.to_string(), "incarnation": done.incarnation, "text": done.text }))
        }
        Ok(Ok(Err(fault))) => failed(status_of(&fault), fault.message),
        Ok(Err(error)) => failed(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        Err(_) => failed(StatusCode::GATEWAY_TIMEOUT, too_slow(&id, &shared)),
    }
}

fn too_slow(id: &ActorId, shared: &Shared) -> String {
    let now = shared.clock.now();
    let view = shared.steer.actors().iter().find(|vitals| vitals.id == *id).map(|vitals| ActorView::of(vitals, now));
    let state = view.map_or_else(String::new, |view| match view.waiting_on {
        Some(on) => format!("; it waits for {on}"),
        None => format!("; it is {}", view.state),
    });
    format!("{id}: no effect within {} s, the order stands{state}", EFFECT.as_secs())
}

fn status_of(fault: &Fault) -> StatusCode {
    match fault.domain {
        Domain::User | Domain::Data => StatusCode::CONFLICT,
        Domain::External => StatusCode::SERVICE_UNAVAILABLE,
        Domain::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

async fn nowhere() -> HttpResponse {
    failed(StatusCode::NOT_FOUND, "no such address; /api/v1/openapi.json lists them")
}

fn find<'s>(
    shared: &'s Shared,
    pipeline: &str,
    stage: &str,
    replica: &str,
) -> Result<&'s Arc<Vitals>, Box<HttpResponse>> {
    let wanted = format!("{pipeline}/{stage}/{replica}");
    let actors = shared.steer.actors();
    let found = actors.iter().find(|vitals| vitals.id.to_string() == wanted);
    found.ok_or_else(|| Box::new(unknown("actor", &wanted, actors.iter().map(|vitals| vitals.id.to_string()))))
}

fn unknown(what: &str, name: &str, known: impl Iterator<Item = String>) -> HttpResponse {
    let known: Vec<_> = known.collect();
    let meant = nearest(name, known.iter().map(String::as_str));
    let words =
        meant.map_or_else(|| format!("there are: {}", known.join(", ")), |meant| format!("did you mean {meant}?"));
    let name: String = name.chars().take(100).collect();
    HttpResponse::NotFound().json(json!({ "error": format!("no {what} {name:?}; {words}"), "nearest": meant }))
}
