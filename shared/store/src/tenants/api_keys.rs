//! Keys of apps: secret ones call the API, public ones open the widget and nothing else. Both are stored as a
//! [`KeyHash`]: whoever reads the table cannot call the API.

use aws_sdk_dynamodb::types::TransactWriteItem;
use jiff::Timestamp;
use okra_core::model::ids::AppId;
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, KeyHash, MAX_KEYS_PER_APP, Store, StoreError,
    key::{self, Key},
    limits::usage_limits::UsageCounter,
    table::{
        attributes::{TTL_ATTRIBUTE, expiry_value, millis_value, text_value},
        expression::Condition,
        item::{ItemBuilder, ItemReader, read_json_item},
        key_range::{KeyRange, ReadLimit},
        writes::TransactWriteOutcome,
    },
};

/// Keys of an app that are listed at most: expired ones are there for a day.
const MAX_KEYS_LISTED: usize = 10 * MAX_KEYS_PER_APP;

/// Seconds that an expired key can still be looked at.
const EXPIRED_KEY_RETENTION_S: i64 = 24 * 3600;

/// Digits of a key's id, which begins its hash.
const KEY_ID_DIGITS: usize = 24;

const KIND: &str = "API key";
const PUBLIC_KEY_KIND: &str = "public key";
const APP_ATTRIBUTE: &str = "app";
const EXPIRES_ATTRIBUTE: &str = "x";

/// A secret key, without the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its hash.
    pub hash: KeyHash,
    /// Its last digits; empty where they are not stored.
    #[serde(rename = "hint")]
    pub last_digits: String,
    /// When it was created, where that is stored.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub created_at: Option<Timestamp>,
    /// From when on it is rejected.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<Timestamp>,
}

impl ApiKey {
    /// The id under which an app manages the key.
    pub fn key_id(&self) -> String {
        let mut id = self.hash.to_hex();
        id.truncate(KEY_ID_DIGITS);
        id
    }
}

/// Whose an API key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyOwner {
    /// The app.
    pub app: AppId,
    /// From when on the key is rejected.
    pub expires_at: Option<Timestamp>,
}

impl KeyOwner {
    /// True where the key has not expired.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|at| now < at)
    }
}

impl Store {
    /// Gives an app an API key that never expires and of which nothing but the hash is stored.
    ///
    /// # Errors
    ///
    /// [`StoreError::LimitReached`] for a new one beyond [`MAX_KEYS_PER_APP`].
    pub async fn put_bare_api_key(&self, hash: KeyHash, app: AppId) -> Result<(), StoreError> {
        let key = ApiKey {
            hash,
            last_digits: String::new(),
            created_at: None,
            expires_at: None,
        };
        if self.replace_api_key(app, &key).await? {
            return Ok(());
        }
        self.create_api_key(app, &key).await
    }

    /// Gives an app a new API key.
    ///
    /// # Errors
    ///
    /// [`StoreError::LimitReached`] where the app has [`MAX_KEYS_PER_APP`], the expired ones that are still stored too.
    pub async fn create_api_key(&self, app: AppId, key: &ApiKey) -> Result<(), StoreError> {
        let actions = self.put_key_actions(app, key, vec![])?;
        let counters = [UsageCounter::KeysOfApp(app)];
        let outcome = self.transact_counted(actions, &counters).await?;
        outcome.require_room().map(drop)
    }

    /// Changes what is stored of an API key. False, and nothing stored, where it is revoked meanwhile.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn replace_api_key(&self, app: AppId, key: &ApiKey) -> Result<bool, StoreError> {
        let actions = self.put_key_actions(app, key, vec![Condition::Exists])?;
        let outcome = self.transact_write(actions).await?;
        Ok(outcome == TransactWriteOutcome::Committed)
    }

    /// Writes a key, on these conditions, and its link in its app's list.
    fn put_key_actions(
        &self,
        app: AppId,
        key: &ApiKey,
        conditions: Vec<Condition>,
    ) -> Result<Vec<TransactWriteItem>, StoreError> {
        let ttl = key
            .expires_at
            .map(|at| expiry_value(at, EXPIRED_KEY_RETENTION_S));
        let item = ItemBuilder::new(Key::ApiKey(key.hash))
            .with_attribute(APP_ATTRIBUTE, text_value(app))
            .with_optional(EXPIRES_ATTRIBUTE, key.expires_at.map(millis_value))
            .with_optional(TTL_ATTRIBUTE, ttl.clone())
            .build();
        let hash = key.hash;
        let link = ItemBuilder::new(Key::ApiKeyLink { app, hash })
            .with_json(KIND, key)?
            .with_optional(TTL_ATTRIBUTE, ttl)
            .build();
        Ok(vec![
            self.put_action(item, conditions)?,
            self.put_action(link, vec![])?,
        ])
    }

    /// The API keys of an app, expired ones too; read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_api_keys(&self, app: AppId) -> Result<Vec<ApiKey>, StoreError> {
        let range = KeyRange::with_prefix(key::app_partition(app), key::API_KEY_PREFIX);
        let limit = ReadLimit::First(MAX_KEYS_LISTED);
        let items = self.query_range(range, limit, Consistency::Strong).await?;
        items
            .iter()
            .map(|item| read_json_item(KIND, item))
            .collect()
    }

    /// Whose an API key is, whether it has expired or not; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_key_owner(&self, hash: KeyHash) -> Result<Option<KeyOwner>, StoreError> {
        let Some(item) = self
            .get_item(Key::ApiKey(hash), Consistency::Eventual)
            .await?
        else {
            return Ok(None);
        };
        let reader = ItemReader::new(KIND, &item);
        Ok(Some(KeyOwner {
            app: reader.read_parsed(APP_ATTRIBUTE)?,
            expires_at: reader.read_optional(EXPIRES_ATTRIBUTE, ItemReader::read_millis)?,
        }))
    }

    /// The app of an API key that has not expired at `now`; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_app_by_key(
        &self,
        hash: KeyHash,
        now: Timestamp,
    ) -> Result<Option<AppId>, StoreError> {
        let owner = self.find_key_owner(hash).await?;
        Ok(owner
            .filter(|owner| owner.is_valid(now))
            .map(|owner| owner.app))
    }

    /// Revokes an API key of an app.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delete_api_key(&self, app: AppId, hash: KeyHash) -> Result<(), StoreError> {
        let actions = vec![
            self.delete_action(Key::ApiKey(hash), vec![])?,
            self.delete_action(Key::ApiKeyLink { app, hash }, vec![])?,
        ];
        self.transact_write(actions).await.map(drop)
    }

    /// Gives an app a public key: it opens the widget, and nothing else.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_public_key(&self, hash: KeyHash, app: AppId) -> Result<(), StoreError> {
        let item = ItemBuilder::new(Key::PublicKey(hash))
            .with_attribute(APP_ATTRIBUTE, text_value(app))
            .build();
        self.put_item(item).await
    }

    /// The app of a public key; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_app_by_public_key(&self, hash: KeyHash) -> Result<Option<AppId>, StoreError> {
        let item = self
            .get_item(Key::PublicKey(hash), Consistency::Eventual)
            .await?;
        item.as_ref()
            .map(|item| ItemReader::new(PUBLIC_KEY_KIND, item).read_parsed(APP_ATTRIBUTE))
            .transpose()
    }

    /// Revokes a public key.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delete_public_key(&self, hash: KeyHash) -> Result<(), StoreError> {
        self.delete_item(Key::PublicKey(hash)).await
    }
}
