//! What single texts must look like: names, paths, templates, addresses, columns.
//!
//! Each function takes the text as filled in and answers with the value, or with what is wrong and
//! what is allowed.

pub mod services;

use std::{
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    complaint::quoted,
    form::Text,
    quantity::{DAY, HOUR, MINUTE, show_duration},
};
use crate::{
    collect::spool::naming,
    model::{Pointer, TopicName},
    store::StorePath,
};

/// How a pipeline, a stage or a topic is named.
pub const NAME: Text =
    Text { words: "a name: 1 to 100 of the characters a-z, 0-9, \"_\" and \"-\"", pattern: "[a-z0-9_-]{1,100}" };

/// How a topic is referred to.
pub const TOPIC: Text = Text { words: "a topic's name", ..NAME };

/// How a collector is referred to.
pub const COLLECTOR: Text = Text { words: "a collector's name", ..NAME };

/// How a JSON pointer is written.
pub const POINTER: Text = Text { words: "a JSON pointer, like \"/meta/id\"", pattern: r"/(?:[^$~]|\$\$|~[01])*" };

/// How a column is named.
pub const COLUMN: Text = Text { words: "a column's name", pattern: "[A-Za-z_][A-Za-z0-9_]{0,99}" };

/// How a header of records is named.
pub const RECORD_HEADER: Text = Text {
    words: "a header's name: 1 to 100 letters, digits, \"_\", \"-\" and \".\"",
    pattern: "[A-Za-z0-9_.-]{1,100}",
};

/// How a folder of this machine is written.
pub const LOCAL_PATH: Text = Text {
    words: "a path of this machine",
    pattern: r"(?:[^$~\x00-\x1f\x7f-\x9f]|\$\$)(?:[^$\x00-\x1f\x7f-\x9f]|\$\$)*",
};

/// How a path within the store is written.
pub const STORE_PATH: Text = Text {
    words: "a path within the store that begins with a slash, like \"/user/bigdata/raw\"",
    pattern: r"(?:/+(?:[^$/_.:\\]|\$\$)(?:[^$/:\\]|\$\$)*)+/*",
};

/// How a folder's template is written: a path whose first folder has no field.
pub const TEMPLATE: Text = Text {
    pattern: concat!(
        r"/+(?:[^$/_.:\\%]|\$\$)(?:[^$/:\\%]|\$\$)*",
        r"(?:/+(?:[^$/_.:\\%]|\$\$|%[YmdHM])(?:[^$/:\\%]|\$\$|%[YmdHM])*)*/*"
    ),
    ..STORE_PATH
};

/// How the template of events' file names is written.
pub const FILE_NAME: Text = Text { words: naming::FORMS, pattern: r"(?:[^$/%\x00-\x1f\x7f-\x9f]|\$\$|%[YmdHMSf])+" };

/// How the first part of a file's name is written.
pub const PREFIX: Text = Text { words: "a string", pattern: "(?:[A-Za-z0-9-][A-Za-z0-9_.-]{0,63})?" };

/// How a place to begin is written.
pub const START: Text = Text {
    words: "\"earliest\", \"latest\", \"group:<name>\" or a time like \"2026-11-26T08:00:00Z\"",
    pattern: r"earliest|latest|group:(?:[^$]|\$\$)+|[0-9-]{10}[Tt ][0-9:.]+(?:[Zz]|[+-][0-9:]+)",
};

/// How an address is written.
pub const URL: Text = Text {
    words: "an address like \"https://host/path\"",
    pattern: r"[Hh][Tt][Tt][Pp][Ss]?:(?:[^$\s\x00-\x1f\x7f-\x9f]|\$\$)+",
};

/// How it is written whom to reach.
pub const CONTACT: Text =
    Text { words: "an e-mail address or a URL", pattern: r" *(?:[ -#%-'*-\[\]-~]|\$\$){0,200} *" };

/// The fields of a path's template, from coarse to fine, and how long each stands still.
pub const FIELDS: [(char, Option<Duration>); 5] =
    [('Y', None), ('m', None), ('d', Some(DAY)), ('H', Some(HOUR)), ('M', Some(MINUTE))];

