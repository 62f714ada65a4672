//! Opening SQLite databases.

use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use crate::storage::{EmulatorOpenError, Storage};

/// How long another program, such as a backup, may have a database locked.
const BUSY_TIMEOUT: Duration = Duration::from_secs(3);

/// Statements kept prepared.
const CACHED_STATEMENTS: usize = 64;

/// Opens a database and creates its tables.
///
/// With a write-ahead log and `synchronous = NORMAL` a commit is in the hands of the operating
/// system when it returns, which outlives the process.
pub(crate) fn open_database(
    storage: &Storage,
    name: &str,
    schema: &str,
) -> Result<Connection, EmulatorOpenError> {
    let path = unlocked_path(storage, name)?;
    open_connection(&path, schema)
        .map_err(|error| EmulatorOpenError::damaged_database(&path, error))
}

fn open_connection(path: &str, schema: &str) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    connection.execute_batch(schema)?;
    Ok(connection)
}

/// The path of a database that can be written to. Checked first, because the layers above wait much longer for a locked
/// database and report less.
///
/// # Errors
///
/// [`EmulatorOpenError::Busy`] if another program has it locked.
pub(crate) fn unlocked_path(storage: &Storage, name: &str) -> Result<String, EmulatorOpenError> {
    storage.make_database_private(name)?;
    let path = storage.database_path(name);
    if matches!(storage, Storage::Memory) {
        return Ok(path);
    }
    match check_unlocked(&path) {
        Ok(()) => Ok(path),
        Err(error) => Err(match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                EmulatorOpenError::Busy(path)
            }
            _ => EmulatorOpenError::damaged_database(path, error),
        }),
    }
}

/// Begins and ends a transaction that writes.
fn check_unlocked(path: &str) -> rusqlite::Result<()> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK")
}
