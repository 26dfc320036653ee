//! Bringing rows into a sink whatever it answers.
//!
//! Every row is either taken or refused with the sink's words: a request that has something bad in it is
//! halved until the bad row stands alone, and so is one that is too large; what may pass is sent again, the
//! same, for as long as it takes. Rows may reach the sink more than once, which changes nothing there.
//!
//! An answer that is no verdict, like an error of the server's own or none in time, may come of an outage or of
//! the rows. What tells is a [`Witness`], a row that the sink has taken before: if it takes that one again while
//! it has no verdict on others, these are halved, and one that stands alone is put aside behind the rest, tried
//! again and again, and refused in the end. If it takes the witness no more, it is an outage, which nothing counts in.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    sink::{Answer, Around, Sink, Verdicts},
    witness::{Proof, Witness},
};
use crate::fault::Fault;

/// Answers in a row that are no verdict, before the witness is asked for.
const IN_DOUBT: u32 = 4;

/// Answers without a verdict on a row that stands alone, each while the sink takes the witness, before it is refused.
/// With a loader's pauses this is more than ten minutes.
const GIVEN_UP: u32 = 30;

/// If more rows than this stand alone without a verdict it is the sink that is ill, or a part of it, whatever it makes
/// of the witness: none is refused.
const MOST_GIVEN_UP: usize = 100;

/// A row that the sink will never take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which one.
    pub row: usize,
    /// The sink's words.
    pub words: String,
}

/// Brings all rows into the sink but those that it refuses, which are answered, by their number. Ends when
/// the sink has decided about each.
pub async fn deliver(sink: &dyn Sink, rows: &[Bytes], around: &dyn Around, witness: &Witness) -> Vec<Refused> {
    let all = Request { rows: (0..rows.len()).collect(), strikes: 0 };
    let queue = VecDeque::from_iter((!rows.is_empty()).then_some(all));
    let mut delivery = Delivery { sink, rows, around, witness, queue, refused: Vec::new(), attempt: 0 };
    while let Some(request) = delivery.queue.pop_front() {
        delivery.send(request).await;
    }
    let mut refused = delivery.refused;
    refused.sort_by_key(|refused| refused.row);
    refused
}

/// Rows that go together.
struct Request {
    rows: Vec<usize>,
    /// Answers that were no verdict: the first few of them, and those while the sink took others.
    strikes: u32,
}

struct Delivery<'d> {
    sink: &'d dyn Sink,
    rows: &'d [Bytes],
    around: &'d dyn Around,
    witness: &'d Witness,
    /// The first rows first, as far as they can; behind them what was put aside.
    queue: VecDeque<Request>,
    refused: Vec<Refused>,
    /// Since something got through.
    attempt: u32,
}

