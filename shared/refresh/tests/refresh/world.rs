//! A world to refresh in: sandbox bank over loopback HTTP, embedded DynamoDB and SQS, a driven clock.

use std::net::IpAddr;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::future::join_all;
use jiff::SignedDuration;
use okra_aws::{AwsConfig, Clock};
use okra_connectors::{Connectors, ConsentSecret};
use okra_core::{
    backfill::progress::{Backfill, MAX_BACKFILL_MONTHS},
    model::{
        bank::{BankConfig, BankLimits, BankStandard, ClientAuth, OAuthClient},
        ids::{AccountId, AppId, BankId, CustomerId, RecordId, Seq, TransactionId},
        interval::{DueKey, Interval, Slot, Tick},
        money::{Currency, Money},
        snapshot::{BookingStatus, ByProduct, Direction, Product, TransactionFacts, utc_date},
    },
    schedule::{
        consent_clock::ConsentClock,
        plan::{BankRate, Chunk, DueEntry, RefreshTrigger, plan_tick},
    },
    sync::feed::FeedEntry,
};
use okra_emulator::{AwsService, CallFate, Emulator, QueueSpec};
use okra_queue::{DeliverMessage, FeedDispatch, FetchMessage, Queue, QueueUrls, Queues};
use okra_refresh::{
    ChunkReport, RefreshError, RefreshObserver, RefreshOutcome, RefreshReport, Refresher,
    TickReport, backfill::BackfillStepOutcome, seal_client_secret,
};
use okra_sandbox::{
    AccountAddress, CLIENT_ID, CLIENT_SECRET, FaultTarget, Faults, LoginId, NewLogin, SandboxBank,
    SandboxOptions, TOKEN_PATH, TokenTerms, Volume,
};
use okra_store::{
    Account, Consent, ConsentAccount, Consistency, NewRecord, RecordHead, RecordStatus, Store,
};
use okra_vault::{Vault, generate_nonce};

pub(crate) const TEST_BANK: BankId = BankId::from_bytes([0xba; 12]);
const TEST_APP: AppId = AppId::from_bytes([0xa0; 12]);

pub(crate) struct RefreshWorld {
    pub(crate) bank: SandboxBank,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    emulator: Emulator,
    pub(crate) queues: Queues,
    connectors: Connectors,
    vault: Arc<Vault>,
    pub(crate) refresher: Refresher,
    last_outcome: Arc<LastOutcome>,
}

pub(crate) struct LinkedRecord {
    pub(crate) login: LoginId,
    pub(crate) key: DueKey,
    accounts: Vec<ConsentAccount>,
}

impl LinkedRecord {
    pub(crate) fn sandbox_account(&self, account: &str) -> AccountAddress {
        AccountAddress {
            login: self.login,
            account_id: account.to_owned(),
        }
    }

    pub(crate) fn account_ids(&self) -> Vec<(AccountId, String)> {
        self.accounts
            .iter()
            .map(|it| (it.account_id, it.bank_account_id.clone()))
            .collect()
    }
}

/// Keeps the outcome of the last record refreshed.
#[derive(Default)]
struct LastOutcome(std::sync::Mutex<Option<RefreshOutcome>>);

impl RefreshObserver for LastOutcome {
    fn on_record_refreshed(&self, refreshed: &RefreshReport) {
        *self.0.lock().unwrap() = Some(refreshed.outcome.clone());
    }
}

impl RefreshWorld {
    pub(crate) async fn new() -> Self {
        Self::with_options(SandboxOptions::default(), BankStandard::Obie31).await
    }

