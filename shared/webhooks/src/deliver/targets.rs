//! Who is told of a record's changes: the app's endpoints and the URLs of the record's
//! subscriptions, each URL once.

use jiff::Timestamp;
use okra_core::{
    feed::{BodyVersion, FeedEntry, PayloadMode, Stream},
    ids::{AppId, EndpointId},
    model::Product,
};
use okra_store::{Endpoint, Head, StoredHealth, Subscription};
use okra_wire::webhook::{event_matches, event_name};

use super::{DeliverError, Deliverer};
use crate::{
    secret::{Bearer, SigningSecrets},
    target::endpoint_id,
};

/// An endpoint that an event goes to.
pub(super) struct Target {
    pub(super) app: AppId,
    pub(super) endpoint: EndpointId,
    pub(super) url: String,
    pub(super) payload: PayloadMode,
    pub(super) version: BodyVersion,
    pub(super) secrets: SigningSecrets,
    pub(super) bearer: Option<Bearer>,
    /// The names it asked for; none: all that records bring.
    pub(super) events: Vec<String>,
    pub(super) rate: Option<u16>,
    /// It is told a record's events in order, of those committed from then on.
    pub(super) ordered_since: Option<Timestamp>,
    /// The streams of the record that it is told of.
    pub(super) streams: Vec<Stream>,
    /// As it was when this was read.
    pub(super) health: StoredHealth,
}

impl Target {
    /// True where it wants such an event of a record.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.events.is_empty() || self.asks_for(name)
    }

    /// True where it wants the event of an entry of the record it was read for.
    pub(super) fn takes(&self, entry: &FeedEntry) -> bool {
        self.streams.contains(&entry.change.stream()) && self.wants(event_name(&entry.change))
    }

    /// True where it asked for such an event by its name or its family.
    pub(super) fn asks_for(&self, name: &str) -> bool {
        self.events.iter().any(|asked| event_matches(asked, name))
    }
}

/// A URL that is to be told.
struct Chosen<'a> {
    url: &'a str,
    /// The endpoint of the app that it is, where it is one.
    endpoint: Option<&'a Endpoint>,
    streams: Vec<Stream>,
}

/// The URLs that are to be told of a record, each once, the app's endpoints first. A change of state
/// concerns whoever wants any product.
fn choose<'a>(endpoints: &'a [Endpoint], subscriptions: &'a [Subscription]) -> Vec<Chosen<'a>> {
    let mut chosen: Vec<Chosen<'a>> = Vec::with_capacity(endpoints.len());
    let mut add = |url: &'a str, endpoint: Option<&'a Endpoint>, products: &[Product]| {
        let wanted = products.iter().map(|&product| Stream::from(product));
        let wanted = wanted.chain([Stream::State]);
        match chosen.iter_mut().find(|known| known.url == url) {
            Some(known) => known.streams.extend(wanted),
            None => chosen.push(Chosen {
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
    pub(super) async fn targets(
        &self,
        head: &Head,
        stream: Stream,
    ) -> Result<Vec<Target>, DeliverError> {
        self.those(head, |streams, _| streams.contains(&stream))
            .await
    }

    /// An endpoint as it is told of a record, whatever of it; `None` where it is not told at all.
    pub(super) async fn target_of_record(
        &self,
        head: &Head,
        endpoint: EndpointId,
    ) -> Result<Option<Target>, DeliverError> {
        let mut targets = self.those(head, |_, id| id == endpoint).await?;
        Ok(targets.pop())
    }

    /// The targets of a record whose streams and id fit.
    async fn those(
        &self,
        head: &Head,
        fit: impl Fn(&[Stream], EndpointId) -> bool,
    ) -> Result<Vec<Target>, DeliverError> {
        let (endpoints, subscriptions) = futures::try_join!(
            self.store.endpoints(head.app),
            self.store.subscriptions(head.record)
        )?;
        let chosen = choose(&endpoints, &subscriptions).into_iter();
        let chosen = chosen.map(|it| {
            let id = it.endpoint.map(|endpoint| endpoint.id);
            (id.unwrap_or_else(|| endpoint_id(head.app, it.url)), it)
        });
        let fitting = chosen.filter(|(id, it)| fit(&it.streams, *id));
        let (ids, chosen): (Vec<EndpointId>, Vec<Chosen<'_>>) = fitting.unzip();
        let mut healths = self.store.healths(&ids).await?;
        let mut targets = Vec::with_capacity(chosen.len());
        for (id, it) in ids.into_iter().zip(chosen) {
            let Chosen {
                url,
                endpoint,
                streams,
            } = it;
            let health = healths.remove(&id).unwrap_or_default();
            targets.push(match endpoint {
                Some(endpoint) => Target {
                    streams,
                    ..self.target(endpoint, health)?
                },
                None => Target {
                    app: head.app,
                    endpoint: id,
                    url: url.to_owned(),
                    payload: PayloadMode::default(),
                    version: BodyVersion::default(),
                    secrets: self.keyring.app_secrets(head.app, self.clock.now()).await?,
                    bearer: None,
                    events: Vec::new(),
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
    use okra_core::{
        ids::{RecordId, SubscriptionId},
        schedule::Interval,
    };

    use super::*;

    const BALANCE: &[Product] = &[Product::Balance];
    const TRANSACTIONS: &[Product] = &[Product::Transactions];

    fn endpoint(url: &str, products: &[Product]) -> Endpoint {
        let app = AppId::from_bytes([1; 12]);
        Endpoint {
            id: endpoint_id(app, url),
            app,
            url: url.to_owned(),
            secrets: Vec::new(),
            bearer: None,
            previous_until: None,
            products: products.to_vec(),
            events: Vec::new(),
            payload: PayloadMode::Full,
            version: BodyVersion::LATEST,
            ordered_since: None,
            rate: None,
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn subscription(url: Option<&str>, products: &[Product]) -> Subscription {
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
            endpoint("https://all.example/", &[]),
            endpoint("https://balance.example/", BALANCE),
            endpoint("https://transactions.example/", TRANSACTIONS),
        ];
        let subscriptions = [
            subscription(Some("https://all.example/"), BALANCE),
            subscription(Some("https://transactions.example/"), BALANCE),
            subscription(Some("https://own.example/"), &Product::ALL),
            subscription(Some("https://own.example/"), BALANCE),
            subscription(Some("https://rows.example/"), TRANSACTIONS),
            subscription(None, BALANCE),
        ];
        let chosen = |stream| -> Vec<(&str, bool)> {
            choose(&endpoints, &subscriptions)
                .into_iter()
                .filter(|it| it.streams.contains(&stream))
                .map(|it| (it.url, it.endpoint.is_some()))
                .collect()
        };
        assert_eq!(
            chosen(Stream::Balance),
            [
                ("https://all.example/", true),
                ("https://balance.example/", true),
                ("https://transactions.example/", true),
                ("https://own.example/", false),
            ]
        );
        assert_eq!(
            chosen(Stream::Transactions),
            [
                ("https://all.example/", true),
                ("https://transactions.example/", true),
                ("https://own.example/", false),
                ("https://rows.example/", false),
            ]
        );
    }
}
