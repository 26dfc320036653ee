//! `howdah status`, `actors`, `top`: how a node is.

use std::time::Duration;

use clap::Args;

use super::{NodeArguments, client::Node};
use crate::{
    api::views::{ActorView, NodeView},
    cli::{
        COMPLAINTS, DONE, LOSS, block_on,
        live::{Screen, lines},
        terminal::say,
    },
    fault::{Fault, Result},
};

/// How often `top` draws.
const DRAW: Duration = Duration::from_secs(1);

/// A look at a node.
#[derive(Args)]
pub struct Looking {
    #[command(flatten)]
    node: NodeArguments,
    /// As JSON, as the API gives it
    #[arg(long)]
    json: bool,
}

/// A view that is kept up.
#[derive(Args)]
pub struct Watching {
    #[command(flatten)]
    node: NodeArguments,
    /// Draw so often and end
    #[arg(long, value_name = "NUMBER")]
    times: Option<u32>,
}

/// What a person has to know first; exit code 1 if something is not as it should be, 4 if records are lost. That
/// somebody waits is told, and is part of a day's work.
///
/// # Errors
/// The node cannot be reached or refuses.
pub fn status(arguments: &Looking) -> Result<u8> {
    let node = Node::new(&arguments.node)?;
    let (about, actors) = block_on(async {
        let about: NodeView = node.get("/api/v1/node").await?;
        Ok::<_, Fault>((about, node.actors().await?))
    })??;
    let found: Vec<_> = actors.iter().filter_map(note).collect();
    let unready = (!about.ready).then_some(Weight::Complained);
    let worst = found.iter().map(|(weight, _)| *weight).chain(unready).max();
    let notes: Vec<_> = found.into_iter().map(|(_, note)| note).collect();
    if arguments.json {
        let shown = serde_json::json!({ "node": about, "notes": notes });
        say!("{}", serde_json::to_string_pretty(&shown).map_err(|error| Fault::internal(error.to_string()))?)?;
    } else {
        let ready = if about.ready { "ready" } else { "not ready yet" };
        say!("{} at {}: howdah {}, {} actors, {ready}", about.node, node.url(), about.version, about.actors)?;
        for note in &notes {
            say!("  {note}")?;
        }
    }
    Ok(match worst {
        None | Some(Weight::Told) => DONE,
        Some(Weight::Complained) => COMPLAINTS,
        Some(Weight::Lost) => LOSS,
    })
}

/// How much a note weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// It may be well all the same.
    Told,
    /// Something is not as it should be.
    Complained,
    /// Records are lost.
    Lost,
}

/// What there is to say of an actor.
fn note(actor: &ActorView) -> Option<(Weight, String)> {
    let complained = |text: String| Some((Weight::Complained, text));
    let since = actor.since.as_deref().unwrap_or("its start");
    if !actor.losses.is_empty() {
        let losses: Vec<_> = actor.losses.iter().map(|loss| loss.text.as_str()).collect();
        let id = &actor.id;
        let text = format!("{id} has lost {}: `howdah acknowledge {id}` once somebody knows", losses.join(", "));
        return Some((Weight::Lost, text));
    }
    if let Some(wish) = &actor.wish {
        let hold = serde_json::to_value(wish.hold).ok()?;
        let since = wish.since.as_deref().unwrap_or_default();
        return complained(format!("{} is {} by {} since {since}", actor.id, hold.as_str()?, wish.by));
    }
    let error = actor.last_error.as_ref().map_or_else(String::new, |error| format!(": {}", error.text));
    match (actor.state.as_str(), &actor.waiting_on) {
        ("gave_up", _) => complained(format!("{} was given up at {since}{error}", actor.id)),
        ("restarting", _) => complained(format!("{} is being restarted{error}", actor.id)),
        ("waiting", Some(on)) => Some((Weight::Told, format!("{} waits since {since} for {on}", actor.id))),
        _ => None,
    }
}

/// One line an actor.
///
/// # Errors
/// The node cannot be reached or refuses.
pub fn actors(arguments: &Looking) -> Result<u8> {
    let node = Node::new(&arguments.node)?;
    let actors = block_on(node.actors())??;
    if arguments.json {
        let shown = serde_json::json!({ "actors": actors });
        say!("{}", serde_json::to_string_pretty(&shown).map_err(|error| Fault::internal(error.to_string()))?)?;
    } else {
        for line in lines(&actors) {
            say!("{line}")?;
        }
    }
    Ok(DONE)
}

/// The same, kept up.
///
/// # Errors
/// The node cannot be reached or refuses.
pub fn top(arguments: &Watching) -> Result<u8> {
    let node = Node::new(&arguments.node)?;
    block_on(async {
        let (mut screen, mut tick, mut left) = (Screen::new(), tokio::time::interval(DRAW), arguments.times);
        while left != Some(0) {
            tick.tick().await;
            screen.draw(&lines(&node.actors().await?))?;
            left = left.map(|left| left - 1);
        }
        Ok(DONE)
    })?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::ActorId,
        vitals::{Hold, Kind, Loss, Reason, State, Vitals, Wish},
    };

    #[track_caller]
    fn check(change: impl FnOnce(&Vitals), expected: Option<(Weight, &str)>) {
        let id = ActorId { pipeline: "p".into(), stage: "archive".into(), replica: 0 };
        let vitals = Vitals::new(id, Kind::Archiver);
        vitals.enter(State::Running);
        change(&vitals);
        let found = note(&ActorView::of(&vitals, 0));
        assert_eq!(found.as_ref().map(|(weight, text)| (*weight, text.as_str())), expected);
    }

    #[test]
    fn who_waits_is_told_and_what_is_wrong_is_complained_of() {
        use Weight::{Complained, Lost, Told};
        check(|_| (), None);
        let waiting = State::Waiting("the bus".into());
        check(|v| v.enter(waiting.clone()), Some((Told, "p/archive/0 waits since its start for the bus")));
        let loss = Loss { reason: Reason::Retention, number: 3, since: 1, last: 2 };
        check(
            |v| v.update(|life| life.losses.push(loss)),
            Some((
                Lost,
                "p/archive/0 has lost 3 records that the bus had deleted: `howdah acknowledge p/archive/0` once somebody knows",
            )),
        );
        let gone = |v: &Vitals| {
            v.enter(State::GaveUp);
            v.update(|life| life.last_error = Some((1, "it broke".into())));
        };
        check(gone, Some((Complained, "p/archive/0 was given up at its start: it broke")));
        let wish = Wish { hold: Hold::Paused, by: "anna".into(), since: 1_000 };
        let held = |v: &Vitals| {
            v.enter(waiting.clone());
            v.update(|life| life.wish = Some(wish.clone()));
        };
        check(held, Some((Complained, "p/archive/0 is paused by anna since 1970-01-01T00:00:01.000Z")));
    }
}
