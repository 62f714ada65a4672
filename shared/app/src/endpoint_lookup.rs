//! Which endpoint a request names: [`EndpointSelector`], by id or by URL.
//!
//! The rule: an id or URL that is another app's is not found. The URL of a data sync counts as an endpoint without
//! secrets of its own; its id is derived from the app and the URL, like that of a registered one.

use futures::future::try_join_all;
use jiff::Timestamp;
use okra_core::{
    model::ids::{AppId, CustomerId, EndpointId},
    sync::feed::{BodyVersion, PayloadMode},
};
use okra_store::{Endpoint, SortOrder};
use okra_webhooks::{endpoint_id, retained_since};

use crate::{app_scope::AppScope, error::AppError};

/// Records whose data sync is read at the same time.
const CONCURRENCY: usize = 16;

/// Which endpoint is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointSelector {
    /// The one with this id.
    Id(EndpointId),
    /// The one with this URL.
    Url(String),
}

impl EndpointSelector {
    fn to_endpoint_id(&self, app: AppId) -> EndpointId {
        match self {
            Self::Id(id) => *id,
            Self::Url(url) => endpoint_id(app, url),
        }
    }
}

impl AppScope {
    /// A registered endpoint of the app.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where the app has none with that id or URL.
    pub async fn load_own_endpoint(
        &self,
        selector: &EndpointSelector,
    ) -> Result<Endpoint, AppError> {
        let app = self.app().id;
        let id = selector.to_endpoint_id(app);
        let endpoint = self.store().find_endpoint(app, id).await?;
        endpoint.ok_or(AppError::NotFound { what: "webhook" })
    }

    /// A registered endpoint of the app, or the URL of a data sync.
    ///
    /// A URL is recognised as that of a data sync where deliveries were made to it or its health is known; otherwise
    /// the data syncs of `customer`, or of all customers, are searched.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where neither is found, [`AppError::Invalid`] where the app has too many records to
    /// search without a customer.
    pub async fn load_endpoint_or_sync_url(
        &self,
        selector: &EndpointSelector,
        customer: Option<CustomerId>,
    ) -> Result<Endpoint, AppError> {
        match self.load_own_endpoint(selector).await {
            Err(AppError::NotFound { .. }) => {}
            found => return found,
        }
        let app = self.app().id;
        if let EndpointSelector::Url(url) = selector
            && self.was_delivered_to(endpoint_id(app, url)).await?
        {
            return Ok(endpoint_for_sync_url(app, url.clone()));
        }
        let wanted = selector.to_endpoint_id(app);
        let heads = self.load_records_until(customer, |_| false).await?;
        for heads in heads.chunks(CONCURRENCY) {
            let subscriptions = heads
                .iter()
                .map(|head| self.store().list_subscriptions(head.record));
            for subscription in try_join_all(subscriptions).await?.concat() {
                if let Some(url) = subscription.webhook_url
                    && endpoint_id(app, &url) == wanted
                {
                    return Ok(endpoint_for_sync_url(app, url));
                }
            }
        }
        Err(AppError::NotFound { what: "webhook" })
    }

    /// The id of the endpoint that is meant. A URL need not be a registered endpoint's.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where the app has no endpoint with that id.
    pub async fn resolve_endpoint_id(
        &self,
        selector: &EndpointSelector,
    ) -> Result<EndpointId, AppError> {
        match selector {
            EndpointSelector::Url(url) => Ok(endpoint_id(self.app().id, url)),
            EndpointSelector::Id(_) => Ok(self.load_own_endpoint(selector).await?.id),
        }
    }

    /// True where the health of an endpoint is known, or a delivery to it is retained.
    async fn was_delivered_to(&self, id: EndpointId) -> Result<bool, AppError> {
        let (store, now) = (self.store(), self.now());
        if store.load_endpoint_health(id).await?.version > 0 {
            return Ok(true);
        }
        let times = retained_since(now)..=now;
        let newest = store.list_deliveries(id, times, None, SortOrder::Descending, 1);
        Ok(!newest.await?.is_empty())
    }
}

/// The URL of a data sync, as an endpoint.
fn endpoint_for_sync_url(app: AppId, url: String) -> Endpoint {
    Endpoint {
        id: endpoint_id(app, &url),
        app,
        url,
        sealed_secrets: Vec::new(),
        sealed_bearer: None,
        previous_secret_until: None,
        products: Vec::new(),
        events: Vec::new(),
        payload_mode: PayloadMode::default(),
        body_version: BodyVersion::default(),
        ordered_since: None,
        events_per_second: None,
        created_at: Timestamp::UNIX_EPOCH,
    }
}
