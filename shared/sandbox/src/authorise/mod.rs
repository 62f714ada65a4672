//! The user's side of a consent: the bank's login page, on the bank's own origin.
//!
//! As in UK Open Banking: an app creates a consent (`POST …/account-access-consents`, [`consents`]) and sends the user
//! here ([`login`], shown by [`pages`]). The user goes back to the app's `redirect_uri` with a code, which the app
//! exchanges for tokens ([`codes`]). [`query`] reads what the app sends along.
//!
//! Rule: unfinished logins ([`session`]) are in memory. A restart forgets them, and no grant.

pub(crate) mod codes;
mod consents;
pub(crate) mod expiring_map;
mod login;
mod pages;
pub(crate) mod query;
pub(crate) mod router;
pub(crate) mod session;

pub use login::{ONE_TIME_CODE, PASSWORD};
pub use router::AUTHORIZE_PATH;
