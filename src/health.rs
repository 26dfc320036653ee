//! What was looked at, and how it was found: the lines of `howdah doctor` and `howdah topics check`.

use std::fmt;

use serde::Serialize;

use crate::fault::Fault;

/// How something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Fine,
    /// It works, and costs something that a person should know of.
    Doubtful,
    /// It does not work.
    Wrong,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it was found.
    pub verdict: Verdict,
    /// What it is: `topic wiki_changes`.
    pub subject: String,
    /// How it is, and how to mend it: lower case, no stop.
    pub text: String,
}

impl Finding {
    /// Something that is as it should be.
    pub fn fine(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fine, subject: subject.into(), text: text.into() }
    }

    /// Something that a person should know of.
    pub fn doubtful(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Doubtful, subject: subject.into(), text: text.into() }
    }

    /// Something that does not work.
    pub fn wrong(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Wrong, subject: subject.into(), text: text.into() }
    }

    /// Something that could not be done.
    pub fn failed(subject: impl Into<String>, fault: &Fault) -> Self {
        Self::wrong(subject, fault.message.clone())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.verdict {
            Verdict::Fine => "ok",
            Verdict::Doubtful => "NOTE",
            Verdict::Wrong => "WRONG",
        };
        write!(f, "{word:<5} {}: {}", self.subject, self.text)
    }
}