/// A pipeline's or a stage's name.
///
/// # Errors
/// See the module's text, as for all of them.
pub fn name(text: &str) -> Result<&str, String> {
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if (1..=100).contains(&text.len()) && text.bytes().all(fine) {
        return Ok(text);
    }
    Err(format!("{} is not {NAME}", quoted(text)))
}

/// A header's name, as the user may choose it.
pub fn record_header(text: &str) -> Result<Arc<str>, String> {
    if text.starts_with("howdah.") {
        return Err(format!("{}: headers that begin with \"howdah.\" are howdah's own", quoted(text)));
    }
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if (1..=100).contains(&text.len()) && text.bytes().all(fine) {
        return Ok(text.into());
    }
    Err(format!("{} is not {RECORD_HEADER}", quoted(text)))
}

/// A topic's name, as the user may choose it.
pub fn topic(text: &str) -> Result<TopicName, String> {
    if text.ends_with(".dead_letters") {
        return Err(format!("{} is made by howdah and never declared", quoted(text)));
    }
    if text.starts_with("howdah_") {
        return Err(format!("{}: names that begin with \"howdah_\" are howdah's own", quoted(text)));
    }
    name(text).map(TopicName::from)
}

/// A pointer to something within the event.
pub fn pointer(text: &str) -> Result<Pointer, String> {
    if text.is_empty() {
        return Err(format!("\"\" is the whole event, allowed: {POINTER}"));
    }
    Pointer::parse(text)
}

/// A column's name.
pub fn column(text: &str) -> Result<String, String> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let begins = text.bytes().next().is_some_and(|b| !b.is_ascii_digit());
    if !begins || text.len() > 100 || !text.bytes().all(fine) {
        return Err(format!(
            "{} is no column's name: 1 to 100 of the characters a-z, A-Z, 0-9 and \"_\", no digit first",
            quoted(text)
        ));
    }
    Ok(text.to_owned())
}

/// A folder of this machine.
pub fn local_path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(format!("{} is no path of this machine", quoted(text)));
    }
    if text.starts_with('~') {
        return Err(format!("{}: only a shell fills in \"~\", write \"${{HOME}}\"", quoted(text)));
    }
    Ok(PathBuf::from(text))
}

/// The same folder, absolute and without `.` and `..`, for comparing. Links are not followed: the
/// folder need not exist yet.
pub fn absolute(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// A folder within the store that readers will find: no part begins with `_` or `.`.
pub fn store_path(text: &str) -> Result<StorePath, String> {
    if !text.starts_with('/') {
        return Err(format!("{} is not {STORE_PATH}", quoted(text)));
    }
    let path = StorePath::new(text).map_err(|fault| fault.message)?;
    if path.as_str() == "/" {
        return Err("the root of the store is no place for data, allowed: a folder below it".to_owned());
    }
    if path.as_str().split('/').any(|part| part.starts_with(['_', '.'])) {
        let hidden = "readers pass over folders that begin with \"_\" or \".\"";
        return Err(format!("{}: {hidden}", quoted(text)));
    }
    if path.as_str().chars().any(|c| c == ':' || c == '\\' || c.is_control()) {
        return Err(format!("{}: no colon, backslash or control character may stand in it", quoted(text)));
    }
    Ok(path)
}

/// A folder's template: a path in which `strftime` fields may stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The path with its fields, beginning with `/`, without a final slash.
    pub text: String,
    /// What comes before the first part with a field: the archive's own folder.
    pub folder: StorePath,
    /// The time in which the finest field stands still, a day at most; `None` without fields.
    pub finest: Option<Duration>,
}

