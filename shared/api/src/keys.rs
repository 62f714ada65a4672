//! An app's secret keys: listed without themselves, rotated with an overlap, revoked.

use axum::http::StatusCode;
use data_encoding::HEXLOWER;
use jiff::{SignedDuration, Timestamp};
use okra_store::{ApiKey, KeyHash, MAX_KEYS_PER_APP};
use okra_wire::scalar::Instant;
use serde::Serialize;

use crate::{
    call::Call,
    envelope::{Answer, Refusal, success},
};

/// Hours that the keys before stay valid where nothing is said.
const OVERLAP_H: u64 = 24;

/// Hours that they stay valid at most.
const MAX_OVERLAP_H: u64 = 30 * 24;

/// Digits of a key that are kept to tell it from others.
const HINT_DIGITS: usize = 4;

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Keys {
    keys: Vec<Key>,
}

/// A key without itself.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Key {
    id: String,
    /// Its last digits.
    hint: String,
    created_at: Option<Instant>,
    expires_at: Option<Instant>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct NewKey {
    id: String,
    /// Shown this once: its hash alone is kept.
    secret_key: String,
    keys: Vec<Key>,
}

impl From<&ApiKey> for Key {
    fn from(key: &ApiKey) -> Self {
        Self {
            id: key.id(),
            hint: key.hint.clone(),
            created_at: key.created_at.map(Instant),
            expires_at: key.expires_at.map(Instant),
        }
    }
}

/// The keys that are valid, and those that are no longer.
async fn split(call: &Call) -> Result<(Vec<ApiKey>, Vec<ApiKey>), Refusal> {
    let keys = call.state.store.api_keys(call.app()?.id).await?;
    let now = call.now();
    let valid = |key: &ApiKey| key.expires_at.is_none_or(|at| now < at);
    Ok(keys.into_iter().partition(valid))
}

/// The keys that are valid.
async fn valid(call: &Call) -> Result<Vec<ApiKey>, Refusal> {
    Ok(split(call).await?.0)
}

fn shown(keys: &[ApiKey]) -> Vec<Key> {
    keys.iter().map(Key::from).collect()
}

pub(crate) async fn list(call: &Call) -> Answer {
    let keys = shown(&valid(call).await?);
    success("Keys retrieved successfully", Keys { keys })
}

/// Makes a new key; those there are stay valid for `overlap_hours` more, so that nothing stops while
/// the new one is rolled out.
pub(crate) async fn rotate(call: &Call) -> Answer {
    let (store, app, now) = (&call.state.store, call.app()?.id, call.now());
    let overlap = call.input.number("overlap_hours")?.unwrap_or(OVERLAP_H);
    let overlap = i64::try_from(overlap)
        .ok()
        .filter(|_| overlap <= MAX_OVERLAP_H)
        .map(SignedDuration::from_hours)
        .ok_or_else(|| Refusal::field("overlap_hours", format!("is {MAX_OVERLAP_H} at most")))?;
    let (mut keys, over) = split(call).await?;
    for key in over {
        store.delete_api_key(app, key.hash).await?;
    }
    if keys.len() >= MAX_KEYS_PER_APP {
        let message = format!("The app has {MAX_KEYS_PER_APP} keys, which is the most; revoke one");
        return Err(Refusal::new(StatusCode::CONFLICT, "CONFLICT", message));
    }
    let ends = now.saturating_add(overlap).unwrap_or(Timestamp::MAX);
    let secret_key = format!("okra_sk_{}", HEXLOWER.encode(&call.state.random::<24>()?));
    let hint = secret_key[secret_key.len() - HINT_DIGITS..].to_owned();
    let key = ApiKey {
        hash: KeyHash::of(&secret_key),
        hint,
        created_at: Some(now),
        expires_at: None,
    };
    // The new one first: a crash in between leaves a key too many and not one too few.
    store.put_api_key(app, &key).await?;
    call.state.kept.forget_keys(app);
    for before in &mut keys {
        if before.expires_at.is_none_or(|at| ends < at) {
            before.expires_at = Some(ends);
            store.put_api_key(app, before).await?;
        }
    }
    let id = key.id();
    keys.push(key);
    let data = NewKey {
        id,
        secret_key,
        keys: shown(&keys),
    };
    success("Key made; the ones before expire", data)
}

/// Revokes a key at once. The last one stays: without it the app could not come back.
pub(crate) async fn revoke(call: &Call) -> Answer {
    let id = call.input.needed_text(&["id"])?;
    let keys = valid(call).await?;
    let key = keys.iter().find(|key| key.id() == id);
    let key = key.ok_or_else(|| Refusal::not_found("key"))?;
    if keys.len() == 1 {
        let message = "It is the app's only key; rotate it instead";
        return Err(Refusal::new(StatusCode::CONFLICT, "CONFLICT", message));
    }
    call.state
        .store
        .delete_api_key(call.app()?.id, key.hash)
        .await?;
    call.state.kept.forget_keys(call.app()?.id);
    let left: Vec<ApiKey> = keys.iter().filter(|it| it.id() != id).cloned().collect();
    success("Key revoked", Keys { keys: shown(&left) })
}

documented! {
    list() -> Keys: "The app's secret keys, without themselves.";
    rotate(OVERLAP) -> NewKey: "Makes a new key; those before stay valid for a while.";
    revoke(KEY_ID) -> Keys: "Revokes a key at once.";
}
