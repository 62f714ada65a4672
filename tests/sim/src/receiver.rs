//! Receivers of webhooks: what they took, and how they fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::HeaderMap;
use okra_core::model::ids::{EventId, FeedSource};
use okra_webhooks::{TransportError, TransportReply, TransportRequest, WebhookTransport};

use crate::{
    cloud::NowMillis,
    gate::{EffectFate, EffectKind, EffectPhase, EffectScheduler},
    random::SimRandom,
};

/// What one URL is sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimInbox {
    /// By event id: the body of the first attempt, and how often it was taken.
    pub(crate) events: BTreeMap<String, (Bytes, u32)>,
    /// It asked for the events of a record one after another.
    pub(crate) is_ordered: bool,
    /// By record: the events that were taken, or of which another said that they are missing.
    accounted_seqs: BTreeMap<String, BTreeSet<u64>>,
    /// Answers 410 from now on.
    pub(crate) is_gone: bool,
    /// Answers nothing good until then, in milliseconds since 1970.
    pub(crate) down_until_ms: i64,
}

#[derive(Debug)]
pub(crate) struct SimReceiverState {
    pub(crate) inboxes: BTreeMap<String, SimInbox>,
    /// How often a receiver misbehaves, in a thousand.
    pub(crate) failure_permille: u16,
    random: SimRandom,
    /// Broken promises, found as they are made.
    pub(crate) violations: Vec<String>,
}

/// All receivers of a world. Clones are one.
#[derive(Clone)]
pub(crate) struct SimReceivers {
    state: Arc<Mutex<SimReceiverState>>,
    scheduler: EffectScheduler,
    now: NowMillis,
}

impl SimReceivers {
    pub(crate) fn new(scheduler: EffectScheduler, now: NowMillis, random: SimRandom) -> Self {
        let desk = SimReceiverState {
            inboxes: BTreeMap::new(),
            failure_permille: 0,
            random,
            violations: Vec::new(),
        };
        Self {
            state: Arc::new(Mutex::new(desk)),
            scheduler,
            now,
        }
    }

    pub(crate) fn lock_state(&self) -> MutexGuard<'_, SimReceiverState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WebhookTransport for SimReceivers {
    fn post_request(
        &self,
        request: TransportRequest,
    ) -> BoxFuture<'_, Result<TransportReply, TransportError>> {
        async move {
            let id = request
                .headers
                .get("webhook-id")
                .and_then(|it| it.to_str().ok())
                .unwrap_or("?")
                .to_owned();
            let attempt = request
                .headers
                .get("okra-attempt")
                .and_then(|it| it.to_str().ok())
                .unwrap_or("?")
                .to_owned();
            let header = |name: &str| request.headers.get(name).and_then(|it| it.to_str().ok());
            let gap = header("okra-event-gap").map(str::to_owned);
            let asked = header("okra-replay").is_some();
            let label = format!("post {} {id} attempt {attempt}", request.url);
            let fate = self
                .scheduler
                .await_release(EffectPhase::Before, EffectKind::Receiver, label.clone())
                .await;
            let answer = match fate {
                EffectFate::Unreachable => Err(TransportError::Connect),
                _ => {
                    let now = (self.now)();
                    let mut desk = self.lock_state();
                    let url = request.url.as_str();
                    let (answer, takes) = desk.receive_event(url, &id, &request.body, now);
                    desk.check_event_order(url, &id, gap.as_deref(), takes, asked);
                    answer
                }
            };
            self.scheduler
                .await_release(EffectPhase::After, EffectKind::Receiver, label)
                .await;
            answer
        }
        .boxed()
    }
}

impl SimReceiverState {
    pub(crate) fn set_ordered(&mut self, url: &str, ordered: bool) {
        self.inboxes.entry(url.to_owned()).or_default().is_ordered = ordered;
    }

    /// The answer, and whether the event was taken.
    fn receive_event(
        &mut self,
        url: &str,
        id: &str,
        body: &Bytes,
        now: i64,
    ) -> (Result<TransportReply, TransportError>, bool) {
        let inbox = self.inboxes.entry(url.to_owned()).or_default();
        if !inbox.events.contains_key(id)
            && let Err(wrong) = okra_wire::documented::check_documented_body(body)
        {
            self.violations.push(format!("delivery: {url}: {wrong}"));
        }
        let (first, taken) = inbox
            .events
            .entry(id.to_owned())
            .or_insert_with(|| (body.clone(), 0));
        if first != body {
            let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
            let (a, b) = (text(first), text(body));
            let from = a
                .bytes()
                .zip(b.bytes())
                .position(|(a, b)| a != b)
                .unwrap_or(0)
                .saturating_sub(40);
            let part = |text: &str| text.chars().skip(from).take(120).collect::<String>();
            self.violations.push(format!(
                "delivery: two attempts of event {id} at {url} have other bodies: ..{}.. and ..{}..",
                part(&a), part(&b)
            ));
        }
        if inbox.is_gone {
            return (build_reply(410, None), false);
        }
        if now < inbox.down_until_ms {
            let answer = match self.random.number_below(3) {
                0 => Err(TransportError::Timeout),
                1 => Err(TransportError::Connect),
                _ => build_reply(503, None),
            };
            return (answer, false);
        }
        if self.random.roll_permille(self.failure_permille) {
            let answer = match self.random.number_below(8) {
                0 => Err(TransportError::Timeout),
                1 => Err(TransportError::Connect),
                2 => build_reply(429, Some(self.random.number_between(1, 4000).to_string())),
                3 => build_reply(503, None),
                4 => build_reply(302, None),
                5 => build_reply(404, None),
                // Taken, but the answer is cut off.
                6 => {
                    *taken += 1;
                    let answer = TransportReply {
                        status: 200,
                        headers: HeaderMap::new(),
                        body: Err(TransportError::Connect),
                    };
                    return (Ok(answer), true);
                }
                _ => build_reply(500, None),
            };
            return (answer, false);
        }
        *taken += 1;
        (build_reply(204, None), true)
    }

    /// One that asked for order takes no event of a record before another that it was not told is
    /// missing.
    fn check_event_order(
        &mut self,
        url: &str,
        id: &str,
        gap: Option<&str>,
        is_taken: bool,
        is_replay: bool,
    ) {
        let Some((FeedSource::Record(record), seq)) = EventId::parse(id) else {
            return;
        };
        let Some(inbox) = self.inboxes.get_mut(url).filter(|inbox| inbox.is_ordered) else {
            return;
        };
        let line = inbox.accounted_seqs.entry(record.to_string()).or_default();
        let gap = gap.unwrap_or_default().split(',');
        line.extend(gap.filter_map(|seq| seq.parse::<u64>().ok()));
        if is_taken && !is_replay {
            let before = (1..seq.0).find(|before| !line.contains(before));
            if let Some(before) = before.filter(|_| !line.contains(&seq.0)) {
                self.violations.push(format!(
                    "law 3: {url} asked for order and was told of {id} before {before}, and not that that is missing"
                ));
            }
        }
        if is_taken {
            line.insert(seq.0);
        }
    }
}

fn build_reply(status: u16, retry_after: Option<String>) -> Result<TransportReply, TransportError> {
    let mut headers = HeaderMap::new();
    if let Some(value) = retry_after.and_then(|text| text.parse().ok()) {
        headers.insert("retry-after", value);
    }
    Ok(TransportReply {
        status,
        headers,
        body: Ok(Bytes::new()),
    })
}
