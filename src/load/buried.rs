//! What of a load cannot be loaded: one dead letter for each record, however many of its elements it is about.

use std::{collections::BTreeMap, fmt};

use super::state::Owner;
use crate::{
    bus::letters::{self, DeadLetter},
    model::{Offset, Record},
};

/// The reason of a record, or of elements of one, that cannot become rows.
pub const UNUSABLE: &str = "unusable";
/// The reason of rows that the sink does not take; also where other elements are unusable.
pub const REFUSED: &str = "refused";

/// A letter says so many different things …
const MOST_WORDS: usize = 10;
/// … and names so many runs of elements of which it says one.
const MOST_RUNS: usize = 50;

/// The records of a load that something is wrong with.
#[derive(Default)]
pub struct Buried {
    records: BTreeMap<Offset, Grave>,
}

struct Grave {
    record: Record,
    reason: &'static str,
    why: Why,
}

/// What is wrong with which elements.
#[derive(Default)]
struct Why {
    /// The first few things that were said, and of which elements.
    said: Vec<(String, Vec<u32>)>,
    /// Elements of which something else was.
    others: Vec<u32>,
}

impl Buried {
    /// Buries a record, or an element of it.
    pub fn push(&mut self, record: &Record, element: Option<u32>, reason: &'static str, words: String) {
        let fresh = || Grave { record: record.clone(), reason, why: Why::default() };
        let grave = self.records.entry(record.offset).or_insert_with(fresh);
        if reason == REFUSED {
            grave.reason = reason;
        }
        grave.why.push(element, words);
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Takes out the letters, in the order of their records. They are keyed by the record's place and by the stage:
    /// what is of no use here may be of use elsewhere.
    pub fn letters(&mut self, owner: &Owner) -> Vec<DeadLetter> {
        let Owner { topic, partition, actor } = owner;
        let letter = |(offset, Grave { record, reason, why })| {
            let place = format!("{partition}@{offset}");
            DeadLetter {
                reason: str::to_owned(reason),
                detail: format!("{}-{place}{why}", topic.name),
                coordinate: letters::coordinate(topic, format!("{place}/{}", actor.stage)),
                record: Some((record.time, record.key)),
                payload: record.value,
                file: None,
            }
        };
        std::mem::take(&mut self.records).into_iter().map(letter).collect()
    }
}

impl Why {
    fn push(&mut self, element: Option<u32>, words: String) {
        match self.said.iter().position(|(said, _)| *said == words) {
            Some(at) => self.said[at].1.extend(element),
            None if self.said.len() < MOST_WORDS => self.said.push((words, element.into_iter().collect())),
            None => self.others.extend(element),
        }
    }
}

/// `#3, #5-#8: no number; #9: too long`.
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (words, elements)) in self.said.iter().enumerate() {
            write!(f, "{}{}: {words}", if at > 0 { "; " } else { "" }, named(elements))?;
        }
        match self.others.len() {
            0 => Ok(()),
            more => write!(f, "; and, in other words, {more} more: {}", named(&self.others)),
        }
    }
}

/// The first of these elements, runs of them by their ends.
fn named(elements: &[u32]) -> String {
    let mut sorted = elements.to_vec();
    sorted.sort_unstable();
    let runs: Vec<_> = sorted.chunk_by(|one, next| one + 1 == *next).collect();
    let of_run = |run: &&[u32]| match *run {
        [one] => format!("#{one}"),
        run => format!("#{}-#{}", run[0], run[run.len() - 1]),
    };
    let text = runs.iter().take(MOST_RUNS).map(of_run).collect::<Vec<_>>().join(", ");
    match runs.iter().skip(MOST_RUNS).map(|run| run.len()).sum::<usize>() {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(found: impl IntoIterator<Item = (Option<u32>, impl Into<String>)>) -> String {
        let mut why = Why::default();
        found.into_iter().for_each(|(element, words)| why.push(element, words.into()));
        why.to_string()
    }

    #[test]
    fn a_letter_says_what_is_wrong_with_which_elements_and_is_never_long() {
        assert_eq!(of([(None, "no JSON")]), ": no JSON");
        assert_eq!(of([(Some(3), "no number")]), "#3: no number");
        let mixed = [(Some(4), "no number"), (Some(9), "too long"), (Some(2), "too long"), (Some(3), "no number")];
        assert_eq!(of(mixed), "#3-#4: no number; #2, #9: too long");
        assert_eq!(of((0..1_000).map(|element| (Some(element), "bad"))), "#0-#999: bad");
        let scattered = of((0..1_000).map(|element| (Some(2 * element), "bad")));
        assert!(scattered.starts_with("#0, #2, #4,") && scattered.ends_with("#98 and 950 more: bad"), "{scattered}");
        // Some sinks name the document.
        let different = of((0..1_000).map(|element| (Some(element), format!("bad {element}"))));
        assert!(different.ends_with("; #9: bad 9; and, in other words, 990 more: #10-#999"), "{different}");
    }
}
