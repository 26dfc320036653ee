//! Bringing rows into a sink whatever it answers.
//!
//! Every row is either taken or refused with the sink's words: a request that has something bad in it is
//! halved until the bad row stands alone, and so is one that is too large; what may pass is sent again, the
//! same, for as long as it takes. Rows may reach the sink more than once, which changes nothing there.
//!
//! An answer that is no verdict, like an error of the server's own or none in time, may come of an outage or of
//! the rows. What tells is a *witness*, a row that the sink has taken before: if it takes that one again while
//! it has no verdict on others, these are halved, and one that stands alone is put aside behind the rest, tried
//! again and again, and refused in the end. If it takes the witness no more, it is an outage, which nothing counts in.

use std::collections::VecDeque;

use async_trait::async_trait;
use bytes::Bytes;

use super::sink::{Answer, Sink, Verdicts};
use crate::fault::Fault;

/// Answers in a row that are no verdict, before the witness is asked for.
const IN_DOUBT: u32 = 4;

/// Answers without a verdict on a row that stands alone before it is refused. With a loader's pauses this is more
/// than ten minutes in which the sink takes others.
const GIVEN_UP: u32 = 30;

/// What goes on around a delivery.
#[async_trait]
pub trait Around: Send + Sync {
    /// A request was answered: something gets on.
    fn answered(&self);

    /// The sink does not take what it was sent for now, for the `attempt`-th time in a row: waits.
    async fn wait(&self, fault: &Fault, attempt: u32);
}

/// A row that the sink will never take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which one.
    pub row: usize,
    /// The sink's words.
    pub words: String,
}

/// Brings all rows into the sink but those that it refuses, which are answered, by their number. Ends when
/// the sink has decided about each. The witness is the last row that was taken, if one was, also by earlier deliveries.
pub async fn deliver(
    sink: &dyn Sink,
    rows: &[Bytes],
    around: &dyn Around,
    witness: &mut Option<Bytes>,
) -> Vec<Refused> {
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
    /// Answers that were no verdict.
    strikes: u32,
}

