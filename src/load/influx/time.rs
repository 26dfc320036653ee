//! When a point is.

use crate::load::sink::Place;

/// Digits below the millisecond.
const BELOW: i64 = 1_000_000;

/// Those of an element, where records have several.
const ELEMENTS: i64 = 1_000;

/// A point's time in nanoseconds since 1970: its record's bus time, and below the millisecond the last six
/// digits of the offset, or the last three of the offset and of the element where records have several. So a
/// replay gives the same point, and records of one millisecond give different ones.
///
/// # Errors
/// The bus time is none that nanoseconds can hold (before 1677 or after 2262).
pub fn point_time(place: &Place) -> Result<i64, String> {
    let offset = |modulus: u64| i64::try_from(place.offset % modulus).unwrap_or_default();
    let below = if place.is_exploded {
        offset(1_000) * ELEMENTS + i64::from(place.element) % ELEMENTS
    } else {
        offset(1_000_000)
    };
    let nanos = place.time.checked_mul(BELOW).and_then(|nanos| nanos.checked_add(below));
    nanos.ok_or_else(|| format!("the bus time {} ms is none that nanoseconds can hold", place.time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TopicId;

    #[test]
    fn the_digits_below_the_millisecond_tell_records_and_elements_apart() {
        let place = Place {
            topic: TopicId(uuid::Uuid::nil()),
            partition: 0,
            has_others: false,
            offset: 7_654_321,
            element: 0,
            is_exploded: false,
            time: 1_442_018_818_771,
        };
        assert_eq!(point_time(&place), Ok(1_442_018_818_771_654_321));
        let element = Place { element: 17, is_exploded: true, ..place };
        assert_eq!(point_time(&element), Ok(1_442_018_818_771_321_017));
        assert_eq!(point_time(&Place { element: 1_017, ..element }), Ok(1_442_018_818_771_321_017));
        assert_eq!(point_time(&Place { time: -1, offset: 5, ..place }), Ok(-999_995));
        assert!(point_time(&Place { time: i64::MAX, ..place }).is_err());
    }
}
