//! Targets: the endpoints that a record's events go to. They are the app's endpoints and the URLs of the record's
//! subscriptions, each URL once.
//!
//! [`DeliveryTarget`] is an endpoint as deliveries need it.

use jiff::Timestamp;
use okra_core::{
    model::{
        ids::{AppId, EndpointId},
        snapshot::Product,
    },
    sync::feed::{BodyVersion, FeedEntry, FeedStream, PayloadMode},
};
use okra_store::{Endpoint, RecordHead, StoredEndpointHealth, Subscription};
use okra_wire::webhook::{event_matches, event_name};

use super::{deliverer::Deliverer, error::DeliverError};
use crate::{
    endpoint_url::endpoint_id,
    signing_secrets::{BearerToken, SigningSecrets},
};

/// An endpoint that an event goes to.
pub(super) struct DeliveryTarget {
    pub(super) app: AppId,
    pub(super) endpoint: EndpointId,
    pub(super) url: String,
    pub(super) payload_mode: PayloadMode,
    pub(super) body_version: BodyVersion,
    pub(super) secrets: SigningSecrets,
    pub(super) bearer: Option<BearerToken>,
    /// The names and families of events it gets; empty: all events of records.
    pub(super) event_filters: Vec<String>,
    pub(super) rate: Option<u16>,
    /// It gets a record's events in order, of those committed from then on.
    pub(super) ordered_since: Option<Timestamp>,
    /// The streams of the record that it gets.
    pub(super) streams: Vec<FeedStream>,
    /// As it was when this was read.
    pub(super) health: StoredEndpointHealth,
}

impl DeliveryTarget {
    /// True where it gets such events of a record.
    pub(super) fn wants_event(&self, name: &str) -> bool {
        self.event_filters.is_empty() || self.names_event(name)
    }

    /// True where it gets the event of an entry of the record it was read for.
    pub(super) fn wants_entry(&self, entry: &FeedEntry) -> bool {
        self.streams.contains(&entry.change.stream()) && self.wants_event(event_name(&entry.change))
    }

    /// True where its filters contain such an event by its name or its family.
    pub(super) fn names_event(&self, name: &str) -> bool {
        self.event_filters
            .iter()
            .any(|filter| event_matches(filter, name))
    }
}

/// A URL that a record's events go to.
struct ChosenUrl<'a> {
    url: &'a str,
    /// The endpoint of the app that has this URL, where there is one.
    endpoint: Option<&'a Endpoint>,
    streams: Vec<FeedStream>,
}

/// The URLs that a record's events go to, each once, the app's endpoints first.
fn choose_urls<'a>(
    endpoints: &'a [Endpoint],
    subscriptions: &'a [Subscription],
) -> Vec<ChosenUrl<'a>> {
    let mut chosen: Vec<ChosenUrl<'a>> = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let products = match endpoint.products.as_slice() {
            [] => &Product::ALL,
            products => products,
        };
        add_url(&mut chosen, &endpoint.url, Some(endpoint), products);
    }
    for subscription in subscriptions {
        if let Some(url) = &subscription.webhook_url {
            add_url(&mut chosen, url, None, &subscription.products);
        }
    }
    chosen
}

/// Adds the streams of products to a URL. A change of state concerns every product.
fn add_url<'a>(
    chosen: &mut Vec<ChosenUrl<'a>>,
    url: &'a str,
    endpoint: Option<&'a Endpoint>,
    products: &[Product],
) {
    let streams = products
        .iter()
        .map(|&product| FeedStream::from(product))
        .chain([FeedStream::State]);
    match chosen.iter_mut().find(|it| it.url == url) {
        Some(same) => same.streams.extend(streams),
        None => chosen.push(ChosenUrl {
            url,
            endpoint,
            streams: streams.collect(),
        }),
    }
}

impl Deliverer {
    /// The targets of a record's events of a stream, as they are now.
    pub(super) async fn load_stream_targets(
        &self,
        head: &RecordHead,
        stream: FeedStream,
    ) -> Result<Vec<DeliveryTarget>, DeliverError> {
        self.load_matching_targets(head, |streams, _| streams.contains(&stream))
            .await
    }

    /// An endpoint as a target of a record's events of any stream; `None` where it gets none.
    pub(super) async fn load_record_target(
        &self,
        head: &RecordHead,
        endpoint: EndpointId,
    ) -> Result<Option<DeliveryTarget>, DeliverError> {
        let mut targets = self
            .load_matching_targets(head, |_, id| id == endpoint)
            .await?;
        Ok(targets.pop())
    }

