//! Rows of records: one by one, and of records made by chance against another way to the same.

use serde_json::{Value as Json, json};

use super::*;

fn pointer(text: &str) -> Pointer {
    Pointer::parse(text).unwrap()
}

fn column(name: &str, from: From, kind: Kind) -> Column {
    Column { name: name.to_owned(), from, kind, required: false }
}

fn at(text: &str, kind: Kind) -> Column {
    column("c", From::Element(pointer(text)), kind)
}

fn rows(settings: &Settings, record: &str) -> Vec<String> {
    let made = Transform::new(settings).rows(record.as_bytes()).unwrap().into_iter().map(|made| match made {
        Made::Row(row) => {
            let value = |value: &Option<Value<'_>>| match value {
                None => "-".to_owned(),
                Some(Value::Text(text)) => format!("{text:?}"),
                Some(Value::Integer(number)) => format!("{number}i"),
                Some(Value::Float(number)) => format!("{number}f"),
                Some(Value::Boolean(truth)) => truth.to_string(),
            };
            row.values.iter().map(value).collect::<Vec<_>>().join(" ")
        }
        Made::Filtered => "filtered".to_owned(),
        Made::Unusable(why) => format!("unusable: {why}"),
    });
    made.collect()
}

#[track_caller]
fn check(columns: &[Column], record: &str, expected: &str) {
    let settings = Settings { columns: columns.to_vec(), ..Settings::default() };
    assert_eq!(rows(&settings, record), [expected], "{record}");
}

