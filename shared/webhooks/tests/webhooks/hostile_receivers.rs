//! Receivers that are slow, broken or hostile. Each attempt ends in its documented class, within its deadline, with the
//! connection closed and no more read than a bound.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::join_all;
use okra_core::{
    delivery::retry::AttemptOutcome,
    model::ids::{EventId, RecordId, Seq},
};
use okra_store::DeliveryState;
use okra_webhooks::{
    AddressPolicy, AttemptLimits, AttemptResponse, ReceiverControl, SECRET_BYTES, SigningSecrets,
    WebhookMessage, WebhookSender,
};
use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Notify,
};
use tokio_rustls::TlsAcceptor;

/// The deadline of an exchange here; in production it is 15 s.
const EXCHANGE: Duration = Duration::from_millis(300);

/// Much longer than anything here takes: waiting so long is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that a receiver gets rid of at most in one exchange: what the sender reads of a connection
/// (128 KiB), and what both kernels hold back.
const MAX_TAKEN: usize = 512 * 1024;

/// Bytes that the kernel holds for a receiver here.
const SEND_BUFFER: u32 = 16 * 1024;

/// What a receiver does with a connection, one thing after the other; at the end it hangs up.
#[derive(Clone)]
enum ReceiverAct {
    /// Reads the whole request.
    Read,
    /// Writes.
    Write(Vec<u8>),
    /// Writes it again and again until the other side has hung up.
    Flood(Vec<u8>),
    /// The same, a byte at a time, with a pause after each that is short of every deadline.
    Drip(Vec<u8>),
    /// Waits until the other side has hung up.
    Wait,
    /// Hangs up with a reset instead of an end.
    Reset,
}
use ReceiverAct::{Drip, Flood, Read, Reset, Wait, Write};

#[derive(Default)]
struct ReceiverCounts {
    connections: AtomicUsize,
    connections_ended: AtomicUsize,
    bytes_taken: AtomicUsize,
    change: Notify,
    requests: Mutex<Vec<String>>,
}

/// A receiver that follows a script on each connection.
struct ScriptedReceiver {
    url: String,
    counts: Arc<ReceiverCounts>,
}

impl ScriptedReceiver {
    async fn following_script(script: Vec<ReceiverAct>) -> Self {
        let listener = bind_listener();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let seen = Arc::new(ReceiverCounts::default());
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (seen, script) = (Arc::clone(&shared), script.clone());
                seen.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    // An error is the other side hanging up, which many scripts wait for.
                    let _ = play_script(connection, &script, &seen).await;
                    seen.connections_ended.fetch_add(1, Ordering::SeqCst);
                    seen.change.notify_waiters();
                });
            }
        });
        Self { url, counts: seen }
    }

    /// Waits until nothing is connected any more.
    async fn wait_until_disconnected(&self) {
        let ended = async {
            loop {
                let change = self.counts.change.notified();
                let load = |count: &AtomicUsize| count.load(Ordering::SeqCst);
                if load(&self.counts.connections_ended) == load(&self.counts.connections) {
                    return;
                }
                change.await;
            }
        };
        let ended = tokio::time::timeout(PATIENCE, ended).await;
        assert!(
            ended.is_ok(),
            "the sender keeps a connection that nobody needs"
        );
    }

    fn bytes_taken(&self) -> usize {
        self.counts.bytes_taken.load(Ordering::SeqCst)
    }

    fn received_requests(&self) -> Vec<String> {
        self.counts.requests.lock().unwrap().clone()
    }
}

fn bind_listener() -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(SEND_BUFFER).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.listen(64).unwrap()
}

