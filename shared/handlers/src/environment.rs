//! What the functions stand on, built once for each process: clients, table, queues, vault.
//!
//! [`RuntimeContext`] is read from the template's variables; a variable that is missing or unusable is a
//! [`RuntimeContextError`] that names it.

use std::{num::NonZeroU32, sync::Arc};

use okra_aws::{AwsConfig, Clock, EventBus, tick_rules::TickRules};
use okra_connectors::Connectors;
use okra_core::resilience::rate_limiter::SendRate;
use okra_queue::{QueueUrls, Queues};
use okra_refresh::Refresher;
use okra_store::Store;
use okra_vault::Vault;
use okra_webhooks::{
    AddressPolicy, AttemptLimits, DeliverConfig, Deliverer, SenderError, WebhookSender,
};

/// Where `sam local start-api` listens by default.
const SAM_LOCAL_API_URL: &str = "http://127.0.0.1:3000";

/// Why a process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeContextError {
    /// A required variable is missing.
    #[error("the environment variable {0} is missing")]
    MissingVariable(&'static str),
    /// A variable is not a positive number.
    #[error("the environment variable {0} must be a positive number")]
    InvalidNumber(&'static str),
    /// The SDK's configuration.
    #[error("the AWS configuration is invalid")]
    Aws(#[from] okra_aws::AwsConfigError),
    /// The vault's key.
    #[error("the environment variable OKRA_VAULT_KEY is invalid")]
    Vault(#[from] okra_vault::VaultError),
    /// The HTTP client for banks.
    #[error("the HTTP client for banks could not be built")]
    Connectors(#[from] okra_connectors::ConnectorError),
    /// The HTTP client for webhooks.
    #[error("the HTTP client for webhooks could not be built")]
    Sender(#[from] SenderError),
}

/// What the functions stand on. Cheap to clone.
#[derive(Clone)]
pub struct RuntimeContext {
    /// The table.
    pub store: Store,
    /// The queues.
    pub queues: Queues,
    /// The interval rules.
    pub tick_rules: TickRules,
    /// The event bus that endpoints may be, where the deployment has one.
    pub event_bus: Option<EventBus>,
    /// Encrypts consents and endpoint secrets.
    pub vault: Arc<Vault>,
    /// Calls banks.
    pub connectors: Connectors,
    /// Which addresses webhooks may go to; in a Lambda public ones only.
    pub address_policy: AddressPolicy,
    /// The time.
    pub clock: Clock,
    /// Where the API is reached, without a trailing slash; the root of each `callback_url`.
    pub public_url: String,
    /// Deliver functions that run at the same time at most.
    pub deliver_concurrency: NonZeroU32,
}

impl RuntimeContext {
    /// What the template's variables name: `TABLE_NAME`, `FETCH_QUEUE_URL`, `PRIORITY_QUEUE_URL`,
    /// `DELIVER_QUEUE_URL`, `OKRA_VAULT_KEY`, `RULE_PREFIX`, `PUBLIC_URL`, `EVENT_BUS_ARN` (may be
    /// empty), `DELIVER_CONCURRENCY`, and the SDK's own.
    ///
    /// # Errors
    ///
    /// [`RuntimeContextError`] names the variable that is missing or invalid.
    pub fn from_env() -> Result<Self, RuntimeContextError> {
        let aws = AwsConfig::from_env()?;
        let queues = QueueUrls {
            fetch: required_variable("FETCH_QUEUE_URL")?,
            priority: required_variable("PRIORITY_QUEUE_URL")?,
            deliver: required_variable("DELIVER_QUEUE_URL")?,
        };
        let public_url = match required_variable("PUBLIC_URL") {
            // `sam local` cannot resolve the API's own address.
            Err(_) if std::env::var_os("AWS_SAM_LOCAL").is_some() => SAM_LOCAL_API_URL.to_owned(),
            public_url => public_url?,
        };
        Ok(Self {
            store: Store::new(aws.dynamodb_client(), required_variable("TABLE_NAME")?),
            queues: Queues::new(aws.sqs_client(), queues),
            tick_rules: TickRules::new(aws.eventbridge_client(), required_variable("RULE_PREFIX")?),
            event_bus: optional_variable("EVENT_BUS_ARN")
                .map(|arn| EventBus::new(aws.eventbridge_client(), arn)),
            vault: Arc::new(Vault::from_env()?),
            connectors: Connectors::new(okra_aws::rustls_client_config())?,
            address_policy: AddressPolicy::PublicOnly,
            clock: Clock::system(),
            public_url: public_url.trim_end_matches('/').to_owned(),
            deliver_concurrency: required_variable("DELIVER_CONCURRENCY")?
                .parse()
                .map_err(|_| RuntimeContextError::InvalidNumber("DELIVER_CONCURRENCY"))?,
        })
    }

    /// The engine of the fetch function.
    pub fn build_refresher(&self) -> Refresher {
        Refresher::new(
            self.store.clone(),
            self.queues.clone(),
            self.connectors.clone(),
            Arc::clone(&self.vault),
            self.clock.clone(),
            Some(self.tick_rules.clone()),
        )
    }

    /// The engine of the deliver function.
    ///
    /// # Errors
    ///
    /// [`RuntimeContextError::Sender`] where the HTTP client could not be built.
    pub fn build_deliverer(&self) -> Result<Deliverer, RuntimeContextError> {
        self.build_deliverer_with_rate(SendRate::default())
    }

    /// The same with another rate for endpoints that have none of their own.
    ///
    /// # Errors
    ///
    /// As [`build_deliverer`](Self::build_deliverer).
    pub fn build_deliverer_with_rate(
        &self,
        rate: SendRate,
    ) -> Result<Deliverer, RuntimeContextError> {
        let mut sender = WebhookSender::new(
            okra_aws::rustls_client_config(),
            self.address_policy,
            AttemptLimits::default(),
        )?;
        if let Some(bus) = &self.event_bus {
            sender = sender.with_bus(bus.clone());
        }
        Ok(Deliverer::new(
            self.store.clone(),
            self.queues.clone(),
            Arc::clone(&self.vault),
            sender,
            self.clock.clone(),
            DeliverConfig {
                default_rate: rate,
                max_processes: self.deliver_concurrency.get(),
                ..DeliverConfig::new(self.public_url.clone())
            },
        ))
    }
}

fn optional_variable(name: &'static str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn required_variable(name: &'static str) -> Result<String, RuntimeContextError> {
    optional_variable(name).ok_or(RuntimeContextError::MissingVariable(name))
}