/// A folder's template.
pub fn template(text: &str) -> Result<Template, String> {
    let path = store_path(text)?;
    let mut fields = Vec::new();
    for piece in path.as_str().split('%').skip(1) {
        let field = piece.chars().next();
        let Some(at) = FIELDS.iter().position(|(letter, _)| Some(*letter) == field) else {
            let field = field.map_or_else(|| "%".to_owned(), |c| format!("%{c}"));
            return Err(format!("{} is unknown, allowed: %Y, %m, %d, %H, %M", quoted(&field)));
        };
        fields.push(at);
    }
    let finest = fields.iter().max().map(|at| FIELDS[*at].1.unwrap_or(DAY));
    let plain = path.as_str().find('%').map_or(path.as_str(), |at| {
        let slash = path.as_str()[..at].rfind('/').unwrap_or_default();
        &path.as_str()[..slash]
    });
    if plain.is_empty() {
        return Err(format!("{}: a field may not stand in the first folder", quoted(text)));
    }
    let folder = StorePath::new(plain).map_err(|fault| fault.message)?;
    Ok(Template { text: path.as_str().to_owned(), folder, finest })
}

/// The first part of the names of an archive's files.
pub fn prefix(text: &str) -> Result<String, String> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if text.len() > 64 || !text.bytes().all(fine) || text.starts_with(['_', '.']) {
        return Err(format!(
            "{} is no prefix: at most 64 of the characters a-z, A-Z, 0-9, \"_\", \"-\" and \".\"; \
             readers pass over files that begin with \"_\" or \".\"",
            quoted(text)
        ));
    }
    Ok(text.to_owned())
}

/// How long buckets last: whole minutes that divide a day.
pub fn bucket(length: Duration) -> Result<Duration, String> {
    let millis = length.as_millis();
    if millis > 0 && millis.is_multiple_of(MINUTE.as_millis()) && DAY.as_millis().is_multiple_of(millis) {
        return Ok(length);
    }
    Err(format!(
        "{:?} is no bucket, allowed: whole minutes that divide a day, like \"10m\", \"1h\" or \"1d\"",
        show_duration(length)
    ))
}

/// The width of windows: it divides an hour or is whole hours.
pub fn window(width: Duration) -> Result<Duration, String> {
    let (millis, hour) = (width.as_millis(), HOUR.as_millis());
    if millis > 0 && (hour.is_multiple_of(millis) || millis.is_multiple_of(hour)) {
        return Ok(width);
    }
    Err(format!(
        "{:?} is no window, allowed: what divides an hour, like \"10s\", \"1m\" or \"15m\", or whole hours",
        show_duration(width)
    ))
}

/// The address of a source, and its host.
pub fn url(text: &str) -> Result<String, String> {
    host(text).map(|_| text.to_owned())
}

