//! Bringing rows into a sink whatever it answers.
//!
//! Every row is either taken or refused with the sink's words: a request that has something bad in it is
//! halved until the bad row stands alone, and so is one that is too large; what may pass is sent again, the
//! same, for as long as it takes. Rows may reach the sink more than once, which changes nothing there.

use async_trait::async_trait;
use bytes::Bytes;

use super::sink::{Answer, Sink};
use crate::fault::Fault;

/// What goes on around a delivery.
#[async_trait]
pub trait Around: Send + Sync {
    /// A request was answered: something gets on.
    fn answered(&self);

    /// The sink does not take anything for now, for the `attempt`-th time in a row: waits.
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
/// the sink has decided about each.
pub async fn deliver(sink: &dyn Sink, rows: &[Bytes], around: &dyn Around) -> Vec<Refused> {
    let mut refused = Vec::new();
    let mut attempt = 0;
    // A stack, the first rows on top: they reach the sink in their order, as far as they can.
    let mut requests: Vec<Vec<usize>> = Vec::new();
    requests.extend((!rows.is_empty()).then(|| (0..rows.len()).collect()));
    while let Some(request) = requests.pop() {
        let texts: Vec<Bytes> = request.iter().map(|&row| rows[row].clone()).collect();
        let answer = sink.send(&texts).await;
        around.answered();
        let fault = match answer {
            Answer::Taken { refused: words, later, fault } => {
                refused.extend(words.into_iter().map(|(at, words)| Refused { row: request[at], words }));
                if later.is_empty() {
                    attempt = 0;
                    continue;
                }
                // Some of it got through: the sink is not away.
                if later.len() < request.len() {
                    attempt = 0;
                }
                requests.push(later.into_iter().map(|at| request[at]).collect());
                fault.unwrap_or_else(|| Fault::external("some rows are to be sent again"))
            }
            Answer::Bad(words) | Answer::TooLarge(words) => {
                attempt = 0;
                match request.as_slice() {
                    &[row] => refused.push(Refused { row, words }),
                    several => {
                        let (first, second) = several.split_at(several.len() / 2);
                        requests.push(second.to_vec());
                        requests.push(first.to_vec());
                    }
                }
                continue;
            }
            Answer::Later(fault) => {
                requests.push(request);
                fault
            }
        };
        attempt += 1;
        around.wait(&fault, attempt).await;
    }
    refused.sort_by_key(|refused| refused.row);
    refused
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

    /// A sink that holds a set of rows and answers as it was told to.
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
            Ok(())
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
        let refused: Vec<usize> = deliver(&sink, &rows, &waits).await.into_iter().map(|refused| refused.row).collect();
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
        assert_eq!(deliver(&sink, &[], &waits).await, []);
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
            Answer::Taken { refused, later, fault: None }
        };
        let (refused, waits, requests) = check(answer).await;
        assert_eq!((refused, waits, requests), (vec![3], vec![1, 1, 1], 4));
    }
}
