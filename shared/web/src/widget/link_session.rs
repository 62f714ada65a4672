//! The session of a customer in the widget: [`LinkProgress`] is how far the link has come, sealed at rest.
//!
//! Only the hash of the session's token is stored, and each save succeeds only where no other call saved in between.

use axum::http::HeaderMap;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use jiff::civil::Date;
use okra_connectors::{ConsentId, ConsentSecret};
use okra_core::model::{
    ids::{AppId, BankId, RecordId},
    interval::Interval,
    snapshot::ByProduct,
};
use okra_store::{KeyHash, LINK_SESSION_RETENTION_S, LinkSession};
use okra_vault::generate_nonce;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::options::LinkOptions;
use crate::{page_error::PageError, web_state::WebState};

/// The header that carries the session's token.
const SESSION_HEADER: &str = "x-okra-link";

/// What the seals are for: neither opens for the other purpose.
const SESSION_SEAL_PURPOSE: &[u8] = b"link session";

const STATE_SEAL_PURPOSE: &[u8] = b"link state";

/// How far a link has come.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct LinkProgress {
    pub(crate) app: AppId,
    /// The origin of the page that opened the widget.
    pub(crate) origin: String,
    #[serde(rename = "asked")]
    pub(crate) options: LinkOptions,
    /// The record whose consent is renewed, where it is not a new link.
    #[serde(rename = "reauth")]
    pub(crate) reauth_record: Option<RecordId>,
    /// What is read of that record.
    #[serde(rename = "renewed")]
    pub(crate) renewed_consent: Option<RenewedConsent>,
    pub(crate) bank: Option<BankId>,
    /// The login at the bank that is in progress.
    #[serde(rename = "visit")]
    pub(crate) authorization: Option<BankAuthorization>,
    /// Logins at banks that were started.
    #[serde(rename = "logins", default)]
    pub(crate) login_count: u32,
    /// Since when the accounts are fetched from the bank, after the customer returned: seconds since 1970.
    #[serde(rename = "reading_s")]
    pub(crate) reading_since_s: Option<i64>,
    /// The consent, from the customer's return until the record is linked.
    pub(crate) consent: Option<ConsentSecret>,
    #[serde(rename = "offered")]
    pub(crate) offered_accounts: Vec<OfferedAccount>,
    /// What went wrong at the bank.
    #[serde(rename = "problem")]
    pub(crate) bank_error: Option<BankLinkError>,
    /// The payload of `onSuccess`, once the record is linked.
    #[serde(rename = "linked")]
    pub(crate) success_payload: Option<Value>,
    pub(crate) record: Option<RecordId>,
    /// When the session ends: seconds since 1970.
    expires_s: i64,
}

/// What is read of a record whose consent is renewed.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct RenewedConsent {
    /// The interval of each product.
    pub(crate) schedule: ByProduct<Interval>,
    /// The first day whose transactions are read.
    pub(crate) since: Date,
}

/// One login at the bank.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct BankAuthorization {
    /// Must come back in the state, once.
    pub(crate) nonce: String,
    /// The code verifier of PKCE (RFC 7636).
    #[serde(rename = "verifier")]
    pub(crate) pkce_verifier: String,
    /// The consent that is to be authorised.
    #[serde(rename = "consent")]
    pub(crate) consent_id: ConsentId,
    /// Where the customer is sent.
    #[serde(rename = "url")]
    pub(crate) authorization_url: String,
    /// The hash of the secret in the cookie of the browser that the customer was sent there with; `None` before that.
    #[serde(rename = "browser", default)]
    pub(crate) browser_hash: Option<String>,
}

/// An account that the bank's consent covers.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct OfferedAccount {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) number: String,
    pub(crate) kind: String,
}

/// Why a customer returned without a consent.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BankLinkError {
    /// The customer cancelled, or the bank rejected the login.
    #[serde(rename = "Denied")]
    AccessDenied,
    /// The bank is unavailable.
    #[serde(rename = "Down")]
    BankUnavailable,
    /// The bank's response cannot be used.
    #[serde(rename = "Nonsense")]
    MalformedResponse,
    /// The bank's rate limit is reached.
    #[serde(rename = "Busy")]
    RateLimited,
}

impl BankLinkError {
    /// The message for the customer.
    pub(crate) const fn customer_message(self) -> &'static str {
        match self {
            Self::AccessDenied => {
                "The bank did not let you in, or you cancelled. Nothing was shared."
            }
            Self::BankUnavailable => {
                "The bank is unavailable at the moment. Try again in a few minutes."
            }
            Self::MalformedResponse => {
                "The bank's response could not be read. Try again, or choose another bank."
            }
            Self::RateLimited => "The bank limits how often we may call it. Try again in a minute.",
        }
    }
}

