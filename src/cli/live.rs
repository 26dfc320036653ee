//! The live view: one line an actor, drawn from its vitals; drawing never waits for an actor.

use std::{fmt::Write, io::IsTerminal, sync::Arc};

use super::terminal::{grouped, write};
use crate::{
    fault::Result,
    vitals::{State, Vitals},
};

const HEADER: &str = " #  actor                      state             in        out        lag  restarts  mailbox";

/// The whole view as lines, the first one a header.
pub fn lines(actors: &[Arc<Vitals>]) -> Vec<String> {
    let mut lines = vec![HEADER.to_owned()];
    lines.extend(actors.iter().enumerate().map(|(number, vitals)| line(number + 1, vitals)));
    lines
}

fn line(number: usize, vitals: &Vitals) -> String {
    let life = vitals.life();
    let state = match &life.state {
        State::Starting => "starting".to_owned(),
        State::Running => "running".to_owned(),
        State::Waiting(on) => format!("waits: {on}"),
        State::Restarting => "restarting".to_owned(),
        State::Stopped => "stopped".to_owned(),
        State::GaveUp => "gave up".to_owned(),
    };
    let state: String = state.chars().take(13).collect();
    let restarts: u64 = life.restarts.values().sum();
    format!(
        "{number:>2}  {:<26} {state:<13} {:>9} {:>10} {:>10} {restarts:>9} {:>5}/{}",
        vitals.id.to_string(),
        grouped(vitals.records_in.get()),
        grouped(vitals.records_out.get()),
        grouped(vitals.lag.get().max(0).unsigned_abs()),
        vitals.mailbox_depth.get(),
        vitals.mailbox_capacity.get(),
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
    use crate::{model::ActorId, vitals::Death};

    #[test]
    fn a_line_says_who_what_and_how_often_it_came_back() {
        let id = ActorId { pipeline: "wikimedia".into(), stage: "archive".into(), replica: 0 };
        let vitals = Vitals::new(id);
        vitals.records_in.add(12_345);
        vitals.records_out.add(12_000);
        vitals.lag.set(7);
        vitals.mailbox_capacity.set(8);
        vitals.update(|life| {
            life.state = State::Waiting("the bus: it is away".into());
            life.restarts.insert(Death::Panic, 2);
            life.restarts.insert(Death::Order, 1);
        });
        let line = line(3, &vitals);
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words, ["3", "wikimedia/archive/0", "waits:", "the", "bu", "12,345", "12,000", "7", "3", "0/8"]);
    }
}
