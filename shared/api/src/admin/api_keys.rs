//! The calls on an app's secret keys; what they do is in [`okra_app::api_keys`].

use okra_store::ApiKey;
use okra_wire::scalar::IsoInstant;
use serde::Serialize;

use crate::http::{
    envelope::{ApiResponse, success_response},
    request::ApiRequest,
};

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct KeysResponse {
    keys: Vec<KeySummary>,
}

/// A key without its secret.
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
    /// Shown only here: only its hash is stored.
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

fn summarise_keys(keys: &[ApiKey]) -> Vec<KeySummary> {
    keys.iter().map(KeySummary::from).collect()
}

pub(crate) async fn list_keys(request: &ApiRequest) -> ApiResponse {
    let keys = summarise_keys(&request.scope()?.list_valid_keys().await?);
    success_response("Keys retrieved successfully", KeysResponse { keys })
}

pub(crate) async fn rotate_key(request: &ApiRequest) -> ApiResponse {
    let overlap_hours = request.input.parse_number("overlap_hours")?;
    let rotated = request.scope()?.rotate_key(overlap_hours).await?;
    let data = RotateKeyResponse {
        id: rotated.key.key_id(),
        secret_key: rotated.secret_key,
        keys: summarise_keys(&rotated.keys),
    };
    success_response("Key created; the earlier ones expire", data)
}

pub(crate) async fn revoke_key(request: &ApiRequest) -> ApiResponse {
    let id = request.input.require_text(&["id"])?;
    let keys = summarise_keys(&request.scope()?.revoke_key(&id).await?);
    success_response("Key revoked", KeysResponse { keys })
}

routes! {
    Post Key [Ours "keys/list"] => list_keys() -> KeysResponse:
        "Lists the app's valid secret keys, without their secrets.";
    Change Key [Ours "keys/rotate"] => rotate_key(OVERLAP) -> RotateKeyResponse:
        "Creates a secret key and returns it; the earlier ones stay valid for the overlap.";
    Change Key [Ours "keys/revoke"] => revoke_key(KEY_ID) -> KeysResponse:
        "Revokes a secret key at once and returns those that are left.";
}
