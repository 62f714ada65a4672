//! Endpoints: the webhook URLs of an app, with what is sent to each and the secrets that sign it.

use std::fmt;

use jiff::Timestamp;
use okra_core::{
    model::{
        ids::{AppId, EndpointId},
        snapshot::Product,
    },
    sync::feed::{BodyVersion, PayloadMode},
};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, MAX_ENDPOINTS_PER_APP, Store, StoreError,
    key::{self, Key},
    limits::usage_limits::UsageCounter,
    table::{
        attributes::{Attributes, JSON_ATTRIBUTE, bytes_value},
        expression::Condition,
        item::{ItemBuilder, ItemReader},
        key_range::{KeyRange, READ_MARGIN, ReadLimit},
    },
};

const KIND: &str = "endpoint";
const SECRETS_ATTRIBUTE: &str = "s";
const BEARER_ATTRIBUTE: &str = "b";

/// A webhook URL of an app.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Its app.
    pub app: AppId,
    /// The URL.
    pub url: String,
    /// Its signing secrets as the vault sealed them.
    pub sealed_secrets: Vec<u8>,
    /// Its bearer token as the vault sealed it.
    pub sealed_bearer: Option<Vec<u8>>,
    /// When the secret before the last rotation ceases to sign; `None` where there is no such secret.
    pub previous_secret_until: Option<Timestamp>,
    /// The products whose events it gets; none: all.
    pub products: Vec<Product>,
    /// The names of the events it gets, or `family.*`; none: all events of records.
    pub events: Vec<String>,
    /// Whether it gets whole resources or references to them.
    pub payload_mode: PayloadMode,
    /// The version of the bodies it is sent.
    pub body_version: BodyVersion,
    /// It gets the events of a record one after another (FIFO), of those committed from then on.
    pub ordered_since: Option<Timestamp>,
    /// Events a second at most; `None`: the usual rate.
    pub events_per_second: Option<u16>,
    /// When it was created.
    pub created_at: Timestamp,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("id", &self.id)
            .field("app", &self.app)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// The part of an endpoint that is no secret.
#[derive(Serialize, Deserialize)]
struct PlainEndpoint {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[serde(rename = "previous_until")]
    previous_secret_until: Option<Timestamp>,
    products: Vec<Product>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    events: Vec<String>,
    #[serde(rename = "payload")]
    payload_mode: PayloadMode,
    #[serde(default)]
    #[serde(rename = "version")]
    body_version: BodyVersion,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    ordered_since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[serde(rename = "rate")]
    events_per_second: Option<u16>,
    created_at: Timestamp,
}

fn write_endpoint(endpoint: &Endpoint) -> Result<Attributes, StoreError> {
    let plain = PlainEndpoint {
        url: endpoint.url.clone(),
        previous_secret_until: endpoint.previous_secret_until,
        products: endpoint.products.clone(),
        events: endpoint.events.clone(),
        payload_mode: endpoint.payload_mode,
        body_version: endpoint.body_version,
        ordered_since: endpoint.ordered_since,
        events_per_second: endpoint.events_per_second,
        created_at: endpoint.created_at,
    };
    let key = Key::Endpoint {
        app: endpoint.app,
        endpoint: endpoint.id,
    };
    Ok(ItemBuilder::new(key)
        .with_json(KIND, &plain)?
        .with_attribute(
            SECRETS_ATTRIBUTE,
            bytes_value(endpoint.sealed_secrets.as_slice()),
        )
        .with_optional(
            BEARER_ATTRIBUTE,
            endpoint.sealed_bearer.as_deref().map(bytes_value),
        )
        .build())
}

fn read_endpoint(app: AppId, item: &Attributes) -> Result<Endpoint, StoreError> {
    let reader = ItemReader::new(KIND, item);
    let plain: PlainEndpoint = reader.read_json(JSON_ATTRIBUTE)?;
    Ok(Endpoint {
        id: reader.parse_sort_key_after(key::ENDPOINT_PREFIX)?,
        app,
        url: plain.url,
        sealed_secrets: reader.read_bytes(SECRETS_ATTRIBUTE)?.to_vec(),
        sealed_bearer: reader
            .read_optional(BEARER_ATTRIBUTE, ItemReader::read_bytes)?
            .map(<[u8]>::to_vec),
        previous_secret_until: plain.previous_secret_until,
        products: plain.products,
        events: plain.events,
        payload_mode: plain.payload_mode,
        body_version: plain.body_version,
        ordered_since: plain.ordered_since,
        events_per_second: plain.events_per_second,
        created_at: plain.created_at,
    })
}

impl Store {
    /// Stores an endpoint in place of one with the same id.
    ///
    /// # Errors
    ///
    /// [`StoreError::LimitReached`] for a new one beyond [`MAX_ENDPOINTS_PER_APP`].
    pub async fn put_endpoint(&self, endpoint: &Endpoint) -> Result<(), StoreError> {
        let item = write_endpoint(endpoint)?;
        if self
            .put_item_if(item.clone(), vec![Condition::Exists])
            .await?
        {
            return Ok(());
        }
        let put = self.put_action(item, vec![])?;
        let counters = [UsageCounter::EndpointsOfApp(endpoint.app)];
        let outcome = self.transact_counted(vec![put], &counters).await?;
        outcome.require_room().map(drop)
    }

    /// One endpoint of an app; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_endpoint(
        &self,
        app: AppId,
        endpoint: EndpointId,
    ) -> Result<Option<Endpoint>, StoreError> {
        let item = self
            .get_item(Key::Endpoint { app, endpoint }, Consistency::Eventual)
            .await?;
        item.as_ref()
            .map(|item| read_endpoint(app, item))
            .transpose()
    }

    /// The endpoints of an app, in the order of their ids; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_endpoints(&self, app: AppId) -> Result<Vec<Endpoint>, StoreError> {
        let limit = ReadLimit::Capped {
            bound: MAX_ENDPOINTS_PER_APP * READ_MARGIN,
            what: "endpoints of an app",
        };
        let range = KeyRange::with_prefix(key::app_partition(app), key::ENDPOINT_PREFIX);
        let items = self
            .query_range(range, limit, Consistency::Eventual)
            .await?;
        items.iter().map(|item| read_endpoint(app, item)).collect()
    }

    /// Deletes an endpoint, where there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delete_endpoint(
        &self,
        app: AppId,
        endpoint: EndpointId,
    ) -> Result<(), StoreError> {
        self.delete_item(Key::Endpoint { app, endpoint }).await
    }
}
