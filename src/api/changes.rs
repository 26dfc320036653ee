//! What changes, as it does: server-sent events, one for each actor whose state, life or wish is another.
//! The first ones tell how things are.

use std::{collections::HashMap, time::Duration};

use actix_web::{HttpResponse, http::header, web::Data};
use bytes::Bytes;
use futures_util::stream;
use tokio::time::{MissedTickBehavior, interval};

use super::{shared::Shared, views::ActorView};

/// How often it is looked at: a person takes this for at once.
const LOOK: Duration = Duration::from_millis(200);

/// A comment after so many looks without a change keeps proxies from closing.
const QUIET: u32 = 75;

/// See the module's text.
pub async fn follow(shared: Data<Shared>) -> HttpResponse {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let told =
        stream::unfold((shared, ticks, HashMap::new(), 0), |(shared, mut ticks, mut known, mut quiet)| async move {
            loop {
                ticks.tick().await;
                let text = changes(&shared, &mut known);
                quiet = if text.is_empty() { quiet + 1 } else { 0 };
                let text = if quiet >= QUIET { ": quiet\n\n".to_owned() } else { text };
                if !text.is_empty() {
                    let quiet = 0;
                    return Some((Ok::<_, actix_web::Error>(Bytes::from(text)), (shared, ticks, known, quiet)));
                }
            }
        });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .streaming(told)
}

/// The events since `known`, which is brought up to date.
fn changes(shared: &Shared, known: &mut HashMap<String, String>) -> String {
    let now = shared.clock.now();
    let mut text = String::new();
    for vitals in shared.steer.actors() {
        let life = vitals.life();
        let mark = format!("{:?} {} {:?} {:?}", life.state, life.incarnation, life.wish, life.restarts);
        let id = vitals.id.to_string();
        if known.get(&id) == Some(&mark) {
            continue;
        }
        known.insert(id, mark);
        if let Ok(view) = serde_json::to_string(&ActorView::of(vitals, now)) {
            text.push_str("event: actor\ndata: ");
            text.push_str(&view);
            text.push_str("\n\n");
        }
    }
    text
}