    /// The targets of a record whose streams and id match.
    async fn load_matching_targets(
        &self,
        head: &RecordHead,
        is_match: impl Fn(&[FeedStream], EndpointId) -> bool,
    ) -> Result<Vec<DeliveryTarget>, DeliverError> {
        let (endpoints, subscriptions) = futures::try_join!(
            self.store.list_endpoints(head.app),
            self.store.list_subscriptions(head.record)
        )?;
        let (ids, chosen): (Vec<EndpointId>, Vec<ChosenUrl<'_>>) =
            choose_urls(&endpoints, &subscriptions)
                .into_iter()
                .map(|chosen| {
                    let id = chosen
                        .endpoint
                        .map_or_else(|| endpoint_id(head.app, chosen.url), |endpoint| endpoint.id);
                    (id, chosen)
                })
                .filter(|(id, chosen)| is_match(&chosen.streams, *id))
                .unzip();
        let mut health_by_id = self.store.load_health_of_endpoints(&ids).await?;
        let mut targets = Vec::with_capacity(chosen.len());
        for (id, chosen) in ids.into_iter().zip(chosen) {
            // An endpoint without an item never failed.
            let health = health_by_id.remove(&id).unwrap_or_default();
            let target = match chosen.endpoint {
                Some(endpoint) => self.build_target(endpoint, health)?,
                None => {
                    self.build_subscription_target(head.app, id, chosen.url, health)
                        .await?
                }
            };
            targets.push(DeliveryTarget {
                streams: chosen.streams,
                ..target
            });
        }
        Ok(targets)
    }

    /// The endpoints of an app, as targets of no record.
    pub(super) async fn load_app_targets(
        &self,
        app: AppId,
    ) -> Result<Vec<DeliveryTarget>, DeliverError> {
        let endpoints = self.store.list_endpoints(app).await?;
        let ids: Vec<EndpointId> = endpoints.iter().map(|endpoint| endpoint.id).collect();
        let mut health_by_id = self.store.load_health_of_endpoints(&ids).await?;
        endpoints
            .iter()
            .map(|endpoint| {
                let health = health_by_id.remove(&endpoint.id).unwrap_or_default();
                self.build_target(endpoint, health)
            })
            .collect()
    }

    /// An endpoint of an app, as a target of no record. The URL of a subscription, which only its record knows, is
    /// empty: enough to change its health.
    pub(super) async fn load_target(
        &self,
        app: AppId,
        endpoint: EndpointId,
    ) -> Result<DeliveryTarget, DeliverError> {
        let (row, health) = futures::try_join!(
            self.store.find_endpoint(app, endpoint),
            self.store.load_endpoint_health(endpoint)
        )?;
        match row {
            Some(row) => self.build_target(&row, health),
            None => {
                self.build_subscription_target(app, endpoint, "", health)
                    .await
            }
        }
    }

    /// An endpoint as a target of no stream.
    fn build_target(
        &self,
        endpoint: &Endpoint,
        health: StoredEndpointHealth,
    ) -> Result<DeliveryTarget, DeliverError> {
        Ok(DeliveryTarget {
            app: endpoint.app,
            endpoint: endpoint.id,
            url: endpoint.url.clone(),
            payload_mode: endpoint.payload_mode,
            body_version: endpoint.body_version,
            secrets: self.keyring.open_active_secrets(endpoint, self.now())?,
            bearer: self.keyring.open_bearer(endpoint)?,
            event_filters: endpoint.events.clone(),
            rate: endpoint.events_per_second,
            ordered_since: endpoint.ordered_since,
            streams: Vec::new(),
            health,
        })
    }

    /// The URL of a subscription as a target of no stream: it has Okra's defaults, and is signed with the secrets of
    /// its app.
    async fn build_subscription_target(
        &self,
        app: AppId,
        endpoint: EndpointId,
        url: &str,
        health: StoredEndpointHealth,
    ) -> Result<DeliveryTarget, DeliverError> {
        Ok(DeliveryTarget {
            app,
            endpoint,
            url: url.to_owned(),
            payload_mode: PayloadMode::default(),
            body_version: BodyVersion::default(),
            secrets: self
                .keyring
                .load_or_create_app_secrets(app, self.now())
                .await?,
            bearer: None,
            event_filters: Vec::new(),
            rate: None,
            ordered_since: None,
            streams: Vec::new(),
            health,
        })
    }
}

#[cfg(test)]
mod tests {
    use okra_core::model::{
        ids::{RecordId, SubscriptionId},
        interval::Interval,
    };

    use super::*;

    const BALANCE: &[Product] = &[Product::Balance];
    const TRANSACTIONS: &[Product] = &[Product::Transactions];

    fn sample_endpoint(url: &str, products: &[Product]) -> Endpoint {
        let app = AppId::from_bytes([1; 12]);
        Endpoint {
            id: endpoint_id(app, url),
            app,
            url: url.to_owned(),
            sealed_secrets: Vec::new(),
            sealed_bearer: None,
            previous_secret_until: None,
            products: products.to_vec(),
            events: Vec::new(),
            payload_mode: PayloadMode::Full,
            body_version: BodyVersion::LATEST,
            ordered_since: None,
            events_per_second: None,
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn sample_subscription(url: Option<&str>, products: &[Product]) -> Subscription {
        Subscription {
            id: SubscriptionId::derive(&[]),
            record: RecordId::from_bytes([1; 12]),
            products: products.to_vec(),
            interval: Interval::Daily,
            webhook_url: url.map(str::to_owned),
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn each_url_is_chosen_once_with_all_its_products() {
        let endpoints = [
            sample_endpoint("https://all.example/", &[]),
            sample_endpoint("https://balance.example/", BALANCE),
            sample_endpoint("https://transactions.example/", TRANSACTIONS),
        ];
        let subscriptions = [
            sample_subscription(Some("https://all.example/"), BALANCE),
            sample_subscription(Some("https://transactions.example/"), BALANCE),
            sample_subscription(Some("https://own.example/"), &Product::ALL),
            sample_subscription(Some("https://own.example/"), BALANCE),
            sample_subscription(Some("https://rows.example/"), TRANSACTIONS),
            sample_subscription(None, BALANCE),
        ];
        let chosen = |stream| -> Vec<(&str, bool)> {
            choose_urls(&endpoints, &subscriptions)
                .into_iter()
                .filter(|it| it.streams.contains(&stream))
                .map(|it| (it.url, it.endpoint.is_some()))
                .collect()
        };
        assert_eq!(
            chosen(FeedStream::Balance),
            [
                ("https://all.example/", true),
                ("https://balance.example/", true),
                ("https://transactions.example/", true),
                ("https://own.example/", false),
            ]
        );
        assert_eq!(
            chosen(FeedStream::Transactions),
            [
                ("https://all.example/", true),
                ("https://transactions.example/", true),
                ("https://own.example/", false),
                ("https://rows.example/", false),
            ]
        );
    }
}
