//! What of a load cannot be loaded: one dead letter for each record, however many of its elements it is about.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
};

use super::state::Owner;
use crate::{
    bus::letters::{self, DeadLetter},
    model::{Offset, Record},
};

/// The reason of a record, or of elements of one, that cannot become rows.
pub const UNUSABLE: &str = "unusable";
/// The reason of rows that the sink does not take; also where other elements are unusable.
pub const REFUSED: &str = "refused";

/// A letter names so many elements of those that something is said of …
const MOST_ELEMENTS: usize = 20;
/// … and says so many different things.
const MOST_WORDS: usize = 10;

/// The records of a load that something is wrong with.
#[derive(Default)]
pub struct Buried {
    records: BTreeMap<Offset, Grave>,
}

struct Grave {
    record: Record,
    reason: &'static str,
    why: Vec<(Option<u32>, String)>,
}

impl Buried {
    /// Buries a record, or an element of it.
    pub fn push(&mut self, record: &Record, element: Option<u32>, reason: &'static str, why: String) {
        let fresh = || Grave { record: record.clone(), reason, why: Vec::new() };
        let grave = self.records.entry(record.offset).or_insert_with(fresh);
        if reason == REFUSED {
            grave.reason = reason;
        }
        grave.why.push((element, why));
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
                reason: reason.to_owned(),
                detail: format!("{}-{place}{}", topic.name, detail(why)),
                coordinate: letters::coordinate(topic, format!("{place}/{}", actor.stage)),
                record: Some((record.time, record.key)),
                payload: record.value,
                file: None,
            }
        };
        std::mem::take(&mut self.records).into_iter().map(letter).collect()
    }
}

/// What is wrong with which elements: `#3, #5: no number; #7: too long`.
fn detail(mut why: Vec<(Option<u32>, String)>) -> String {
    why.sort_by_key(|(element, _)| *element);
    let mut groups: Vec<(String, Vec<u32>)> = Vec::new();
    let mut known = HashMap::new();
    for (element, words) in why {
        let at = *known.entry(words).or_insert_with_key(|words| {
            groups.push((words.clone(), Vec::new()));
            groups.len() - 1
        });
        groups[at].1.extend(element);
    }
    let mut text = String::new();
    for (words, elements) in groups.iter().take(MOST_WORDS) {
        let named: Vec<_> = elements.iter().take(MOST_ELEMENTS).map(|element| format!("#{element}")).collect();
        let start = if text.is_empty() { "" } else { "; " };
        let more = match elements.len().saturating_sub(MOST_ELEMENTS) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let _ = write!(text, "{start}{}{more}: {words}", named.join(", "));
    }
    let left: usize = groups.iter().skip(MOST_WORDS).map(|(_, elements)| elements.len()).sum();
    if left > 0 {
        let _ = write!(text, "; and {left} more for other reasons");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(why: impl IntoIterator<Item = (Option<u32>, &'static str)>) -> String {
        detail(why.into_iter().map(|(element, words)| (element, words.to_owned())).collect())
    }

    #[test]
    fn a_letter_says_what_is_wrong_with_which_elements_and_is_never_long() {
        assert_eq!(of([(None, "no JSON")]), ": no JSON");
        assert_eq!(of([(Some(3), "no number")]), "#3: no number");
        // Refusals come after what could not be written.
        let mixed = [(Some(4), "no number"), (Some(9), "too long"), (Some(2), "too long"), (Some(3), "no number")];
        assert_eq!(of(mixed), "#2, #9: too long; #3, #4: no number");
        let many = of((0..1_000).map(|element| (Some(element), "bad")));
        assert!(many.starts_with("#0, #1, #2,") && many.ends_with("#18, #19 and 980 more: bad"), "{many}");
        let why = (0..1_000).map(|element| (Some(element), format!("bad {element}"))).collect();
        let different = detail(why);
        assert!(different.ends_with("#9: bad 9; and 990 more for other reasons"), "{different}");
    }
}
