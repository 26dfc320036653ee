//! Losses that nobody has acknowledged yet: what actors count as lost for good, noted in a file that outlives the
//! process, so that whoever looks the next morning learns of it.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};

use super::kept::{About, Kept};
use crate::{
    fault::Result,
    model::{ActorId, Clock, Millis},
    vitals::{Loss, Reason, Vitals},
};

const LOSSES: About = About {
    name: "losses.json",
    way_out: "losses are not known: mend it, or delete it and they count as acknowledged",
};

/// How often actors are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How much each actor has counted.
type Noted = BTreeMap<(ActorId, Reason), u64>;

/// See the module's text.
pub(super) struct Losses {
    kept: Kept<Vec<Loss>>,
    /// What of the actors' counters is in it.
    noted: Mutex<Noted>,
    clock: Arc<dyn Clock>,
}

impl Losses {
    /// Those that are not acknowledged, from this folder.
    ///
    /// # Errors
    /// The file is there and cannot be read, or is no file of ours.
    pub(super) fn open(folder: &Path, clock: Arc<dyn Clock>) -> Result<Self> {
        Ok(Self { kept: Kept::open(folder, LOSSES)?, noted: Mutex::default(), clock })
    }

    /// Lets an actor show what its earlier processes have lost.
    pub(super) fn begin(&self, vitals: &Vitals) {
        let losses = self.kept.of(&vitals.id).unwrap_or_default();
        vitals.update(|life| life.losses = losses);
    }

    /// Notes what these have lost since the last time. Blocks.
    ///
    /// # Errors
    /// It cannot be written; the next call tries again. Who looks sees it already.
    pub(super) fn note(&self, actors: &[Arc<Vitals>]) -> Result<()> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        actors.iter().try_for_each(|vitals| self.note_one(vitals, &mut noted))
    }

    fn note_one(&self, vitals: &Vitals, noted: &mut Noted) -> Result<()> {
        let before = self.kept.of(&vitals.id).unwrap_or_default();
        let mut losses = before.clone();
        let counts = Reason::ALL.map(|reason| (reason, vitals.lost.of(reason)));
        for (reason, count) in counts {
            let known = noted.get(&(vitals.id.clone(), reason)).copied().unwrap_or(0);
            if count > known {
                add(&mut losses, reason, count - known, self.clock.now());
            }
        }
        if losses == before {
            return Ok(());
        }
        vitals.update(|life| life.losses.clone_from(&losses));
        self.kept.set(&vitals.id, Some(losses))?;
        noted.extend(counts.map(|(reason, count)| ((vitals.id.clone(), reason), count)));
        Ok(())
    }

    /// Notes what is lost, for as long as this is polled.
    pub(super) async fn watch(self: Arc<Self>, actors: Vec<Arc<Vitals>>) {
        let (mut tick, mut said) = (interval(LOOK), false);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if !self.is_news(&actors) {
                continue;
            }
            let (losses, all) = (Arc::clone(&self), actors.clone());
            match tokio::task::spawn_blocking(move || losses.note(&all)).await {
                Ok(Err(fault)) if !said => {
                    said = true;
                    tracing::warn!(error = %fault, "losses are not written down yet");
                }
                Ok(Ok(())) => said = false,
                _ => {}
            }
        }
    }

    fn is_news(&self, actors: &[Arc<Vitals>]) -> bool {
        // Who holds it writes a file, and this must not wait for a disk.
        let Ok(noted) = self.noted.try_lock() else { return false };
        let known = |vitals: &Vitals, reason| noted.get(&(vitals.id.clone(), reason)).copied().unwrap_or(0);
        actors.iter().any(|vitals| Reason::ALL.iter().any(|&reason| vitals.lost.of(reason) > known(vitals, reason)))
    }

    /// Somebody knows of the actor's losses; answers with them. Blocks.
    ///
    /// # Errors
    /// It cannot be written; they are not acknowledged then.
    pub(super) fn acknowledge(&self, vitals: &Vitals) -> Result<Vec<Loss>> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        self.note_one(vitals, &mut noted)?;
        let losses = self.kept.of(&vitals.id).unwrap_or_default();
        self.kept.set(&vitals.id, None)?;
        vitals.update(|life| life.losses.clear());
        Ok(losses)
    }
}

fn add(losses: &mut Vec<Loss>, reason: Reason, number: u64, now: Millis) {
    match losses.iter_mut().find(|loss| loss.reason == reason) {
        Some(loss) => (loss.number, loss.last) = (loss.number + number, now),
        None => losses.push(Loss { reason, number, since: now, last: now }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{model::ManualClock, vitals::Kind};

    fn archiver() -> Arc<Vitals> {
        Vitals::new(ActorId { pipeline: "p".into(), stage: "archive".into(), replica: 0 }, Kind::Archiver)
    }

    #[test]
    fn a_loss_stays_over_processes_until_it_is_acknowledged() {
        let (folder, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(1_000));
        let open = || Losses::open(folder.path(), Arc::new(clock.clone())).unwrap();
        let (losses, vitals) = (open(), archiver());
        let note = |losses: &Losses, vitals: &Arc<Vitals>| losses.note(std::slice::from_ref(vitals)).unwrap();
        vitals.lost.retention.add(3);
        note(&losses, &vitals);
        clock.advance(500);
        note(&losses, &vitals);
        vitals.lost.retention.add(2);
        vitals.lost.missing.add(1);
        note(&losses, &vitals);
        let expected = vec![
            Loss { reason: Reason::Retention, number: 5, since: 1_000, last: 1_500 },
            Loss { reason: Reason::Missing, number: 1, since: 1_500, last: 1_500 },
        ];
        assert_eq!(vitals.life().losses, expected);

        // Another process counts from nothing.
        let (losses, vitals) = (open(), archiver());
        losses.begin(&vitals);
        assert_eq!(vitals.life().losses, expected);
        clock.advance(500);
        vitals.lost.missing.add(1);
        let more = Loss { number: 2, last: 2_000, ..expected[1].clone() };
        assert_eq!(losses.acknowledge(&vitals).unwrap(), [expected[0].clone(), more]);
        assert_eq!(vitals.life().losses, []);
        // What was acknowledged is no news, and what comes after it is.
        note(&losses, &vitals);
        assert_eq!(vitals.life().losses, []);
        vitals.lost.retention.add(1);
        note(&losses, &vitals);
        assert_eq!(vitals.life().losses, [Loss { reason: Reason::Retention, number: 1, since: 2_000, last: 2_000 }]);
        assert_eq!(open().acknowledge(&archiver()).unwrap(), vitals.life().losses);
    }

    #[test]
    fn a_loss_that_cannot_be_written_is_seen_and_written_later() {
        let folder = tempfile::tempdir().unwrap();
        let (losses, vitals) = (Losses::open(folder.path(), Arc::new(ManualClock::at(7))).unwrap(), archiver());
        let in_the_way = folder.path().join(LOSSES.name).join("full");
        fs::create_dir_all(&in_the_way).unwrap();
        vitals.lost.retention.add(3);
        losses.note(std::slice::from_ref(&vitals)).unwrap_err();
        assert_eq!(vitals.life().losses.len(), 1);
        losses.acknowledge(&vitals).unwrap_err();
        assert_eq!(vitals.life().losses[0].number, 3);
        fs::remove_dir_all(folder.path().join(LOSSES.name)).unwrap();
        losses.note(std::slice::from_ref(&vitals)).unwrap();
        let again = Losses::open(folder.path(), Arc::new(ManualClock::at(9))).unwrap();
        assert_eq!(again.acknowledge(&archiver()).unwrap()[0].number, 3);
    }
}
