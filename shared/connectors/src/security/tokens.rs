//! Tokens from a bank's authorisation server (RFC 6749). An access token lives for minutes, the consent behind it
//! for months; its refresh token buys the next access token.
//!
//! A token is believed only where it can be sent in a header, and its lifetime only within bounds.

use jiff::{SignedDuration, Timestamp};
use okra_core::model::fault::{BankFault, FaultClass};
use reqwest::{
    RequestBuilder,
    header::{ACCEPT, CONTENT_TYPE},
};
use serde::Deserialize;
use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use super::client_auth::{TokenForm, authenticate_client};
use crate::{
    connector::{ClientCall, LoginCode},
    consent::ConsentSecret,
    transport::{BankResponse, CallContext},
};

/// Bytes of a token response at most.
const MAX_TOKEN_RESPONSE_BYTES: u32 = 64 * 1024;

/// Bytes of a token at most: it is sent in a header, and stored in an item that each refresh reads.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Seconds that an access token may live at most; a longer life is cut to it.
const MAX_TOKEN_LIFETIME_S: i64 = 10 * 365 * 86_400;

/// What is exchanged for a token.
#[derive(Clone, Copy)]
enum TokenGrant<'a> {
    /// The refresh token of a consent.
    RefreshToken(&'a str),
    /// The code that a user's authorisation ended with.
    AuthorizationCode(LoginCode<'a>),
    /// Our own credentials, for a token of this scope.
    ClientCredentials { scope: &'a str },
}

impl TokenGrant<'_> {
    fn append_to(self, form: &mut TokenForm) {
        match self {
            Self::RefreshToken(token) => {
                form.append_pair("grant_type", "refresh_token")
                    .append_pair("refresh_token", token);
            }
            Self::AuthorizationCode(login) => {
                form.append_pair("grant_type", "authorization_code")
                    .append_pair("code", login.code)
                    .append_pair("redirect_uri", login.redirect_uri)
                    .append_pair("code_verifier", login.pkce_verifier);
            }
            Self::ClientCredentials { scope } => {
                form.append_pair("grant_type", "client_credentials")
                    .append_pair("scope", scope);
            }
        }
    }
}

/// A token of our own client, to manage consents with.
pub(crate) async fn request_client_token(
    call: ClientCall<'_>,
    scope: &str,
) -> Result<ConsentSecret, BankFault> {
    request_token(call, TokenGrant::ClientCredentials { scope }).await
}

/// The tokens of a consent that its user has just authorised.
pub(crate) async fn complete_login(
    call: ClientCall<'_>,
    login: LoginCode<'_>,
) -> Result<ConsentSecret, BankFault> {
    let mut tokens = request_token(call, TokenGrant::AuthorizationCode(login)).await?;
    tokens.consent_id = Some(login.consent_id.clone());
    Ok(tokens)
}

/// The next tokens of a consent.
pub(crate) async fn renew_tokens(
    call: ClientCall<'_>,
    consent: &ConsentSecret,
) -> Result<ConsentSecret, BankFault> {
    let refresh_token = consent
        .refresh_token
        .as_deref()
        .ok_or_else(|| internal_fault("the consent has no refresh token"))?;
    let mut tokens = request_token(call, TokenGrant::RefreshToken(refresh_token)).await?;
    tokens.consent_id.clone_from(&consent.consent_id);
    Ok(tokens)
}

/// Requests a token from the bank's authorisation server. A rejected client is [`FaultClass::Internal`], because
/// no user can mend it.
async fn request_token(
    call: ClientCall<'_>,
    grant: TokenGrant<'_>,
) -> Result<ConsentSecret, BankFault> {
    let request = build_token_request(call, grant)?;
    let context = CallContext {
        max_body_bytes: call
            .bank
            .limits
            .max_body_bytes
            .min(MAX_TOKEN_RESPONSE_BYTES),
        ..CallContext::for_bank(call.bank, "token", call.now)
    };
    match call.transport.send_request(request, context).await? {
        BankResponse::Success(body) => parse_token_response(&Zeroizing::new(body), grant, call.now),
        BankResponse::Rejected { fault, body, .. } => Err(token_error_fault(fault, &body)),
    }
}

fn build_token_request(
    call: ClientCall<'_>,
    grant: TokenGrant<'_>,
) -> Result<RequestBuilder, BankFault> {
    let client = call
        .bank
        .oauth
        .as_ref()
        .ok_or_else(|| internal_fault("the bank is configured without a token_url"))?;
    let url = Url::parse(&client.token_url)
        .map_err(|_| internal_fault("the bank's token_url is not a usable URL"))?;
    let mut form = TokenForm::new(String::new());
    grant.append_to(&mut form);
    let request = call.transport.post_request(url);
    let request = authenticate_client(request, &mut form, client, call.client_secret);
    Ok(request
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT, "application/json")
        .body(form.finish()))
}

