//! Apps: the integrating businesses.

use jiff::Timestamp;
use okra_core::model::{ids::AppId, snapshot::Environment};
use serde::{Deserialize, Serialize};

use crate::{
    Consistency, Store, StoreError,
    key::Key,
    table::item::{json_item, read_json_item},
};

const KIND: &str = "app";

/// Origins of one app at most.
pub const MAX_WIDGET_ORIGINS: usize = 20;

/// Refreshes of one product that an app may start in a minute where nothing else is set; Okra's
/// plans had 20, 40 and 60.
pub const DEFAULT_REFRESHES_PER_MINUTE: u32 = 60;

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
    /// When it was created.
    pub created_at: Timestamp,
    /// Origins of the pages that may embed the widget, `https://app.example`; at most
    /// [`MAX_WIDGET_ORIGINS`]. With none, pages of this machine may, in the sandbox environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[serde(rename = "origins")]
    pub widget_origins: Vec<String>,
    /// The key that pages open the widget with. It stands in pages, so it is no secret; absent where
    /// none was made yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// Refreshes of one product that it may start in a minute.
    #[serde(default = "default_refreshes_per_minute")]
    #[serde(rename = "rate")]
    pub refreshes_per_minute: u32,
}

const fn default_refreshes_per_minute() -> u32 {
    DEFAULT_REFRESHES_PER_MINUTE
}

impl App {
    /// Okra's *client token*: it names the app to the widget, beside the public key.
    pub fn client_token(&self) -> AppId {
        AppId::derive(&[b"client token", self.id.as_bytes()])
    }
}

impl Store {
    /// Stores an app in place of one with the same id.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_app(&self, app: &App) -> Result<(), StoreError> {
        self.put_item(json_item(KIND, Key::App(app.id), app)?).await
    }

    /// An app; read eventually.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn find_app(&self, app: AppId) -> Result<Option<App>, StoreError> {
        let item = self.get_item(Key::App(app), Consistency::Eventual).await?;
        item.as_ref()
            .map(|item| read_json_item(KIND, item))
            .transpose()
    }
}
