//! Tokens from a bank's authorisation server (RFC 6749). An access token lives for minutes; the consent
//! behind it for months, and its refresh token buys the next access token.

use jiff::{SignedDuration, Timestamp};
use okra_core::model::{
    bank::{BankConfig, ClientAuth, OAuthClient},
    fault::{BankFault, FaultClass},
    ids::BankId,
};
use reqwest::{RequestBuilder, header::CONTENT_TYPE};
use serde::Deserialize;
use serde_json::Value;
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use crate::{Connectors, ConsentSecret, transport::BankResponse};

/// Bytes of a token answer at most.
const MAX_TOKEN_RESPONSE_BYTES: u32 = 64 * 1024;

/// Bytes of a token at most: it is sent in a header, and kept in an item that each refresh reads.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Seconds before its end from which an access token is not used any more: it has to last for the
/// calls of one refresh.
pub const EXPIRY_LEEWAY_S: i64 = 30;

/// Seconds an access token may be said to live, at most; a longer life is cut to it.
const MAX_TOKEN_LIFETIME_S: i64 = 10 * 365 * 86_400;

/// What a token is asked for with.
#[derive(Clone, Copy)]
pub enum TokenGrant<'a> {
    /// The refresh token of a consent.
    RefreshToken(&'a str),
    /// The code that a user's authorisation ended with.
    AuthorizationCode {
        /// The code.
        code: &'a str,
        /// Where the bank sent it.
        redirect_uri: &'a str,
        /// The verifier of PKCE (RFC 7636), where the authorisation had a challenge.
        verifier: Option<&'a str>,
    },
    /// Our own credentials: to make a consent that a user is then sent to authorise.
    ClientCredentials {
        /// `accounts`.
        scope: &'a str,
    },
}

/// What the vault seals a bank's client secret for. Records are sealed for their bare ids, so that a
/// consent can never be taken for a client secret.
pub fn client_secret_owner(bank: BankId) -> [u8; 19] {
    let mut owner = *b"client:____________";
    owner[7..].copy_from_slice(bank.as_bytes());
    owner
}

impl ConsentSecret {
    /// True where the access token has ended, or is about to, by what the bank said of it.
    pub fn needs_renewal(&self, now: Timestamp) -> bool {
        let leeway = SignedDuration::from_secs(EXPIRY_LEEWAY_S);
        self.access_token.is_empty()
            || self
                .expires_at
                .is_some_and(|end| end.duration_since(now) <= leeway)
    }
}

impl Connectors {
    /// Asks the bank's authorisation server for a token. `client_secret` is the opened
    /// [`OAuthClient::sealed_secret`]; `now` is what the token's life counts from. Where a refresh token
    /// is not replaced, the answer holds the old one.
    ///
    /// # Errors
    ///
    /// [`FaultClass::ConsentRefused`] where the grant is over, and only then: a refused client is
    /// [`FaultClass::Internal`], because no user can mend it.
    pub async fn request_token(
        &self,
        bank: &BankConfig,
        client_secret: &str,
        grant: TokenGrant<'_>,
        now: Timestamp,
    ) -> Result<ConsentSecret, BankFault> {
        let internal = |detail: &str| BankFault::new(FaultClass::Internal, detail);
        let client = bank
            .oauth
            .as_ref()
            .ok_or_else(|| internal("the bank has no token_url"))?;
        let url = Url::parse(&client.token_url)
            .map_err(|_| internal("the bank's token_url is not usable"))?;
        let request = authenticate_request(
            self.transport.post_request(url),
            client,
            client_secret,
            grant,
        )
        .header("accept", "application/json");
        let limits = okra_core::model::bank::BankLimits {
            max_body_bytes: bank.limits.max_body_bytes.min(MAX_TOKEN_RESPONSE_BYTES),
            ..bank.limits
        };
        match self.transport.send_request(request, &limits, now).await? {
            BankResponse::Success(body) => parse_token_response(&Zeroizing::new(body), grant, now),
            BankResponse::Rejected { fault, body } => Err(token_error_fault(fault, &body)),
        }
    }
}

