//! When a service is asked: decisions without a clock of their own.
//!
//! A slot is a number, the time since 1970 over the period. Each is asked for at most once, within the
//! jitter behind its beginning. After a failure the next slot asked for begins no earlier than a pause
//! later: one period, doubled with each failure in a row up to a bound, or what the service named
//! (`Retry-After`), whichever is longer. One success forgets all failures.

use std::time::Duration;

use crate::model::Millis;

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Slots {
    period: Millis,
    jitter: Millis,
    max_pause: Millis,
    last: Option<i64>,
    failures: u32,
    not_before: Millis,
}

/// A slot that is to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// When it begins, ms since 1970: its name.
    pub slot: Millis,
    /// When to ask.
    pub at: Millis,
    /// How many slots between the last one and this one passed unasked though nothing had failed.
    pub missed: u64,
}

impl Slots {
    /// Slots of this length, asked for within the jitter; `last` is the beginning of the last one that was
    /// answered. Failures make pauses of at most `max_pause`, and of a period at least.
    pub fn new(period: Duration, jitter: Duration, max_pause: Duration, last: Option<Millis>) -> Self {
        let period = millis(period).max(1);
        Self {
            period,
            jitter: millis(jitter),
            max_pause: millis(max_pause).max(period),
            last: last.map(|last| last.div_euclid(period)),
            failures: 0,
            not_before: Millis::MIN,
        }
    }

    /// The next slot, from now on taken for asked; `draw`, of 0 to 1, says where in the jitter.
    pub fn next(&mut self, now: Millis, draw: f64) -> Due {
        let present = now.div_euclid(self.period);
        let paused = self.failures > 0;
        let earliest = if paused { -(-self.not_before.max(now)).div_euclid(self.period) } else { present };
        let slot = match self.last {
            // A last one far ahead: the clock was set back, and nobody waits until it is there again.
            Some(last) if last <= present + 1 => earliest.max(last + 1),
            _ => earliest,
        };
        let passed = self.last.map_or(0, |last| slot.saturating_sub(last + 1));
        let missed = if paused { 0 } else { u64::try_from(passed).unwrap_or(0) };
        self.last = Some(slot);
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // a day at most
        let late = (self.jitter as f64 * draw) as Millis;
        let begins = slot.saturating_mul(self.period);
        Due { slot: begins, at: begins.saturating_add(late), missed }
    }

    /// The slot was answered.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// It was not, as of now; the service may have named a time to wait. Answers with the pause.
    pub fn failed(&mut self, now: Millis, named: Option<Duration>) -> Duration {
        let doubled = self.period.saturating_mul(1 << self.failures.min(20)).min(self.max_pause);
        let pause = doubled.max(named.map_or(0, millis));
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.saturating_add(pause);
        Duration::from_millis(pause.unsigned_abs())
    }
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn slots(last: Option<Millis>) -> Slots {
        Slots::new(SECOND, Duration::ZERO, 300 * SECOND, last)
    }

    fn due(slot: Millis, missed: u64) -> Due {
        Due { slot, at: slot, missed }
    }

    #[test]
    fn each_slot_is_asked_for_once_and_those_that_pass_are_counted() {
        let mut slots = slots(None);
        assert_eq!(slots.next(10_400, 0.0), due(10_000, 0));
        assert_eq!(slots.next(10_500, 0.0), due(11_000, 0));
        assert_eq!(slots.next(11_999, 0.0), due(12_000, 0));
        assert_eq!(slots.next(15_001, 0.0), due(15_000, 2));
    }

    #[test]
    fn a_restart_asks_for_no_slot_that_was_answered() {
        assert_eq!(slots(Some(10_000)).next(10_400, 0.0), due(11_000, 0));
        assert_eq!(slots(Some(10_000)).next(12_400, 0.0), due(12_000, 1));
    }

    #[test]
    fn a_clock_that_was_set_back_is_not_waited_for() {
        assert_eq!(slots(Some(3_600_000)).next(10_400, 0.0), due(10_000, 0));
    }

    #[test]
    fn the_jitter_is_within_its_bound() {
        let mut slots = Slots::new(SECOND, Duration::from_millis(400), SECOND, None);
        assert_eq!(slots.next(0, 0.0).at, 0);
        assert_eq!(slots.next(0, 0.5).at, 1_200);
        assert_eq!(slots.next(0, 0.999).at, 2_399);
    }

    #[test]
    fn pauses_begin_at_a_period_double_up_to_the_bound_and_are_forgotten() {
        let mut slots = slots(None);
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..11 {
            now = slots.next(now, 0.0).at.max(now);
            pauses.push(slots.failed(now, None).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        let again = slots.next(now, 0.0);
        assert_eq!(again, due(now + 300_000, 0), "what passes while a service is left alone was not missed");
        slots.succeeded();
        assert_eq!(slots.next(again.at, 0.0).slot, again.slot + 1_000);
        assert_eq!(slots.failed(again.at, None), SECOND);
    }

    #[test]
    fn a_pause_that_the_service_names_is_never_undercut() {
        let mut slots = slots(None);
        slots.next(0, 0.0);
        assert_eq!(slots.failed(0, Some(400 * SECOND)), 400 * SECOND);
        assert_eq!(slots.next(1_000, 0.0).slot, 400_000);
        assert_eq!(slots.failed(400_100, Some(Duration::ZERO)), 2 * SECOND);
        assert_eq!(slots.next(400_200, 0.0).slot, 403_000, "the slot that begins when the pause is over");
    }

    #[test]
    fn a_period_longer_than_the_bound_is_its_own_pause() {
        let hour = 3_600 * SECOND;
        let mut slots = Slots::new(hour, Duration::ZERO, 300 * SECOND, None);
        slots.next(0, 0.0);
        assert_eq!(slots.failed(0, None), hour);
        assert_eq!(slots.next(1, 0.0).slot, 3_600_000);
    }
}
