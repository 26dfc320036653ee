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

use actix::{Arbiter, ArbiterHandle, System};
use async_trait::async_trait;
use tokio::{sync::oneshot, time::timeout};

use crate::{
    fault::{Fault, Result},
    model::ActorId,
};

/// How long a thread may take to end once its actor has; blocking work that the actor left behind is
/// waited for. One that takes longer is left behind itself.
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

    /// The actor's thread is blocked: it is left behind, and ends should it ever come back. The next
    /// [place](Self::place) is another thread.
    fn abandon(&self, id: &ActorId);
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

    fn abandon(&self, _: &ActorId) {}
}

/// A thread of its own for each actor, named after it.
#[derive(Debug, Default)]
pub struct Threads {
    threads: Mutex<BTreeMap<ActorId, Arbiter>>,
}

#[async_trait]
impl Spawner for Threads {
    fn place(&self, id: &ActorId) -> Result<ArbiterHandle> {
        let mut threads = self.lock();
        if let Some(arbiter) = threads.get(id)
            && arbiter.alive()
        {
            return Ok(arbiter.handle());
        }
        if !System::is_registered() {
            return Err(Fault::internal(format!("{id}: no actix system on this thread")));
        }
        let arbiter = start(id).map_err(|error| Fault::io(format!("{id}: its thread"), &error))?;
        let handle = arbiter.handle();
        threads.insert(id.clone(), arbiter);
        Ok(handle)
    }

    async fn release(&self, id: &ActorId) {
        let arbiter = self.lock().remove(id);
        let Some(arbiter) = arbiter else { return };
        arbiter.stop();
        if !joined(arbiter).await {
            tracing::warn!(actor = %id, "its thread does not end and is left behind");
        }
    }

    fn abandon(&self, id: &ActorId) {
        // It is told to end and not joined: nobody can wait for it.
        let _ = self.lock().remove(id).map(|arbiter| arbiter.stop());
    }
}

impl Drop for Threads {
    /// The threads end by themselves.
    fn drop(&mut self) {
        for arbiter in self.lock().values() {
            arbiter.stop();
        }
    }
}

impl Threads {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ActorId, Arbiter>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn start(id: &ActorId) -> std::io::Result<Arbiter> {
    let name = name(id);
    Arbiter::try_with_tokio_rt(move || {
        // A name is for people who look at `top`: without one the actor works as well.
        let _ = name.map(|name| rustix::thread::set_name(&name));
        tokio::runtime::Builder::new_current_thread().enable_all().build()
    })
}

/// Waits for the end of a thread, but not for ever. Joining blocks, and an end that never comes would
/// hold up the runtime that waits for its blocking tasks: so a thread of its own joins.
async fn joined(arbiter: Arbiter) -> bool {
    let (end, ended) = oneshot::channel();
    let joining = std::thread::Builder::new().name("join".into()).spawn(move || {
        let _ = arbiter.join();
        let _ = end.send(());
    });
    joining.is_ok() && timeout(THREAD_END, ended).await.is_ok_and(|ended| ended.is_ok())
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
