//! The loop: a slot, its pages, the next slot.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use reqwest::{Response, Url};
use tokio::time::{Instant, sleep_until};

use super::{
    PollSettings,
    answer::{Answer, Reading},
    asking::{Asked, Asker},
    slots::Slots,
};
use crate::{
    collect::source::{RawEvent, Received, Resume, Source},
    fault::{Fault, Result, Retry},
    model::{Clock, Millis, without_secrets},
    web,
};

/// An answer above the bound is taken in for so many times the time in which one has to be complete.
const LONGEST: u32 = 10;

/// Behind the token of an event whose slot has more pages.
const MORE: &str = "+";

/// See the module's text.
pub struct Polling {
    asker: Asker,
    reading: Reading,
    max_pages: u32,
    max_kept: u64,
    longest: Duration,
    clock: Arc<dyn Clock>,

    slots: Slots,
    /// Whether the last answer did not end.
    is_endless: bool,
    doing: Doing,
    /// Handed out before anything else is done.
    ready: VecDeque<Received>,
}

enum Doing {
    /// Nothing yet.
    Idle,
    /// Waiting for a page's time.
    Waiting(Page, Instant),
    /// Asking for it.
    Asking(Page, BoxFuture<'static, Result<Asked>>),
    /// Taking in what is above the bound.
    Overflowing(Page, Overflow),
}

struct Overflow {
    rest: Response,
    bytes: u64,
    until: Instant,
}

#[derive(Clone)]
struct Page {
    slot: Millis,
    /// From 0 in each slot.
    number: u32,
    url: Url,
}

impl Page {
    /// What tells an event of this page from all others of the source. A slot may come again when the clock was
    /// set back, so the time of the answer is part of it.
    fn token(&self, answered: Millis, element: usize, more: &str) -> Bytes {
        format!("{}/{}/{element}@{answered}{more}", self.slot, self.number).into()
    }
}

/// The slot that a token names.
fn slot_of(token: &[u8]) -> Option<Millis> {
    std::str::from_utf8(token).ok()?.split_once('/')?.0.parse().ok()
}

impl Polling {
    /// A source that is asked from the slot behind `resume`'s token on.
    ///
    /// # Errors
    /// `User`: the settings cannot be used.
    pub fn new(settings: &PollSettings, resume: &Resume, clock: Arc<dyn Clock>) -> Result<Self> {
        // Its other pages were of that moment.
        let is_cut = resume.token.ends_with(MORE.as_bytes());
        Ok(Self {
            asker: Asker::new(settings)?,
            reading: settings.reading.clone(),
            max_pages: settings.max_pages,
            max_kept: settings.max_kept,
            longest: settings.timeout.saturating_mul(LONGEST),
            clock,
            slots: Slots::new(settings.period, settings.jitter, settings.max_pause, slot_of(&resume.token)),
            is_endless: false,
            doing: Doing::Idle,
            ready: VecDeque::from_iter(is_cut.then_some(Received::Missed(1))),
        })
    }

    /// Waits for the next slot.
    fn plan(&mut self) {
        let now = self.clock.now();
        let due = self.slots.next(now, fastrand::f64());
        if due.missed > 0 {
            self.ready.push_back(Received::Missed(due.missed));
        }
        let wait = Duration::from_millis(u64::try_from(due.at.saturating_sub(now)).unwrap_or(0));
        let page = Page { slot: due.slot, number: 0, url: self.asker.url.clone() };
        self.doing = Doing::Waiting(page, Instant::now() + wait);
    }

    fn begin(&mut self, page: Page) {
        let (asker, url) = (self.asker.clone(), page.url.clone());
        self.doing = Doing::Asking(page, async move { asker.ask(url).await }.boxed());
    }

    fn answered(&mut self, page: Page, asked: Result<Asked>) {
        match asked {
            Ok(Asked::Whole(body)) => match self.reading.read(&body) {
                Answer::Events(events, next) => self.events(page, events, next),
                Answer::Error(said) => self.failed(Fault::external(format!("the service says: {said}"))),
                // It is kept, for somebody to look at, and the service is left alone for a while.
                Answer::Unreadable(why) => {
                    self.ready.push_back(Received::OversizedPart(body));
                    let (token, unreadable) = (page.token(self.clock.now(), 0, ""), Some(why.clone()));
                    self.ready.push_back(Received::OversizedEnd { token, unreadable });
                    self.failed(Fault::external(why));
                }
            },
            Ok(Asked::TooLarge(beginning, rest)) => {
                let (bytes, until) = (beginning.len() as u64, Instant::now() + self.longest);
                self.ready.push_back(Received::OversizedPart(beginning));
                self.doing = Doing::Overflowing(page, Overflow { rest, bytes, until });
            }
            Err(fault) => self.failed(fault),
        }
    }

