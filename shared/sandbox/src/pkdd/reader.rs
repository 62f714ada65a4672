//! The rows of the file, one at a time: [`PkddReader`] and [`PkddRow`].

use std::{collections::HashSet, fs::File, io::Read, path::Path, str::FromStr};

use jiff::civil::Date;
use okra_core::model::{
    money::{Currency, Money},
    snapshot::Direction,
};

use super::{
    error::{COLUMNS, MAX_ROWS, PkddRowError, PkddRowErrorReason},
    lines::PkddLines,
};

/// A transaction of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PkddRow {
    /// The number of its line; the header is line 1.
    pub line: u64,
    /// Its id, unique in the file.
    pub trans_id: u64,
    /// The account's id.
    pub account_id: u64,
    /// The day it was booked.
    pub date: Date,
    /// Into or out of the account.
    pub direction: Direction,
    /// The amount in CZK, not negative.
    pub amount: Money,
    /// The account's balance after it, in CZK, signed. On about two fifths of the account-days the balances do not add
    /// up with the amounts: they are two independent statements of the bank.
    pub balance_after: Money,
    /// `VKLAD`, `PREVOD Z UCTU`, ...; often empty.
    pub operation: String,
    /// What it was for: `SIPO`, `UROK`, ...; often empty.
    pub k_symbol: String,
    /// The counterparty's bank; often empty.
    pub bank: String,
    /// The counterparty's account; often empty.
    pub account: String,
}

impl PkddRow {
    /// What a bank would print on a statement: operation and symbol, or the direction where there is neither.
    pub fn bank_description(&self) -> String {
        match (self.operation.as_str(), self.k_symbol.as_str()) {
            ("", "") => transaction_type(self.direction).to_owned(),
            (text, "") | ("", text) => text.to_owned(),
            (operation, symbol) => format!("{operation} {symbol}"),
        }
    }

    /// The bank's code for the kind of transaction: the symbol or, where there is none, the operation.
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

/// Reads a file row by row. A malformed row is an error item, and the next item is the next row, so that a caller may
/// stop there or count it and go on. A final error ends the iterator.
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
    /// If the file cannot be opened or does not begin with the header.
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
    /// If it cannot be read or does not begin with the header.
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

/// The Czech crown. Three capital letters always are a currency.
pub(super) fn czech_crown() -> Currency {
    let crown = "CZK".parse();
    debug_assert!(crown.is_ok(), "CZK is a currency");
    crown.unwrap_or(Currency::NGN)
}

fn parse_date(text: &str) -> Option<Date> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if text.len() != 6 || !digits {
        return None;
    }
    let year: i16 = text[..2].parse().ok()?;
    Date::new(
        1900 + year,
        text[2..4].parse().ok()?,
        text[4..].parse().ok()?,
    )
    .ok()
}
