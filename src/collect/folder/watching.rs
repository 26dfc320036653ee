//! The folder as a source: reads on, waits for what was handed out to be durable, and has files done then.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::sleep,
};

use super::{
    AHEAD_EVENTS, AHEAD_FILES, FolderSettings, Stand,
    journal::Aside,
    worker::{Step, Worker},
};
use crate::{
    collect::source::{Around, Received, Resume, Source},
    fault::{Fault, Result, Retry},
    model::Doubling,
};

/// The pause after a step that failed.
const PAUSE: Doubling = Doubling { base: Duration::from_millis(200), cap: Duration::from_secs(30) };

/// See the module's text.
pub struct Folder {
    settings: Arc<FolderSettings>,
    around: Around,
    spool: PathBuf,
    token: Bytes,
    /// Absent before it is opened, and while it works.
    worker: Option<Worker>,
    working: Option<JoinHandle<(Option<Worker>, Worked)>>,
    /// Events handed out so far, and since the last file that was read to its end.
    handed: u64,
    since: u64,
    /// Files that are read, in order.
    waiting: VecDeque<Waiting>,
    failures: u32,
    ready: VecDeque<Received>,
}

/// A file whose events have to be durable first.
struct Waiting {
    /// So many events were handed out by then.
    upto: u64,
    /// So many of these are its own.
    events: u64,
    what: What,
}

/// What is to be done with it then.
enum What {
    Finish(Stand),
    Leave(Aside),
}

/// What came of a piece of work.
enum Worked {
    Opened(Result<Vec<Fault>>),
    Stepped(Result<Step>),
    /// These were to be done.
    Done(Vec<Waiting>, Result<Vec<Fault>>),
    /// This was to be left alone.
    Left(Waiting, Result<Fault>),
}

impl Folder {
    /// The folder, gone on with behind `resume`'s token; what is to be known of files lies in the folder `spool`.
    /// Nothing is looked at yet.
    pub fn new(settings: &FolderSettings, spool: &Path, resume: &Resume, around: Around) -> Self {
        Self {
            settings: Arc::new(settings.clone()),
            around,
            spool: spool.to_owned(),
            token: resume.token.clone(),
            worker: None,
            working: None,
            handed: 0,
            since: 0,
            waiting: VecDeque::new(),
            failures: 0,
            ready: VecDeque::new(),
        }
    }

    fn durable(&self) -> u64 {
        *self.around.durable.borrow()
    }

    /// Whether so much is read and not done that the first file is waited for.
    fn is_ahead(&self) -> bool {
        let events = self.waiting.iter().map(|waiting| waiting.events).sum::<u64>() + self.since;
        !self.waiting.is_empty() && (self.waiting.len() >= AHEAD_FILES || events >= AHEAD_EVENTS)
    }

    fn is_due(&self) -> bool {
        self.waiting.front().is_some_and(|waiting| waiting.upto <= self.durable())
    }

    /// Starts what is next.
    fn work(&mut self) {
        let Some(mut worker) = self.worker.take() else {
            let (settings, spool) = (self.settings.clone(), self.spool.clone());
            let (clock, token) = (self.around.clock.clone(), self.token.clone());
            self.working = Some(spawn_blocking(move || match Worker::open(settings, &spool, clock, &token) {
                Ok((worker, told)) => (Some(worker), Worked::Opened(Ok(told))),
                Err(fault) => (None, Worked::Opened(Err(fault))),
            }));
            return;
        };
        let mut done = Vec::new();
        while self.is_due()
            && let Some(waiting) =
                self.waiting.pop_front_if(|next| done.is_empty() || matches!(next.what, What::Finish(_)))
        {
            let What::Leave(aside) = &waiting.what else {
                done.push(waiting);
                continue;
            };
            let aside = aside.clone();
            self.working = Some(spawn_blocking(move || {
                let left = worker.leave_alone(aside);
                (Some(worker), Worked::Left(waiting, left))
            }));
            return;
        }
        self.working = Some(spawn_blocking(move || {
            if done.is_empty() {
                let step = worker.step();
                return (Some(worker), Worked::Stepped(step));
            }
            let files = done.iter().filter_map(|waiting| match &waiting.what {
                What::Finish(stand) => Some(stand.clone()),
                What::Leave(_) => None,
            });
            let result = worker.done(&files.collect::<Vec<_>>());
            (Some(worker), Worked::Done(done, result))
        }));
    }

