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

use crate::{cli::ListenArgs, replay::say};

/// How often the log is read.
const LOOK: Duration = Duration::from_secs(1);

/// How often records that are new are looked for, in looks.
const RECORDS_EVERY: u64 = 10;

/// Records that are listened to at most.
const MAX_RECORDS: usize = 100;

/// Events of one read.
const PAGE: usize = 100;

/// Beyond every event: what is answered then is where the log ends.
const END: u64 = 999_999_999_998;

/// What a call, or the receiver, may take.
const DEADLINE: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
struct Answer<D> {
    data: D,
}

#[derive(Deserialize)]
struct Secret {
    secret: String,
}

#[derive(Deserialize)]
struct Page {
    events: Vec<Box<RawValue>>,
    last_sequence: u64,
    has_more: bool,
}

#[derive(Deserialize)]
struct Head {
    event: String,
    event_id: String,
    sequence: u64,
    record: String,
}

struct Api {
    client: Client,
    root: String,
    key: String,
}

impl Api {
    async fn post<D: DeserializeOwned>(&self, path: &str, body: &Value) -> anyhow::Result<D> {
        let url = format!("{}/v2/{path}", self.root);
        let call = self.client.post(&url).bearer_auth(&self.key).json(body);
        let answer = call.send().await;
        let answer = answer.with_context(|| format!("{} cannot be reached", self.root))?;
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
        let answer: Answer<D> = serde_json::from_str(&text)
            .with_context(|| format!("{path} answered something unexpected"))?;
        Ok(answer.data)
    }

    async fn events(&self, record: &str, after: u64) -> anyhow::Result<Page> {
        let body = json!({ "record_id": record, "after": after, "limit": PAGE });
        self.post("events/list", &body).await
    }

    /// The app's records.
    async fn records(&self) -> anyhow::Result<Vec<String>> {
        let listed: Value = self
            .post("products/records", &json!({ "limit": MAX_RECORDS }))
            .await?;
        let records = listed["records"].as_array().into_iter().flatten();
        let id = |record: &Value| Some(record["_id"].as_str()?.to_owned());
        Ok(records.filter_map(id).take(MAX_RECORDS).collect())
    }
}

/// Posts the events of an app to a URL until the process is stopped.
pub(crate) async fn run(args: &ListenArgs) -> anyhow::Result<()> {
    let client = Client::builder()
        .tls_backend_preconfigured(okra_aws::rustls_client_config())
        .timeout(DEADLINE)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .build()?;
    let api = Api {
        client: client.clone(),
        root: args.api.trim_end_matches('/').to_owned(),
        key: args.key.clone(),
    };
    let Secret { secret } = api.post("webhooks/secret", &json!({})).await?;
    let signer = Webhook::new(&secret).context("the signing secret is not usable")?;
    say(&format!(
        "Events of {} go to {}, signed with {secret}",
        api.root, args.forward_to
    ));
    let mut known: BTreeMap<String, u64> = BTreeMap::new();
    let mut cut = false;
    let mut lost = false;
    for look in 0_u64.. {
        if look % RECORDS_EVERY == 0 {
            let from_start = args.from_start || look > 0;
            match find(&api, &mut known, from_start).await {
                Ok(()) => {}
                Err(error) if look == 0 => return Err(error),
                Err(error) => say(&format!("{error}; trying again")),
            }
            if known.len() >= MAX_RECORDS && !cut {
                cut = true;
                say(&format!(
                    "Events of {MAX_RECORDS} records are forwarded, of others none"
                ));
            }
        }
        // A laptop sleeps and changes networks; what it missed comes when the API is there again.
        let looked = look_at(&api, &client, &args.forward_to, &signer, &mut known).await;
        match (&looked, lost) {
            (Err(error), false) => say(&format!("{error}; trying again")),
            (Ok(()), true) => say(&format!("{} is there again", api.root)),
            _ => {}
        }
        lost = looked.is_err();
        tokio::select! {
            stopped = tokio::signal::ctrl_c() => return Ok(stopped?),
            () = sleep(LOOK) => {}
        }
    }
    Ok(())
}

/// Listens to records that are new. What was there before is passed over, what is linked later is not.
async fn find(
    api: &Api,
    known: &mut BTreeMap<String, u64>,
    from_start: bool,
) -> anyhow::Result<()> {
    for record in api.records().await? {
        if known.contains_key(&record) || known.len() >= MAX_RECORDS {
            continue;
        }
        let after = match from_start {
            true => 0,
            false => api.events(&record, END).await?.last_sequence,
        };
        known.insert(record, after);
    }
    Ok(())
}

/// Posts what is new of all records.
async fn look_at(
    api: &Api,
    client: &Client,
    url: &str,
    signer: &Webhook,
    known: &mut BTreeMap<String, u64>,
) -> anyhow::Result<()> {
    for (record, after) in known {
        loop {
            let page = api.events(record, *after).await?;
            for event in &page.events {
                let head: Head = serde_json::from_str(event.get())?;
                forward(client, url, signer, &head, event.get()).await?;
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
async fn forward(
    client: &Client,
    url: &str,
    signer: &Webhook,
    head: &Head,
    body: &str,
) -> anyhow::Result<()> {
    let at = Clock::system().now().as_second();
    let signature = signer.sign(&head.event_id, at, body.as_bytes())?;
    let started = Instant::now();
    let sent = client
        .post(url)
        .header("webhook-id", &head.event_id)
        .header("webhook-timestamp", at)
        .header("webhook-signature", signature)
        .header("okra-event-sequence", head.sequence)
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
    let Head {
        event,
        sequence,
        record,
        ..
    } = head;
    say(&format!(
        "{event} #{sequence} of {record}: {outcome} in {ms} ms"
    ));
    Ok(())
}
