//! The rules that a compiler does not check: length of files, direction of imports, which part may
//! name which crate.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const MAX_LINES: usize = 500;

/// The parts from left to right; a part imports only what stands to its right, or in its own
/// group.
const ORDER: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["recorded"],
    &["node"],
    &["api", "actors", "config"],
    &["supervise"],
    &["collect", "archive", "table", "load"],
    &["chain"],
    &["bus", "store"],
    &["vitals", "trace", "disk", "health", "web"],
    &["model", "fault", "failpoint"],
];

/// Crates that only one part may name.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("rusqlite", &["bus/embedded"]),
    ("rdkafka", &["bus/kafka"]),
    ("rdkafka_sys", &["bus/kafka/native"]),
    ("hdfs_native", &["store/hdfs"]),
    ("reqwest", &["web", "collect/sse", "collect/poll", "load/influx", "load/elastic", "config", "cli/remote"]),
    ("hyper", &["recorded"]),
    ("actix_web", &["api"]),
    ("prometheus", &["api"]),
    ("subtle", &["api"]),
    ("opentelemetry", &["trace"]),
    ("opentelemetry_sdk", &["trace"]),
    ("opentelemetry_otlp", &["trace"]),
    ("sd_notify", &["node"]),
    ("parquet", &["table"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("indicatif", &["cli"]),
    ("actix", &["actors", "supervise", "node"]),
    ("actix_rt", &["supervise", "node"]),
    ("toml", &["config"]),
];

fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {folder}");
    found.sort();
    found
}

/// The path below `src`, without the extension: `bus/embedded/mod`.
fn place(path: &Path) -> String {
    let below = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    below.with_extension("").to_str().unwrap().to_owned()
}

fn rank(part: &str) -> Option<usize> {
    ORDER.iter().position(|group| group.contains(&part))
}

/// The parts of this crate that a source names: `crate::bus::…` and `use crate::{bus::…, …}`.
fn named_parts(source: &str) -> BTreeSet<String> {
    let mut parts = BTreeSet::new();
    for (at, _) in source.match_indices("crate::") {
        let rest = &source[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => drop(parts.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())),
            Some(list) => {
                let (mut depth, mut word) = (0, String::new());
                for c in list.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => word.clear(),
                        ':' if depth == 0 => drop(parts.insert(std::mem::take(&mut word))),
                        c if depth == 0 && (c.is_alphanumeric() || c == '_') => word.push(c),
                        _ => {}
                    }
                }
            }
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// A source without its tests: they may reach wherever they like.
fn without_tests(source: &str) -> &str {
    source.find("#[cfg(test)]\nmod tests").map_or(source, |at| &source[..at])
}

fn is_test(place: &str) -> bool {
    place.split('/').any(|part| matches!(part, "tests" | "contract" | "model" | "sim" | "testing" | "histories"))
        && !place.starts_with("model")
}

#[test]
fn no_file_is_longer_than_a_person_reads_at_a_stretch() {
    for path in sources("src").into_iter().chain(sources("tests")) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(
            lines <= MAX_LINES,
            "{} has {lines} lines, {MAX_LINES} are allowed: split it by concept",
            path.display()
        );
    }
}

#[test]
fn imports_point_one_way() {
    for path in sources("src") {
        let place = place(&path);
        let part = place.split('/').next().unwrap();
        if part == "lib" || is_test(&place) {
            continue;
        }
        let own = rank(part).unwrap_or_else(|| panic!("{place}: the part {part} has no place in the order of imports"));
        for named in named_parts(without_tests(&fs::read_to_string(&path).unwrap())) {
            let Some(other) = rank(&named) else { continue };
            assert!(named == part || other >= own, "{place} imports {named}, which stands to its left");
        }
    }
}

/// `actix::…` begins with `actix`, and `actix_web::…` does not.
fn begins_with_word(text: &str, word: &str) -> bool {
    text.strip_prefix(word).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

#[test]
fn a_crate_is_named_only_where_it_belongs() {
    for path in sources("src") {
        let place = place(&path);
        if is_test(&place) {
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        for (name, homes) in ONLY_IN {
            let used = source.lines().map(str::trim_start).filter(|line| !line.starts_with("//")).any(|line| {
                line.contains(&format!("{name}::")) && !line.contains(&format!("_{name}::"))
                    || line.strip_prefix("use ").is_some_and(|rest| begins_with_word(rest, name))
            });
            let at_home = homes.iter().any(|home| place == *home || place.starts_with(&format!("{home}/")));
            assert!(!used || at_home, "{place} names {name}, which belongs to {homes:?}");
        }
    }
}

#[test]
fn only_what_librdkafka_does_not_wrap_is_unsafe() {
    for path in sources("src") {
        let (place, source) = (place(&path), fs::read_to_string(&path).unwrap());
        let is_used = source.lines().any(|line| line.contains("unsafe ") && !line.trim_start().starts_with("//"));
        assert!(!is_used || place.starts_with("bus/kafka/native"), "{place} is unsafe");
    }
}

#[test]
fn every_module_begins_with_what_it_is() {
    for path in sources("src").into_iter().filter(|path| !is_test(&place(path))) {
        let source = fs::read_to_string(&path).unwrap();
        assert!(source.starts_with("//!"), "{} has no header", path.display());
    }
}

#[test]
fn the_parts_that_a_source_names_are_found() {
    let source = "use crate::{\n    bus::{Bus, letters::X},\n    fault::Result,\n};\nfn f() { crate::store::g() }";
    let named: Vec<_> = named_parts(source).into_iter().collect();
    assert_eq!(named, ["bus", "fault", "store"]);
}