    pub(crate) async fn with_options(options: SandboxOptions, standard: BankStandard) -> Self {
        let clock = Clock::manual_at("2026-03-15T12:00:30Z".parse().unwrap());
        let now = {
            let clock = clock.clone();
            Arc::new(move || clock.now())
        };
        let bank = SandboxBank::in_memory(options, now.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = bank.api_router();
        tokio::spawn(async move { axum::serve(listener, router).await });

        let emulator = Emulator::in_memory(clock.clone()).unwrap();
        emulator
            .create_queues(&["fetch", "priority", "deliver"].map(QueueSpec::new))
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
        let connectors = Connectors::new(okra_aws::rustls_client_config()).unwrap();
        let vault = Arc::new(Vault::new([1; 32]));
        store
            .put_bank(&BankConfig {
                id: TEST_BANK,
                name: "Sandbox".into(),
                slug: "sandbox".into(),
                standard,
                base_url: format!("http://{address}{}", SandboxBank::base_path(standard)),
                financial_id: None,
                oauth: Some(OAuthClient {
                    token_url: format!("http://{address}{TOKEN_PATH}"),
                    authorization_url: None,
                    client_id: CLIENT_ID.into(),
                    client_auth: ClientAuth::ClientSecretBasic,
                    sealed_secret: Some(
                        seal_client_secret(&vault, TEST_BANK, CLIENT_SECRET).unwrap(),
                    ),
                }),
                country: "NG".into(),
                limits: BankLimits {
                    records_per_second: 1000,
                    ..BankLimits::default()
                },
            })
            .await
            .unwrap();
        let last = Arc::new(LastOutcome::default());
        let refresher = Refresher::new(
            store.clone(),
            queues.clone(),
            connectors.clone(),
            Arc::clone(&vault),
            clock.clone(),
            None,
        )
        .with_observer(last.clone());
        Self {
            bank,
            store,
            clock,
            emulator,
            queues,
            connectors,
            vault,
            refresher,
            last_outcome: last,
        }
    }

    pub(crate) async fn link_record(&self, accounts: u8, volume: Volume) -> LinkedRecord {
        self.link_on_interval(Interval::Daily, accounts, volume)
            .await
    }

    pub(crate) async fn link_on_interval(
        &self,
        interval: Interval,
        accounts: u8,
        volume: Volume,
    ) -> LinkedRecord {
        let login = NewLogin {
            accounts,
            volume,
            ..NewLogin::default()
        };
        self.link_login_on_interval(interval, login, MAX_BACKFILL_MONTHS)
            .await
    }

    /// Links a login with a year of history.
    pub(crate) async fn link_with_year_of_rows(&self, accounts: u8) -> LinkedRecord {
        self.link_with_months(accounts, MAX_BACKFILL_MONTHS).await
    }

    /// Links a login with a year of history, of which so many months are wanted.
    pub(crate) async fn link_with_months(&self, accounts: u8, months: u8) -> LinkedRecord {
        let login = NewLogin {
            accounts,
            history_days: 365,
            history_rows: Some(400),
            ..NewLogin::default()
        };
        self.link_login_on_interval(Interval::Daily, login, months)
            .await
    }

    async fn link_login_on_interval(
        &self,
        interval: Interval,
        login: NewLogin,
        months: u8,
    ) -> LinkedRecord {
        self.link_login_at_bank(TEST_BANK, interval, login, months)
            .await
    }

    /// Links a new login on the shortest interval at a bank that its app added, which is the sandbox bank under another id.
    pub(crate) async fn link_at_new_bank(&self, bank: BankId) -> LinkedRecord {
        let config = self.store.find_bank(TEST_BANK).await.unwrap().unwrap();
        let config = BankConfig {
            id: bank,
            slug: format!("bank-{bank}"),
            ..config
        };
        let added = self.store.put_bank_of_app(TEST_APP, &config).await;
        assert!(added.unwrap());
        let interval = Interval::OneMinute;
        self.link_login_at_bank(bank, interval, NewLogin::default(), MAX_BACKFILL_MONTHS)
            .await
    }

    async fn link_login_at_bank(
        &self,
        bank: BankId,
        interval: Interval,
        login: NewLogin,
        months: u8,
    ) -> LinkedRecord {
        let accounts = login.accounts;
        let login = self.bank.create_login(login).unwrap().id;
        let secret =
            ConsentSecret::from_bearer_token(self.bank.link_login(login).unwrap().into_string());
        let config = self.store.find_bank(bank).await.unwrap().unwrap();
        let now = self.clock.now();
        let facts = self
            .connectors
            .fetch_accounts(&config, &secret, now)
            .await
            .unwrap();
        assert_eq!(facts.len(), usize::from(accounts));

        let record = RecordId::derive(&[&login.0.to_be_bytes()]);
        let customer = CustomerId::derive(&[record.as_bytes()]);
        let sealed = serde_json::to_vec(&secret).unwrap();
        let sealed = self
            .vault
            .seal_secret(record.as_bytes(), &sealed, generate_nonce().unwrap())
            .unwrap();
        let accounts: Vec<Account> = facts
            .into_iter()
            .map(|facts| Account {
                id: AccountId::for_bank_account(customer, record, &facts.bank_account_id),
                record,
                app: TEST_APP,
                customer,
                bank,
                facts,
                balance: None,
                balance_seq: Seq::ZERO,
                balance_at: None,
                checks: okra_store::AccountChecks::default(),
                is_drift_reported: false,
                product_states: ByProduct::default(),
                created_at: now,
                last_updated: now,
            })
            .collect();
        let consent = Consent {
            consent_clock: None,
            record,
            app: Some(TEST_APP),
            bank,
            sealed_secret: sealed,
            accounts: accounts
                .iter()
                .map(|it| ConsentAccount {
                    account_id: it.id,
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
        let head = RecordHead {
            record,
            app: TEST_APP,
            customer,
            bank,
            seq: Seq::ZERO,
            watermarks: ByProduct::default(),
            state_seq: Seq::ZERO,
            schedule,
            status: RecordStatus::Active,
            first_fetch_done: false,
            transaction_count: Some(0),
            options: serde_json::json!({}),
            meta: serde_json::Map::new(),
            backfill_months: months,
            created_at: now,
            last_changed_at: now,
        };
        let key = head.due_key(interval);
        let accounts_linked = consent.accounts.clone();
        let due = vec![DueEntry {
            key,
            watermarks: marks,
            state_seq: Some(Seq::ZERO),
            failure_state: None,
        }];
        self.store
            .create_record(&NewRecord {
                head,
                consent,
                accounts,
                due_entries: due,
                feed_entries: Vec::new(),
            })
            .await
            .unwrap();
        LinkedRecord {
            login,
            key,
            accounts: accounts_linked,
        }
    }

    /// Says when a record's consent ends.
    pub(crate) async fn set_consent_end(&self, linked: &LinkedRecord, days: i64) {
        let record = linked.key.record;
        let consent = self.store.find_consent(record, Consistency::Strong).await;
        let now = self.clock.now();
        let expires_at = now + SignedDuration::from_hours(24 * days);
        let consent = Consent {
            consent_clock: Some(ConsentClock::start_at(expires_at, now)),
            ..consent.unwrap().unwrap()
        };
        self.store.put_consent(&consent).await.unwrap();
    }

    /// What goes wrong at the bank for a record's login alone.
    pub(crate) fn set_login_faults(&self, linked: &LinkedRecord, faults: Faults) {
        let target = FaultTarget::Login(linked.login);
        self.bank.set_faults(target, faults).unwrap();
    }

    /// How far the history of a record has come.
    pub(crate) async fn load_backfill(&self, linked: &LinkedRecord) -> Backfill {
        let record = linked.key.record;
        let history = self.store.find_backfill(record, Consistency::Strong).await;
        history.unwrap().unwrap()
    }

    /// Another policy of the bank, once it is known everywhere.
    pub(crate) async fn change_bank_limits(&self, change: impl FnOnce(&mut BankLimits)) {
        let mut bank = self.store.find_bank(TEST_BANK).await.unwrap().unwrap();
        change(&mut bank.limits);
        self.store.put_bank(&bank).await.unwrap();
        self.advance_clock(61);
    }

    /// A refresh that the app asked for.
    pub(crate) async fn refresh_on_demand(&self, linked: &LinkedRecord) -> RefreshOutcome {
        self.refresh_with_user(linked, None).await
    }

    /// A refresh that the app asked for, maybe while its user is there.
    pub(crate) async fn refresh_with_user(
        &self,
        linked: &LinkedRecord,
        user_present: Option<IpAddr>,
    ) -> RefreshOutcome {
        self.refresh_product_on_demand(linked, None, user_present)
            .await
    }

    /// A refresh of transactions alone, as where balances are on another interval.
    pub(crate) async fn refresh_transactions(&self, linked: &LinkedRecord) -> RefreshOutcome {
        let product = Some(Product::Transactions);
        self.refresh_product_on_demand(linked, product, None).await
    }

    async fn refresh_product_on_demand(
        &self,
        linked: &LinkedRecord,
        product: Option<Product>,
        user_present: Option<IpAddr>,
    ) -> RefreshOutcome {
        self.advance_one_second();
        let entry = self
            .store
            .find_due_entry(linked.key, Consistency::Strong)
            .await;
        let mut entry = entry.unwrap().unwrap();
        if product == Some(Product::Transactions) {
            entry.watermarks.balance = None;
        }
        let chunk = Chunk {
            id: "on-demand".into(),
            bank: TEST_BANK,
            trigger: RefreshTrigger::OnDemand {
                product,
                user: user_present,
                is_job: false,
            },
            not_after: self.clock.now(),
            delay_s: 0,
            requeue_count: 0,
            records: vec![entry],
        };
        self.refresher.refresh_chunk(chunk, false).await.unwrap();
        self.last_outcome.0.lock().unwrap().take().unwrap()
    }

    /// Puts other tokens in the place of a record's.
    pub(crate) async fn replace_tokens(&self, linked: &LinkedRecord, secret: &ConsentSecret) {
        let record = linked.key.record;
        let consent = self.store.find_consent(record, Consistency::Strong).await;
        let plain = serde_json::to_vec(secret).unwrap();
        let nonce = generate_nonce().unwrap();
        let consent = Consent {
            sealed_secret: self
                .vault
                .seal_secret(record.as_bytes(), &plain, nonce)
                .unwrap(),
            ..consent.unwrap().unwrap()
        };
        self.store.put_consent(&consent).await.unwrap();
    }

    /// Gives a record tokens that end.
    pub(crate) async fn issue_expiring_tokens(
        &self,
        linked: &LinkedRecord,
        terms: TokenTerms,
    ) -> ConsentSecret {
        let tokens = self.bank.issue_tokens(linked.login, terms).unwrap();
        let mut secret = ConsentSecret::from_bearer_token(tokens.access_token.into_string());
        secret.refresh_token = Some(tokens.refresh_token.into_string());
        let life = SignedDuration::from_secs(tokens.expires_in.into());
        secret.expires_at = Some(self.clock.now() + life);
        self.replace_tokens(linked, &secret).await;
        secret
    }

    /// The tokens of a record as they are stored.
    pub(crate) async fn stored_tokens(&self, linked: &LinkedRecord) -> ConsentSecret {
        let record = linked.key.record;
        let consent = self.store.find_consent(record, Consistency::Strong).await;
        let sealed = consent.unwrap().unwrap().sealed_secret;
        let opened = self.vault.open_sealed(record.as_bytes(), &sealed).unwrap();
        serde_json::from_slice(&opened).unwrap()
    }

    /// It is so many days after the beginning.
    pub(crate) fn set_clock_to_day(&self, day: i64) {
        let begun: jiff::Timestamp = "2026-03-15T12:01:00Z".parse().unwrap();
        self.clock
            .set_time(begun + SignedDuration::from_hours(24 * day));
    }

    /// Time goes on by so many seconds.
    pub(crate) fn advance_clock(&self, seconds: i64) {
        self.clock
            .set_time(self.clock.now() + SignedDuration::from_secs(seconds));
    }

    /// Time goes on by a second: banks and commits are told apart by it.
    pub(crate) fn advance_one_second(&self) {
        self.clock
            .set_time(self.clock.now() + SignedDuration::from_secs(1));
    }

    async fn run_record_chunk(
        &self,
        linked: &LinkedRecord,
        is_redelivered: bool,
    ) -> Result<RefreshOutcome, RefreshError> {
        self.advance_one_second();
        let entry = self
            .store
            .find_due_entry(linked.key, Consistency::Strong)
            .await?
            .unwrap();
        let at = self.clock.now();
        let tick = Tick {
            interval: linked.key.interval,
            at,
        };
        let chunk = Chunk {
            id: "test".into(),
            bank: TEST_BANK,
            trigger: RefreshTrigger::Scheduled { tick },
            not_after: at,
            delay_s: 0,
            requeue_count: 0,
            records: vec![entry],
        };
        let report = self.refresher.refresh_chunk(chunk, is_redelivered).await?;
        assert_ne!(report, ChunkReport::default());
        if report.deferred > 0 {
            return Ok(RefreshOutcome::Deferred);
        }
        Ok(self.last_outcome.0.lock().unwrap().take().unwrap())
    }

    pub(crate) async fn try_refresh(
        &self,
        linked: &LinkedRecord,
    ) -> Result<RefreshOutcome, RefreshError> {
        self.run_record_chunk(linked, false).await
    }

    pub(crate) async fn refresh_record(&self, linked: &LinkedRecord) -> RefreshOutcome {
        self.run_record_chunk(linked, false).await.unwrap()
    }

    pub(crate) async fn redeliver_record(&self, linked: &LinkedRecord) -> RefreshOutcome {
        self.run_record_chunk(linked, true).await.unwrap()
    }

    /// Refreshes everything that is on one minute, as the chunks of a tick.
    pub(crate) async fn refresh_all_records(&self) -> ChunkReport {
        self.advance_one_second();
        let tick = Tick {
            interval: Interval::OneMinute,
            at: self.clock.now(),
        };
        let due = self
            .store
            .list_due_entries(tick.interval, Slot(0))
            .await
            .unwrap();
        let chunks = plan_tick(tick, due, |_| BankRate::from_per_second(1_000_000)).chunks;
        let work = chunks
            .into_iter()
            .map(|chunk| self.refresher.refresh_chunk(chunk, false));
        let mut all = ChunkReport::default();
        for report in join_all(work).await {
            all += report.unwrap();
        }
        all
    }

    /// A tick of the minute the clock is in, `shift_s` seconds away.
    /// The tick of this minute.
    pub(crate) fn tick_now(&self, interval: Interval) -> Tick {
        let at = self.clock.now();
        Tick { interval, at }
    }

    /// Deletes the configuration of a bank although records are linked there.
    pub(crate) async fn delete_bank_config(&self, bank: BankId) {
        let deleted = self.store.delete_bank_of_app(TEST_APP, bank).await;
        assert!(deleted.unwrap());
    }

    pub(crate) async fn run_tick(&self, interval: Interval, shift_s: i64) -> TickReport {
        let at = self.clock.now() + SignedDuration::from_secs(shift_s);
        self.refresher
            .run_tick(Tick { interval, at })
            .await
            .unwrap()
    }

    /// Breaks one effect until it is mended, as a crash before it would.
    pub(crate) fn break_effect(&self, effect: &str) {
        let effect = effect.to_owned();
        let dispatched = AtomicBool::new(false);
        self.emulator.inject_fates(move |service, operation| {
            if service == AwsService::Sqs && operation == "SendMessageBatch" {
                dispatched.store(true, Ordering::SeqCst);
                return if effect == "dispatch" {
                    CallFate::Fail
                } else {
                    CallFate::Serve
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
                CallFate::Fail
            } else {
                CallFate::Serve
            }
        });
    }

    pub(crate) fn restore_effects(&self) {
        self.emulator.inject_fates(|_, _| CallFate::Serve);
    }

    pub(crate) async fn load_head(&self, linked: &LinkedRecord) -> RecordHead {
        self.store
            .find_head(linked.key.record, Consistency::Strong)
            .await
            .unwrap()
            .unwrap()
    }

    pub(crate) async fn load_feed(&self, linked: &LinkedRecord) -> Vec<FeedEntry> {
        self.store
            .read_feed(linked.key.record, Seq::ZERO, 1000, Consistency::Strong)
            .await
            .unwrap()
    }

    pub(crate) async fn load_transactions(
        &self,
        account: AccountId,
    ) -> Vec<(TransactionId, TransactionFacts)> {
        let from = jiff::civil::date(2000, 1, 1);
        let rows = self
            .store
            .list_transactions(account, from, None, Consistency::Strong)
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
    pub(crate) async fn run_backfills(&self) -> Vec<BackfillStepOutcome> {
        let (mut outcomes, mut idle) = (Vec::new(), 0);
        while idle < 40 {
            let received = self
                .queues
                .receive_messages(Queue::Fetch, 10, 0)
                .await
                .unwrap();
            if received.is_empty() {
                self.advance_clock(60);
                idle += 1;
                continue;
            }
            idle = 0;
            for message in received {
                let FetchMessage::BackfillV1(step) = serde_json::from_str(&message.body).unwrap()
                else {
                    panic!("{message:?}")
                };
                self.advance_one_second();
                let again = message.attributes["ApproximateReceiveCount"] != "1";
                if let Ok(outcome) = self.refresher.run_backfill_step(step, again).await {
                    outcomes.push(outcome);
                    let receipts = [message.receipt];
                    self.queues
                        .delete_messages(Queue::Fetch, &receipts)
                        .await
                        .unwrap();
                } else {
                    self.restore_effects();
                }
            }
        }
        outcomes
    }

    /// Loses the steps of histories that are enqueued; how many.
    pub(crate) async fn drop_backfill_steps(&self) -> usize {
        let received = self
            .queues
            .receive_messages(Queue::Fetch, 10, 0)
            .await
            .unwrap();
        let receipts: Vec<String> = received.into_iter().map(|it| it.receipt).collect();
        if !receipts.is_empty() {
            self.queues
                .delete_messages(Queue::Fetch, &receipts)
                .await
                .unwrap();
        }
        receipts.len()
    }

    /// The bank's rows from a date on.
    pub(crate) fn bank_rows_since(
        &self,
        linked: &LinkedRecord,
        account: &str,
        since: jiff::civil::Date,
    ) -> Vec<(Option<String>, i64, BookingStatus, String)> {
        let mut rows: Vec<_> = self
            .bank
            .list_rows(&linked.sandbox_account(account))
            .unwrap()
            .into_iter()
            .filter(|row| utc_date(row.booking_time) >= since)
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
    pub(crate) async fn take_dispatches(&self) -> Vec<FeedDispatch> {
        let mut dispatches = Vec::new();
        loop {
            let received = self
                .queues
                .receive_messages(Queue::Deliver, 10, 0)
                .await
                .unwrap();
            if received.is_empty() {
                return dispatches;
            }
            let receipts: Vec<String> = received.iter().map(|it| it.receipt.clone()).collect();
            self.queues
                .delete_messages(Queue::Deliver, &receipts)
                .await
                .unwrap();
            for message in received {
                match serde_json::from_str(&message.body).unwrap() {
                    DeliverMessage::DispatchV1(dispatch) => dispatches.push(dispatch),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}
