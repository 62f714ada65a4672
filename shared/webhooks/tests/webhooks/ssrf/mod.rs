//! Apps' URLs and names never lead into our own network. Addresses are classified and blocked; nothing but loopback is
//! dialled here.
//!
//! What is checked when a URL is registered is in `urls.txt`, what is checked when it is called in `addresses.txt`.
#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use jiff::Timestamp;
use okra_core::{
    delivery::retry::AttemptOutcome,
    model::ids::{EventId, RecordId, Seq},
};
use okra_webhooks::{
    AddressClass, AddressPolicy, AttemptLimits, HostLookup, SECRET_BYTES, SigningSecrets, UrlError,
    WebhookMessage, WebhookSender, check_url, classify_address,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// Answers the questions about names from a script: one list of addresses after the other, the last
/// one for ever. No list is an error.
struct ScriptedLookup {
    answers: Vec<Vec<IpAddr>>,
    lookups: AtomicUsize,
}

impl ScriptedLookup {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|text| text.parse().unwrap()).collect();
        Arc::new(Self {
            answers: answers.iter().map(parse).collect(),
            lookups: AtomicUsize::new(0),
        })
    }

    fn lookup_count(&self) -> usize {
        self.lookups.load(Ordering::SeqCst)
    }
}

impl HostLookup for ScriptedLookup {
    fn lookup_host<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let at = self.lookups.fetch_add(1, Ordering::SeqCst);
        let answer = self
            .answers
            .get(at)
            .or_else(|| self.answers.last())
            .cloned();
        Box::pin(async move { answer.ok_or_else(|| io::ErrorKind::Other.into()) })
    }
}

/// Never answers.
struct HangingLookup;

impl HostLookup for HangingLookup {
    fn lookup_host<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(std::future::pending())
    }
}

fn sender_with_lookup(lookup: Arc<dyn HostLookup>, policy: AddressPolicy) -> WebhookSender {
    let limits = AttemptLimits {
        resolve: Duration::from_millis(50),
        ..AttemptLimits::default()
    };
    WebhookSender::with_lookup(lookup, okra_aws::rustls_client_config(), policy, limits).unwrap()
}

async fn post_outcome(sender: &WebhookSender, url: &str) -> AttemptOutcome {
    let message = WebhookMessage {
        url,
        event_id: &EventId::for_record_entry(RecordId::from_bytes([1; 12]), Seq(1)),
        seq: Seq(1),
        attempt: 1,
        is_replay: false,
        missing_seqs: &[],
        body: Bytes::from_static(b"{}"),
        secrets: &SigningSecrets::from_entropy(&[0; SECRET_BYTES]),
        bearer: None,
        sent_at: Timestamp::UNIX_EPOCH,
    };
    sender.send_message(&message).await.unwrap().outcome
}

/// What comes of a name with these addresses where only public ones may be called. None of them is
/// ever dialled: lists that would pass are not for this helper.
async fn check_addresses(addresses: &[&str], expected: AttemptOutcome) {
    let sender = sender_with_lookup(ScriptedLookup::new(&[addresses]), AddressPolicy::PublicOnly);
    let outcome = post_outcome(&sender, "https://hook.example/").await;
    assert_eq!(outcome, expected, "{addresses:?}");
}

/// The columns of a table's lines, which stand two blanks or more apart.
fn table_rows(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    let columns = |line: &'static str| line.split("  ").map(str::trim);
    lines
        .map(move |line| columns(line).filter(|column| !column.is_empty()).collect())
        .filter(|columns: &Vec<_>| !columns.is_empty())
}

/// A spelling without its escapes.
fn unescape_text(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (character, length) = match rest.as_bytes().first() {
            Some(b't') => ('\t', 1),
            Some(b'n') => ('\n', 1),
            Some(b'r') => ('\r', 1),
            Some(b'\\') => ('\\', 1),
            Some(b'u') => {
                let end = rest.find('}').unwrap();
                let code = u32::from_str_radix(&rest[2..end], 16).unwrap();
                (char::from_u32(code).unwrap(), end + 1)
            }
            _ => panic!("no such escape: {text}"),
        };
        out.push(character);
        rest = &rest[length..];
    }
    out + rest
}

