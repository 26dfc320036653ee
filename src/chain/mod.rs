//! The chain: a list of decisions in the store to which only one of any number of writers can add
//! at each place. It is the one primitive behind "exactly once".
//!
//! An entry is a small file `<start, 20 digits>.json`, put if absent. *Its name is where the list
//! ends*: an empty list ends at 0, so the first entry is always `…0`, and each entry's `start` is
//! the `next` of the one before. Putting is compare-and-swap: of all who build on the same end,
//! zombies included, one wins; the others read its entry and go on from there. No clock, lease,
//! group or epoch is needed.
//!
//! Invariants:
//! - whatever a put answered, the entry is read back and what stands there is adopted, also when
//!   it is one's own; memory never decides ([`decide`]);
//! - an entry, once there, is never changed or deleted.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    failpoint::rare,
    fault::{Fault, Kind, Result, Retry},
    model::{Offset, Pause},
    store::{Store, StorePath},
};

/// How often a put without a clear answer is repeated before it is given up as unknown. With
/// [`Doubling`](crate::model::Doubling)'s defaults that is after about forty seconds.
const ATTEMPTS: u32 = 14;

/// What stands at a place after [`decide`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The bytes that stand there, for ever.
    pub bytes: Bytes,
    /// Whether they are the ones that were put by this call (or by an earlier try of it).
    pub mine: bool,
}

/// Puts `bytes` at `path` if nothing stands there, and answers with what stands there then, durably:
/// what is read after a put that gave no clear answer may not be on disk yet, so it is put again.
///
/// # Errors
/// [`Kind::Unknown`] when after many tries nothing stands there and it is not clear that
/// nothing ever will; a fault that no repetition mends comes back at once.
pub async fn decide(store: &dyn Store, pause: &dyn Pause, path: &StorePath, bytes: Bytes) -> Result<Standing> {
    let mut attempt = 0;
    loop {
        let put = store.put_if_absent(path, bytes.clone()).await;
        let fault = match (store.read(path).await, put) {
            (Ok(Some(standing)), Ok(_)) => {
                let mine = standing == bytes;
                match mine {
                    true if attempt > 0 => rare("chain.mine_after_unclear_put"),
                    false => rare("chain.lost"),
                    true => {}
                }
                return Ok(Standing { bytes: standing, mine });
            }
            (Ok(None), Ok(_)) => Fault::external("was put and cannot be read back").unknown_effect(),
            (Ok(_), Err(fault)) => fault,
            (Err(fault), _) => fault.unknown_effect(),
        };
        if fault.retry == Retry::Never {
            return Err(fault.at(path));
        }
        attempt += 1;
        if attempt > ATTEMPTS {
            rare("chain.unknown");
            let text = format!("still unclear after {ATTEMPTS} repetitions, last: {fault}");
            return Err(Fault::external(text).kind(Kind::Unknown).unknown_effect().at(path));
        }
        rare("chain.put_again");
        pause.pause(attempt).await;
    }
}

/// An entry of a chain: it covers `[start, next)`.
pub trait Entry: Serialize + DeserializeOwned + Send + Sync {
    /// Where it begins: the `next` of the entry before, 0 for the first.
    fn start(&self) -> Offset;
    /// Where it ends, above `start`.
    fn next(&self) -> Offset;
}

/// A chain's folder.
#[derive(Clone, Debug)]
pub struct Chain {
    folder: StorePath,
}

impl Chain {
    /// The chain in this folder (which need not exist).
    pub fn new(folder: StorePath) -> Self {
        Self { folder }
    }

    /// Its folder.
    pub fn folder(&self) -> &StorePath {
        &self.folder
    }

    /// The last entry; `None` for an empty list.
    ///
    /// # Errors
    /// Those of the store; [`Kind::Lost`] for an entry that cannot be read as one.
    pub async fn last<E: Entry>(&self, store: &dyn Store) -> Result<Option<E>> {
        match self.starts(store).await?.last() {
            Some(&start) => self.read(store, start).await,
            None => Ok(None),
        }
    }

