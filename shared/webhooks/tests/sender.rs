//! The sender against receivers on this host: friendly, slow, broken and hostile ones.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use bytes::Bytes;
use futures::stream;
use jiff::Timestamp;
use okra_core::{
    ids::{EventId, RecordId, Seq},
    retry::Outcome,
};
use okra_webhooks::{
    AddressPolicy, Answer, Bearer, Limits, Message, SECRET_BYTES, Sender, SigningSecrets,
};
use standardwebhooks::Webhook;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};

const BODY: &[u8] = br#"{"type":"CALLBACK","amount":12.50}"#;

fn sender(policy: AddressPolicy) -> Sender {
    let tls = okra_aws::rustls_client_config();
    Sender::new(tls, policy, Limits::default()).unwrap()
}

/// A sender that does not wait long.
fn hasty() -> Sender {
    let tls = okra_aws::rustls_client_config();
    let limits = Limits {
        exchange: Duration::from_millis(400),
        ..Limits::default()
    };
    Sender::new(tls, AddressPolicy::AllowLoopback, limits).unwrap()
}

async fn attempt(
    sender: &Sender,
    url: &str,
    secrets: &SigningSecrets,
    bearer: Option<&Bearer>,
) -> Answer {
    let message = Message {
        url,
        event: &EventId::of(RecordId::from_bytes([0xab; 12]), Seq(17)),
        seq: Seq(17),
        attempt: 3,
        body: Bytes::from_static(BODY),
        secrets,
        bearer,
        sent_at: okra_aws::Clock::system().now(),
    };
    sender.send(&message).await.unwrap()
}

async fn post(url: &str) -> Answer {
    post_by(&sender(AddressPolicy::AllowLoopback), url).await
}

async fn post_by(sender: &Sender, url: &str) -> Answer {
    attempt(
        sender,
        url,
        &SigningSecrets::fresh(&[1; SECRET_BYTES]),
        None,
    )
    .await
}

/// Serves on a free port; returns the root, without a trailing slash.
async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let root = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    root
}

/// A receiver that answers every connection with these bytes, whatever it is sent, and hangs up.
async fn raw(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let root = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = connection.read(&mut request).await;
            let _ = connection.write_all(answer).await;
        }
    });
    root
}

