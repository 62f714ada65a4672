//! What can be wrong with the file: [`PkddRowError`] names the line and the [`PkddRowErrorReason`].

use std::{io, str::Utf8Error};

use okra_core::model::money::MoneyError;

/// Most bytes of one line.
pub const MAX_LINE_BYTES: usize = 64 * 1024;
/// Most rows of one file; the whole data set of the challenge has 1,056,320.
pub const MAX_ROWS: u64 = 5_000_000;

/// The columns that the header must name, in this order.
pub(super) const COLUMNS: [&str; 10] = [
    "trans_id",
    "account_id",
    "date",
    "type",
    "operation",
    "amount",
    "balance",
    "k_symbol",
    "bank",
    "account",
];

/// What is wrong with the file, and on which line.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct PkddRowError {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: PkddRowErrorReason,
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum PkddRowErrorReason {
    /// The file is empty: it has not even a header.
    #[error("the file is empty")]
    EmptyFile,
    /// The first line does not name the columns.
    #[error("the header must be {expected}", expected = COLUMNS.join(";"))]
    InvalidHeader,
    /// The row ends before this column.
    #[error("the column {0} is missing")]
    MissingColumn(&'static str),
    /// The row has more columns than the header.
    #[error("there are more than {count} columns", count = COLUMNS.len())]
    ExtraColumn,
    /// Not a whole number.
    #[error("{0} must be a whole number")]
    InvalidNumber(&'static str),
    /// Not a day as `YYMMDD` of the 20th century.
    #[error("the date must be a day as YYMMDD")]
    InvalidDate,
    /// None of `PRIJEM`, `VYDAJ` and `VYBER`.
    #[error("the type must be PRIJEM, VYDAJ or VYBER")]
    UnknownType,
    /// Not an amount of crowns.
    #[error("{column} must be an amount in CZK: {why}")]
    InvalidAmount {
        /// `amount` or `balance`.
        column: &'static str,
        /// Why not.
        why: MoneyError,
    },
    /// An amount below zero; the type says which direction the money went.
    #[error("the amount must not be negative")]
    NegativeAmount,
    /// An earlier line has the same id.
    #[error("the trans_id {0} is on an earlier line too")]
    DuplicateId(u64),
    /// The text is not UTF-8.
    #[error("{column} must be UTF-8")]
    InvalidUtf8 {
        /// The column.
        column: &'static str,
        /// Where in it.
        source: Utf8Error,
    },
    /// Longer than [`MAX_LINE_BYTES`]. Nothing after it can be read.
    #[error("the line is longer than {MAX_LINE_BYTES} bytes")]
    LongLine,
    /// More than [`MAX_ROWS`]. Nothing after it is read.
    #[error("the file has more than {MAX_ROWS} rows")]
    TooManyRows,
    /// The file cannot be read from here on.
    #[error("the file cannot be read")]
    UnreadableFile(#[source] io::Error),
}

impl PkddRowErrorReason {
    /// True where the file cannot be read past this line. After the others, the next row is read as usual.
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::EmptyFile
                | Self::InvalidHeader
                | Self::LongLine
                | Self::TooManyRows
                | Self::UnreadableFile(_)
        )
    }
}
