//! What the service manager is told, if there is one (`sd_notify(3)`): that the node is ready, that it lives,
//! that it ends. The sign of life comes from the thread on which the supervisors run: where that is blocked,
//! nobody restarts actors any more, and systemd restarts the process.

use std::{future::pending, time::Duration};

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

/// Every actor is started, and the API answers.
pub(super) fn ready(actors: usize) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("{actors} actors"))]);
}

/// It ends in order.
pub(super) fn ending() {
    tell(&[NotifyState::Stopping]);
}

/// Gives signs of life as often as the service manager wants them, for ever.
pub(super) async fn live() {
    let Some(within) = sd_notify::watchdog_enabled() else { return pending().await };
    // Twice in the time, as its manual has it.
    let mut tick = interval((within / 2).max(Duration::from_millis(1)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

/// A service manager that does not listen is no reason to stop.
fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}
