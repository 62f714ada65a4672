//! The login at the bank: a consent made with our own client's token, and the URL that asks the user to authorise
//! it (OBIE security profile; PKCE, RFC 7636).

use data_encoding::BASE64URL_NOPAD;
use okra_core::model::{
    bank::{BankConfig, OAuthClient},
    fault::{BankFault, FaultClass},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use url::form_urlencoded;

use super::consent::create_consent;
use crate::{
    connector::{ClientCall, LoginRedirect, LoginRequest},
    consent::ConsentId,
};

/// What a login asks for: who the user is at the bank, and the accounts.
const LOGIN_SCOPE: &str = "openid accounts";

const RESPONSE_TYPE: &str = "code";

/// The bank's authorisation page, where it has one.
pub(super) fn authorization_url(bank: &BankConfig) -> Option<&str> {
    bank.oauth.as_ref()?.authorization_url.as_deref()
}

/// Makes a consent to the requested products and the URL to send its user to.
pub(super) async fn begin_login(
    call: ClientCall<'_>,
    request: LoginRequest<'_>,
) -> Result<LoginRedirect, BankFault> {
    let (Some(client), Some(page)) = (call.bank.oauth.as_ref(), authorization_url(call.bank))
    else {
        let detail = "the bank is configured without an authorization_url";
        return Err(BankFault::new(FaultClass::Internal, detail));
    };
    let consent_id = create_consent(call, request.products).await?;
    let authorization_url = build_authorization_url(page, client, &consent_id, request);
    Ok(LoginRedirect {
        consent_id,
        authorization_url,
    })
}

/// The authorisation request. What the request object states stands beside it as plain parameters too, because
/// banks read the one or the other.
fn build_authorization_url(
    page: &str,
    client: &OAuthClient,
    consent_id: &ConsentId,
    request: LoginRequest<'_>,
) -> String {
    let challenge = BASE64URL_NOPAD.encode(&Sha256::digest(request.pkce_verifier.as_bytes()));
    let request_object = build_request_object(client, consent_id, request);
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("response_type", RESPONSE_TYPE)
        .append_pair("client_id", &client.client_id)
        .append_pair("redirect_uri", request.redirect_uri)
        .append_pair("scope", LOGIN_SCOPE)
        .append_pair("state", request.state)
        .append_pair("nonce", request.nonce)
        .append_pair("code_challenge", &challenge)
        .append_pair("code_challenge_method", "S256")
        .append_pair("request", &request_object)
        .finish();
    let separator = if page.contains('?') { '&' } else { '?' };
    format!("{page}{separator}{query}")
}

/// The request object that names the consent. It is unsigned (`alg` is `none`): banks that want it signed want a
/// certificate of the Open Banking directory too, which cannot be configured yet.
fn build_request_object(
    client: &OAuthClient,
    consent_id: &ConsentId,
    request: LoginRequest<'_>,
) -> String {
    let intent = json!({
        "openbanking_intent_id": { "value": consent_id.as_str(), "essential": true },
    });
    let claims = json!({
        "iss": client.client_id,
        "response_type": RESPONSE_TYPE,
        "client_id": client.client_id,
        "redirect_uri": request.redirect_uri,
        "scope": LOGIN_SCOPE,
        "state": request.state,
        "nonce": request.nonce,
        "claims": { "id_token": intent, "userinfo": intent },
    });
    let header = BASE64URL_NOPAD.encode(br#"{"alg":"none","typ":"JWT"}"#);
    let claims = BASE64URL_NOPAD.encode(claims.to_string().as_bytes());
    format!("{header}.{claims}.")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use okra_core::model::{bank::ClientAuth, snapshot::Product};
    use url::Url;

    use super::*;

    fn test_client() -> OAuthClient {
        OAuthClient {
            token_url: "https://auth.bank.example/token".to_owned(),
            authorization_url: None,
            client_id: "okra sync".to_owned(),
            client_auth: ClientAuth::default(),
            sealed_secret: None,
        }
    }

    fn build_test_url(page: &str) -> Url {
        let request = LoginRequest {
            products: &Product::ALL,
            redirect_uri: "https://okra.example/widget/callback",
            state: "sealed+state",
            nonce: "n-0S6_WzA2Mj",
            // The example of RFC 7636, appendix B.
            pkce_verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        };
        let consent = ConsentId::new("urn:bank:1").unwrap();
        let url = build_authorization_url(page, &test_client(), &consent, request);
        Url::parse(&url).unwrap()
    }

    #[test]
    fn the_authorisation_url_names_the_client_and_the_pkce_challenge() {
        let url = build_test_url("https://auth.bank.example/authorise");
        let pairs: HashMap<_, _> = url.query_pairs().into_owned().collect();
        for (name, value) in [
            ("response_type", "code"),
            ("client_id", "okra sync"),
            ("redirect_uri", "https://okra.example/widget/callback"),
            ("scope", "openid accounts"),
            ("state", "sealed+state"),
            ("nonce", "n-0S6_WzA2Mj"),
            (
                "code_challenge",
                "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            ),
            ("code_challenge_method", "S256"),
        ] {
            assert_eq!(pairs[name], value, "{name}");
        }
        assert_eq!(pairs.len(), 9);
    }

    #[test]
    fn the_request_object_names_the_consent_and_repeats_the_parameters() {
        let url = build_test_url("https://auth.bank.example/authorise");
        let pairs: HashMap<_, _> = url.query_pairs().into_owned().collect();
        let [header, claims, ""] = pairs["request"].split('.').collect::<Vec<_>>()[..] else {
            panic!("{}", pairs["request"]);
        };
        let decode = |part: &str| -> serde_json::Value {
            serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).unwrap()
        };
        assert_eq!(decode(header), json!({ "alg": "none", "typ": "JWT" }));
        let claims = decode(claims);
        for name in ["client_id", "redirect_uri", "scope", "state", "nonce"] {
            assert_eq!(claims[name], pairs[name], "{name}");
        }
        for token in ["id_token", "userinfo"] {
            let intent = &claims["claims"][token]["openbanking_intent_id"];
            assert_eq!(*intent, json!({ "value": "urn:bank:1", "essential": true }));
        }
    }

    #[test]
    fn a_page_with_a_query_keeps_it() {
        let url = build_test_url("https://auth.bank.example/authorise?brand=1");
        assert!(url.query().unwrap().starts_with("brand=1&response_type="));
    }
}
