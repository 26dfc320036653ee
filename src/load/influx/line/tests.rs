//! Lines, read by InfluxData's own parser.

use std::collections::BTreeMap;

use influxdb_line_protocol::{FieldValue, parse_lines};

use super::*;

/// Everything that means something somewhere in line protocol, and some that look as if.
const HOSTILE: [&str; 22] = [
    ",", "=", " ", "\\", "\"", "\n", "\r", "\t", "#", "'", "i", "1", "é", "🐘", "\u{2028}", "\0", "\\n", "\\,", "\\\"",
    "\"\"", ",,", "a",
];

fn row(values: Vec<Option<Value<'_>>>) -> Row<'_> {
    Row { values, key: None, time: None, element: b"" }
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

#[track_caller]
fn check(lines: &Lines, values: Vec<Option<Value<'_>>>, partition: Option<u32>, expected: &str, series: &str) {
    let mut out = b"before\n".to_vec();
    let of_series = lines.write(&row(values), partition, 17, &mut out).unwrap();
    let line = String::from_utf8(out).unwrap();
    assert_eq!(line, format!("before\n{expected}"));
    assert_eq!(&line[7..7 + of_series], series);
}

#[test]
fn a_line_is_as_the_reference_says() {
    let lines = Lines::new("my users", &texts(&["title", "e mail"]), &texts(&["first", "age", "share", "good"]));
    let text = |text: &'static str| Some(Value::Text(text.into()));
    let values = vec![
        text("Mr"),
        text("a=b@x,y"),
        text("Ann \"O\" \\"),
        Some(Value::Integer(-7)),
        Some(Value::Float(0.5)),
        Some(Value::Boolean(true)),
    ];
    let series = "my\\ users,e\\ mail=a\\=b@x\\,y,title=Mr";
    let fields = "first=\"Ann \\\"O\\\" \\\\\",age=-7i,share=0.5,good=true";
    check(&lines, values.clone(), None, &format!("{series} {fields} 17"), series);
    let series = "my\\ users,e\\ mail=a\\=b@x\\,y,partition=3,title=Mr";
    check(&lines, values, Some(3), &format!("{series} {fields} 17"), series);
    let none = vec![None, text("x"), None, Some(Value::Integer(i64::MIN)), None, None];
    check(&lines, none, None, "my\\ users,e\\ mail=x age=-9223372036854775808i 17", "my\\ users,e\\ mail=x");
    let last = vec![None, None, text("x"), None, None, None];
    check(&lines, last, Some(0), "my\\ users,partition=0 first=\"x\" 17", "my\\ users,partition=0");
}

#[test]
fn a_tag_says_what_it_can() {
    let lines = Lines::new("m", &texts(&["t"]), &texts(&["f"]));
    let check = |tag: &'static str, expected: &str| {
        let values = vec![Some(Value::Text(tag.into())), Some(Value::Integer(1))];
        check(&lines, values, None, &format!("m{expected} f=1i 17"), &format!("m{expected}"));
    };
    check("a\nb\r\nc", ",t=a\\ b\\ \\ c");
    check("a\\", ",t=a");
    check("a\\b", ",t=a\\b");
    check("a\\\\b\\,\\ \\=", ",t=a\\b\\,\\ \\=");
    check("a\tb", ",t=a\\ b");
    check("", "");
    check("\\\\", "");
}

#[test]
fn a_row_without_a_field_is_no_line() {
    let lines = Lines::new("m", &texts(&["t"]), &texts(&["f"]));
    let mut out = b"before".to_vec();
    assert!(lines.write(&row(vec![Some(Value::Text("x".into())), None]), None, 17, &mut out).is_err());
    assert_eq!(out, b"before");
}

/// What a tag holds of a text.
fn in_tag(text: &str) -> String {
    let mut held = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\n' | '\r' | '\t', _) => held.push(' '),
            ('\\', None | Some('\\' | ',' | '=' | ' ' | '\n' | '\r' | '\t')) => {}
            _ => held.push(c),
        }
    }
    held
}

