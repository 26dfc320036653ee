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
    why: Why,
}

/// What is wrong with which elements, as far as a letter says it.
#[derive(Default)]
struct Why {
    /// The first few things, each with the first few elements, and of how many more it is true.
    said: Vec<(String, Vec<u32>, usize)>,
    /// Elements of which something else is.
    others: usize,
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
        let Some((_, elements, more)) = self.said.iter_mut().find(|(said, ..)| *said == words) else {
            if self.said.len() < MOST_WORDS {
                self.said.push((words, element.into_iter().collect(), 0));
            } else {
                self.others += 1;
            }
            return;
        };
        if elements.len() < MOST_ELEMENTS {
            elements.extend(element);
        } else {
            *more += 1;
        }
    }
}

/// `#3, #5: no number; #7: too long`.
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (words, elements, more)) in self.said.iter().enumerate() {
            let named: Vec<_> = elements.iter().map(|element| format!("#{element}")).collect();
            write!(f, "{}{}", if at > 0 { "; " } else { "" }, named.join(", "))?;
            if *more > 0 {
                write!(f, " and {more} more")?;
            }
            write!(f, ": {words}")?;
        }
        if self.others > 0 {
            write!(f, "; and {} more for other reasons", self.others)?;
        }
        Ok(())
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
        assert_eq!(of(mixed), "#4, #3: no number; #9, #2: too long");
        let many = of((0..1_000).map(|element| (Some(element), "bad")));
        assert!(many.starts_with("#0, #1, #2,") && many.ends_with("#18, #19 and 980 more: bad"), "{many}");
        let different = of((0..1_000).map(|element| (Some(element), format!("bad {element}"))));
        assert!(different.ends_with("#9: bad 9; and 990 more for other reasons"), "{different}");
    }
}
