//! Parts of a JSON text as they stand in it: nothing is changed, nothing is copied.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::Pointer;

/// What stands at a pointer (RFC 6901). Of a key that stands twice the last one counts.
pub fn at<'j>(root: &'j RawValue, pointer: &Pointer) -> Option<&'j RawValue> {
    pointer.parts().iter().try_fold(root, |value, part| match value.get().as_bytes().first()? {
        b'{' => {
            let members: BTreeMap<String, &'j RawValue> = serde_json::from_str(value.get()).ok()?;
            members.get(part.as_str()).copied()
        }
        b'[' => {
            let index: usize = part.parse().ok().filter(|_| part == "0" || !part.starts_with(['0', '+']))?;
            elements(value)?.get(index).copied()
        }
        _ => None,
    })
}

/// The elements of an array, in order; `None` if it is none.
pub fn elements(array: &RawValue) -> Option<Vec<&RawValue>> {
    array.get().starts_with('[').then(|| serde_json::from_str(array.get()).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, pointer: &str, expected: Option<&str>) {
        let root: &RawValue = serde_json::from_str(json).unwrap();
        assert_eq!(at(root, &Pointer::parse(pointer).unwrap()).map(RawValue::get), expected, "{pointer} in {json}");
    }

    #[test]
    fn a_part_is_found_as_it_stands() {
        check(r#"{"a":{"b" : [1.50, { "c":"é" }]}}"#, "/a/b/1", Some(r#"{ "c":"é" }"#));
        check(r#"{"a":{"b" : [1.50]}}"#, "/a/b/0", Some("1.50"));
        check(r#" {"a":1} "#, "", Some(r#"{"a":1}"#));
        check(r#"{"a\n":5}"#, "/a\n", Some("5"));
        check(r#"{"a/b":5}"#, "/a~1b", Some("5"));
        check(r#"{"a":1,"a":2}"#, "/a", Some("2"));
        for (json, pointer) in
            [("{}", "/a"), ("[1]", "/1"), ("[1,2]", "/01"), ("[1,2]", "/+1"), ("7", "/a"), ("[]", "/-")]
        {
            check(json, pointer, None);
        }
    }

    #[test]
    fn elements_are_those_of_an_array() {
        let of = |json: &'static str| elements(serde_json::from_str(json).unwrap());
        let texts: Vec<_> = of("[1, [2], {}]").unwrap().into_iter().map(RawValue::get).collect();
        assert_eq!(texts, ["1", "[2]", "{}"]);
        assert!(of("[]").unwrap().is_empty());
        assert!(of("{}").is_none() && of("\"[]\"").is_none());
    }
}