#[test]
fn a_value_has_the_columns_type_or_is_none() {
    let record = r#"{"t":"x","i":7,"f":7.5,"w":7.0,"s":" 42 ","b":true,"n":null,"o":{}}"#;
    check(
        &[at("/t", Kind::Text), at("/i", Kind::Text), at("/f", Kind::Text), at("/b", Kind::Text)],
        record,
        r#""x" "7" "7.5" "true""#,
    );
    check(&[at("/i", Kind::Integer), at("/w", Kind::Integer), at("/s", Kind::Integer)], record, "7i 7i 42i");
    check(&[at("/i", Kind::Float), at("/f", Kind::Float), at("/s", Kind::Float)], record, "7f 7.5f 42f");
    check(&[at("/b", Kind::Boolean), at("/n", Kind::Boolean), at("/none", Kind::Text)], record, "true - -");
    for (text, kind, why) in [
        ("/f", Kind::Integer, r#"c (/f): "7.5" is no integer"#),
        ("/t", Kind::Integer, r#"c (/t): "x" is no integer"#),
        ("/t", Kind::Float, r#"c (/t): "x" is no float"#),
        ("/i", Kind::Boolean, r#"c (/i): "7" is no boolean"#),
        ("/b", Kind::Integer, r#"c (/b): "true" is no integer"#),
        ("/o", Kind::Text, "c (/o): an object or a list is no string"),
    ] {
        check(&[at(text, kind)], record, &format!("unusable: {why}"));
    }
    check(
        &[at("/i", Kind::Integer)],
        r#"{"i":9223372036854775808}"#,
        "unusable: c (/i): \"9.223372036854776e+18\" is no integer",
    );
    check(&[at("/i", Kind::Integer)], r#"{"i":-9223372036854775808}"#, "-9223372036854775808i");
    check(&[at("/s", Kind::Float)], r#"{"s":"NaN"}"#, "unusable: c (/s): \"NaN\" is no float");
}

#[test]
fn what_is_required_must_be_there() {
    let required = Column { required: true, ..at("/x", Kind::Text) };
    check(std::slice::from_ref(&required), r#"{"x":""}"#, "\"\"");
    for record in ["{}", r#"{"x":null}"#] {
        check(std::slice::from_ref(&required), record, "unusable: c (/x): nothing stands there, and it is required");
    }
}

#[test]
fn a_template_is_filled_or_has_no_value() {
    let street = |text: &str| column("street", From::Template(Template::parse(text).unwrap()), Kind::Text);
    let record = r#"{"number":8929,"name":"Valwood \"Pkwy\"","none":null,"list":[1]}"#;
    check(&[street("{/number} {/name}")], record, r#""8929 Valwood \"Pkwy\"""#);
    check(&[street("{{{/list/0}}}, {/number}")], record, "\"{1}, 8929\"");
    check(&[street("{/number}{/none}"), street("{/missing}!")], record, "- -");
    check(&[street("{/list}")], record, "unusable: street: /list: an object or a list is no part of a text");
    let number = column("n", From::Template(Template::parse("{/number}{/number}").unwrap()), Kind::Integer);
    check(&[number], record, "89298929i");
    for bad in ["{/a", "a}", "{a}", "{}", "plain", "", "{/a~}"] {
        assert!(Template::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn constants_and_parts_of_the_whole_record_stand_in_each_row() {
    let settings = Settings {
        explode: Some(pointer("/results")),
        columns: vec![
            column("source", From::Constant("17".to_owned()), Kind::Integer),
            column("seed", From::Record(pointer("/info/seed")), Kind::Text),
            at("/n", Kind::Integer),
        ],
        ..Settings::default()
    };
    let record = r#"{"info":{"seed":"s"},"results":[{"n":1},{"n":"x"},{"n":3},7]}"#;
    assert_eq!(
        rows(&settings, record),
        ["17i \"s\" 1i", "unusable: c (/n): \"x\" is no integer", "17i \"s\" 3i", "17i \"s\" -"]
    );
}

#[test]
fn a_record_without_elements_is_said_with_the_reason() {
    let settings =
        Settings { explode: Some(pointer("/r")), columns: vec![at("/n", Kind::Integer)], ..Settings::default() };
    assert_eq!(rows(&settings, r#"{"r":[]}"#), [""; 0]);
    for (record, why) in [
        ("{}", "nothing stands at /r"),
        (r#"{"r":{}}"#, "what stands at /r is no list"),
        ("x", "no JSON"),
        ("", "no JSON"),
    ] {
        let said = Transform::new(&settings).rows(record.as_bytes()).unwrap_err();
        assert!(said.contains(why), "{record}: {said}");
    }
    let whole = Settings { columns: vec![at("/n", Kind::Integer)], ..Settings::default() };
    assert!(Transform::new(&whole).rows(b"{\"n\":1}x").unwrap_err().contains("no JSON"));
}

#[test]
fn filters_come_first_and_keys_and_times_must_be_there() {
    let settings = Settings {
        filters: vec![Filter {
            pointer: pointer("/nat"),
            include: true,
            values: vec!["US".to_owned(), "7".to_owned()],
        }],
        columns: vec![at("/n", Kind::Integer)],
        key: Some(pointer("/email")),
        time: Some((pointer("/at"), TimeUnit::Seconds)),
        ..Settings::default()
    };
    let check = |record: &str, expected: &str| assert_eq!(rows(&settings, record), [expected], "{record}");
    check(r#"{"nat":"DE","n":"x"}"#, "filtered");
    check(r#"{"n":1}"#, "filtered");
    check(r#"{"nat":7,"n":1,"email":"e","at":1}"#, "1i");
    check(r#"{"nat":"US","n":1,"email":null,"at":1}"#, "unusable: /email: no text, number or boolean to be known by");
    check(r#"{"nat":"US","n":1,"email":"e","at":"x"}"#, "unusable: /at: no time in seconds");
    let long = "é".repeat(501);
    check(
        &format!(r#"{{"nat":"US","n":1,"email":"{long}","at":1}}"#),
        "unusable: /email: a key of 1002 bytes, allowed: 1000",
    );
    let record = br#"{"nat":"US","n":1,"email":17,"at":1.5}"#;
    let Made::Row(row) = Transform::new(&settings).rows(record).unwrap().remove(0) else { panic!() };
    assert_eq!((row.key.as_deref(), row.time, row.element), (Some(&b"17"[..]), Some(1_500_000_000), &record[..]));
}

/// A JSON value made by chance, with few keys so that pointers meet something.
fn some_json(rng: &mut fastrand::Rng, depth: u32) -> Json {
    match rng.u8(0..if depth == 0 { 5 } else { 7 }) {
        0 => Json::Null,
        1 => rng.bool().into(),
        2 => rng.i64(-3..1_000).into(),
        3 => (f64::from(rng.i32(-1_000..1_000)) / 4.0).into(),
        4 => ["", "x", "12", "é,=\"\\ \n", "true"][rng.usize(0..5)].into(),
        5 => (0..rng.usize(0..4)).map(|_| some_json(rng, depth - 1)).collect(),
        _ => (0..rng.usize(0..4))
            .map(|_| (["a", "b", "c/d"][rng.usize(0..3)].to_owned(), some_json(rng, depth - 1)))
            .collect(),
    }
}

/// What a column of this type should make of a value, written from what the types say and not from the code.
fn expected(value: Option<&Json>, kind: Kind) -> Result<Option<Json>, ()> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(None) };
    let text = value.as_str().map(str::trim);
    let made = match kind {
        Kind::Text => value
            .as_str()
            .map(Json::from)
            .or_else(|| (value.is_number() || value.is_boolean()).then(|| json!(value.to_string()))),
        Kind::Integer => match value.as_f64() {
            Some(number) => (number.fract() == 0.0).then(|| json!(format!("{number:.0}").parse::<i64>().unwrap())),
            None => text.and_then(|text| text.parse::<i64>().ok()).map(Json::from),
        },
        Kind::Float => value.as_f64().or_else(|| text.and_then(|text| text.parse().ok())).map(Json::from),
        Kind::Boolean => value.as_bool().or_else(|| text.and_then(|text| text.parse().ok())).map(Json::from),
    };
    made.map(Some).ok_or(())
}

#[test]
fn rows_of_records_made_by_chance_are_what_the_types_say() {
    const KINDS: [Kind; 4] = [Kind::Text, Kind::Integer, Kind::Float, Kind::Boolean];
    let pointers = ["/a", "/b", "/c~1d", "/a/0", "/b/a", "/a/b/c~1d"];
    let (mut usable, mut unusable) = (0, 0);
    for seed in 0..4_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let element =
            |rng: &mut fastrand::Rng| json!({"a": some_json(rng, 3), "b": some_json(rng, 3), "c/d": some_json(rng, 1)});
        let elements: Vec<Json> = (0..rng.usize(0..4)).map(|_| element(&mut rng)).collect();
        let record = json!({ "r": elements }).to_string();
        let columns: Vec<_> =
            (0..rng.usize(1..4)).map(|_| at(pointers[rng.usize(0..6)], KINDS[rng.usize(0..4)])).collect();
        let settings = Settings { explode: Some(pointer("/r")), columns: columns.clone(), ..Settings::default() };
        let made = Transform::new(&settings).rows(record.as_bytes()).unwrap();
        assert_eq!(made, Transform::new(&settings).rows(record.as_bytes()).unwrap(), "twice is the same");
        assert_eq!(made.len(), elements.len(), "{record}");
        for (made, element) in made.into_iter().zip(&elements) {
            let wanted: Result<Vec<_>, ()> = columns
                .iter()
                .map(|column| {
                    let From::Element(pointer) = &column.from else { unreachable!() };
                    expected(element.pointer(&pointer.to_string()), column.kind)
                })
                .collect();
            match (made, wanted) {
                (Made::Row(row), Ok(wanted)) => {
                    usable += 1;
                    let found = row.values.into_iter().map(|value| {
                        Some(match value? {
                            Value::Text(text) => Json::from(text.into_owned()),
                            Value::Integer(number) => Json::from(number),
                            Value::Float(number) => Json::from(number),
                            Value::Boolean(truth) => Json::from(truth),
                        })
                    });
                    assert_eq!(found.collect::<Vec<_>>(), wanted, "{element} by {columns:?}");
                }
                (Made::Unusable(_), Err(())) => unusable += 1,
                (made, wanted) => panic!("{element} by {columns:?}: {made:?}, and should be {wanted:?}"),
            }
        }
    }
    assert!(usable > 1_000 && unusable > 1_000, "{usable} and {unusable}");
}
