//! What the functions stand on, built once for each process: clients, table, queues, vault.

use std::{num::NonZeroU32, sync::Arc};

use okra_aws::{AwsConfig, Bus, Clock, rules::Rules};
use okra_banks::Connectors;
use okra_core::pace::Rate;
use okra_queue::{QueueUrls, Queues};
use okra_refresh::Refresher;
use okra_store::Store;
use okra_vault::Vault;
use okra_webhooks::{AddressPolicy, DeliverConfig, Deliverer, Limits, Sender, SenderError};

/// Where `sam local start-api` listens unless it is told otherwise.
const SAM_LOCAL_API: &str = "http://127.0.0.1:3000";

/// Why a process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// A variable that has to be there is not.
    #[error("the environment variable {0} is missing")]
    Missing(&'static str),
    /// A variable that has to be a number from 1 on is something else.
    #[error("the environment variable {0} is not a number from 1 on")]
    NoNumber(&'static str),
    /// The SDK's configuration.
    #[error("the AWS configuration is not usable")]
    Aws(#[from] okra_aws::ConfigError),
    /// The vault's key.
    #[error("OKRA_VAULT_KEY is not usable")]
    Vault(#[from] okra_vault::VaultError),
    /// The HTTP client for banks.
    #[error("the HTTP client for banks could not be built")]
    Connectors(#[from] okra_banks::ConnectorError),
    /// The HTTP client for webhooks.
    #[error("the HTTP client for webhooks could not be built")]
    Sender(#[from] SenderError),
}

/// What the functions stand on. Cheap to clone.
#[derive(Clone)]
pub struct Environment {
    /// The table.
    pub store: Store,
    /// The queues.
    pub queues: Queues,
    /// The interval rules.
    pub rules: Rules,
    /// The event bus that endpoints may be, where the deployment has one.
    pub bus: Option<Bus>,
    /// Encrypts consents and endpoint secrets.
    pub vault: Arc<Vault>,
    /// Calls banks.
    pub connectors: Connectors,
    /// Which addresses webhooks may go to; in a Lambda public ones only.
    pub addresses: AddressPolicy,
    /// The time.
    pub clock: Clock,
    /// Where the API is reached, without a trailing slash; the root of each `callback_url`.
    pub public_url: String,
    /// Deliver functions that run at the same time at most.
    pub deliverers: NonZeroU32,
}

impl Environment {
    /// What the template's variables name: `TABLE_NAME`, `FETCH_QUEUE_URL`, `PRIORITY_QUEUE_URL`,
    /// `DELIVER_QUEUE_URL`, `OKRA_VAULT_KEY`, `RULE_PREFIX`, `PUBLIC_URL`, `EVENT_BUS_ARN` (may be
    /// empty), `DELIVER_CONCURRENCY`, and the SDK's own.
    pub fn from_env() -> Result<Self, EnvironmentError> {
        let aws = AwsConfig::from_env()?;
        let queues = QueueUrls {
            fetch: variable("FETCH_QUEUE_URL")?,
            priority: variable("PRIORITY_QUEUE_URL")?,
            deliver: variable("DELIVER_QUEUE_URL")?,
        };
        let public_url = match variable("PUBLIC_URL") {
            // `sam local` cannot resolve the API's own address.
            Err(_) if std::env::var_os("AWS_SAM_LOCAL").is_some() => SAM_LOCAL_API.to_owned(),
            public_url => public_url?,
        };
        Ok(Self {
            store: Store::new(aws.dynamodb(), variable("TABLE_NAME")?),
            queues: Queues::new(aws.sqs(), queues),
            rules: Rules::new(aws.eventbridge(), variable("RULE_PREFIX")?),
            bus: optional("EVENT_BUS_ARN").map(|arn| Bus::new(aws.eventbridge(), arn)),
            vault: Arc::new(Vault::from_env()?),
            connectors: Connectors::new(okra_aws::rustls_client_config())?,
            addresses: AddressPolicy::PublicOnly,
            clock: Clock::system(),
            public_url: public_url.trim_end_matches('/').to_owned(),
            deliverers: variable("DELIVER_CONCURRENCY")?
                .parse()
                .map_err(|_| EnvironmentError::NoNumber("DELIVER_CONCURRENCY"))?,
        })
    }

    /// The engine of the fetch function.
    pub fn refresher(&self) -> Refresher {
        Refresher::new(
            self.store.clone(),
            self.queues.clone(),
            self.connectors.clone(),
            Arc::clone(&self.vault),
            self.clock.clone(),
            Some(self.rules.clone()),
        )
    }

    /// The engine of the deliver function.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Sender`] where no HTTP client could be built.
    pub fn deliverer(&self) -> Result<Deliverer, EnvironmentError> {
        self.deliverer_at(Rate::default())
    }

    /// The same with another pace for endpoints that have none of their own.
    ///
    /// # Errors
    ///
    /// As [`deliverer`](Self::deliverer).
    pub fn deliverer_at(&self, rate: Rate) -> Result<Deliverer, EnvironmentError> {
        let mut sender = Sender::new(
            okra_aws::rustls_client_config(),
            self.addresses,
            Limits::default(),
        )?;
        if let Some(bus) = &self.bus {
            sender = sender.with_bus(bus.clone());
        }
        Ok(Deliverer::new(
            self.store.clone(),
            self.queues.clone(),
            Arc::clone(&self.vault),
            sender,
            self.clock.clone(),
            DeliverConfig {
                rate,
                processes: self.deliverers.get(),
                ..DeliverConfig::new(self.public_url.clone())
            },
        ))
    }
}

fn optional(name: &'static str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn variable(name: &'static str) -> Result<String, EnvironmentError> {
    optional(name).ok_or(EnvironmentError::Missing(name))
}