/// The host of an address. What is wrong is said without the text: it may hold a password.
pub fn host(text: &str) -> Result<String, String> {
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(format!("the address holds a space or a control character, allowed: {URL}"));
    }
    let url = reqwest::Url::parse(text).map_err(|error| format!("no address ({error}), allowed: {URL}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("the scheme {} is unknown, allowed: \"http\" and \"https\"", quoted(url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("an address holds no user and no password: it is shown in logs".to_owned());
    }
    url.host_str().map(str::to_owned).ok_or_else(|| format!("the address names no host, allowed: {URL}"))
}

/// Whether a host is one of Wikimedia's, who ask to know whom to reach.
pub fn is_wikimedia(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "wikimedia.org" || host.ends_with(".wikimedia.org")
}

/// Whom to reach; nothing written is `None`.
pub fn contact(text: &str) -> Result<Option<String>, String> {
    let text = text.trim_matches(' ');
    if text.len() > 200 || text.bytes().any(|b| !(b' '..=b'~').contains(&b) || matches!(b, b'(' | b')' | b'\\')) {
        return Err(format!(
            "{} cannot be sent in a User-Agent, allowed: an e-mail address or a URL of at most 200 ASCII characters, \
             without parentheses, backslashes and control characters",
            quoted(text)
        ));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::quantity::SECOND;

    #[test]
    fn a_template_knows_its_folder_and_its_finest_field() {
        fn check(text: &str, folder: &str, finest: Option<Duration>) {
            let template = template(text).unwrap();
            assert_eq!((template.folder.as_str(), template.finest), (folder, finest), "{text}");
        }
        check("/raw/wiki", "/raw/wiki", None);
        check("/raw/wiki//", "/raw/wiki", None);
        check("/raw/wiki/%Y/%m/%d", "/raw/wiki", Some(DAY));
        check("/raw/wiki/dt=%Y-%m-%d/%H", "/raw/wiki", Some(HOUR));
        check("/raw/%H%M/x/%Y", "/raw", Some(MINUTE));
        check("/raw/wiki-%Y", "/raw", Some(DAY));
        assert_eq!(template("/raw//%Y/").unwrap().text, "/raw/%Y");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for bad in ["raw", "", "/", "/%Y", "/raw/%S", "/raw/%%", "/raw/100%", "/raw/%-d", "/raw/../x", "/_raw/%Y"] {
            assert!(template(bad).is_err(), "{bad:?}");
        }
        for bad in ["/raw/.x", "/raw/%H:%M", "/raw/a\nb", "/raw/a\0"] {
            assert!(template(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn windows_divide_an_hour_or_are_whole_hours() {
        for good in [SECOND, 10 * SECOND, 90 * SECOND, MINUTE, 15 * MINUTE, HOUR, 2 * HOUR, 5 * HOUR, DAY] {
            assert_eq!(window(good), Ok(good));
        }
        for bad in [Duration::ZERO, 7 * SECOND, 7 * MINUTE, 40 * MINUTE, 90 * MINUTE, HOUR + SECOND] {
            assert!(window(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn buckets_are_whole_minutes_and_divide_a_day() {
        for good in [MINUTE, 10 * MINUTE, 90 * MINUTE, HOUR, 8 * HOUR, DAY] {
            assert_eq!(bucket(good), Ok(good));
        }
        for bad in [Duration::ZERO, 30 * SECOND, 7 * MINUTE, 5 * HOUR, 2 * DAY] {
            assert!(bucket(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_wikimedia_host_is_known_however_it_is_written() {
        for (url, expected) in [
            ("https://stream.wikimedia.org/v2/stream/recentchange", true),
            ("HTTPS://STREAM.WikiMedia.ORG:443/", true),
            ("https://stream.wikimedia.org./v2", true),
            ("https:stream.wikimedia.org", true),
            ("https://wikimedia.org", true),
            ("http://stream.wikimedia.org\\.example.com/", true),
            ("http://127.0.0.1:8080/v2/stream/recentchange", false),
            ("http://notwikimedia.org/", false),
            ("http://wikimedia.org.example.com/", false),
            ("http://example.com/wikimedia.org", false),
        ] {
            assert_eq!(host(url).map(|host| is_wikimedia(&host)), Ok(expected), "{url}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let bad = ["", "stream", "/v2", "ftp://a/b", "file:///etc/passwd", "http://", "http://a b/", "http://a:99999/"];
        for bad in bad.into_iter().chain(["http://a/\nb", " http://a/", "http://user@a/", "http://u:p@a/"]) {
            let wrong = url(bad).unwrap_err();
            assert!(!wrong.contains("u:p"), "{wrong}");
        }
    }

    #[test]
    fn a_contact_fits_into_a_header() {
        assert_eq!(contact(""), Ok(None));
        assert_eq!(contact("  "), Ok(None));
        assert_eq!(contact(" ops@example.org "), Ok(Some("ops@example.org".to_owned())));
        assert_eq!(contact("https://example.org/bot"), Ok(Some("https://example.org/bot".to_owned())));
        for bad in ["a\nb", "a\r\nX: y", "a\tb", "é@example.org", "a\u{7f}", "x) evil (", "a\\b"] {
            assert!(contact(bad).is_err(), "{bad:?}");
        }
        assert!(contact(&"x".repeat(201)).is_err());
    }

    #[test]
    fn what_is_no_folder_is_refused() {
        assert_eq!(local_path("./a b/é"), Ok(PathBuf::from("./a b/é")));
        for bad in ["", "a\0b", "a\nb", "~/data", "~"] {
            assert!(local_path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn paths_are_compared_without_dots() {
        let here = std::path::absolute("x").unwrap();
        for same in ["x", "./x", "x/", "x/.", "y/../x", "./y/./../x//"] {
            assert_eq!(absolute(Path::new(same)), here, "{same}");
        }
        assert_eq!(absolute(Path::new("/../a")), Path::new("/a"));
    }
}