#[tokio::test]
async fn every_address_is_of_its_class() {
    let mut checked = 0;
    for row in table_rows(include_str!("addresses.txt")) {
        let address: IpAddr = row[0].parse().unwrap();
        let expected = match row[1] {
            "public" => AddressClass::Public,
            "loopback" => AddressClass::Loopback,
            "refused" => AddressClass::Blocked,
            class => panic!("no such class: {class}"),
        };
        let mut spellings = vec![address];
        if let IpAddr::V4(v4) = address {
            spellings.push(v4.to_ipv6_mapped().into());
        }
        for address in spellings {
            assert_eq!(classify_address(address), expected, "{row:?}");
            checked += 1;
            let literal = match address {
                IpAddr::V4(v4) => format!("https://{v4}/"),
                IpAddr::V6(v6) => format!("https://[{v6}]/"),
            };
            let registered = check_url(&literal, AddressPolicy::PublicOnly).err();
            assert_eq!(registered, Some(UrlError::IpLiteral), "{row:?}");
            if expected == AddressClass::Public {
                continue;
            }
            // A name that leads to it, and the address itself, are not called.
            let lookup = ScriptedLookup::new(&[&[address.to_string().as_str()]]);
            let sender = sender_with_lookup(lookup.clone(), AddressPolicy::PublicOnly);
            for url in ["https://hook.example/", &literal] {
                assert_eq!(
                    post_outcome(&sender, url).await,
                    AttemptOutcome::Blocked,
                    "{row:?}"
                );
            }
            assert_eq!(lookup.lookup_count(), 1, "nobody resolves an address");
        }
    }
    assert!(checked >= 120, "{checked} addresses");
}

#[test]
fn every_url_breaks_its_rule() {
    let mut checked = 0;
    for row in table_rows(include_str!("urls.txt")) {
        let url = unescape_text(row[0]);
        for (policy, expected) in [
            (AddressPolicy::PublicOnly, row[1]),
            (AddressPolicy::AllowLoopback, row[2]),
        ] {
            let refused = check_url(&url, policy).err();
            let rule = refused.map_or_else(|| "ok".to_owned(), |rule| format!("{rule:?}"));
            assert_eq!(rule, expected, "{policy:?} {url:?}");
            checked += 1;
        }
    }
    assert!(checked >= 240, "{checked} checks");
}

#[tokio::test]
async fn one_bad_address_among_good_ones_blocks_the_name() {
    for addresses in [
        &["8.8.8.8", "127.0.0.1"][..],
        &["127.0.0.1", "8.8.8.8"],
        &["8.8.8.8", "2606:4700::1111", "1.1.1.1", "10.0.0.1"],
        &["2606:4700::1111", "8.8.8.8", "::ffff:10.0.0.1"],
        &["2606:4700::1111", "fd00:ec2::254"],
        &["2606:4700::1111", "64:ff9b::7f00:1"],
    ] {
        check_addresses(addresses, AttemptOutcome::Blocked).await;
    }
}

#[tokio::test]
async fn a_name_without_addresses_is_a_dns_failure() {
    check_addresses(&[], AttemptOutcome::Dns).await;
    let never: [Arc<dyn HostLookup>; 2] = [Arc::new(HangingLookup), ScriptedLookup::new(&[])];
    for lookup in never {
        let sender = sender_with_lookup(lookup, AddressPolicy::PublicOnly);
        assert_eq!(
            post_outcome(&sender, "https://hook.example/").await,
            AttemptOutcome::Dns
        );
    }
}

