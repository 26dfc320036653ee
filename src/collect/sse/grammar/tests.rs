use super::*;

/// What a stream means, with oversized parts joined, so that it does not depend on the chunks.
fn parse(text: &[u8], max_event: u64, mut chunk_len: impl FnMut() -> usize) -> Vec<String> {
    let mut parser = Parser::new(max_event);
    let mut items = Vec::new();
    let mut rest = Bytes::copy_from_slice(text);
    while !rest.is_empty() {
        let chunk = rest.split_to(chunk_len().min(rest.len()));
        parser.push(&chunk, &mut items);
    }
    let mut parts = Vec::new();
    let mut out = Vec::new();
    for item in items {
        match item {
            Item::Event { kind, id, data } => out.push(event(&kind, &id, &data)),
            Item::OversizedPart(part) => {
                assert!(!part.is_empty(), "an empty part");
                parts.extend_from_slice(&part);
            }
            Item::OversizedEnd { kind, id, len } => {
                assert_eq!(len, parts.len() as u64, "the parts' length");
                out.push(format!("oversized {}", event(&kind, &id, &mem::take(&mut parts))));
            }
            Item::Retry(wait) => out.push(format!("retry {}", wait.as_millis())),
            Item::Comment => out.push("comment".to_owned()),
        }
    }
    out
}

fn event(kind: &[u8], id: &[u8], data: &[u8]) -> String {
    format!("{}[{}]={}", kind.escape_ascii(), id.escape_ascii(), data.escape_ascii())
}

fn check(text: impl AsRef<[u8]>, expected: &[&str]) {
    let text = text.as_ref();
    for chunk in [usize::MAX, 1, 2, 3, 5] {
        assert_eq!(parse(text, 100, || chunk), expected, "{} in chunks of {chunk}", text.escape_ascii());
    }
}

#[test]
fn lines_end_with_lf_cr_or_crlf() {
    check("data: a\n\ndata: b\n\n", &["message[]=a", "message[]=b"]);
    check("data: a\r\rdata: b\r\r", &["message[]=a", "message[]=b"]);
    check("data: a\r\n\r\ndata: b\r\n\r\n", &["message[]=a", "message[]=b"]);
    check("data: a\r\n\ndata: b\n\r\n", &["message[]=a", "message[]=b"]);
    check("data: a\n\rdata: b\n\n", &["message[]=a", "message[]=b"]);
    check("data: a\rdata: b\r\n\r", &["message[]=a\\nb"]);
}

#[test]
fn data_lines_are_joined_by_lf() {
    check("data: YHOO\ndata: +2\ndata: 10\n\n", &["message[]=YHOO\\n+2\\n10"]);
    check("data\n\ndata\ndata\n\ndata:", &["message[]=", "message[]=\\n"]);
    check("data:\ndata: a\ndata\n\n", &["message[]=\\na\\n"]);
}

#[test]
fn one_space_after_the_colon_is_not_of_the_value() {
    check("data:test\n\ndata: test\n\ndata:  test\n\n", &["message[]=test", "message[]=test", "message[]= test"]);
    check("data: \n\ndata:\ta:b \n\n", &["message[]=", "message[]=\\ta:b "]);
}

#[test]
fn kinds_hold_for_one_event() {
    check("event: error\ndata: a\n\ndata: b\n\n", &["error[]=a", "message[]=b"]);
    check("event: x\n\ndata: b\n\n", &["message[]=b"]);
    check("event: x\nevent\ndata: b\n\n", &["message[]=b"]);
    check("event: x\nevent: y\ndata: b\n\n", &["y[]=b"]);
}

#[test]
fn ids_hold_until_the_next_one() {
    check(
        ": test stream\n\ndata: first\nid: 1\n\ndata:second\nid\n\ndata:  third\n\n",
        &["comment", "message[1]=first", "message[]=second", "message[]= third"],
    );
    check("id: 7\n\ndata: a\n\ndata: b\n\n", &["message[7]=a", "message[7]=b"]);
    check("id: 1\ndata: a\n\nid: \ndata: b\n\n", &["message[1]=a", "message[]=b"]);
    check("id: 1\nid: 2\ndata: a\n\n", &["message[2]=a"]);
}

