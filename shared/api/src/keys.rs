//! An app's secret keys: listed without themselves, rotated with an overlap, revoked.

use axum::http::StatusCode;
use data_encoding::HEXLOWER;
use jiff::{SignedDuration, Timestamp};
use okra_store::{ApiKey, KeyHash, MAX_KEYS_PER_APP};
use okra_wire::scalar::IsoInstant;
use serde::Serialize;

use crate::{
    call::ApiRequest,
    envelope::{ApiError, ApiResponse, success_response},
};

/// Hours that the keys before stay valid where nothing is said.
const DEFAULT_OVERLAP_H: u64 = 24;

/// Hours that they stay valid at most.
const MAX_OVERLAP_H: u64 = 30 * 24;

/// Digits of a key that are kept to tell it from others.
const HINT_DIGITS: usize = 4;

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct KeysResponse {
    keys: Vec<KeySummary>,
}

/// A key without itself.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct KeySummary {
    id: String,
    /// Its last digits.
    hint: String,
    created_at: Option<IsoInstant>,
    expires_at: Option<IsoInstant>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct RotateKeyResponse {
    id: String,
    /// Shown this once: its hash alone is kept.
    secret_key: String,
    keys: Vec<KeySummary>,
}

impl From<&ApiKey> for KeySummary {
    fn from(key: &ApiKey) -> Self {
        Self {
            id: key.key_id(),
            hint: key.last_digits.clone(),
            created_at: key.created_at.map(IsoInstant),
            expires_at: key.expires_at.map(IsoInstant),
        }
    }
}

/// The keys that are valid, and those that are no longer.
async fn split_by_validity(request: &ApiRequest) -> Result<(Vec<ApiKey>, Vec<ApiKey>), ApiError> {
    let keys = request
        .state
        .store
        .list_api_keys(request.require_app()?.id)
        .await?;
    let now = request.now();
    let valid = |key: &ApiKey| key.expires_at.is_none_or(|at| now < at);
    Ok(keys.into_iter().partition(valid))
}

/// The keys that are valid.
async fn load_valid_keys(request: &ApiRequest) -> Result<Vec<ApiKey>, ApiError> {
    Ok(split_by_validity(request).await?.0)
}

fn summarise_keys(keys: &[ApiKey]) -> Vec<KeySummary> {
    keys.iter().map(KeySummary::from).collect()
}

pub(crate) async fn list_keys(request: &ApiRequest) -> ApiResponse {
    let keys = summarise_keys(&load_valid_keys(request).await?);
    success_response("Keys retrieved successfully", KeysResponse { keys })
}

/// Makes a new key; those there are stay valid for `overlap_hours` more, so that nothing stops while
/// the new one is rolled out.
pub(crate) async fn rotate_key(request: &ApiRequest) -> ApiResponse {
    let (store, app, now) = (
        &request.state.store,
        request.require_app()?.id,
        request.now(),
    );
    let overlap = request
        .input
        .parse_number("overlap_hours")?
        .unwrap_or(DEFAULT_OVERLAP_H);
    let overlap = i64::try_from(overlap)
        .ok()
        .filter(|_| overlap <= MAX_OVERLAP_H)
        .map(SignedDuration::from_hours)
        .ok_or_else(|| {
            ApiError::invalid_field("overlap_hours", format!("is {MAX_OVERLAP_H} at most"))
        })?;
    let (mut keys, over) = split_by_validity(request).await?;
    for key in over {
        store.delete_api_key(app, key.hash).await?;
    }
    if keys.len() >= MAX_KEYS_PER_APP {
        let message = format!("The app has {MAX_KEYS_PER_APP} keys, which is the most; revoke one");
        return Err(ApiError::new(StatusCode::CONFLICT, "CONFLICT", message));
    }
    let ends = now.saturating_add(overlap).unwrap_or(Timestamp::MAX);
    let secret_key = format!(
        "okra_sk_{}",
        HEXLOWER.encode(&request.state.random_bytes::<24>()?)
    );
    let hint = secret_key[secret_key.len() - HINT_DIGITS..].to_owned();
    let key = ApiKey {
        hash: KeyHash::hash_secret(&secret_key),
        last_digits: hint,
        created_at: Some(now),
        expires_at: None,
    };
    // The new one first: a crash in between leaves a key too many and not one too few.
    store.put_api_key(app, &key).await?;
    request.state.cache.forget_keys(app);
    for before in &mut keys {
        if before.expires_at.is_none_or(|at| ends < at) {
            before.expires_at = Some(ends);
            store.put_api_key(app, before).await?;
        }
    }
    let id = key.key_id();
    keys.push(key);
    let data = RotateKeyResponse {
        id,
        secret_key,
        keys: summarise_keys(&keys),
    };
    success_response("Key made; the ones before expire", data)
}

/// Revokes a key at once. The last one stays: without it the app could not come back.
pub(crate) async fn revoke_key(request: &ApiRequest) -> ApiResponse {
    let id = request.input.require_text(&["id"])?;
    let keys = load_valid_keys(request).await?;
    let key = keys.iter().find(|key| key.key_id() == id);
    let key = key.ok_or_else(|| ApiError::not_found("key"))?;
    if keys.len() == 1 {
        let message = "It is the app's only key; rotate it instead";
        return Err(ApiError::new(StatusCode::CONFLICT, "CONFLICT", message));
    }
    request
        .state
        .store
        .delete_api_key(request.require_app()?.id, key.hash)
        .await?;
    request.state.cache.forget_keys(request.require_app()?.id);
    let left: Vec<ApiKey> = keys
        .iter()
        .filter(|it| it.key_id() != id)
        .cloned()
        .collect();
    success_response(
        "Key revoked",
        KeysResponse {
            keys: summarise_keys(&left),
        },
    )
}

documented! {
    list_keys() -> KeysResponse: "The app's secret keys, without themselves.";
    rotate_key(OVERLAP) -> RotateKeyResponse: "Makes a new key; those before stay valid for a while.";
    revoke_key(KEY_ID) -> KeysResponse: "Revokes a key at once.";
}
