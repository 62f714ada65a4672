//! Receivers of webhooks: what they took, and how they fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::HeaderMap;
use okra_core::ids::{EventId, Source};
use okra_webhooks::{Fault, Reply, Request, Transport};

use crate::{
    cloud::Now,
    gate::{Fate, Gate, Kind, Side},
    random::Random,
};

/// What one URL is sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inbox {
    /// By event id: the body of the first attempt, and how often it was taken.
    pub(crate) events: BTreeMap<String, (Bytes, u32)>,
    /// It asked for the events of a record one after another.
    pub(crate) ordered: bool,
    /// By record: the events that were taken, or of which another said that they are missing.
    lines: BTreeMap<String, BTreeSet<u64>>,
    /// Answers 410 from now on.
    pub(crate) gone: bool,
    /// Answers nothing good until then, in milliseconds since 1970.
    pub(crate) down_until: i64,
}

#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) inboxes: BTreeMap<String, Inbox>,
    /// How often a receiver misbehaves, in a thousand.
    pub(crate) failing: u16,
    random: Random,
    /// Broken promises, found as they are made.
    pub(crate) broken: Vec<String>,
}

/// All receivers of a world. Clones are one.
#[derive(Clone)]
pub(crate) struct Receivers {
    desk: Arc<Mutex<Desk>>,
    gate: Gate,
    now: Now,
}

impl Receivers {
    pub(crate) fn new(gate: Gate, now: Now, random: Random) -> Self {
        let desk = Desk {
            inboxes: BTreeMap::new(),
            failing: 0,
            random,
            broken: Vec::new(),
        };
        Self {
            desk: Arc::new(Mutex::new(desk)),
            gate,
            now,
        }
    }

    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport for Receivers {
    fn post(&self, request: Request) -> BoxFuture<'_, Result<Reply, Fault>> {
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
                .gate
                .pass(Side::Before, Kind::Receiver, label.clone())
                .await;
            let answer = match fate {
                Fate::Unreachable => Err(Fault::Connect),
                _ => {
                    let now = (self.now)();
                    let mut desk = self.desk();
                    let url = request.url.as_str();
                    let (answer, takes) = desk.take(url, &id, &request.body, now);
                    desk.in_line(url, &id, gap.as_deref(), takes, asked);
                    answer
                }
            };
            self.gate.pass(Side::After, Kind::Receiver, label).await;
            answer
        }
        .boxed()
    }
}

impl Desk {
    pub(crate) fn ask_for_order(&mut self, url: &str, ordered: bool) {
        self.inboxes.entry(url.to_owned()).or_default().ordered = ordered;
    }

    /// The answer, and whether the event was taken.
    fn take(
        &mut self,
        url: &str,
        id: &str,
        body: &Bytes,
        now: i64,
    ) -> (Result<Reply, Fault>, bool) {
        let inbox = self.inboxes.entry(url.to_owned()).or_default();
        if !inbox.events.contains_key(id)
            && let Err(wrong) = okra_wire::documented::check(body)
        {
            self.broken.push(format!("delivery: {url}: {wrong}"));
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
            self.broken.push(format!(
                "delivery: two attempts of event {id} at {url} have other bodies: ..{}.. and ..{}..",
                part(&a), part(&b)
            ));
        }
        if inbox.gone {
            return (reply(410, None), false);
        }
        if now < inbox.down_until {
            let answer = match self.random.below(3) {
                0 => Err(Fault::Timeout),
                1 => Err(Fault::Connect),
                _ => reply(503, None),
            };
            return (answer, false);
        }
        if self.random.chance(self.failing) {
            let answer = match self.random.below(8) {
                0 => Err(Fault::Timeout),
                1 => Err(Fault::Connect),
                2 => reply(429, Some(self.random.between(1, 4000).to_string())),
                3 => reply(503, None),
                4 => reply(302, None),
                5 => reply(404, None),
                // Taken, but the answer is cut off.
                6 => {
                    *taken += 1;
                    let answer = Reply {
                        status: 200,
                        headers: HeaderMap::new(),
                        body: Err(Fault::Connect),
                    };
                    return (Ok(answer), true);
                }
                _ => reply(500, None),
            };
            return (answer, false);
        }
        *taken += 1;
        (reply(204, None), true)
    }

    /// One that asked for order takes no event of a record before another that it was not told is
    /// missing.
    fn in_line(&mut self, url: &str, id: &str, gap: Option<&str>, takes: bool, asked: bool) {
        let Some((Source::Record(record), seq)) = EventId::parse(id) else {
            return;
        };
        let Some(inbox) = self.inboxes.get_mut(url).filter(|inbox| inbox.ordered) else {
            return;
        };
        let line = inbox.lines.entry(record.to_string()).or_default();
        let gap = gap.unwrap_or_default().split(',');
        line.extend(gap.filter_map(|seq| seq.parse::<u64>().ok()));
        if takes && !asked {
            let before = (1..seq.0).find(|before| !line.contains(before));
            if let Some(before) = before.filter(|_| !line.contains(&seq.0)) {
                self.broken.push(format!(
                    "law 3: {url} asked for order and was told of {id} before {before}, and not that that is missing"
                ));
            }
        }
        if takes {
            line.insert(seq.0);
        }
    }
}

fn reply(status: u16, retry_after: Option<String>) -> Result<Reply, Fault> {
    let mut headers = HeaderMap::new();
    if let Some(value) = retry_after.and_then(|text| text.parse().ok()) {
        headers.insert("retry-after", value);
    }
    Ok(Reply {
        status,
        headers,
        body: Ok(Bytes::new()),
    })
}
