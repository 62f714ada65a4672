//! Receivers that are slow, broken or hostile. Each attempt ends in its documented class, within its
//! deadline, with the connection closed and no more taken in than a bound.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

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
    ids::{EventId, RecordId, Seq},
    retry::Outcome,
};
use okra_store::DeliveryState;
use okra_webhooks::{
    AddressPolicy, Answer, Control, Limits, Message, SECRET_BYTES, Sender, SigningSecrets,
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
enum Act {
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
use Act::{Drip, Flood, Read, Reset, Wait, Write};

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    ended: AtomicUsize,
    taken: AtomicUsize,
    change: Notify,
    requests: Mutex<Vec<String>>,
}

/// A receiver that follows a script on each connection.
struct Receiver {
    url: String,
    seen: Arc<Seen>,
}

impl Receiver {
    async fn acting(script: Vec<Act>) -> Self {
        let listener = listen();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (seen, script) = (Arc::clone(&shared), script.clone());
                seen.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    // An error is the other side hanging up, which many scripts wait for.
                    let _ = play(connection, &script, &seen).await;
                    seen.ended.fetch_add(1, Ordering::SeqCst);
                    seen.change.notify_waiters();
                });
            }
        });
        Self { url, seen }
    }

    /// Waits until nothing is connected any more.
    async fn is_left_alone(&self) {
        let ended = async {
            loop {
                let change = self.seen.change.notified();
                let load = |count: &AtomicUsize| count.load(Ordering::SeqCst);
                if load(&self.seen.ended) == load(&self.seen.connections) {
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

    fn taken(&self) -> usize {
        self.seen.taken.load(Ordering::SeqCst)
    }

    fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().clone()
    }
}

fn listen() -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(SEND_BUFFER).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.listen(64).unwrap()
}

async fn play(mut connection: TcpStream, script: &[Act], seen: &Seen) -> io::Result<()> {
    for act in script {
        match act {
            Read => {
                let request = read_request(&mut connection).await?;
                seen.requests.lock().unwrap().push(request);
            }
            Write(bytes) => write(&mut connection, bytes, seen).await?,
            Flood(bytes) => loop {
                write(&mut connection, bytes, seen).await?;
            },
            Drip(bytes) => {
                for byte in bytes.iter().cycle() {
                    write(&mut connection, &[*byte], seen).await?;
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

async fn write(connection: &mut TcpStream, bytes: &[u8], seen: &Seen) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = connection.write(rest).await?;
        seen.taken.fetch_add(written, Ordering::SeqCst);
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
fn hasty() -> Sender {
    trusting(okra_aws::rustls_client_config())
}

fn trusting(tls: rustls::ClientConfig) -> Sender {
    let limits = Limits {
        exchange: EXCHANGE,
        resolve: EXCHANGE / 6,
        connect: EXCHANGE / 6,
        tls: EXCHANGE / 6,
        ..Limits::default()
    };
    Sender::new(tls, AddressPolicy::AllowLoopback, limits).unwrap()
}

async fn post(sender: &Sender, url: &str) -> Answer {
    let message = Message {
        url,
        event: &EventId::of(RecordId::from_bytes([0xab; 12]), Seq(17)),
        seq: Seq(17),
        attempt: 3,
        replayed: false,
        gap: &[],
        body: Bytes::from_static(BODY),
        secrets: &SigningSecrets::fresh(&[1; SECRET_BYTES]),
        bearer: None,
        sent_at: "1994-11-06T08:49:37Z".parse().unwrap(),
    };
    // An attempt has a deadline.
    let sent = tokio::time::timeout(PATIENCE, sender.send(&message)).await;
    sent.unwrap().unwrap()
}

fn text(text: &str) -> Act {
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
async fn check(name: &str, script: Vec<Act>, expected: (Outcome, Option<u16>)) -> Answer {
    let receiver = Receiver::acting(script).await;
    let sender = hasty();
    let answer = post(&sender, &receiver.url).await;
    assert_eq!((answer.outcome, answer.status), expected, "{name}");
    drop(sender);
    receiver.is_left_alone().await;
    let taken = receiver.taken();
    assert!(taken <= MAX_TAKEN, "{name}: {taken} bytes were taken in");
    assert!(receiver.requests().len() <= 1, "{name}: it was sent again");
    answer
}

#[tokio::test]
async fn a_receiver_that_is_slow_meets_the_deadline() {
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
            vec![Read, text(YES), text("\n"), Drip(b".".to_vec())],
            Some(200),
        ),
        (
            "a body that stops",
            vec![Read, text(YES), text("content-length: 9\n\nhalf"), Wait],
            Some(200),
        ),
        (
            "dripping chunks",
            vec![
                Read,
                text(YES),
                text("transfer-encoding: chunked\n\n"),
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
        let answer = check(name, script, (Outcome::Timeout, status)).await;
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
    let ok = (Outcome::Ok, Some(200));
    let broken = (Outcome::Connect, None);
    for (name, script, expected) in [
        (
            "an endless body",
            vec![text(YES), text("\n"), Flood(block.clone())],
            ok,
        ),
        (
            "a terabyte",
            vec![
                text(YES),
                text("content-length: 1099511627776\n\n"),
                Flood(block.clone()),
            ],
            ok,
        ),
        (
            "endless chunks",
            vec![
                text(YES),
                text("transfer-encoding: chunked\n\n"),
                Flood(chunk),
            ],
            ok,
        ),
        (
            "a gzip bomb",
            vec![
                text(YES),
                text("content-encoding: gzip\n\n"),
                Flood(gzip_bomb()),
            ],
            ok,
        ),
        (
            "1 MB in one header",
            vec![text(YES), Write(vec![b'x'; 1 << 20])],
            broken,
        ),
        ("1 MB of headers", vec![text(YES), Flood(header)], broken),
        (
            "ten thousand headers",
            vec![text(YES), text(&"x: y\n".repeat(10_000))],
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
                text(YES),
                text("transfer-encoding: chunked\n\n"),
                Flood(vec![b'0'; 8192]),
            ],
            ok,
        ),
        (
            "endless trailers",
            vec![
                text(YES),
                text("transfer-encoding: chunked\n\n0\n"),
                Flood(b"x: y\r\n".to_vec()),
            ],
            (Outcome::Connect, Some(200)),
        ),
        (
            "endless informational answers",
            vec![Flood(b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec())],
            broken,
        ),
        (
            "an endless refusal",
            vec![text("HTTP/1.1 500 No\n\n"), Flood(block.clone())],
            (Outcome::Rejected, Some(500)),
        ),
    ] {
        let script = [vec![Read], script].concat();
        check(name, script, expected).await;
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_yes() {
    let refused = (Outcome::Rejected, Some(500));
    let half = (Outcome::Connect, Some(200));
    let broken = (Outcome::Connect, None);
    for (name, script, expected) in [
        ("a reset", vec![Reset], broken),
        ("an end", vec![], broken),
        ("a reset in the head", vec![text(YES), Reset], broken),
        (
            "a reset in the body",
            vec![text(YES), text("content-length: 9\n\nhalf"), Reset],
            half,
        ),
        (
            "an end in the body",
            vec![text(YES), text("content-length: 9\n\nhalf")],
            half,
        ),
        (
            "an end between chunks",
            vec![text(YES), text("transfer-encoding: chunked\n\n1\n.\n")],
            half,
        ),
        (
            "a chunk of no size",
            vec![text(YES), text("transfer-encoding: chunked\n\nzz\n")],
            half,
        ),
        (
            "a chunk of every size",
            vec![
                text(YES),
                text("transfer-encoding: chunked\n\nfffffffffffffffff\n"),
            ],
            half,
        ),
        (
            "two lengths",
            vec![
                text(YES),
                text("content-length: 1\ncontent-length: 2\n\nab"),
            ],
            broken,
        ),
        (
            "a negative length",
            vec![text(YES), text("content-length: -1\n\nab")],
            broken,
        ),
        (
            "a refusal with a reset in its body",
            vec![text("HTTP/1.1 500 No\ncontent-length: 9\n\nhalf"), Reset],
            refused,
        ),
        (
            "a farewell with a reset in its body",
            vec![text("HTTP/1.1 410 Gone\ncontent-length: 9\n\nhalf"), Reset],
            (Outcome::Gone, Some(410)),
        ),
        (
            "204 and an end",
            vec![text("HTTP/1.1 204 No Content\n\n")],
            (Outcome::Ok, Some(204)),
        ),
        (
            "204 that claims a body",
            vec![text("HTTP/1.1 204 No Content\ncontent-length: 9\n\n")],
            (Outcome::Ok, Some(204)),
        ),
        (
            "a body until the end",
            vec![text(YES), text("\nall of it")],
            (Outcome::Ok, Some(200)),
        ),
        (
            "a header that is none",
            vec![text(YES), text("bad header\nconnection: close\n\n")],
            (Outcome::Ok, Some(200)),
        ),
        (
            "one informational answer",
            vec![
                text("HTTP/1.1 100 Continue\n\n"),
                text(YES),
                text("content-length: 0\n\n"),
            ],
            (Outcome::Ok, Some(200)),
        ),
        (
            "another protocol in return",
            vec![text(
                "HTTP/1.1 101 Switching Protocols\nupgrade: x\nconnection: upgrade\n\n",
            )],
            (Outcome::Rejected, Some(101)),
        ),
        (
            "a status of its own",
            vec![text("HTTP/1.1 999 Sure\n\n")],
            (Outcome::Rejected, Some(999)),
        ),
        ("no status", vec![text("HTTP/1.1 099 Low\n\n")], broken),
        (
            "another protocol",
            vec![text("SSH-2.0-OpenSSH_9.6\n")],
            broken,
        ),
        (
            "HTTP/2",
            vec![Write(b"\0\0\0\x04\0\0\0\0\0".to_vec())],
            broken,
        ),
        ("HTTP/0.9", vec![text("<html>yes</html>")], broken),
    ] {
        let script = [vec![Read], script].concat();
        check(name, script, expected).await;
    }
    check("a reset before it reads", vec![Reset], broken).await;
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_its_host_is_told() {
    let target = Receiver::acting(vec![Read, text(YES), text("\n")]).await;
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
            let script = vec![Read, text(&head)];
            let answer = check(location, script, (Outcome::Redirect, Some(status))).await;
            assert_eq!(answer.location_host.as_deref(), host, "{location}");
        }
    }
    assert!(target.requests().is_empty());
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
        let outcome = Outcome::of_status(status);
        let answer = check(asked, vec![Read, text(&head)], (outcome, Some(status))).await;
        assert_eq!(answer.retry_after_s, expected, "{asked:?}");
    }
}

#[tokio::test]
async fn a_receiver_can_ask_for_silence() {
    for (asked, expected) in [
        ("disable", Some(Control::Disable)),
        ("abort-message", Some(Control::AbortMessage)),
        ("nonsense", None),
    ] {
        let head = format!("HTTP/1.1 400 No\nwebhook-delivery: {asked}\n\n");
        let answer = check(
            asked,
            vec![Read, text(&head)],
            (Outcome::Rejected, Some(400)),
        )
        .await;
        assert_eq!(answer.control, expected, "{asked:?}");
    }
}

/// An authority of our own, with certificates for `localhost` as good and as bad as they come.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// A client that trusts this authority, and is otherwise as in production.
    fn trusted(&self) -> rustls::ClientConfig {
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

    fn certificate(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
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
    let listener = listen();
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
async fn only_a_certificate_that_holds_gets_a_webhook() {
    const BOTH: &[&rustls::SupportedProtocolVersion] =
        &[&rustls::version::TLS13, &rustls::version::TLS12];
    let authority = Authority::new();
    let stranger = Authority::new();
    let self_signed = {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.der().clone(), PrivateKeyDer::from(key))
    };
    for (name, identity, versions, expected) in [
        ("good", authority.certificate(|_| {}), BOTH, Outcome::Ok),
        (
            "good, TLS 1.2",
            authority.certificate(|_| {}),
            &BOTH[1..],
            Outcome::Ok,
        ),
        (
            "good, TLS 1.3",
            authority.certificate(|_| {}),
            &BOTH[..1],
            Outcome::Ok,
        ),
        (
            "expired",
            authority.certificate(|params| params.not_after = date_time_ymd(2020, 1, 1)),
            BOTH,
            Outcome::Tls,
        ),
        (
            "not valid yet",
            authority.certificate(|params| params.not_before = date_time_ymd(4000, 1, 1)),
            BOTH,
            Outcome::Tls,
        ),
        (
            "for another host",
            authority.certificate(|params| {
                params.subject_alt_names =
                    vec![rcgen::SanType::DnsName("other.example".try_into().unwrap())];
            }),
            BOTH,
            Outcome::Tls,
        ),
        (
            "for clients",
            authority.certificate(|params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }),
            BOTH,
            Outcome::Tls,
        ),
        (
            "of a stranger",
            stranger.certificate(|_| {}),
            BOTH,
            Outcome::Tls,
        ),
        ("self-signed", self_signed, BOTH, Outcome::Tls),
    ] {
        let (url, read) = tls_receiver(identity, versions).await;
        let answer = post(&trusting(authority.trusted()), &url).await;
        assert_eq!(answer.outcome, expected, "{name}");
        let sent = usize::from(expected == Outcome::Ok);
        assert_eq!(read.load(Ordering::SeqCst), sent, "{name}");
    }
}

/// A TLS record.
fn record(kind: u8, version: u8, payload: &[u8]) -> Act {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    Write([&[kind, 3, version], &length[..], payload].concat())
}

/// A server's hello that settles on a version and a cipher.
fn server_hello(version: u8, cipher: [u8; 2]) -> Act {
    let hello = [&[3, version][..], &[7; 32], &[0], &cipher, &[0]].concat();
    let length = u8::try_from(hello.len()).unwrap();
    record(22, version, &[&[2, 0, 0, length], &*hello].concat())
}

#[tokio::test]
async fn tls_before_1_2_is_refused() {
    const HANDSHAKE_FAILURE: u8 = 40;
    const PROTOCOL_VERSION: u8 = 70;
    let sender = hasty();
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
            record(21, 1, &[2, PROTOCOL_VERSION]),
        ),
        (
            "an alert: no common cipher",
            record(21, 3, &[2, HANDSHAKE_FAILURE]),
        ),
        ("plain HTTP", text("HTTP/1.1 400 Bad Request\n\n")),
        (
            "a record beyond any size",
            Write(vec![22, 3, 3, 0xff, 0xff]),
        ),
    ] {
        let receiver = Receiver::acting(vec![act, Wait]).await;
        let url = receiver
            .url
            .replace("http://127.0.0.1", "https://localhost");
        let answer = post(&sender, &url).await;
        assert_eq!(
            (answer.outcome, answer.status),
            (Outcome::Tls, None),
            "{name}"
        );
        receiver.is_left_alone().await;
    }
}

#[tokio::test]
async fn a_handshake_that_hangs_meets_the_deadline_of_the_connection() {
    for script in [vec![Wait], vec![Drip(vec![22, 3, 3, 0x3f, 0xff])]] {
        let receiver = Receiver::acting(script).await;
        let url = receiver
            .url
            .replace("http://127.0.0.1", "https://localhost");
        let answer = post(&hasty(), &url).await;
        assert_eq!((answer.outcome, answer.status), (Outcome::Connect, None));
        receiver.is_left_alone().await;
    }
}

/// With one place for all attempts: whatever a receiver does, it gives the place back.
#[tokio::test]
async fn no_receiver_keeps_its_place() {
    let world = support::World::with_places(1, 1).await;
    let hostile = [
        Receiver::acting(vec![Read, Wait]).await,
        Receiver::acting(vec![Read, text(YES), text("\n"), Drip(b".".to_vec())]).await,
        Receiver::acting(vec![Read, text(YES), Flood(vec![b'x'; 8192])]).await,
        Receiver::acting(vec![Read, Reset]).await,
        Receiver::acting(vec![Reset]).await,
    ];
    for receiver in &hostile {
        world.endpoint_at(&receiver.url).await;
    }
    let good = support::Receiver::answering(&[]).await;
    world.endpoint(&good, &[], None).await;
    let dispatch = world.commit_balances(2).await;
    let report = world.dispatch(&dispatch).await;
    assert_eq!((report.delivered, report.deferred), (2, 10));
    assert_eq!(good.requests().len(), 2);
    for seq in [1, 2] {
        let row = world.row(seq, &good).await.unwrap();
        assert_eq!(row.state, DeliveryState::Delivered);
    }
}
