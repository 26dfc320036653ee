//! Deterministic simulation: the protocols themselves, in a world that does its worst.
//!
//! The commit protocols are `async fn`s over `&dyn Store`, `&dyn Bus` and `&dyn Pause`. Here they
//! run on a single-threaded executor that draws every decision from one seed: which task goes on,
//! when a request reaches its service, whether it reaches it once, twice or never, when or whether
//! the answer comes back. The same seed gives the same history, so a failing seed is a test case.
//!
//! - An *owner* stands for a process. It has any number of tasks and can be [frozen](Sim::freeze)
//!   (as `SIGSTOP` does: its requests under way still land) and [killed](Sim::kill).
//! - An *operation* is one call of the store or the bus. It is submitted, perhaps held for long,
//!   applied once, twice or never, and answered by the service, by a refusal (surely not done) or
//!   by a time-out (unknown: it may land later, also after its owner died). Two operations change
//!   places only if both were in flight at once.
//! - [`Weather`] says how often each of these happens; [`Sim::calm`] ends them all, so that a
//!   history can demand progress.
//! - [`Sim::power_cut`] ends all owners; store and bus keep what they had answered for, and of the
//!   rest what chance leaves.
//!
//! [`histories`] runs many seeds. The protocol under test must draw its own randomness (names of
//! staging files and the like) from `fastrand`'s thread-local generator, which [`Sim::new`] seeds.

mod bus;
mod driver;
mod operation;
mod store;
mod weather;
mod world;

#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

pub use bus::ModelBus;
pub use driver::histories;
pub use store::ModelStore;
pub use weather::{Counts, Weather};
pub use world::World;

use crate::model::Pause;

/// A process of the simulated world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner(usize);

/// What a spawned future came to.
#[derive(Debug)]
pub struct Outcome<T>(Rc<RefCell<Option<T>>>);

impl<T> Outcome<T> {
    /// Whether the future has ended (it never does if it was killed before).
    pub fn is_done(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// What it returned, once.
    pub fn take(&self) -> Option<T> {
        self.0.borrow_mut().take()
    }
}

impl<T: Clone> Outcome<T> {
    /// What it returned.
    pub fn get(&self) -> Option<T> {
        self.0.borrow().clone()
    }
}

struct Ready(AtomicBool);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Task {
    owner: Owner,
    future: Pin<Box<dyn Future<Output = ()>>>,
    ready: Arc<Ready>,
    waker: Waker,
}

enum Pick {
    Poll(usize),
    World(world::Pick),
}

/// One history; see the module's text.
pub struct Sim {
    world: World,
    tasks: Vec<Task>,
    frozen: Vec<bool>,
    // Kept between steps only to save allocations.
    picks: Vec<Pick>,
}

impl Sim {
    /// A world without files and topics, in rough weather. Seeds `fastrand`'s thread-local
    /// generator as well.
    pub fn new(seed: u64) -> Self {
        fastrand::seed(seed ^ 0x5eed);
        Self::over(World::new(seed))
    }

    fn over(world: World) -> Self {
        Self { world, tasks: Vec::new(), frozen: Vec::new(), picks: Vec::new() }
    }

    /// The world, for checks and for what only the test's author can do: appending records,
    /// moving retention.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Sets how often faults happen, from the next operation on.
    pub fn weather(&self, weather: Weather) {
        self.world.lock().weather = weather;
    }

    /// A new owner.
    pub fn owner(&mut self) -> Owner {
        self.frozen.push(false);
        Owner(self.frozen.len() - 1)
    }

    /// The store as this owner reaches it.
    pub fn store(&self, owner: Owner) -> Arc<ModelStore> {
        Arc::new(ModelStore::new(self.world.caller(Some(owner))))
    }

    /// The bus as this owner reaches it.
    pub fn bus(&self, owner: Owner) -> Arc<ModelBus> {
        Arc::new(ModelBus::new(self.world.caller(Some(owner))))
    }

    /// Pauses that take a few steps, more with each attempt.
    pub fn pause(&self) -> Arc<dyn Pause> {
        Arc::new(StepPause(self.world.clone()))
    }

    /// A random number below `bound` from the history's own generator.
    pub fn below(&self, bound: usize) -> usize {
        self.world.lock().rng.usize(..bound)
    }