#[test]
fn an_id_with_a_nul_is_ignored() {
    check("id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n", &["message[1]=a", "message[1]=b"]);
}

#[test]
fn the_last_id_is_that_of_the_last_complete_event() {
    let last_id = |text: &'static str| {
        let mut parser = Parser::new(100);
        parser.push(&Bytes::from_static(text.as_bytes()), &mut Vec::new());
        parser.last_id().clone()
    };
    assert_eq!(last_id("id: 1\ndata: a\n\nid: 2\ndata: b\n"), "1");
    assert_eq!(last_id("id: 1\ndata: a\n\nid: 2\n\n"), "2", "an event without data has an id that counts");
    assert_eq!(last_id("id: 1\ndata: a\n\nid\n\n"), "");
}

#[test]
fn retry_is_all_digits_or_nothing() {
    check("retry: 3000\n", &["retry 3000"]);
    check("retry:0\nretry: 12x\nretry: -1\nretry: 1.5\nretry:\nretry\nretry:  5\nretry: 5 \n", &["retry 0"]);
    check("retry: 99999999999999999999999\n", &["retry 18446744073709551615"]);
}

#[test]
fn unknown_fields_and_comments_are_skipped() {
    check("datax: a\nDATA: b\n data: c\nid2: 9\ndata : d\n:data: e\ndata: f\n\n", &["comment", "message[]=f"]);
    check("eventually: 1\nretry x: 1\ndata: f\n\n", &["message[]=f"]);
    check(":ok\n\n:\n\n", &["comment", "comment"]);
}

#[test]
fn an_event_at_the_end_without_an_empty_line_is_none() {
    check("data: a\n\ndata: b\n", &["message[]=a"]);
    check("data: a\n\ndata: b", &["message[]=a"]);
    check("", &[]);
    check("\n\n\r\r\n", &[]);
}

#[test]
fn a_byte_order_mark_counts_only_at_the_very_start() {
    check(b"\xEF\xBB\xBFdata: a\n\n", &["message[]=a"]);
    check(b"\xEF\xBB\xBF\xEF\xBB\xBFdata: a\n\n", &[]);
    check(b"\xEF\xBBdata: a\n\ndata: b\n\n", &["message[]=b"]);
    check(b"\xEF\n\ndata: b\n\n", &["message[]=b"]);
    check(b"data: a\n\n\xEF\xBB\xBFdata: b\n\n", &["message[]=a"]);
    check(b"data: \xEF\xBB\xBF\n\n", &["message[]=\\xef\\xbb\\xbf"]);
}

#[test]
fn bytes_are_kept_verbatim() {
    check(
        "data: Žluťoučký \u{2028}\u{85} kůň\n\n",
        &[&event(b"message", b"", "Žluťoučký \u{2028}\u{85} kůň".as_bytes())],
    );
    check(b"data: \xFF\x80\0\x0B\n\n", &["message[]=\\xff\\x80\\x00\\x0b"]);
}

#[test]
fn an_event_above_the_bound_comes_in_pieces() {
    let (fits, above) = ("x".repeat(100), "y".repeat(101));
    check(
        format!("id: 1\ndata: {fits}\n\nid: 2\nevent: k\ndata: {above}\n\ndata: z\n\n"),
        &[&format!("message[1]={fits}"), &format!("oversized k[2]={above}"), "message[2]=z"],
    );
    let half = "h".repeat(50);
    check(format!("data: {half}\ndata: {half}\n\n"), &[&format!("oversized message[]={half}\\n{half}")]);
    check(format!("data: {fits}\ndata\n\n"), &[&format!("oversized message[]={fits}\\n")]);
    check(format!("data: {above}\n"), &[]);
}