async fn play_script(
    mut connection: TcpStream,
    script: &[ReceiverAct],
    seen: &ReceiverCounts,
) -> io::Result<()> {
    for act in script {
        match act {
            Read => {
                let request = read_request(&mut connection).await?;
                seen.requests.lock().unwrap().push(request);
            }
            Write(bytes) => write_counted(&mut connection, bytes, seen).await?,
            Flood(bytes) => loop {
                write_counted(&mut connection, bytes, seen).await?;
            },
            Drip(bytes) => {
                for byte in bytes.iter().cycle() {
                    write_counted(&mut connection, &[*byte], seen).await?;
                    tokio::time::sleep(EXCHANGE / 30).await;
                }
            }
            Wait => while connection.read(&mut [0; 1024]).await? > 0 {},
            Reset => {
                connection.set_zero_linger()?;
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn write_counted(
    connection: &mut TcpStream,
    bytes: &[u8],
    seen: &ReceiverCounts,
) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = connection.write(rest).await?;
        seen.bytes_taken.fetch_add(written, Ordering::SeqCst);
        rest = &rest[written..];
    }
    Ok(())
}

async fn read_request(connection: &mut TcpStream) -> io::Result<String> {
    let mut request = Vec::new();
    while !request.ends_with(BODY) {
        let mut part = [0; 4096];
        match connection.read(&mut part).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => request.extend_from_slice(&part[..read]),
        }
    }
    Ok(String::from_utf8(request).unwrap())
}

const BODY: &[u8] = br#"{"type":"CALLBACK"}"#;

/// A sender that does not wait long.
fn impatient_sender() -> WebhookSender {
    sender_trusting(okra_aws::rustls_client_config())
}

fn sender_trusting(tls: rustls::ClientConfig) -> WebhookSender {
    let limits = AttemptLimits {
        exchange: EXCHANGE,
        resolve: EXCHANGE / 6,
        connect: EXCHANGE / 6,
        tls: EXCHANGE / 6,
        ..AttemptLimits::default()
    };
    WebhookSender::new(tls, AddressPolicy::AllowLoopback, limits).unwrap()
}

async fn post_to_receiver(sender: &WebhookSender, url: &str) -> AttemptResponse {
    let message = WebhookMessage {
        url,
        event_id: &EventId::for_record_entry(RecordId::from_bytes([0xab; 12]), Seq(17)),
        seq: Seq(17),
        attempt: 3,
        is_replay: false,
        missing_seqs: &[],
        body: Bytes::from_static(BODY),
        secrets: &SigningSecrets::from_entropy(&[1; SECRET_BYTES]),
        bearer: None,
        sent_at: "1994-11-06T08:49:37Z".parse().unwrap(),
    };
    // An attempt has a deadline.
    let sent = tokio::time::timeout(PATIENCE, sender.send_message(&message)).await;
    sent.unwrap().unwrap()
}

fn write_text(text: &str) -> ReceiverAct {
    Write(text.replace('\n', "\r\n").into_bytes())
}

const YES: &str = "HTTP/1.1 200 OK\n";

/// Megabytes of zeros in a few kilobytes of gzip, over and over: each block is a run of 258-byte
/// repetitions in DEFLATE's fixed code.
fn gzip_bomb() -> Vec<u8> {
    let mut bits: Vec<bool> = Vec::new();
    let mut put = |value: u32, count: u32, reversed: bool| {
        for n in 0..count {
            let bit = if reversed { count - 1 - n } else { n };
            bits.push(value >> bit & 1 == 1);
        }
    };
    put(1, 1, false); // the last block
    put(1, 2, false); // in the fixed code
    put(0b0011_0000, 8, true); // a zero
    for _ in 0..100_000 {
        put(0b1100_0101, 8, true); // 258 more
        put(0, 5, true); // of the byte before
    }
    put(0, 7, true); // the end
    let mut bomb = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    bomb.extend(bits.chunks(8).map(|bits| {
        bits.iter()
            .enumerate()
            .fold(0, |byte, (at, bit)| byte | u8::from(*bit) << at)
    }));
    bomb
}

/// Plays a script to one attempt, and checks what came of it, that the connection is closed, and how
/// much was taken in.
async fn check_script(
    name: &str,
    script: Vec<ReceiverAct>,
    expected: (AttemptOutcome, Option<u16>),
) -> AttemptResponse {
    let receiver = ScriptedReceiver::following_script(script).await;
    let sender = impatient_sender();
    let answer = post_to_receiver(&sender, &receiver.url).await;
    assert_eq!((answer.outcome, answer.status), expected, "{name}");
    drop(sender);
    receiver.wait_until_disconnected().await;
    let taken = receiver.bytes_taken();
    assert!(taken <= MAX_TAKEN, "{name}: {taken} bytes were taken in");
    assert!(
        receiver.received_requests().len() <= 1,
        "{name}: it was sent again"
    );
    answer
}

#[tokio::test]
async fn a_slow_receiver_is_cut_off_at_the_deadline() {
    let cases = [
        ("silence", vec![Read, Wait], None),
        ("silence before it reads", vec![Wait], None),
        (
            "a dripping head",
            vec![Read, Drip(b"HTTP/1.1 200 OK\r\nx: y".to_vec())],
            None,
        ),
        (
            "a dripping body",
            vec![Read, write_text(YES), write_text("\n"), Drip(b".".to_vec())],
            Some(200),
        ),
        (
            "a body that stops",
            vec![
                Read,
                write_text(YES),
                write_text("content-length: 9\n\nhalf"),
                Wait,
            ],
            Some(200),
        ),
        (
            "dripping chunks",
            vec![
                Read,
                write_text(YES),
                write_text("transfer-encoding: chunked\n\n"),
                Drip(b"1\r\n.\r\n".to_vec()),
            ],
            Some(200),
        ),
        (
            "one informational answer after the other",
            vec![
                Read,
                Drip(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".to_vec()),
            ],
            None,
        ),
    ];
    let checks = cases.map(|(name, script, status)| async move {
        let answer = check_script(name, script, (AttemptOutcome::Timeout, status)).await;
        // Not a timing: whatever the machine does, the deadline comes first.
        assert!(
            u128::from(answer.latency_ms) >= EXCHANGE.as_millis(),
            "{name}"
        );
    });
    join_all(checks).await;
}

#[tokio::test]
async fn a_flood_is_cut() {
    let block = vec![b'.'; 8192];
    let chunk = [b"2000\r\n", &*block, b"\r\n"].concat();
    let header = [b"x: ", &*block, b"\r\n"].concat();
    let ok = (AttemptOutcome::Ok, Some(200));
    let broken = (AttemptOutcome::Connect, None);
    for (name, script, expected) in [
        (
            "an endless body",
            vec![write_text(YES), write_text("\n"), Flood(block.clone())],
            ok,
        ),
        (
            "a terabyte",
            vec![
                write_text(YES),
                write_text("content-length: 1099511627776\n\n"),
                Flood(block.clone()),
            ],
            ok,
        ),
        (
            "endless chunks",
            vec![
                write_text(YES),
                write_text("transfer-encoding: chunked\n\n"),
                Flood(chunk),
            ],
            ok,
        ),
        (
            "a gzip bomb",
            vec![
                write_text(YES),
                write_text("content-encoding: gzip\n\n"),
                Flood(gzip_bomb()),
            ],
            ok,
        ),
        (
            "1 MB in one header",
            vec![write_text(YES), Write(vec![b'x'; 1 << 20])],
            broken,
        ),
        (
            "1 MB of headers",
            vec![write_text(YES), Flood(header)],
            broken,
        ),
        (
            "ten thousand headers",
            vec![write_text(YES), write_text(&"x: y\n".repeat(10_000))],
            broken,
        ),
        (
            "an endless status line",
            vec![Flood(vec![b'H'; 8192])],
            broken,
        ),
        (
            "an endless chunk size",
            vec![
                write_text(YES),
                write_text("transfer-encoding: chunked\n\n"),
                Flood(vec![b'0'; 8192]),
            ],
            ok,
        ),
        (
            "endless trailers",
            vec![
                write_text(YES),
                write_text("transfer-encoding: chunked\n\n0\n"),
                Flood(b"x: y\r\n".to_vec()),
            ],
            (AttemptOutcome::Connect, Some(200)),
        ),
        (
            "endless informational answers",
            vec![Flood(b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec())],
            broken,
        ),
        (
            "an endless refusal",
            vec![write_text("HTTP/1.1 500 No\n\n"), Flood(block.clone())],
            (AttemptOutcome::Rejected, Some(500)),
        ),
    ] {
        let script = [vec![Read], script].concat();
        check_script(name, script, expected).await;
    }
}

#[tokio::test]
async fn a_response_that_breaks_off_is_not_a_success() {
    let refused = (AttemptOutcome::Rejected, Some(500));
    let half = (AttemptOutcome::Connect, Some(200));
    let broken = (AttemptOutcome::Connect, None);
    for (name, script, expected) in [
        ("a reset", vec![Reset], broken),
        ("an end", vec![], broken),
        ("a reset in the head", vec![write_text(YES), Reset], broken),
        (
            "a reset in the body",
            vec![
                write_text(YES),
                write_text("content-length: 9\n\nhalf"),
                Reset,
            ],
            half,
        ),
        (
            "an end in the body",
            vec![write_text(YES), write_text("content-length: 9\n\nhalf")],
            half,
        ),
        (
            "an end between chunks",
            vec![
                write_text(YES),
                write_text("transfer-encoding: chunked\n\n1\n.\n"),
            ],
            half,
        ),
        (
            "a chunk of no size",
            vec![
                write_text(YES),
                write_text("transfer-encoding: chunked\n\nzz\n"),
            ],
            half,
        ),
        (
            "a chunk of every size",
            vec![
                write_text(YES),
                write_text("transfer-encoding: chunked\n\nfffffffffffffffff\n"),
            ],
            half,
        ),
        (
            "two lengths",
            vec![
                write_text(YES),
                write_text("content-length: 1\ncontent-length: 2\n\nab"),
            ],
            broken,
        ),
        (
            "a negative length",
            vec![write_text(YES), write_text("content-length: -1\n\nab")],
            broken,
        ),
        (
            "a refusal with a reset in its body",
            vec![
                write_text("HTTP/1.1 500 No\ncontent-length: 9\n\nhalf"),
                Reset,
            ],
            refused,
        ),
        (
            "a farewell with a reset in its body",
            vec![
                write_text("HTTP/1.1 410 Gone\ncontent-length: 9\n\nhalf"),
                Reset,
            ],
            (AttemptOutcome::Gone, Some(410)),
        ),
        (
            "204 and an end",
            vec![write_text("HTTP/1.1 204 No Content\n\n")],
            (AttemptOutcome::Ok, Some(204)),
        ),
        (
            "204 that claims a body",
            vec![write_text("HTTP/1.1 204 No Content\ncontent-length: 9\n\n")],
            (AttemptOutcome::Ok, Some(204)),
        ),
        (
            "a body until the end",
            vec![write_text(YES), write_text("\nall of it")],
            (AttemptOutcome::Ok, Some(200)),
        ),
        (
            "a header that is none",
            vec![
                write_text(YES),
                write_text("bad header\nconnection: close\n\n"),
            ],
            (AttemptOutcome::Ok, Some(200)),
        ),
        (
            "one informational answer",
            vec![
                write_text("HTTP/1.1 100 Continue\n\n"),
                write_text(YES),
                write_text("content-length: 0\n\n"),
            ],
            (AttemptOutcome::Ok, Some(200)),
        ),
        (
            "another protocol in return",
            vec![write_text(
                "HTTP/1.1 101 Switching Protocols\nupgrade: x\nconnection: upgrade\n\n",
            )],
            (AttemptOutcome::Rejected, Some(101)),
        ),
        (
            "a status of its own",
            vec![write_text("HTTP/1.1 999 Sure\n\n")],
            (AttemptOutcome::Rejected, Some(999)),
        ),
        (
            "no status",
            vec![write_text("HTTP/1.1 099 Low\n\n")],
            broken,
        ),
        (
            "another protocol",
            vec![write_text("SSH-2.0-OpenSSH_9.6\n")],
            broken,
        ),
        (
            "HTTP/2",
            vec![Write(b"\0\0\0\x04\0\0\0\0\0".to_vec())],
            broken,
        ),
        ("HTTP/0.9", vec![write_text("<html>yes</html>")], broken),
    ] {
        let script = [vec![Read], script].concat();
        check_script(name, script, expected).await;
    }
    check_script("a reset before it reads", vec![Reset], broken).await;
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_its_host_is_reported() {
    let target =
        ScriptedReceiver::following_script(vec![Read, write_text(YES), write_text("\n")]).await;
    let elsewhere = target.url.as_str();
    for status in [300, 301, 302, 303, 307, 308] {
        for (location, host) in [
            (elsewhere, Some("127.0.0.1")),
            ("https://other.example/x?token=t0ken", Some("other.example")),
            (
                "http://169.254.169.254/latest/meta-data",
                Some("169.254.169.254"),
            ),
            ("/moved", Some("127.0.0.1")),
            ("https://", None),
        ] {
            let head = format!("HTTP/1.1 {status} Moved\nlocation: {location}\n\n");
            let script = vec![Read, write_text(&head)];
            let answer =
                check_script(location, script, (AttemptOutcome::Redirect, Some(status))).await;
            assert_eq!(answer.location_host.as_deref(), host, "{location}");
        }
    }
    assert!(target.received_requests().is_empty());
}

#[tokio::test]
async fn a_receiver_can_ask_for_time() {
    for (status, asked, expected) in [
        (429, "120", Some(120)),
        (503, "120", Some(120)),
        (500, "120", Some(120)),
        (429, "1000000000", Some(3600)),
        (429, "99999999999999999999999", Some(3600)),
        (429, "Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
        (429, "Sat, 06 Nov 2094 08:50:07 GMT", Some(3600)),
        (503, "Sun, 06 Nov 1994 08:00:00 GMT", None),
        (429, "-1", None),
        (429, "0", None),
        (429, "1.5", None),
        (429, "soon", None),
        (429, "", None),
        (429, "\u{a7}", None),
    ] {
        let head = format!("HTTP/1.1 {status} Later\nretry-after: {asked}\n\n");
        let outcome = AttemptOutcome::from_status(status);
        let answer = check_script(
            asked,
            vec![Read, write_text(&head)],
            (outcome, Some(status)),
        )
        .await;
        assert_eq!(answer.retry_after_s, expected, "{asked:?}");
    }
}

#[tokio::test]
async fn a_receiver_can_ask_for_silence() {
    for (asked, expected) in [
        ("disable", Some(ReceiverControl::DisableEndpoint)),
        ("abort-message", Some(ReceiverControl::AbortMessage)),
        ("nonsense", None),
    ] {
        let head = format!("HTTP/1.1 400 No\nwebhook-delivery: {asked}\n\n");
        let answer = check_script(
            asked,
            vec![Read, write_text(&head)],
            (AttemptOutcome::Rejected, Some(400)),
        )
        .await;
        assert_eq!(answer.control, expected, "{asked:?}");
    }
}

/// An authority of our own, with certificates for `localhost` as good and as bad as they come.
struct TestAuthority(CertifiedIssuer<'static, KeyPair>);

impl TestAuthority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// A client that trusts this authority, and is otherwise as in production.
    fn client_config(&self) -> rustls::ClientConfig {
        // Installs the provider.
        drop(okra_aws::rustls_client_config());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        rustls::ClientConfig::builder_with_protocol_versions(&[
            &rustls::version::TLS13,
            &rustls::version::TLS12,
        ])
        .with_root_certificates(roots)
        .with_no_client_auth()
    }

    fn issue_certificate(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.der().clone(), PrivateKeyDer::from(key))
    }
}

type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

/// A receiver that says yes over TLS; counts the requests it got to read.
async fn tls_receiver(
    (certificate, key): Identity,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> (String, Arc<AtomicUsize>) {
    let config = rustls::ServerConfig::builder_with_protocol_versions(versions)
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = bind_listener();
    let port = listener.local_addr().unwrap().port();
    let read = Arc::new(AtomicUsize::new(0));
    let shared = Arc::clone(&read);
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let (acceptor, read) = (acceptor.clone(), Arc::clone(&shared));
            tokio::spawn(async move {
                let mut connection = acceptor.accept(connection).await?;
                if connection.read(&mut [0; 4096]).await? > 0 {
                    read.fetch_add(1, Ordering::SeqCst);
                }
                connection.write_all(b"HTTP/1.1 204 Yes\r\n\r\n").await?;
                connection.shutdown().await
            });
        }
    });
    (format!("https://localhost:{port}/hook"), read)
}

#[tokio::test]
async fn only_a_valid_certificate_gets_a_webhook() {
    const BOTH: &[&rustls::SupportedProtocolVersion] =
        &[&rustls::version::TLS13, &rustls::version::TLS12];
    let authority = TestAuthority::new();
    let stranger = TestAuthority::new();
    let self_signed = {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.der().clone(), PrivateKeyDer::from(key))
    };
    for (name, identity, versions, expected) in [
        (
            "good",
            authority.issue_certificate(|_| {}),
            BOTH,
            AttemptOutcome::Ok,
        ),
        (
            "good, TLS 1.2",
            authority.issue_certificate(|_| {}),
            &BOTH[1..],
            AttemptOutcome::Ok,
        ),
        (
            "good, TLS 1.3",
            authority.issue_certificate(|_| {}),
            &BOTH[..1],
            AttemptOutcome::Ok,
        ),
        (
            "expired",
            authority.issue_certificate(|params| params.not_after = date_time_ymd(2020, 1, 1)),
            BOTH,
            AttemptOutcome::Tls,
        ),
        (
            "not valid yet",
            authority.issue_certificate(|params| params.not_before = date_time_ymd(4000, 1, 1)),
            BOTH,
            AttemptOutcome::Tls,
        ),
        (
            "for another host",
            authority.issue_certificate(|params| {
                params.subject_alt_names =
                    vec![rcgen::SanType::DnsName("other.example".try_into().unwrap())];
            }),
            BOTH,
            AttemptOutcome::Tls,
        ),
        (
            "for clients",
            authority.issue_certificate(|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }),
            BOTH,
            AttemptOutcome::Tls,
        ),
        (
            "of a stranger",
            stranger.issue_certificate(|_| {}),
            BOTH,
            AttemptOutcome::Tls,
        ),
        ("self-signed", self_signed, BOTH, AttemptOutcome::Tls),
    ] {
        let (url, read) = tls_receiver(identity, versions).await;
        let answer = post_to_receiver(&sender_trusting(authority.client_config()), &url).await;
        assert_eq!(answer.outcome, expected, "{name}");
        let sent = usize::from(expected == AttemptOutcome::Ok);
        assert_eq!(read.load(Ordering::SeqCst), sent, "{name}");
    }
}

