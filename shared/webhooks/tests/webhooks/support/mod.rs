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
    delivery::endpoint_health::EndpointHealth,
    model::{
        bank::{BankConfig, BankLimits, BankStandard},
        ids::{
            AccountId, AppId, BankId, CustomerId, EndpointId, EpochDay, RecordId, Seq,
            SubscriptionId, TransactionId,
        },
        interval::Interval,
        money::{Currency, Money},
        snapshot::{
            AccountFacts, BalanceFacts, BookingStatus, ByProduct, Direction, Environment, Product,
            Transaction, TransactionFacts,
        },
    },
    resilience::rate_limiter::SendRate,
    sync::feed::{
        BodyVersion, Change, FeedEntry, FeedStream, FetchKind, PayloadMode, TransactionsDiff,
    },
};
use okra_emulator::{Emulator, QueueSpec};
use okra_queue::{DeliverMessage, FeedDispatch, Queue, QueueUrls, Queues};
use okra_store::{
    Account, App, Consent, ConsentAccount, Consistency, Customer, Delivery, DeliveryKey, Endpoint,
    NewRecord, RecordCommit, RecordHead, RecordStatus, RetryEntry, Store, StoredEndpointHealth,
    Subscription,
};
use okra_vault::Vault;
use okra_webhooks::{
    AddressPolicy, AttemptLimits, AttemptReport, BearerToken, DeliverConfig, DeliverError,
    Deliverer, DeliveryObserver, DispatchReport, JitterRandom, SECRET_BYTES, SigningSecrets,
    WebhookSender, endpoint_id,
};
use okra_wire::documented;
use tokio::net::TcpListener;

pub(crate) const APP: AppId = AppId::from_bytes([1; 12]);
pub(crate) const RECORD: RecordId = RecordId::from_bytes([2; 12]);
const CUSTOMER: CustomerId = CustomerId::from_bytes([3; 12]);
const BANK: BankId = BankId::from_bytes([4; 12]);
pub(crate) const ACCOUNT: AccountId = AccountId::from_bytes([5; 12]);

fn discard_value<T>(_: T) {}

/// When each world begins.
pub(crate) const START: &str = "2026-03-01T12:00:00Z";

/// How long one waits for a receiver that hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(1);

/// How long one waits for any other: machines that run tests are busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// What receivers were sent and have to answer.
#[derive(Default)]
struct ReceiverState {
    requests: Vec<(HeaderMap, Bytes)>,
    /// Of these, what is not as documented.
    undocumented: Vec<String>,
    scripted_replies: VecDeque<ScriptedReply>,
    default_status: u16,
}

/// A status, and a header that goes with it.
type ScriptedReply = (u16, Option<(&'static str, &'static str)>);

/// A webhook receiver on this host.
#[derive(Clone)]
pub(crate) struct TestReceiver {
    pub(crate) url: String,
    state: Arc<Mutex<ReceiverState>>,
}

impl TestReceiver {
    /// Answers with these statuses in turn, then with 200. Status 0 is no answer at all.
    pub(crate) async fn with_statuses(answers: &[u16]) -> Self {
        let replies: Vec<ScriptedReply> = answers.iter().map(|&status| (status, None)).collect();
        Self::with_replies(&replies).await
    }

