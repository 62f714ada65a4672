//! `okra-sync listen`: an app's events on a developer's machine that cannot be reached from outside. A [`Listener`] reads
//! the app's event log through the API, and posts each event to a local URL, signed as a webhook.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Context;
use okra_aws::Clock;
use reqwest::{Client, header::CONTENT_TYPE};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use standardwebhooks::Webhook;
use tokio::time::sleep;

use crate::{
    api_client::{ApiClient, build_http_client},
    cli::ListenArgs,
    output::print_line,
};

/// How often the log is read.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How often new records are looked for, in polls.
const POLLS_PER_RECORD_DISCOVERY: u64 = 10;

/// Most records whose events are forwarded.
const MAX_RECORDS: usize = 100;

/// Events of one read.
const EVENTS_PER_PAGE: usize = 100;

/// A number after that of every event: reading from it returns where the log ends.
const LAST_SEQUENCE: u64 = 999_999_999_998;

/// Timeout of a call to the API, and of one to the receiver.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
struct SigningSecretData {
    secret: String,
}

#[derive(Deserialize)]
struct RecordListData {
    records: Vec<ListedRecord>,
}

#[derive(Deserialize)]
struct ListedRecord {
    #[serde(rename = "_id")]
    id: String,
}

#[derive(Deserialize)]
struct EventLogPage {
    events: Vec<Box<RawValue>>,
    last_sequence: u64,
    has_more: bool,
}

#[derive(Deserialize)]
struct EventHeader {
    event: String,
    event_id: String,
    sequence: u64,
    record: String,
}

/// Forwards the events of an app's records.
struct Listener {
    api: ApiClient,
    client: Client,
    forward_to: String,
    signer: Webhook,
    /// The last event forwarded of each record.
    positions: BTreeMap<String, u64>,
    /// True once it was reported that the app has more records than are forwarded.
    is_limit_reported: bool,
    /// True while the log cannot be read.
    is_disconnected: bool,
}

/// Posts the events of an app to a URL until the process is stopped.
pub(crate) async fn run_listen(args: &ListenArgs) -> anyhow::Result<()> {
    let client = build_http_client(Some(CALL_TIMEOUT))?;
    let api = ApiClient::new(client.clone(), &args.api, &args.key);
    let SigningSecretData { secret } = api.post_json("webhooks/secret", &json!({})).await?;
    let signer = Webhook::new(&secret).context("the signing secret is not usable")?;
    print_line(&format!(
        "Events of {} go to {}, signed with {secret}",
        api.origin(),
        args.forward_to
    ));
    let mut listener = Listener {
        api,
        client,
        forward_to: args.forward_to.clone(),
        signer,
        positions: BTreeMap::new(),
        is_limit_reported: false,
        is_disconnected: false,
    };
    for poll in 0_u64.. {
        if poll % POLLS_PER_RECORD_DISCOVERY == 0 {
            // Records that are linked later are forwarded from their first event.
            let from_start = args.from_start || poll > 0;
            match listener.discover_records(from_start).await {
                Ok(()) => {}
                Err(error) if poll == 0 => return Err(error),
                Err(error) => print_line(&format!("{error}; trying again")),
            }
        }
        listener.poll_events().await;
        tokio::select! {
            stopped = tokio::signal::ctrl_c() => return Ok(stopped?),
            () = sleep(POLL_INTERVAL) => {}
        }
    }
    Ok(())
}

impl Listener {
    async fn list_events(&self, record: &str, after: u64) -> anyhow::Result<EventLogPage> {
        let body = json!({ "record_id": record, "after": after, "limit": EVENTS_PER_PAGE });
        self.api.post_json("events/list", &body).await
    }

    /// Adds records that are new: from their first event, or from where their log ends now.
    async fn discover_records(&mut self, from_start: bool) -> anyhow::Result<()> {
        let request = json!({ "limit": MAX_RECORDS });
        let listed: RecordListData = self.api.post_json("products/records", &request).await?;
        for ListedRecord { id } in listed.records {
            if self.positions.contains_key(&id) {
                continue;
            }
            if self.positions.len() >= MAX_RECORDS {
                break;
            }
            let after = if from_start {
                0
            } else {
                self.list_events(&id, LAST_SEQUENCE).await?.last_sequence
            };
            self.positions.insert(id, after);
        }
        if self.positions.len() >= MAX_RECORDS && !self.is_limit_reported {
            self.is_limit_reported = true;
            print_line(&format!(
                "Only the events of the first {MAX_RECORDS} records are forwarded"
            ));
        }
        Ok(())
    }

    /// Forwards new events, and prints when the API cannot be reached and when it is reached again. Machines sleep and
    /// change networks; the events in between are read afterwards.
    async fn poll_events(&mut self) {
        match self.forward_new_events().await {
            Ok(()) if self.is_disconnected => {
                self.is_disconnected = false;
                print_line(&format!("{} is reachable again", self.api.origin()));
            }
            Ok(()) => {}
            Err(error) if !self.is_disconnected => {
                self.is_disconnected = true;
                print_line(&format!("{error}; trying again"));
            }
            Err(_) => {}
        }
    }

    /// Posts the new events of all records.
    async fn forward_new_events(&mut self) -> anyhow::Result<()> {
        let records: Vec<String> = self.positions.keys().cloned().collect();
        for record in records {
            let mut after = self.positions.get(&record).copied().unwrap_or(0);
            loop {
                let page = self.list_events(&record, after).await?;
                for event in &page.events {
                    let header: EventHeader = serde_json::from_str(event.get())?;
                    self.forward_event(&header, event.get()).await?;
                    after = header.sequence;
                    self.positions.insert(record.clone(), after);
                }
                if !page.has_more || page.events.is_empty() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Posts one event and prints the outcome. An event that the receiver rejects is not posted again.
    async fn forward_event(&self, header: &EventHeader, body: &str) -> anyhow::Result<()> {
        let timestamp = Clock::system().now().as_second();
        let signature = self
            .signer
            .sign(&header.event_id, timestamp, body.as_bytes())?;
        let started = Instant::now();
        let sent = self
            .client
            .post(&self.forward_to)
            .header("webhook-id", &header.event_id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .header("okra-event-sequence", header.sequence)
            .header("okra-attempt", 1)
            .header(CONTENT_TYPE, "application/json")
            .body(body.to_owned())
            .send()
            .await;
        let outcome = match sent {
            Ok(response) => response.status().to_string(),
            Err(error) if error.is_timeout() => "no response in time".to_owned(),
            Err(_) => "no connection".to_owned(),
        };
        print_line(&format!(
            "{} #{} of {}: {outcome} in {} ms",
            header.event,
            header.sequence,
            header.record,
            started.elapsed().as_millis()
        ));
        Ok(())
    }
}