/// A TLS record.
fn tls_record(kind: u8, version: u8, payload: &[u8]) -> ReceiverAct {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    Write([&[kind, 3, version], &length[..], payload].concat())
}

/// A server's hello that settles on a version and a cipher.
fn server_hello(version: u8, cipher: [u8; 2]) -> ReceiverAct {
    let hello = [&[3, version][..], &[7; 32], &[0], &cipher, &[0]].concat();
    let length = u8::try_from(hello.len()).unwrap();
    tls_record(22, version, &[&[2, 0, 0, length], &*hello].concat())
}

#[tokio::test]
async fn tls_before_1_2_is_rejected() {
    const HANDSHAKE_FAILURE: u8 = 40;
    const PROTOCOL_VERSION: u8 = 70;
    let sender = impatient_sender();
    for (name, act) in [
        ("TLS 1.0", server_hello(1, [0x00, 0x2f])),
        ("TLS 1.1", server_hello(2, [0x00, 0x2f])),
        ("SSL 3", server_hello(0, [0x00, 0x2f])),
        ("TLS 1.2 in CBC mode", server_hello(3, [0xc0, 0x13])),
        (
            "TLS 1.2 without forward secrecy",
            server_hello(3, [0x00, 0x9c]),
        ),
        (
            "an alert: the version",
            tls_record(21, 1, &[2, PROTOCOL_VERSION]),
        ),
        (
            "an alert: no common cipher",
            tls_record(21, 3, &[2, HANDSHAKE_FAILURE]),
        ),
        ("plain HTTP", write_text("HTTP/1.1 400 Bad Request\n\n")),
        (
            "a record beyond any size",
            Write(vec![22, 3, 3, 0xff, 0xff]),
        ),
    ] {
        let receiver = ScriptedReceiver::following_script(vec![act, Wait]).await;
        let url = receiver
            .url
            .replace("http://127.0.0.1", "https://localhost");
        let answer = post_to_receiver(&sender, &url).await;
        assert_eq!(
            (answer.outcome, answer.status),
            (AttemptOutcome::Tls, None),
            "{name}"
        );
        receiver.wait_until_disconnected().await;
    }
}

