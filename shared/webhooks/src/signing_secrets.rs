//! What an endpoint shares with us: its [`SigningSecrets`] and, where it has one, its [`BearerToken`].
//!
//! The rule: neither is ever printed or logged, and their memory is cleared when they are dropped.

use std::fmt;

use ::http::HeaderValue;
use data_encoding::BASE64;
use jiff::Timestamp;
use okra_core::model::ids::EventId;
use standardwebhooks::Webhook;
use zeroize::Zeroizing;

/// Random bytes in a signing secret.
pub const SECRET_BYTES: usize = 24;

/// Signing secrets of an endpoint at most: the current one and, for a while after a rotation, the previous one.
pub const MAX_SECRETS: usize = 2;

/// Bytes of a bearer token at most.
pub const MAX_BEARER_BYTES: usize = 4096;

/// Bytes of a secret that an app imports.
const IMPORTED_SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

const SECRET_PREFIX: &str = "whsec_";

/// Why secrets cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// They are not `whsec_` and base64, once or twice, with one space between.
    #[error("a signing secret must be whsec_ and base64 of 24 to 64 bytes")]
    Signing,
    /// It is empty, longer than [`MAX_BEARER_BYTES`], or has characters that a header cannot carry.
    #[error("a bearer token must have 1 to {MAX_BEARER_BYTES} visible ASCII characters")]
    Bearer,
    /// Only text can be signed.
    #[error("a body must be UTF-8 to be signed")]
    Body,
}

/// The signing secrets of an endpoint, current first.
#[derive(Clone)]
pub struct SigningSecrets {
    current: Zeroizing<String>,
    previous: Option<Zeroizing<String>>,
}

impl SigningSecrets {
    /// A secret made of random bytes.
    pub fn from_entropy(entropy: &[u8; SECRET_BYTES]) -> Self {
        Self {
            current: encode_secret(entropy),
            previous: None,
        }
    }

    /// A new current secret; the one that was current still signs beside it.
    #[must_use]
    pub fn with_new_secret(self, entropy: &[u8; SECRET_BYTES]) -> Self {
        Self {
            current: encode_secret(entropy),
            previous: Some(self.current),
        }
    }

    /// A secret that an app imports: `whsec_` and base64 of 24 to 64 bytes.
    ///
    /// # Errors
    ///
    /// [`SecretError::Signing`].
    pub fn from_imported_text(text: &str) -> Result<Self, SecretError> {
        let encoded = text
            .strip_prefix(SECRET_PREFIX)
            .ok_or(SecretError::Signing)?;
        let bytes = BASE64.decode(encoded.as_bytes());
        let bytes = bytes
            .map(Zeroizing::new)
            .map_err(|_| SecretError::Signing)?;
        if !IMPORTED_SECRET_BYTES.contains(&bytes.len()) {
            return Err(SecretError::Signing);
        }
        Self::from_plain(text.as_bytes())
    }

    /// The current secret of another; the one that was current still signs beside it.
    #[must_use]
    pub fn with_replacement(self, other: &Self) -> Self {
        Self {
            current: other.current.clone(),
            previous: Some(self.current),
        }
    }

    /// The current secret alone.
    #[must_use]
    pub fn without_previous(self) -> Self {
        Self {
            previous: None,
            ..self
        }
    }

    /// The current secret as the receiver needs it, `whsec_...`. Shown once; never logged.
    pub fn current_secret(&self) -> &str {
        &self.current
    }

    /// What is sealed in the vault.
    pub fn to_plain(&self) -> Zeroizing<Vec<u8>> {
        let mut plain = Zeroizing::new(self.current.as_bytes().to_vec());
        if let Some(previous) = &self.previous {
            plain.push(b' ');
            plain.extend_from_slice(previous.as_bytes());
        }
        plain
    }

    /// Reads what [`to_plain`](Self::to_plain) wrote.
    ///
    /// # Errors
    ///
    /// [`SecretError::Signing`].
    pub fn from_plain(plain: &[u8]) -> Result<Self, SecretError> {
        let text = std::str::from_utf8(plain).map_err(|_| SecretError::Signing)?;
        let mut secrets = text.split(' ').map(|text| {
            let decodes = text.starts_with(SECRET_PREFIX) && Webhook::new(text).is_ok();
            decodes
                .then(|| Zeroizing::new(text.to_owned()))
                .ok_or(SecretError::Signing)
        });
        let current = secrets.next().ok_or(SecretError::Signing)??;
        let previous = secrets.next().transpose()?;
        match secrets.next() {
            None => Ok(Self { current, previous }),
            Some(_) => Err(SecretError::Signing),
        }
    }

    /// The value of `webhook-signature`: a v1 signature for each secret, with exactly one space
    /// between, which is all that the strictest of the public verifiers accepts.
    pub(crate) fn sign_body(
        &self,
        event: &EventId,
        sent_at: Timestamp,
        body: &[u8],
    ) -> Result<HeaderValue, SecretError> {
        let mut signatures = String::with_capacity(96);
        for secret in std::iter::once(&self.current).chain(&self.previous) {
            if !signatures.is_empty() {
                signatures.push(' ');
            }
            let signer = Webhook::new(secret).map_err(|_| SecretError::Signing)?;
            signatures += &signer
                .sign(event.as_str(), sent_at.as_second(), body)
                .map_err(|_| SecretError::Body)?;
        }
        HeaderValue::try_from(signatures).map_err(|_| SecretError::Signing)
    }
}

fn encode_secret(entropy: &[u8; SECRET_BYTES]) -> Zeroizing<String> {
    Zeroizing::new(format!("{SECRET_PREFIX}{}", BASE64.encode(entropy)))
}

impl fmt::Debug for SigningSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecrets(..)")
    }
}