#[test]
fn nothing_above_the_bound_is_held() {
    let mut parser = Parser::new(1000);
    let chunk = Bytes::from(vec![b'x'; 900]);
    let mut items = Vec::new();
    parser.push(&Bytes::from_static(b"data:"), &mut items);
    for round in 0..100 {
        parser.push(&chunk, &mut items);
        let given: usize =
            items.iter().map(|item| if let Item::OversizedPart(part) = item { part.len() } else { 0 }).sum();
        assert!((round + 1) * 900 - given <= 1000, "held back after round {round}");
    }
    for field in ["id:", "event:", "retry:", "unknown:", ":", "name"] {
        parser = Parser::new(1000);
        parser.push(&Bytes::from_static(field.as_bytes()), &mut items);
        for _ in 0..100 {
            parser.push(&chunk, &mut items);
            let held = if let Line::Value { value, .. } = &parser.line { value.len() } else { 0 };
            assert!(held <= MAX_FIELD, "{held} bytes of {field}");
        }
    }
}

#[test]
fn a_field_above_its_bound_is_ignored() {
    let long = "9".repeat(MAX_FIELD + 1);
    let text = format!("id: 1\nevent: k\nid: {long}\nevent: {long}\nretry: {long}\ndata: a\n\n");
    check(text, &["k[1]=a"]);
}

#[test]
fn an_event_within_one_chunk_is_not_copied() {
    let chunk = Bytes::from_static(b"id: 12\ndata: payload\n\n");
    let mut items = Vec::new();
    Parser::new(100).push(&chunk, &mut items);
    let [Item::Event { id, data, .. }] = &items[..] else { panic!("{items:?}") };
    assert_eq!((id.as_ptr(), data.as_ptr()), (chunk[4..].as_ptr(), chunk[13..].as_ptr()));
}

/// The standard's text, read over a whole stream at once, with no thought of speed.
fn reference(text: &[u8], max_event: u64) -> Vec<String> {
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    let mut lines = Vec::new();
    let mut line = Vec::new();
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == b'\r' || byte == b'\n' {
            if byte == b'\r' {
                bytes.next_if_eq(&b'\n');
            }
            lines.push(mem::take(&mut line));
        } else {
            line.push(byte);
        }
    }
    let (mut out, mut data, mut kind, mut id) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for line in lines {
        if line.is_empty() {
            if data.pop().is_some() {
                let name = if kind.is_empty() { b"message".to_vec() } else { kind };
                let large = if data.len() as u64 > max_event { "oversized " } else { "" };
                out.push(format!("{large}{}", event(&name, &id, &data)));
            }
            (data, kind) = (Vec::new(), Vec::new());
            continue;
        }
        let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value).to_vec();
        match &line[..colon] {
            b"" => out.push("comment".to_owned()),
            b"data" => data.extend(value.into_iter().chain([b'\n'])),
            b"event" => kind = value,
            b"id" if !value.contains(&0) => id = value,
            b"retry" => {
                if let Ok(text) = String::from_utf8(value)
                    && text.chars().all(|c| c.is_ascii_digit())
                    && let Ok(millis) = text.parse::<u64>()
                {
                    out.push(format!("retry {millis}"));
                }
            }
            _ => {}
        }
    }
    out
}

#[test]
fn any_chunks_of_any_text_mean_what_the_standard_says() {
    const WORDS: &[&[u8]] = &[
        b"\n",
        b"\n",
        b"\n\n",
        b"\r",
        b"\r\n",
        b"\r\n\r\n",
        b"data",
        b"data:",
        b"data: ",
        b"event: ",
        b"id",
        b"id: ",
        b"id:\0",
        b"retry: ",
        b"retry",
        b"12",
        b":",
        b" ",
        b"x",
        b"\xEF\xBB\xBF",
        b"\xEF\xBB",
        b"\0",
        "ů".as_bytes(),
        b"\xFF",
        b"a longer piece of text",
    ];
    let mut with_events = 0;
    for seed in 0..5_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let text: Vec<u8> = (0..rng.usize(0..60)).flat_map(|_| WORDS[rng.usize(..WORDS.len())]).copied().collect();
        let expected = reference(&text, 20);
        with_events += u32::from(expected.iter().any(|item| item.contains('=')));
        for longest in [usize::MAX - 1, 1, 4, 30] {
            let found = parse(&text, 20, || rng.usize(1..=longest));
            assert_eq!(found, expected, "seed {seed}, chunks to {longest}: {}", text.escape_ascii());
        }
    }
    assert!(with_events > 1_000, "only {with_events} texts had an event");
}
