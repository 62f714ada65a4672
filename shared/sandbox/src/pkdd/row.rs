//! The rows of the file, one at a time.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read},
    path::Path,
    str::{FromStr, Utf8Error},
};

use jiff::civil::Date;
use okra_core::model::{
    money::{Currency, Money, MoneyError},
    snapshot::Direction,
};

use super::line::PkddLines;

/// Bytes of one line at most.
pub const MAX_LINE_BYTES: usize = 64 * 1024;
/// Rows of one file at most; the whole data set of the challenge has 1,056,320.
pub const MAX_ROWS: u64 = 5_000_000;

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

/// A transaction of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PkddRow {
    /// The line it stands on, from 1; the header is line 1.
    pub line: u64,
    /// Its id, unique in the file.
    pub trans_id: u64,
    /// The account's id.
    pub account_id: u64,
    /// The day it was booked.
    pub date: Date,
    /// Into or out of the account.
    pub direction: Direction,
    /// How much, in CZK; not negative.
    pub amount: Money,
    /// The account's balance after it, in CZK; signed. In about two fifths of the account-days the
    /// balances do not tie with the amounts: they are two statements of the bank, not one.
    pub balance_after: Money,
    /// `VKLAD`, `PREVOD Z UCTU`, ...; often empty.
    pub operation: String,
    /// What it was for: `SIPO`, `UROK`, ...; often empty.
    pub k_symbol: String,
    /// The partner's bank; often empty.
    pub bank: String,
    /// The partner's account; often empty.
    pub account: String,
}

impl PkddRow {
    /// What a bank would print: operation and symbol, or the direction where there is neither.
    pub fn bank_description(&self) -> String {
        match (self.operation.as_str(), self.k_symbol.as_str()) {
            ("", "") => transaction_type(self.direction).to_owned(),
            (text, "") | ("", text) => text.to_owned(),
            (operation, symbol) => format!("{operation} {symbol}"),
        }
    }

    /// The kind of transaction in one word or two: the symbol or, where there is none, the operation.
    pub fn transaction_code(&self) -> &str {
        match (self.k_symbol.as_str(), self.operation.as_str()) {
            ("", "") => transaction_type(self.direction),
            ("", operation) => operation,
            (symbol, _) => symbol,
        }
    }
}

const fn transaction_type(direction: Direction) -> &'static str {
    match direction {
        Direction::Credit => "PRIJEM",
        Direction::Debit => "VYDAJ",
    }
}

