//! An app's side of the story: a webhook receiver that verifies signatures, counts each event once,
//! and keeps what it was told.

use std::{
    collections::{HashMap, HashSet},
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use anyhow::Context;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde::{Deserialize, Serialize};
use standardwebhooks::Webhook;

/// One event as the receiver keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReceivedEvent {
    /// The `webhook-id`.
    pub(crate) id: String,
    /// The record it is about.
    pub(crate) record: String,
    /// Its place in the record's feed.
    pub(crate) seq: u64,
    /// Okra's family: `BALANCE`, `TRANSACTIONS`.
    pub(crate) method: String,
    /// Transactions announced as new.
    pub(crate) added: Vec<String>,
}

/// What the receiver tells of each webhook, after it is safely kept.
pub(crate) type ReceivedCallback =
    Arc<dyn Fn(&ReceivedEvent, &serde_json::Value, EventArrival) + Send + Sync>;

/// Whether an event came for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventArrival {
    First,
    Duplicate,
}

/// The receiver. Cheap to clone.
#[derive(Clone)]
pub(crate) struct WebhookReceiver(Arc<WebhookReceiverInner>);

struct WebhookReceiverInner {
    verifier: RwLock<Option<Webhook>>,
    ledger: Mutex<ReceivedLedger>,
    on_received: ReceivedCallback,
}

#[derive(Default)]
struct ReceivedLedger {
    events: HashMap<String, ReceivedEvent>,
    file: Option<File>,
    rejected_count: u64,
    duplicate_count: u64,
}

impl WebhookReceiver {
    /// A receiver that appends each event to a file before it acknowledges it, and knows the events
    /// of an earlier run. A last line that a crash cut off is dropped: it was never acknowledged.
    pub(crate) fn open_durable(path: &Path, on_received: ReceivedCallback) -> anyhow::Result<Self> {
        let mut ledger = ReceivedLedger::default();
        let mut whole = 0;
        if path.exists() {
            let mut lines = BufReader::new(File::open(path)?);
            let mut line = String::new();
            while lines.read_line(&mut line)? > 0 {
                let Ok(received) = serde_json::from_str::<ReceivedEvent>(&line) else {
                    break;
                };
                whole += u64::try_from(line.len()).unwrap_or(0);
                ledger.events.insert(received.id.clone(), received);
                line.clear();
            }
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        file.set_len(whole)?;
        ledger.file = Some(file);
        Ok(Self::with_ledger(ledger, on_received))
    }

    fn with_ledger(ledger: ReceivedLedger, on_received: ReceivedCallback) -> Self {
        let (secret, ledger) = (RwLock::new(None), Mutex::new(ledger));
        Self(Arc::new(WebhookReceiverInner {
            verifier: secret,
            ledger,
            on_received,
        }))
    }

    /// The secret that the app got when it set its webhook. Until then everything is refused.
    pub(crate) fn set_signing_secret(&self, secret: &str) -> anyhow::Result<()> {
        let webhook = Webhook::new(secret).context("the signing secret is not usable")?;
        *self
            .0
            .verifier
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(webhook);
        Ok(())
    }

    /// The receiver's one route, `POST /hook`.
    pub(crate) fn webhook_router(&self) -> Router {
        Router::new()
            .route("/hook", post(receive_webhook))
            .with_state(self.clone())
    }

    /// Events received, each once.
    pub(crate) fn received_events(&self) -> Vec<ReceivedEvent> {
        self.lock_ledger().events.values().cloned().collect()
    }

    /// How many events were received, each once.
    pub(crate) fn len(&self) -> usize {
        self.lock_ledger().events.len()
    }

    /// (refused for their signature, received again).
    pub(crate) fn rejected_and_duplicate_counts(&self) -> (u64, u64) {
        let ledger = self.lock_ledger();
        (ledger.rejected_count, ledger.duplicate_count)
    }

    fn lock_ledger(&self) -> std::sync::MutexGuard<'_, ReceivedLedger> {
        self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_verified(&self, body: &[u8], headers: &HeaderMap) -> bool {
        let secret = self
            .0
            .verifier
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        secret
            .as_ref()
            .is_some_and(|secret| secret.verify(body, headers).is_ok())
    }

    fn store_event(&self, received: &ReceivedEvent) -> anyhow::Result<EventArrival> {
        let mut ledger = self.lock_ledger();
        if ledger.events.contains_key(&received.id) {
            ledger.duplicate_count += 1;
            return Ok(EventArrival::Duplicate);
        }
        if let Some(file) = &mut ledger.file {
            let mut line = serde_json::to_vec(received)?;
            line.push(b'\n');
            file.write_all(&line)?;
        }
        ledger.events.insert(received.id.clone(), received.clone());
        Ok(EventArrival::First)
    }
}

async fn receive_webhook(
    State(receiver): State<WebhookReceiver>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    if !receiver.is_verified(&body, &headers) {
        receiver.lock_ledger().rejected_count += 1;
        return StatusCode::UNAUTHORIZED;
    }
    let Ok(event) = serde_json::from_slice::<serde_json::Value>(&body) else {
        return StatusCode::BAD_REQUEST;
    };
    // A ping only asks whether anybody is here.
    if event["event"] == "webhook.ping" {
        return StatusCode::OK;
    }
    let Some(received) = parse_event(&event) else {
        return StatusCode::BAD_REQUEST;
    };
    match receiver.store_event(&received) {
        Ok(arrival) => {
            (receiver.0.on_received)(&received, &event, arrival);
            StatusCode::OK
        }
        // Not kept, so not acknowledged: it comes again.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn parse_event(event: &serde_json::Value) -> Option<ReceivedEvent> {
    let text = |name: &str| event.get(name)?.as_str().map(str::to_owned);
    let modified: HashSet<&str> = event
        .get("modified_transactions")
        .and_then(|rows| rows.as_array())
        .into_iter()
        .flatten()
        .filter_map(|row| row.get("_id").or_else(|| row.get("id"))?.as_str())
        .collect();
    let added = event
        .get("transactions")
        .and_then(|rows| rows.as_array())
        .into_iter()
        .flatten()
        .filter_map(|row| row.get("_id")?.as_str())
        .filter(|id| !modified.contains(id))
        .map(str::to_owned)
        .collect();
    Some(ReceivedEvent {
        id: text("event_id")?,
        record: text("record")?,
        seq: event.get("sequence")?.as_u64()?,
        method: text("method")?,
        added,
    })
}