    /// Where each entry starts, in order.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn starts(&self, store: &dyn Store) -> Result<Vec<Offset>> {
        Ok(store.list(&self.folder).await?.iter().filter_map(|entry| start_of(&entry.name)).collect())
    }

    /// The entry that starts there, if there is one.
    ///
    /// # Errors
    /// As [`last`](Self::last).
    pub async fn read<E: Entry>(&self, store: &dyn Store, start: Offset) -> Result<Option<E>> {
        let path = self.path(start);
        store.read(&path).await?.map(|bytes| parse(&path, start, &bytes)).transpose()
    }

    /// Adds an entry at the end it was built on, and answers with the one that stands there then
    /// and whether that is the one given.
    ///
    /// # Errors
    /// Those of [`decide`] and [`last`](Self::last).
    pub async fn put<E: Entry>(&self, store: &dyn Store, pause: &dyn Pause, entry: &E) -> Result<(E, bool)> {
        let path = self.path(entry.start());
        let text = serde_json::to_vec(entry).map_err(|error| Fault::internal(error.to_string()).at(&path))?;
        let standing = decide(store, pause, &path, text.into()).await?;
        Ok((parse(&path, entry.start(), &standing.bytes)?, standing.mine))
    }

    fn path(&self, start: Offset) -> StorePath {
        self.folder.join(&format!("{start:020}.json"))
    }
}

fn start_of(name: &str) -> Option<Offset> {
    name.strip_suffix(".json").filter(|digits| digits.len() == 20)?.parse().ok()
}

fn parse<E: Entry>(path: &StorePath, start: Offset, bytes: &[u8]) -> Result<E> {
    let lost = |text: String| Fault::data(text).kind(Kind::Lost).at(path);
    let entry: E = serde_json::from_slice(bytes).map_err(|error| lost(format!("is no chain entry: {error}")))?;
    if entry.start() != start || entry.next() <= start {
        return Err(lost(format!("covers [{}, {}), its name says {start}", entry.start(), entry.next())));
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde::Deserialize;

    use super::*;
    use crate::{
        fault::Effect,
        table::testing::{Mishap, NoPause, Scripted},
    };

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Span {
        start: Offset,
        next: Offset,
        who: String,
    }

    impl Entry for Span {
        fn start(&self) -> Offset {
            self.start
        }

        fn next(&self) -> Offset {
            self.next
        }
    }

    fn span(next: Offset, who: &str) -> Span {
        Span { start: 0, next, who: who.to_owned() }
    }

    fn chain() -> Chain {
        Chain::new(StorePath::new("/raw/_chain/t/0").unwrap())
    }

    #[tokio::test]
    async fn a_put_that_lands_late_is_adopted_whatever_was_built_since() {
        let (store, chain, first) = (Arc::new(Scripted::default()), chain(), span(100, "a"));
        store.next_puts(&[Mishap::Lost; ATTEMPTS as usize + 1]);
        let fault = chain.put(&*store, &NoPause, &first).await.unwrap_err();
        assert_eq!((fault.kind, fault.effect), (Kind::Unknown, Effect::Unknown));
        // Now it lands, and its author has cut the segment anew.
        let bytes = serde_json::to_vec(&first).unwrap().into();
        store.files.lock().unwrap().insert(chain.path(0), bytes);
        assert_eq!(chain.put(&*store, &NoPause, &span(300, "a")).await.unwrap(), (first.clone(), false));
        assert_eq!(chain.last::<Span>(&*store).await.unwrap(), Some(first));
    }

    #[tokio::test]
    async fn an_unclear_put_is_repeated_until_it_is_clear() {
        for mishap in [Mishap::None, Mishap::Lost, Mishap::Unanswered, Mishap::DoneThenAway(3)] {
            let (store, chain) = (Arc::new(Scripted::default()), chain());
            store.next_puts(&[mishap]);
            let (standing, mine) = chain.put(&*store, &NoPause, &span(100, "a")).await.unwrap();
            assert_eq!((standing, mine), (span(100, "a"), true), "{mishap:?}");
            assert_eq!(chain.starts(&*store).await.unwrap(), [0]);
        }
        let (store, chain) = (Arc::new(Scripted::default()), chain());
        *store.rival.lock().unwrap() = serde_json::to_vec(&span(70, "b")).unwrap().into();
        store.next_puts(&[Mishap::Beaten]);
        assert_eq!(chain.put(&*store, &NoPause, &span(100, "a")).await.unwrap(), (span(70, "b"), false));
    }

    /// What is read may not be durable: only an answer says that it is.
    #[tokio::test]
    async fn what_stands_there_after_an_unclear_put_is_put_once_more_before_it_counts() {
        let (store, chain) = (Arc::new(Scripted::default()), chain());
        store.next_puts(&[Mishap::Unanswered; ATTEMPTS as usize + 1]);
        let fault = chain.put(&*store, &NoPause, &span(100, "a")).await.unwrap_err();
        assert_eq!(fault.kind, Kind::Unknown);
        assert_eq!(chain.put(&*store, &NoPause, &span(100, "a")).await.unwrap(), (span(100, "a"), true));
    }
}
