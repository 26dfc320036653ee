//! What a source is told of what became of its events.

use tokio::sync::watch;

/// How many of the events that a source handed out in this opening were taken, and how many are durable.
#[derive(Debug)]
pub(super) struct Durable {
    taken: u64,
    told: watch::Sender<u64>,
}

impl Default for Durable {
    fn default() -> Self {
        Self { taken: 0, told: watch::Sender::new(0) }
    }
}

impl Durable {
    /// Where the source listens.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// So many more were taken.
    pub(super) fn take(&mut self, events: usize) {
        self.taken += events as u64;
    }

    /// All that were taken are durable.
    pub(super) fn tell(&self) {
        self.told.send_replace(self.taken);
    }
}