fn some_text(rng: &mut fastrand::Rng) -> String {
    (0..rng.usize(1..6)).map(|_| HOSTILE[rng.usize(..HOSTILE.len())]).collect()
}

/// A text that may stand in a name: the reader of a pipeline's file refuses others.
fn some_name(rng: &mut fastrand::Rng) -> String {
    loop {
        let text = some_text(rng).replace(|c: char| c.is_control() || c == '\\', "");
        if !text.is_empty() && !text.starts_with('#') {
            return text;
        }
    }
}

fn some_value(rng: &mut fastrand::Rng) -> Option<Value<'static>> {
    Some(match rng.u8(0..8) {
        0 => Value::Integer(rng.i64(..)),
        1 => Value::Float(f64::from_bits(rng.u64(..))),
        2 => Value::Boolean(rng.bool()),
        3 => return None,
        _ => Value::Text(some_text(rng).into()),
    })
    .filter(|value| !matches!(value, Value::Float(number) if !number.is_finite()))
}

#[test]
fn whatever_stands_wherever_another_reader_reads_it_back() {
    let mut points = 0;
    for seed in 0..20_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut names = Vec::new();
        while names.len() < 6 {
            let name = some_name(&mut rng);
            if !names.contains(&name) && name != PARTITION {
                names.push(name);
            }
        }
        let (num_tags, num_fields) = (rng.usize(0..3), rng.usize(1..3));
        let (tags, fields) = (names[1..=num_tags].to_vec(), names[3..3 + num_fields].to_vec());
        let values: Vec<_> = (0..num_tags + num_fields).map(|_| some_value(&mut rng)).collect();
        let (partition, nanos) = (rng.bool().then(|| rng.u32(0..3)), rng.i64(..));
        let lines = Lines::new(&names[0], &tags, &fields);
        let mut out = Vec::new();
        if lines.write(&row(values.clone()), partition, nanos, &mut out).is_err() {
            assert!(values[num_tags..].iter().all(Option::is_none), "seed {seed}");
            continue;
        }
        points += 1;
        let line = String::from_utf8(out).unwrap();
        let read: Vec<_> = parse_lines(&line)
            .collect::<Result<_, _>>()
            .unwrap_or_else(|error| panic!("seed {seed}: {error} in {line:?}"));
        let [read] = read.as_slice() else { panic!("seed {seed}: {} points in {line:?}", read.len()) };
        assert_eq!((read.series.measurement.as_str(), read.timestamp), (names[0].as_str(), Some(nanos)), "{line:?}");

        let text = |value: &Value<'_>| match value {
            Value::Text(text) => in_tag(text),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Boolean(truth) => truth.to_string(),
        };
        let mut wanted: BTreeMap<String, String> =
            tags.iter().zip(&values).filter_map(|(name, value)| Some((name.clone(), text(value.as_ref()?)))).collect();
        wanted.retain(|_, value| !value.is_empty());
        wanted.extend(partition.map(|partition| (PARTITION.to_owned(), partition.to_string())));
        let found = read.series.tag_set.iter().flatten().map(|(name, value)| (name.to_string(), value.to_string()));
        assert_eq!(found.collect::<BTreeMap<_, _>>(), wanted, "seed {seed}: {line:?}");

        assert_eq!(read.field_set.len(), values[num_tags..].iter().flatten().count(), "seed {seed}: {line:?}");
        for (name, value) in fields.iter().zip(&values[num_tags..]) {
            let found = read.field_value(name);
            let is_same = match (value, found) {
                (None, None) => true,
                (Some(Value::Text(text)), Some(FieldValue::String(found))) => found.as_str() == text,
                (Some(Value::Integer(number)), Some(FieldValue::I64(found))) => found == number,
                (Some(Value::Float(number)), Some(FieldValue::F64(found))) => found.to_bits() == number.to_bits(),
                (Some(Value::Boolean(truth)), Some(FieldValue::Boolean(found))) => found == truth,
                _ => false,
            };
            assert!(is_same, "seed {seed}: {value:?} became {found:?} in {line:?}");
        }
    }
    assert!(points > 10_000, "{points}");
}
