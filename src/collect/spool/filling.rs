//! How fast a spool fills, and when it will be full.

use std::time::Duration;

use tokio::time::Instant;

/// Over about this time the rate is smoothed: what is sent is released every few seconds only, and a
/// source comes in bursts.
pub const SMOOTHED_OVER: Duration = Duration::from_secs(60);

/// The time until `used` bytes are `bound` bytes, when they get more by `rate` bytes a second; `None`
/// when they do not.
pub fn time_to_full(used: u64, bound: u64, rate: f64) -> Option<Duration> {
    let left = bound.saturating_sub(used);
    if left == 0 {
        return Some(Duration::ZERO);
    }
    // Of what is too far away to be a duration nobody has to know.
    (rate > 0.0).then(|| Duration::try_from_secs_f64(left as f64 / rate).ok())?
}

/// The smoothed rate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filling {
    last: Option<(Instant, u64)>,
    rate: Option<f64>,
}

impl Filling {
    /// So many bytes are there now; answers by how many a second they get more, less if negative. An
    /// older rate counts for 1/e of what it did each [`SMOOTHED_OVER`].
    pub fn observe(&mut self, now: Instant, used: u64) -> f64 {
        let Some((then, before)) = self.last.replace((now, used)) else { return 0.0 };
        let passed = now.saturating_duration_since(then).as_secs_f64();
        if passed == 0.0 {
            return self.rate.unwrap_or(0.0);
        }
        let measured = (used as f64 - before as f64) / passed;
        let kept = (-passed / SMOOTHED_OVER.as_secs_f64()).exp();
        *self.rate.insert(self.rate.map_or(measured, |rate| rate * kept + measured * (1.0 - kept)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_what_is_left_by_the_rate() {
        let seconds = |used, bound, rate| time_to_full(used, bound, rate).map(|time| time.as_secs_f64());
        assert_eq!(seconds(400, 1_000, 60.0), Some(10.0));
        assert_eq!(seconds(0, 1_000, 4_000.0), Some(0.25));
        for rate in [0.0, -0.0, -5.0, f64::NAN, f64::MIN_POSITIVE] {
            assert_eq!(seconds(400, 1_000, rate), None, "{rate}");
        }
        for used in [1_000, 1_001, u64::MAX] {
            assert_eq!(seconds(used, 1_000, -1.0), Some(0.0), "{used}: it is full, whatever comes");
        }
        assert_eq!(seconds(0, u64::MAX, f64::INFINITY), Some(0.0));
    }

    /// Observes every five seconds what `used` says at that second.
    fn rates(used: impl Fn(u64) -> u64, seconds: u64) -> Vec<f64> {
        let (mut filling, start) = (Filling::default(), Instant::now());
        let observe = |second| filling.observe(start + Duration::from_secs(second), used(second));
        (0..=seconds).step_by(5).map(observe).collect()
    }

    #[test]
    fn a_steady_rate_is_known_from_the_second_look_on() {
        let rates = rates(|second| 1_000 + 70 * second, 60);
        assert_eq!(rates[0], 0.0);
        assert!(rates[1..].iter().all(|rate| (rate - 70.0).abs() < 1e-6), "{rates:?}");
    }

    #[test]
    fn a_rate_that_changes_is_followed_within_the_stated_time() {
        let rates = rates(|second| if second <= 100 { 20_000 + 70 * second } else { 30_000 - 30 * second }, 400);
        let at = |second: usize| rates[second / 5];
        assert!(at(105) > 50.0, "one look is not taken for the trend: {}", at(105));
        // After that time 1/e of the old rate is left.
        assert!((at(160) - (100.0 / std::f64::consts::E - 30.0)).abs() < 0.1, "{}", at(160));
        assert!((at(400) + 30.0).abs() < 1.0, "{}", at(400));
    }

    #[test]
    fn two_looks_at_once_say_nothing_new() {
        let (mut filling, now) = (Filling::default(), Instant::now());
        filling.observe(now, 0);
        assert_eq!(filling.observe(now, 5), 0.0);
        assert_eq!(filling.observe(now + Duration::from_secs(1), 15), 10.0);
    }
}
