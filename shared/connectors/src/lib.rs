//! Connectors: how okra-sync talks to banks.
//!
//! [`Connectors`] is what the engine holds. It dispatches by the standard of a bank's configuration
//! (`registry`) to an implementation of the trait in [`connector`], which is everything that the engine needs
//! of any bank. Each standard is one folder with its login, consents, reading and error table inside:
//! [`obie`], UK Open Banking. What standards share stands beside them: [`security`] (client authentication
//! and token requests), [`pages`] (pages of one list joined), `limit_errors` (how banks say that a limit is
//! reached) and `transport` (deadlines, caps and spans of each call).
//!
//! The rule: a connector never fails as a whole. Each account and product that cannot be read carries its own
//! fault, and the others are returned. Nothing outside a standard's folder names its paths, scopes or codes.

pub mod config;
pub mod connector;
mod consent;
mod limit_errors;
pub mod obie;
pub mod pages;
mod registry;
pub mod security;
mod transport;

pub use self::{
    connector::{
        AccountRef, BackfillResponse, FetchRequest, LoginCode, LoginRedirect, LoginRequest,
    },
    consent::{ConsentId, ConsentSecret, ConsentTerms, EXPIRY_LEEWAY_S, MAX_CONSENT_ID_CHARS},
    registry::{Connectors, display_name, has_login_page},
    transport::{BankTransportError, ConnectorError, HttpClient, HttpResponseFuture},
};
