//! How we prove who we are to a bank, the same for every standard on OAuth: `client_auth`, our client's
//! credentials; `tokens`, token requests and what may be believed of their responses ([`TokenGrant`]).
//!
//! The rule: a rejection of our own client is never the user's to mend, and no token or secret is part of a
//! fault's text.

mod client_auth;
mod tokens;

pub(crate) use tokens::{complete_login, renew_tokens, request_client_token};
pub use {
    client_auth::{client_secret_owner, requires_secret},
    tokens::{MAX_TOKEN_BYTES, is_usable_token},
};
