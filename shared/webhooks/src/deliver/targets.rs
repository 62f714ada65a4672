//! Who is told of a record's changes: the app's endpoints and the URLs of the record's
//! subscriptions, each URL once.

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

use super::{DeliverError, Deliverer};
use crate::{
    secret::{BearerToken, SigningSecrets},
    target::endpoint_id,
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
    /// The names it asked for; none: all that records bring.
    pub(super) event_filters: Vec<String>,
    pub(super) rate: Option<u16>,
    /// It is told a record's events in order, of those committed from then on.
    pub(super) ordered_since: Option<Timestamp>,
    /// The streams of the record that it is told of.
    pub(super) streams: Vec<FeedStream>,
    /// As it was when this was read.
    pub(super) health: StoredEndpointHealth,
}

impl DeliveryTarget {
    /// True where it wants such an event of a record.
    pub(super) fn wants_event(&self, name: &str) -> bool {
        self.event_filters.is_empty() || self.names_event(name)
    }

    /// True where it wants the event of an entry of the record it was read for.
    pub(super) fn wants_entry(&self, entry: &FeedEntry) -> bool {
        self.streams.contains(&entry.change.stream()) && self.wants_event(event_name(&entry.change))
    }

    /// True where it asked for such an event by its name or its family.
    pub(super) fn names_event(&self, name: &str) -> bool {
        self.event_filters
            .iter()
            .any(|asked| event_matches(asked, name))
    }
}

/// A URL that is to be told.
struct ChosenUrl<'a> {
    url: &'a str,
    /// The endpoint of the app that it is, where it is one.
    endpoint: Option<&'a Endpoint>,
    streams: Vec<FeedStream>,
}

/// The URLs that are to be told of a record, each once, the app's endpoints first. A change of state
/// concerns whoever wants any product.
fn choose_urls<'a>(
    endpoints: &'a [Endpoint],
    subscriptions: &'a [Subscription],
) -> Vec<ChosenUrl<'a>> {
    let mut chosen: Vec<ChosenUrl<'a>> = Vec::with_capacity(endpoints.len());
    let mut add = |url: &'a str, endpoint: Option<&'a Endpoint>, products: &[Product]| {
        let wanted = products.iter().map(|&product| FeedStream::from(product));
        let wanted = wanted.chain([FeedStream::State]);
        match chosen.iter_mut().find(|known| known.url == url) {
            Some(known) => known.streams.extend(wanted),
            None => chosen.push(ChosenUrl {
                url,
                endpoint,
                streams: wanted.collect(),
            }),
        }
    };
    for endpoint in endpoints {
        let products = match endpoint.products.as_slice() {
            [] => &Product::ALL,
            products => products,
        };
        add(&endpoint.url, Some(endpoint), products);
    }
    for subscription in subscriptions {
        if let Some(url) = &subscription.webhook_url {
            add(url, None, &subscription.products);
        }
    }
    chosen
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

    /// An endpoint as it is told of a record, whatever of it; `None` where it is not told at all.
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

    /// The targets of a record whose streams and id fit.
    async fn load_matching_targets(
        &self,
        head: &RecordHead,
        is_match: impl Fn(&[FeedStream], EndpointId) -> bool,
    ) -> Result<Vec<DeliveryTarget>, DeliverError> {
        let (endpoints, subscriptions) = futures::try_join!(
            self.store.list_endpoints(head.app),
            self.store.list_subscriptions(head.record)
        )?;
        let chosen = choose_urls(&endpoints, &subscriptions).into_iter();
        let chosen = chosen.map(|it| {
            let id = it.endpoint.map(|endpoint| endpoint.id);
            (id.unwrap_or_else(|| endpoint_id(head.app, it.url)), it)
        });
        let fitting = chosen.filter(|(id, it)| is_match(&it.streams, *id));
        let (ids, chosen): (Vec<EndpointId>, Vec<ChosenUrl<'_>>) = fitting.unzip();
        let mut healths = self.store.load_health_of_endpoints(&ids).await?;
        let mut targets = Vec::with_capacity(chosen.len());
        for (id, it) in ids.into_iter().zip(chosen) {
            let ChosenUrl {
                url,
                endpoint,
                streams,
            } = it;
            let health = healths.remove(&id).unwrap_or_default();
            targets.push(match endpoint {
                Some(endpoint) => DeliveryTarget {
                    streams,
                    ..self.build_target(endpoint, health)?
                },
                None => DeliveryTarget {
                    app: head.app,
                    endpoint: id,
                    url: url.to_owned(),
                    payload_mode: PayloadMode::default(),
                    body_version: BodyVersion::default(),
                    secrets: self
                        .keyring
                        .load_or_create_app_secrets(head.app, self.clock.now())
                        .await?,
                    bearer: None,
                    event_filters: Vec::new(),
                    rate: None,
                    ordered_since: None,
                    streams,
                    health,
                },
            });
        }
        Ok(targets)
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
    fn each_url_is_told_once_with_the_keys_it_has() {
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
