//! A linked record on an engine in memory, receivers that remember, and a clock that is driven.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    routing::any,
};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp, civil::date};
use okra_aws::{AwsConfig, Clock};
use okra_core::{
    bank::{BankConfig, BankLimits, Standard},
    feed::{BodyVersion, Change, FeedEntry, PayloadMode, Pull, Stream, TransactionsDiff},
    health::Health,
    ids::{
        AccountId, AppId, BankId, CustomerId, Day, EndpointId, RecordId, Seq, SubscriptionId,
        TransactionId,
    },
    model::{
        AccountFacts, BalanceFacts, BookingStatus, ByProduct, Direction, Environment, Product,
        Transaction, TransactionFacts,
    },
    money::{Currency, Money},
    pace::Rate,
    schedule::Interval,
};
use okra_emulator::{Emulator, QueueSpec};
use okra_queue::{DeliverMessage, Dispatch, Queue, QueueUrls, Queues};
use okra_store::{
    Account, App, Commit, Consent, ConsentAccount, Consistency, Customer, Delivery, DeliveryKey,
    Endpoint, Head, NewRecord, RecordStatus, Retry, Store, StoredHealth, Subscription,
};
use okra_vault::Vault;
use okra_webhooks::{
    AddressPolicy, Attempted, Bearer, DeliverConfig, DeliverError, Deliverer, DispatchReport,
    Limits, Observer, Random, SECRET_BYTES, Sender, SigningSecrets, endpoint_id,
};
use okra_wire::documented;
use tokio::net::TcpListener;

pub(crate) const APP: AppId = AppId::from_bytes([1; 12]);
pub(crate) const RECORD: RecordId = RecordId::from_bytes([2; 12]);
const CUSTOMER: CustomerId = CustomerId::from_bytes([3; 12]);
const BANK: BankId = BankId::from_bytes([4; 12]);
pub(crate) const ACCOUNT: AccountId = AccountId::from_bytes([5; 12]);

fn drop_it<T>(_: T) {}

/// When each world begins.
pub(crate) const START: &str = "2026-03-01T12:00:00Z";

/// How long one waits for a receiver that hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(1);

/// How long one waits for any other: machines that run tests are busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// What receivers were sent and have to answer.
#[derive(Default)]
struct Memory {
    requests: Vec<(HeaderMap, Bytes)>,
    /// Of these, what is not as documented.
    undocumented: Vec<String>,
    answers: VecDeque<Reply>,
    usual: u16,
}

/// A status, and a header that goes with it.
type Reply = (u16, Option<(&'static str, &'static str)>);

/// A webhook receiver on this host.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) url: String,
    memory: Arc<Mutex<Memory>>,
}

impl Receiver {
    /// Answers with these statuses in turn, then with 200. Status 0 is no answer at all.
    pub(crate) async fn answering(answers: &[u16]) -> Self {
        let replies: Vec<Reply> = answers.iter().map(|&status| (status, None)).collect();
        Self::replying(&replies).await
    }

