//! The authorisation request that an app sends its user with: [`AuthorisePageQuery`].

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use serde_json::Value;

/// The parameters of an authorisation request (RFC 6749, 4.1.1; RFC 7636, 4.3).
#[derive(Clone, Deserialize)]
pub(super) struct AuthorisePageQuery {
    #[serde(default)]
    pub(super) response_type: String,
    #[serde(default)]
    pub(super) client_id: String,
    #[serde(default)]
    pub(super) redirect_uri: String,
    #[serde(default)]
    pub(super) state: String,
    #[serde(default)]
    pub(super) code_challenge: Option<String>,
    #[serde(default)]
    pub(super) code_challenge_method: Option<String>,
    /// The request object, whose claims name the consent.
    #[serde(default)]
    pub(super) request: String,
}

impl AuthorisePageQuery {
    /// True where the bank can serve such a request at all, whatever its consent.
    pub(super) fn is_well_formed(&self) -> bool {
        let method = self.code_challenge_method.as_deref();
        self.response_type == "code"
            && !self.client_id.is_empty()
            && (self.code_challenge.is_none() || method == Some("S256"))
    }

    /// The consent in the request object's claims: `id_token.openbanking_intent_id.value`.
    pub(super) fn consent_id(&self) -> Option<String> {
        let claims = self.request.split('.').nth(1)?;
        let claims = decode_base64url(claims)?;
        let claims: Value = serde_json::from_slice(&claims).ok()?;
        let id = &claims["claims"]["id_token"]["openbanking_intent_id"]["value"];
        id.as_str().map(str::to_owned)
    }

    /// Where the user goes back to, with one parameter and the state.
    pub(super) fn return_url(&self, name: &str, value: &str) -> String {
        let separator = if self.redirect_uri.contains('?') {
            '&'
        } else {
            '?'
        };
        format!(
            "{}{separator}{name}={}&state={}",
            self.redirect_uri,
            percent_encode(value),
            percent_encode(&self.state)
        )
    }

    /// The origin of the `redirect_uri`: `https://app.example`. It becomes part of a `Content-Security-Policy`, so
    /// nothing passes that could end a directive.
    pub(super) fn redirect_origin(&self) -> Option<&str> {
        let (scheme, rest) = self.redirect_uri.split_once("://")?;
        let host = rest.split(['/', '?', '#']).next()?;
        let is_plain = !host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
        (["http", "https"].contains(&scheme) && is_plain)
            .then(|| &self.redirect_uri[..scheme.len() + 3 + host.len()])
    }
}

/// Reads base64url, with or without padding.
pub(super) fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    BASE64URL_NOPAD
        .decode(text.trim_end_matches('=').as_bytes())
        .ok()
}

fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(byte.into());
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorise_query(redirect_uri: &str) -> AuthorisePageQuery {
        AuthorisePageQuery {
            response_type: "code".to_owned(),
            client_id: "okra".to_owned(),
            redirect_uri: redirect_uri.to_owned(),
            state: "a b&c".to_owned(),
            code_challenge: None,
            code_challenge_method: None,
            request: String::new(),
        }
    }

    #[test]
    fn a_user_goes_back_with_the_state() {
        for (uri, expected) in [
            (
                "https://a.example/cb",
                "https://a.example/cb?code=x%3D&state=a%20b%26c",
            ),
            (
                "https://a.example/cb?k=1",
                "https://a.example/cb?k=1&code=x%3D&state=a%20b%26c",
            ),
        ] {
            assert_eq!(authorise_query(uri).return_url("code", "x="), expected);
        }
    }

    #[test]
    fn only_a_plain_http_origin_is_accepted() {
        for (uri, expected) in [
            ("https://a.example/cb", Some("https://a.example")),
            (
                "http://127.0.0.1:3000/widget/callback",
                Some("http://127.0.0.1:3000"),
            ),
            ("javascript:alert(1)", None),
            ("ftp://a.example/", None),
            ("https://", None),
            ("https://a b/", None),
            ("https://a;script-src/", None),
        ] {
            assert_eq!(authorise_query(uri).redirect_origin(), expected, "{uri}");
        }
    }

    #[test]
    fn base64url_is_read_with_and_without_padding() {
        assert_eq!(decode_base64url("aGk_Lw").as_deref(), Some(&b"hi?/"[..]));
        assert_eq!(decode_base64url("aGk_Lw==").as_deref(), Some(&b"hi?/"[..]));
        assert_eq!(decode_base64url("a+"), None);
    }
}
