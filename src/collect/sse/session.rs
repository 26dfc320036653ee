//! When the next connection is due, and whether a resume can be trusted: decisions without I/O.
//!
//! Back-off begins at the server's `retry:` (one second before it says one), doubles with each
//! failure in a row up to [`LONGEST_PAUSE`], and begins anew with the first event of a connection.
//! A time the server names (`Retry-After`) is never undercut. A server that ends a connection is
//! no different from one that breaks it: the pause after the first failure is the base.
//!
//! A connection that failed to open while another is still read costs nothing: that one is read
//! on, and the next attempt backs off by itself. Only the first event of a *connection* resets the
//! back-off; were it any event, those of the old connection would turn a server's "too many
//! connections" into a storm.

use std::time::Duration;

use tokio::time::Instant;

/// The longest pause that back-off comes to by itself.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The pause before the server has said one.
pub const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The shortest base a server can ask for: one that closes each connection after an event would
/// otherwise be asked again without end.
pub const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// Among so many events after a resume there must be a known one; see [`Overlap`].
pub const OVERLAP_EVENTS: u64 = 1_000;

/// The life of a source's connections, one after another.
#[derive(Clone, Debug)]
pub struct Session {
    reconnect_after: Duration,
    base: Duration,
    failures: u32,
    reading: Reading,
    next: Next,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    // No connection.
    Nothing,
    // A connection that has not given an event yet.
    Fresh,
    // One that has.
    Proven,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    // Before the server cuts the present one.
    Planned(Instant),
    // After a failure.
    Again(Instant),
    Opening,
}

/// What happened, as far as the session is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// The response head of the connection that was being opened has come; it is the one that is
    /// read from now on.
    Opened,
    /// It could not be opened; the server may have named a time to wait.
    NotOpened(Option<Duration>),
    /// An event was read.
    Event,
    /// The server names the base of the back-off.
    Retry(Duration),
    /// The connection that was read is over: ended, broken, silent, or told of an error.
    Over,
}

impl Session {
    /// A session that wants its first connection at once, and each following one
    /// `reconnect_after` the one before was opened.
    pub fn new(now: Instant, reconnect_after: Duration) -> Self {
        Self { reconnect_after, base: FIRST_PAUSE, failures: 0, reading: Reading::Nothing, next: Next::Planned(now) }
    }

    /// When the next connection is to be opened; `None` while one is being opened.
    pub fn due_at(&self) -> Option<Instant> {
        match self.next {
            Next::Planned(at) | Next::Again(at) => Some(at),
            Next::Opening => None,
        }
    }

    /// Whether to begin to open the next connection now; from a yes on the session takes it for
    /// begun.
    pub fn begin_opening(&mut self, now: Instant) -> bool {
        let due = self.due_at().is_some_and(|at| at <= now);
        if due {
            self.next = Next::Opening;
        }
        due
    }

    /// Takes note of what happened.
    pub fn note(&mut self, now: Instant, happening: Happening) {
        match happening {
            Happening::Opened => {
                self.reading = Reading::Fresh;
                self.next = Next::Planned(now + self.reconnect_after);
            }
            Happening::NotOpened(named) => self.back_off(now, named.unwrap_or_default()),
            Happening::Event => {
                if self.reading == Reading::Fresh {
                    self.reading = Reading::Proven;
                    self.failures = 0;
                }
            }
            Happening::Retry(base) => self.base = base.clamp(SHORTEST_PAUSE, LONGEST_PAUSE),
            Happening::Over => {
                self.reading = Reading::Nothing;
                // An attempt under way may still succeed. One that waits after a failure keeps its
                // time: the pause may be one that the server has named.
                if let Next::Planned(_) = self.next {
                    self.back_off(now, Duration::ZERO);
                }
            }
        }
    }