    /// True once in `n` times, from the history's own generator.
    pub fn one_in(&self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Lets a future run as a task of `owner`.
    pub fn spawn<T: 'static>(&mut self, owner: Owner, future: impl Future<Output = T> + 'static) -> Outcome<T> {
        let outcome = Rc::new(RefCell::new(None));
        let result = outcome.clone();
        let future = Box::pin(async move {
            let value = future.await;
            *result.borrow_mut() = Some(value);
        });
        let ready = Arc::new(Ready(AtomicBool::new(true)));
        self.tasks.push(Task { owner, future, waker: Waker::from(ready.clone()), ready });
        Outcome(outcome)
    }

    /// Whether the owner has a task that has not ended.
    pub fn is_alive(&self, owner: Owner) -> bool {
        self.tasks.iter().any(|task| task.owner == owner)
    }

    /// Drops the owner's tasks. Its operations under way may still land, or never. The owner can
    /// be given new tasks, as a restarted process.
    pub fn kill(&mut self, owner: Owner) {
        self.world.note(|| format!("{owner:?} killed"));
        self.frozen[owner.0] = false;
        self.tasks.retain(|task| task.owner != owner);
    }

    /// Stops the owner's tasks until [`Sim::wake`]; its operations go on.
    pub fn freeze(&mut self, owner: Owner) {
        self.world.note(|| format!("{owner:?} frozen"));
        self.frozen[owner.0] = true;
    }

    /// Ends a [freeze](Sim::freeze).
    pub fn wake(&mut self, owner: Owner) {
        self.world.note(|| format!("{owner:?} woken"));
        self.frozen[owner.0] = false;
    }

    /// Whether the owner is frozen.
    pub fn is_frozen(&self, owner: Owner) -> bool {
        self.frozen[owner.0]
    }

    /// All owners die at once; store and bus lose what they had not answered for, or part of it.
    pub fn power_cut(&mut self) {
        self.world.note(|| "power cut".to_owned());
        self.tasks.clear();
        self.frozen.fill(false);
        self.world.lock().power_cut();
    }

    /// No faults and no freezes from now on; what was held lands soon.
    pub fn calm(&mut self) {
        self.world.note(|| "calm".to_owned());
        self.frozen.fill(false);
        self.world.lock().calm();
    }

    /// Does one thing: polls a task, applies an operation or delivers an answer. False if there is
    /// nothing to do: every task has ended, is frozen or waits for records that do not come.
    pub fn step(&mut self) -> bool {
        self.picks.clear();
        for (at, task) in self.tasks.iter().enumerate() {
            if !self.frozen[task.owner.0] && task.ready.0.load(Ordering::Relaxed) {
                self.picks.push(Pick::Poll(at));
            }
        }
        let mut state = self.world.lock();
        let picks = &mut self.picks;
        let idle = picks.is_empty();
        state.tick(idle, |pick| picks.push(Pick::World(pick)));
        if picks.is_empty() {
            return false;
        }
        let chosen = state.rng.usize(..picks.len());
        match picks.swap_remove(chosen) {
            Pick::World(pick) => state.perform(pick),
            Pick::Poll(at) => {
                drop(state);
                self.poll(at);
            }
        }
        true
    }

    fn poll(&mut self, at: usize) {
        let task = &mut self.tasks[at];
        task.ready.0.store(false, Ordering::Relaxed);
        let done = task.future.as_mut().poll(&mut Context::from_waker(&task.waker)) == Poll::Ready(());
        if done {
            self.tasks.swap_remove(at);
        }
    }

    /// At most so many steps; fewer if there is nothing to do any more. Returns how many.
    pub fn run(&mut self, max_steps: usize) -> usize {
        (0..max_steps).take_while(|_| self.step()).count()
    }

    /// Steps until `done` says so; false if it did not within `max_steps`, or nothing is left to do.
    pub fn run_until(&mut self, max_steps: usize, mut done: impl FnMut(&Self) -> bool) -> bool {
        for _ in 0..max_steps {
            if done(self) {
                return true;
            }
            if !self.step() {
                break;
            }
        }
        done(self)
    }
}

struct StepPause(World);

#[async_trait::async_trait]
impl Pause for StepPause {
    async fn pause(&self, attempt: u32) {
        self.0.sleep(2 << attempt.min(5)).await;
    }
}