/// The request with its form and what proves the client.
fn authenticate_request(
    request: RequestBuilder,
    client: &OAuthClient,
    secret: &str,
    grant: TokenGrant<'_>,
) -> RequestBuilder {
    let mut form = form_urlencoded::Serializer::new(String::new());
    match grant {
        TokenGrant::RefreshToken(token) => {
            form.append_pair("grant_type", "refresh_token")
                .append_pair("refresh_token", token);
        }
        TokenGrant::AuthorizationCode {
            code,
            redirect_uri,
            verifier,
        } => {
            form.append_pair("grant_type", "authorization_code")
                .append_pair("code", code)
                .append_pair("redirect_uri", redirect_uri);
            if let Some(verifier) = verifier {
                form.append_pair("code_verifier", verifier);
            }
        }
        TokenGrant::ClientCredentials { scope } => {
            form.append_pair("grant_type", "client_credentials")
                .append_pair("scope", scope);
        }
    }
    let request = match client.client_auth {
        ClientAuth::ClientSecretBasic => {
            // RFC 6749, 2.3.1: both are form-encoded before they are joined.
            let encoded = |text: &str| -> String {
                form_urlencoded::byte_serialize(text.as_bytes()).collect()
            };
            request.basic_auth(encoded(&client.client_id), Some(encoded(secret)))
        }
        ClientAuth::ClientSecretPost => {
            form.append_pair("client_id", &client.client_id)
                .append_pair("client_secret", secret);
            request
        }
        ClientAuth::None => {
            form.append_pair("client_id", &client.client_id);
            request
        }
    };
    request
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(form.finish())
}

#[derive(Deserialize)]
struct TokenResponse {
    access_token: String,
    #[serde(default)]
    token_type: Option<String>,
    /// Seconds; some banks write it as a text.
    #[serde(default)]
    expires_in: Value,
    #[serde(default)]
    refresh_token: Option<String>,
}

fn parse_token_response(
    body: &[u8],
    grant: TokenGrant<'_>,
    now: Timestamp,
) -> Result<ConsentSecret, BankFault> {
    let nonsense = |detail: &str| BankFault::new(FaultClass::MalformedResponse, detail);
    let answer: TokenResponse =
        serde_json::from_slice(body).map_err(|_| nonsense("the token answer cannot be read"))?;
    let bearer = answer
        .token_type
        .is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
    if !bearer {
        return Err(nonsense("the token is not a bearer token"));
    }
    let old = match grant {
        TokenGrant::RefreshToken(token) => Some(token.to_owned()),
        TokenGrant::AuthorizationCode { .. } | TokenGrant::ClientCredentials { .. } => None,
    };
    let refresh_token = answer.refresh_token.filter(|it| !it.is_empty()).or(old);
    let usable = |token: &str| is_usable_token(token);
    if !usable(&answer.access_token) || !refresh_token.as_deref().is_none_or(usable) {
        return Err(nonsense(
            "the token answer holds a token that cannot be sent",
        ));
    }
    let life_s = match &answer.expires_in {
        Value::Number(seconds) => seconds.as_i64(),
        Value::String(seconds) => seconds.parse().ok(),
        _ => None,
    };
    let end = |life_s: i64| {
        let life = SignedDuration::from_secs(life_s.clamp(0, MAX_TOKEN_LIFETIME_S));
        now.checked_add(life).ok()
    };
    Ok(ConsentSecret {
        access_token: answer.access_token,
        refresh_token,
        expires_at: life_s.and_then(end),
        consent_id: None,
    })
}