    fn back_off(&mut self, now: Instant, at_least: Duration) {
        let pause = self.base.saturating_mul(1 << self.failures.min(20)).min(LONGEST_PAUSE).max(at_least);
        self.failures = self.failures.saturating_add(1);
        self.next = Next::Again(now + pause);
    }
}

/// The proof that a resume by id left nothing out.
///
/// A resume asks for the last event once more (see [`token`](super::token)), so the first events after
/// it repeat known ones. If none of the first [`OVERLAP_EVENTS`] is known, or the connection is over before
/// a known one has come, events in between may be missing: a possible gap, reported once a resume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlap {
    unproven: Option<u64>,
}

impl Overlap {
    /// A connection begins; `resumed` if by the id of an event taken before. Answers whether the
    /// resume before this one has to be reported as a possible gap.
    #[must_use]
    pub fn begin(&mut self, resumed: bool) -> bool {
        let before = self.unproven.replace(0).is_some_and(|num_events| num_events > 0);
        if !resumed {
            self.unproven = None;
        }
        before
    }

    /// An event was read, known or not. Answers whether the resume has to be reported as a
    /// possible gap now.
    #[must_use]
    pub fn observe(&mut self, known: bool) -> bool {
        let Some(num_events) = &mut self.unproven else { return false };
        *num_events += 1;
        let missing = !known && *num_events >= OVERLAP_EVENTS;
        if known || missing {
            self.unproven = None;
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::{Happening::*, *};

    const PLAN: u64 = 840;

    /// Plays `script` and answers when the next connection is due after each step, in seconds from
    /// the start; `None` while one is being opened. Each step is (second, what happened); `None`
    /// opens if it is due.
    fn play(script: &[(u64, Option<Happening>)]) -> Vec<Option<u64>> {
        let start = Instant::now();
        let mut session = Session::new(start, Duration::from_secs(PLAN));
        let step = |&(second, happening): &(u64, Option<Happening>)| {
            let now = start + Duration::from_secs(second);
            match happening {
                Some(happening) => session.note(now, happening),
                None => assert!(session.begin_opening(now), "not due at {second}"),
            }
            session.due_at().map(|at| (at - start).as_secs())
        };
        script.iter().map(step).collect()
    }

    fn check(script: &[(u64, Option<Happening>)], due: &[Option<u64>]) {
        assert_eq!(play(script), due, "{script:?}");
    }

    const OPEN: Option<Happening> = None;

    #[test]
    fn pauses_double_up_to_five_minutes() {
        let mut now = 0;
        let mut pauses = Vec::new();
        let mut script = Vec::new();
        for _ in 0..11 {
            script.extend([(now, OPEN), (now, Some(NotOpened(None)))]);
            let due = play(&script).pop().unwrap().unwrap();
            pauses.push(due - now);
            now = due;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn the_server_names_base_and_pause() {
        let three = Some(Retry(Duration::from_secs(3)));
        check(
            &[(0, OPEN), (0, Some(Opened)), (1, three), (2, Some(Over)), (5, OPEN), (5, Some(NotOpened(None)))],
            &[None, Some(840), Some(840), Some(5), None, Some(11)],
        );
        check(&[(0, OPEN), (0, Some(NotOpened(Some(Duration::from_secs(400)))))], &[None, Some(400)]);
        check(&[(0, three), (0, OPEN), (0, Some(NotOpened(Some(Duration::from_secs(2)))))], &[Some(0), None, Some(3)]);
        let zero = Some(Retry(Duration::ZERO));
        assert_eq!(play(&[(0, zero), (0, OPEN), (0, Some(NotOpened(None)))]), [Some(0), None, Some(0)], "100 ms");
        let year = Some(Retry(Duration::from_secs(31_536_000)));
        check(&[(0, year), (0, OPEN), (0, Some(NotOpened(None)))], &[Some(0), None, Some(300)]);
    }

    #[test]
    fn the_first_event_of_a_connection_resets_the_back_off() {
        check(
            &[
                (0, OPEN),
                (0, Some(NotOpened(None))),
                (1, OPEN),
                (1, Some(Opened)),
                // Opened, but it gave nothing: no better than not opened.
                (2, Some(Over)),
                (4, OPEN),
                (4, Some(Opened)),
                (5, Some(Event)),
                (6, Some(Over)),
            ],
            &[None, Some(1), None, Some(841), Some(4), None, Some(844), Some(844), Some(7)],
        );
    }

    #[test]
    fn the_next_connection_is_opened_while_the_present_one_is_read() {
        check(
            &[(0, OPEN), (0, Some(Opened)), (1, Some(Event)), (840, OPEN), (841, Some(Event)), (842, Some(Opened))],
            &[None, Some(840), Some(840), None, None, Some(1682)],
        );
    }

    #[test]
    fn a_cut_while_the_next_one_is_being_opened_waits_for_it() {
        let begun = [(0, OPEN), (0, Some(Opened)), (1, Some(Event)), (840, OPEN), (841, Some(Over))];
        check(&begun, &[None, Some(840), Some(840), None, None]);
        check(
            &[&begun[..], &[(842, Some(NotOpened(None)))]].concat(),
            &[None, Some(840), Some(840), None, None, Some(843)],
        );
    }

    #[test]
    fn events_of_the_old_connection_do_not_hasten_the_next() {
        let named = Some(NotOpened(Some(Duration::from_secs(60))));
        check(
            &[
                (0, OPEN),
                (0, Some(Opened)),
                (1, Some(Event)),
                (840, OPEN),
                (840, Some(NotOpened(None))),
                (840, Some(Event)),
                (841, OPEN),
                (841, Some(NotOpened(None))),
                (842, Some(Event)),
                (843, OPEN),
                (843, named),
                // The cut does not undercut the pause the server has named.
                (850, Some(Over)),
            ],
            &[
                None,
                Some(840),
                Some(840),
                None,
                Some(841),
                Some(841),
                None,
                Some(843),
                Some(843),
                None,
                Some(903),
                Some(903),
            ],
        );
    }

    #[test]
    fn nothing_is_opened_before_it_is_due_or_twice() {
        let now = Instant::now();
        let mut session = Session::new(now + Duration::from_secs(1), Duration::from_secs(PLAN));
        assert!(!session.begin_opening(now));
        assert!(session.begin_opening(now + Duration::from_secs(1)));
        assert!(!session.begin_opening(now + Duration::from_secs(99)));
    }

    #[test]
    fn a_known_event_among_the_first_thousand_proves_the_overlap() {
        let mut overlap = Overlap::default();
        assert!(!overlap.begin(true));
        assert!((0..999).all(|_| !overlap.observe(false)));
        assert!(!overlap.observe(true));
        assert!((0..5_000).all(|_| !overlap.observe(false)));
        assert!(!overlap.begin(true));
    }

    #[test]
    fn a_thousand_unknown_events_are_a_possible_gap_reported_once() {
        let mut overlap = Overlap::default();
        assert!(!overlap.begin(true));
        let reports: Vec<_> = (1..5_000).filter(|_| overlap.observe(false)).collect();
        assert_eq!(reports, [1_000]);
        assert!(!overlap.begin(true));
    }

    #[test]
    fn a_resume_that_ends_without_a_known_event_is_a_possible_gap() {
        let mut overlap = Overlap::default();
        assert!(!overlap.begin(true));
        assert!(!overlap.begin(true), "nothing came, so nothing was left out");
        assert!(!overlap.observe(false));
        assert!(overlap.begin(true));
        assert!(!overlap.begin(true));
    }

    #[test]
    fn a_connection_without_an_id_needs_no_proof() {
        let mut overlap = Overlap::default();
        assert!(!overlap.begin(false));
        assert!((0..5_000).all(|_| !overlap.observe(false)));
        assert!(!overlap.begin(true));
    }
}
