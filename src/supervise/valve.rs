//! What a person closes so that an actor takes nothing in, and opens again. It outlives the actor's deaths.

use tokio::sync::watch;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Valve(watch::Sender<Option<String>>);

impl Valve {
    pub(super) fn open() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Who closed it, from now on; nobody opens it.
    pub(super) fn set(&self, closed_by: Option<String>) {
        self.0.send_replace(closed_by);
    }

    /// Who has closed it.
    pub(super) fn closed_by(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    /// Returns when it is closed, or open; at once, if it is.
    pub(super) async fn turned(&self, closed: bool) {
        // The sender lives as long as we.
        let _ = self.0.subscribe().wait_for(|by| by.is_some() == closed).await;
    }
}
