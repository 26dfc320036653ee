//! The live view: one line an actor, drawn from its vitals; drawing never waits for an actor.

use std::{fmt::Write, io::IsTerminal, sync::Arc};

use super::terminal::{grouped, write};
use crate::{
    api::views::ActorView,
    fault::Result,
    model::{Clock, SystemClock},
    vitals::{Hold, Vitals},
};

const HEADER: &str = " #  actor                      state             in        out        lag  restarts  mailbox";

/// The whole view as lines, the first one a header.
pub fn lines(actors: &[ActorView]) -> Vec<String> {
    let mut lines = vec![HEADER.to_owned()];
    lines.extend(actors.iter().enumerate().map(|(number, actor)| line(number + 1, actor)));
    lines
}

/// How the actors of this process are now.
pub fn views(actors: &[Arc<Vitals>]) -> Vec<ActorView> {
    let now = SystemClock.now();
    actors.iter().map(|vitals| ActorView::of(vitals, now)).collect()
}

fn line(number: usize, actor: &ActorView) -> String {
    let state = match (&actor.waiting_on, &actor.wish) {
        (_, Some(wish)) if wish.hold == Hold::Paused => "paused".to_owned(),
        (Some(on), _) => format!("waits: {on}"),
        (None, _) => actor.state.replace('_', " "),
    };
    let state: String = state.chars().take(13).collect();
    let restarts: u64 = actor.restarts.values().sum();
    format!(
        "{number:>2}  {:<26} {state:<13} {:>9} {:>10} {:>10} {restarts:>9} {:>5}/{}",
        actor.id,
        grouped(actor.taken.records),
        grouped(actor.out.records),
        grouped(actor.lag.records.max(0).unsigned_abs()),
        actor.mailbox.depth,
        actor.mailbox.capacity,
    )
}

/// Draws over what it drew before on a terminal; elsewhere it prints a line an actor now and then.
pub struct Screen {
    terminal: bool,
    drawn: usize,
    plain_draws: u32,
}

/// On no terminal only every so many draws are printed: a log of two seconds' steps, not of fifths.
const PLAIN_EVERY: u32 = 10;

impl Screen {
    /// A screen on standard output.
    pub fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), drawn: 0, plain_draws: 0 }
    }

    /// Draws these lines.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn draw(&mut self, lines: &[String]) -> Result<()> {
        let mut text = String::new();
        if self.terminal {
            if self.drawn > 0 {
                let _ = write!(text, "\x1b[{}A", self.drawn);
            }
            for line in lines {
                let _ = writeln!(text, "\x1b[2K{line}");
            }
            self.drawn = lines.len();
        } else {
            if self.plain_draws.is_multiple_of(PLAIN_EVERY) {
                for line in lines {
                    let _ = writeln!(text, "{line}");
                }
            }
            self.plain_draws += 1;
        }
        write(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::ActorId,
        vitals::{Death, State},
    };

    #[test]
    fn a_line_says_who_what_and_how_often_it_came_back() {
        let id = ActorId { pipeline: "wikimedia".into(), stage: "archive".into(), replica: 0 };
        let vitals = Vitals::new(id, crate::vitals::Kind::Supervisor);
        vitals.records_in.add(12_345);
        vitals.records_out.add(12_000);
        vitals.lag.set(7);
        vitals.mailbox_capacity.set(8);
        vitals.update(|life| {
            life.state = State::Waiting("the bus: it is away".into());
            life.restarts.insert(Death::Panic, 2);
            life.restarts.insert(Death::Order, 1);
        });
        let line = line(3, &ActorView::of(&vitals, 0));
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words, ["3", "wikimedia/archive/0", "waits:", "the", "bu", "12,345", "12,000", "7", "3", "0/8"]);
    }
}
