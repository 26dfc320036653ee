//! Files that hold an hour of all lanes, and their names.
//!
//! Where plain readers see it an hour is `dt=<day>/<hour>.parquet`. Its *generation* is 0 until the hour
//! is rebuilt; each rebuild has the next one, which is then part of the name:
//! `dt=<day>/<hour>-<generation>.parquet`. So a name never stands for other rows than before, and what a
//! writer that slept brings too late is known by it.

use crate::{
    model::fresh_uuid,
    table::{delta::REBUILT, delta::STAGING, grid::Hour},
};

/// An hour of all lanes, of some generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HourFile {
    /// The hour.
    pub hour: Hour,
    /// How often it was rebuilt.
    pub generation: u64,
}

impl HourFile {
    /// Where plain readers see it, within the table's folder.
    pub fn final_path(self) -> String {
        let Self { hour, generation } = self;
        let suffix = if generation == 0 { String::new() } else { format!("-{generation}") };
        format!("dt={}/{}{suffix}.parquet", hour.date(), hour.name())
    }

    /// A name for it on its way there, never used before.
    pub fn staged_path(self) -> String {
        format!("{STAGING}/{}", self.hidden_name())
    }

    /// A name for it as only the log's readers see it, never used before.
    pub fn rebuilt_path(self) -> String {
        format!("{REBUILT}/{}", self.hidden_name())
    }

    fn hidden_name(self) -> String {
        let Self { hour, generation } = self;
        format!("{}-{}-{generation}-{}.parquet", hour.date(), hour.name(), fresh_uuid().simple())
    }

    /// The one that lies at this path for plain readers.
    pub fn of_final(path: &str) -> Option<Self> {
        let (day, name) = path.strip_prefix("dt=")?.split_once('/')?;
        let name = name.strip_suffix(".parquet")?;
        let (hour, generation) = name.split_once('-').unwrap_or((name, "0"));
        Self::of(day, hour, generation)
    }

    /// The one that only the log's readers see, by its path.
    pub fn of_rebuilt(path: &str) -> Option<Self> {
        Self::of_hidden(path.strip_prefix(REBUILT)?.strip_prefix('/')?)
    }

    /// The one of this name within its hidden folder.
    pub fn of_hidden(name: &str) -> Option<Self> {
        let (day, rest) = name.strip_suffix(".parquet")?.split_at_checked("2015-09-12".len())?;
        let mut parts = rest.strip_prefix('-')?.splitn(3, '-');
        let (hour, generation) = (parts.next()?, parts.next()?);
        parts.next().and_then(|_uuid| Self::of(day, hour, generation))
    }

    fn of(day: &str, hour: &str, generation: &str) -> Option<Self> {
        let hour = Hour::parse(&format!("{day}T{hour}:00:00Z"))?;
        Some(Self { hour, generation: generation.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_hour_and_generation() {
        let hour = Hour::parse("2015-09-12T04:00:00Z").unwrap();
        for (generation, path) in [(0, "dt=2015-09-12/04.parquet"), (12, "dt=2015-09-12/04-12.parquet")] {
            let file = HourFile { hour, generation };
            assert_eq!((file.final_path().as_str(), HourFile::of_final(path)), (path, Some(file)));
            assert_eq!(HourFile::of_rebuilt(&file.rebuilt_path()), Some(file));
            let staged = file.staged_path();
            assert_eq!(HourFile::of_hidden(staged.strip_prefix("_final/").unwrap()), Some(file));
        }
        let odd =
            ["", "dt=2015-09-12/_SUCCESS", "dt=2015-09-12/04-a.parquet", "dt=2015-09-31/04.parquet", "é/é.parquet"];
        for odd in odd {
            assert_eq!(
                (HourFile::of_final(odd), HourFile::of_hidden(odd), HourFile::of_rebuilt(odd)),
                (None, None, None)
            );
        }
        for odd in ["2015-09-12", "2015-09-12-14-0.parquet", "2015-09-12-14-00ff", "é015-09-12é14-0-0.parquet"] {
            assert_eq!(HourFile::of_hidden(odd), None, "{odd}");
        }
    }
}