/// The static token that an endpoint wants as `Authorization: Bearer`.
#[derive(Clone)]
pub struct BearerToken(Zeroizing<String>);

impl BearerToken {
    /// A token that a header can carry.
    ///
    /// # Errors
    ///
    /// [`SecretError::Bearer`].
    pub fn new(token: &str) -> Result<Self, SecretError> {
        let fits = (1..=MAX_BEARER_BYTES).contains(&token.len());
        let visible = token.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
        (fits && visible)
            .then(|| Self(Zeroizing::new(token.to_owned())))
            .ok_or(SecretError::Bearer)
    }

    /// What is sealed in the vault.
    pub fn to_plain(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Reads what [`to_plain`](Self::to_plain) wrote.
    ///
    /// # Errors
    ///
    /// [`SecretError::Bearer`].
    pub fn from_plain(plain: &[u8]) -> Result<Self, SecretError> {
        Self::new(std::str::from_utf8(plain).map_err(|_| SecretError::Bearer)?)
    }

    /// The value of `authorization`.
    pub(crate) fn to_header_value(&self) -> Result<HeaderValue, SecretError> {
        let text = Zeroizing::new(format!("Bearer {}", *self.0));
        let mut value = HeaderValue::try_from(text.as_str()).map_err(|_| SecretError::Bearer)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(..)")
    }
}

#[cfg(test)]
mod tests {
    use okra_core::model::ids::{RecordId, Seq};
    use proptest::prelude::*;

    use super::*;

    fn sample_event_id() -> EventId {
        EventId::for_record_entry(RecordId::from_bytes([7; 12]), Seq(3))
    }

    proptest! {
        #[test]
        fn secrets_survive_the_vault(old: [u8; SECRET_BYTES], new: [u8; SECRET_BYTES]) {
            let secrets = SigningSecrets::from_entropy(&old);
            let read = SigningSecrets::from_plain(&secrets.to_plain()).unwrap();
            prop_assert_eq!(read.current_secret(), secrets.current_secret());
            prop_assert!(read.previous.is_none());

            let rotated = secrets.clone().with_new_secret(&new);
            let read = SigningSecrets::from_plain(&rotated.to_plain()).unwrap();
            prop_assert_eq!(read.current_secret(), rotated.current_secret());
            let previous = read.previous.unwrap();
            prop_assert_eq!(previous.as_str(), secrets.current_secret());
        }
    }

    #[test]
    fn malformed_secrets_are_rejected() {
        let good = SigningSecrets::from_entropy(&[1; SECRET_BYTES])
            .current_secret()
            .to_owned();
        for plain in [
            String::new(),
            "whsec_!".to_owned(),
            good.trim_start_matches(SECRET_PREFIX).to_owned(),
            format!("{good} "),
            format!(" {good}"),
            format!("{good}  {good}"),
            format!("{good} {good} {good}"),
        ] {
            let read = SigningSecrets::from_plain(plain.as_bytes());
            assert_eq!(read.err(), Some(SecretError::Signing), "{plain:?}");
        }
    }

    #[test]
    fn a_rotated_secret_signs_beside_the_old_one() {
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        let sign = |secrets: &SigningSecrets| {
            let value = secrets.sign_body(&sample_event_id(), at, b"{}").unwrap();
            value.to_str().unwrap().to_owned()
        };
        let old = SigningSecrets::from_entropy(&[1; SECRET_BYTES]);
        let new = SigningSecrets::from_entropy(&[2; SECRET_BYTES]);
        let both = old.clone().with_new_secret(&[2; SECRET_BYTES]);
        assert_eq!(sign(&both), format!("{} {}", sign(&new), sign(&old)));
        let third = both.with_new_secret(&[3; SECRET_BYTES]);
        assert_eq!(sign(&third).split(' ').count(), MAX_SECRETS);
        assert!(!sign(&third).contains(&sign(&old)));
    }

    #[test]
    fn a_known_message_has_the_known_signature() {
        // The vector of the Standard Webhooks libraries, with an event id of ours.
        let secrets =
            SigningSecrets::from_plain(b"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap();
        let at = Timestamp::from_second(1_649_367_553).unwrap();
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        let signature = secrets.sign_body(&sample_event_id(), at, body).unwrap();
        assert_eq!(
            signature.to_str().unwrap(),
            "v1,RSqJ57w4twMxtd891nxSMOR/uIUb2Y8lTmTmwcUxgP0="
        );
        assert_eq!(
            secrets.sign_body(&sample_event_id(), at, &[0xff]).err(),
            Some(SecretError::Body)
        );
    }

    #[test]
    fn a_bearer_token_fits_a_header() {
        for (token, fits) in [
            ("t0ken", true),
            ("", false),
            ("two words", false),
            ("line\r\nbreak: 1", false),
            ("\u{e9}", false),
        ] {
            let bearer = BearerToken::new(token);
            assert_eq!(bearer.is_ok(), fits, "{token:?}");
            if let Ok(bearer) = bearer {
                let value = bearer.to_header_value().unwrap();
                assert_eq!(value.to_str().unwrap(), format!("Bearer {token}"));
                assert!(value.is_sensitive());
                assert!(BearerToken::from_plain(bearer.to_plain()).is_ok());
            }
        }
        assert!(BearerToken::new(&"a".repeat(MAX_BEARER_BYTES + 1)).is_err());
    }

    #[test]
    fn nothing_secret_is_printed() {
        let secrets = SigningSecrets::from_entropy(&[1; SECRET_BYTES]);
        let bearer = BearerToken::new("t0ken").unwrap();
        assert_eq!(
            format!("{secrets:?} {bearer:?}"),
            "SigningSecrets(..) Bearer(..)"
        );
    }
}