    /// The same with headers.
    pub(crate) async fn with_replies(answers: &[ScriptedReply]) -> Self {
        let memory = Arc::new(Mutex::new(ReceiverState {
            scripted_replies: answers.iter().copied().collect(),
            default_status: 200,
            ..ReceiverState::default()
        }));
        let shared = Arc::clone(&memory);
        let app = Router::new().fallback(any(move |headers: HeaderMap, body: Bytes| async move {
            let (status, header) = {
                let mut memory = shared.lock().unwrap();
                memory
                    .undocumented
                    .extend(documented::check_documented_body(&body).err());
                memory.requests.push((headers, body));
                let usual = (memory.default_status, None);
                memory.scripted_replies.pop_front().unwrap_or(usual)
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
        Self { url, state: memory }
    }

    /// Answers with this status from now on, after the answers it was given before.
    pub(crate) fn set_default_status(&self, status: u16) {
        self.state.lock().unwrap().default_status = status;
    }

    /// What it was sent so far, in the order of arrival.
    ///
    /// Each body is what is documented.
    pub(crate) fn received_requests(&self) -> Vec<(HeaderMap, Bytes)> {
        let memory = self.state.lock().unwrap();
        assert_eq!(memory.undocumented, [""; 0]);
        memory.requests.clone()
    }

    /// How many requests it got so far.
    pub(crate) fn request_count(&self) -> usize {
        let memory = self.state.lock().unwrap();
        assert_eq!(memory.undocumented, [""; 0]);
        memory.requests.len()
    }

    /// The value of a header in each request so far, sorted.
    pub(crate) fn header_values(&self, name: &str) -> Vec<String> {
        let value = |(headers, _): &(HeaderMap, Bytes)| headers[name].to_str().unwrap().to_owned();
        let mut values: Vec<_> = self.received_requests().iter().map(value).collect();
        values.sort();
        values
    }
}

#[derive(Default)]
pub(crate) struct AttemptLog(Mutex<Vec<AttemptReport>>);

impl DeliveryObserver for AttemptLog {
    fn on_attempt(&self, attempted: &AttemptReport) {
        self.0.lock().unwrap().push(attempted.clone());
    }
}

/// One app with one linked record.
pub(crate) struct DeliveryWorld {
    pub(crate) store: Store,
    pub(crate) deliverer: Deliverer,
    pub(crate) clock: Clock,
    attempt_log: Arc<AttemptLog>,
    pub(crate) queues: Queues,
    pub(crate) emulator: Emulator,
    config: DeliverConfig,
    sender: WebhookSender,
}

impl DeliveryWorld {
    pub(crate) async fn new() -> Self {
        Self::with_rate(SendRate::from_per_second(100_000)).await
    }

    pub(crate) async fn with_rate(rate: SendRate) -> Self {
        Self::with_config(DeliverConfig {
            default_rate: rate,
            ..DeliverConfig::new("https://okra.example")
        })
        .await
    }

    /// With places for so many attempts at once, in all and at one endpoint.
    pub(crate) async fn with_concurrency(concurrency: usize, per_endpoint: usize) -> Self {
        let config = DeliverConfig {
            concurrency,
            endpoint_concurrency: per_endpoint,
            default_rate: SendRate::from_per_second(100_000),
            ..DeliverConfig::new("https://okra.example")
        };
        Self::with_exchange_limit(DEADLINE, config).await
    }

    /// With little patience, for receivers that hang.
    pub(crate) async fn with_short_deadline() -> Self {
        let config = DeliverConfig {
            default_rate: SendRate::from_per_second(100_000),
            ..DeliverConfig::new("https://okra.example")
        };
        Self::with_exchange_limit(DEADLINE, config).await
    }

    /// As one of so many processes.
    pub(crate) async fn with_processes(processes: u32) -> Self {
        Self::with_config(DeliverConfig {
            max_processes: processes,
            ..DeliverConfig::new("https://okra.example")
        })
        .await
    }

    async fn with_config(config: DeliverConfig) -> Self {
        Self::with_exchange_limit(PATIENCE, config).await
    }

    async fn with_exchange_limit(exchange: Duration, config: DeliverConfig) -> Self {
        let limits = AttemptLimits {
            exchange,
            connect: exchange,
            ..AttemptLimits::default()
        };
        let sender = WebhookSender::new(
            okra_aws::rustls_client_config(),
            AddressPolicy::AllowLoopback,
            limits,
        )
        .unwrap();
        Self::with_sender(Clock::manual_at(START.parse().unwrap()), sender, config).await
    }

    /// With another clock, another way to receivers, and the pace of `config`.
    pub(crate) async fn with_sender(
        clock: Clock,
        sender: WebhookSender,
        config: DeliverConfig,
    ) -> Self {
        let emulator = Emulator::in_memory(clock.clone()).unwrap();
        emulator
            .create_queues(&[QueueSpec::new("deliver")])
            .unwrap();
        let aws = AwsConfig::with_http_client(emulator.http_client());
        let store = Store::new(aws.dynamodb_client(), "okra");
        store.create_table().await.unwrap();
        let urls = QueueUrls {
            fetch: emulator.queue_url("fetch"),
            priority: emulator.queue_url("priority"),
            deliver: emulator.queue_url("deliver"),
        };
        let queues = Queues::new(aws.sqs_client(), urls);
        let log = Arc::new(AttemptLog::default());
        let deliverer = Deliverer::new(
            store.clone(),
            queues.clone(),
            Arc::new(Vault::new([9; 32])),
            sender.clone(),
            clock.clone(),
            config.clone(),
        )
        .with_observer(log.clone())
        .with_random(JitterRandom::from_seed(0));
        let world = Self {
            store,
            deliverer,
            clock,
            attempt_log: log,
            queues,
            emulator,
            config,
            sender,
        };
        world.link_customer().await;
        world
    }

    /// Another way to receivers.
    pub(crate) fn replace_sender(&mut self, sender: WebhookSender) {
        self.sender = sender;
        self.restart_process(JitterRandom::from_seed(0));
    }

    /// Another process in place of the one there was: it remembers nothing but what is in the table.
    pub(crate) fn restart_process(&mut self, random: JitterRandom) {
        self.deliverer = self.start_another_process(random);
    }

    /// Another process beside the one there is.
    pub(crate) fn start_another_process(&self, random: JitterRandom) -> Deliverer {
        Deliverer::new(
            self.store.clone(),
            self.queues.clone(),
            Arc::new(Vault::new([9; 32])),
            self.sender.clone(),
            self.clock.clone(),
            self.config.clone(),
        )
        .with_observer(self.attempt_log.clone())
        .with_random(random)
    }

    async fn link_customer(&self) {
        let Self { store, .. } = self;
        let now = self.clock.now();
        let app = App {
            id: APP,
            name: "Ada's app".to_owned(),
            environment: Environment::Sandbox,
            created_at: now,
            widget_origins: vec![],
            public_key: None,
            refreshes_per_minute: okra_store::DEFAULT_REFRESHES_PER_MINUTE,
        };
        store.put_app(&app).await.unwrap();
        let bank = BankConfig {
            id: BANK,
            name: "Guaranty Trust Bank".to_owned(),
            slug: "guaranty-trust-bank".to_owned(),
            standard: BankStandard::Obie31,
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
            is_blocked: false,
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
            head: RecordHead {
                record,
                app: APP,
                customer: CUSTOMER,
                bank: BANK,
                seq: Seq::ZERO,
                watermarks: ByProduct::default(),
                state_seq: Seq::ZERO,
                schedule: ByProduct::default(),
                status: RecordStatus::Active,
                first_fetch_done: false,
                transaction_count: Some(0),
                options: serde_json::json!({ "user": 7 }),
                meta: serde_json::Map::new(),
                backfill_months: okra_core::backfill::progress::MAX_BACKFILL_MONTHS,
                created_at: now,
                last_changed_at: now,
            },
            consent: Consent {
                consent_clock: None,
                record,
                app: Some(APP),
                bank: BANK,
                sealed_secret: vec![1],
                accounts: vec![ConsentAccount {
                    account_id: account,
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
                checks: okra_store::AccountChecks::default(),
                is_drift_reported: false,
                product_states: ByProduct::default(),
                created_at: now,
                last_updated: now,
            }],
            due_entries: vec![],
            feed_entries: vec![],
        };
        self.store.create_record(&new).await.unwrap();
    }

    /// Makes a receiver's URL an endpoint of the app; returns its signing secret.
    pub(crate) async fn add_endpoint(
        &self,
        receiver: &TestReceiver,
        products: &[Product],
        bearer: Option<&str>,
    ) -> String {
        self.put_endpoint(&receiver.url, products, bearer).await
    }

    /// Makes a URL an endpoint of the app.
    pub(crate) async fn add_endpoint_at(&self, url: &str) {
        self.put_endpoint(url, &[], None).await;
    }

    async fn put_endpoint(&self, url: &str, products: &[Product], bearer: Option<&str>) -> String {
        let id = endpoint_id(APP, url);
        let secrets = SigningSecrets::from_entropy(&[id.as_bytes()[0]; SECRET_BYTES]);
        let keyring = self.deliverer.keyring();
        let bearer = bearer.map(|token| {
            keyring
                .seal_bearer(id, &BearerToken::new(token).unwrap())
                .unwrap()
        });
        let endpoint = Endpoint {
            id,
            app: APP,
            url: url.to_owned(),
            sealed_secrets: keyring.seal_secrets(id, &secrets).unwrap(),
            sealed_bearer: bearer,
            previous_secret_until: None,
            products: products.to_vec(),
            events: Vec::new(),
            payload_mode: PayloadMode::Full,
            body_version: BodyVersion::LATEST,
            ordered_since: None,
            events_per_second: None,
            created_at: self.clock.now(),
        };
        self.store.put_endpoint(&endpoint).await.unwrap();
        secrets.current_secret().to_owned()
    }

    /// Subscribes a receiver's URL to products of the record.
    pub(crate) async fn subscribe_receiver(&self, receiver: &TestReceiver, products: &[Product]) {
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
    pub(crate) async fn commit_balances(&self, count: u64) -> FeedDispatch {
        self.commit_changes(count, FeedStream::Balance, balance_change)
            .await
    }

    /// Commits one transaction more, and returns the dispatch that tells of it.
    pub(crate) async fn commit_transaction(&self) -> FeedDispatch {
        self.commit_transactions(1, "AIRTIME \u{20a6}").await
    }

    /// Commits one change with so many new transactions of this description.
    pub(crate) async fn commit_transactions(&self, rows: u64, description: &str) -> FeedDispatch {
        let row = |seq: Seq| {
            let day = EpochDay::from_date(date(2026, 3, 1));
            let booked_at = "2026-03-01T00:00:00Z".parse().unwrap();
            Change::Transactions(TransactionsDiff {
                fetch_kind: FetchKind::Periodic,
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
                previous_seqs: std::collections::BTreeMap::new(),
            })
        };
        self.commit_changes(1, FeedStream::Transactions, row).await
    }

    async fn commit_changes(
        &self,
        count: u64,
        stream: FeedStream,
        change: impl Fn(Seq) -> Change,
    ) -> FeedDispatch {
        self.commit_to_record((RECORD, ACCOUNT), count, stream, change)
            .await
    }

    /// Commits changes of a record's account, and returns the dispatch that tells of them.
    pub(crate) async fn commit_to_record(
        &self,
        (record, account): (RecordId, AccountId),
        count: u64,
        stream: FeedStream,
        change: impl Fn(Seq) -> Change,
    ) -> FeedDispatch {
        let head = self
            .store
            .find_head(record, Consistency::Strong)
            .await
            .unwrap()
            .unwrap();
        let now = self.clock.now();
        let entries: Vec<_> = (1..=count)
            .map(|n| FeedEntry {
                record,
                seq: head.seq.plus(n),
                committed_at: now,
                account: Some(account),
                change: change(head.seq.plus(n)),
            })
            .collect();
        let commit = RecordCommit {
            head: &head,
            entries: &entries,
            watermarks: ByProduct::default(),
            status: None,
            backfill: None,
            now,
        };
        self.store.commit_record(commit).await.unwrap();
        FeedDispatch {
            record,
            first_seq: head.seq.next(),
            last_seq: head.seq.plus(count),
            stream,
        }
    }

    pub(crate) async fn deliver_dispatch(&self, dispatch: &FeedDispatch) -> DispatchReport {
        self.deliverer.deliver_dispatch(*dispatch).await.unwrap()
    }

    /// The row of an event's delivery to a receiver.
    pub(crate) async fn load_delivery(
        &self,
        seq: u64,
        receiver: &TestReceiver,
    ) -> Option<Delivery> {
        let entry = self
            .store
            .find_feed_entry(RECORD, Seq(seq))
            .await
            .unwrap()
            .unwrap();
        let key = DeliveryKey {
            endpoint: endpoint_id(APP, &receiver.url),
            committed_at: entry.committed_at,
            source: RECORD.into(),
            seq: Seq(seq),
        };
        self.store.find_delivery(&key).await.unwrap()
    }

    /// Has a receiver's endpoint told of these events alone.
    pub(crate) async fn set_event_filters(&self, receiver: &TestReceiver, events: &[&str]) {
        let id = endpoint_id(APP, &receiver.url);
        let mut endpoint = self.store.find_endpoint(APP, id).await.unwrap().unwrap();
        endpoint.events = events.iter().map(|&name| name.to_owned()).collect();
        self.store.put_endpoint(&endpoint).await.unwrap();
    }

    /// Has an endpoint told in order from now on, or no longer.
    pub(crate) async fn set_ordered(&self, url: &str, ordered: bool) {
        let id = endpoint_id(APP, url);
        let mut endpoint = self.store.find_endpoint(APP, id).await.unwrap().unwrap();
        endpoint.ordered_since = ordered.then(|| self.clock.now());
        self.store.put_endpoint(&endpoint).await.unwrap();
    }

    /// Changes what is known of an endpoint's health.
    pub(crate) async fn change_health(
        &self,
        endpoint: EndpointId,
        change: impl FnOnce(&mut EndpointHealth),
    ) {
        let mut stored = self.store.load_endpoint_health(endpoint).await.unwrap();
        change(&mut stored.health);
        let now = self.clock.now();
        let put = self
            .store
            .put_endpoint_health(APP, endpoint, &stored, &[], now);
        assert!(put.await.unwrap().is_some());
    }

    pub(crate) async fn load_health(&self, receiver: &TestReceiver) -> StoredEndpointHealth {
        let id = endpoint_id(APP, &receiver.url);
        self.store.load_endpoint_health(id).await.unwrap()
    }

    pub(crate) async fn parked_seqs(&self, receiver: &TestReceiver) -> Vec<u64> {
        let id = endpoint_id(APP, &receiver.url);
        let parked = self.store.list_parked_events(id, 1000).await.unwrap();
        parked.iter().map(|key| key.seq.0).collect()
    }

    /// Handles what is in the queue now and what that enqueues, as the function does.
    pub(crate) async fn handle_until_idle(&self) {
        for _ in 0..1000 {
            let messages = self.receive_messages().await;
            if messages.is_empty() {
                return;
            }
            for message in messages {
                self.handle_message(message).await.unwrap();
            }
        }
        panic!("the queue never comes to rest");
    }

    pub(crate) async fn handle_message(&self, message: DeliverMessage) -> Result<(), DeliverError> {
        handle_message_by(&self.deliverer, message).await
    }

    /// Lets time pass in steps, handling the messages that become due in each.
    pub(crate) async fn pass_time(&self, whole: SignedDuration, step: SignedDuration) {
        let end = self.clock.now() + whole;
        while self.clock.now() < end {
            self.advance_clock(step);
            Box::pin(self.handle_until_idle()).await;
        }
    }

    /// Takes what is in the delivery queue now.
    pub(crate) async fn receive_messages(&self) -> Vec<DeliverMessage> {
        const MAX_PER_RECEIVE: u8 = 10;
        let received = self
            .queues
            .receive_messages(Queue::Deliver, MAX_PER_RECEIVE, 0)
            .await
            .unwrap();
        let receipts: Vec<_> = received
            .iter()
            .map(|message| message.receipt.clone())
            .collect();
        self.queues
            .delete_messages(Queue::Deliver, &receipts)
            .await
            .unwrap();
        received
            .iter()
            .map(|message| serde_json::from_str(&message.body).unwrap())
            .collect()
    }

    /// How many attempts were made.
    pub(crate) fn attempt_count(&self) -> usize {
        self.attempt_log.0.lock().unwrap().len()
    }

    /// The attempts but for the first `known`.
    pub(crate) fn attempts_after(&self, known: usize) -> Vec<AttemptReport> {
        self.attempt_log.0.lock().unwrap()[known..].to_vec()
    }

    pub(crate) fn all_attempts(&self) -> Vec<AttemptReport> {
        self.attempt_log.0.lock().unwrap().clone()
    }

    pub(crate) fn advance_clock(&self, by: SignedDuration) {
        self.set_clock(self.clock.now().checked_add(by).unwrap());
    }

    pub(crate) fn set_clock(&self, at: Timestamp) {
        self.clock.set_time(at);
    }
}

impl DeliveryWorld {
    /// Moves on to `due`, sweeps, and handles what the sweep wakes. The minutes before it are empty
    /// and not looked through.
    pub(crate) async fn sweep_at(&self, due: Timestamp) {
        let before = serde_json::json!({ "minute": RetryEntry::minute_from(due) - 1 });
        self.store.put_system_state("sweep", &before).await.unwrap();
        self.set_clock(due + SignedDuration::from_mins(1));
        let report = self
            .deliverer
            .sweep_retries(self.clock.now())
            .await
            .unwrap();
        assert_eq!((report.retries_woken, self.handle_retries().await), (1, 1));
    }

    /// Makes the attempts that messages ask for now; says how many messages there were.
    pub(crate) async fn handle_retries(&self) -> usize {
        let messages = self.receive_messages().await;
        for message in &messages {
            match message {
                DeliverMessage::RetryV1(retry) => {
                    self.deliverer.attempt_retry(*retry).await.unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
        messages.len()
    }
}

/// A change of the balance: another at each place.
pub(crate) fn balance_change(seq: Seq) -> Change {
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
pub(crate) async fn handle_message_by(
    by: &Deliverer,
    message: DeliverMessage,
) -> Result<(), DeliverError> {
    match message {
        DeliverMessage::DispatchV1(it) => by.deliver_dispatch(it).await.map(discard_value),
        DeliverMessage::RetryV1(it) => by.attempt_retry(it).await.map(discard_value),
        DeliverMessage::MaintainEndpointV1(it) => by.maintain_endpoint(it).await.map(discard_value),
        DeliverMessage::RedeliverV1(it) => by.attempt_resend(it).await.map(discard_value),
        DeliverMessage::PingV1(it) => by.send_ping(it).await,
        DeliverMessage::ReplayV1(it) => by.advance_replay(it).await.map(discard_value),
        DeliverMessage::AppFeedV1(it) => by.deliver_app_feed(it).await.map(discard_value),
    }
}
