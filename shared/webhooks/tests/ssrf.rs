//! Customers' URLs and names never lead into our own network. Addresses are classified and refused;
//! nothing but loopback is dialled here.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
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
    ids::{EventId, RecordId, Seq},
    retry::Outcome,
};
use okra_webhooks::{AddressPolicy, Limits, Lookup, Message, SECRET_BYTES, Sender, SigningSecrets};

/// Answers the questions about names from a script: one list of addresses after the other, the last
/// one for ever. No list is an error.
struct Script {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Script {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|text| text.parse().unwrap()).collect();
        Arc::new(Self {
            answers: answers.iter().map(parse).collect(),
            asked: AtomicUsize::new(0),
        })
    }
}

impl Lookup for Script {
    fn lookup<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let at = self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self
            .answers
            .get(at)
            .or_else(|| self.answers.last())
            .cloned();
        Box::pin(async move { answer.ok_or_else(|| io::ErrorKind::Other.into()) })
    }
}

/// Never answers.
struct Hangs;

impl Lookup for Hangs {
    fn lookup<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(std::future::pending())
    }
}

fn sender(lookup: Arc<dyn Lookup>, policy: AddressPolicy) -> Sender {
    let limits = Limits {
        resolve: Duration::from_millis(50),
        ..Limits::default()
    };
    Sender::resolving(lookup, okra_aws::rustls_client_config(), policy, limits).unwrap()
}

async fn post(sender: &Sender, url: &str) -> Outcome {
    let message = Message {
        url,
        event: &EventId::of(RecordId::from_bytes([1; 12]), Seq(1)),
        seq: Seq(1),
        attempt: 1,
        body: Bytes::from_static(b"{}"),
        secrets: &SigningSecrets::fresh(&[0; SECRET_BYTES]),
        bearer: None,
        sent_at: Timestamp::UNIX_EPOCH,
    };
    sender.send(&message).await.unwrap().outcome
}

/// What comes of a name with these addresses where only public ones may be called. None of them is
/// ever dialled: lists that would pass are not for this helper.
async fn check(addresses: &[&str], expected: Outcome) {
    let sender = sender(Script::new(&[addresses]), AddressPolicy::PublicOnly);
    let outcome = post(&sender, "https://hook.example/").await;
    assert_eq!(outcome, expected, "{addresses:?}");
}

#[tokio::test]
async fn one_bad_address_among_good_ones_blocks_the_name() {
    for addresses in [
        &["127.0.0.1"][..],
        &["169.254.169.254"],
        &["8.8.8.8", "127.0.0.1"],
        &["127.0.0.1", "8.8.8.8"],
        &["2606:4700::1111", "8.8.8.8", "::ffff:10.0.0.1"],
        &["64:ff9b::7f00:1"],
    ] {
        check(addresses, Outcome::Blocked).await;
    }
}

#[tokio::test]
async fn a_local_run_still_calls_no_private_address() {
    let sender = sender(Script::new(&[&["10.0.0.1"]]), AddressPolicy::AllowLoopback);
    assert_eq!(
        post(&sender, "https://hook.example/").await,
        Outcome::Blocked
    );
}

#[tokio::test]
async fn a_name_without_an_answer_is_a_fault_of_dns() {
    check(&[], Outcome::Dns).await;
    let never: [Arc<dyn Lookup>; 2] = [Arc::new(Hangs), Script::new(&[])];
    for lookup in never {
        let sender = sender(lookup, AddressPolicy::PublicOnly);
        assert_eq!(post(&sender, "https://hook.example/").await, Outcome::Dns);
    }
}

#[tokio::test]
async fn a_name_with_endless_addresses_is_blocked() {
    let many: Vec<String> = (0..=255).map(|n| format!("8.8.8.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    check(&many, Outcome::Blocked).await;
}
