//! How an endpoint does ([`EndpointHealthDetails`]), and the calls that change that: ping, enable, disable.
//!
//! The rule: the URL of a data sync that is not a registered endpoint has a health too, and is pinged, enabled and
//! disabled like one. A change of health competes with deliveries, which change it as well, and is tried again.

use okra_core::{
    delivery::endpoint_health::EndpointHealth,
    model::ids::{CustomerId, EndpointId},
};
use okra_queue::{EndpointMaintenance, EndpointPing};
use okra_store::{Endpoint, PingResult, StoredEndpointHealth};

use crate::{app_scope::AppScope, endpoint_lookup::EndpointSelector, error::AppError};

/// Most parked events that are counted one by one; above that the number is an estimate.
const MAX_COUNTED_EVENTS: usize = 1000;

/// Most attempts at changing a health that deliveries change at the same time.
const MAX_UPDATE_ATTEMPTS: usize = 16;

/// How an endpoint does, and what is parked for it.
#[derive(Clone, Debug)]
pub struct EndpointHealthDetails {
    /// Its health, which says its status in one word.
    pub health: EndpointHealth,
    /// Events parked for it; above 1,000 an estimate.
    pub parked_count: u64,
    /// The outcome of the last ping.
    pub last_ping: Option<PingResult>,
}

impl AppScope {
    /// The health of an endpoint, which the caller has compared with the app.
    pub(crate) async fn load_endpoint_health(
        &self,
        endpoint: EndpointId,
    ) -> Result<EndpointHealthDetails, AppError> {
        let stored = self.store().load_endpoint_health(endpoint).await?;
        self.describe_endpoint_health(endpoint, stored).await
    }

    /// A stored health, with the number of parked events.
    pub(crate) async fn describe_endpoint_health(
        &self,
        endpoint: EndpointId,
        stored: StoredEndpointHealth,
    ) -> Result<EndpointHealthDetails, AppError> {
        // Nothing is parked for an endpoint that never failed.
        let counted = match stored.version {
            0 => 0,
            _ => {
                let parked = self
                    .store()
                    .list_parked_events(endpoint, MAX_COUNTED_EVENTS);
                parked.await?.len()
            }
        };
        let counted_all = counted < MAX_COUNTED_EVENTS;
        let counted = counted as u64;
        Ok(EndpointHealthDetails {
            parked_count: match counted_all {
                true => counted,
                false => counted.max(stored.parked_count),
            },
            health: stored.health,
            last_ping: stored.last_ping,
        })
    }

    /// Sends a signed ping; its outcome becomes `last_ping`. Returns the endpoint.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where neither an endpoint nor a data sync has that id or URL.
    pub async fn ping_endpoint(
        &self,
        selector: &EndpointSelector,
        customer: Option<CustomerId>,
    ) -> Result<Endpoint, AppError> {
        let endpoint = self.load_endpoint_or_sync_url(selector, customer).await?;
        self.send_ping(&endpoint).await?;
        Ok(endpoint)
    }

    /// Enables an endpoint: what is parked for it is sent. Returns the endpoint.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where neither an endpoint nor a data sync has that id or URL.
    pub async fn enable_endpoint(
        &self,
        selector: &EndpointSelector,
        customer: Option<CustomerId>,
    ) -> Result<Endpoint, AppError> {
        let endpoint = self.load_endpoint_or_sync_url(selector, customer).await?;
        self.update_health(&endpoint, EndpointHealth::enable_by_app)
            .await?;
        // Also where nothing changed: an earlier call may have failed half way.
        self.send_maintenance(&endpoint).await?;
        Ok(endpoint)
    }

    /// Disables an endpoint: its events are parked until it is enabled. Returns the endpoint.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where neither an endpoint nor a data sync has that id or URL.
    pub async fn disable_endpoint(
        &self,
        selector: &EndpointSelector,
        customer: Option<CustomerId>,
    ) -> Result<Endpoint, AppError> {
        let endpoint = self.load_endpoint_or_sync_url(selector, customer).await?;
        let now = self.now();
        self.update_health(&endpoint, |health| health.disable_by_app(now))
            .await?;
        Ok(endpoint)
    }

    /// Clears the failures of an endpoint, and has what is parked for it looked after.
    pub(crate) async fn reset_endpoint_health(&self, endpoint: &Endpoint) -> Result<(), AppError> {
        let stored = self.store().load_endpoint_health(endpoint.id).await?;
        if stored.version == 0 {
            return Ok(());
        }
        self.update_health(endpoint, |health| *health = EndpointHealth::default())
            .await?;
        self.send_maintenance(endpoint).await
    }

    async fn update_health(
        &self,
        endpoint: &Endpoint,
        change: impl Fn(&mut EndpointHealth),
    ) -> Result<(), AppError> {
        let store = self.store();
        for _ in 0..MAX_UPDATE_ATTEMPTS {
            let mut stored = store.load_endpoint_health(endpoint.id).await?;
            let before = stored.health.clone();
            change(&mut stored.health);
            if stored.health == before {
                return Ok(());
            }
            let put =
                store.put_endpoint_health(endpoint.app, endpoint.id, &stored, &[], self.now());
            if put.await?.is_some() {
                return Ok(());
            }
        }
        Err(AppError::Busy)
    }

    pub(crate) async fn send_ping(&self, endpoint: &Endpoint) -> Result<(), AppError> {
        let is_sync_url = endpoint.sealed_secrets.is_empty();
        let ping = EndpointPing {
            app: endpoint.app,
            endpoint: endpoint.id,
            url: is_sync_url.then(|| endpoint.url.clone()),
        };
        Ok(self.services().queues.send_ping(ping).await?)
    }

    async fn send_maintenance(&self, endpoint: &Endpoint) -> Result<(), AppError> {
        let maintenance = EndpointMaintenance {
            app: endpoint.app,
            endpoint: endpoint.id,
        };
        let queues = &self.services().queues;
        Ok(queues.send_maintenances(&[(maintenance, 0)]).await?)
    }
}
