//! The shell's edge to AWS: SDK clients ([`AwsConfig`]), TLS ([`rustls_client_config`]), the rules that tick
//! ([`TickRules`]), the event bus ([`EventBus`]) and the clock ([`Clock`]).
//!
//! The rule: the same code runs in a Lambda and in the local process, which differ only in the HTTP client underneath.

pub mod bus;
mod clock;
mod config;
pub mod tick_rules;
mod tls;

pub use bus::EventBus;
pub use clock::Clock;
pub use config::{AwsConfig, AwsConfigError};
pub use tick_rules::{TickRules, TickRulesError};
pub use tls::rustls_client_config;