async fn answer(status: u16, headers: &[(header::HeaderName, &'static str)]) -> Answer {
    let response_headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (name.clone(), value.parse().unwrap()))
        .collect();
    let status = StatusCode::from_u16(status).unwrap();
    let app = Router::new().fallback(any(move || async move { (status, response_headers) }));
    post(&serve(app).await).await
}

#[tokio::test]
async fn a_receiver_can_verify_what_it_is_sent() {
    let (seen, mut requests) = mpsc::unbounded_channel::<(HeaderMap, Bytes)>();
    let app = Router::new().fallback(any(move |headers: HeaderMap, body: Bytes| async move {
        seen.send((headers, body)).unwrap();
        StatusCode::NO_CONTENT
    }));
    let url = format!("{}/hook?tenant=1", serve(app).await);
    let old = SigningSecrets::fresh(&[1; SECRET_BYTES]);
    let both = old.clone().rotated(&[2; SECRET_BYTES]);
    let sender = sender(AddressPolicy::AllowLoopback);
    let bearer = Bearer::new("t0ken").unwrap();

    let answer = attempt(&sender, &url, &both, Some(&bearer)).await;
    assert_eq!((answer.outcome, answer.status), (Outcome::Ok, Some(204)));
    let (headers, body) = requests.recv().await.unwrap();
    assert_eq!(body, BODY);
    for secret in [both.current(), old.current()] {
        Webhook::new(secret)
            .unwrap()
            .verify(&body, &headers)
            .unwrap();
    }
    let stranger = SigningSecrets::fresh(&[3; SECRET_BYTES]);
    assert!(
        Webhook::new(stranger.current())
            .unwrap()
            .verify(&body, &headers)
            .is_err()
    );
    for (name, expected) in [
        ("webhook-id", "evt_abababababababababababab_17"),
        ("okra-event-sequence", "17"),
        ("okra-attempt", "3"),
        ("authorization", "Bearer t0ken"),
        ("content-type", "application/json"),
        ("accept-encoding", "identity"),
        (
            "user-agent",
            concat!("okra-sync/", env!("CARGO_PKG_VERSION")),
        ),
        ("content-length", "34"),
    ] {
        assert_eq!(headers[name], expected, "{name}");
    }
    let signature = headers["webhook-signature"].to_str().unwrap();
    assert_eq!(signature.matches(' ').count(), 1);

    attempt(&sender, &url, &old, None).await;
    let (headers, _) = requests.recv().await.unwrap();
    assert!(!headers.contains_key("authorization"));
    assert!(!headers["webhook-signature"].to_str().unwrap().contains(' '));
}

#[tokio::test]
async fn a_status_has_its_outcome() {
    for (status, outcome) in [
        (200, Outcome::Ok),
        (202, Outcome::Ok),
        (304, Outcome::Redirect),
        (401, Outcome::Rejected),
        (404, Outcome::Rejected),
        (410, Outcome::Gone),
        (429, Outcome::Throttled),
        (500, Outcome::Rejected),
        (503, Outcome::Throttled),
    ] {
        let answer = answer(status, &[]).await;
        assert_eq!((answer.outcome, answer.status), (outcome, Some(status)));
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (seen, mut followed) = mpsc::unbounded_channel();
    for status in [301, 302, 303, 307, 308] {
        let seen = seen.clone();
        let app = Router::new()
            .route(
                "/",
                any(move || async move {
                    let status = StatusCode::from_u16(status).unwrap();
                    (status, [(header::LOCATION, "/elsewhere")])
                }),
            )
            .route(
                "/elsewhere",
                any(move || async move { seen.send(()).unwrap() }),
            );
        let answer = post(&serve(app).await).await;
        assert_eq!(
            (answer.outcome, answer.status),
            (Outcome::Redirect, Some(status))
        );
    }
    assert!(followed.try_recv().is_err());
}

#[tokio::test]
async fn a_receiver_can_ask_for_time() {
    for (header, expected) in [("120", Some(120)), ("1000000000", Some(3600)), ("-1", None)] {
        let answer = answer(429, &[(header::RETRY_AFTER, header)]).await;
        assert_eq!(answer.retry_after_s, expected, "{header}");
    }
    let past = answer(
        503,
        &[(header::RETRY_AFTER, "Sun, 06 Nov 1994 08:49:37 GMT")],
    )
    .await;
    assert_eq!(past.retry_after_s, None);
}

/// Sends a chunk at a time, for ever.
fn endless(chunk: &'static [u8], pause: Duration) -> Response {
    let chunks = stream::unfold((), move |()| async move {
        tokio::time::sleep(pause).await;
        Some((Ok::<_, std::io::Error>(Bytes::from_static(chunk)), ()))
    });
    Body::from_stream(chunks).into_response()
}

#[tokio::test]
async fn a_slow_answer_meets_the_deadline() {
    let silent = Router::new().fallback(any(async || {
        tokio::time::sleep(Duration::from_secs(30)).await;
    }));
    let answer = post_by(&hasty(), &serve(silent).await).await;
    assert_eq!((answer.outcome, answer.status), (Outcome::Timeout, None));
    assert!((390..5_000).contains(&answer.latency_ms), "{answer:?}");

    let dripping = Router::new().fallback(any(async || endless(b".", Duration::from_millis(50))));
    let answer = post_by(&hasty(), &serve(dripping).await).await;
    assert_eq!(
        (answer.outcome, answer.status),
        (Outcome::Timeout, Some(200))
    );
    assert!((390..5_000).contains(&answer.latency_ms), "{answer:?}");
}

#[tokio::test]
async fn a_long_answer_is_cut_and_still_a_yes() {
    let long = Router::new().fallback(any(async || endless(&[b'.'; 8192], Duration::ZERO)));
    let answer = post(&serve(long).await).await;
    assert_eq!((answer.outcome, answer.status), (Outcome::Ok, Some(200)));
}

#[tokio::test]
async fn a_broken_answer_is_no_yes() {
    for (bytes, outcome) in [
        (&b""[..], Outcome::Connect),
        (b"SSH-2.0-OpenSSH_9.6\r\n", Outcome::Connect),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npartial",
            Outcome::Connect,
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            Outcome::Connect,
        ),
        (
            b"HTTP/1.1 410 Gone\r\ncontent-length: 100\r\n\r\npartial",
            Outcome::Gone,
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Outcome::Ok),
        (
            b"HTTP/1.1 200 OK\r\nbad header\r\nconnection: close\r\n\r\n",
            Outcome::Ok,
        ),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            Outcome::Ok,
        ),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            Outcome::Rejected,
        ),
    ] {
        let answer = post(&raw(bytes).await).await;
        assert_eq!(
            answer.outcome,
            outcome,
            "{}",
            String::from_utf8_lossy(bytes)
        );
    }
}

