//! The folder and the file in it: the lock, the schema, and what SQLite's errors mean.
//!
//! ```text
//! <folder>/lock         held by the one process that writes
//! <folder>/bus.sqlite   and SQLite's own bus.sqlite-wal, bus.sqlite-shm
//! ```
//! Settings, with their reasons:
//!
//! - WAL with `synchronous = FULL`: a commit that was answered is on disk (one `fdatasync` each),
//!   and readers never wait for the writer.
//! - `auto_vacuum = INCREMENTAL`: after an outage the file may be many gigabytes; the disk is
//!   shared with the archive and must get them back. The price is one pointer page in about 1,600.
//!   Some free pages are kept for reuse, so that a bus in its steady state moves nothing
//!   (see `upkeep`).
//! - pages of 8 KiB: blocks are up to 1 MiB, but on a quiet pipeline each commit is a few pages.
//! - no `mmap`: a truncated file must be an error, not a SIGBUS.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, ffi};
use rustix::fs::{FlockOperation, flock};

use crate::{
    disk::check_writable,
    fault::{Fault, Kind, Result, Retry},
};

/// The version of the schema and of the blocks, together.
const FORMAT: i64 = 1;

/// How long a connection waits for another one's lock (a checkpoint, a recovery).
const BUSY: Duration = Duration::from_secs(5);

/// Numbers of partitions (`part`) are never used again: what an old topic left behind can be
/// deleted piece by piece while a new one of the same name is in use. `checksum` covers the rows
/// on which identity and offsets hang; blocks have their own.
const SCHEMA: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE topics (
        name TEXT PRIMARY KEY NOT NULL, id BLOB NOT NULL, num_partitions INTEGER NOT NULL,
        compact INTEGER NOT NULL, retention_ms INTEGER, retention_bytes INTEGER, checksum INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE partitions (
        part INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, partition INTEGER NOT NULL,
        low INTEGER NOT NULL, next INTEGER NOT NULL, time INTEGER NOT NULL, bytes INTEGER NOT NULL,
        fresh INTEGER NOT NULL, kept INTEGER NOT NULL, checksum INTEGER NOT NULL,
        UNIQUE (topic, partition)
    );
    CREATE TABLE blocks (
        row INTEGER PRIMARY KEY, part INTEGER NOT NULL, base INTEGER NOT NULL, next INTEGER NOT NULL,
        first_time INTEGER NOT NULL, last_time INTEGER NOT NULL, num_records INTEGER NOT NULL,
        bytes INTEGER NOT NULL, block BLOB NOT NULL, UNIQUE (part, base)
    );
    CREATE TABLE dropped (part INTEGER PRIMARY KEY);
    CREATE TABLE producers (id TEXT PRIMARY KEY NOT NULL, epoch INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE group_offsets (
        name TEXT NOT NULL, part INTEGER NOT NULL, next INTEGER NOT NULL, PRIMARY KEY (name, part)
    ) WITHOUT ROWID;
";

/// The database file of a bus's folder.
pub(super) fn file_of(folder: &Path) -> PathBuf {
    folder.join("bus.sqlite")
}

/// Makes the folder if need be and takes its lock, which is free again when the file is dropped
/// or the process is gone.
///
/// # Errors
/// `User` when another process has it.
pub(super) fn lock(folder: &Path) -> Result<File> {
    check_writable(folder)?;
    let path = folder.join("lock");
    let at = |error| Fault::io(path.display(), &error);
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(at)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            file.set_len(0).map_err(at)?;
            // For the message below only, so it does not matter whether it gets there.
            let _ = write!(file, "{}", rustix::process::getpid().as_raw_nonzero());
            Ok(file)
        }
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            Err(Fault::user(format!(
                "{}: this bus is in use by another howdah (process {}): stop it, or give this one a folder of its own",
                folder.display(),
                if holder.is_empty() { "unknown" } else { &holder },
            ))
            .retry(Retry::Backoff))
        }
        Err(error) => Err(at(error.into())),
    }
}

/// The connection that writes; makes the file if there is none.
///
/// # Errors
/// `User` for a file of another version or of another program, [`Kind::Lost`] for a damaged one.
pub(super) fn open_writer(folder: &Path) -> Result<Connection> {
    let file = file_of(folder);
    let open = || -> Result<Connection, Trouble> {
        let mut conn = Connection::open_with_flags(
            &file,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        conn.busy_timeout(BUSY)?;
        // The first two count only for a file that is made now.
        conn.pragma_update(None, "page_size", 8192)?;
        conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        conn.pragma_update(None, "journal_mode", "WAL")?;
        conn.pragma_update(None, "synchronous", "FULL")?;
        conn.pragma_update(None, "cache_size", -8_000)?;
        conn.pragma_update(None, "wal_autocheckpoint", 2_000)?;
        conn.pragma_update(None, "journal_size_limit", 64 << 20)?;
        conn.set_prepared_statement_cache_capacity(64);
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if tx.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))? == 0 {
            tx.execute_batch(SCHEMA)?;
            tx.execute("INSERT INTO meta VALUES ('format', ?1), ('settled', 0)", [FORMAT])?;
        }
        check_format(&tx, &file)?;
        tx.commit()?;
        Ok(conn)
    };
    open().map_err(|trouble| trouble.at(&file))
}

/// A connection that reads, and cannot do anything else.
///
/// # Errors
/// As [`open_writer`]; `User` also when there is no bus.
pub(super) fn open_reader(folder: &Path) -> Result<Connection> {
    let file = file_of(folder);
    if !file.exists() {
        let text = format!("{}: there is no bus; `howdah run` makes it", file.display());
        return Err(Fault::user(text).retry(Retry::Backoff));
    }
    let open = || -> Result<Connection, Trouble> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(&file, flags)?;
        conn.busy_timeout(BUSY)?;
        conn.pragma_update(None, "cache_size", -2_000)?;
        check_format(&conn, &file)?;
        Ok(conn)
    };
    open().map_err(|trouble| trouble.at(&file))
}