#[tokio::test]
async fn a_name_with_endless_addresses_is_blocked() {
    let many: Vec<String> = (0..=255).map(|n| format!("8.8.8.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    check_addresses(&many, AttemptOutcome::Blocked).await;
}

/// A zone of the DNS, followed as a resolver follows it.
struct DnsZone(HashMap<&'static str, Vec<&'static str>>);

/// Aliases that a resolver follows at most.
const MAX_ALIASES: usize = 8;

impl HostLookup for DnsZone {
    fn lookup_host<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let mut name = name;
            for _ in 0..=MAX_ALIASES {
                let records = self.0.get(name).ok_or(io::ErrorKind::NotFound)?;
                match records.iter().map(|record| record.parse()).collect() {
                    Ok(addresses) => return Ok(addresses),
                    Err(_) => name = records[0],
                }
            }
            Err(io::ErrorKind::InvalidData.into())
        })
    }
}

#[tokio::test]
async fn an_alias_is_judged_by_its_end() {
    let zone = DnsZone(HashMap::from([
        ("alias.example", vec!["inner.example"]),
        ("inner.example", vec!["metadata.internal"]),
        ("metadata.internal", vec!["169.254.169.254"]),
        ("half.example", vec!["mixed.example"]),
        ("mixed.example", vec!["8.8.8.8", "::1"]),
        ("ring.example", vec!["gnir.example"]),
        ("gnir.example", vec!["ring.example"]),
        ("dangling.example", vec!["nothing.example"]),
    ]));
    let sender = sender_with_lookup(Arc::new(zone), AddressPolicy::PublicOnly);
    for (name, expected) in [
        ("alias.example", AttemptOutcome::Blocked),
        ("half.example", AttemptOutcome::Blocked),
        ("ring.example", AttemptOutcome::Dns),
        ("dangling.example", AttemptOutcome::Dns),
        ("unknown.example", AttemptOutcome::Dns),
    ] {
        let outcome = post_outcome(&sender, &format!("https://{name}/")).await;
        assert_eq!(outcome, expected, "{name}");
    }
}

/// A receiver on this host that says yes; its port, and how many connections and requests it saw.
async fn counting_receiver(keeps_alive: bool) -> (u16, Arc<[AtomicUsize; 2]>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen: Arc<[AtomicUsize; 2]> = Arc::default();
    let counts = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let seen = Arc::clone(&counts);
            seen[0].fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while connection.read(&mut request).await? > 0 {
                    seen[1].fetch_add(1, Ordering::SeqCst);
                    let close = if keeps_alive {
                        ""
                    } else {
                        "connection: close\r\n"
                    };
                    let yes = format!("HTTP/1.1 204 Yes\r\n{close}\r\n");
                    connection.write_all(yes.as_bytes()).await?;
                    if !keeps_alive {
                        break;
                    }
                }
                io::Result::Ok(())
            });
        }
    });
    (port, seen)
}

fn load_counts(seen: &[AtomicUsize; 2]) -> (usize, usize) {
    let [connections, requests] = seen;
    (
        connections.load(Ordering::SeqCst),
        requests.load(Ordering::SeqCst),
    )
}

// Loopback stands for the public internet here: in a local run it may be called, and a private
// address may not.

#[tokio::test]
async fn a_name_that_changes_its_mind_is_checked_each_time_it_is_resolved() {
    let (port, seen) = counting_receiver(false).await;
    let rebinding =
        ScriptedLookup::new(&[&["127.0.0.1"], &["10.0.0.1"], &["127.0.0.1", "10.0.0.1"]]);
    let sender = sender_with_lookup(rebinding.clone(), AddressPolicy::AllowLoopback);
    let url = format!("http://localhost:{port}/hook");
    assert_eq!(post_outcome(&sender, &url).await, AttemptOutcome::Ok);
    for _ in 0..2 {
        assert_eq!(post_outcome(&sender, &url).await, AttemptOutcome::Blocked);
    }
    assert_eq!((rebinding.lookup_count(), load_counts(&seen)), (3, (1, 1)));
}

