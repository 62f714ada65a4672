//! A stateful, seeded sandbox bank that speaks UK Open Banking over HTTP.
//!
//! It is reached through the same connector a real bank would be, in version 3.1 or 4.0 of the
//! Account and Transaction API. Its time comes from a clock that is given to it. What it generates is
//! derived from (seed, login, slot of time), never stored: the same seed and clock give the same
//! bytes, also after a restart. What is played on it by request (logins, edits, faults: a
//! [`Command`]) is kept in a journal where the bank is opened in a folder.
//!
//! - [`Bank`] is the bank, with a router for its API and one for what drives it.
//! - [`Faults`] and [`ConsentState`] are what can be made to go wrong.
//! - [`pkdd`] reads real transactions of the PKDD'99 challenge and shows them day by day.

mod account;
mod answers;
mod authorise;
mod bank;
mod command;
mod control;
mod fault;
mod generate;
mod hash;
mod journal;
mod lore;
mod movement;
mod obie;
pub mod pkdd;
mod replayed;
mod tokens;

pub use account::{
    EditError, MAX_AMOUNT_MAJOR, MAX_EDITS, MAX_TEXT_CHARS, MAX_TRANSACTION_ID_CHARS,
};
pub use authorise::{AUTHORIZE_PATH, ONE_TIME_CODE, PASSWORD};
pub use bank::{
    CommandError, CommandOutcome, LoginView, MAX_ACCOUNTS_PER_LOGIN, MAX_GRANTS_PER_LOGIN,
    MAX_HISTORY_DAYS, MAX_HISTORY_ROWS, MAX_LOGINS, MAX_NAME_CHARS, RowView, SandboxAccountView,
    SandboxBank, SandboxClock, SandboxOptions, SandboxToken,
};
pub use command::{
    AccountAddress, BookingDetails, FaultTarget, LoginId, NewLogin, NewTransaction, RowAmendment,
    SandboxCommand, Volume,
};
pub use fault::{
    ConsentState, Faults, MAX_SLOW_MS, MalformedFault, Outage, RateLimitFault, SandboxResource,
};
pub use journal::{JOURNAL_FILE, SandboxOpenError};
pub use movement::{ParseRowKeyError, RowKey, ShownTransactionId};
pub use obie::TOKEN_PATH;
pub use tokens::{CLIENT_ID, CLIENT_SECRET, MAX_TOKEN_LIFE_S, SandboxTokens, TokenTerms};
