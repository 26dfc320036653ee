//! In calm weather the models keep the contracts, reached directly and through the simulator.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use async_trait::async_trait;

use super::path;
use crate::{
    bus,
    fault::Result,
    model::ManualClock,
    sim::{ModelBus, ModelStore, Sim, World},
    store,
};

/// Steps a world from a thread of its own, until it is dropped.
struct Engine(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Engine {
    fn start(world: World) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut sim = Sim::over(world);
            while !stopped.load(Ordering::Relaxed) {
                if !sim.step() {
                    std::thread::yield_now();
                }
            }
        });
        Self(stop, Some(thread))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        if let Some(thread) = self.1.take() {
            thread.join().unwrap();
        }
    }
}

/// A calm world with an owner's hands, and the engine that moves it.
fn simulated() -> (World, Arc<ModelStore>, Arc<ModelBus>, Engine) {
    let mut sim = Sim::new(1);
    sim.calm();
    let owner = sim.owner();
    let world = sim.world().clone();
    (world.clone(), sim.store(owner), sim.bus(owner), Engine::start(world))
}

fn store_subject(store: Arc<ModelStore>, keep: Box<dyn Any + Send + Sync>) -> store::contract::Subject {
    store::contract::Subject { store, base: path("/base"), _keep: keep }
}

mod store_directly {
    async fn subject() -> crate::store::contract::Subject {
        let sim = super::Sim::new(1);
        super::store_subject(sim.world().store().into(), Box::new(()))
    }

    crate::store::contract::store_contract!(subject);
}

mod store_through_the_simulator {
    async fn subject() -> crate::store::contract::Subject {
        let (_, store, _, engine) = super::simulated();
        super::store_subject(store, Box::new(engine))
    }

    crate::store::contract::store_contract!(subject);
}

struct BusSubject {
    world: World,
    bus: Arc<ModelBus>,
    clock: Option<ManualClock>,
    _engine: Option<Engine>,
}

#[async_trait]
impl bus::contract::Subject for BusSubject {
    fn bus(&self) -> &dyn bus::Bus {
        &*self.bus
    }

    fn clock(&self) -> Option<&ManualClock> {
        self.clock.as_ref()
    }

    fn markers(&self) -> bool {
        true
    }

    async fn retain(&self) -> Result<()> {
        self.world.retain_all();
        Ok(())
    }

    // What one compaction leaves by chance, a hundred take.
    async fn compact(&self) -> Result<()> {
        for _ in 0..100 {
            self.world.compact_all();
        }
        Ok(())
    }
}

mod bus_directly {
    use super::BusSubject;

    async fn subject() -> BusSubject {
        let world = super::Sim::new(1).world().clone();
        let (bus, clock) = (world.bus().into(), Some(world.clock()));
        BusSubject { world, bus, clock, _engine: None }
    }

    crate::bus::contract::suite!(subject);
}

mod bus_through_the_simulator {
    use super::BusSubject;

    // Its clock goes on with each step, so it cannot be told one.
    async fn subject() -> BusSubject {
        let (world, _, bus, engine) = super::simulated();
        BusSubject { world, bus, clock: None, _engine: Some(engine) }
    }

    crate::bus::contract::suite!(subject);
}
