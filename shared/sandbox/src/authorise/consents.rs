//! `…/account-access-consents`: an app creates, reads and revokes consents with its client's own token.

use axum::{
    body::Bytes,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header::AUTHORIZATION};
use serde_json::{Value, json};

use crate::{
    bank::state::SandboxBank,
    command::SandboxCommand,
    rows::movement::{SECONDS_PER_DAY, UnixSeconds, to_timestamp},
};

/// Seconds that a consent lasts from its authorisation on, as at banks of the UK (SCA-RTS article 10, as amended in
/// 2022): 180 days.
const CONSENT_LIFE_S: UnixSeconds = 180 * SECONDS_PER_DAY;

/// Creates a consent that waits for its user.
pub(super) async fn create_consent(
    State(bank): State<SandboxBank>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !has_client_token(&bank, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let Ok(requested) = serde_json::from_slice::<Value>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let permissions: Vec<String> = requested["Data"]["Permissions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|permission| permission.as_str().map(str::to_owned))
        .collect();
    if permissions.is_empty() {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let (id, now) = (bank.generate_id("consent"), bank.current_second());
    let response = json!({
        "Data": {
            "ConsentId": id,
            "Status": "AwaitingAuthorisation",
            "CreationDateTime": to_timestamp(now).to_string(),
            "StatusUpdateDateTime": to_timestamp(now).to_string(),
            "Permissions": permissions,
            "ExpirationDateTime": requested["Data"]["ExpirationDateTime"],
        },
        "Risk": {},
    });
    bank.authorisation_state()
        .consents
        .insert_entry(&id, now, permissions);
    (StatusCode::CREATED, axum::Json(response)).into_response()
}

/// Shows a consent: that it waits for its user, or when it expires.
pub(super) async fn get_consent(
    State(bank): State<SandboxBank>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    if !has_client_token(&bank, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let data = if let Some(authorised) = bank.find_authorised_consent(&id) {
        let expires_at = authorised.authorised_at + CONSENT_LIFE_S;
        json!({
            "ConsentId": id,
            "Status": "Authorised",
            "StatusUpdateDateTime": to_timestamp(authorised.authorised_at).to_string(),
            "ExpirationDateTime": to_timestamp(expires_at).to_string(),
        })
    } else if bank.find_awaiting_consent(&id).is_some() {
        json!({ "ConsentId": id, "Status": "AwaitingAuthorisation" })
    } else {
        return StatusCode::NOT_FOUND.into_response();
    };
    axum::Json(json!({ "Data": data, "Risk": {} })).into_response()
}

/// Revokes a consent.
pub(super) async fn revoke_consent(
    State(bank): State<SandboxBank>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    if !has_client_token(&bank, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if bank.find_authorised_consent(&id).is_none() {
        return StatusCode::NOT_FOUND.into_response();
    }
    match bank.execute_command(SandboxCommand::RevokeConsent { consent_id: id }) {
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the sandbox bank could not revoke a consent"
            );
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// True for a request with the token of the client's own credentials.
fn has_client_token(bank: &SandboxBank, headers: &HeaderMap) -> bool {
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|header| header.to_str().ok()?.strip_prefix("Bearer "));
    bearer == Some(bank.client_credentials_token().access_token.as_str())
}

impl SandboxBank {
    /// The permissions of a consent that waits for its user.
    pub(super) fn find_awaiting_consent(&self, consent_id: &str) -> Option<Vec<String>> {
        self.authorisation_state()
            .consents
            .get_entry(consent_id, self.current_second())
    }
}
