//! Apps and their API keys. A key is stored as its hash: whoever reads the table cannot call the API.

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use okra_core::{ids::AppId, model::Environment};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Consistency, Store, StoreError,
    item::{Draft, JSON, Key, Reader, document, s},
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
    pub env: Environment,
    /// When it was made.
    pub created_at: Timestamp,
    /// Origins of the pages that may embed the widget, `https://app.example`; at most
    /// [`MAX_ORIGINS`]. With none, pages of this machine may, in the sandbox environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<String>,
    /// The key that pages open the widget with. It stands in pages, so it is no secret; absent where
    /// none was made yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
}

/// Origins of one app at most.
pub const MAX_ORIGINS: usize = 20;

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
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
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

    fn key(&self) -> Key {
        Key::new(format!("KEY#{}", self.to_hex()), "KEY")
    }

    fn public_key(&self) -> Key {
        Key::new(format!("PUB#{}", self.to_hex()), "PUB")
    }
}

/// The partition of an app, its endpoints, and the links to its customers and records.
pub(crate) fn partition(app: AppId) -> String {
    format!("APP#{app}")
}

fn key(app: AppId) -> Key {
    Key::new(partition(app), "APP")
}

impl Store {
    /// Stores an app in place of one with the same id.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_app(&self, app: &App) -> Result<(), StoreError> {
        self.put(document(KIND, key(app.id), app)?).await
    }

    /// An app.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn app(&self, app: AppId) -> Result<Option<App>, StoreError> {
        let item = self.get(key(app), Consistency::Eventual).await?;
        item.as_ref()
            .map(|item| Reader::new(KIND, item).json(JSON))
            .transpose()
    }

    /// Gives an app an API key.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_key(&self, hash: KeyHash, app: AppId) -> Result<(), StoreError> {
        let item = Draft::new(hash.key())
            .with("app", s(app.to_string()))
            .done();
        self.put(item).await
    }

    /// The app of an API key.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn app_of_key(&self, hash: KeyHash) -> Result<Option<AppId>, StoreError> {
        let item = self.get(hash.key(), Consistency::Eventual).await?;
        item.as_ref()
            .map(|item| Reader::new("API key", item).parse("app"))
            .transpose()
    }

    /// Gives an app a public key: it opens the widget, and nothing else.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_public_key(&self, hash: KeyHash, app: AppId) -> Result<(), StoreError> {
        let item = Draft::new(hash.public_key())
            .with("app", s(app.to_string()))
            .done();
        self.put(item).await
    }

    /// The app of a public key.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn app_of_public_key(&self, hash: KeyHash) -> Result<Option<AppId>, StoreError> {
        let item = self.get(hash.public_key(), Consistency::Eventual).await?;
        item.as_ref()
            .map(|item| Reader::new("public key", item).parse("app"))
            .transpose()
    }

    /// Revokes a public key.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delete_public_key(&self, hash: KeyHash) -> Result<(), StoreError> {
        self.delete(hash.public_key()).await
    }

    /// Revokes an API key.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delete_key(&self, hash: KeyHash) -> Result<(), StoreError> {
        self.delete(hash.key()).await
    }
}
