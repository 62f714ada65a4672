//! An app's secret keys: listed without their secrets, rotated with an overlap ([`RotatedKey`]), revoked.
//!
//! The rule: a secret is returned once, when it is made; only its hash is stored. The last valid key cannot be revoked,
//! since without one the app could not make another.

use data_encoding::HEXLOWER;
use jiff::SignedDuration;
use okra_store::{ApiKey, KeyHash};

use crate::{app_scope::AppScope, error::AppError};

/// Hours for which the earlier keys stay valid after a rotation, unless the request says otherwise.
const DEFAULT_OVERLAP_H: u64 = 24;

/// Most hours for which the earlier keys stay valid after a rotation.
const MAX_OVERLAP_H: u64 = 30 * 24;

/// Last digits of a key that are stored, so that people can tell it from others.
const HINT_DIGITS: usize = 4;

/// A new key, with its secret.
pub struct RotatedKey {
    /// The key.
    pub key: ApiKey,
    /// Its secret, which is not stored.
    pub secret_key: String,
    /// All keys of the app that are valid now, the new one last.
    pub keys: Vec<ApiKey>,
}

/// The keys of an app.
struct KeysByValidity {
    valid: Vec<ApiKey>,
    expired: Vec<ApiKey>,
}

impl AppScope {
    /// The keys that are valid.
    ///
    /// # Errors
    ///
    /// [`AppError::Internal`] where the store cannot be read.
    pub async fn list_valid_keys(&self) -> Result<Vec<ApiKey>, AppError> {
        Ok(self.load_keys().await?.valid)
    }

    /// Makes a new key. The earlier ones stay valid for `overlap_hours` more, 24 by default, so that nothing stops
    /// while the new one is rolled out.
    ///
    /// # Errors
    ///
    /// [`AppError::Invalid`] for an overlap of more than 720 hours, [`AppError::LimitReached`] where the app has too
    /// many keys.
    pub async fn rotate_key(&self, overlap_hours: Option<u64>) -> Result<RotatedKey, AppError> {
        let (store, app, now) = (self.store(), self.app().id, self.now());
        let overlap = parse_overlap(overlap_hours.unwrap_or(DEFAULT_OVERLAP_H))?;
        // Make room: expired keys are of no use.
        let KeysByValidity {
            valid: mut keys,
            expired,
        } = self.load_keys().await?;
        for key in expired {
            store.delete_api_key(app, key.hash).await?;
        }
        // The new key is written first: a crash leaves one too many rather than one too few.
        let secret_key = format!(
            "okra_sk_{}",
            HEXLOWER.encode(&self.services().random_bytes::<24>()?)
        );
        let key = ApiKey {
            hash: KeyHash::hash_secret(&secret_key),
            last_digits: secret_key[secret_key.len() - HINT_DIGITS..].to_owned(),
            created_at: Some(now),
            expires_at: None,
        };
        store.create_api_key(app, &key).await?;
        self.services().cache().forget_keys(app);
        // Limit the earlier keys, except where they end sooner by themselves.
        let ends_at = now.checked_add(overlap).map_err(AppError::internal)?;
        for earlier in &mut keys {
            if earlier.expires_at.is_none_or(|at| ends_at < at) {
                earlier.expires_at = Some(ends_at);
                store.replace_api_key(app, earlier).await?;
            }
        }
        keys.push(key.clone());
        Ok(RotatedKey {
            key,
            secret_key,
            keys,
        })
    }

    /// Revokes a key at once; returns those that are left.
    ///
    /// # Errors
    ///
    /// [`AppError::NotFound`] where no valid key has that id, [`AppError::Conflict`] where it is the only one.
    pub async fn revoke_key(&self, id: &str) -> Result<Vec<ApiKey>, AppError> {
        let mut keys = self.list_valid_keys().await?;
        let position = keys.iter().position(|key| key.key_id() == id);
        let position = position.ok_or(AppError::NotFound { what: "key" })?;
        if keys.len() == 1 {
            return Err(AppError::Conflict(
                "It is the app's only key; rotate it instead",
            ));
        }
        let revoked = keys.remove(position);
        let app = self.app().id;
        self.store().delete_api_key(app, revoked.hash).await?;
        self.services().cache().forget_keys(app);
        Ok(keys)
    }

    async fn load_keys(&self) -> Result<KeysByValidity, AppError> {
        let keys = self.store().list_api_keys(self.app().id).await?;
        let now = self.now();
        let (valid, expired) = keys
            .into_iter()
            .partition(|key| key.expires_at.is_none_or(|at| now < at));
        Ok(KeysByValidity { valid, expired })
    }
}

fn parse_overlap(hours: u64) -> Result<SignedDuration, AppError> {
    let hours = i64::try_from(hours).ok().filter(|_| hours <= MAX_OVERLAP_H);
    hours.map(SignedDuration::from_hours).ok_or_else(|| {
        let problem = format!("must be at most {MAX_OVERLAP_H}");
        AppError::invalid_field("overlap_hours", problem)
    })
}
