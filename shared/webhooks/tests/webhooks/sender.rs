//! The sender against well-behaved receivers on this host; `hostile_receivers.rs` has the others.

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    routing::any,
};
use bytes::Bytes;
use jiff::Timestamp;
use okra_core::{
    delivery::retry::AttemptOutcome,
    model::ids::{EventId, RecordId, Seq},
};
use okra_webhooks::{
    AddressPolicy, AttemptLimits, AttemptResponse, BearerToken, SECRET_BYTES, SigningSecrets,
    WebhookMessage, WebhookSender,
};
use standardwebhooks::Webhook;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};

const BODY: &[u8] = br#"{"type":"CALLBACK","amount":12.50}"#;

fn sender_with_policy(policy: AddressPolicy) -> WebhookSender {
    let tls = okra_aws::rustls_client_config();
    WebhookSender::new(tls, policy, AttemptLimits::default()).unwrap()
}

async fn attempt_with_secrets(
    sender: &WebhookSender,
    url: &str,
    secrets: &SigningSecrets,
    bearer: Option<&BearerToken>,
) -> AttemptResponse {
    let message = WebhookMessage {
        url,
        event_id: &EventId::for_record_entry(RecordId::from_bytes([0xab; 12]), Seq(17)),
        seq: Seq(17),
        attempt: 3,
        is_replay: false,
        missing_seqs: &[],
        body: Bytes::from_static(BODY),
        secrets,
        bearer,
        sent_at: okra_aws::Clock::system().now(),
    };
    sender.send_message(&message).await.unwrap()
}

async fn post_to_url(url: &str) -> AttemptResponse {
    let secrets = SigningSecrets::from_entropy(&[1; SECRET_BYTES]);
    attempt_with_secrets(
        &sender_with_policy(AddressPolicy::AllowLoopback),
        url,
        &secrets,
        None,
    )
    .await
}

/// Serves on a free port; returns the root, without a trailing slash.
async fn serve_router(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let root = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    root
}

/// A receiver that answers every connection with these bytes, whatever it is sent, and hangs up.
async fn serve_raw_response(answer: &'static [u8]) -> String {
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

async fn attempt_with_response_status(status: u16) -> AttemptResponse {
    let status = StatusCode::from_u16(status).unwrap();
    let app = Router::new().fallback(any(move || async move { status }));
    post_to_url(&serve_router(app).await).await
}

#[tokio::test]
async fn a_receiver_can_verify_what_it_is_sent() {
    let (seen, mut requests) = mpsc::unbounded_channel::<(HeaderMap, Bytes)>();
    let app = Router::new().fallback(any(move |headers: HeaderMap, body: Bytes| async move {
        seen.send((headers, body)).unwrap();
        StatusCode::NO_CONTENT
    }));
    let url = format!("{}/hook?tenant=1", serve_router(app).await);
    let old = SigningSecrets::from_entropy(&[1; SECRET_BYTES]);
    let both = old.clone().with_new_secret(&[2; SECRET_BYTES]);
    let sender = sender_with_policy(AddressPolicy::AllowLoopback);
    let bearer = BearerToken::new("t0ken").unwrap();

    let answer = attempt_with_secrets(&sender, &url, &both, Some(&bearer)).await;
    assert_eq!(
        (answer.outcome, answer.status),
        (AttemptOutcome::Ok, Some(204))
    );
    let (headers, body) = requests.recv().await.unwrap();
    assert_eq!(body, BODY);
    for secret in [both.current_secret(), old.current_secret()] {
        Webhook::new(secret)
            .unwrap()
            .verify(&body, &headers)
            .unwrap();
    }
    let stranger = SigningSecrets::from_entropy(&[3; SECRET_BYTES]);
    assert!(
        Webhook::new(stranger.current_secret())
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

    attempt_with_secrets(&sender, &url, &old, None).await;
    let (headers, _) = requests.recv().await.unwrap();
    assert!(!headers.contains_key("authorization"));
    assert!(!headers["webhook-signature"].to_str().unwrap().contains(' '));
}

#[tokio::test]
async fn a_status_has_its_outcome() {
    for (status, outcome) in [
        (200, AttemptOutcome::Ok),
        (202, AttemptOutcome::Ok),
        (304, AttemptOutcome::Redirect),
        (401, AttemptOutcome::Rejected),
        (404, AttemptOutcome::Rejected),
        (410, AttemptOutcome::Gone),
        (429, AttemptOutcome::Throttled),
        (500, AttemptOutcome::Rejected),
        (503, AttemptOutcome::Throttled),
    ] {
        let answer = attempt_with_response_status(status).await;
        assert_eq!((answer.outcome, answer.status), (outcome, Some(status)));
    }
}

#[tokio::test]
async fn what_cannot_be_reached_says_why() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    assert_eq!(post_to_url(&closed).await.outcome, AttemptOutcome::Connect);

    let plain = serve_raw_response(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        .await
        .replace("http:", "https:");
    assert_eq!(post_to_url(&plain).await.outcome, AttemptOutcome::Tls);

    let unknown = post_to_url("https://no-such-host.invalid/hook").await;
    assert_eq!(unknown.outcome, AttemptOutcome::Dns);
}

#[tokio::test]
async fn an_address_that_must_not_be_called_is_not() {
    let (seen, mut requests) = mpsc::unbounded_channel();
    let app = Router::new().fallback(any(move || async move { seen.send(()).unwrap() }));
    let root = serve_router(app).await;
    let port = root.rsplit_once(':').unwrap().1;
    let secrets = SigningSecrets::from_entropy(&[1; SECRET_BYTES]);
    for policy in [AddressPolicy::PublicOnly, AddressPolicy::AllowLoopback] {
        let sender = sender_with_policy(policy);
        let local = [
            root.clone(),
            format!("http://localhost:{port}/"),
            format!("http://[::ffff:127.0.0.1]:{port}/"),
        ];
        for url in &local {
            let answer = attempt_with_secrets(&sender, url, &secrets, None).await;
            let blocked = answer.outcome == AttemptOutcome::Blocked;
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
            let answer = attempt_with_secrets(&sender, url, &secrets, None).await;
            assert_eq!(answer.outcome, AttemptOutcome::Blocked, "{policy:?} {url}");
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
    let url = serve_router(app).await;
    let sent_at: Timestamp = "2026-01-01T00:00:00.999Z".parse().unwrap();
    let message = WebhookMessage {
        url: &url,
        event_id: &EventId::for_record_entry(RecordId::from_bytes([1; 12]), Seq(1)),
        seq: Seq(1),
        attempt: 1,
        is_replay: false,
        missing_seqs: &[],
        body: Bytes::from_static(BODY),
        secrets: &SigningSecrets::from_entropy(&[1; SECRET_BYTES]),
        bearer: None,
        sent_at,
    };
    let sender = sender_with_policy(AddressPolicy::AllowLoopback);
    assert_eq!(
        sender.send_message(&message).await.unwrap().outcome,
        AttemptOutcome::Ok
    );
    let headers = requests.recv().await.unwrap();
    assert_eq!(
        headers["webhook-timestamp"],
        sent_at.as_second().to_string()
    );
}
