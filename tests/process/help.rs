//! What the binary says of itself, and the demo on something that is no terminal.

use super::harness::{command, finish};

#[test]
fn every_command_shows_an_example_that_begins_with_howdah() {
    let commands: &[&[&str]] = &[
        &["run"],
        &["check"],
        &["archive", "verify"],
        &["table", "show"],
        &["dead-letters", "list"],
        &["dead-letters", "show"],
        &["demo"],
        &["serve-events"],
    ];
    for words in commands {
        let (code, out, err) = finish(&mut command(&[words, &["--help"][..]].concat()));
        assert_eq!((code, err.as_str()), (0, ""), "{words:?}");
        let example = out.split("Example:\n").nth(1).unwrap_or_else(|| panic!("{words:?} has no example\n{out}"));
        let line = format!("howdah {} ", words.join(" "));
        assert!(example.lines().next().unwrap().contains(&line), "{words:?}: {example}");
    }
    let (code, out, _) = finish(&mut command(&["--help"]));
    assert_eq!(code, 0);
    for line in ["0   done", "1   the configuration has complaints", "2   usage", "4   loss found"] {
        assert!(out.contains(line), "{line}\n{out}");
    }
    let (code, out, _) = finish(&mut command(&["--version"]));
    assert_eq!((code, out), (0, format!("howdah {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_wrong_command_line_is_answered_with_2_and_a_hint() {
    let check = |arguments: &[&str], words: &str| {
        let (code, out, err) = finish(&mut command(arguments));
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}\n{err}");
        assert!(err.contains(words), "{arguments:?}\n{err}");
    };
    check(&[], "Usage: howdah");
    check(&["rum"], "unrecognized subcommand 'rum'");
    check(&["run"], "<FILE>...");
    check(&["check", "--deeper", "x.toml"], "unexpected argument '--deeper'");
    check(&["archive"], "verify");
    check(&["demo", "--for", "5 parsecs"], "5 parsecs");
    check(&["serve-events", "x", "--listen", "here"], "here");
    check(&["--log", "ruin=[", "check", "x.toml"], "--log");
}

#[test]
fn the_demo_ends_by_itself_with_proof_and_the_top_wikis() {
    let (code, out, err) = finish(command(&["demo", "--for", "5s"]).env("PATH", ""));
    assert_eq!(code, 0, "{out}{err}");
    assert!(err.lines().all(|line| line.ends_with(" segments")), "progress alone: {err}");
    let verdict = out.lines().find(|line| line.starts_with("wikimedia/archive: ")).unwrap_or_else(|| panic!("{out}"));
    assert!(verdict.starts_with("wikimedia/archive: whole: "), "{verdict}");
    let lines = number_before(verdict, " lines");
    assert!(lines >= 100, "5 s at 50 a second: {verdict}");
    assert_eq!(number_before(verdict, " lines compared"), lines, "{verdict}");
    let top: Vec<_> =
        out.split("/user/bigdata/aggregates/wiki_edits_minute: edits by wiki\n").nth(1).unwrap().lines().collect();
    assert_eq!(top.len(), 10, "{out}");
    let edits: Vec<u64> =
        top.iter().map(|line| line.split_whitespace().nth(1).unwrap().replace(',', "").parse().unwrap()).collect();
    assert!(edits.is_sorted_by(|a, b| a >= b) && edits[9] > 0, "{out}");
    assert!(!out.contains('\x1b'), "no terminal, no terminal's codes: {out}");
}

fn number_before(text: &str, word: &str) -> u64 {
    let before = &text[..text.find(word).unwrap_or_else(|| panic!("{word} in {text}"))];
    before.rsplit([' ', '(']).next().unwrap().replace(',', "").parse().unwrap()
}
