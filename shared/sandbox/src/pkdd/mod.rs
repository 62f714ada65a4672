//! Real transactions: the file `trans.csv` of the PKDD'99 Discovery Challenge, of a Czech bank.
//!
//! [`PkddReader`] reads the file row by row; a malformed row is an error that names its line. [`ReplayBank`] shows the
//! rows day by day.

mod error;
mod lines;
mod reader;
mod replay;

pub use error::{MAX_LINE_BYTES, MAX_ROWS, PkddRowError, PkddRowErrorReason};
pub use reader::{PkddReader, PkddRow};
pub use replay::{DayReport, ReplayBank};
