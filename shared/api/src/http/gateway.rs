//! API Gateway's events (HTTP API, payload format 2.0) as HTTP requests, and answers as its responses.
//!
//! Of our own, because `lambda_http` panics on a `Host` or `X-Forwarded-Proto` that makes no URL, which
//! ends a function that aborts on panics, and because its answers know 39 encodings of text, which are
//! 100 KB of zip. Ours are UTF-8.

use std::{collections::BTreeMap, convert::Infallible};

use axum::{
    body::{Body, HttpBody, to_bytes},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
    },
    response::IntoResponse,
};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use tower::{Service, ServiceExt};

use crate::http::{
    envelope::ApiError,
    path::{find_family, normalise_path},
};

/// Bytes of an answer at most: Lambda takes 6 MB, base64 and JSON included.
const MAX_RESPONSE_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of a text at most with the escapes that it has within JSON.
const MAX_ESCAPED_BYTES: usize = MAX_RESPONSE_BYTES * 4 / 3;

/// What API Gateway sends; what nobody here reads is left out.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayEvent {
    raw_path: String,
    #[serde(default)]
    raw_query_string: String,
    #[serde(default)]
    cookies: Option<Vec<String>>,
    #[serde(default)]
    headers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
    request_context: GatewayContext,
}

#[derive(Deserialize)]
struct GatewayContext {
    http: GatewayHttp,
}

#[derive(Deserialize)]
struct GatewayHttp {
    method: String,
}

/// What API Gateway answers with.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GatewayResponse {
    /// The HTTP status.
    pub status_code: u16,
    /// Names in small letters; several values of one name are joined by commas.
    pub headers: BTreeMap<String, String>,
    /// Values of `Set-Cookie`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cookies: Vec<String>,
    /// Text, or base64 of what is none.
    pub body: String,
    /// Which of the two.
    pub is_base64_encoded: bool,
}