impl LinkProgress {
    pub(crate) fn new(app: AppId, origin: String, options: LinkOptions) -> Self {
        Self {
            app,
            origin,
            options,
            reauth_record: None,
            renewed_consent: None,
            bank: None,
            authorization: None,
            login_count: 0,
            reading_since_s: None,
            consent: None,
            offered_accounts: vec![],
            bank_error: None,
            success_payload: None,
            record: None,
            expires_s: 0,
        }
    }
}

/// A session as it was read: saving it succeeds only where no other call saved it since.
pub(crate) struct OpenLinkSession {
    pub(crate) link: LinkProgress,
    token_hash: KeyHash,
    version: u64,
}

/// The token of the session that a request is of; empty where it names none.
pub(crate) fn find_session_token(headers: &HeaderMap) -> &str {
    headers
        .get(SESSION_HEADER)
        .and_then(|it| it.to_str().ok())
        .unwrap_or_default()
}

/// Creates a session. Returns its token, of which only the hash is stored.
pub(crate) async fn create_session(
    web: &WebState,
    link: &LinkProgress,
) -> Result<String, PageError> {
    let token = HEXLOWER.encode(&generate_nonce()?);
    let mut link = link.clone();
    link.expires_s = web.now().as_second() + LINK_SESSION_RETENTION_S;
    let open = OpenLinkSession {
        link,
        token_hash: KeyHash::hash_secret(&token),
        version: 0,
    };
    open.save_session(web).await?;
    Ok(token)
}

/// The session of a token; `None` where there is none or it has ended.
pub(crate) async fn load_session(
    web: &WebState,
    token: &str,
) -> Result<Option<OpenLinkSession>, PageError> {
    let hash = KeyHash::hash_secret(token);
    let Some(stored) = web.services.store.find_link_session(hash).await? else {
        return Ok(None);
    };
    let plain = web
        .services
        .vault
        .open_sealed(SESSION_SEAL_PURPOSE, &stored.sealed_state)?;
    // A session that an older version began has ended: its customer was shown something else.
    let Ok(link) = serde_json::from_slice::<LinkProgress>(&plain) else {
        return Ok(None);
    };
    let has_ended = link.expires_s <= web.now().as_second();
    Ok((!has_ended).then_some(OpenLinkSession {
        link,
        token_hash: hash,
        version: stored.version,
    }))
}

impl OpenLinkSession {
    /// The session as it is after it was saved.
    pub(crate) fn after_save(&self) -> Self {
        Self {
            link: self.link.clone(),
            token_hash: self.token_hash,
            version: self.version + 1,
        }
    }

    /// Saves it. Returns false where another call saved it since it was read.
    pub(crate) async fn save_session(&self, web: &WebState) -> Result<bool, PageError> {
        let plain = Zeroizing::new(serde_json::to_vec(&self.link)?);
        let session = LinkSession {
            version: self.version + 1,
            sealed_state: web.services.vault.seal_secret(
                SESSION_SEAL_PURPOSE,
                &plain,
                generate_nonce()?,
            )?,
        };
        let store = &web.services.store;
        Ok(store
            .put_link_session(self.token_hash, &session, web.now())
            .await?)
    }
}

/// The `state` of the login at the bank: the session and the login's nonce, sealed.
#[derive(Serialize, Deserialize)]
pub(crate) struct AuthorizationState {
    #[serde(rename = "session")]
    pub(crate) session_token: String,
    pub(crate) nonce: String,
}

impl AuthorizationState {
    /// The sealed text.
    pub(crate) fn seal_state(&self, web: &WebState) -> Result<String, PageError> {
        let plain = serde_json::to_vec(self)?;
        let sealed =
            web.services
                .vault
                .seal_secret(STATE_SEAL_PURPOSE, &plain, generate_nonce()?)?;
        Ok(BASE64URL_NOPAD.encode(&sealed))
    }

    /// The state of a sealed text; `None` where we did not seal it.
    pub(crate) fn open_sealed(web: &WebState, text: &str) -> Option<Self> {
        let sealed = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        let plain = web
            .services
            .vault
            .open_sealed(STATE_SEAL_PURPOSE, &sealed)
            .ok()?;
        serde_json::from_slice(&plain).ok()
    }
}
