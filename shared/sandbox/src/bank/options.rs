//! How a bank is set up: [`SandboxOptions`], [`SandboxClock`], and the bounds of what it holds.

use std::sync::Arc;

use jiff::Timestamp;

/// Most logins of one bank.
pub const MAX_LOGINS: usize = 100_000;
/// Most accounts of one login.
pub const MAX_ACCOUNTS_PER_LOGIN: u8 = 5;
/// Most rows of generated history of one account.
pub const MAX_HISTORY_ROWS: u32 = 20_000;
/// Most days that generated history reaches back.
pub const MAX_HISTORY_DAYS: u16 = 365;
/// Most grants of access to one login.
pub const MAX_GRANTS_PER_LOGIN: usize = 1_000;
/// Most characters of a holder's name (the standard's bound of `Nickname`).
pub const MAX_NAME_CHARS: usize = 70;

/// Where the bank's time comes from: the system's clock, or one that a test sets, forward or back.
pub type SandboxClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How a bank behaves.
#[derive(Clone, Debug)]
pub struct SandboxOptions {
    /// What everything generated is derived from. The same seed and clock give the same bank.
    pub seed: u64,
    /// Rows on one page of transactions, at least 1.
    pub page_size: u32,
    /// Seconds between new rows of a login. Where absent or 0, no rows appear by themselves.
    pub row_interval_s: Option<u32>,
    /// The origin of links, such as `https://bank.example`. Where absent, links lead to the request's `Host`,
    /// over `http`.
    pub public_url: Option<String>,
    /// Bytes of cached response bodies, over all accounts. Responses beyond that are built anew.
    pub cache_bytes: usize,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            page_size: 100,
            row_interval_s: None,
            public_url: None,
            cache_bytes: 64 * 1024 * 1024,
        }
    }
}
