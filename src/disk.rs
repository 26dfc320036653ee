//! Folders of the local file system that must survive a power cut.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use uuid::Uuid;

use crate::fault::{Domain, Fault, Result};

/// Makes a folder with all that leads to it, and makes durable that they are there: a file that was
/// synced is gone all the same if the name of a folder above it was not.
///
/// # Errors
/// It cannot be made or synced.
pub fn make_folder(folder: &Path) -> Result<()> {
    let io = |error: io::Error| Fault::io(folder.display(), &error);
    let whole = std::path::absolute(folder).map_err(io)?;
    let stood = whole.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned();
    fs::create_dir_all(&whole).map_err(io)?;
    // From the folder that stood before on: its list of names has changed too. The one above the
    // folder is synced in any case: a start that was cut off may have made it.
    let above = whole.parent().unwrap_or(&whole);
    for path in whole.ancestors().take_while(|path| path.starts_with(&stood) || *path == above) {
        match sync_folder(path) {
            // Who stood before may be for others to read.
            Err(fault) if fault.domain == Domain::User && stood.starts_with(path) && path != whole => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// Makes durable which files a folder has.
///
/// # Errors
/// It cannot be synced.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| Fault::io(folder.display(), &error))
}

/// Bytes that this process may still write to the disk of a folder.
///
/// # Errors
/// It cannot be asked.
pub fn free(folder: &Path) -> Result<u64> {
    let found = rustix::fs::statvfs(folder).map_err(|error| Fault::io(folder.display(), &error.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Refuses a folder in which this process may not write. A disk that is full is no reason: it may have
/// room later.
///
/// # Errors
/// `User`, with what to do.
pub fn check_writable(folder: &Path) -> Result<()> {
    let probe = folder.join(format!(".probe-{}", Uuid::new_v4().simple()));
    let io = |error: io::Error| Fault::io(folder.display(), &error);
    let probed = make_folder(folder)
        .and_then(|()| File::create_new(&probe).map_err(io))
        .and_then(|_| fs::remove_file(&probe).map_err(io));
    match probed {
        Err(fault) if fault.domain == Domain::User => {
            let uid = rustix::process::geteuid().as_raw();
            let text = format!("{fault}; folder {} must be writable for uid {uid}", folder.display());
            Err(Fault::user(text).retry(fault.retry))
        }
        _ => Ok(()),
    }
}