/// True for what can stand in a header: visible ASCII, at most [`MAX_TOKEN_BYTES`].
pub fn is_usable_token(token: &str) -> bool {
    !token.is_empty()
        && token.len() <= MAX_TOKEN_BYTES
        && token.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Codes of RFC 6749, 5.2. Others are the bank's own text and are not shown.
const OAUTH_ERROR_CODES: [&str; 6] = [
    "invalid_grant",
    "invalid_client",
    "invalid_request",
    "invalid_scope",
    "unauthorized_client",
    "unsupported_grant_type",
];

fn token_error_fault(mut fault: BankFault, body: &[u8]) -> BankFault {
    #[derive(Deserialize)]
    struct OAuthErrorBody {
        error: String,
    }
    let said = serde_json::from_slice::<OAuthErrorBody>(body).ok();
    let code = said.and_then(|said| {
        OAUTH_ERROR_CODES
            .into_iter()
            .find(|code| *code == said.error)
    });
    fault.class = match code {
        Some("invalid_grant") => FaultClass::ConsentRejected,
        Some(_) => FaultClass::Internal,
        // Without a code it is the client that was refused: a consent is refused as invalid_grant.
        None if fault.class == FaultClass::ConsentRejected => FaultClass::Internal,
        None => fault.class,
    };
    let status = &fault.detail;
    fault.detail = match code {
        Some(code) => format!("token endpoint: {status}, {code}"),
        None => format!("token endpoint: {status}"),
    };
    fault
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-03-15T12:00:00Z".parse().unwrap()
    }

    fn parse_refresh_response(body: &str) -> Result<ConsentSecret, BankFault> {
        parse_token_response(body.as_bytes(), TokenGrant::RefreshToken("old"), now())
    }

    #[test]
    fn an_answer_is_read_as_banks_write_it() {
        let check = |body: &str, refresh: &str, life_s: Option<i64>| {
            let secret = parse_refresh_response(body).unwrap();
            assert_eq!(secret.access_token, "at", "{body}");
            assert_eq!(secret.refresh_token.as_deref(), Some(refresh), "{body}");
            let end = secret
                .expires_at
                .map(|end| end.duration_since(now()).as_secs());
            assert_eq!(end, life_s, "{body}");
        };
        check(
            r#"{"access_token":"at","token_type":"Bearer","expires_in":300,"refresh_token":"new","scope":"accounts"}"#,
            "new",
            Some(300),
        );
        check(
            r#"{"access_token":"at","token_type":"bearer"}"#,
            "old",
            None,
        );
        check(
            r#"{"access_token":"at","expires_in":"60"}"#,
            "old",
            Some(60),
        );
        check(r#"{"access_token":"at","expires_in":-5}"#, "old", Some(0));
        check(
            r#"{"access_token":"at","refresh_token":"","expires_in":1e99}"#,
            "old",
            None,
        );
    }

    #[test]
    fn an_answer_that_cannot_be_used_is_nonsense_and_shows_nothing() {
        let long = format!(
            r#"{{"access_token":"{}"}}"#,
            "s".repeat(MAX_TOKEN_BYTES + 1)
        );
        for body in [
            "",
            "{}",
            "<html>s3cret</html>",
            r#"{"access_token":""}"#,
            r#"{"access_token":"s3cret with a space"}"#,
            r#"{"access_token":"s3cret\r\nx: y"}"#,
            r#"{"access_token":"s3cret","token_type":"mac"}"#,
            long.as_str(),
        ] {
            let fault = parse_refresh_response(body).unwrap_err();
            assert_eq!(fault.class, FaultClass::MalformedResponse, "{body}");
            assert!(!fault.to_string().contains("s3cret"), "{fault}");
        }
    }

    #[test]
    fn a_token_is_spent_shortly_before_its_end() {
        let ends_in = |seconds| {
            let mut secret = ConsentSecret::from_bearer_token("at");
            secret.expires_at = Some(now() + SignedDuration::from_secs(seconds));
            secret
        };
        assert!(!ConsentSecret::from_bearer_token("at").needs_renewal(now()));
        assert!(ConsentSecret::from_bearer_token("").needs_renewal(now()));
        assert!(!ends_in(EXPIRY_LEEWAY_S + 1).needs_renewal(now()));
        assert!(ends_in(EXPIRY_LEEWAY_S).needs_renewal(now()));
        assert!(ends_in(-1).needs_renewal(now()));
    }

    #[test]
    fn owners_of_client_secrets_differ_from_those_of_consents() {
        let (one, two) = (BankId::from_bytes([1; 12]), BankId::from_bytes([2; 12]));
        assert_ne!(client_secret_owner(one), client_secret_owner(two));
        assert_ne!(&client_secret_owner(one)[..], one.as_bytes());
    }
}