struct Delivery<'d> {
    sink: &'d dyn Sink,
    rows: &'d [Bytes],
    around: &'d dyn Around,
    witness: &'d mut Option<Bytes>,
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
            Answer::Unclear(fault) => self.unclear(request, &fault).await,
        }
    }

    async fn each(&mut self, Request { rows, strikes }: Request, verdicts: Verdicts) {
        let Verdicts { refused, later, unclear, fault } = verdicts;
        let mut is_taken = vec![true; rows.len()];
        let others = refused.iter().chain(&unclear).map(|(at, _)| at).chain(&later);
        others.for_each(|&at| is_taken[at] = false);
        let taken = is_taken.iter().rposition(|&is_taken| is_taken).map(|at| rows[at]);
        if let Some(row) = taken {
            *self.witness = Some(self.rows[row].clone());
        }
        // Some of it got through: the sink is not away.
        if later.len() + unclear.len() < rows.len() {
            self.attempt = 0;
        }
        let refusals = refused.into_iter().map(|(at, words)| Refused { row: rows[at], words });
        self.refused.extend(refusals);
        let fault = fault.unwrap_or_else(|| Fault::external("some rows are to be sent again"));
        let has_later = !later.is_empty();
        if has_later {
            self.queue.push_front(Request { rows: later.into_iter().map(|at| rows[at]).collect(), strikes });
        }
        if !unclear.is_empty() {
            let strikes = if taken.is_some() { strikes + 1 } else { self.struck(strikes).await };
            let unclear: Vec<_> = unclear.into_iter().map(|(at, words)| (rows[at], words)).collect();
            if strikes >= GIVEN_UP {
                unclear.into_iter().for_each(|(row, words)| self.give_up(row, &words));
            } else {
                let rows = unclear.into_iter().map(|(row, _)| row).collect();
                self.put_aside(Request { rows, strikes }, &fault).await;
            }
        }
        if has_later {
            self.wait(&fault).await;
        }
    }

    async fn unclear(&mut self, mut request: Request, fault: &Fault) {
        let before = request.strikes;
        request.strikes = self.struck(before).await;
        let strikes = request.strikes;
        match request.rows.as_slice() {
            &[row] if strikes >= GIVEN_UP => self.give_up(row, &fault.message),
            [_] if strikes > IN_DOUBT => self.put_aside(request, fault).await,
            _ if strikes > IN_DOUBT.max(before) => {
                self.attempt = 0;
                self.halve(request);
            }
            _ => {
                self.queue.push_front(request);
                self.wait(fault).await;
            }
        }
    }

    /// Strikes and one more, which beyond doubt counts only while the sink takes other rows.
    async fn struck(&mut self, strikes: u32) -> u32 {
        if strikes < IN_DOUBT {
            return strikes + 1;
        }
        let Some(row) = self.witness.clone() else {
            // It says that it is there: enough to halve, and not to refuse.
            let is_there = self.sink.probe().await.is_ok();
            return (strikes + u32::from(is_there)).min(GIVEN_UP - 1);
        };
        let answer = self.sink.send(&[row]).await;
        self.around.answered();
        match answer {
            Answer::Each(verdicts) if verdicts.is_all_taken() => return strikes + 1,
            Answer::Each(verdicts) if verdicts.refused.is_empty() => {}
            Answer::Later(_) | Answer::Unclear(_) => {}
            // It may be too old for the sink by now: it tells nothing any more.
            _ => *self.witness = None,
        }
        strikes
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
            self.around.wait(fault, strikes).await;
        }
    }

    fn give_up(&mut self, row: usize, words: &str) {
        let words = format!("{words} ({GIVEN_UP} times, while other rows were taken)");
        self.refused.push(Refused { row, words });
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
        let refused: Vec<usize> = deliver(&sink, &rows, &waits, &mut None).await.into_iter().map(|refused| refused.row).collect();
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
        assert_eq!(deliver(&sink, &[], &waits, &mut None).await, []);
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
        assert_eq!(waits.len() as u32, IN_DOUBT + (GIVEN_UP - IN_DOUBT - 1), "{waits:?}");
        // Each of them and its witness, and the halves on the way.
        assert!(requests < 3 * 2 * GIVEN_UP + 60, "{requests}");
    }

    #[tokio::test]
    async fn documents_that_the_sink_fails_on_go_together_and_are_refused_in_the_end() {
        let answer = |_: u32, rows: &[Bytes], held: &mut BTreeSet<Bytes>| {
            let (bad, good): (Vec<_>, Vec<_>) = (0..rows.len()).partition(|&at| rows[at].ends_with(b"7"));
            held.extend(good.iter().map(|&at| rows[at].clone()));
            let unclear = bad.into_iter().map(|at| (at, "500: oh".to_owned())).collect();
            Answer::Each(Verdicts { unclear, ..Verdicts::default() })
        };
        let (refused, waits, requests) = check(answer).await;
        assert_eq!(refused, [7, 17, 27, 37, 47, 57, 67, 77, 87, 97]);
        assert_eq!((waits.len() as u32, requests), (GIVEN_UP - 1, GIVEN_UP + GIVEN_UP - IN_DOUBT));
    }

    #[tokio::test]
    async fn an_outage_refuses_nothing_however_long_it_is() {
        const OUTAGE: u32 = 20_000;
        // With a sink that says that it is there, and with one that does not: nothing was ever taken.
        for is_there in [true, false] {
            let answer = move |nth: u32, rows: &[Bytes], held: &mut BTreeSet<Bytes>| match rows {
                [] if is_there => Answer::all_taken(),
                _ if nth < OUTAGE => unclear(),
                rows => take(rows, held),
            };
            let (refused, _, requests) = check(answer).await;
            assert_eq!((refused, requests > OUTAGE + 1), (vec![], is_there), "{requests}");
        }
        // One that took something before.
        let (rows, waits, mut witness) = (rows(100), Waits::default(), Some(Bytes::from("before")));
        let answer = |nth: u32, rows: &[Bytes], held: &mut BTreeSet<Bytes>| {
            if nth < OUTAGE { unclear() } else { take(rows, held) }
        };
        let sink = Moody { held: Mutex::default(), requests: AtomicU32::new(0), answer: Box::new(answer) };
        assert_eq!(deliver(&sink, &rows, &waits, &mut witness).await, []);
        assert_eq!(witness.unwrap(), "0099");
        // Still in one piece: it is sent once more, and perhaps the witness before it.
        assert!(sink.requests.into_inner() <= OUTAGE + 2);
    }

    #[tokio::test]
    async fn a_witness_that_the_sink_refuses_by_now_tells_nothing() {
        let mut witness = Some(Bytes::from("old"));
        let answer = |_: u32, rows: &[Bytes], held: &mut BTreeSet<Bytes>| {
            if rows.iter().any(|row| row == "old") {
                return Answer::Bad("too old".to_owned());
            }
            if rows.iter().any(|row| row == "0003") { unclear() } else { take(rows, held) }
        };
        let sink = Moody { held: Mutex::default(), requests: AtomicU32::new(0), answer: Box::new(answer) };
        let refused = deliver(&sink, &rows(10), &Waits::default(), &mut witness).await;
        let words = format!("500 ({GIVEN_UP} times, while other rows were taken)");
        assert_eq!(refused, [Refused { row: 3, words }]);
        assert_ne!(witness.unwrap(), "old");
    }
}
