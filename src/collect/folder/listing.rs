//! Which files are to be taken, and in which order.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{Done, FolderSettings, Identity, Order, Stand};
use crate::{
    fault::{Fault, Result},
    model::Millis,
};

/// A file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its path within the folder.
    pub file: PathBuf,
    /// Which file it is.
    pub identity: Identity,
}

impl Found {
    /// Whether it is that file, perhaps changed since or, where that can be told, under another name.
    pub fn is_file_of(&self, file: &Path, identity: &Identity) -> bool {
        self.identity == *identity || self.identity.is_file_of(&self.file, identity, file)
    }

    /// Whether it is the file of this stand, as of [`Found::is_file_of`].
    pub fn is_of(&self, stand: &Stand) -> bool {
        self.is_file_of(&stand.file, &stand.identity)
    }
}

/// What is there to be taken, in the order in which it is taken, as of this time. Files whose names are no text are
/// passed over, and told to `nameless`.
///
/// # Errors
/// The folder cannot be read.
pub(super) fn list(settings: &FolderSettings, now: Millis, nameless: &mut dyn FnMut(PathBuf)) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let about = fs::metadata(&settings.path).map_err(|error| Fault::io(settings.path.display(), &error))?;
    let mut visited = BTreeSet::from([(about.dev(), about.ino())]);
    walk(settings, Path::new(""), &mut found, nameless, &mut visited)?;
    let settled = |found: &Found| is_settled(settings, found.identity.changed, now);
    found.retain(settled);
    sort(settings.order, &mut found);
    Ok(found)
}

/// A time ahead of this clock's is another clock's, and says nothing.
fn is_settled(settings: &FolderSettings, changed: i64, now: Millis) -> bool {
    let settle = i128::try_from(settings.settle.as_nanos()).unwrap_or(i128::MAX);
    let age = i128::from(now) * 1_000_000 - i128::from(changed);
    age >= settle || age < -settle
}

fn sort(order: Order, found: &mut [Found]) {
    let name = |found: &Found| found.file.as_os_str().as_encoded_bytes().to_owned();
    match order {
        Order::Oldest => found.sort_by_cached_key(|found| (found.identity.changed, name(found))),
        Order::Youngest => found.sort_by_cached_key(|found| (std::cmp::Reverse(found.identity.changed), name(found))),
        Order::Name => found.sort_by_cached_key(name),
    }
}

fn walk(
    settings: &FolderSettings,
    below: &Path,
    found: &mut Vec<Found>,
    nameless: &mut dyn FnMut(PathBuf),
    visited: &mut BTreeSet<(u64, u64)>,
) -> Result<()> {
    let folder = settings.path.join(below);
    let io = |error: io::Error| Fault::io(folder.display(), &error);
    let entries = match fs::read_dir(&folder) {
        // Somebody has cleared a folder of a folder away meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !below.as_os_str().is_empty() => return Ok(()),
        read => read.map_err(io)?,
    };
    for entry in entries {
        let entry = entry.map_err(io)?;
        let path = below.join(entry.file_name());
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            nameless(path);
            continue;
        };
        if name.starts_with('.') {
            continue;
        }
        // Followed, where it is a link: what is read is what it leads to.
        let Ok(about) = fs::metadata(settings.path.join(&path)) else { continue };
        if about.is_dir() {
            // A link may lead back to where it stands in.
            let is_new = settings.sub_folders && visited.insert((about.dev(), about.ino()));
            if is_new && !is_done_folder(settings, &about) {
                walk(settings, &path, found, nameless, visited)?;
            }
        } else if about.is_file() && is_wanted(settings, &name) {
            found.push(Found { file: path, identity: Identity::of(&about) });
        }
    }
    Ok(())
}

/// However it is written in the settings.
fn is_done_folder(settings: &FolderSettings, about: &fs::Metadata) -> bool {
    let Done::Move(folder) = &settings.done else { return false };
    fs::metadata(folder).is_ok_and(|done| (done.dev(), done.ino()) == (about.dev(), about.ino()))
}

fn is_wanted(settings: &FolderSettings, name: &str) -> bool {
    let matches = |pattern: &Option<regex::Regex>, otherwise: bool| {
        pattern.as_ref().map_or(otherwise, |pattern| pattern.is_match(name))
    };
    let is_done = matches!(&settings.done, Done::Rename(suffix) if name.ends_with(suffix.as_str()));
    !is_done && matches(&settings.include, true) && !matches(&settings.ignore, false)
}