    /// The same with headers.
    pub(crate) async fn replying(answers: &[Reply]) -> Self {
        let memory = Arc::new(Mutex::new(Memory {
            answers: answers.iter().copied().collect(),
            usual: 200,
            ..Memory::default()
        }));
        let shared = Arc::clone(&memory);
        let app = Router::new().fallback(any(move |headers: HeaderMap, body: Bytes| async move {
            let (status, header) = {
                let mut memory = shared.lock().unwrap();
                memory.undocumented.extend(documented::check(&body).err());
                memory.requests.push((headers, body));
                let usual = (memory.usual, None);
                memory.answers.pop_front().unwrap_or(usual)
            };
            if status == 0 {
                tokio::time::sleep(PATIENCE).await;
            }
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
            let mut headers = HeaderMap::new();
            if let Some((name, value)) = header {
                headers.insert(name, value.parse().unwrap());
            }
            (status, headers, format!("status {status}"))
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?token=t0ken", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, memory }
    }

    /// Answers with this status from now on, after the answers it was given before.
    pub(crate) fn usually(&self, status: u16) {
        self.memory.lock().unwrap().usual = status;
    }

    /// What it was sent so far, in the order of arrival.
    ///
    /// Each body is what is documented.
    pub(crate) fn requests(&self) -> Vec<(HeaderMap, Bytes)> {
        let memory = self.memory.lock().unwrap();
        assert_eq!(memory.undocumented, [""; 0]);
        memory.requests.clone()
    }

    /// How many requests it got so far.
    pub(crate) fn count(&self) -> usize {
        let memory = self.memory.lock().unwrap();
        assert_eq!(memory.undocumented, [""; 0]);
        memory.requests.len()
    }

    /// The value of a header in each request so far, sorted.
    pub(crate) fn headers(&self, name: &str) -> Vec<String> {
        let value = |(headers, _): &(HeaderMap, Bytes)| headers[name].to_str().unwrap().to_owned();
        let mut values: Vec<_> = self.requests().iter().map(value).collect();
        values.sort();
        values
    }
}

#[derive(Default)]
pub(crate) struct Log(Mutex<Vec<Attempted>>);

impl Observer for Log {
    fn attempted(&self, attempted: &Attempted) {
        self.0.lock().unwrap().push(attempted.clone());
    }
}

/// One app with one linked record.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) deliverer: Deliverer,
    pub(crate) clock: Clock,
    log: Arc<Log>,
    pub(crate) queues: Queues,
    pub(crate) emulator: Emulator,
    config: DeliverConfig,
    sender: Sender,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::at_rate(Rate::of(100_000)).await
    }

    pub(crate) async fn at_rate(rate: Rate) -> Self {
        Self::with(DeliverConfig {
            rate,
            ..DeliverConfig::new("https://okra.example")
        })
        .await
    }

    /// With places for so many attempts at once, in all and at one endpoint.
    pub(crate) async fn with_places(concurrency: usize, per_endpoint: usize) -> Self {
        let config = DeliverConfig {
            concurrency,
            per_endpoint,
            rate: Rate::of(100_000),
            ..DeliverConfig::new("https://okra.example")
        };
        Self::waiting(DEADLINE, config).await
    }

    /// With little patience, for receivers that hang.
    pub(crate) async fn impatient() -> Self {
        let config = DeliverConfig {
            rate: Rate::of(100_000),
            ..DeliverConfig::new("https://okra.example")
        };
        Self::waiting(DEADLINE, config).await
    }

    /// As one of so many processes.
    pub(crate) async fn among(processes: u32) -> Self {
        Self::with(DeliverConfig {
            processes,
            ..DeliverConfig::new("https://okra.example")
        })
        .await
    }

    async fn with(config: DeliverConfig) -> Self {
        Self::waiting(PATIENCE, config).await
    }

    async fn waiting(exchange: Duration, config: DeliverConfig) -> Self {
        let limits = Limits {
            exchange,
            connect: exchange,
            ..Limits::default()
        };
        let sender = Sender::new(
            okra_aws::rustls_client_config(),
            AddressPolicy::AllowLoopback,
            limits,
        )
        .unwrap();
        Self::sending_by(Clock::driven(START.parse().unwrap()), sender, config).await
    }

    /// With another clock, another way to receivers, and the pace of `config`.
    pub(crate) async fn sending_by(clock: Clock, sender: Sender, config: DeliverConfig) -> Self {
        let emulator = Emulator::memory(clock.clone()).unwrap();
        emulator
            .create_queues(&[QueueSpec::new("deliver")])
            .unwrap();
        let aws = AwsConfig::with_http_client(emulator.http_client());
        let store = Store::new(aws.dynamodb(), "okra");
        store.create_table().await.unwrap();
        let urls = QueueUrls {
            fetch: emulator.queue_url("fetch"),
            priority: emulator.queue_url("priority"),
            deliver: emulator.queue_url("deliver"),
        };
        let queues = Queues::new(aws.sqs(), urls);
        let log = Arc::new(Log::default());
        let deliverer = Deliverer::new(
            store.clone(),
            queues.clone(),
            Arc::new(Vault::new([9; 32])),
            sender.clone(),
            clock.clone(),
            config.clone(),
        )
        .observed_by(log.clone())
        .drawing_from(Random::seeded(0));
        let world = Self {
            store,
            deliverer,
            clock,
            log,
            queues,
            emulator,
            config,
            sender,
        };
        world.link().await;
        world
    }

    /// Another way to receivers.
    pub(crate) fn send_by(&mut self, sender: Sender) {
        self.sender = sender;
        self.restart(Random::seeded(0));
    }

    /// Another process in place of the one there was: it remembers nothing but what is in the table.
    pub(crate) fn restart(&mut self, random: Random) {
        self.deliverer = self.another(random);
    }

    /// Another process beside the one there is.
    pub(crate) fn another(&self, random: Random) -> Deliverer {
        Deliverer::new(
            self.store.clone(),
            self.queues.clone(),
            Arc::new(Vault::new([9; 32])),
            self.sender.clone(),
            self.clock.clone(),
            self.config.clone(),
        )
        .observed_by(self.log.clone())
        .drawing_from(random)
    }

    async fn link(&self) {
        let Self { store, .. } = self;
        let now = self.clock.now();
        let app = App {
            id: APP,
            name: "Ada's app".to_owned(),
            env: Environment::Sandbox,
            created_at: now,
            origins: vec![],
            public_key: None,
            rate: okra_store::DEFAULT_RATE,
        };
        store.put_app(&app).await.unwrap();
        let bank = BankConfig {
            id: BANK,
            name: "Guaranty Trust Bank".to_owned(),
            slug: "guaranty-trust-bank".to_owned(),
            standard: Standard::Obie31,
            base_url: "https://bank.example".to_owned(),
            financial_id: None,
            oauth: None,
            country: "NG".to_owned(),
            limits: BankLimits::default(),
        };
        store.put_bank(&bank).await.unwrap();
        let customer = Customer {
            id: CUSTOMER,
            app: APP,
            name: "Ada".to_owned(),
            email: Some("ada@example.com".to_owned()),
            blocked: false,
            created_at: now,
        };
        store.put_customer(&customer).await.unwrap();
        self.link_record(RECORD, ACCOUNT).await;
    }

    /// Links one more record of the customer, with one account.
    pub(crate) async fn link_record(&self, record: RecordId, account: AccountId) {
        let now = self.clock.now();
        let bank_account_id = "b-1".to_owned();
        let new = NewRecord {
            head: Head {
                record,
                app: APP,
                customer: CUSTOMER,
                bank: BANK,
                seq: Seq::ZERO,
                marks: ByProduct::default(),
                state: Seq::ZERO,
                schedule: ByProduct::default(),
                status: RecordStatus::Active,
                first_pull_done: false,
                rows: Some(0),
                options: serde_json::json!({ "user": 7 }),
                meta: serde_json::Map::new(),
                months: okra_core::history::MAX_MONTHS,
                created_at: now,
                last_changed_at: now,
            },
            consent: Consent {
                clock: None,
                record,
                app: Some(APP),
                bank: BANK,
                sealed: vec![1],
                accounts: vec![ConsentAccount {
                    id: account,
                    bank_account_id: bank_account_id.clone(),
                }],
            },
            accounts: vec![Account {
                id: account,
                record,
                app: APP,
                customer: CUSTOMER,
                bank: BANK,
                facts: AccountFacts {
                    bank_account_id,
                    name: "ADA TEST".to_owned(),
                    number: "0001112223".to_owned(),
                    kind: "SAVINGS".to_owned(),
                    currency: Currency::NGN,
                },
                balance: None,
                balance_seq: Seq::ZERO,
                balance_at: None,
                checks: okra_store::Checks::default(),
                drift_told: false,
                states: ByProduct::default(),
                created_at: now,
                last_updated: now,
            }],
            due: vec![],
            entries: vec![],
        };
        self.store.create_record(&new).await.unwrap();
    }

    /// Makes a receiver's URL an endpoint of the app; returns its signing secret.
    pub(crate) async fn endpoint(
        &self,
        receiver: &Receiver,
        products: &[Product],
        bearer: Option<&str>,
    ) -> String {
        self.make_endpoint(&receiver.url, products, bearer).await
    }

    /// Makes a URL an endpoint of the app.
    pub(crate) async fn endpoint_at(&self, url: &str) {
        self.make_endpoint(url, &[], None).await;
    }

    async fn make_endpoint(&self, url: &str, products: &[Product], bearer: Option<&str>) -> String {
        let id = endpoint_id(APP, url);
        let secrets = SigningSecrets::fresh(&[id.as_bytes()[0]; SECRET_BYTES]);
        let keyring = self.deliverer.keyring();
        let bearer = bearer.map(|token| {
            keyring
                .seal_bearer(id, &Bearer::new(token).unwrap())
                .unwrap()
        });
        let endpoint = Endpoint {
            id,
            app: APP,
            url: url.to_owned(),
            secrets: keyring.seal_secrets(id, &secrets).unwrap(),
            bearer,
            previous_until: None,
            products: products.to_vec(),
            events: Vec::new(),
            payload: PayloadMode::Full,
            version: BodyVersion::LATEST,
            ordered_since: None,
            rate: None,
            created_at: self.clock.now(),
        };
        self.store.put_endpoint(&endpoint).await.unwrap();
        secrets.current().to_owned()
    }

    /// Subscribes a receiver's URL to products of the record.
    pub(crate) async fn subscribe(&self, receiver: &Receiver, products: &[Product]) {
        let subscription = Subscription {
            id: SubscriptionId::derive(&[receiver.url.as_bytes()]),
            record: RECORD,
            products: products.to_vec(),
            interval: Interval::OneMinute,
            webhook_url: Some(receiver.url.clone()),
            created_at: self.clock.now(),
        };
        self.store.put_subscription(&subscription).await.unwrap();
    }

    /// Commits changes of the balance, and returns the dispatch that tells of them.
    pub(crate) async fn commit_balances(&self, count: u64) -> Dispatch {
        self.commit(count, Stream::Balance, balance).await
    }

    /// Commits one transaction more, and returns the dispatch that tells of it.
    pub(crate) async fn commit_transaction(&self) -> Dispatch {
        self.commit_transactions(1, "AIRTIME \u{20a6}").await
    }

    /// Commits one change with so many new transactions of this description.
    pub(crate) async fn commit_transactions(&self, rows: u64, description: &str) -> Dispatch {
        let row = |seq: Seq| {
            let day = Day::of(date(2026, 3, 1));
            let booked_at = "2026-03-01T00:00:00Z".parse().unwrap();
            Change::Transactions(TransactionsDiff {
                pull: Pull::Periodic,
                added: (0..rows)
                    .map(|n| Transaction {
                        id: TransactionId::new(
                            ACCOUNT,
                            day,
                            &[&seq.0.to_be_bytes(), &n.to_be_bytes()],
                        ),
                        facts: TransactionFacts {
                            bank_id: None,
                            status: BookingStatus::Booked,
                            direction: Direction::Debit,
                            amount: Money::new(12_50, Currency::NGN),
                            booked_at,
                            value_at: None,
                            description: description.to_owned(),
                            reference: None,
                            code: None,
                            balance_after: None,
                        },
                    })
                    .collect(),
                modified: vec![],
                removed: vec![],
                previous: std::collections::BTreeMap::new(),
            })
        };
        self.commit(1, Stream::Transactions, row).await
    }

    async fn commit(&self, count: u64, stream: Stream, change: impl Fn(Seq) -> Change) -> Dispatch {
        self.commit_to((RECORD, ACCOUNT), count, stream, change)
            .await
    }

    /// Commits changes of a record's account, and returns the dispatch that tells of them.
    pub(crate) async fn commit_to(
        &self,
        (record, account): (RecordId, AccountId),
        count: u64,
        stream: Stream,
        change: impl Fn(Seq) -> Change,
    ) -> Dispatch {
        let head = self
            .store
            .head(record, Consistency::Strong)
            .await
            .unwrap()
            .unwrap();
        let now = self.clock.now();
        let entries: Vec<_> = (1..=count)
            .map(|n| FeedEntry {
                record,
                seq: head.seq.plus(n),
                at: now,
                account: Some(account),
                change: change(head.seq.plus(n)),
            })
            .collect();
        let commit = Commit {
            head: &head,
            entries: &entries,
            marks: ByProduct::default(),
            status: None,
            history: None,
            now,
        };
        self.store.commit(commit).await.unwrap();
        Dispatch {
            record,
            from: head.seq.next(),
            to: head.seq.plus(count),
            stream,
        }
    }

    pub(crate) async fn dispatch(&self, dispatch: &Dispatch) -> DispatchReport {
        self.deliverer.dispatch(*dispatch).await.unwrap()
    }

    /// The row of an event's delivery to a receiver.
    pub(crate) async fn row(&self, seq: u64, receiver: &Receiver) -> Option<Delivery> {
        let entry = self.store.entry(RECORD, Seq(seq)).await.unwrap().unwrap();
        let key = DeliveryKey {
            endpoint: endpoint_id(APP, &receiver.url),
            at: entry.at,
            source: RECORD.into(),
            seq: Seq(seq),
        };
        self.store.delivery(&key).await.unwrap()
    }

    /// Has a receiver's endpoint told of these events alone.
    pub(crate) async fn narrow(&self, receiver: &Receiver, events: &[&str]) {
        let id = endpoint_id(APP, &receiver.url);
        let mut endpoint = self.store.endpoint(APP, id).await.unwrap().unwrap();
        endpoint.events = events.iter().map(|&name| name.to_owned()).collect();
        self.store.put_endpoint(&endpoint).await.unwrap();
    }

    /// Has an endpoint told in order from now on, or no longer.
    pub(crate) async fn order(&self, url: &str, ordered: bool) {
        let id = endpoint_id(APP, url);
        let mut endpoint = self.store.endpoint(APP, id).await.unwrap().unwrap();
        endpoint.ordered_since = ordered.then(|| self.clock.now());
        self.store.put_endpoint(&endpoint).await.unwrap();
    }

    /// Changes what is known of an endpoint's health.
    pub(crate) async fn change_health(
        &self,
        endpoint: EndpointId,
        change: impl FnOnce(&mut Health),
    ) {
        let mut stored = self.store.health(endpoint).await.unwrap();
        change(&mut stored.health);
        let now = self.clock.now();
        let put = self.store.put_health(APP, endpoint, &stored, &[], now);
        assert!(put.await.unwrap().is_some());
    }

    pub(crate) async fn health(&self, receiver: &Receiver) -> StoredHealth {
        let id = endpoint_id(APP, &receiver.url);
        self.store.health(id).await.unwrap()
    }

    pub(crate) async fn parked(&self, receiver: &Receiver) -> Vec<u64> {
        let id = endpoint_id(APP, &receiver.url);
        let parked = self.store.parked(id, 1000).await.unwrap();
        parked.iter().map(|key| key.seq.0).collect()
    }

    /// Handles what is in the queue now and what that enqueues, as the function does.
    pub(crate) async fn settle(&self) {
        for _ in 0..1000 {
            let messages = self.messages().await;
            if messages.is_empty() {
                return;
            }
            for message in messages {
                self.handle(message).await.unwrap();
            }
        }
        panic!("the queue never comes to rest");
    }

    pub(crate) async fn handle(&self, message: DeliverMessage) -> Result<(), DeliverError> {
        handle_by(&self.deliverer, message).await
    }

    /// Lets time pass in steps, handling the messages that become due in each.
    pub(crate) async fn pass(&self, whole: SignedDuration, step: SignedDuration) {
        let end = self.clock.now() + whole;
        while self.clock.now() < end {
            self.advance(step);
            Box::pin(self.settle()).await;
        }
    }

    /// Takes what is in the delivery queue now.
    pub(crate) async fn messages(&self) -> Vec<DeliverMessage> {
        const MAX_PER_RECEIVE: u8 = 10;
        let received = self
            .queues
            .receive(Queue::Deliver, MAX_PER_RECEIVE, 0)
            .await
            .unwrap();
        let receipts: Vec<_> = received
            .iter()
            .map(|message| message.receipt.clone())
            .collect();
        self.queues.delete(Queue::Deliver, &receipts).await.unwrap();
        received
            .iter()
            .map(|message| serde_json::from_str(&message.body).unwrap())
            .collect()
    }

    /// How many attempts were made.
    pub(crate) fn attempted(&self) -> usize {
        self.log.0.lock().unwrap().len()
    }

    /// The attempts but for the first `known`.
    pub(crate) fn attempts_after(&self, known: usize) -> Vec<Attempted> {
        self.log.0.lock().unwrap()[known..].to_vec()
    }

    pub(crate) fn attempts(&self) -> Vec<Attempted> {
        self.log.0.lock().unwrap().clone()
    }

    pub(crate) fn advance(&self, by: SignedDuration) {
        self.set(self.clock.now().checked_add(by).unwrap());
    }

    pub(crate) fn set(&self, at: Timestamp) {
        self.clock.set(at);
    }
}

impl World {
    /// Moves on to `due`, sweeps, and handles what the sweep wakes. The minutes before it are empty
    /// and not looked through.
    pub(crate) async fn sweep_at(&self, due: Timestamp) {
        let before = serde_json::json!({ "minute": Retry::minute_of(due) - 1 });
        self.store.put_state("sweep", &before).await.unwrap();
        self.set(due + SignedDuration::from_mins(1));
        let report = self.deliverer.sweep(self.clock.now()).await.unwrap();
        assert_eq!((report.woken, self.handle_retries().await), (1, 1));
    }

