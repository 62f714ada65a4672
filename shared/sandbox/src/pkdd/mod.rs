//! Real transactions: the file `trans.csv` of the PKDD'99 Discovery Challenge, of a Czech bank.
//!
//! [`Rows`] reads the file row by row and says what is wrong with a row and where; [`ReplayBank`]
//! shows the rows day by day.

mod line;
mod replay;
mod row;

pub use replay::{DayReport, ReplayBank};
pub use row::{MAX_LINE_BYTES, MAX_ROWS, PkddReader, PkddRow, PkddRowError, PkddRowErrorReason};
