//! What an app's client gets: a token for its own credentials, and the exchange of a user's code.

use data_encoding::HEXLOWER;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{expiring_map::UNUSED_LIFE_S, query::decode_base64url};
use crate::{bank::state::SandboxBank, command::LoginId, rows::movement::UnixSeconds};

/// The response to a client's own credentials.
#[derive(Serialize)]
pub(crate) struct ClientCredentialsToken {
    pub(super) access_token: String,
    expires_in: UnixSeconds,
}

/// What a code is for.
pub(crate) struct RedeemedCode {
    pub(crate) login: LoginId,
    pub(crate) consent_id: String,
}

impl SandboxBank {
    /// What a client gets for its own credentials: the token that consents are created with.
    pub(crate) fn client_credentials_token(&self) -> ClientCredentialsToken {
        let mut hash = Sha256::new();
        hash.update(b"client");
        hash.update(self.options().seed.to_be_bytes());
        ClientCredentialsToken {
            access_token: HEXLOWER.encode(&hash.finalize()),
            expires_in: UNUSED_LIFE_S,
        }
    }

    /// Exchanges a code, once: `None` where it is unknown or expired, or was issued to another client, `redirect_uri`
    /// or code challenge.
    pub(crate) fn redeem_code(
        &self,
        client_id: &str,
        code: &str,
        redirect_uri: &str,
        code_verifier: Option<&str>,
    ) -> Option<RedeemedCode> {
        let code = self
            .authorisation_state()
            .codes
            .take_entry(code, self.current_second())?;
        let is_proven = match &code.code_challenge {
            None => true,
            Some(challenge) => code_verifier.is_some_and(|verifier| {
                let digest = Sha256::digest(verifier.as_bytes());
                decode_base64url(challenge).as_deref() == Some(digest.as_slice())
            }),
        };
        let is_same_client = code.client_id == client_id && code.redirect_uri == redirect_uri;
        (is_proven && is_same_client).then_some(RedeemedCode {
            login: code.login,
            consent_id: code.consent_id,
        })
    }
}
