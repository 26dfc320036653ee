//! Texts that nobody is shown.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use crate::fault::{Fault, Result, Retry};

/// Bytes of a secret's file at most.
const LARGEST: usize = 64 * 1024;

/// A text that is sent to a service and never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The text itself.
    Text(String),
    /// What stands in a file, without the line break at its end; read anew at each use.
    File {
        /// The file.
        path: PathBuf,
        /// What goes before it: `Bearer `.
        prefix: String,
    },
}

impl Secret {
    /// The text as it is now.
    ///
    /// # Errors
    /// `User`, again with back-off: the file cannot be read, or holds no text.
    pub async fn read(&self) -> Result<String> {
        let (path, prefix) = match self {
            Self::Text(text) => return Ok(text.clone()),
            Self::File { path, prefix } => (path.clone(), prefix),
        };
        let read = tokio::task::spawn_blocking(move || content(&path)).await;
        let text = read.map_err(|error| Fault::internal(format!("a helper thread died: {error}")))??;
        Ok(format!("{prefix}{text}"))
    }
}

fn content(path: &Path) -> Result<String> {
    let place = path.display();
    let wrong = |what: &str| Fault::user(format!("{place}: {what}")).retry(Retry::Backoff);
    let bytes = fs::read(path).map_err(|error| wrong(&error.to_string()))?;
    if bytes.len() > LARGEST {
        return Err(wrong("too large for a secret"));
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong("holds no text"))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(wrong("is empty")),
        text => Ok(text.to_owned()),
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("…"),
            Self::File { path, .. } => write!(f, "… of {}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_secret_is_read_anew_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let secret = Secret::File { path: path.clone(), prefix: "Bearer ".to_owned() };
        assert_eq!(secret.read().await.unwrap_err().retry, Retry::Backoff);
        for (written, read) in [("s3cret\n", "Bearer s3cret"), ("other\r\n", "Bearer other")] {
            fs::write(&path, written).unwrap();
            assert_eq!(secret.read().await.unwrap(), read);
        }
        for bad in [&b"\n"[..], b"\xff\xfe", &[b'a'; LARGEST + 1]] {
            fs::write(&path, bad).unwrap();
            assert!(secret.read().await.unwrap_err().message.starts_with(&path.display().to_string()));
        }
        let text = Secret::Text("s3cret".to_owned());
        assert_eq!(text.read().await.unwrap(), "s3cret");
        assert!(!format!("{text:?} {secret:?}").contains("s3cret"));
    }
}