impl Delivery<'_> {
    async fn send(&mut self, request: Request) {
        let texts: Vec<Bytes> = request.rows.iter().map(|&row| self.rows[row].clone()).collect();
        let answer = self.sink.send(&texts).await;
        self.around.answered();
        match answer {
            Answer::Each(verdicts) => self.each(request, verdicts).await,
            Answer::Bad(words) | Answer::TooLarge(words) => {
                self.attempt = 0;
                match request.rows.as_slice() {
                    &[row] => self.refused.push(Refused { row, words }),
                    _ => self.halve(request),
                }
            }
            Answer::Later(fault) => {
                self.queue.push_front(request);
                self.wait(&fault).await;
            }
            Answer::Unclear(fault) => self.doubt(request, &fault, false).await,
        }
    }

    async fn each(&mut self, Request { rows, strikes }: Request, verdicts: Verdicts) {
        let Verdicts { refused, later, unclear, fault } = verdicts;
        let mut is_taken = vec![true; rows.len()];
        let others = refused.iter().chain(&unclear).map(|(at, _)| at).chain(&later);
        others.for_each(|&at| is_taken[at] = false);
        let taken = is_taken.iter().rposition(|&is_taken| is_taken).map(|at| rows[at]);
        if let Some(row) = taken {
            self.witness.set(&self.rows[row]);
        }
        // Some of it got through: the sink is not away.
        if later.len() + unclear.len() < rows.len() {
            self.attempt = 0;
        }
        self.refused.extend(refused.into_iter().map(|(at, words)| Refused { row: rows[at], words }));
        let fault = fault.unwrap_or_else(|| Fault::external("some rows are to be sent again"));
        if !unclear.is_empty() {
            let own = if let [(_, words)] = &unclear[..] { Fault::external(words) } else { fault.clone() };
            let request = Request { rows: unclear.iter().map(|(at, _)| rows[*at]).collect(), strikes };
            self.doubt(request, &own, taken.is_some()).await;
        }
        if !later.is_empty() {
            self.queue.push_front(Request { rows: later.into_iter().map(|at| rows[at]).collect(), strikes });
            self.wait(&fault).await;
        }
    }

    /// There is no verdict on these rows; perhaps others were taken in the same breath.
    async fn doubt(&mut self, mut request: Request, fault: &Fault, has_taken: bool) {
        if request.strikes < IN_DOUBT {
            request.strikes += 1;
            self.queue.push_front(request);
            return self.wait(fault).await;
        }
        let proof = if has_taken { Proof::Takes } else { self.witness.ask(self.sink, self.around).await };
        if proof == Proof::Takes {
            let is_in_doubt = |other: &&Request| other.strikes > IN_DOUBT;
            let others: usize = self.queue.iter().filter(is_in_doubt).map(|other| other.rows.len()).sum();
            let most = if others >= MOST_GIVEN_UP { GIVEN_UP - 1 } else { GIVEN_UP };
            request.strikes = most.min(request.strikes + 1);
            self.attempt = 0;
        }
        match request.rows.as_slice() {
            &[row] if request.strikes >= GIVEN_UP => {
                let words = format!("{} ({GIVEN_UP} times, while other rows were taken)", fault.message);
                self.refused.push(Refused { row, words });
            }
            [_] => self.put_aside(request, fault).await,
            _ if proof == Proof::None => {
                self.queue.push_front(request);
                self.wait(fault).await;
            }
            _ => {
                self.halve(request);
                if proof != Proof::Takes {
                    self.wait(fault).await;
                }
            }
        }
    }

    fn halve(&mut self, Request { rows, strikes }: Request) {
        let (first, second) = rows.split_at(rows.len() / 2);
        for half in [second, first] {
            self.queue.push_front(Request { rows: half.to_vec(), strikes: strikes.min(IN_DOUBT) });
        }
    }

    /// Behind all others, with a pause when each was tried as often.
    async fn put_aside(&mut self, request: Request, fault: &Fault) {
        let strikes = request.strikes;
        self.queue.push_back(request);
        if self.queue.iter().all(|request| request.strikes >= strikes) {
            self.attempt = self.attempt.max(strikes);
            self.wait(fault).await;
        }
    }

    async fn wait(&mut self, fault: &Fault) {
        self.attempt += 1;
        self.around.wait(fault, self.attempt).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        sync::{
            Mutex,
            atomic::{AtomicU32, Ordering},
        },
    };

    use async_trait::async_trait;

    use super::*;
    use crate::load::{
        sink::{Place, Written},
        transform::Row,
    };

    /// What a sink answers to the nth request with these rows, and what it holds then.
    type Mood = dyn Fn(u32, &[Bytes], &mut BTreeSet<Bytes>) -> Answer + Send + Sync;

    /// A sink that holds a set of rows and answers as it was told to; what is asked of it without rows, it answers
    /// as if there was one.
    struct Moody {
        held: Mutex<BTreeSet<Bytes>>,
        requests: AtomicU32,
        answer: Box<Mood>,
    }

    #[async_trait]
    impl Sink for Moody {
        fn describe(&self) -> String {
            "moody".to_owned()
        }

        fn write(&self, _: &Row<'_>, _: &Place) -> Result<Written, String> {
            Err("writes nothing".to_owned())
        }

        async fn probe(&self) -> Result<(), Fault> {
            match self.send(&[]).await {
                Answer::Later(fault) | Answer::Unclear(fault) => Err(fault),
                _ => Ok(()),
            }
        }

        async fn send(&self, rows: &[Bytes]) -> Answer {
            let nth = self.requests.fetch_add(1, Ordering::SeqCst);
            (self.answer)(nth, rows, &mut self.held.lock().unwrap())
        }
    }

    #[derive(Default)]
    struct Waits(Mutex<Vec<u32>>);

    #[async_trait]
    impl Around for Waits {
        fn answered(&self) {}

        async fn wait(&self, _: &Fault, attempt: u32) {
            self.0.lock().unwrap().push(attempt);
        }
    }

    fn rows(number: usize) -> Vec<Bytes> {
        (0..number).map(|n| Bytes::from(format!("{n:04}"))).collect()
    }

    /// Delivers a hundred rows; what is refused, the waits, and how many requests it took. All others are held.
    async fn check(
        answer: impl Fn(u32, &[Bytes], &mut BTreeSet<Bytes>) -> Answer + Send + Sync + 'static,
    ) -> (Vec<usize>, Vec<u32>, u32) {
        let (rows, waits) = (rows(100), Waits::default());
        let sink = Moody { held: Mutex::default(), requests: AtomicU32::new(0), answer: Box::new(answer) };
        let refused: Vec<usize> =
            deliver(&sink, &rows, &waits, &Witness::default()).await.into_iter().map(|refused| refused.row).collect();
        let expected: BTreeSet<_> =
            rows.iter().enumerate().filter(|(n, _)| !refused.contains(n)).map(|(_, row)| row.clone()).collect();
        assert_eq!(*sink.held.lock().unwrap(), expected);
        (refused, waits.0.into_inner().unwrap(), sink.requests.into_inner())
    }

    fn take(rows: &[Bytes], held: &mut BTreeSet<Bytes>) -> Answer {
        held.extend(rows.iter().cloned());
        Answer::all_taken()
    }

    #[tokio::test]
    async fn what_is_taken_is_sent_once() {
        assert_eq!(check(|_, rows, held| take(rows, held)).await, (vec![], vec![], 1));
        let waits = Waits::default();
        let never = |_: u32, _: &[Bytes], _: &mut BTreeSet<Bytes>| panic!("asked for nothing");
        let sink = Moody { held: Mutex::default(), requests: AtomicU32::new(0), answer: Box::new(never) };
        assert_eq!(deliver(&sink, &[], &waits, &Witness::default()).await, []);
    }

    #[tokio::test]
    async fn bad_rows_are_found_and_no_other_is_refused() {
        let bad = |rows: &[Bytes]| rows.iter().any(|row| row == "0017" || row == "0018" || row == "0099");
        // The good ones of a bad request may have been taken or not.
        let answer = move |nth: u32, rows: &[Bytes], held: &mut BTreeSet<Bytes>| {
            if !bad(rows) {
                return take(rows, held);
            }
            if nth.is_multiple_of(2) {
                held.extend(rows.iter().filter(|row| !bad(std::slice::from_ref(row))).cloned());
            }
            Answer::Bad("no".to_owned())
        };
        let (refused, waits, requests) = check(answer).await;
        assert_eq!((refused, waits), (vec![17, 18, 99], vec![]));
        assert!(requests < 40, "{requests}");
    }

    #[tokio::test]
    async fn what_is_too_large_is_halved_and_alone_it_is_refused() {
        let answer = |_: u32, rows: &[Bytes], held: &mut BTreeSet<Bytes>| match rows {
            [row] if row == "0050" => Answer::TooLarge("too large".to_owned()),
            rows if rows.len() > 30 || rows.contains(&Bytes::from("0050")) => Answer::TooLarge("too large".to_owned()),
            rows => take(rows, held),
        };
        let (refused, waits, _) = check(answer).await;
        assert_eq!((refused, waits), (vec![50], vec![]));
    }

    #[tokio::test]
    async fn what_may_pass_is_sent_again_as_it_was() {
        let answer = |nth: u32, rows: &[Bytes], held: &mut BTreeSet<Bytes>| match nth {
            // Reset after the body was taken.
            0 => {
                take(rows, held);
                Answer::Later(Fault::external("reset"))
            }
            1 | 2 => Answer::Later(Fault::external("away")),
            _ => take(rows, held),
        };
        assert_eq!(check(answer).await, (vec![], vec![1, 2, 3], 4));
    }

    #[tokio::test]
    async fn rows_that_were_put_off_are_sent_again_alone() {
        let answer = |nth: u32, rows: &[Bytes], held: &mut BTreeSet<Bytes>| {
            let (now, later): (Vec<_>, Vec<_>) = (0..rows.len()).partition(|at| at % 3 != 1 || nth > 2);
            held.extend(now.iter().filter(|&&at| rows[at] != "0003").map(|&at| rows[at].clone()));
            let refused = now.iter().filter(|&&at| rows[at] == "0003").map(|&at| (at, "no".to_owned())).collect();
            Answer::Each(Verdicts { refused, later, ..Verdicts::default() })
        };
        let (refused, waits, requests) = check(answer).await;
        assert_eq!((refused, waits, requests), (vec![3], vec![1, 1, 1], 4));
    }

    fn unclear() -> Answer {
        Answer::Unclear(Fault::external("500"))
    }

    #[tokio::test]
    async fn rows_that_get_no_verdict_while_others_are_taken_are_refused_in_the_end() {
        let answer = |_: u32, rows: &[Bytes], held: &mut BTreeSet<Bytes>| {
            if rows.iter().any(|row| row == "0017" || row == "0018" || row == "0099") {
                return unclear();
            }
            take(rows, held)
        };
        let (refused, waits, requests) = check(answer).await;
        assert_eq!(refused, [17, 18, 99]);
        // Together, with one pause for all of them.
        check_waits(&waits);
        // Each of them and its witness up to three times, and the halves on the way.
        assert!(requests < 3 * 4 * GIVEN_UP + 100, "{requests}");
    }

    /// A few before doubt, some of halving before anything was taken, and one for each round of those that stand alone.
    fn check_waits(waits: &[u32]) {
        let rounds: Vec<_> = (8..=GIVEN_UP).collect();
        assert!(waits.starts_with(&[1, 2, 3, 4]) && waits.ends_with(&rounds), "{waits:?}");
        assert!(waits.len() < 4 + 4 + GIVEN_UP as usize, "{waits:?}");
    }

    #[tokio::test]
    async fn a_sink_that_fails_on_many_is_ill() {
        let rows: Vec<_> = rows(300);
        let ill = |row: &Bytes| *row >= "0180";
        let answer = move |nth: u32, rows: &[Bytes], held: &mut BTreeSet<Bytes>| {
            if nth < 30_000 && rows.iter().any(ill) { unclear() } else { take(rows, held) }
        };
        let sink = Moody { held: Mutex::default(), requests: AtomicU32::new(0), answer: Box::new(answer) };
        assert_eq!(deliver(&sink, &rows, &Waits::default(), &Witness::default()).await, []);
        assert_eq!(sink.held.into_inner().unwrap().len(), 300);
    }

    #[tokio::test]
    async fn documents_that_the_sink_fails_on_are_refused_and_not_those_beside_them() {
        // All of a shard fail with the bad one.
        let answer = |_: u32, rows: &[Bytes], held: &mut BTreeSet<Bytes>| {
            let has_bad = rows.iter().any(|row| row.ends_with(b"37"));
            let fails = |row: &Bytes| has_bad && row.ends_with(b"7");
            held.extend(rows.iter().filter(|row| !fails(row)).cloned());
            let unclear = (0..rows.len()).filter(|&at| fails(&rows[at])).map(|at| (at, "500: oh".to_owned())).collect();
            Answer::Each(Verdicts { unclear, ..Verdicts::default() })
        };
        let (refused, waits, _) = check(answer).await;
        assert_eq!(refused, [37]);
        check_waits(&waits);
    }

    #[tokio::test]
    async fn an_outage_refuses_nothing_however_long_it_is() {
        const OUTAGE: u32 = 20_000;
        // With a sink that says that it is there, and with one that does not: nothing was ever taken. Then it takes
        // some and fails on others for a while.
        for is_there in [true, false] {
            let answer = move |nth: u32, rows: &[Bytes], held: &mut BTreeSet<Bytes>| match rows {
                [] if is_there => Answer::all_taken(),
                _ if nth < OUTAGE || nth < OUTAGE + 60 && nth.is_multiple_of(2) => unclear(),
                rows => take(rows, held),
            };
            let (refused, waits, requests) = check(answer).await;
            assert_eq!(refused, [0; 0], "{requests}");
            // In singles or in one piece, a pause for each round of all of them at least.
            assert!(waits.len() as u32 > OUTAGE / 2 / 102, "{}", waits.len());
        }
        // One that took something before.
        let (rows, waits, witness) = (rows(100), Waits::default(), Witness::default());
        witness.set(&Bytes::from("before"));
        let answer = |nth: u32, rows: &[Bytes], held: &mut BTreeSet<Bytes>| {
            if nth < OUTAGE { unclear() } else { take(rows, held) }
        };
        let sink = Moody { held: Mutex::default(), requests: AtomicU32::new(0), answer: Box::new(answer) };
        assert_eq!(deliver(&sink, &rows, &waits, &witness).await, []);
        assert_eq!(witness.row().unwrap(), "0099");
        // Still in one piece: it is sent once more, and perhaps the witness before it.
        assert!(sink.requests.into_inner() <= OUTAGE + 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_witness_that_the_sink_refuses_by_now_or_that_is_old_tells_nothing() {
        for (answer, is_old) in [
            (Answer::Bad("too old".to_owned()), false),
            (
                Answer::Each(Verdicts { later: vec![0], fault: Some(Fault::user("closed")), ..Verdicts::default() }),
                false,
            ),
            (Answer::all_taken(), true),
        ] {
            let witness = Witness::default();
            witness.set(&Bytes::from("old"));
            if is_old {
                tokio::time::advance(std::time::Duration::from_secs(3_600)).await;
            }
            let answer = move |_: u32, rows: &[Bytes], held: &mut BTreeSet<Bytes>| {
                if rows.iter().any(|row| row == "old") {
                    assert!(!is_old, "it is not sent any more");
                    return answer.clone();
                }
                if rows.iter().any(|row| row == "0003") { unclear() } else { take(rows, held) }
            };
            let sink = Moody { held: Mutex::default(), requests: AtomicU32::new(0), answer: Box::new(answer) };
            let refused = deliver(&sink, &rows(10), &Waits::default(), &witness).await;
            let words = format!("500 ({GIVEN_UP} times, while other rows were taken)");
            assert_eq!(refused, [Refused { row: 3, words }]);
            assert_ne!(witness.row().unwrap(), "old");
        }
    }
}