fn internal_fault(detail: &str) -> BankFault {
    BankFault::new(FaultClass::Internal, detail)
}

fn malformed_fault(detail: &str) -> BankFault {
    BankFault::new(FaultClass::MalformedResponse, detail)
}

#[derive(Deserialize)]
struct TokenResponse {
    access_token: String,
    #[serde(default)]
    token_type: Option<String>,
    /// Seconds; some banks write it as a string.
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
    let response: TokenResponse = serde_json::from_slice(body)
        .map_err(|_| malformed_fault("the token response cannot be read"))?;
    let is_bearer = response
        .token_type
        .is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
    if !is_bearer {
        return Err(malformed_fault("the token is not a bearer token"));
    }
    let old = match grant {
        TokenGrant::RefreshToken(token) => Some(token.to_owned()),
        TokenGrant::AuthorizationCode(_) | TokenGrant::ClientCredentials { .. } => None,
    };
    let refresh_token = response.refresh_token.filter(|it| !it.is_empty()).or(old);
    if !is_usable_token(&response.access_token)
        || !refresh_token.as_deref().is_none_or(is_usable_token)
    {
        return Err(malformed_fault(
            "the token response holds a token that cannot be sent in a header",
        ));
    }
    Ok(ConsentSecret {
        access_token: response.access_token,
        refresh_token,
        expires_at: parse_lifetime_s(&response.expires_in).and_then(|life| end_of_life(life, now)),
        consent_id: None,
    })
}

/// The stated lifetime in seconds. `expires_in` is optional: one that is missing or cannot be read leaves the end
/// unknown, and the token is used until the bank rejects it.
fn parse_lifetime_s(expires_in: &Value) -> Option<i64> {
    match expires_in {
        Value::Number(seconds) => seconds.as_i64(),
        Value::String(seconds) => seconds.parse().ok(),
        _ => None,
    }
}

/// When a token ends; unknown where that is after the last date there is.
fn end_of_life(life_s: i64, now: Timestamp) -> Option<Timestamp> {
    let life = SignedDuration::from_secs(life_s.clamp(0, MAX_TOKEN_LIFETIME_S));
    now.checked_add(life).ok()
}

/// True for a token that can be sent in a header: visible ASCII, at most [`MAX_TOKEN_BYTES`].
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

#[derive(Deserialize)]
struct OAuthErrorBody {
    error: String,
}

fn token_error_fault(mut fault: BankFault, body: &[u8]) -> BankFault {
    // Many rejections have no JSON body; then the status alone decides.
    let error = serde_json::from_slice::<OAuthErrorBody>(body).ok();
    let code = error.and_then(|body| {
        OAUTH_ERROR_CODES
            .into_iter()
            .find(|code| *code == body.error)
    });
    fault.class = match code {
        Some("invalid_grant") => FaultClass::ConsentRejected,
        Some(_) => FaultClass::Internal,
        // Without a code it is the client that was rejected: a consent is rejected as invalid_grant.
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
    fn a_token_response_is_read_as_banks_write_it() {
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
    fn an_unusable_token_response_is_malformed_and_its_fault_shows_nothing_of_it() {
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
}
