//! The pause between two attempts, as a part that is handed in.

use std::time::Duration;

use async_trait::async_trait;

/// How a protocol waits before it tries again.
#[async_trait]
pub trait Pause: Send + Sync {
    /// Waits before attempt `attempt` (1 = the first repetition).
    async fn pause(&self, attempt: u32);

    /// A step of the protocol is done: who watches over it may give the next one its whole time.
    fn stepped(&self) {}
}

/// Doubling pauses, varied by up to a quarter, on tokio's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubling {
    /// The first pause.
    pub base: Duration,
    /// The longest.
    pub cap: Duration,
}

impl Default for Doubling {
    fn default() -> Self {
        Self { base: Duration::from_millis(50), cap: Duration::from_secs(5) }
    }
}

impl Doubling {
    /// The pause before attempt `attempt`, without the variation.
    pub fn plain(&self, attempt: u32) -> Duration {
        self.base.saturating_mul(1 << attempt.saturating_sub(1).min(20)).min(self.cap)
    }
}

#[async_trait]
impl Pause for Doubling {
    async fn pause(&self, attempt: u32) {
        tokio::time::sleep(self.plain(attempt).mul_f64(0.75 + fastrand::f64() / 2.0)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap_and_never_overflow() {
        let pause = Doubling { base: Duration::from_millis(50), cap: Duration::from_secs(5) };
        let seen: Vec<_> = [1, 2, 3, 7, 8, u32::MAX].map(|n| pause.plain(n).as_millis()).into();
        assert_eq!(seen, [50, 100, 200, 3200, 5000, 5000]);
    }
}
