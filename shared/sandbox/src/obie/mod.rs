//! The Account and Transaction API over HTTP, versions 3.1 and 4.0, and the token endpoint.
//!
//! A request goes through [`http`] (routes, headers) to [`respond`], which decides under the login's lock what the bank
//! responds with; [`shape`] has the JSON, [`window`] the query of transactions, [`error`] the standard's errors, and
//! [`malform`] spoils a response where a fault is set. [`token_endpoint`] is the authorisation server's.
//!
//! Rule: a response is decided without waiting; delays come after the locks are released.

mod error;
pub(crate) mod http;
mod malform;
mod respond;
mod shape;
pub(crate) mod token_endpoint;
mod window;

pub use token_endpoint::TOKEN_PATH;
