//! A world to call: the router, what it stands on, and a bank over loopback HTTP. Clock and random
//! numbers are driven, so that every run answers the same.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode},
};
use okra_app::{CreateLoginRequest, LinkableLogin, SandboxLoginFactory, Services};
use okra_aws::{AwsConfig, Clock, EventBus, tick_rules::TickRules};
use okra_connectors::{Connectors, ConsentSecret};
use okra_core::{
    model::{
        bank::{BankConfig, BankLimits, BankStandard},
        ids::{AppId, BankId, RecordId},
        interval::Interval,
        snapshot::Environment as Env,
    },
    schedule::plan::Chunk,
};
use okra_emulator::{Emulator, QueueSpec};
use okra_handlers::RuntimeContext;
use okra_queue::{FetchMessage, Queue, QueueUrls, Queues};
use okra_sandbox::{LoginId, NewLogin, SandboxBank, SandboxOptions, Volume};
use okra_store::{App, KeyHash, Store};
use okra_vault::Vault;
use okra_webhooks::AddressPolicy;
use serde_json::{Value, json};
use tower::ServiceExt;

/// The sandbox's bank.
/// The event bus of the deployment.
pub(crate) const EVENT_BUS_ARN: &str = "arn:aws:events:local:000000000000:event-bus/okra";
pub(crate) const BANK: BankId = BankId::from_bytes([0xba; 12]);

/// The key of the app that most tests call as, and of another app.
pub(crate) const APP_KEY: &str = "sk_ours";
pub(crate) const OTHER_KEY: &str = "sk_theirs";

/// The key of an app that has nothing.
pub(crate) const EMPTY_KEY: &str = "sk_empty";

/// The customer that most tests link.
pub(crate) const CUSTOMER_NAME: &str = "Ada Obi";

pub(crate) struct ApiWorld {
    pub(crate) bank: SandboxBank,
    pub(crate) emulator: Emulator,
    pub(crate) environment: RuntimeContext,
    events: aws_sdk_eventbridge::Client,
    logins: Arc<Mutex<Vec<LoginId>>>,
    router: Router,
}

/// An answer.
pub(crate) struct TestResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl TestResponse {
    pub(crate) fn parse_json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    /// The data of a good answer.
    #[track_caller]
    pub(crate) fn success_data(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        let json = self.parse_json();
        assert_eq!(json["status"], "success");
        json["data"].clone()
    }

    /// The type and message of a refusal, which must be whole.
    #[track_caller]
    pub(crate) fn expect_error(&self, status: StatusCode) -> (String, String) {
        assert_eq!(self.status, status, "{}", self.text);
        let json = self.parse_json();
        assert_eq!(json["status"], "error");
        assert_eq!(json["data"]["message"], json!([json["message"]]));
        assert!(json["data"]["method"].is_string());
        assert_eq!(
            json["request_id"],
            self.headers["x-request-id"].to_str().unwrap()
        );
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&json["data"]["type"]), text(&json["message"]))
    }
}

/// Makes logins at the bank, as the local process does.
struct TestSandbox {
    bank: SandboxBank,
    logins: Arc<Mutex<Vec<LoginId>>>,
}

impl SandboxLoginFactory for TestSandbox {
    fn create_login(&self, ask: CreateLoginRequest) -> Result<LinkableLogin, String> {
        let new = NewLogin {
            name: ask.name,
            accounts: ask.accounts,
            volume: Volume::Low,
            history_rows: Some(12),
            ..NewLogin::default()
        };
        let login = self.bank.create_login(new).map_err(|it| it.to_string())?;
        self.logins.lock().unwrap().push(login.id);
        let token = self
            .bank
            .link_login(login.id)
            .map_err(|it| it.to_string())?;
        let access_token = token.into_string();
        Ok(LinkableLogin {
            bank: BANK,
            name: login.name,
            consent: ConsentSecret::from_bearer_token(access_token),
        })
    }
}

impl ApiWorld {
    pub(crate) async fn new() -> Self {
        Self::with_options(AddressPolicy::PublicOnly, true).await
    }

    pub(crate) async fn with_options(addresses: AddressPolicy, sandbox: bool) -> Self {
        Self::with_router(okra_api::build_router, addresses, sandbox).await
    }

