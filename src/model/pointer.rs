//! JSON pointers (RFC 6901), compiled once, and a reader that fetches several of them in one pass
//! over the text without building a tree.

use std::{borrow::Cow, fmt};

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A JSON pointer: `/meta/id`. The empty pointer is the whole document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pointer {
    text: String,
    parts: Vec<String>,
}

impl Pointer {
    /// Parses a pointer.
    ///
    /// # Errors
    /// What is wrong with it: it does not begin with `/`, or a `~` is not `~0` or `~1`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.is_empty() && !text.starts_with('/') {
            return Err(format!("{text:?} is no JSON pointer: it begins with a slash, like \"/meta/id\""));
        }
        let parts = text.split('/').skip(1).map(|part| unescape(text, part)).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), parts })
    }

    /// Its parts, without their escapes.
    pub(super) fn parts(&self) -> &[String] {
        &self.parts
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

fn unescape(pointer: &str, part: &str) -> Result<String, String> {
    let mut pieces = part.split('~');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        out.push(match piece.as_bytes().first() {
            Some(b'0') => '~',
            Some(b'1') => '/',
            _ => return Err(format!("{pointer:?} is no JSON pointer: write ~0 for a tilde and ~1 for a slash")),
        });
        out.push_str(&piece[1..]);
    }
    Ok(out)
}

/// What stands at a pointer.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number from -2⁶³ to 2⁶³-1.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A string, with its escapes undone.
    Text(Cow<'a, str>),
    /// An object or an array.
    Composite,
}

impl Scalar<'_> {
    /// A text, number or boolean as a text, made in `scratch` where it is none; numbers in their shortest form.
    pub fn text<'t>(&'t self, scratch: &'t mut String) -> Option<&'t str> {
        *scratch = match self {
            Self::Text(text) => return Some(text),
            Self::Int(number) => number.to_string(),
            Self::Float(number) => serde_json::Number::from_f64(*number)?.to_string(),
            Self::Bool(truth) => truth.to_string(),
            Self::Null | Self::Composite => return None,
        };
        Some(scratch.as_str())
    }
}

/// Fetches several pointers from a JSON text in one pass.
///
/// Where a key stands twice in an object the last one counts, as in most readers.
#[derive(Clone, Debug)]
pub struct Extractor {
    root: Node,
    num_slots: usize,
}

#[derive(Clone, Debug, Default)]
struct Node {
    slots: Vec<usize>,
    children: Vec<(String, Option<usize>, Node)>,
}

impl Extractor {
    /// An extractor whose answers come in the order of `pointers`.
    pub fn new<'p>(pointers: impl IntoIterator<Item = &'p Pointer>) -> Self {
        let mut root = Node::default();
        let mut num_slots = 0;
        for pointer in pointers {
            let mut node = &mut root;
            for part in &pointer.parts {
                let at = node.children.iter().position(|(name, ..)| name == part).unwrap_or_else(|| {
                    // RFC 6901, section 4: an array's index has no leading zero.
                    let index = part.parse().ok().filter(|_| part == "0" || !part.starts_with(['0', '+']));
                    node.children.push((part.clone(), index, Node::default()));
                    node.children.len() - 1
                });
                node = &mut node.children[at].2;
            }
            node.slots.push(num_slots);
            num_slots += 1;
        }
        Self { root, num_slots }
    }

    /// Fills `out` with what stands at each pointer; `None` where nothing does. The whole text is
    /// checked to be JSON; to be UTF-8, only what `out` holds.
    ///
    /// # Errors
    /// Where and why the text is no JSON. `out` is of no meaning then.
    pub fn extract<'a>(&self, text: &'a [u8], out: &mut Vec<Option<Scalar<'a>>>) -> Result<(), serde_json::Error> {
        out.clear();
        out.resize(self.num_slots, None);
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        Fill { node: &self.root, out }.deserialize(&mut deserializer)?;
        deserializer.end()
    }
}

struct Fill<'n, 'o, 'a> {
    node: &'n Node,
    out: &'o mut Vec<Option<Scalar<'a>>>,
}

impl<'a> Fill<'_, '_, 'a> {
    fn put(self, scalar: Scalar<'a>) {
        Self::forget_below(self.out, self.node);
        if let Some((&last, others)) = self.node.slots.split_last() {
            for &slot in others {
                self.out[slot] = Some(scalar.clone());
            }
            self.out[last] = Some(scalar);
        }
    }

    // A key that stands twice: what the first one filled below is void.
    fn forget_below(out: &mut Vec<Option<Scalar<'a>>>, node: &Node) {
        for (_, _, child) in &node.children {
            for &slot in &child.slots {
                out[slot] = None;
            }
            Self::forget_below(out, child);
        }
    }

    fn composite(&mut self) {
        Self::forget_below(self.out, self.node);
        for &slot in &self.node.slots {
            self.out[slot] = Some(Scalar::Composite);
        }
    }
}

