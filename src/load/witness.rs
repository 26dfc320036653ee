//! A row that the sink has taken before: sent again, it tells an outage from rows that the sink fails on.

use std::{
    slice,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::sink::{Answer, Around, Sink};
use crate::fault::Domain;

/// An older one is not sent: somebody may have deleted it meanwhile, with its index or without.
const OLDEST: Duration = Duration::from_secs(3_600);

/// The last row that was taken; one for all lanes and lives of a loader.
#[derive(Clone, Debug, Default)]
pub struct Witness(Arc<Mutex<Option<(Bytes, Instant)>>>);

/// What a look at the sink has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// It takes rows.
    Takes,
    /// It says that it is there; whether it takes anything, nobody knows.
    There,
    /// Nothing.
    None,
}

impl Witness {
    /// This row was taken.
    pub(super) fn set(&self, row: &Bytes) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((row.clone(), Instant::now()));
    }

    /// The row, if one was taken lately.
    pub(super) fn row(&self) -> Option<Bytes> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(_, taken)| taken.elapsed() < OLDEST).map(|(row, _)| row.clone())
    }

    fn forget(&self, row: &Bytes) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take_if(|(known, _)| known == row);
    }

    /// Whether the sink takes anything, as far as that can be told.
    pub(super) async fn ask(&self, sink: &dyn Sink, around: &dyn Around) -> Proof {
        let Some(row) = self.row() else {
            return if sink.probe().await.is_ok() { Proof::There } else { Proof::None };
        };
        // Not always once: behind a balancer whose every other server is ill, the row in doubt would always meet
        // that one, and the witness always the other.
        for _ in 0..fastrand::u32(1..=3) {
            let answer = sink.send(slice::from_ref(&row)).await;
            around.answered();
            let is_of_the_row = match &answer {
                Answer::Each(verdicts) if verdicts.is_all_taken() => continue,
                Answer::Each(verdicts) => {
                    let is_for_a_person = verdicts.fault.as_ref().is_some_and(|fault| fault.domain == Domain::User);
                    !verdicts.refused.is_empty() || is_for_a_person
                }
                Answer::Bad(_) | Answer::TooLarge(_) => true,
                Answer::Later(_) | Answer::Unclear(_) => false,
            };
            if is_of_the_row {
                // Too old for the sink by now, or its index is closed: it tells nothing any more.
                self.forget(&row);
            }
            return Proof::None;
        }
        Proof::Takes
    }
}
