//! Apps and their API keys. A key is stored as its hash: whoever reads the table cannot call the API.

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use okra_core::model::{ids::AppId, snapshot::Environment};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Consistency, Store, StoreError,
    table::{
        call::{KeyRange, ReadLimit},
        item::{
            ItemBuilder, ItemReader, JSON_ATTRIBUTE, Key, TTL_ATTRIBUTE, expiry_value, json_item,
            millis_value, string_value,
        },
    },
};

const KIND: &str = "app";

/// One integrating business.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// Its id.
    pub id: AppId,
    /// Its name.
    pub name: String,
    /// Its environment.
    #[serde(rename = "env")]
    pub environment: Environment,
    /// When it was made.
    pub created_at: Timestamp,
    /// Origins of the pages that may embed the widget, `https://app.example`; at most
    /// [`MAX_ORIGINS`]. With none, pages of this machine may, in the sandbox environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[serde(rename = "origins")]
    pub widget_origins: Vec<String>,
    /// The key that pages open the widget with. It stands in pages, so it is no secret; absent where
    /// none was made yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// Refreshes of one product that it may ask for in a minute.
    #[serde(default = "default_rate")]
    #[serde(rename = "rate")]
    pub refreshes_per_minute: u32,
}

/// Origins of one app at most.
pub const MAX_WIDGET_ORIGINS: usize = 20;

/// Refreshes of one product that an app may ask for in a minute where nothing else is set; Okra's
/// plans had 20, 40 and 60.
pub const DEFAULT_REFRESHES_PER_MINUTE: u32 = 60;

const fn default_rate() -> u32 {
    DEFAULT_REFRESHES_PER_MINUTE
}

/// Secret keys of one app at most.
pub const MAX_KEYS_PER_APP: usize = 20;

/// Seconds that an expired key is kept to be looked at.
const EXPIRED_KEY_RETENTION_S: i64 = 24 * 3600;

/// Digits of a key's id, which begins its hash.
const KEY_ID_DIGITS: usize = 24;

/// A secret key, without itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its hash.
    pub hash: KeyHash,
    /// Its last digits; empty where they were not kept.
    #[serde(rename = "hint")]
    pub last_digits: String,
    /// When it was made, where that was kept.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub created_at: Option<Timestamp>,
    /// From when on it is refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<Timestamp>,
}

impl ApiKey {
    /// What it is called by.
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
    /// From when on the key is refused.
    pub expires_at: Option<Timestamp>,
}

impl KeyOwner {
    /// True where the key has not expired.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|at| now < at)
    }
}

impl App {
    /// Okra's *client token*: it names the app to the widget, beside the public key.
    pub fn client_token(&self) -> AppId {
        AppId::derive(&[b"client token", self.id.as_bytes()])
    }
}

/// SHA-256 of an API key. Keys are random and long, so that no salt or slow hash is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of a secret key.
    pub fn hash_secret(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// The hash of bytes.
    pub fn hash_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The hash with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hash in hexadecimal digits.
    pub fn to_hex(self) -> String {
        HEXLOWER.encode(&self.0)
    }

    fn secret_item_key(&self) -> Key {
        Key::new(format!("KEY#{}", self.to_hex()), "KEY")
    }

    fn app_link_key(&self, app: AppId) -> Key {
        Key::new(app_partition(app), format!("KEY#{}", self.to_hex()))
    }

    fn public_item_key(&self) -> Key {
        Key::new(format!("PUB#{}", self.to_hex()), "PUB")
    }
}

impl Serialize for KeyHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.to_hex())
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let bytes = HEXLOWER.decode(text.as_bytes()).ok();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("a hash is 64 hexadecimal digits"))
    }
}

/// The partition of an app, its endpoints, and the links to its customers and records.
pub(crate) fn app_partition(app: AppId) -> String {
    format!("APP#{app}")
}

fn app_key(app: AppId) -> Key {
    Key::new(app_partition(app), "APP")
}

