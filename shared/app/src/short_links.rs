//! Short links: addresses that open the widget with options that the app gave once ([`ShortLink`]).
//!
//! The rule: a link is found by its name alone, so names are random; an app lists, reads and removes only its own.

use data_encoding::BASE32_NOPAD;
use okra_core::model::ids::LinkId;
use okra_store::{MAX_SHORT_LINK_BYTES, ShortLink};
use serde_json::{Map, Value};

use crate::{app_scope::AppScope, error::AppError};

/// Random bytes of a name, of which ten characters are used: 50 bits.
const NAME_BYTES: usize = 7;
const NAME_CHARACTERS: usize = 10;

impl AppScope {
    /// Creates a short link that opens the widget with these options.
    ///
    /// # Errors
    ///
    /// [`AppError::Invalid`] where the options are too long, [`AppError::LimitReached`] where the app has too many links.
    pub async fn create_short_link(
        &self,
        options: Map<String, Value>,
    ) -> Result<ShortLink, AppError> {
        if serde_json::to_vec(&options)?.len() > MAX_SHORT_LINK_BYTES {
            let problem = format!("must be at most {MAX_SHORT_LINK_BYTES} bytes");
            return Err(AppError::invalid_field("body", problem));
        }
        let app = self.app().id;
        let services = self.services();
        let mut name = BASE32_NOPAD.encode(&services.random_bytes::<NAME_BYTES>()?);
        name.truncate(NAME_CHARACTERS);
        let link = ShortLink {
            id: LinkId::from_bytes(services.random_bytes()?),
            name: name.to_ascii_lowercase(),
            app,
            options,
            created_at: self.now(),
        };
        self.store().create_short_link(&link).await?;
        Ok(link)
    }

    /// The app's short link of that name.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where the app has none.
    pub async fn load_own_short_link(&self, name: &str) -> Result<ShortLink, AppError> {
        let link = self.store().find_short_link(name).await?;
        link.filter(|link| link.app == self.app().id)
            .ok_or(AppError::NotFound { what: "link" })
    }

    /// The app's short links.
    ///
    /// # Errors
    ///
    /// [`AppError::Internal`] where the store cannot be read.
    pub async fn list_short_links(&self) -> Result<Vec<ShortLink>, AppError> {
        Ok(self.store().list_short_links(self.app().id).await?)
    }

    /// Removes a short link, which then opens nothing. Returns it as it was.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where the app has none with that name.
    pub async fn remove_short_link(&self, name: &str) -> Result<ShortLink, AppError> {
        let link = self.load_own_short_link(name).await?;
        self.store().delete_short_link(&link).await?;
        Ok(link)
    }
}
