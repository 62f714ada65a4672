//! A world to refresh in: sandbox bank over loopback HTTP, embedded DynamoDB and SQS, a driven clock.

use std::net::IpAddr;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::future::join_all;
use jiff::SignedDuration;
use okra_aws::{AwsConfig, Clock};
use okra_banks::{Connectors, ConsentSecret};
use okra_core::{
    bank::{BankConfig, BankLimits, ClientAuth, OAuthClient, Standard},
    consent::ConsentClock,
    feed::FeedEntry,
    history::{History, MAX_MONTHS},
    ids::{AccountId, AppId, BankId, CustomerId, RecordId, Seq, TransactionId},
    model::{BookingStatus, ByProduct, Direction, Product, TransactionFacts, date_of},
    money::{Currency, Money},
    plan::{Chunk, DueEntry, Pace, Requested, plan},
    schedule::{DueKey, Interval, Slot, Tick},
};
use okra_emulator::{Emulator, Fate, QueueSpec, Service};
use okra_queue::{DeliverMessage, Dispatch, FetchMessage, Queue, QueueUrls, Queues};
use okra_refresh::{
    ChunkReport, Observer, Outcome, RefreshError, Refreshed, Refresher, TickReport,
    history::HistoryOutcome, seal_client_secret,
};
use okra_sandbox::{
    Bank, CLIENT_ID, CLIENT_SECRET, Faults, LoginId, NewLogin, Options, Place, TOKEN_PATH, Target,
    TokenTerms, Volume,
};
use okra_store::{
    Account, Consent, ConsentAccount, Consistency, Head, NewRecord, RecordStatus, Store,
};
use okra_vault::{Vault, fresh_nonce};

pub(crate) const BANK: BankId = BankId::from_bytes([0xba; 12]);
const APP: AppId = AppId::from_bytes([0xa0; 12]);

pub(crate) struct World {
    pub(crate) bank: Bank,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    emulator: Emulator,
    pub(crate) queues: Queues,
    connectors: Connectors,
    vault: Arc<Vault>,
    pub(crate) refresher: Refresher,
    last: Arc<Last>,
}

pub(crate) struct Linked {
    pub(crate) login: LoginId,
    pub(crate) key: DueKey,
    accounts: Vec<ConsentAccount>,
}

impl Linked {
    pub(crate) fn place(&self, account: &str) -> Place {
        Place {
            login: self.login,
            account: account.to_owned(),
        }
    }

    pub(crate) fn accounts(&self) -> Vec<(AccountId, String)> {
        self.accounts
            .iter()
            .map(|it| (it.id, it.bank_account_id.clone()))
            .collect()
    }
}

/// Keeps the outcome of the last record refreshed.
#[derive(Default)]
struct Last(std::sync::Mutex<Option<Outcome>>);

