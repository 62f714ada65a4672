//! A record and all that lies with it. [`heads`] say what is committed, the [`feed`] is the truth, and balances and
//! transactions are a [`projection`] of it.

pub(crate) mod accounts;
pub(crate) mod backfills;
pub(crate) mod consents;
pub(crate) mod customers;
pub(crate) mod feed;
pub(crate) mod heads;
pub(crate) mod jobs;
pub(crate) mod projection;
pub(crate) mod removal;
pub(crate) mod subscriptions;
pub(crate) mod transactions;
pub(crate) mod watermarks;
