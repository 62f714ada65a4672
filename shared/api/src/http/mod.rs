//! What all features share: requests ([`request::ApiRequest`], with their [`input`] and the app of their [`api_key`]),
//! responses and errors ([`envelope`]), the declaration of routes ([`route`]), [`idempotency`] keys, API Gateway's events
//! ([`gateway`]) and the OpenAPI document ([`openapi`]).
//!
//! The rule: nothing here knows a feature.

#[macro_use]
pub(crate) mod route;

pub(crate) mod api_key;
pub(crate) mod envelope;
pub mod gateway;
pub(crate) mod idempotency;
pub(crate) mod input;
#[cfg(feature = "openapi")]
pub(crate) mod openapi;
pub(crate) mod path;
pub(crate) mod request;