impl Observer for Last {
    fn refreshed(&self, refreshed: &Refreshed) {
        *self.0.lock().unwrap() = Some(refreshed.outcome.clone());
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Options::default(), Standard::Obie31).await
    }

    pub(crate) async fn with(options: Options, standard: Standard) -> Self {
        let clock = Clock::driven("2026-03-15T12:00:30Z".parse().unwrap());
        let now = {
            let clock = clock.clone();
            Arc::new(move || clock.now())
        };
        let bank = Bank::memory(options, now.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = bank.router();
        tokio::spawn(async move { axum::serve(listener, router).await });

        let emulator = Emulator::memory(clock.clone()).unwrap();
        emulator
            .create_queues(&["fetch", "priority", "deliver"].map(QueueSpec::new))
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
        let connectors = Connectors::new(okra_aws::rustls_client_config()).unwrap();
        let vault = Arc::new(Vault::new([1; 32]));
        store
            .put_bank(&BankConfig {
                id: BANK,
                name: "Sandbox".into(),
                slug: "sandbox".into(),
                standard,
                base_url: format!("http://{address}{}", Bank::base_path(standard)),
                financial_id: None,
                oauth: Some(OAuthClient {
                    token_url: format!("http://{address}{TOKEN_PATH}"),
                    authorization_url: None,
                    client_id: CLIENT_ID.into(),
                    client_auth: ClientAuth::ClientSecretBasic,
                    sealed_secret: Some(seal_client_secret(&vault, BANK, CLIENT_SECRET).unwrap()),
                }),
                country: "NG".into(),
                limits: BankLimits {
                    records_per_second: 1000,
                    ..BankLimits::default()
                },
            })
            .await
            .unwrap();
        let last = Arc::new(Last::default());
        let refresher = Refresher::new(
            store.clone(),
            queues.clone(),
            connectors.clone(),
            Arc::clone(&vault),
            clock.clone(),
            None,
        )
        .observed_by(last.clone());
        Self {
            bank,
            store,
            clock,
            emulator,
            queues,
            connectors,
            vault,
            refresher,
            last,
        }
    }

    pub(crate) async fn link(&self, accounts: u8, volume: Volume) -> Linked {
        self.link_on(Interval::Daily, accounts, volume).await
    }

    pub(crate) async fn link_on(&self, interval: Interval, accounts: u8, volume: Volume) -> Linked {
        let login = NewLogin {
            accounts,
            volume,
            ..NewLogin::default()
        };
        self.link_login(interval, login, MAX_MONTHS).await
    }

    /// Links a login with a year of history.
    pub(crate) async fn link_with_history(&self, accounts: u8) -> Linked {
        self.link_with_months(accounts, MAX_MONTHS).await
    }

    /// Links a login with a year of history, of which so many months are wanted.
    pub(crate) async fn link_with_months(&self, accounts: u8, months: u8) -> Linked {
        let login = NewLogin {
            accounts,
            history_days: 365,
            history_rows: Some(400),
            ..NewLogin::default()
        };
        self.link_login(Interval::Daily, login, months).await
    }

    async fn link_login(&self, interval: Interval, login: NewLogin, months: u8) -> Linked {
        let accounts = login.accounts;
        let login = self.bank.create_login(login).unwrap().id;
        let secret = ConsentSecret::bearer(self.bank.link(login).unwrap().into_string());
        let config = self.store.bank(BANK).await.unwrap().unwrap();
        let now = self.clock.now();
        let facts = self
            .connectors
            .accounts(&config, &secret, now)
            .await
            .unwrap();
        assert_eq!(facts.len(), usize::from(accounts));

        let record = RecordId::derive(&[&login.0.to_be_bytes()]);
        let customer = CustomerId::derive(&[record.as_bytes()]);
        let sealed = serde_json::to_vec(&secret).unwrap();
        let sealed = self
            .vault
            .seal(record.as_bytes(), &sealed, fresh_nonce().unwrap())
            .unwrap();
        let accounts: Vec<Account> = facts
            .into_iter()
            .map(|facts| Account {
                id: AccountId::of(customer, record, &facts.bank_account_id),
                record,
                app: APP,
                customer,
                bank: BANK,
                facts,
                balance: None,
                balance_seq: Seq::ZERO,
                balance_at: None,
                checks: okra_store::Checks::default(),
                drift_told: false,
                states: ByProduct::default(),
                created_at: now,
                last_updated: now,
            })
            .collect();
        let consent = Consent {
            clock: None,
            record,
            app: Some(APP),
            bank: BANK,
            sealed,
            accounts: accounts
                .iter()
                .map(|it| ConsentAccount {
                    id: it.id,
                    bank_account_id: it.facts.bank_account_id.clone(),
                })
                .collect(),
        };
        let schedule = ByProduct {
            balance: Some(interval),
            transactions: Some(interval),
        };
        let marks = ByProduct {
            balance: Some(Default::default()),
            transactions: Some(Default::default()),
        };
        let head = Head {
            record,
            app: APP,
            customer,
            bank: BANK,
            seq: Seq::ZERO,
            marks: ByProduct::default(),
            state: Seq::ZERO,
            schedule,
            status: RecordStatus::Active,
            first_pull_done: false,
            rows: Some(0),
            options: serde_json::json!({}),
            meta: serde_json::Map::new(),
            months,
            created_at: now,
            last_changed_at: now,
        };
        let key = head.due_key(interval);
        let accounts_linked = consent.accounts.clone();
        let due = vec![DueEntry {
            key,
            marks,
            state: Some(Seq::ZERO),
            trouble: None,
        }];
        self.store
            .create_record(&NewRecord {
                head,
                consent,
                accounts,
                due,
                entries: Vec::new(),
            })
            .await
            .unwrap();
        Linked {
            login,
            key,
            accounts: accounts_linked,
        }
    }

    /// Says when a record's consent ends.
    pub(crate) async fn ends_in(&self, linked: &Linked, days: i64) {
        let record = linked.key.record;
        let consent = self.store.consent(record, Consistency::Strong).await;
        let now = self.clock.now();
        let expires_at = now + SignedDuration::from_hours(24 * days);
        let consent = Consent {
            clock: Some(ConsentClock::starting(expires_at, now)),
            ..consent.unwrap().unwrap()
        };
        self.store.put_consent(&consent).await.unwrap();
    }

    /// What goes wrong at the bank for a record's login alone.
    pub(crate) fn spoil(&self, linked: &Linked, faults: Faults) {
        let target = Target::Login(linked.login);
        self.bank.set_faults(target, faults).unwrap();
    }

    /// How far the history of a record has come.
    pub(crate) async fn history(&self, linked: &Linked) -> History {
        let record = linked.key.record;
        let history = self.store.history(record, Consistency::Strong).await;
        history.unwrap().unwrap()
    }

    /// Another policy of the bank, once it is known everywhere.
    pub(crate) async fn limit(&self, change: impl FnOnce(&mut BankLimits)) {
        let mut bank = self.store.bank(BANK).await.unwrap().unwrap();
        change(&mut bank.limits);
        self.store.put_bank(&bank).await.unwrap();
        self.pass(61);
    }

    /// A refresh that the app asked for.
    pub(crate) async fn refresh_on_demand(&self, linked: &Linked) -> Outcome {
        self.refresh_for(linked, None).await
    }

    /// A refresh that the app asked for, maybe while its user is there.
    pub(crate) async fn refresh_for(&self, linked: &Linked, user: Option<IpAddr>) -> Outcome {
        self.refresh_of(linked, None, user).await
    }

    /// A refresh of transactions alone, as where balances are on another interval.
    pub(crate) async fn refresh_transactions(&self, linked: &Linked) -> Outcome {
        let product = Some(Product::Transactions);
        self.refresh_of(linked, product, None).await
    }

    async fn refresh_of(
        &self,
        linked: &Linked,
        product: Option<Product>,
        user: Option<IpAddr>,
    ) -> Outcome {
        self.tick_clock();
        let entry = self.store.due_entry(linked.key, Consistency::Strong).await;
        let mut entry = entry.unwrap().unwrap();
        if product == Some(Product::Transactions) {
            entry.marks.balance = None;
        }
        let chunk = Chunk {
            id: "on-demand".into(),
            bank: BANK,
            requested: Requested::OnDemand { product, user },
            not_after: self.clock.now(),
            delay_s: 0,
            again: 0,
            records: vec![entry],
        };
        self.refresher.chunk(chunk, false).await.unwrap();
        self.last.0.lock().unwrap().take().unwrap()
    }

    /// Puts other tokens in the place of a record's.
    pub(crate) async fn give(&self, linked: &Linked, secret: &ConsentSecret) {
        let record = linked.key.record;
        let consent = self.store.consent(record, Consistency::Strong).await;
        let plain = serde_json::to_vec(secret).unwrap();
        let nonce = fresh_nonce().unwrap();
        let consent = Consent {
            sealed: self.vault.seal(record.as_bytes(), &plain, nonce).unwrap(),
            ..consent.unwrap().unwrap()
        };
        self.store.put_consent(&consent).await.unwrap();
    }

    /// Gives a record tokens that end.
    pub(crate) async fn give_ending(&self, linked: &Linked, terms: TokenTerms) -> ConsentSecret {
        let tokens = self.bank.issue(linked.login, terms).unwrap();
        let mut secret = ConsentSecret::bearer(tokens.access_token.into_string());
        secret.refresh_token = Some(tokens.refresh_token.into_string());
        let life = SignedDuration::from_secs(tokens.expires_in.into());
        secret.expires_at = Some(self.clock.now() + life);
        self.give(linked, &secret).await;
        secret
    }

    /// The tokens of a record as they are stored.
    pub(crate) async fn kept(&self, linked: &Linked) -> ConsentSecret {
        let record = linked.key.record;
        let consent = self.store.consent(record, Consistency::Strong).await;
        let sealed = consent.unwrap().unwrap().sealed;
        let opened = self.vault.open(record.as_bytes(), &sealed).unwrap();
        serde_json::from_slice(&opened).unwrap()
    }

    /// It is so many days after the beginning.
    pub(crate) fn go_to_day(&self, day: i64) {
        let begun: jiff::Timestamp = "2026-03-15T12:01:00Z".parse().unwrap();
        self.clock.set(begun + SignedDuration::from_hours(24 * day));
    }

    /// Time goes on by so many seconds.
    pub(crate) fn pass(&self, seconds: i64) {
        self.clock
            .set(self.clock.now() + SignedDuration::from_secs(seconds));
    }

    /// Time goes on by a second: banks and commits are told apart by it.
    pub(crate) fn tick_clock(&self) {
        self.clock
            .set(self.clock.now() + SignedDuration::from_secs(1));
    }

    async fn chunk(&self, linked: &Linked, redelivered: bool) -> Result<Outcome, RefreshError> {
        self.tick_clock();
        let entry = self
            .store
            .due_entry(linked.key, Consistency::Strong)
            .await?
            .unwrap();
        let at = self.clock.now();
        let tick = Tick {
            interval: linked.key.interval,
            at,
        };
        let chunk = Chunk {
            id: "test".into(),
            bank: BANK,
            requested: Requested::Scheduled { tick },
            not_after: at,
            delay_s: 0,
            again: 0,
            records: vec![entry],
        };
        let report = self.refresher.chunk(chunk, redelivered).await?;
        assert_ne!(report, ChunkReport::default());
        if report.held > 0 {
            return Ok(Outcome::Held);
        }
        Ok(self.last.0.lock().unwrap().take().unwrap())
    }

    pub(crate) async fn try_refresh(&self, linked: &Linked) -> Result<Outcome, RefreshError> {
        self.chunk(linked, false).await
    }

    pub(crate) async fn refresh(&self, linked: &Linked) -> Outcome {
        self.chunk(linked, false).await.unwrap()
    }

    pub(crate) async fn redeliver(&self, linked: &Linked) -> Outcome {
        self.chunk(linked, true).await.unwrap()
    }

    /// Refreshes everything that is on one minute, as the chunks of a tick.
    pub(crate) async fn refresh_all(&self) -> ChunkReport {
        self.tick_clock();
        let tick = Tick {
            interval: Interval::OneMinute,
            at: self.clock.now(),
        };
        let due = self.store.due(tick.interval, Slot(0)).await.unwrap();
        let chunks = plan(tick, due, |_| Pace::of(1_000_000)).chunks;
        let work = chunks
            .into_iter()
            .map(|chunk| self.refresher.chunk(chunk, false));
        let mut all = ChunkReport::default();
        for report in join_all(work).await {
            all += report.unwrap();
        }
        all
    }

    /// A tick of the minute the clock is in, `shift_s` seconds away.
    pub(crate) async fn tick(&self, interval: Interval, shift_s: i64) -> TickReport {
        let at = self.clock.now() + SignedDuration::from_secs(shift_s);
        self.refresher.tick(Tick { interval, at }).await.unwrap()
    }

    /// Breaks one effect until it is mended, as a crash before it would.
    pub(crate) fn break_effect(&self, effect: &str) {
        let effect = effect.to_owned();
        let dispatched = AtomicBool::new(false);
        self.emulator.inject(move |service, operation| {
            if service == Service::Sqs && operation == "SendMessageBatch" {
                dispatched.store(true, Ordering::SeqCst);
                return if effect == "dispatch" {
                    Fate::Fail
                } else {
                    Fate::Pass
                };
            }
            // The commit is a transaction; what else is written is projected before the dispatch, and
            // the due entry advanced after it.
            let writes = matches!(operation, "PutItem" | "UpdateItem");
            let now = if dispatched.load(Ordering::SeqCst) {
                "advance"
            } else {
                "project"
            };
            if writes && effect == now {
                Fate::Fail
            } else {
                Fate::Pass
            }
        });
    }

    pub(crate) fn mend(&self) {
        self.emulator.inject(|_, _| Fate::Pass);
    }

    pub(crate) async fn head(&self, linked: &Linked) -> Head {
        self.store
            .head(linked.key.record, Consistency::Strong)
            .await
            .unwrap()
            .unwrap()
    }

    pub(crate) async fn feed(&self, linked: &Linked) -> Vec<FeedEntry> {
        self.store
            .feed(linked.key.record, Seq::ZERO, 1000, Consistency::Strong)
            .await
            .unwrap()
    }

    pub(crate) async fn stored(
        &self,
        account: AccountId,
    ) -> Vec<(TransactionId, TransactionFacts)> {
        let from = jiff::civil::date(2000, 1, 1);
        let rows = self
            .store
            .transactions(account, from, None, Consistency::Strong)
            .await
            .unwrap();
        let mut rows: Vec<_> = rows
            .into_iter()
            .map(|row| (row.transaction.id, row.transaction.facts))
            .collect();
        rows.sort_by_key(|(id, _)| *id);
        rows
    }

    /// Makes the steps of histories that are enqueued, as the fetch function does, until there are none.
    /// A step that fails is received again.
    pub(crate) async fn pull_histories(&self) -> Vec<HistoryOutcome> {
        let (mut outcomes, mut idle) = (Vec::new(), 0);
        while idle < 40 {
            let received = self.queues.receive(Queue::Fetch, 10, 0).await.unwrap();
            if received.is_empty() {
                self.pass(60);
                idle += 1;
                continue;
            }
            idle = 0;
            for message in received {
                let FetchMessage::HistoryV1(step) = serde_json::from_str(&message.body).unwrap()
                else {
                    panic!("{message:?}")
                };
                self.tick_clock();
                let again = message.attributes["ApproximateReceiveCount"] != "1";
                if let Ok(outcome) = self.refresher.history(step, again).await {
                    outcomes.push(outcome);
                    let receipts = [message.receipt];
                    self.queues.delete(Queue::Fetch, &receipts).await.unwrap();
                } else {
                    self.mend();
                }
            }
        }
        outcomes
    }

    /// Loses the steps of histories that are enqueued; how many.
    pub(crate) async fn lose_histories(&self) -> usize {
        let received = self.queues.receive(Queue::Fetch, 10, 0).await.unwrap();
        let receipts: Vec<String> = received.into_iter().map(|it| it.receipt).collect();
        if !receipts.is_empty() {
            self.queues.delete(Queue::Fetch, &receipts).await.unwrap();
        }
        receipts.len()
    }

    /// The bank's rows from a date on.
    pub(crate) fn shown_since(
        &self,
        linked: &Linked,
        account: &str,
        since: jiff::civil::Date,
    ) -> Vec<(Option<String>, i64, BookingStatus, String)> {
        let mut rows: Vec<_> = self
            .bank
            .rows(&linked.place(account))
            .unwrap()
            .into_iter()
            .filter(|row| date_of(row.dated) >= since)
            .map(|row| {
                let amount = Money::parse(&row.amount, Currency::NGN).unwrap();
                let minor = match row.direction {
                    Direction::Credit => amount.minor,
                    Direction::Debit => -amount.minor,
                };
                (row.transaction_id, minor, row.status, row.text)
            })
            .collect();
        rows.sort();
        rows
    }

    /// What was sent to the deliver queue since the last call.
    pub(crate) async fn take_dispatches(&self) -> Vec<Dispatch> {
        let mut dispatches = Vec::new();
        loop {
            let received = self.queues.receive(Queue::Deliver, 10, 0).await.unwrap();
            if received.is_empty() {
                return dispatches;
            }
            let receipts: Vec<String> = received.iter().map(|it| it.receipt.clone()).collect();
            self.queues.delete(Queue::Deliver, &receipts).await.unwrap();
            for message in received {
                match serde_json::from_str(&message.body).unwrap() {
                    DeliverMessage::DispatchV1(dispatch) => dispatches.push(dispatch),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}