fn check_format(conn: &Connection, file: &Path) -> Result<(), Trouble> {
    let ours = conn.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'meta'", [], |row| row.get::<_, i64>(0));
    if ours? == 0 {
        return Err(Fault::user(format!("{}: this is no bus of howdah's", file.display())).into());
    }
    let format = conn
        .query_row("SELECT value FROM meta WHERE name = 'format'", [], |row| row.get::<_, i64>(0))
        .optional()?
        .ok_or_else(|| Fault::data(format!("{}: the format's number is missing", file.display())).kind(Kind::Lost))?;
    if format == FORMAT {
        return Ok(());
    }
    Err(Fault::user(format!(
        "{}: written in format {format}, and this howdah knows format {FORMAT}: run the howdah that wrote it",
        file.display()
    ))
    .into())
}

/// What stops a piece of work on the database: SQLite itself, or a decision of ours.
#[derive(Debug)]
pub(super) enum Trouble {
    /// SQLite: the whole transaction is in doubt.
    Sql(rusqlite::Error),
    /// A decision: only what was asked for is refused.
    Fault(Fault),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Trouble {
    /// The fault, in words that name the file.
    pub(super) fn at(self, file: &Path) -> Fault {
        match self {
            Self::Fault(fault) => fault,
            Self::Sql(error) => classify(&error, file),
        }
    }
}

/// Whose fault an error of SQLite's is.
pub(super) fn classify(error: &rusqlite::Error, file: &Path) -> Fault {
    use rusqlite::Error as E;
    let message = format!("{}: {error}", file.display());
    match error {
        E::SqliteFailure(code, _) | E::SqlInputError { error: code, .. } => classify_code(*code, message),
        // Our own statements ask only for what our own schema holds: if a column is of another
        // type or a row is missing, somebody else changed the bytes.
        E::FromSqlConversionFailure(..)
        | E::IntegralValueOutOfRange(..)
        | E::InvalidColumnType(..)
        | E::Utf8Error(..)
        | E::QueryReturnedNoRows
        | E::QueryReturnedMoreThanOneRow
        | E::StatementChangedRows(_) => damaged(message),
        E::InvalidPath(_) | E::NulError(_) => Fault::user(message),
        _ => Fault::internal(message),
    }
}

fn classify_code(code: ffi::Error, message: String) -> Fault {
    use ErrorCode as C;
    match code.code {
        C::DiskFull => full(message),
        C::SystemIoFailure => match code.extended_code {
            // The file that readers and writer share is grown by writing to it.
            ffi::SQLITE_IOERR_SHMSIZE => full(message),
            ffi::SQLITE_IOERR_SHORT_READ | ffi::SQLITE_IOERR_CORRUPTFS | ffi::SQLITE_IOERR_DATA => damaged(message),
            _ => Fault::external(message),
        },
        C::DatabaseCorrupt | C::NotADatabase | C::TypeMismatch | C::ConstraintViolation => damaged(message),
        // A schema that cannot be read, or that lacks our tables.
        C::Unknown => damaged(message),
        C::PermissionDenied | C::ReadOnly | C::CannotOpen => Fault::user(message).retry(Retry::Backoff),
        C::DatabaseBusy | C::DatabaseLocked | C::FileLockingProtocolFailed | C::OutOfMemory => Fault::external(message),
        C::TooBig => Fault::data(message),
        _ => Fault::internal(message),
    }
}

fn full(message: String) -> Fault {
    Fault::external(message).kind(Kind::Full)
}

/// What a person has to know of a damaged bus.
pub(super) const DAMAGED: &str = "the bus is damaged: put it aside and start with a new one; what was archived and \
    counted is safe, the rest is lost unless its source sends it again";

fn damaged(message: String) -> Fault {
    Fault::data(format!("{message}; {DAMAGED}")).kind(Kind::Lost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Domain;

    fn check(extended: i32, domain: Domain, kind: Kind) {
        let error = rusqlite::Error::SqliteFailure(ffi::Error::new(extended), None);
        let fault = classify(&error, Path::new("/bus/bus.sqlite"));
        assert_eq!((fault.domain, fault.kind), (domain, kind), "{extended}");
        assert!(fault.message.starts_with("/bus/bus.sqlite: "), "{fault}");
    }

    #[test]
    fn errors_of_sqlite_find_their_owner() {
        check(ffi::SQLITE_FULL, Domain::External, Kind::Full);
        check(ffi::SQLITE_IOERR_SHMSIZE, Domain::External, Kind::Full);
        check(ffi::SQLITE_IOERR_READ, Domain::External, Kind::Other);
        check(ffi::SQLITE_IOERR_SHORT_READ, Domain::Data, Kind::Lost);
        check(ffi::SQLITE_CORRUPT, Domain::Data, Kind::Lost);
        check(ffi::SQLITE_NOTADB, Domain::Data, Kind::Lost);
        check(ffi::SQLITE_CONSTRAINT_UNIQUE, Domain::Data, Kind::Lost);
        check(ffi::SQLITE_CANTOPEN, Domain::User, Kind::Other);
        check(ffi::SQLITE_READONLY, Domain::User, Kind::Other);
        check(ffi::SQLITE_BUSY, Domain::External, Kind::Other);
        check(ffi::SQLITE_MISUSE, Domain::Internal, Kind::Other);
    }
}