#[tokio::test]
async fn a_hanging_handshake_is_cut_off_at_the_connection_deadline() {
    for script in [vec![Wait], vec![Drip(vec![22, 3, 3, 0x3f, 0xff])]] {
        let receiver = ScriptedReceiver::following_script(script).await;
        let url = receiver
            .url
            .replace("http://127.0.0.1", "https://localhost");
        let answer = post_to_receiver(&impatient_sender(), &url).await;
        assert_eq!(
            (answer.outcome, answer.status),
            (AttemptOutcome::Connect, None)
        );
        receiver.wait_until_disconnected().await;
    }
}

/// With one place for all attempts: whatever a receiver does, it gives the place back.
#[tokio::test]
async fn no_receiver_keeps_its_send_permit() {
    let world = crate::support::DeliveryWorld::with_concurrency(1, 1).await;
    let hostile = [
        ScriptedReceiver::following_script(vec![Read, Wait]).await,
        ScriptedReceiver::following_script(vec![
            Read,
            write_text(YES),
            write_text("\n"),
            Drip(b".".to_vec()),
        ])
        .await,
        ScriptedReceiver::following_script(vec![Read, write_text(YES), Flood(vec![b'x'; 8192])])
            .await,
        ScriptedReceiver::following_script(vec![Read, Reset]).await,
        ScriptedReceiver::following_script(vec![Reset]).await,
    ];
    for receiver in &hostile {
        world.add_endpoint_at(&receiver.url).await;
    }
    let good = crate::support::TestReceiver::with_statuses(&[]).await;
    world.add_endpoint(&good, &[], None).await;
    let dispatch = world.commit_balances(2).await;
    let report = world.deliver_dispatch(&dispatch).await;
    assert_eq!((report.delivered, report.retry_scheduled), (2, 10));
    assert_eq!(good.received_requests().len(), 2);
    for seq in [1, 2] {
        let row = world.load_delivery(seq, &good).await.unwrap();
        assert_eq!(row.state, DeliveryState::Delivered);
    }
}
