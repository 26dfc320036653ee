//! Which file an event came from, as headers of its record: what Flume calls `fileHeader` and `basenameHeader`.
//!
//! Of a folder that is read it is the file that the event was in; of a spool whose layout is a file per event, the
//! event's own.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use super::{Layout, Settings, SourceSettings, folder, spool};
use crate::model::Header;

/// The headers that tell of the file; those without a name are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileHeaders {
    /// Bears its absolute path.
    pub path: Option<Arc<str>>,
    /// Bears its name without folders.
    pub name: Option<Arc<str>>,
}

impl FileHeaders {
    /// Whether none is wanted.
    pub fn is_empty(&self) -> bool {
        self.path.is_none() && self.name.is_none()
    }
}

/// Tells the files of a collector's events.
pub struct Origin {
    headers: FileHeaders,
    /// Absolute.
    folder: PathBuf,
    is_watched: bool,
}

impl Origin {
    /// Those of this collector's; `None` if no header is wanted, or there are no files.
    pub fn of(settings: &Settings) -> Option<Self> {
        let (folder, is_watched) = match (&settings.source, &settings.spool.layout) {
            (SourceSettings::Folder(folder), _) => (folder.path.clone(), true),
            (_, Layout::FilePerEvent(_)) => (spool::event_folder(&settings.spool.path), false),
            (_, Layout::Packed) => return None,
        };
        let headers = settings.file_headers.clone();
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        (!headers.is_empty()).then_some(Self { headers, folder, is_watched })
    }

    /// The headers of the event with this token, which lies in a file of this name if it has one of its own.
    pub fn headers(&self, token: &[u8], own: Option<&str>) -> Vec<Header> {
        let file =
            if self.is_watched { folder::file_of(&self.folder, token) } else { own.map(|own| self.folder.join(own)) };
        let Some(file) = file else { return Vec::new() };
        let bytes = |text: &OsStr| Bytes::copy_from_slice(text.as_bytes());
        let path = self.headers.path.iter().map(|key| (key.clone(), bytes(file.as_os_str())));
        let name = self.headers.name.iter().map(|key| (key.clone(), bytes(base(&file))));
        path.chain(name).collect()
    }
}

fn base(file: &Path) -> &OsStr {
    file.file_name().unwrap_or(file.as_os_str())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::collect::{
        FolderSettings, SpoolSettings, SseSettings,
        folder::{Done, Order, RecordOf},
        spool::naming::{self, Template},
    };

    fn settings(source: SourceSettings, layout: Layout) -> Settings {
        Settings {
            source,
            id: None,
            dedupe_window: Duration::from_secs(1),
            dedupe_ids: 20_000,
            spool: SpoolSettings {
                path: "/spool".into(),
                layout,
                max_bytes: 1 << 30,
                roll_bytes: 1 << 20,
                sync_within: Duration::from_millis(1),
            },
            file_headers: FileHeaders { path: Some("file".into()), name: Some("basename".into()) },
        }
    }

    fn stream() -> SourceSettings {
        SourceSettings::Sse(SseSettings {
            url: "http://localhost".to_owned(),
            contact: None,
            reconnect_after: Duration::from_secs(1),
            silence: Duration::from_secs(1),
            max_event: 1,
        })
    }

    fn folder() -> SourceSettings {
        SourceSettings::Folder(Box::new(FolderSettings {
            path: "/in".into(),
            sub_folders: true,
            include: None,
            ignore: None,
            order: Order::Oldest,
            record: RecordOf::Line,
            done: Done::Delete,
            settle: Duration::ZERO,
            look: Duration::from_secs(1),
            max_event: 1,
        }))
    }

    fn files() -> Layout {
        Layout::FilePerEvent(Template::parse(naming::DEFAULT).unwrap())
    }

    fn told(settings: &Settings, own: Option<&str>) -> Vec<(String, String)> {
        let token = br#"{"f":"a/b.log","d":1,"i":2,"s":3,"m":4,"b":5,"a":6}"#;
        let headers = Origin::of(settings).unwrap().headers(token, own);
        headers.iter().map(|(key, value)| (key.to_string(), String::from_utf8(value.to_vec()).unwrap())).collect()
    }

    fn expected(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn an_event_of_a_folder_tells_the_file_that_it_was_in_however_it_is_spooled() {
        for (layout, own) in [(Layout::Packed, None), (files(), Some("own.json"))] {
            let told = told(&settings(folder(), layout), own);
            assert_eq!(told, expected(&[("file", "/in/a/b.log"), ("basename", "b.log")]));
        }
    }

    #[test]
    fn an_event_that_is_a_file_tells_that() {
        let told = told(&settings(stream(), files()), Some("change_1.json"));
        assert_eq!(told, expected(&[("file", "/spool/events/change_1.json"), ("basename", "change_1.json")]));
    }

    #[test]
    fn only_what_is_wanted_is_told() {
        let mut wanted = settings(folder(), Layout::Packed);
        wanted.file_headers.path = None;
        assert_eq!(told(&wanted, None), expected(&[("basename", "b.log")]));
        wanted.file_headers.name = None;
        assert!(Origin::of(&wanted).is_none());
        assert!(Origin::of(&settings(stream(), Layout::Packed)).is_none());
        // What an earlier run has left in the other layout has none.
        assert_eq!(told(&settings(stream(), files()), None), expected(&[]));
    }
}