/// An answer that broke off.
#[derive(Debug, thiserror::Error)]
#[error("an answer could not be read whole")]
pub struct UnreadableResponseError(#[source] axum::Error);

/// Lets a router answer an event. An answer that is too long for Lambda is refused in its place.
///
/// # Errors
///
/// [`Unreadable`].
pub async fn serve_event<S, R>(
    router: S,
    event: GatewayEvent,
) -> Result<GatewayResponse, UnreadableResponseError>
where
    S: Service<Request<Body>, Response = R, Error = Infallible>,
    R: IntoResponse,
{
    let path = event.raw_path.clone();
    let response = match router.oneshot(request_from_event(event)).await {
        Ok(response) => response.into_response(),
        Err(never) => match never {},
    };
    let id = response.headers().get("x-request-id").cloned();
    match convert_response(response).await? {
        Some(answer) => Ok(answer),
        None => {
            let rejection = convert_response(response_too_long(&path, id)).await?;
            rejection.ok_or_else(|| {
                UnreadableResponseError(axum::Error::new("an error response is too long"))
            })
        }
    }
}

/// The error that stands in the place of an answer that is too long.
fn response_too_long(path: &str, request_id: Option<HeaderValue>) -> Response<Body> {
    let message = format!(
        "The answer has more than {MAX_RESPONSE_BYTES} bytes; ask for less, with a smaller limit or a narrower span"
    );
    let error = ApiError::new(StatusCode::BAD_REQUEST, "ANSWER_TOO_LONG", message);
    let text = request_id.as_ref().and_then(|id| id.to_str().ok());
    let family = find_family(&normalise_path(path));
    let mut response = error.into_response(text.unwrap_or_default(), family);
    if let Some(id) = request_id {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

/// How long a text is within JSON, its quotes aside.
fn escaped_len(text: &str) -> usize {
    let len = |byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0x00..=0x1f => 6,
        _ => 1,
    };
    text.bytes().map(len).sum()
}

/// The request that an event stands for. No event is too odd for one.
pub fn request_from_event(event: GatewayEvent) -> Request<Body> {
    let method = Method::from_bytes(event.request_context.http.method.as_bytes());
    let mut headers = HeaderMap::new();
    for (name, value) in event.headers.unwrap_or_default() {
        if let (Ok(name), Ok(value)) = (
            HeaderName::try_from(name),
            HeaderValue::from_bytes(value.as_bytes()),
        ) {
            headers.append(name, value);
        }
    }
    let cookies = event.cookies.unwrap_or_default().join("; ");
    if !cookies.is_empty()
        && let Ok(cookies) = HeaderValue::try_from(cookies)
    {
        headers.insert(header::COOKIE, cookies);
    }
    let text = event.body.unwrap_or_default().into_bytes();
    let body = if event.is_base64_encoded {
        // API Gateway's own encoding: where it is none, the text itself is what was sent.
        BASE64.decode(&text).unwrap_or(text)
    } else {
        text
    };
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = method.unwrap_or_default();
    *request.uri_mut() = build_uri(&event.raw_path, &event.raw_query_string);
    *request.headers_mut() = headers;
    request
}

/// The path as it was decoded by API Gateway, encoded again; what makes no URI at all is no resource of
/// ours.
fn build_uri(path: &str, query: &str) -> Uri {
    let mut target = String::with_capacity(path.len() + query.len() + 2);
    if !path.starts_with('/') {
        target.push('/');
    }
    percent_encode(path, &mut target);
    if !query.is_empty() {
        target.push('?');
        percent_encode(query, &mut target);
    }
    Uri::try_from(target).unwrap_or_else(|_| Uri::from_static("/v2/no-such-path"))
}

/// Bytes that cannot stand in a request's target; a `%` is taken to be the client's.
fn percent_encode(text: &str, target: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !b"\"#<>?\\^`{|}".contains(&byte)
            || (byte == b'?' && target.contains('?'))
        {
            target.push(char::from(byte));
        } else {
            target.push('%');
            target.push(char::from(HEX[usize::from(byte >> 4)]));
            target.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// `None` where it is too long.
async fn convert_response(
    response: Response<Body>,
) -> Result<Option<GatewayResponse>, UnreadableResponseError> {
    let (parts, body) = response.into_parts();
    if body.size_hint().lower() > MAX_RESPONSE_BYTES as u64 {
        return Ok(None);
    }
    let body = to_bytes(body, MAX_RESPONSE_BYTES)
        .await
        .map_err(UnreadableResponseError)?;
    let (mut headers, mut cookies) = (BTreeMap::<String, String>::new(), Vec::new());
    for (name, value) in &parts.headers {
        let text = String::from_utf8_lossy(value.as_bytes());
        if name == header::SET_COOKIE {
            cookies.push(text.into_owned());
            continue;
        }
        let joined = headers.entry(name.as_str().to_owned()).or_default();
        if !joined.is_empty() {
            joined.push_str(", ");
        }
        joined.push_str(&text);
    }
    let (body, is_base64_encoded) = match String::from_utf8(body.into()) {
        Ok(text) => (text, false),
        Err(error) => (BASE64.encode(error.as_bytes()), true),
    };
    if !is_base64_encoded && escaped_len(&body) > MAX_ESCAPED_BYTES {
        return Ok(None);
    }
    Ok(Some(GatewayResponse {
        status_code: parts.status.as_u16(),
        headers,
        cookies,
        body,
        is_base64_encoded,
    }))
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::any};
    use serde_json::{Value, json};

    use super::*;

    /// Says what it was asked.
    fn echo_router() -> Router {
        let said = async |request: Request<Body>| {
            let (parts, body) = request.into_parts();
            let body = to_bytes(body, 1000).await.unwrap();
            let cookie = parts.headers.get(header::COOKIE);
            let said = json!({
                "method": parts.method.as_str(),
                "target": parts.uri.to_string(),
                "cookie": cookie.map(|it| it.to_str().unwrap()),
                "key": parts.headers.get("authorization").map(|it| it.to_str().unwrap()),
                "body": body.to_vec(),
            });
            let headers = [("set-cookie", "a=1"), ("vary", "origin")];
            (headers, [("vary", "accept")], axum::Json(said))
        };
        Router::new().fallback(any(said))
    }

    fn build_event(change: &Value) -> GatewayEvent {
        let mut event = json!({
            "version": "2.0", "routeKey": "$default", "rawPath": "/v2/banks/list", "rawQueryString": "",
            "headers": { "authorization": "Bearer k", "host": "x" }, "isBase64Encoded": false,
            "requestContext": { "http": { "method": "POST", "path": "/" }, "stage": "$default" },
        });
        let changes = change.as_object().unwrap().clone();
        event.as_object_mut().unwrap().extend(changes);
        serde_json::from_value(event).unwrap()
    }

    async fn echo_response(change: Value) -> Value {
        let answer = serve_event(echo_router(), build_event(&change))
            .await
            .unwrap();
        assert_eq!(answer.status_code, 200);
        serde_json::from_str(&answer.body).unwrap()
    }

    #[tokio::test]
    async fn an_event_is_the_request_that_it_was() {
        let said = echo_response(json!({
            "cookies": ["s=1", "t=2"], "body": "eyJhIjoxfQ==", "isBase64Encoded": true,
            "rawQueryString": "a=%20b&",
        }))
        .await;
        assert_eq!(said["method"], "POST");
        assert_eq!(said["target"], "/v2/banks/list?a=%20b&");
        assert_eq!(said["cookie"], "s=1; t=2");
        assert_eq!(said["key"], "Bearer k");
        assert_eq!(said["body"], json!(br#"{"a":1}"#.to_vec()));
    }

    #[tokio::test]
    async fn no_event_is_too_odd_to_be_answered() {
        let check = async |change: Value, target: &str| {
            assert_eq!(
                echo_response(change.clone()).await["target"],
                target,
                "{change}"
            );
        };
        check(json!({ "rawPath": "//v2//banks/list" }), "//v2//banks/list").await;
        check(
            json!({ "rawPath": "/v2/naïve name" }),
            "/v2/na%C3%AFve%20name",
        )
        .await;
        check(
            json!({ "rawPath": "http://x/v2?/a#b" }),
            "/http://x/v2%3F/a%23b",
        )
        .await;
        check(json!({ "rawPath": "" }), "/").await;
        check(
            json!({ "rawQueryString": "a=?&b=\u{7f}{" }),
            "/v2/banks/list?a=?&b=%7F%7B",
        )
        .await;
        check(
            json!({ "rawPath": format!("/{}", "a".repeat(70_000)) }),
            "/v2/no-such-path",
        )
        .await;
        check(
            json!({ "headers": null, "cookies": null, "body": null }),
            "/v2/banks/list",
        )
        .await;
        let odd = json!({ "headers": { "host": "a b", "x-forwarded-proto": "%%", "bad name": "x", "y": "a\nb" } });
        check(odd, "/v2/banks/list").await;
        let not_base64 = json!({ "isBase64Encoded": true, "body": "{}" });
        assert_eq!(
            echo_response(not_base64).await["body"],
            json!(b"{}".to_vec())
        );
        let method = json!({ "requestContext": { "http": { "method": "not a method" } } });
        assert_eq!(echo_response(method).await["method"], "GET");
    }

    #[tokio::test]
    async fn an_answer_is_text_where_it_is_and_base64_where_not() {
        let text = serve_event(echo_router(), build_event(&json!({})))
            .await
            .unwrap();
        assert_eq!(text.cookies, ["a=1"]);
        assert_eq!(text.headers["content-type"], "application/json");
        assert!(!text.headers.contains_key("set-cookie"));
        let bytes = Router::new().fallback(any(async || vec![0xff_u8, 0]));
        let answer = serve_event(bytes, build_event(&json!({}))).await.unwrap();
        assert_eq!(
            (answer.body.as_str(), answer.is_base64_encoded),
            ("/wA=", true)
        );
    }

    #[tokio::test]
    async fn an_answer_that_is_too_long_is_refused_in_its_place() {
        let check = async |text: String, fits: bool| {
            let length = text.len();
            let said = async move || ([("x-request-id", "0123")], text);
            let router = Router::new().fallback(any(said));
            let answer = serve_event(router, build_event(&json!({}))).await.unwrap();
            assert_eq!(answer.headers["x-request-id"], "0123");
            assert_eq!(answer.status_code == 200, fits, "{length}");
            if !fits {
                let refused: Value = serde_json::from_str(&answer.body).unwrap();
                assert_eq!(refused["data"]["type"], "ANSWER_TOO_LONG", "{refused}");
                assert_eq!(refused["data"]["method"], "BANKS");
                assert_eq!(refused["request_id"], "0123");
            }
            assert!(serde_json::to_vec(&answer).unwrap().len() < 6_000_000);
        };
        check("a".repeat(MAX_RESPONSE_BYTES), true).await;
        check("a".repeat(MAX_RESPONSE_BYTES + 1), false).await;
        check("\"a\\\n".repeat(MAX_RESPONSE_BYTES / 4), false).await;
        check("\"aaa".repeat(MAX_RESPONSE_BYTES / 4), true).await;
    }

    #[test]
    fn the_events_of_the_repository_are_read() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/events");
        let mut read = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with("api-") {
                let event = std::fs::read(&path).unwrap();
                serde_json::from_slice::<GatewayEvent>(&event).unwrap();
                read += 1;
            }
        }
        assert!(read >= 3, "{read}");
    }
}