#[tokio::test]
async fn what_cannot_be_reached_says_why() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    assert_eq!(post(&closed).await.outcome, Outcome::Connect);

    let plain = raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        .await
        .replace("http:", "https:");
    assert_eq!(post(&plain).await.outcome, Outcome::Tls);

    let unknown = post("https://no-such-host.invalid/hook").await;
    assert_eq!(unknown.outcome, Outcome::Dns);
}

#[tokio::test]
async fn an_address_that_must_not_be_called_is_not() {
    let (seen, mut requests) = mpsc::unbounded_channel();
    let app = Router::new().fallback(any(move || async move { seen.send(()).unwrap() }));
    let root = serve(app).await;
    let port = root.rsplit_once(':').unwrap().1;
    let secrets = SigningSecrets::fresh(&[1; SECRET_BYTES]);
    for policy in [AddressPolicy::PublicOnly, AddressPolicy::AllowLoopback] {
        let sender = sender(policy);
        let local = [
            root.clone(),
            format!("http://localhost:{port}/"),
            format!("http://[::ffff:127.0.0.1]:{port}/"),
        ];
        for url in &local {
            let answer = attempt(&sender, url, &secrets, None).await;
            let blocked = answer.outcome == Outcome::Blocked;
            assert_eq!(
                blocked,
                policy == AddressPolicy::PublicOnly,
                "{policy:?} {url}"
            );
        }
        for url in [
            "http://169.254.169.254/latest/meta-data",
            "https://10.0.0.1/",
            "https://[fd00:ec2::254]/",
            "https://metadata.google.internal/",
            "file:///etc/passwd",
        ] {
            let answer = attempt(&sender, url, &secrets, None).await;
            assert_eq!(answer.outcome, Outcome::Blocked, "{policy:?} {url}");
        }
    }
    let mut seen = 0;
    while requests.try_recv().is_ok() {
        seen += 1;
    }
    assert!(seen >= 2, "the local run reached this host {seen} times");
}

#[tokio::test]
async fn the_signature_is_as_old_as_the_attempt() {
    let (seen, mut requests) = mpsc::unbounded_channel::<HeaderMap>();
    let app = Router::new().fallback(any(move |headers: HeaderMap| async move {
        seen.send(headers).unwrap();
    }));
    let url = serve(app).await;
    let sent_at: Timestamp = "2026-01-01T00:00:00.999Z".parse().unwrap();
    let message = Message {
        url: &url,
        event: &EventId::of(RecordId::from_bytes([1; 12]), Seq(1)),
        seq: Seq(1),
        attempt: 1,
        body: Bytes::from_static(BODY),
        secrets: &SigningSecrets::fresh(&[1; SECRET_BYTES]),
        bearer: None,
        sent_at,
    };
    let sender = sender(AddressPolicy::AllowLoopback);
    assert_eq!(sender.send(&message).await.unwrap().outcome, Outcome::Ok);
    let headers = requests.recv().await.unwrap();
    assert_eq!(
        headers["webhook-timestamp"],
        sent_at.as_second().to_string()
    );
}
