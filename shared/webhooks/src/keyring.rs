//! Secrets of apps and endpoints, sealed by the vault.
//!
//! [`Keyring`] seals and opens them. The rule: a secret is sealed for one owner and one purpose, and does not open for
//! another.

use data_encoding::BASE64;
use jiff::Timestamp;
use okra_core::model::ids::{AppId, EndpointId};
use okra_store::{Endpoint, Store, StoreError};
use okra_vault::{Vault, VaultError, generate_nonce};
use serde_json::json;
use std::sync::Arc;

use crate::{
    cache::TimedCache,
    signing_secrets::{BearerToken, SECRET_BYTES, SecretError, SigningSecrets},
};

/// Why a secret cannot be opened or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// A read or write of the table failed.
    #[error("a sealed secret cannot be read or written")]
    Store(#[from] StoreError),
    /// The vault does not open it: it was sealed with another key or for another purpose.
    #[error("the vault cannot seal or open a secret of {owner}")]
    Vault {
        /// Whose.
        owner: String,
        /// Why.
        source: VaultError,
    },
    /// What the vault opened is not a secret.
    #[error("the opened secret of {owner} is malformed")]
    Unreadable {
        /// Whose.
        owner: String,
    },
    /// The system has no random bytes for a new one.
    #[error("the system has no random bytes for a new secret")]
    Randomness,
}

/// What a sealed secret is for. The vault does not open it for another purpose.
#[derive(Clone, Copy)]
enum SecretPurpose {
    Signing(EndpointId),
    Bearer(EndpointId),
    AppSigning(AppId),
}

impl SecretPurpose {
    fn seal_context(self) -> Vec<u8> {
        let (id, kind): (_, &[u8]) = match &self {
            Self::Signing(id) => (*id.as_bytes(), b"signing"),
            Self::Bearer(id) => (*id.as_bytes(), b"bearer"),
            Self::AppSigning(id) => (*id.as_bytes(), b"app-signing"),
        };
        [&id, kind].concat()
    }

    fn vault_error(self, source: VaultError) -> KeyringError {
        KeyringError::Vault {
            owner: self.owner_label(),
            source,
        }
    }

    fn owner_label(self) -> String {
        match self {
            Self::Signing(id) | Self::Bearer(id) => format!("endpoint {id}"),
            Self::AppSigning(id) => format!("app {id}"),
        }
    }
}

/// Seals and opens the secrets of apps and endpoints. Cheap to clone.
#[derive(Clone)]
pub struct Keyring {
    store: Store,
    vault: Arc<Vault>,
    app_secrets_cache: Arc<TimedCache<AppId, SigningSecrets>>,
}

impl Keyring {
    /// A keyring on a table and a vault.
    pub fn new(store: Store, vault: Arc<Vault>) -> Self {
        Self {
            store,
            vault,
            app_secrets_cache: Arc::default(),
        }
    }

    /// Seals the signing secrets of an endpoint: [`Endpoint::sealed_secrets`].
    ///
    /// # Errors
    ///
    /// [`KeyringError::Vault`].
    pub fn seal_secrets(
        &self,
        endpoint: EndpointId,
        secrets: &SigningSecrets,
    ) -> Result<Vec<u8>, KeyringError> {
        self.seal_secret(SecretPurpose::Signing(endpoint), &secrets.to_plain())
    }

    /// Seals the bearer token of an endpoint: [`Endpoint::sealed_bearer`].
    ///
    /// # Errors
    ///
    /// [`KeyringError::Vault`].
    pub fn seal_bearer(
        &self,
        endpoint: EndpointId,
        bearer: &BearerToken,
    ) -> Result<Vec<u8>, KeyringError> {
        self.seal_secret(SecretPurpose::Bearer(endpoint), bearer.to_plain())
    }

    /// The signing secrets of an endpoint.
    ///
    /// # Errors
    ///
    /// [`KeyringError::Vault`], [`KeyringError::Unreadable`].
    pub fn open_secrets(&self, endpoint: &Endpoint) -> Result<SigningSecrets, KeyringError> {
        self.open_secret(
            SecretPurpose::Signing(endpoint.id),
            &endpoint.sealed_secrets,
            SigningSecrets::from_plain,
        )
    }

    /// The signing secrets of an endpoint that sign now: some time after a rotation, the previous one does not any more.
    ///
    /// # Errors
    ///
    /// As [`open_secrets`](Self::open_secrets).
    pub fn open_active_secrets(
        &self,
        endpoint: &Endpoint,
        now: Timestamp,
    ) -> Result<SigningSecrets, KeyringError> {
        let secrets = self.open_secrets(endpoint)?;
        Ok(match endpoint.previous_secret_until {
            Some(until) if until <= now => secrets.without_previous(),
            _ => secrets,
        })
    }

