//! A stateful, seeded sandbox bank that speaks UK Open Banking over HTTP.
//!
//! It is reached through the same connector as a real bank, in version 3.1 or 4.0 of the Account and Transaction API.
//! Its time comes from a clock that is passed in. What it generates is derived from (seed, login, slot of time), never
//! stored: the same seed and clock give the same bytes, also after a restart. What is done to it (logins, edits,
//! faults: a [`SandboxCommand`]) is kept in a journal where the bank is opened in a folder.
//!
//! - [`SandboxBank`] is the bank, with a router for its API and one that controls it.
//! - [`Faults`] and [`ConsentState`] are what can be made to go wrong.
//! - [`pkdd`] reads real transactions of the PKDD'99 challenge and shows them day by day.
//!
//! Layers, each of which uses only those below it: `router`, `control`, `authorise` and `obie` over HTTP; `bank`, the
//! state and its commands; `account` and `rows`, what is listed; `command`, `fault` and `hash`.

mod account;
mod authorise;
mod bank;
mod command;
mod control;
mod fault;
mod hash;
mod obie;
pub mod pkdd;
mod response_cache;
mod router;
mod rows;

pub use account::{
    EditError, MAX_AMOUNT_MAJOR, MAX_EDITS, MAX_TEXT_CHARS, MAX_TRANSACTION_ID_CHARS,
};
pub use authorise::{AUTHORIZE_PATH, ONE_TIME_CODE, PASSWORD};
pub use bank::{
    error::CommandError,
    execute::CommandOutcome,
    journal::{JOURNAL_FILE, SandboxOpenError},
    options::{
        MAX_ACCOUNTS_PER_LOGIN, MAX_GRANTS_PER_LOGIN, MAX_HISTORY_DAYS, MAX_HISTORY_ROWS,
        MAX_LOGINS, MAX_NAME_CHARS, SandboxClock, SandboxOptions,
    },
    state::SandboxBank,
    tokens::{CLIENT_ID, CLIENT_SECRET, SandboxToken, SandboxTokens},
    view::{LoginView, RowView, SandboxAccountView},
};
pub use command::{
    AccountAddress, BookingDetails, FaultTarget, LoginId, MAX_TOKEN_LIFE_S, NewLogin,
    NewTransaction, RowAmendment, SandboxCommand, TokenTerms, Volume,
};
pub use fault::{
    ConsentState, Faults, MAX_SLOW_MS, MalformedFault, Outage, RateLimitFault, SandboxResource,
};
pub use obie::TOKEN_PATH;
pub use rows::movement::{ParseRowKeyError, RowKey, ShownTransactionId};