    /// What came of it, and whether there was something to do.
    fn worked(&mut self, worked: Worked) -> Result<bool> {
        match worked {
            Worked::Opened(Ok(told)) | Worked::Done(_, Ok(told)) => {
                self.failures = 0;
                told.into_iter().for_each(|fault| self.tell(fault));
            }
            Worked::Stepped(Ok(step)) => return Ok(self.stepped(step)),
            Worked::Left(_, Ok(told)) => self.tell(told),
            Worked::Opened(Err(fault)) if fault.retry == Retry::Never => return Err(fault),
            Worked::Opened(Err(fault)) | Worked::Stepped(Err(fault)) => self.failed(fault),
            Worked::Done(done, Err(fault)) => {
                done.into_iter().rev().for_each(|waiting| self.waiting.push_front(waiting));
                self.failed(fault);
            }
            Worked::Left(waiting, Err(fault)) => {
                self.waiting.push_front(waiting);
                self.failed(fault);
            }
        }
        Ok(true)
    }

    fn stepped(&mut self, step: Step) -> bool {
        self.failures = 0;
        match step {
            Step::Events(events) => {
                self.handed += events.len() as u64;
                self.since += events.len() as u64;
                self.ready.push_back(Received::Events(events));
            }
            Step::Part(part) => self.ready.push_back(Received::OversizedPart(part)),
            Step::PartsEnd(token) => {
                (self.handed, self.since) = (self.handed + 1, self.since + 1);
                self.ready.push_back(Received::OversizedEnd { token, unreadable: None });
            }
            Step::Read(stand, events) => self.wait_for(events, What::Finish(stand)),
            Step::Leave(aside) => {
                self.ready.push_back(Received::OversizedVoid);
                self.wait_for(self.since, What::Leave(aside));
            }
            Step::Tell(faults) => faults.into_iter().for_each(|fault| self.tell(fault)),
            Step::Nothing => return false,
        }
        true
    }

    fn tell(&mut self, fault: Fault) {
        self.ready.push_back(Received::Disconnected { fault, reading: true, again_in: Duration::ZERO });
    }

    fn wait_for(&mut self, events: u64, what: What) {
        self.since = 0;
        self.waiting.push_back(Waiting { upto: self.handed, events, what });
    }

    fn failed(&mut self, fault: Fault) {
        self.failures += 1;
        let again_in = PAUSE.plain(self.failures);
        let fault = fault.retry(Retry::Backoff);
        self.ready.push_back(Received::Disconnected { fault, reading: false, again_in });
    }
}

#[async_trait]
impl Source for Folder {
    async fn next(&mut self) -> Result<Received> {
        loop {
            if let Some(received) = self.ready.pop_front() {
                return Ok(received);
            }
            if self.working.is_none() && self.is_ahead() && !self.is_due() {
                if self.around.durable.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                continue;
            }
            if self.working.is_none() {
                self.work();
            }
            let Some(working) = &mut self.working else { continue };
            let worked = working.await;
            self.working = None;
            let (worker, worked) = worked.map_err(|error| Fault::internal(format!("a helper thread died: {error}")))?;
            self.worker = worker;
            if self.worked(worked)? {
                continue;
            }
            // Nothing to read: until it is looked at again, or something is durable.
            let look = self.settings.look;
            let waits = !self.waiting.is_empty();
            tokio::select! {
                () = sleep(look) => {}
                changed = self.around.durable.changed(), if waits => {
                    if changed.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            }
        }
    }

    // A file that is open stays so: nobody else wants it.
    fn hang_up(&mut self) {}
}
