//! Endpoints: where an app is told what changed.

use std::fmt;

use jiff::Timestamp;
use okra_core::{
    feed::{BodyVersion, PayloadMode},
    ids::{AppId, EndpointId},
    model::Product,
};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, Store, StoreError, apps,
    call::{Range, Take},
    item::{Attributes, Draft, JSON, Key, Reader, bytes, json},
};

/// Endpoints of one app at most.
pub const MAX_ENDPOINTS_PER_APP: usize = 100;

const KIND: &str = "endpoint";
const PREFIX: &str = "WHK#";

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
    pub secrets: Vec<u8>,
    /// Its bearer token as the vault sealed it.
    pub bearer: Option<Vec<u8>>,
    /// When the secret before the last rotation ceases to sign; it never does where there is none.
    pub previous_until: Option<Timestamp>,
    /// The products it is told of; none: all.
    pub products: Vec<Product>,
    /// The names of the events it is told of, or `family.*`; none: all that records bring.
    pub events: Vec<String>,
    /// What it is sent.
    pub payload: PayloadMode,
    /// The version of the bodies it is sent.
    pub version: BodyVersion,
    /// It is told the events of a record one after another, of those committed from then on.
    pub ordered_since: Option<Timestamp>,
    /// Events a second at most; the usual rate where there is none.
    pub rate: Option<u16>,
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
struct Plain {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    previous_until: Option<Timestamp>,
    products: Vec<Product>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    events: Vec<String>,
    payload: PayloadMode,
    #[serde(default)]
    version: BodyVersion,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    ordered_since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    rate: Option<u16>,
    created_at: Timestamp,
}

fn key(app: AppId, id: EndpointId) -> Key {
    Key::new(apps::partition(app), format!("{PREFIX}{id}"))
}

fn write(endpoint: &Endpoint) -> Result<Attributes, StoreError> {
    let plain = Plain {
        url: endpoint.url.clone(),
        previous_until: endpoint.previous_until,
        products: endpoint.products.clone(),
        events: endpoint.events.clone(),
        payload: endpoint.payload,
        version: endpoint.version,
        ordered_since: endpoint.ordered_since,
        rate: endpoint.rate,
        created_at: endpoint.created_at,
    };
    Ok(Draft::new(key(endpoint.app, endpoint.id))
        .with(JSON, json(KIND, &plain)?)
        .with("s", bytes(endpoint.secrets.as_slice()))
        .maybe("b", endpoint.bearer.as_deref().map(bytes))
        .done())
}

fn read(app: AppId, item: &Attributes) -> Result<Endpoint, StoreError> {
    let reader = Reader::new(KIND, item);
    let plain: Plain = reader.json(JSON)?;
    let id = reader.after(PREFIX)?.parse();
    Ok(Endpoint {
        id: id.map_err(|_| reader.corrupt("sk"))?,
        app,
        url: plain.url,
        secrets: reader.bytes("s")?.to_vec(),
        bearer: reader.optional("b", Reader::bytes)?.map(<[u8]>::to_vec),
        previous_until: plain.previous_until,
        products: plain.products,
        events: plain.events,
        payload: plain.payload,
        version: plain.version,
        ordered_since: plain.ordered_since,
        rate: plain.rate,
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
        self.put(write(endpoint)?).await
    }

    /// One endpoint of an app.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn endpoint(
        &self,
        app: AppId,
        id: EndpointId,
    ) -> Result<Option<Endpoint>, StoreError> {
        let item = self.get(key(app, id), Consistency::Eventual).await?;
        item.as_ref().map(|item| read(app, item)).transpose()
    }

    /// The endpoints of an app.
    ///
    /// # Errors
    ///
    /// [`StoreError::Bound`] for more than [`MAX_ENDPOINTS_PER_APP`].
    pub async fn endpoints(&self, app: AppId) -> Result<Vec<Endpoint>, StoreError> {
        let take = Take::All {
            bound: MAX_ENDPOINTS_PER_APP,
            what: "endpoints of an app",
        };
        let range = Range::prefix(apps::partition(app), PREFIX);
        let items = self.query(range, take, Consistency::Eventual).await?;
        items.iter().map(|item| read(app, item)).collect()
    }

    /// Deletes an endpoint, where there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delete_endpoint(&self, app: AppId, id: EndpointId) -> Result<(), StoreError> {
        self.delete(key(app, id)).await
    }
}
