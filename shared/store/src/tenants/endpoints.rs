//! Endpoints: where an app is told what changed.

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
    Consistency, Store, StoreError,
    table::{
        call::{KeyRange, ReadLimit},
        item::{Attributes, ItemBuilder, ItemReader, JSON_ATTRIBUTE, Key, bytes_value, json_value},
    },
    tenants::apps,
};

/// Endpoints of one app at most.
pub const MAX_ENDPOINTS_PER_APP: usize = 100;

const KIND: &str = "endpoint";
const ENDPOINT_PREFIX: &str = "WHK#";

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
    /// When the secret before the last rotation ceases to sign; it never does where there is none.
    pub previous_secret_until: Option<Timestamp>,
    /// The products it is told of; none: all.
    pub products: Vec<Product>,
    /// The names of the events it is told of, or `family.*`; none: all that records bring.
    pub events: Vec<String>,
    /// What it is sent.
    pub payload_mode: PayloadMode,
    /// The version of the bodies it is sent.
    pub body_version: BodyVersion,
    /// It is told the events of a record one after another, of those committed from then on.
    pub ordered_since: Option<Timestamp>,
    /// Events a second at most; the usual rate where there is none.
    pub events_per_second: Option<u16>,
    /// When it was made.
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

fn endpoint_key(app: AppId, id: EndpointId) -> Key {
    Key::new(apps::app_partition(app), format!("{ENDPOINT_PREFIX}{id}"))
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
    Ok(ItemBuilder::new(endpoint_key(endpoint.app, endpoint.id))
        .with_attribute(JSON_ATTRIBUTE, json_value(KIND, &plain)?)
        .with_attribute("s", bytes_value(endpoint.sealed_secrets.as_slice()))
        .with_optional("b", endpoint.sealed_bearer.as_deref().map(bytes_value))
        .build())
}

fn read_endpoint(app: AppId, item: &Attributes) -> Result<Endpoint, StoreError> {
    let reader = ItemReader::new(KIND, item);
    let plain: PlainEndpoint = reader.read_json(JSON_ATTRIBUTE)?;
    let id = reader.sort_key_after(ENDPOINT_PREFIX)?.parse();
    Ok(Endpoint {
        id: id.map_err(|_| reader.corrupt_error("sk"))?,
        app,
        url: plain.url,
        sealed_secrets: reader.read_bytes("s")?.to_vec(),
        sealed_bearer: reader
            .read_optional("b", ItemReader::read_bytes)?
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
    /// [`StoreError`].
    pub async fn put_endpoint(&self, endpoint: &Endpoint) -> Result<(), StoreError> {
        self.put_item(write_endpoint(endpoint)?).await
    }

    /// One endpoint of an app.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_endpoint(
        &self,
        app: AppId,
        id: EndpointId,
    ) -> Result<Option<Endpoint>, StoreError> {
        let item = self
            .get_item(endpoint_key(app, id), Consistency::Eventual)
            .await?;
        item.as_ref()
            .map(|item| read_endpoint(app, item))
            .transpose()
    }

    /// The endpoints of an app.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than [`MAX_ENDPOINTS_PER_APP`].
    pub async fn list_endpoints(&self, app: AppId) -> Result<Vec<Endpoint>, StoreError> {
        let take = ReadLimit::All {
            bound: MAX_ENDPOINTS_PER_APP,
            what: "endpoints of an app",
        };
        let range = KeyRange::with_prefix(apps::app_partition(app), ENDPOINT_PREFIX);
        let items = self.query_range(range, take, Consistency::Eventual).await?;
        items.iter().map(|item| read_endpoint(app, item)).collect()
    }

    /// Deletes an endpoint, where there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delete_endpoint(&self, app: AppId, id: EndpointId) -> Result<(), StoreError> {
        self.delete_item(endpoint_key(app, id)).await
    }
}
