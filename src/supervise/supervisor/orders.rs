//! What a person may order of a supervisor.

use std::{sync::atomic::Ordering, time::Duration};

use actix::{Handler, Message, ResponseFuture};
use tokio::{sync::oneshot, time::Instant};

use super::Supervisor;
use crate::{
    fault::{Fault, Result},
    model::{ActorId, Incarnation},
    supervise::{
        family::Step,
        mailbox::{Delivery, Ref},
    },
};

/// Order: start this child anew, alone and at once. Answered when the new incarnation has started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart(pub ActorId);

/// Order: stop this child, dropping it if it takes longer than the limit. It stays stopped, also
/// over a restart of its supervisor, until it is restarted by an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Which child.
    pub child: ActorId,
    /// How long it may take.
    pub limit: Duration,
}

/// Order: stop all children, the last started first, then the supervisor itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// How long each child may take.
    pub limit: Duration,
}

impl Message for Restart {
    type Result = Result<Incarnation>;
}

impl Message for Stop {
    type Result = Result<()>;
}

impl Message for Shutdown {
    type Result = Result<()>;
}

impl Ref<Supervisor> {
    /// Restarts a child; see [`Restart`].
    ///
    /// # Errors
    /// There is no such child, or it did not come up.
    pub async fn restart(&self, child: &ActorId) -> Result<Incarnation> {
        self.order(Restart(child.clone())).await?
    }

    /// Stops a child; see [`Stop`].
    ///
    /// # Errors
    /// There is no such child.
    pub async fn stop(&self, child: &ActorId, limit: Duration) -> Result<()> {
        self.order(Stop { child: child.clone(), limit }).await?
    }

    /// Stops everything below, and itself; see [`Shutdown`].
    ///
    /// # Errors
    /// It is gone already.
    pub async fn shutdown(&self, limit: Duration) -> Result<()> {
        self.order(Shutdown { limit }).await?
    }
}

impl Handler<Delivery<Restart>> for Supervisor {
    type Result = ResponseFuture<Result<Incarnation>>;

    fn handle(&mut self, order: Delivery<Restart>, ctx: &mut Self::Context) -> Self::Result {
        let id = order.message.0;
        let (answer, answered) = oneshot::channel();
        match self.find(&id) {
            Ok(child) if self.family.restart(child, Instant::now()) => {
                self.plan.children[child].held.store(false, Ordering::Relaxed);
                self.restarting.push((child, answer));
                self.go_on(ctx);
            }
            Ok(_) => drop(answer.send(Err(Fault::user(format!("{id} is about to stop"))))),
            Err(fault) => drop(answer.send(Err(fault))),
        }
        let lost = Fault::internal(format!("the supervisor of {id} died"));
        Box::pin(async move { answered.await.unwrap_or(Err(lost)) })
    }
}

impl Handler<Delivery<Stop>> for Supervisor {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, order: Delivery<Stop>, ctx: &mut Self::Context) -> Self::Result {
        let Stop { child: id, limit } = order.message;
        let child = match self.find(&id) {
            Ok(child) => child,
            Err(fault) => return Box::pin(std::future::ready(Err(fault))),
        };
        self.plan.children[child].held.store(true, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        if self.family.is_idle_child(child) {
            return Box::pin(std::future::ready(Ok(())));
        }
        self.stopping.push((child, answer));
        if let Some(Step::End(child, state)) = self.family.stop(child) {
            self.end(child, state, limit, ctx);
        }
        self.go_on(ctx);
        let lost = Fault::internal(format!("the supervisor of {id} died"));
        Box::pin(async move { answered.await.map_err(|_| lost) })
    }
}

impl Handler<Delivery<Shutdown>> for Supervisor {
    type Result = ResponseFuture<Result<()>>;

    fn handle(&mut self, order: Delivery<Shutdown>, ctx: &mut Self::Context) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.limit = order.message.limit;
        self.closing.push(answer);
        self.family.close();
        self.go_on(ctx);
        let lost = Fault::internal(format!("{} died while it stopped its actors", self.life.id));
        Box::pin(async move { answered.await.map_err(|_| lost) })
    }
}