    fn events(&mut self, page: Page, events: Vec<Bytes>, next: Option<String>) {
        let now = self.clock.now();
        let number = page.number + 1;
        let more = if next.is_some() && number < self.max_pages { MORE } else { "" };
        let event = |(element, data)| RawEvent { token: page.token(now, element, more), data };
        let events: Vec<_> = events.into_iter().enumerate().map(event).collect();
        if !events.is_empty() {
            self.ready.push_back(Received::Events(events));
        }
        let Some(next) = next else { return self.succeeded() };
        if number >= self.max_pages {
            let text = format!("slot {} has more than {} pages: the rest is left", page.slot, self.max_pages);
            return self.failed(Fault::external(text));
        }
        match self.address(&page.url, &next) {
            Ok(url) => self.begin(Page { number, url, ..page }),
            Err(fault) => self.failed(fault),
        }
    }

    /// The next page's address.
    fn address(&self, present: &Url, next: &str) -> Result<Url> {
        if let Some(parameter) = self.reading.next.as_ref().and_then(|next| next.parameter.as_ref()) {
            let mut url = self.asker.url.clone();
            let others: Vec<(String, String)> =
                url.query_pairs().into_owned().filter(|(name, _)| name != parameter).collect();
            url.query_pairs_mut().clear().extend_pairs(others).append_pair(parameter, next);
            return Ok(url);
        }
        let url =
            present.join(next).map_err(|error| Fault::external(format!("the next page's address is none: {error}")))?;
        // Headers may hold secrets, and this address comes from the answer.
        if !web::may_follow(&self.asker.url, &url) {
            let shown = without_secrets(url.as_str());
            return Err(Fault::external(format!("the next page is {shown}, on another host: it is not asked for")));
        }
        Ok(url)
    }

    fn succeeded(&mut self) {
        self.slots.succeeded();
        self.is_endless = false;
        self.doing = Doing::Idle;
    }

    fn failed(&mut self, fault: Fault) {
        let named = if let Retry::After(named) = fault.retry { Some(named) } else { None };
        let again_in = self.slots.failed(self.clock.now(), named);
        self.doing = Doing::Idle;
        let fault = fault.at(&self.asker.shown);
        self.ready.push_back(Received::Disconnected { fault, reading: false, again_in });
    }
}

#[async_trait]
impl Source for Polling {
    async fn next(&mut self) -> Result<Received> {
        loop {
            if let Some(received) = self.ready.pop_front() {
                return Ok(received);
            }
            match &mut self.doing {
                Doing::Idle => self.plan(),
                Doing::Waiting(page, at) => {
                    sleep_until(*at).await;
                    let page = page.clone();
                    self.begin(page);
                }
                Doing::Asking(page, asking) => {
                    let asked = asking.await;
                    let page = page.clone();
                    self.answered(page, asked);
                }
                Doing::Overflowing(page, Overflow { rest, bytes, until }) => {
                    if *bytes >= self.max_kept || Instant::now() >= *until {
                        let why = format!("an answer that does not end, of {bytes} bytes so far");
                        let (token, unreadable) = (page.token(self.clock.now(), 0, ""), Some(why.clone()));
                        // One is enough to look at.
                        self.ready.push_back(match std::mem::replace(&mut self.is_endless, true) {
                            true => Received::OversizedVoid,
                            false => Received::OversizedEnd { token, unreadable },
                        });
                        self.failed(Fault::external(why));
                        continue;
                    }
                    let chunk = self.asker.rest(rest).await;
                    let token = page.token(self.clock.now(), 0, "");
                    match chunk {
                        Ok(Some(chunk)) => {
                            *bytes += chunk.len() as u64;
                            self.ready.push_back(Received::OversizedPart(chunk));
                        }
                        Ok(None) => {
                            self.ready.push_back(Received::OversizedEnd { token, unreadable: None });
                            self.succeeded();
                        }
                        Err(fault) => {
                            self.ready.push_back(Received::OversizedVoid);
                            self.failed(fault);
                        }
                    }
                }
            }
        }
    }

    // What is being answered is heard to its end, or it would be lost; and a slot that is waited for is asked for
    // afterwards, late as it may be, since the slots count it as asked for.
    fn hang_up(&mut self) {}
}