    /// Makes the attempts that messages ask for now; says how many messages there were.
    pub(crate) async fn handle_retries(&self) -> usize {
        let messages = self.messages().await;
        for message in &messages {
            match message {
                DeliverMessage::RetryV1(retry) => {
                    self.deliverer.retry(*retry).await.unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
        messages.len()
    }
}

/// A change of the balance: another at each place.
pub(crate) fn balance(seq: Seq) -> Change {
    let minor = i64::try_from(seq.0).unwrap() * 100;
    Change::Balance {
        before: None,
        after: BalanceFacts {
            available: Some(Money::new(minor, Currency::NGN)),
            ledger: Some(Money::new(minor, Currency::NGN)),
        },
    }
}

/// Handles a message as the function does.
pub(crate) async fn handle_by(by: &Deliverer, message: DeliverMessage) -> Result<(), DeliverError> {
    match message {
        DeliverMessage::DispatchV1(it) => by.dispatch(it).await.map(drop_it),
        DeliverMessage::RetryV1(it) => by.retry(it).await.map(drop_it),
        DeliverMessage::TendV1(it) => by.tend(it).await.map(drop_it),
        DeliverMessage::ResendV1(it) => by.resend(it).await.map(drop_it),
        DeliverMessage::PingV1(it) => by.ping(it).await,
        DeliverMessage::ReplayV1(it) => by.replay(it).await.map(drop_it),
        DeliverMessage::AppFeedV1(it) => by.app_feed(it).await.map(drop_it),
    }
}
