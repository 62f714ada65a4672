//! What a user's consent at a bank is to us: [`ConsentSecret`], the tokens that every call is made with;
//! [`ConsentId`], the bank's own id of the consent; [`ConsentTerms`], when it ends and what it opens.
//!
//! Tokens are wiped from memory when they are dropped, and are never printed.

use std::fmt;

use jiff::{SignedDuration, Timestamp, civil::Date};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Seconds before its end from which an access token is not used any more: it has to last for all calls of
/// one refresh.
pub const EXPIRY_LEEWAY_S: i64 = 30;

/// Characters of a consent's id at most, as in UK Open Banking.
pub const MAX_CONSENT_ID_CHARS: usize = 128;

/// The tokens of a consent. Sealed by the vault where it is stored, and never shown.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct ConsentSecret {
    /// Sent as the bearer token of each call; empty where only the refresh token is known yet.
    pub access_token: String,
    /// Buys the next access token, where the bank gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// When the access token ends; `None` where the bank did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[zeroize(skip)]
    pub expires_at: Option<Timestamp>,
    /// The bank's own id of the consent, where it is known. It is needed to read when the consent ends and to
    /// revoke it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[zeroize(skip)]
    pub consent_id: Option<ConsentId>,
}

impl ConsentSecret {
    /// An access token that lives as long as its consent.
    pub fn from_bearer_token(access_token: impl Into<String>) -> Self {
        Self {
            access_token: access_token.into(),
            refresh_token: None,
            expires_at: None,
            consent_id: None,
        }
    }

    /// True where there is no access token, or it ends within [`EXPIRY_LEEWAY_S`] by what the bank stated.
    pub fn needs_renewal(&self, now: Timestamp) -> bool {
        let leeway = SignedDuration::from_secs(EXPIRY_LEEWAY_S);
        self.access_token.is_empty()
            || self
                .expires_at
                .is_some_and(|end| end.duration_since(now) <= leeway)
    }
}

impl fmt::Debug for ConsentSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConsentSecret(..)")
    }
}

/// The bank's id of a consent: 1 to [`MAX_CONSENT_ID_CHARS`] visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConsentId(String);

impl ConsentId {
    /// The id; `None` where no bank can have given it.
    pub fn new(id: impl Into<String>) -> Option<Self> {
        let id = id.into();
        let is_usable = (1..=MAX_CONSENT_ID_CHARS).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_graphic());
        is_usable.then_some(Self(id))
    }

    /// The id as the bank gave it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConsentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a bank says of a consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsentTerms {
    /// When it ends; `None` where it has no end.
    pub expires_at: Option<Timestamp>,
    /// The first day whose transactions it opens; `None` where it opens all that the bank has.
    pub transactions_from: Option<Date>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-03-15T12:00:00Z".parse().unwrap()
    }

    fn secret_ending_in(seconds: i64) -> ConsentSecret {
        let mut secret = ConsentSecret::from_bearer_token("at");
        secret.expires_at = Some(now() + SignedDuration::from_secs(seconds));
        secret
    }

    #[test]
    fn a_token_needs_renewal_shortly_before_its_end() {
        assert!(!ConsentSecret::from_bearer_token("at").needs_renewal(now()));
        assert!(ConsentSecret::from_bearer_token("").needs_renewal(now()));
        assert!(!secret_ending_in(EXPIRY_LEEWAY_S + 1).needs_renewal(now()));
        assert!(secret_ending_in(EXPIRY_LEEWAY_S).needs_renewal(now()));
        assert!(secret_ending_in(-1).needs_renewal(now()));
    }
}
