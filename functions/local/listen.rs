//! `okra-sync listen`: an app's events on a developer's laptop, which nobody outside can reach. It reads
//! the app's event log through the API and posts each event to a local URL, signed as a webhook.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use okra_aws::Clock;
use reqwest::{Client, header::CONTENT_TYPE, redirect};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json, value::RawValue};
use standardwebhooks::Webhook;
use tokio::time::sleep;

use crate::{cli::ListenArgs, replay::print_line};

/// How often the log is read.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How often records that are new are looked for, in looks.
const POLLS_PER_RECORD_DISCOVERY: u64 = 10;

/// Records that are listened to at most.
const MAX_RECORDS: usize = 100;

/// Events of one read.
const EVENTS_PER_PAGE: usize = 100;

/// Beyond every event: what is answered then is where the log ends.
const LAST_SEQUENCE: u64 = 999_999_999_998;

/// What a call, or the receiver, may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
struct ListenResponse<D> {
    data: D,
}

#[derive(Deserialize)]
struct SigningSecretData {
    secret: String,
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

struct EventLogClient {
    client: Client,
    base_url: String,
    secret_key: String,
}

impl EventLogClient {
    async fn post_json<D: DeserializeOwned>(&self, path: &str, body: &Value) -> anyhow::Result<D> {
        let url = format!("{}/v2/{path}", self.base_url);
        let call = self
            .client
            .post(&url)
            .bearer_auth(&self.secret_key)
            .json(body);
        let answer = call.send().await;
        let answer = answer.with_context(|| format!("{} cannot be reached", self.base_url))?;
        let (status, text) = (answer.status(), answer.text().await?);
        let refused = || -> Option<String> {
            let refused: Value = serde_json::from_str(&text).ok()?;
            Some(refused["message"].as_str()?.to_owned())
        };
        ensure!(
            status.is_success(),
            "{path} is refused with {status}: {}",
            refused().unwrap_or_default()
        );
        let answer: ListenResponse<D> = serde_json::from_str(&text)
            .with_context(|| format!("{path} answered something unexpected"))?;
        Ok(answer.data)
    }

    async fn list_events(&self, record: &str, after: u64) -> anyhow::Result<EventLogPage> {
        let body = json!({ "record_id": record, "after": after, "limit": EVENTS_PER_PAGE });
        self.post_json("events/list", &body).await
    }

    /// The app's records.
    async fn list_records(&self) -> anyhow::Result<Vec<String>> {
        let listed: Value = self
            .post_json("products/records", &json!({ "limit": MAX_RECORDS }))
            .await?;
        let records = listed["records"].as_array().into_iter().flatten();
        let id = |record: &Value| Some(record["_id"].as_str()?.to_owned());
        Ok(records.filter_map(id).take(MAX_RECORDS).collect())
    }
}

/// Posts the events of an app to a URL until the process is stopped.
pub(crate) async fn run_listen(args: &ListenArgs) -> anyhow::Result<()> {
    let client = Client::builder()
        .tls_backend_preconfigured(okra_aws::rustls_client_config())
        .timeout(CALL_TIMEOUT)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .build()?;
    let api = EventLogClient {
        client: client.clone(),
        base_url: args.api.trim_end_matches('/').to_owned(),
        secret_key: args.key.clone(),
    };
    let SigningSecretData { secret } = api.post_json("webhooks/secret", &json!({})).await?;
    let signer = Webhook::new(&secret).context("the signing secret is not usable")?;
    print_line(&format!(
        "Events of {} go to {}, signed with {secret}",
        api.base_url, args.forward_to
    ));
    let mut known: BTreeMap<String, u64> = BTreeMap::new();
    let mut cut = false;
    let mut lost = false;
    for look in 0_u64.. {
        if look % POLLS_PER_RECORD_DISCOVERY == 0 {
            let from_start = args.from_start || look > 0;
            match discover_records(&api, &mut known, from_start).await {
                Ok(()) => {}
                Err(error) if look == 0 => return Err(error),
                Err(error) => print_line(&format!("{error}; trying again")),
            }
            if known.len() >= MAX_RECORDS && !cut {
                cut = true;
                print_line(&format!(
                    "Events of {MAX_RECORDS} records are forwarded, of others none"
                ));
            }
        }
        // A laptop sleeps and changes networks; what it missed comes when the API is there again.
        let looked = forward_new_events(&api, &client, &args.forward_to, &signer, &mut known).await;
        match (&looked, lost) {
            (Err(error), false) => print_line(&format!("{error}; trying again")),
            (Ok(()), true) => print_line(&format!("{} is there again", api.base_url)),
            _ => {}
        }
        lost = looked.is_err();
        tokio::select! {
            stopped = tokio::signal::ctrl_c() => return Ok(stopped?),
            () = sleep(POLL_INTERVAL) => {}
        }
    }
    Ok(())
}

/// Listens to records that are new. What was there before is passed over, what is linked later is not.
async fn discover_records(
    api: &EventLogClient,
    known: &mut BTreeMap<String, u64>,
    from_start: bool,
) -> anyhow::Result<()> {
    for record in api.list_records().await? {
        if known.contains_key(&record) || known.len() >= MAX_RECORDS {
            continue;
        }
        let after = match from_start {
            true => 0,
            false => api.list_events(&record, LAST_SEQUENCE).await?.last_sequence,
        };
        known.insert(record, after);
    }
    Ok(())
}

/// Posts what is new of all records.
async fn forward_new_events(
    api: &EventLogClient,
    client: &Client,
    url: &str,
    signer: &Webhook,
    known: &mut BTreeMap<String, u64>,
) -> anyhow::Result<()> {
    for (record, after) in known {
        loop {
            let page = api.list_events(record, *after).await?;
            for event in &page.events {
                let head: EventHeader = serde_json::from_str(event.get())?;
                forward_event(client, url, signer, &head, event.get()).await?;
                *after = head.sequence;
            }
            if !page.has_more || page.events.is_empty() {
                break;
            }
        }
    }
    Ok(())
}

/// Posts one event and says what came of it. One that is not taken is not posted again.
async fn forward_event(
    client: &Client,
    url: &str,
    signer: &Webhook,
    header: &EventHeader,
    body: &str,
) -> anyhow::Result<()> {
    let at = Clock::system().now().as_second();
    let signature = signer.sign(&header.event_id, at, body.as_bytes())?;
    let started = Instant::now();
    let sent = client
        .post(url)
        .header("webhook-id", &header.event_id)
        .header("webhook-timestamp", at)
        .header("webhook-signature", signature)
        .header("okra-event-sequence", header.sequence)
        .header("okra-attempt", 1)
        .header(CONTENT_TYPE, "application/json")
        .body(body.to_owned())
        .send()
        .await;
    let outcome = match sent {
        Ok(answer) => answer.status().to_string(),
        Err(error) if error.is_timeout() => "no answer in time".to_owned(),
        Err(_) => "no connection".to_owned(),
    };
    let ms = started.elapsed().as_millis();
    let EventHeader {
        event,
        sequence,
        record,
        ..
    } = header;
    print_line(&format!(
        "{event} #{sequence} of {record}: {outcome} in {ms} ms"
    ));
    Ok(())
}
