//! Whose fault it is, whether to try again, and, for a write, whether it may have happened.
//!
//! Every adapter (bus, store, source) turns its own errors into a [`Fault`] in one exhaustive
//! match; everything above decides by [`Fault::retry`] and [`Fault::effect`] and never looks at
//! the text. A fault is logged where it is handled, never where it is passed on.

use std::{fmt, time::Duration};

/// Whose fault it is: who has to do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// The person who wrote the configuration or typed the command.
    User,
    /// The data: a record, a file or an answer that cannot be what it claims to be.
    Data,
    /// A service, disk or network outside this process.
    External,
    /// howdah itself: an invariant that should hold does not.
    Internal,
}

/// Whether doing the same again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// It will fail again until somebody changes something.
    Never,
    /// It may pass; wait as the caller's own back-off says.
    Backoff,
    /// The other side named the time to wait.
    After(Duration),
}

/// For a write that failed: is it surely not done, or may it have happened (now or later)?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Nothing happened and nothing will.
    NotDone,
    /// It may have happened, or may still: read back before deciding anything.
    Unknown,
}

/// Why the holder of something exclusive has to stop; see [`Fault::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Nothing more specific than domain and retry.
    Other,
    /// Another holder with a newer epoch exists: stop, never re-open.
    Fenced,
    /// The topic is not the one this chain or table was built on.
    Recreated,
    /// A write stayed unknown after every read-back.
    Unknown,
    /// Bytes that should be there are not, or are different: loss.
    Lost,
    /// No space left where something must be written.
    Full,
}

/// One failure, classified.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Fault {
    /// Who has to act.
    pub domain: Domain,
    /// Whether again can help.
    pub retry: Retry,
    /// For writes: whether it may have happened.
    pub effect: Effect,
    /// The few cases that callers treat apart.
    pub kind: Kind,
    /// What went wrong and where (file, line, key, partition, offset), lower case, no stop.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Fault {
    fn new(domain: Domain, retry: Retry, message: impl Into<String>) -> Self {
        Self { domain, retry, effect: Effect::NotDone, kind: Kind::Other, message: message.into() }
    }

    /// The person's: never again without a change.
    pub fn user(message: impl Into<String>) -> Self {
        Self::new(Domain::User, Retry::Never, message)
    }

    /// The data's: never again.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(Domain::Data, Retry::Never, message)
    }

    /// A service's, disk's or network's: again with back-off.
    pub fn external(message: impl Into<String>) -> Self {
        Self::new(Domain::External, Retry::Backoff, message)
    }

    /// Ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Domain::Internal, Retry::Never, message)
    }

    /// The same fault of a write that may have happened.
    #[must_use]
    pub fn unknown_effect(mut self) -> Self {
        self.effect = Effect::Unknown;
        self
    }

    /// The same fault with another retry rule.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The same fault, of a special kind. What is fenced or built on another topic is so for good,
    /// whatever was to be tried again before.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        if matches!(kind, Kind::Fenced | Kind::Recreated) {
            self.retry = Retry::Never;
        }
        self
    }

    /// The same fault with the place put in front: `"<place>: <message>"`.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// An I/O error at `place`. Disk full, permission and the like are told apart by
    /// [`std::io::ErrorKind`]; whether a write may have happened is the caller's knowledge
    /// ([`Fault::unknown_effect`]).
    pub fn io(place: impl fmt::Display, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as K;
        let message = format!("{place}: {error}");
        match error.kind() {
            K::StorageFull | K::QuotaExceeded | K::FileTooLarge => Self::external(message).kind(Kind::Full),
            K::PermissionDenied | K::ReadOnlyFilesystem | K::NotADirectory | K::IsADirectory => {
                Self::user(message).retry(Retry::Backoff)
            }
            K::InvalidData | K::UnexpectedEof => Self::data(message),
            _ => Self::external(message),
        }
    }
}

/// What fallible parts return.
pub type Result<T, E = Fault> = std::result::Result<T, E>;
