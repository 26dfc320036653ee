//! Times of elements, to the nanosecond.

use jiff::Timestamp;

use crate::model::Scalar;

/// What an element's time is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds since 1970 (a fraction is allowed).
    Seconds,
    /// Milliseconds since 1970.
    Millis,
    /// Microseconds since 1970.
    Micros,
    /// Nanoseconds since 1970.
    Nanos,
    /// A string in RFC 3339: `2015-09-12T00:46:58.771Z`.
    Rfc3339,
}

impl TimeUnit {
    /// Its name, as it stands in a pipeline's file.
    pub fn words(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Millis => "millis",
            Self::Micros => "micros",
            Self::Nanos => "nanos",
            Self::Rfc3339 => "rfc3339",
        }
    }

    /// Nanoseconds since 1970, if that is a time which they can hold.
    pub fn read(self, scalar: &Scalar<'_>) -> Option<i64> {
        let nanos = |factor: i64| match scalar {
            Scalar::Int(number) => number.checked_mul(factor),
            #[allow(clippy::cast_precision_loss)] // a fraction is no more exact than that
            Scalar::Float(number) => rounded(number * factor as f64),
            _ => None,
        };
        match self {
            Self::Seconds => nanos(1_000_000_000),
            Self::Millis => nanos(1_000_000),
            Self::Micros => nanos(1_000),
            Self::Nanos => nanos(1),
            Self::Rfc3339 => match scalar {
                Scalar::Text(text) => i64::try_from(text.parse::<Timestamp>().ok()?.as_nanosecond()).ok(),
                _ => None,
            },
        }
    }
}

#[allow(clippy::cast_possible_truncation)]
fn rounded(number: f64) -> Option<i64> {
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    let number = number.round();
    (-BOUND..BOUND).contains(&number).then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use super::{TimeUnit::*, *};

    #[test]
    fn a_time_is_read_to_the_nanosecond_or_not_at_all() {
        for (unit, scalar, nanos) in [
            (Seconds, Scalar::Int(1_442_018_818), Some(1_442_018_818_000_000_000)),
            (Seconds, Scalar::Float(1.5), Some(1_500_000_000)),
            (Seconds, Scalar::Int(-1), Some(-1_000_000_000)),
            (Seconds, Scalar::Int(9_223_372_037), None),
            (Seconds, Scalar::Float(1e300), None),
            (Millis, Scalar::Int(1_442_018_818_771), Some(1_442_018_818_771_000_000)),
            (Micros, Scalar::Int(7), Some(7_000)),
            (Nanos, Scalar::Int(i64::MAX), Some(i64::MAX)),
            (Nanos, Scalar::Text("7".into()), None),
            (Rfc3339, Scalar::Text("2015-09-12T00:46:58.000000001Z".into()), Some(1_442_018_818_000_000_001)),
            (Rfc3339, Scalar::Text("2015-09-12T02:46:58+02:00".into()), Some(1_442_018_818_000_000_000)),
            (Rfc3339, Scalar::Text("9999-01-01T00:00:00Z".into()), None),
            (Rfc3339, Scalar::Text("yesterday".into()), None),
            (Rfc3339, Scalar::Int(7), None),
            (Millis, Scalar::Null, None),
        ] {
            assert_eq!(unit.read(&scalar), nanos, "{unit:?} {scalar:?}");
        }
    }
}
