//! The rows of the file, one at a time.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read},
    path::Path,
    str::{FromStr, Utf8Error},
};

use jiff::civil::Date;
use okra_core::{
    model::Direction,
    money::{Currency, Money, MoneyError},
};

use super::line::Lines;

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
pub struct Row {
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

impl Row {
    /// What a bank would print: operation and symbol, or the direction where there is neither.
    pub fn description(&self) -> String {
        match (self.operation.as_str(), self.k_symbol.as_str()) {
            ("", "") => type_of(self.direction).to_owned(),
            (text, "") | ("", text) => text.to_owned(),
            (operation, symbol) => format!("{operation} {symbol}"),
        }
    }

    /// The kind of transaction in one word or two: the symbol or, where there is none, the operation.
    pub fn code(&self) -> &str {
        match (self.k_symbol.as_str(), self.operation.as_str()) {
            ("", "") => type_of(self.direction),
            ("", operation) => operation,
            (symbol, _) => symbol,
        }
    }
}

const fn type_of(direction: Direction) -> &'static str {
    match direction {
        Direction::Credit => "PRIJEM",
        Direction::Debit => "VYDAJ",
    }
}

/// What is wrong, and on which line.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct RowError {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// There is nothing in the file, not even a header.
    #[error("the file is empty")]
    Empty,
    /// The first line does not name the columns.
    #[error("the header must be {expected}", expected = COLUMNS.join(";"))]
    Header,
    /// The row ends before this column.
    #[error("the column {0} is missing")]
    MissingColumn(&'static str),
    /// The row has more columns than the header.
    #[error("there are more than {count} columns", count = COLUMNS.len())]
    ExtraColumn,
    /// Not a whole number.
    #[error("{0} is not a whole number")]
    Id(&'static str),
    /// Not a day as `YYMMDD` of the 20th century.
    #[error("the date is not a day as YYMMDD")]
    Date,
    /// Neither `PRIJEM` nor `VYDAJ` nor `VYBER`.
    #[error("the type is none of PRIJEM, VYDAJ, VYBER")]
    Type,
    /// Not an amount of crowns.
    #[error("{column} is not an amount in CZK: {why}")]
    Amount {
        /// `amount` or `balance`.
        column: &'static str,
        /// Why not.
        why: MoneyError,
    },
    /// An amount below zero; the type says which way the money went.
    #[error("the amount is negative")]
    Negative,
    /// The id stood on an earlier line.
    #[error("the trans_id {0} stands on an earlier line too")]
    Duplicate(u64),
    /// The text is not UTF-8.
    #[error("{column} is not UTF-8")]
    Utf8 {
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
    Io(#[source] io::Error),
}

impl Reason {
    /// True where the file cannot be read beyond this line: for the others the next row is a new chance.
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Empty | Self::Header | Self::LongLine | Self::TooManyRows | Self::Io(_)
        )
    }
}

/// Reads a file row by row. A bad row is an error item and the next item is the next row, so that a
/// caller may stop there or count and go on; what ends the file ends the iterator.
#[derive(Debug)]
pub struct Rows<R> {
    lines: Lines<R>,
    currency: Currency,
    seen: HashSet<u64>,
    rows: u64,
    ended: bool,
}

impl Rows<File> {
    /// The rows of a file on disk.
    ///
    /// # Errors
    ///
    /// Where the file cannot be opened or does not begin with the header.
    pub fn open(path: &Path) -> Result<Self, RowError> {
        let file = File::open(path).map_err(|error| RowError {
            line: 1,
            reason: Reason::Io(error),
        })?;
        Self::new(file)
    }
}

impl<R: Read> Rows<R> {
    /// The rows of a file. Reading is buffered here.
    ///
    /// # Errors
    ///
    /// Where it cannot be read or does not begin with the header.
    pub fn new(file: R) -> Result<Self, RowError> {
        let mut lines = Lines::new(file);
        let reason = match lines.read() {
            Ok(true) if lines.fields().eq(COLUMNS.map(str::as_bytes)) => {
                return Ok(Self {
                    lines,
                    currency: czk(),
                    seen: HashSet::new(),
                    rows: 0,
                    ended: false,
                });
            }
            Ok(true) => Reason::Header,
            Ok(false) => Reason::Empty,
            Err(reason) => reason,
        };
        Err(RowError { line: 1, reason })
    }

    fn row(&mut self) -> Result<Row, Reason> {
        let line = self.lines.number();
        let trans_id = self.number(0)?;
        let row = Row {
            line,
            trans_id,
            account_id: self.number(1)?,
            date: date(self.text(2)?).ok_or(Reason::Date)?,
            direction: match self.text(3)? {
                "PRIJEM" => Direction::Credit,
                "VYDAJ" | "VYBER" => Direction::Debit,
                _ => return Err(Reason::Type),
            },
            operation: self.text(4)?.to_owned(),
            amount: self.money(5)?,
            balance_after: self.money(6)?,
            k_symbol: self.text(7)?.to_owned(),
            bank: self.text(8)?.to_owned(),
            account: self.text(9)?.to_owned(),
        };
        if row.amount.minor < 0 {
            return Err(Reason::Negative);
        }
        if !self.seen.insert(trans_id) {
            return Err(Reason::Duplicate(trans_id));
        }
        Ok(row)
    }

    fn text(&self, column: usize) -> Result<&str, Reason> {
        let name = COLUMNS[column];
        let bytes = self.lines.fields().nth(column);
        let bytes = bytes.ok_or(Reason::MissingColumn(name))?;
        let text = std::str::from_utf8(bytes).map_err(|source| Reason::Utf8 {
            column: name,
            source,
        })?;
        Ok(text.trim())
    }

    fn number(&self, column: usize) -> Result<u64, Reason> {
        let number = u64::from_str(self.text(column)?);
        number.map_err(|_| Reason::Id(COLUMNS[column]))
    }

    fn money(&self, column: usize) -> Result<Money, Reason> {
        Money::parse(self.text(column)?, self.currency).map_err(|why| Reason::Amount {
            column: COLUMNS[column],
            why,
        })
    }
}

impl<R: Read> Iterator for Rows<R> {
    type Item = Result<Row, RowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let result = match self.lines.read() {
            Ok(false) => {
                self.ended = true;
                return None;
            }
            Ok(true) if self.rows >= MAX_ROWS => Err(Reason::TooManyRows),
            Ok(true) => {
                self.rows += 1;
                self.row()
            }
            Err(reason) => Err(reason),
        };
        Some(result.map_err(|reason| {
            self.ended = reason.is_final();
            RowError {
                line: self.lines.number(),
                reason,
            }
        }))
    }
}

/// The Czech crown; parsing three capital letters cannot fail, and NGN would be seen at once.
pub(super) fn czk() -> Currency {
    "CZK".parse().unwrap_or(Currency::NGN)
}

fn date(text: &str) -> Option<Date> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if text.len() != 6 || !digits {
        return None;
    }
    let part = |from: usize| text[from..from + 2].parse::<i8>().ok();
    Date::new(1900 + i16::from(part(0)?), part(2)?, part(4)?).ok()
}
