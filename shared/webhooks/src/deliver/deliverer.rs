//! [`Deliverer`], on which everything here stands, and how it is configured.
//!
//! The rule: it holds what the modules of this folder share, and knows none of them.

use std::sync::Arc;

use jiff::Timestamp;
use okra_aws::Clock;
use okra_core::{
    model::{
        bank::BankConfig,
        ids::{AppId, BankId},
    },
    resilience::rate_limiter::SendRate,
};
use okra_queue::Queues;
use okra_store::{App, Store};
use okra_vault::Vault;

use super::{endpoint_activity::EndpointActivities, send_lanes::SendLanes};
use crate::{
    cache::TimedCache,
    keyring::Keyring,
    random::JitterRandom,
    report::{DeliveryObserver, SilentDeliveryObserver},
    send::WebhookSender,
};

/// How deliveries are made.
#[derive(Clone, Debug)]
pub struct DeliverConfig {
    /// Where the API is reached, without a trailing slash; the root of each `callback_url`.
    pub public_url: String,
    /// Attempts in flight at most.
    pub concurrency: usize,
    /// Attempts in flight at one endpoint at most.
    pub endpoint_concurrency: usize,
    /// The rate of endpoints that have none of their own.
    pub default_rate: SendRate,
    /// Processes that deliver at the same time at most, this one included. They share an endpoint's rate by the
    /// table; a single one needs no table for it.
    pub max_processes: u32,
}

impl DeliverConfig {
    /// One process with the usual concurrency: well below the 1,024 files that a Lambda may have open, and enough for
    /// an endpoint to take two whole dispatches at once.
    pub fn new(public_url: impl Into<String>) -> Self {
        Self {
            public_url: public_url.into(),
            concurrency: 256,
            endpoint_concurrency: 64,
            default_rate: SendRate::default(),
            max_processes: 1,
        }
    }
}

/// Delivers events.
pub struct Deliverer {
    pub(super) store: Store,
    pub(super) queues: Queues,
    pub(super) keyring: Keyring,
    pub(super) sender: WebhookSender,
    pub(super) clock: Clock,
    pub(super) config: DeliverConfig,
    pub(super) observer: Arc<dyn DeliveryObserver>,
    pub(super) random: JitterRandom,
    pub(super) send_lanes: SendLanes,
    pub(super) endpoint_activities: EndpointActivities,
    pub(super) app_cache: TimedCache<AppId, App>,
    pub(super) bank_cache: TimedCache<BankId, Arc<BankConfig>>,
}

impl Deliverer {
    /// A deliverer that nobody observes.
    pub fn new(
        store: Store,
        queues: Queues,
        vault: Arc<Vault>,
        sender: WebhookSender,
        clock: Clock,
        config: DeliverConfig,
    ) -> Self {
        Self {
            keyring: Keyring::new(store.clone(), vault),
            store,
            queues,
            sender,
            clock,
            send_lanes: SendLanes::new(config.concurrency, config.endpoint_concurrency),
            endpoint_activities: EndpointActivities::default(),
            config,
            observer: Arc::new(SilentDeliveryObserver),
            random: JitterRandom::from_system(),
            app_cache: TimedCache::default(),
            bank_cache: TimedCache::default(),
        }
    }

    /// The same deliverer, reporting each attempt to `observer`.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn DeliveryObserver>) -> Self {
        self.observer = observer;
        self
    }

    /// The same deliverer, drawing the jitter of its retries from `random`.
    #[must_use]
    pub fn with_random(mut self, random: JitterRandom) -> Self {
        self.random = random;
        self
    }

    /// The secrets of apps and endpoints.
    pub const fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// The time now.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
