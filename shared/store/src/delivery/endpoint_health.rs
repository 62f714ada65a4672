//! Health of endpoints. An endpoint that never failed has no item: a delivery that succeeds costs no write here. A change
//! of health that its app is notified of is one transaction with the entry of the app's feed that says so.

use std::collections::HashMap;

use jiff::Timestamp;
use okra_core::{
    delivery::endpoint_health::EndpointHealth,
    model::ids::{AppId, EndpointId, Seq},
};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, NewAppFeedEntry, Store, StoreError,
    key::{self, Key},
    table::{
        attributes::{Attributes, JSON_ATTRIBUTE, json_value, number_value},
        expression::{Condition, ItemUpdate},
        item::ItemReader,
    },
};

const KIND: &str = "endpoint health";
const VERSION_ATTRIBUTE: &str = "v";
const PARKED_ATTRIBUTE: &str = "p";
const PING_ATTRIBUTE: &str = "g";

/// The health of an endpoint as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredEndpointHealth {
    /// The health.
    pub health: EndpointHealth,
    /// Events parked for it, approximately: one that was parked twice counts twice until all are delivered.
    pub parked_count: u64,
    /// How often it was stored; 0 where it never was.
    pub version: u64,
    /// The result of the last ping.
    pub last_ping: Option<PingResult>,
}

/// The result of a ping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingResult {
    /// When its response came, or the attempt failed.
    #[serde(rename = "at")]
    pub pinged_at: Timestamp,
    /// The class of its outcome; a stable name.
    #[serde(rename = "class")]
    pub outcome_class: String,
    /// The HTTP status, where there was a response.
    pub status: Option<u16>,
    /// How long it took.
    pub latency_ms: u32,
}

fn read_endpoint_health(item: &Attributes) -> Result<StoredEndpointHealth, StoreError> {
    let reader = ItemReader::new(KIND, item);
    Ok(StoredEndpointHealth {
        health: reader
            .read_optional(JSON_ATTRIBUTE, ItemReader::read_json)?
            .unwrap_or_default(),
        parked_count: reader.read_count(PARKED_ATTRIBUTE)?,
        version: reader.read_count(VERSION_ATTRIBUTE)?,
        last_ping: reader.read_optional(PING_ATTRIBUTE, ItemReader::read_json)?,
    })
}

impl Store {
    /// The health of an endpoint; read strongly. Where none is stored, it is that of an endpoint
    /// that never failed.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn load_endpoint_health(
        &self,
        endpoint: EndpointId,
    ) -> Result<StoredEndpointHealth, StoreError> {
        let item = self
            .get_item(Key::EndpointHealth(endpoint), Consistency::Strong)
            .await?;
        let health = item.as_ref().map(read_endpoint_health).transpose()?;
        Ok(health.unwrap_or_default())
    }

    /// The health of those of these endpoints that ever failed; read eventually. No id may be there twice.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn load_health_of_endpoints(
        &self,
        endpoints: &[EndpointId],
    ) -> Result<HashMap<EndpointId, StoredEndpointHealth>, StoreError> {
        let keys = endpoints.iter().copied().map(Key::EndpointHealth);
        let items = self.batch_get_items(keys, Consistency::Eventual).await?;
        items
            .iter()
            .map(|item| {
                let reader = ItemReader::new(KIND, item);
                let endpoint = reader.parse_partition(key::parse_health_partition)?;
                Ok((endpoint, read_endpoint_health(item)?))
            })
            .collect()
    }

    /// Stores the health of an endpoint where it still is what was read, together with the feed entries
    /// that notify its app. `None`, and nothing stored, where it is not; else the seqs of the entries. Without
    /// entries it is one write unit.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_endpoint_health(
        &self,
        app: AppId,
        endpoint: EndpointId,
        stored: &StoredEndpointHealth,
        entries: &[NewAppFeedEntry],
        now: Timestamp,
    ) -> Result<Option<Vec<Seq>>, StoreError> {
        let known = (stored.version > 0).then(|| number_value(stored.version));
        let update = ItemUpdate::new(Key::EndpointHealth(endpoint))
            .set_attribute(JSON_ATTRIBUTE, json_value(KIND, &stored.health)?)
            .set_attribute(VERSION_ATTRIBUTE, number_value(stored.version + 1))
            .with_condition(Condition::Equals(VERSION_ATTRIBUTE, known));
        if entries.is_empty() {
            let is_stored = self.update_item(update).await?;
            return Ok(is_stored.then(Vec::new));
        }
        let action = self.update_action(update)?;
        self.commit_with_entries(app, entries, now, action).await
    }

    /// Stores the result of a ping.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_ping_result(
        &self,
        endpoint: EndpointId,
        ping: &PingResult,
    ) -> Result<(), StoreError> {
        let update = ItemUpdate::new(Key::EndpointHealth(endpoint))
            .set_attribute(PING_ATTRIBUTE, json_value(KIND, ping)?);
        self.update_item(update).await.map(drop)
    }

    /// Adds to the number of events that are parked for an endpoint.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn add_parked_count(
        &self,
        endpoint: EndpointId,
        added: u64,
    ) -> Result<(), StoreError> {
        let update = ItemUpdate::new(Key::EndpointHealth(endpoint))
            .add_to_number(PARKED_ATTRIBUTE, number_value(added));
        self.update_item(update).await.map(drop)
    }

    /// Stores that no event is parked for an endpoint any more.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn reset_parked_count(&self, endpoint: EndpointId) -> Result<(), StoreError> {
        let update = ItemUpdate::new(Key::EndpointHealth(endpoint))
            .set_attribute(PARKED_ATTRIBUTE, number_value(0));
        self.update_item(update).await.map(drop)
    }
}