impl<'a> DeserializeSeed<'a> for Fill<'_, '_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Fill<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.put(Scalar::Null);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.put(Scalar::Bool(value));
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.put(Scalar::Int(value));
        Ok(())
    }

    #[allow(clippy::cast_precision_loss)] // as every reader of JSON numbers above 2⁶³
    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.put(i64::try_from(value).map_or(Scalar::Float(value as f64), Scalar::Int));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.put(Scalar::Float(value));
        Ok(())
    }

    fn visit_borrowed_str<E>(self, value: &'a str) -> Result<(), E> {
        self.put(Scalar::Text(Cow::Borrowed(value)));
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.put(Scalar::Text(Cow::Owned(value.to_owned())));
        Ok(())
    }

    fn visit_map<M: MapAccess<'a>>(mut self, mut map: M) -> Result<(), M::Error> {
        self.composite();
        while let Some(child) = map.next_key_seed(Key(self.node))? {
            match child {
                Some(node) => map.next_value_seed(Fill { node, out: &mut *self.out })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'a>>(mut self, mut seq: S) -> Result<(), S::Error> {
        self.composite();
        for index in 0.. {
            let child = self.node.children.iter().find(|(_, i, _)| *i == Some(index));
            let more = match child {
                Some((_, _, node)) => seq.next_element_seed(Fill { node, out: &mut *self.out })?.is_some(),
                None => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }
}

struct Key<'n>(&'n Node);

impl<'n, 'a> DeserializeSeed<'a> for Key<'n> {
    type Value = Option<&'n Node>;

    // As bytes: a key is compared and nothing else, so nobody needs it checked to be UTF-8.
    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl<'n> Visitor<'_> for Key<'n> {
    type Value = Option<&'n Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_bytes<E: de::Error>(self, key: &[u8]) -> Result<Self::Value, E> {
        Ok(self.0.children.iter().find(|(name, ..)| name.as_bytes() == key).map(|(_, _, node)| node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, pointer: &str, expected: Option<Scalar<'_>>) {
        let pointer = Pointer::parse(pointer).unwrap();
        let mut out = Vec::new();
        Extractor::new([&pointer]).extract(json.as_bytes(), &mut out).unwrap();
        assert_eq!(out, [expected], "{pointer} in {json}");
    }

    #[test]
    fn a_pointer_finds_what_rfc_6901_says() {
        check(r#"{"a":{"b":1}}"#, "/a/b", Some(Scalar::Int(1)));
        check(r#"{"a":{"b":1}}"#, "/a", Some(Scalar::Composite));
        check(r#"{"a":{"b":1}}"#, "/a/c", None);
        check(r#"{"a/b":1,"m~n":2}"#, "/a~1b", Some(Scalar::Int(1)));
        check(r#"{"a/b":1,"m~n":2}"#, "/m~0n", Some(Scalar::Int(2)));
        check(r#"{"a":[10,[20,30]]}"#, "/a/1/0", Some(Scalar::Int(20)));
        check(r#"{"a":[10,20]}"#, "/a/01", None);
        check(r#"{"":5}"#, "/", Some(Scalar::Int(5)));
        check(r#"{"\u0061\n":5,"\ud83d\udc18":6}"#, "/a\n", Some(Scalar::Int(5)));
        check(r#"{"\u0061\n":5,"\ud83d\udc18":6}"#, "/🐘", Some(Scalar::Int(6)));
        check("7", "", Some(Scalar::Int(7)));
        check(r#"{"a":"x\ny"}"#, "/a", Some(Scalar::Text("x\ny".into())));
        check(r#"{"a":null}"#, "/a", Some(Scalar::Null));
        check(r#"{"a":18446744073709551615}"#, "/a", Some(Scalar::Float(18_446_744_073_709_551_615.0)));
    }

    #[test]
    fn of_a_key_that_stands_twice_the_last_one_counts() {
        check(r#"{"a":1,"a":2}"#, "/a", Some(Scalar::Int(2)));
        check(r#"{"a":{"b":1},"a":{"c":2}}"#, "/a/b", None);
        check(r#"{"a":{"b":1},"a":3}"#, "/a/b", None);
    }

    #[test]
    fn several_pointers_are_fetched_in_one_pass_in_their_order() {
        let pointers = ["/meta/domain", "/timestamp", "/wiki", "/meta/domain"].map(|p| Pointer::parse(p).unwrap());
        let json = br#"{"wiki":"enwiki","meta":{"id":"x","domain":"en.wikipedia.org"},"timestamp":1442018818}"#;
        let mut out = Vec::new();
        Extractor::new(&pointers).extract(json, &mut out).unwrap();
        let domain = Some(Scalar::Text("en.wikipedia.org".into()));
        let wiki = Some(Scalar::Text("enwiki".into()));
        assert_eq!(out, [domain.clone(), Some(Scalar::Int(1_442_018_818)), wiki, domain]);
    }

    #[test]
    fn what_is_no_json_is_refused_to_its_end() {
        let extractor = Extractor::new([&Pointer::parse("/a").unwrap()]);
        for bad in [&br#"{"a":1"#[..], br#"{"a":1}x"#, b"", b"\xff", br#"{"a":1,"b":"\xff"}"#] {
            assert!(extractor.extract(bad, &mut Vec::new()).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn what_nobody_asks_for_may_be_text_in_another_encoding() {
        let extractor = Extractor::new([&Pointer::parse("/a").unwrap()]);
        let mut out = Vec::new();
        extractor.extract(b"{\"caf\xe9\":\"\xff\",\"a\":1}", &mut out).unwrap();
        assert_eq!(out, [Some(Scalar::Int(1))]);
        assert!(extractor.extract(b"{\"a\":\"\xff\"}", &mut out).is_err());
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        for bad in ["a", "a/b", "/a~", "/a~2"] {
            assert!(Pointer::parse(bad).is_err(), "{bad:?}");
        }
    }
}
