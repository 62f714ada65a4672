//! The sender against receivers on this host that mean well; `hostile.rs` has the others.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    routing::any,
};
use bytes::Bytes;
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
        replayed: false,
        gap: &[],
        body: Bytes::from_static(BODY),
        secrets,
        bearer,
        sent_at: okra_aws::Clock::system().now(),
    };
    sender.send(&message).await.unwrap()
}

async fn post(url: &str) -> Answer {
    let secrets = SigningSecrets::fresh(&[1; SECRET_BYTES]);
    attempt(&sender(AddressPolicy::AllowLoopback), url, &secrets, None).await
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

async fn answer(status: u16) -> Answer {
    let status = StatusCode::from_u16(status).unwrap();
    let app = Router::new().fallback(any(move || async move { status }));
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
        let answer = answer(status).await;
        assert_eq!((answer.outcome, answer.status), (outcome, Some(status)));
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
        replayed: false,
        gap: &[],
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