    /// The same, behind another router than the API's own.
    pub(crate) async fn with_router(
        router: fn(Services) -> Router,
        addresses: AddressPolicy,
        sandbox: bool,
    ) -> Self {
        let clock = Clock::manual_at("2026-03-15T12:00:30Z".parse().unwrap());
        let now = clock.clone();
        let bank = SandboxBank::in_memory(SandboxOptions::default(), Arc::new(move || now.now()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let obie = bank.api_router();
        tokio::spawn(async move { axum::serve(listener, obie).await });

        let emulator = Emulator::in_memory(clock.clone()).unwrap();
        let queues = ["fetch", "priority", "deliver"].map(QueueSpec::new);
        emulator.create_queues(&queues).unwrap();
        let aws = AwsConfig::with_http_client(emulator.http_client());
        let store = Store::new(aws.dynamodb_client(), "okra");
        store.create_table().await.unwrap();
        store
            .put_bank(&build_bank_config(BANK, &address.to_string()))
            .await
            .unwrap();
        for (id, key) in [(0xa0, APP_KEY), (0xb0, OTHER_KEY), (0xc0, EMPTY_KEY)] {
            let app = App {
                id: AppId::from_bytes([id; 12]),
                name: key.to_owned(),
                environment: Env::Sandbox,
                created_at: clock.now(),
                widget_origins: vec![],
                public_key: None,
                refreshes_per_minute: okra_store::DEFAULT_REFRESHES_PER_MINUTE,
            };
            store.put_app(&app).await.unwrap();
            store
                .put_bare_api_key(KeyHash::hash_secret(key), app.id)
                .await
                .unwrap();
        }
        let (events, rules) = (
            aws.eventbridge_client(),
            TickRules::new(aws.eventbridge_client(), "okra"),
        );
        for interval in Interval::ALL {
            let rule = events.put_rule().name(rules.rule_name(interval));
            let rule = rule.schedule_expression("rate(1 minute)");
            let disabled = aws_sdk_eventbridge::types::RuleState::Disabled;
            rule.state(disabled).send().await.unwrap();
        }
        let urls = QueueUrls {
            fetch: emulator.queue_url("fetch"),
            priority: emulator.queue_url("priority"),
            deliver: emulator.queue_url("deliver"),
        };
        let environment = RuntimeContext {
            store,
            queues: Queues::new(aws.sqs_client(), urls),
            tick_rules: rules,
            event_bus: Some(EventBus::new(aws.eventbridge_client(), EVENT_BUS_ARN)),
            vault: Arc::new(Vault::new([1; 32])),
            connectors: Connectors::new(okra_aws::rustls_client_config()).unwrap(),
            address_policy: addresses,
            clock,
            public_url: "https://sync.example".to_owned(),
            deliver_concurrency: NonZeroU32::MIN,
        };
        let logins = Arc::default();
        let door = TestSandbox {
            bank: bank.clone(),
            logins: Arc::clone(&logins),
        };
        let door = sandbox.then(|| Arc::new(door) as Arc<dyn SandboxLoginFactory>);
        let state = Services::new(environment.clone(), door).with_random_source(counting_random());
        let router = router(state);
        Self {
            bank,
            emulator,
            environment,
            events,
            logins,
            router,
        }
    }

    /// Calls with everything said.
    pub(crate) async fn call_api(
        &self,
        method: Method,
        uri: &str,
        key: Option<&str>,
        body: impl Into<Body>,
    ) -> TestResponse {
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(key) = key {
            request = request.header("authorization", key);
        }
        self.send_request(request.body(body.into()).unwrap()).await
    }

    /// The API on a port of this machine.
    pub(crate) async fn listen_locally(&self) -> std::net::SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = self.router.clone();
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    /// The API, as the function has it.
    pub(crate) fn clone_router(&self) -> Router {
        self.router.clone()
    }

    /// Sends a request.
    pub(crate) async fn send_request(&self, request: Request<Body>) -> TestResponse {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        TestResponse {
            status,
            headers,
            text,
        }
    }

    pub(crate) async fn post_as(&self, key: &str, path: &str, body: &Value) -> TestResponse {
        let (uri, key) = (format!("/v2/{path}"), format!("Bearer {key}"));
        self.call_api(Method::POST, &uri, Some(&key), body.to_string())
            .await
    }

    pub(crate) async fn post_json(&self, path: &str, body: Value) -> TestResponse {
        self.post_as(APP_KEY, path, &body).await
    }

    /// A customer at the sandbox bank, linked; with what was asked for besides.
    pub(crate) async fn create_customer(&self, mut extra: Value) -> LinkedCustomer {
        extra["name"] = json!(CUSTOMER_NAME);
        LinkedCustomer(
            self.post_json("customers/create", extra)
                .await
                .success_data(),
        )
    }

    /// A customer that is linked and was refreshed once.
    pub(crate) async fn create_refreshed(&self) -> LinkedCustomer {
        self.create_refreshed_with(json!({})).await
    }

    /// The same, with what is asked for of the login besides.
    pub(crate) async fn create_refreshed_with(&self, mut login: Value) -> LinkedCustomer {
        login["options"] = json!({ "UserId": 42 });
        let linked = self.create_customer(login).await;
        self.process_chunks().await;
        linked
    }

    /// The login that was made last.
    pub(crate) fn last_login(&self) -> LoginId {
        *self.logins.lock().unwrap().last().unwrap()
    }

    /// The chunks that wait to be worked off.
    pub(crate) async fn take_chunks(&self) -> Vec<Chunk> {
        let queues = &self.environment.queues;
        let mut chunks = Vec::new();
        loop {
            let received = queues
                .receive_messages(Queue::Priority, 10, 0)
                .await
                .unwrap();
            if received.is_empty() {
                return chunks;
            }
            let receipts: Vec<String> = received.iter().map(|it| it.receipt.clone()).collect();
            queues
                .delete_messages(Queue::Priority, &receipts)
                .await
                .unwrap();
            for message in received {
                let FetchMessage::ChunkV1(chunk) = serde_json::from_str(&message.body).unwrap()
                else {
                    continue;
                };
                chunks.push(chunk);
            }
        }
    }

    /// Works off what waits.
    pub(crate) async fn process_chunks(&self) {
        let refresher = self.environment.build_refresher();
        for chunk in self.take_chunks().await {
            refresher.refresh_chunk(chunk, false).await.unwrap();
        }
    }

    /// The intervals whose rules are on.
    pub(crate) async fn enabled_intervals(&self) -> Vec<Interval> {
        let mut awake = Vec::new();
        for interval in Interval::ALL {
            let name = self.environment.tick_rules.rule_name(interval);
            let rule = self.events.describe_rule().name(name).send().await.unwrap();
            if rule.state == Some(aws_sdk_eventbridge::types::RuleState::Enabled) {
                awake.push(interval);
            }
        }
        awake
    }
}

/// What a link answered.
pub(crate) struct LinkedCustomer(pub(crate) Value);

impl LinkedCustomer {
    pub(crate) fn text_field(&self, name: &str) -> String {
        self.0[name].as_str().unwrap().to_owned()
    }

    pub(crate) fn record_id(&self) -> RecordId {
        self.text_field("record_id").parse().unwrap()
    }

    pub(crate) fn customer_id(&self) -> String {
        self.text_field("customer_id")
    }

    pub(crate) fn account_id(&self) -> String {
        self.0["accounts"][0]["id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn nuban(&self) -> String {
        self.0["accounts"][0]["nuban"].as_str().unwrap().to_owned()
    }
}

/// A bank that is served at this address.
pub(crate) fn build_bank_config(id: BankId, address: &str) -> BankConfig {
    let standard = BankStandard::Obie31;
    BankConfig {
        id,
        name: "Guaranty Trust Bank".to_owned(),
        slug: "guaranty-trust-bank".to_owned(),
        standard,
        base_url: format!("http://{address}{}", SandboxBank::base_path(standard)),
        financial_id: None,
        oauth: None,
        country: "NG".to_owned(),
        limits: BankLimits::default(),
    }
}

/// Random numbers that are counted up.
fn counting_random() -> okra_app::RandomSource {
    let count = AtomicU64::new(0);
    Arc::new(move |bytes| {
        let next = count
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = next.to_be_bytes()[at % 8];
        }
        Ok(())
    })
}