    /// The bearer token of an endpoint, where it has one.
    ///
    /// # Errors
    ///
    /// [`KeyringError::Vault`], [`KeyringError::Unreadable`].
    pub fn open_bearer(&self, endpoint: &Endpoint) -> Result<Option<BearerToken>, KeyringError> {
        let Some(sealed) = &endpoint.sealed_bearer else {
            return Ok(None);
        };
        let purpose = SecretPurpose::Bearer(endpoint.id);
        self.open_secret(purpose, sealed, BearerToken::from_plain)
            .map(Some)
    }

    /// The secrets that sign for the URLs of an app's subscriptions, which have none of their own: Okra's API of
    /// subscriptions cannot return one. They are created on first use; two first uses at the same time may get different
    /// ones, of which one is stored in the end.
    ///
    /// # Errors
    ///
    /// [`KeyringError`].
    pub async fn load_or_create_app_secrets(
        &self,
        app: AppId,
        now: Timestamp,
    ) -> Result<SigningSecrets, KeyringError> {
        let stored = self
            .app_secrets_cache
            .get_or_read(app, now, self.read_app_secrets(app, now))
            .await?;
        if let Some(secrets) = stored {
            return Ok(secrets);
        }
        let fresh = SigningSecrets::from_entropy(&generate_entropy()?);
        self.put_app_secrets(app, &fresh, now).await?;
        Ok(fresh)
    }

    /// Replaces the secrets of an app, as when they are rotated: the previous one signs until `previous_until`.
    ///
    /// # Errors
    ///
    /// [`KeyringError`].
    pub async fn put_app_secrets(
        &self,
        app: AppId,
        secrets: &SigningSecrets,
        previous_until: Timestamp,
    ) -> Result<(), KeyringError> {
        let sealed = self.seal_secret(SecretPurpose::AppSigning(app), &secrets.to_plain())?;
        let state = json!({
            "sealed": BASE64.encode(&sealed),
            "previous_until": previous_until.as_second(),
        });
        Ok(self
            .store
            .put_system_state(&app_secrets_key(app), &state)
            .await?)
    }

    async fn read_app_secrets(
        &self,
        app: AppId,
        now: Timestamp,
    ) -> Result<Option<SigningSecrets>, KeyringError> {
        let purpose = SecretPurpose::AppSigning(app);
        let Some(state) = self.store.find_system_state(&app_secrets_key(app)).await? else {
            return Ok(None);
        };
        let sealed = state["sealed"]
            .as_str()
            .and_then(|text| BASE64.decode(text.as_bytes()).ok())
            .ok_or_else(|| KeyringError::Unreadable {
                owner: purpose.owner_label(),
            })?;
        let secrets = self.open_secret(purpose, &sealed, SigningSecrets::from_plain)?;
        // Secrets that were never rotated, or long ago by an older release, have no such time.
        let is_previous_over = state["previous_until"].as_i64().unwrap_or(0) <= now.as_second();
        Ok(Some(if is_previous_over {
            secrets.without_previous()
        } else {
            secrets
        }))
    }

    fn seal_secret(&self, purpose: SecretPurpose, plain: &[u8]) -> Result<Vec<u8>, KeyringError> {
        generate_nonce()
            .and_then(|nonce| {
                self.vault
                    .seal_secret(&purpose.seal_context(), plain, nonce)
            })
            .map_err(|source| purpose.vault_error(source))
    }

    fn open_secret<T>(
        &self,
        purpose: SecretPurpose,
        sealed: &[u8],
        read: impl FnOnce(&[u8]) -> Result<T, SecretError>,
    ) -> Result<T, KeyringError> {
        let plain = self
            .vault
            .open_sealed(&purpose.seal_context(), sealed)
            .map_err(|source| purpose.vault_error(source))?;
        read(&plain).map_err(|_| KeyringError::Unreadable {
            owner: purpose.owner_label(),
        })
    }
}

fn app_secrets_key(app: AppId) -> String {
    format!("signing#{app}")
}

fn generate_entropy() -> Result<[u8; SECRET_BYTES], KeyringError> {
    let mut entropy = [0; SECRET_BYTES];
    getrandom::fill(&mut entropy).map_err(|_| KeyringError::Randomness)?;
    Ok(entropy)
}
