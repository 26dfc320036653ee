//! The shipped alerts: each is seen to fire and not to, each has its paragraph in the runbook, and what Prometheus and
//! Alertmanager read is to their liking.

use std::{collections::BTreeSet, fs, process::Command};

use crate::process::harness::{finish, repository};

fn text(path: &str) -> String {
    fs::read_to_string(repository(path)).unwrap()
}

/// What stands behind a word at the beginnings of lines.
fn behind<'t>(text: &'t str, word: &str) -> Vec<&'t str> {
    text.lines().filter_map(|line| line.trim_start().strip_prefix(word)).map(str::trim).collect()
}

#[test]
fn each_alert_fires_when_it_should_and_only_then() {
    let tests = repository("tests/alerts/rules_test.yml");
    let (code, out, err) = finish(Command::new("promtool").args(["test", "rules"]).arg(tests));
    assert!(code == 0 && out.contains("SUCCESS"), "{out}{err}");
    let tests = text("tests/alerts/rules_test.yml");
    for alert in behind(&text("deploy/prometheus/rules.yml"), "- alert:") {
        let fires =
            tests.contains(&format!("        alertname: {alert}\n        exp_alerts:\n          - exp_labels:"));
        let is_quiet = tests.contains(&format!("alertname: {alert}, exp_alerts: [] }}"));
        assert!(fires && is_quiet, "{alert}: seen to fire: {fires}, not to: {is_quiet}");
    }
}

#[test]
fn each_alert_has_its_paragraph_in_the_runbook_and_names_it() {
    let rules = text("deploy/prometheus/rules.yml");
    let alerts: BTreeSet<_> = behind(&rules, "- alert:").into_iter().collect();
    let book = text("docs/runbook.md");
    let sections: BTreeSet<_> = behind(&book, "## ").into_iter().collect();
    assert_eq!(alerts, sections);
    assert!(alerts.len() >= 12, "{alerts:?}");
    let named: BTreeSet<_> = behind(&rules, "runbook:").into_iter().map(str::to_owned).collect();
    let expected: BTreeSet<_> =
        alerts.iter().map(|alert| format!("docs/runbook.md#{}", alert.to_lowercase())).collect();
    assert_eq!(named, expected);
    for section in book.split("\n## ").skip(1) {
        let (title, paragraph) = section.split_once('\n').unwrap();
        assert!(paragraph.trim().len() > 200, "{title} says next to nothing");
    }
}

#[test]
fn prometheus_and_alertmanager_take_what_is_shipped_for_them() {
    for (program, arguments, file) in [
        ("promtool", ["check", "config"].as_slice(), "deploy/prometheus/prometheus.yml"),
        ("promtool", &["check", "rules"], "deploy/prometheus/rules.yml"),
        ("amtool", &["check-config"], "deploy/prometheus/alertmanager.yml"),
    ] {
        let (code, out, err) = finish(Command::new(program).args(arguments).arg(repository(file)));
        assert!(code == 0 && out.contains("SUCCESS"), "{file}: {out}{err}");
    }
}
