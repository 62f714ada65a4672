//! A SQLite database of our own.

use rusqlite::Connection;

use crate::folder::{OpenError, Place};

/// Statements kept prepared.
const CACHED_STATEMENTS: usize = 64;

/// Opens a database and makes its tables.
///
/// With a write-ahead log and `synchronous = NORMAL` a commit is in the hands of the operating
/// system when it returns, which outlives the process.
pub(crate) fn open(place: &Place, name: &str, schema: &str) -> Result<Connection, OpenError> {
    let path = place.database(name);
    let opened = || -> rusqlite::Result<Connection> {
        let connection = Connection::open(&path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
        connection.execute_batch(schema)?;
        Ok(connection)
    };
    opened().map_err(|error| OpenError::damaged(&path, error))
}