#[tokio::test]
async fn what_is_dialled_is_what_was_checked() {
    let (port, seen) = counting_receiver(false).await;
    // Resolved twice for one attempt, it would lead elsewhere the second time.
    let rebinding = ScriptedLookup::new(&[&["127.0.0.1"], &["10.0.0.1"]]);
    let sender = sender_with_lookup(rebinding.clone(), AddressPolicy::AllowLoopback);
    let url = format!("http://localhost:{port}/hook");
    assert_eq!(post_outcome(&sender, &url).await, AttemptOutcome::Ok);
    assert_eq!((rebinding.lookup_count(), load_counts(&seen)), (1, (1, 1)));
}

#[tokio::test]
async fn a_connection_is_reused_only_for_the_host_it_was_checked_for() {
    let (port, seen) = counting_receiver(true).await;
    let rebinding = ScriptedLookup::new(&[&["127.0.0.1"], &["10.0.0.1"]]);
    let sender = sender_with_lookup(rebinding.clone(), AddressPolicy::AllowLoopback);
    let named = format!("http://localhost:{port}/hook");
    for _ in 0..3 {
        assert_eq!(post_outcome(&sender, &named).await, AttemptOutcome::Ok);
    }
    // The connection was checked, so what the name has become does not matter to it.
    assert_eq!((rebinding.lookup_count(), load_counts(&seen)), (1, (1, 3)));

    // A connection to the same address by another name is not the name's.
    let (port, seen) = counting_receiver(true).await;
    let addressed = format!("http://127.0.0.1:{port}/hook");
    let named = format!("http://localhost:{port}/hook");
    assert_eq!(post_outcome(&sender, &addressed).await, AttemptOutcome::Ok);
    assert_eq!(post_outcome(&sender, &named).await, AttemptOutcome::Blocked);
    assert_eq!((rebinding.lookup_count(), load_counts(&seen)), (2, (1, 1)));
}

#[tokio::test]
async fn a_local_run_still_calls_no_private_address() {
    let sender = sender_with_lookup(
        ScriptedLookup::new(&[&["10.0.0.1"]]),
        AddressPolicy::AllowLoopback,
    );
    for url in ["https://hook.example/", "http://localhost:9000/"] {
        assert_eq!(
            post_outcome(&sender, url).await,
            AttemptOutcome::Blocked,
            "{url}"
        );
    }
}

/// Where the child of [`no_proxy_of_the_environment_is_used`] posts to.
const CHILDS_URL: &str = "OKRA_TEST_URL_OF_A_CHILD";

#[tokio::test]
async fn no_proxy_of_the_environment_is_used() {
    let (port, seen) = counting_receiver(false).await;
    let (proxy, proxied) = counting_receiver(false).await;
    let proxy = format!("http://127.0.0.1:{proxy}");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "ssrf::a_child_posts", "--ignored"])
        .env(CHILDS_URL, format!("http://127.0.0.1:{port}/hook"));
    for name in ["http_proxy", "https_proxy", "all_proxy"] {
        child.env(name, &proxy).env(name.to_uppercase(), &proxy);
    }
    child.env_remove("no_proxy").env_remove("NO_PROXY");
    let output = tokio::task::spawn_blocking(move || child.output()).await;
    let output = output.unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        (load_counts(&seen), load_counts(&proxied)),
        ((1, 1), (0, 0))
    );
}

#[tokio::test]
#[ignore = "run by no_proxy_of_the_environment_is_used"]
async fn a_child_posts() {
    let Ok(url) = std::env::var(CHILDS_URL) else {
        return;
    };
    let sender = sender_with_lookup(ScriptedLookup::new(&[]), AddressPolicy::AllowLoopback);
    assert_eq!(post_outcome(&sender, &url).await, AttemptOutcome::Ok);
}
