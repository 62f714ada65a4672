//! A record and all that lies with it. A commit ([`commits`]) moves the head ([`heads`]) and the [`feed`] together; the feed
//! is the truth, and the balances of [`accounts`] and the [`transactions`] are a [`projection`] of it.

pub(crate) mod accounts;
pub(crate) mod backfills;
pub(crate) mod commits;
pub(crate) mod consents;
pub(crate) mod customers;
pub(crate) mod feed;
pub(crate) mod heads;
pub(crate) mod jobs;
pub(crate) mod new_record;
pub(crate) mod projection;
pub(crate) mod record_deletion;
pub(crate) mod removal;
pub(crate) mod subscriptions;
pub(crate) mod transactions;
pub(crate) mod watermarks;