/// What is wrong, and on which line.
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
    /// There is nothing in the file, not even a header.
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
    #[error("{0} is not a whole number")]
    InvalidNumber(&'static str),
    /// Not a day as `YYMMDD` of the 20th century.
    #[error("the date is not a day as YYMMDD")]
    InvalidDate,
    /// Neither `PRIJEM` nor `VYDAJ` nor `VYBER`.
    #[error("the type is none of PRIJEM, VYDAJ, VYBER")]
    UnknownType,
    /// Not an amount of crowns.
    #[error("{column} is not an amount in CZK: {why}")]
    InvalidAmount {
        /// `amount` or `balance`.
        column: &'static str,
        /// Why not.
        why: MoneyError,
    },
    /// An amount below zero; the type says which way the money went.
    #[error("the amount is negative")]
    NegativeAmount,
    /// The id stood on an earlier line.
    #[error("the trans_id {0} stands on an earlier line too")]
    DuplicateId(u64),
    /// The text is not UTF-8.
    #[error("{column} is not UTF-8")]
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
    /// The file cannot be read, here or any further.
    #[error("the file cannot be read")]
    UnreadableFile(#[source] io::Error),
}

impl PkddRowErrorReason {
    /// True where the file cannot be read beyond this line: for the others the next row is a new chance.
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

/// Reads a file row by row. A bad row is an error item and the next item is the next row, so that a
/// caller may stop there or count and go on; what ends the file ends the iterator.
#[derive(Debug)]
pub struct PkddReader<R> {
    lines: PkddLines<R>,
    currency: Currency,
    used_ids: HashSet<u64>,
    row_count: u64,
    has_ended: bool,
}

impl PkddReader<File> {
    /// The rows of a file on disk.
    ///
    /// # Errors
    ///
    /// Where the file cannot be opened or does not begin with the header.
    pub fn open_file(path: &Path) -> Result<Self, PkddRowError> {
        let file = File::open(path).map_err(|error| PkddRowError {
            line: 1,
            reason: PkddRowErrorReason::UnreadableFile(error),
        })?;
        Self::new(file)
    }
}

impl<R: Read> PkddReader<R> {
    /// The rows of a file. Reading is buffered here.
    ///
    /// # Errors
    ///
    /// Where it cannot be read or does not begin with the header.
    pub fn new(file: R) -> Result<Self, PkddRowError> {
        let mut lines = PkddLines::new(file);
        let reason = match lines.read_line() {
            Ok(true) if lines.current_fields().eq(COLUMNS.map(str::as_bytes)) => {
                return Ok(Self {
                    lines,
                    currency: czech_crown(),
                    used_ids: HashSet::new(),
                    row_count: 0,
                    has_ended: false,
                });
            }
            Ok(true) => PkddRowErrorReason::InvalidHeader,
            Ok(false) => PkddRowErrorReason::EmptyFile,
            Err(reason) => reason,
        };
        Err(PkddRowError { line: 1, reason })
    }

    fn parse_row(&mut self) -> Result<PkddRow, PkddRowErrorReason> {
        let line = self.lines.line_number();
        let trans_id = self.number_field(0)?;
        let row = PkddRow {
            line,
            trans_id,
            account_id: self.number_field(1)?,
            date: parse_date(self.text_field(2)?).ok_or(PkddRowErrorReason::InvalidDate)?,
            direction: match self.text_field(3)? {
                "PRIJEM" => Direction::Credit,
                "VYDAJ" | "VYBER" => Direction::Debit,
                _ => return Err(PkddRowErrorReason::UnknownType),
            },
            operation: self.text_field(4)?.to_owned(),
            amount: self.money_field(5)?,
            balance_after: self.money_field(6)?,
            k_symbol: self.text_field(7)?.to_owned(),
            bank: self.text_field(8)?.to_owned(),
            account: self.text_field(9)?.to_owned(),
        };
        if row.amount.minor < 0 {
            return Err(PkddRowErrorReason::NegativeAmount);
        }
        if !self.used_ids.insert(trans_id) {
            return Err(PkddRowErrorReason::DuplicateId(trans_id));
        }
        Ok(row)
    }

    fn text_field(&self, column: usize) -> Result<&str, PkddRowErrorReason> {
        let name = COLUMNS[column];
        let bytes = self.lines.current_fields().nth(column);
        let bytes = bytes.ok_or(PkddRowErrorReason::MissingColumn(name))?;
        let text =
            std::str::from_utf8(bytes).map_err(|source| PkddRowErrorReason::InvalidUtf8 {
                column: name,
                source,
            })?;
        Ok(text.trim())
    }

    fn number_field(&self, column: usize) -> Result<u64, PkddRowErrorReason> {
        let number = u64::from_str(self.text_field(column)?);
        number.map_err(|_| PkddRowErrorReason::InvalidNumber(COLUMNS[column]))
    }

    fn money_field(&self, column: usize) -> Result<Money, PkddRowErrorReason> {
        Money::parse(self.text_field(column)?, self.currency).map_err(|why| {
            PkddRowErrorReason::InvalidAmount {
                column: COLUMNS[column],
                why,
            }
        })
    }
}

impl<R: Read> Iterator for PkddReader<R> {
    type Item = Result<PkddRow, PkddRowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let result = match self.lines.read_line() {
            Ok(false) => {
                self.has_ended = true;
                return None;
            }
            Ok(true) if self.row_count >= MAX_ROWS => Err(PkddRowErrorReason::TooManyRows),
            Ok(true) => {
                self.row_count += 1;
                self.parse_row()
            }
            Err(reason) => Err(reason),
        };
        Some(result.map_err(|reason| {
            self.has_ended = reason.is_final();
            PkddRowError {
                line: self.lines.line_number(),
                reason,
            }
        }))
    }
}

/// The Czech crown; parsing three capital letters cannot fail, and NGN would be seen at once.
pub(super) fn czech_crown() -> Currency {
    "CZK".parse().unwrap_or(Currency::NGN)
}

fn parse_date(text: &str) -> Option<Date> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if text.len() != 6 || !digits {
        return None;
    }
    let part = |from: usize| text[from..from + 2].parse::<i8>().ok();
    Date::new(1900 + i16::from(part(0)?), part(2)?, part(4)?).ok()
}
