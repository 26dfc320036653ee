//! Which thread an actor runs on.
//!
//! An actor that is busy keeps its thread from everybody else on it, so each data actor gets a
//! thread (an actix arbiter) of its own. Tests put all on one thread, whose clock they pause.

use std::{
    collections::BTreeMap,
    ffi::CString,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix::{Arbiter, ArbiterHandle};
use async_trait::async_trait;
use tokio::{sync::oneshot, time::timeout};

use crate::{
    fault::{Fault, Result},
    model::ActorId,
};

/// How long an idle thread may take to end; one that takes longer is blocked, and left behind.
const THREAD_END: Duration = Duration::from_secs(2);

/// Bytes of a thread's name that Linux keeps.
const NAME: usize = 15;

/// Finds a thread for an actor, and takes it back.
#[async_trait]
pub trait Spawner: Send + Sync + 'static {
    /// The thread for this actor; the same one until it is released.
    ///
    /// # Errors
    /// The machine has no thread left.
    fn place(&self, id: &ActorId) -> Result<ArbiterHandle>;

    /// The actor has ended: so does its thread, if that was its own. Returns when it is joined.
    async fn release(&self, id: &ActorId);
}

/// Everything on the thread that asks (which must run an actix system).
#[derive(Clone, Copy, Debug, Default)]
pub struct Here;

#[async_trait]
impl Spawner for Here {
    fn place(&self, id: &ActorId) -> Result<ArbiterHandle> {
        Arbiter::try_current().ok_or_else(|| Fault::internal(format!("{id}: no actix system on this thread")))
    }

    async fn release(&self, _: &ActorId) {}
}

/// A thread of its own for each actor, named after it.
#[derive(Debug, Default)]
pub struct Threads {
    threads: Mutex<BTreeMap<ActorId, Thread>>,
}

#[derive(Debug)]
struct Thread {
    arbiter: Arbiter,
    /// Resolves when the thread has dropped what it ran.
    emptied: oneshot::Receiver<()>,
}

#[async_trait]
impl Spawner for Threads {
    fn place(&self, id: &ActorId) -> Result<ArbiterHandle> {
        let mut threads = self.lock();
        if let Some(thread) = threads.get(id)
            && thread.arbiter.handle().alive()
        {
            return Ok(thread.arbiter.handle());
        }
        let thread = Thread::start(id).map_err(|error| Fault::io(format!("{id}: its thread"), &error))?;
        let handle = thread.arbiter.handle();
        threads.insert(id.clone(), thread);
        Ok(handle)
    }

    async fn release(&self, id: &ActorId) {
        let thread = self.lock().remove(id);
        if let Some(thread) = thread {
            thread.end(id).await;
        }
    }
}

impl Threads {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ActorId, Thread>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Thread {
    fn start(id: &ActorId) -> std::io::Result<Self> {
        let name = name(id);
        let arbiter = Arbiter::try_with_tokio_rt(move || {
            // A name is for people who look at `top`: without one the actor works as well.
            let _ = name.map(|name| rustix::thread::set_name(&name));
            tokio::runtime::Builder::new_current_thread().enable_all().build()
        })?;
        let (alive, emptied) = oneshot::channel::<()>();
        arbiter.spawn(async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        Ok(Self { arbiter, emptied })
    }

    async fn end(self, id: &ActorId) {
        self.arbiter.stop();
        if timeout(THREAD_END, self.emptied).await.is_err() {
            tracing::warn!(actor = %id, "its thread is blocked and left behind");
            return;
        }
        // Nothing runs on it any more: joining does not block.
        let _ = self.arbiter.join();
    }
}

/// The end of the id: the stage and the replica tell actors apart, the pipeline rarely does.
fn name(id: &ActorId) -> Option<CString> {
    let id = id.to_string();
    let from = (0..=id.len()).find(|at| id.len() - at <= NAME && id.is_char_boundary(*at))?;
    CString::new(&id[from..]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_named_after_the_end_of_its_actors_id() {
        let id = |pipeline: &str| ActorId { pipeline: pipeline.into(), stage: "archive".into(), replica: 0 };
        let seen: Vec<_> = ["w", "wikimedia", "ééé"].map(|pipeline| name(&id(pipeline)).unwrap()).into();
        assert_eq!(seen, [c"w/archive/0".to_owned(), c"media/archive/0".into(), c"éé/archive/0".into()]);
    }
}
