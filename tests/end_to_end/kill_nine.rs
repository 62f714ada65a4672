//! The process killed with `kill -9` again and again under load, and what its app was told in the end.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use okra_aws::{AwsConfig, Clock};
use okra_core::model::ids::{EventId, Seq};
use okra_emulator::Emulator;
use okra_store::{Consistency, KeyHash, Store};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::{
    TEST_TIMEOUT,
    running::{RunningOkraSync, find_free_ports, start_okra_sync},
};

/// Kills.
const KILL_COUNT: usize = 50;

/// How long one life of the process lasts at most, however little it gets done.
const MAX_PROCESS_LIFE: Duration = Duration::from_millis(1_200);

/// How long nothing has to come until it is worth looking whether everything is there.
const QUIET_PERIOD: Duration = Duration::from_secs(3);

/// How long it may take until everything is there: every record has its turn once a minute.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(150);

/// Callers of the API at once.
const CONCURRENT_CALLERS: usize = 4;

/// How the id of the ping begins that an endpoint gets when it is set: no event of a feed.
const PING_ID_PREFIX: &str = "ping_";

/// Of this many webhooks one is refused, so that there are retries to lose as well.
const REJECTED_WEBHOOK_PERIOD: usize = 20;

/// The table's name and what the pages of it hold.
const TABLE_NAME: &str = "okra-sync";
const PAGE_SIZE: usize = 100;

/// What an app was told.
#[derive(Default)]
struct ReceivedWebhooks {
    /// By event id: the body of the first arrival, and whether any was acknowledged.
    events: HashMap<String, (Bytes, bool)>,
    arrival_count: usize,
    /// Events that came with two bodies, and webhooks whose signature does not verify.
    problems: Vec<String>,
}

#[derive(Clone, Default)]
struct TestApp {
    received: Arc<Mutex<ReceivedWebhooks>>,
    verifier: Arc<Mutex<Option<Webhook>>>,
}