impl Store {
    /// Stores an app in place of one with the same id.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_app(&self, app: &App) -> Result<(), StoreError> {
        self.put_item(json_item(KIND, app_key(app.id), app)?).await
    }

    /// An app.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_app(&self, app: AppId) -> Result<Option<App>, StoreError> {
        let item = self.get_item(app_key(app), Consistency::Eventual).await?;
        item.as_ref()
            .map(|item| ItemReader::new(KIND, item).read_json(JSON_ATTRIBUTE))
            .transpose()
    }

    /// Gives an app an API key.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_bare_api_key(&self, hash: KeyHash, app: AppId) -> Result<(), StoreError> {
        let key = ApiKey {
            hash,
            last_digits: String::new(),
            created_at: None,
            expires_at: None,
        };
        self.put_api_key(app, &key).await
    }

    /// Gives an app an API key, or changes what is known of one.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_api_key(&self, app: AppId, key: &ApiKey) -> Result<(), StoreError> {
        let gone = key
            .expires_at
            .map(|at| expiry_value(at, EXPIRED_KEY_RETENTION_S));
        let item = ItemBuilder::new(key.hash.secret_item_key())
            .with_attribute("app", string_value(app.to_string()))
            .with_optional("x", key.expires_at.map(millis_value))
            .with_optional(TTL_ATTRIBUTE, gone.clone())
            .build();
        let mut link = json_item("API key", key.hash.app_link_key(app), key)?;
        link.extend(gone.map(|gone| (TTL_ATTRIBUTE.to_owned(), gone)));
        let actions = vec![self.put_action(item, vec![]), self.put_action(link, vec![])];
        self.transact_write(actions).await.map(drop)
    }

    /// The API keys of an app, expired ones too; read strongly.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn list_api_keys(&self, app: AppId) -> Result<Vec<ApiKey>, StoreError> {
        // Expired ones are there for a while.
        let take = ReadLimit::First(10 * MAX_KEYS_PER_APP);
        let range = KeyRange::with_prefix(app_partition(app), "KEY#");
        let items = self.query_range(range, take, Consistency::Strong).await?;
        items
            .iter()
            .map(|item| ItemReader::new("API key", item).read_json(JSON_ATTRIBUTE))
            .collect()
    }

    /// Whose an API key is, whether it has expired or not.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_key_owner(&self, hash: KeyHash) -> Result<Option<KeyOwner>, StoreError> {
        let Some(item) = self
            .get_item(hash.secret_item_key(), Consistency::Eventual)
            .await?
        else {
            return Ok(None);
        };
        let reader = ItemReader::new("API key", &item);
        Ok(Some(KeyOwner {
            app: reader.read_parsed("app")?,
            expires_at: reader.read_optional("x", ItemReader::read_millis)?,
        }))
    }

    /// The app of an API key that has not expired at `now`.
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
        Ok(owner.filter(|it| it.is_valid(now)).map(|it| it.app))
    }

    /// Revokes an API key of an app.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delete_api_key(&self, app: AppId, hash: KeyHash) -> Result<(), StoreError> {
        let actions = vec![
            self.delete_action(hash.secret_item_key(), vec![]),
            self.delete_action(hash.app_link_key(app), vec![]),
        ];
        self.transact_write(actions).await.map(drop)
    }

    /// Gives an app a public key: it opens the widget, and nothing else.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_public_key(&self, hash: KeyHash, app: AppId) -> Result<(), StoreError> {
        let item = ItemBuilder::new(hash.public_item_key())
            .with_attribute("app", string_value(app.to_string()))
            .build();
        self.put_item(item).await
    }

    /// The app of a public key.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_app_by_public_key(&self, hash: KeyHash) -> Result<Option<AppId>, StoreError> {
        let item = self
            .get_item(hash.public_item_key(), Consistency::Eventual)
            .await?;
        item.as_ref()
            .map(|item| ItemReader::new("public key", item).read_parsed("app"))
            .transpose()
    }

    /// Revokes a public key.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delete_public_key(&self, hash: KeyHash) -> Result<(), StoreError> {
        self.delete_item(hash.public_item_key()).await
    }
}