impl TestApp {
    fn lock_received(&self) -> MutexGuard<'_, ReceivedWebhooks> {
        self.received.lock().unwrap()
    }

    fn acknowledged_count(&self) -> usize {
        self.lock_received()
            .events
            .values()
            .filter(|(_, yes)| *yes)
            .count()
    }

    fn receive_webhook(&self, headers: &HeaderMap, body: &Bytes) -> StatusCode {
        let id = headers["webhook-id"].to_str().unwrap().to_owned();
        let verified = {
            let secret = self.verifier.lock().unwrap();
            // Before it knows its secret, the app cannot take anything.
            let Some(secret) = &*secret else {
                return StatusCode::SERVICE_UNAVAILABLE;
            };
            secret.verify(body, headers).is_ok()
        };
        let mut told = self.lock_received();
        told.arrival_count += 1;
        // Never twice: the third attempt would come after five minutes.
        let acknowledges = told.events.contains_key(&id)
            || !told.arrival_count.is_multiple_of(REJECTED_WEBHOOK_PERIOD);
        if let Err(wrong) = okra_wire::documented::check_documented_body(body) {
            told.problems.push(wrong);
        }
        if !verified {
            told.problems.push(format!("{id}: its signature"));
        }
        let (first, acknowledged) = told
            .events
            .entry(id.clone())
            .or_insert_with(|| (body.clone(), false));
        *acknowledged |= acknowledges;
        if *first != body {
            told.problems.push(format!("{id}: another body"));
        }
        if acknowledges {
            StatusCode::NO_CONTENT
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }

    /// Serves; the URL of its webhook.
    async fn serve_webhook(&self) -> String {
        let app = self.clone();
        let hook = post(move |headers: HeaderMap, body: Bytes| async move {
            app.receive_webhook(&headers, &body)
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().route("/hook", hook);
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }
}

/// Calls the API as an app does; a process that is down is an error.
#[derive(Clone)]
struct TestApiClient {
    client: reqwest::Client,
    base_url: String,
    secret_key: String,
}

impl TestApiClient {
    async fn post_json(&self, path: &str, body: &Value) -> Result<Value, reqwest::Error> {
        let call = self.client.post(format!("{}/{path}", self.base_url));
        let answer = call.bearer_auth(&self.secret_key).json(body).send().await?;
        let mut answer: Value = answer.error_for_status()?.json().await?;
        Ok(answer["data"].take())
    }

    /// Links customers and refreshes those that are linked until it is told to stop. Calls that fail
    /// because nobody is there are part of the exercise.
    async fn generate_load(self, stop: Arc<AtomicBool>, linked: Arc<AtomicUsize>) {
        let mut records: Vec<String> = Vec::new();
        let mut turn = 0_usize;
        while !stop.load(Ordering::SeqCst) {
            turn += 1;
            let called = if turn.is_multiple_of(3) && !records.is_empty() {
                let record = &records[turn * 7 % records.len()];
                let body = json!({ "record_id": record });
                self.post_json("balance/refresh", &body).await.map(drop)
            } else {
                // A record whose link was cut off by a kill is seen to at its next turn.
                let body = json!({ "name": "Ada Obi", "noOfAccount": 1, "interval": "one_minute" });
                let linking = self.post_json("sandbox/customers/create", &body).await;
                linking.map(|customer| {
                    linked.fetch_add(1, Ordering::SeqCst);
                    records.extend(customer["record_id"].as_str().map(str::to_owned));
                })
            };
            if called.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

fn start_server(data: &Path, port: u16) -> RunningOkraSync {
    let port = port.to_string();
    start_okra_sync(&["serve", "--data", data.to_str().unwrap(), "--port", &port])
}

/// Opens what the process has left behind, and compares it with what its app was told: every committed
/// entry, and nothing that was not committed. What is missing is named.
async fn find_missing_events(data: &Path, key: &str, app: &TestApp) -> (usize, Vec<String>) {
    let emulator = Emulator::open_folder(data, Clock::system()).unwrap();
    let aws = AwsConfig::with_http_client(emulator.http_client());
    let store = Store::new(aws.dynamodb_client(), TABLE_NAME);
    let hash = KeyHash::hash_secret(key);
    let owner = store.find_app_by_key(hash, Clock::system().now());
    let owner = owner.await.unwrap().unwrap();
    let (mut after, mut committed) = (None, Vec::new());
    loop {
        let page = store
            .list_records_of_app(owner, after, PAGE_SIZE)
            .await
            .unwrap();
        for head in page.items {
            let mut seq = Seq::ZERO;
            while seq < head.seq {
                let entries = store.read_feed(head.record, seq, PAGE_SIZE, Consistency::Strong);
                let entries = entries.await.unwrap();
                for entry in &entries {
                    assert_eq!(
                        entry.seq,
                        seq.next(),
                        "the feed of {} is dense",
                        head.record
                    );
                    seq = entry.seq;
                    committed.push(
                        EventId::for_record_entry(head.record, seq)
                            .as_str()
                            .to_owned(),
                    );
                }
                assert!(
                    !entries.is_empty(),
                    "the feed of {} ends early",
                    head.record
                );
            }
        }
        after = page.next_cursor;
        if after.is_none() {
            break;
        }
    }
    let told = app.lock_received();
    let known: std::collections::HashSet<&str> = committed.iter().map(String::as_str).collect();
    let invented: Vec<_> = told
        .events
        .keys()
        .filter(|id| !known.contains(id.as_str()) && !id.starts_with(PING_ID_PREFIX))
        .collect();
    assert!(invented.is_empty(), "never committed: {invented:?}");
    let acknowledged = |id: &str| told.events.get(id).is_some_and(|(_, yes)| *yes);
    let missing = committed.iter().filter(|id| !acknowledged(id)).cloned();
    (committed.len(), missing.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_kills_under_load_lose_and_invent_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (data, port) = (folder.path().join("data"), find_free_ports());
    let app = TestApp::default();
    let url = app.serve_webhook().await;

    let mut process = start_server(&data, port);
    process.wait_for_line("serves on", TEST_TIMEOUT);
    let key = std::fs::read_to_string(data.join("secret-key")).unwrap();
    let api = TestApiClient {
        client: reqwest::Client::builder()
            .tls_backend_preconfigured(okra_aws::rustls_client_config())
            .no_proxy()
            .timeout(Duration::from_secs(10))
            .build()
            .unwrap(),
        base_url: format!("http://127.0.0.1:{port}/v2"),
        secret_key: key.clone(),
    };
    let set = api
        .post_json("webhooks/set", &json!({ "url": url }))
        .await
        .unwrap();
    let secret = Webhook::new(set["secret"].as_str().unwrap()).unwrap();
    *app.verifier.lock().unwrap() = Some(secret);

    let (stop, linked) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let callers: Vec<_> = (0..CONCURRENT_CALLERS)
        .map(|_| {
            tokio::spawn(
                api.clone()
                    .generate_load(Arc::clone(&stop), Arc::clone(&linked)),
            )
        })
        .collect();
    let mut in_the_middle = 0;
    for kill in 0..KILL_COUNT {
        // Now at once, now after a few events more, now before it is up.
        let more = kill * 17 % 23;
        let (born, before) = (Instant::now(), app.lock_received().arrival_count);
        process.wait_until(TEST_TIMEOUT, || {
            app.lock_received().arrival_count >= before + more || born.elapsed() > MAX_PROCESS_LIFE
        });
        in_the_middle += usize::from(app.lock_received().arrival_count > before);
        process.send_sigkill();
        process = start_server(&data, port);
        if kill % 5 != 0 {
            process.wait_for_line("serves on", TEST_TIMEOUT);
        }
    }
    stop.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(
        in_the_middle > KILL_COUNT / 2,
        "only {in_the_middle} kills met a process that was delivering"
    );

    let started = Instant::now();
    loop {
        process.wait_for_line("serves on", TEST_TIMEOUT);
        let (mut seen, mut since) = (app.lock_received().arrival_count, Instant::now());
        process.wait_until(TEST_TIMEOUT, || {
            let now = app.lock_received().arrival_count;
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
            since.elapsed() > QUIET_PERIOD
        });
        process.send_sigkill();
        let (committed, missing) = find_missing_events(&data, key.trim(), &app).await;
        if missing.is_empty() {
            let told = app.lock_received();
            assert_eq!(told.problems, Vec::<String>::new());
            assert!(
                committed >= KILL_COUNT,
                "only {committed} events were committed"
            );
            println!(
                "{KILL_COUNT} kills ({in_the_middle} while delivering), {} customers, {committed} events, {} arrivals",
                linked.load(Ordering::SeqCst),
                told.arrival_count,
            );
            return;
        }
        assert!(
            started.elapsed() < SETTLE_TIMEOUT,
            "{} of {committed} events never arrived ({} did): {:?}",
            missing.len(),
            app.acknowledged_count(),
            &missing[..missing.len().min(10)]
        );
        process = start_server(&data, port);
    }
}
