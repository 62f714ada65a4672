//! Seventy-six hours of deliveries against a model, on a clock that is driven: outages of minutes,
//! hours and days, receivers that come back, endpoints whose secret is rotated, whose URL is changed,
//! that are disabled and deleted, and processes that are replaced.
//!
//! The model knows what was committed while which endpoint was there. The deliverer, the table and the
//! queue are the real ones; receivers stand behind [`Transport`] and know what may reach them when.
//!
//! `OKRA_TEST_THREE_DAYS=200 cargo test -p okra-webhooks three_days` draws 200 plans.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use okra_aws::Clock;
use okra_core::{
    feed::{BodyVersion, PayloadMode, Stream},
    health::{Gate, Health},
    ids::{EndpointId, ReplayId, Seq},
    model::Product,
    pace::Rate,
};
use okra_queue::{ReplayStep, Tend};
use okra_store::{Delivery, DeliveryState, Direction, Endpoint, Replay, ReplayOf, Retry};
use okra_webhooks::{
    AddressPolicy, DeliverConfig, Fault, Random, Reply, Request, SECRET_BYTES, Sender,
    SigningSecrets, Transport, endpoint_id,
};
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use standardwebhooks::Webhook;

use crate::support::{APP, RECORD, START, World};

/// How long a plan is.
const HOURS: i64 = 76;

/// Plans that are drawn unless the environment says otherwise.
const PLANS: u32 = 3;

/// Endpoints of the app.
const SLOTS: usize = 4;

/// Requests that a receiver which takes nothing may get besides its probes: ten open the circuit, a
/// dispatch of 32 may be under way, and what was waiting for its retry before tries once more.
const MAX_FUTILE: usize = 120;

/// Everything is looked at after so many things that happen.
const CHECKED: usize = 4;

/// Rounds of handling what is in the queue at one moment.
const MAX_ROUNDS: usize = 10_000;

/// What is wrong with a receiver.
#[derive(Clone, Copy, Debug)]
enum Ill {
    /// Answers this and takes nothing.
    Status(u16),
    /// The same, and asks for time.
    Asks(u16, &'static str),
    /// Cannot be reached.
    Unreachable(Fault),
    /// Takes the event, and breaks off before it has said so.
    BreaksOff,
    /// Refuses every third request or so.
    Flaky,
}

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Commit {
        stream: Stream,
        events: u64,
    },
    Outage {
        slot: usize,
        ill: Ill,
        minutes: i64,
    },
    /// 410 from now on, until somebody enables it.
    Gone {
        slot: usize,
    },
    Rotate {
        slot: usize,
        overlap_h: i64,
    },
    /// Another URL in place of the one there was, and what it missed is replayed.
    Move {
        slot: usize,
    },
    Delete {
        slot: usize,
    },
    /// A slot that is empty gets the URL again that it had before.
    Return {
        slot: usize,
    },
    Disable {
        slot: usize,
    },
    Enable {
        slot: usize,
    },
    /// The process is replaced.
    Restart,
    /// What is in the queue now comes twice.
    Twice,
}

fn ills() -> impl Strategy<Value = Ill> {
    prop_oneof![
        4 => prop::sample::select(vec![500, 404, 503, 429, 302, 502, 100]).prop_map(Ill::Status),
        2 => prop::sample::select(vec![
            (503, "120"),
            (429, "600"),
            (503, "1000000000"),
            (429, "-5"),
            (500, "300"),
            (503, "Sun, 01 Mar 2026 20:00:00 GMT"),
        ])
        .prop_map(|(status, asked)| Ill::Asks(status, asked)),
        2 => prop::sample::select(vec![
            Fault::Connect,
            Fault::Timeout,
            Fault::Dns,
            Fault::Tls,
        ])
        .prop_map(Ill::Unreachable),
        1 => Just(Ill::BreaksOff),
        2 => Just(Ill::Flaky),
    ]
}

/// Minutes of an outage: some, hours, days.
fn outages() -> impl Strategy<Value = i64> {
    prop_oneof![3 => 1..30_i64, 3 => 60..600_i64, 1 => 1440..3600_i64]
}

fn happenings() -> impl Strategy<Value = Happens> {
    let slot = || 0..SLOTS;
    let streams = prop_oneof![3 => Just(Stream::Balance), 1 => Just(Stream::Transactions)];
    let events = prop_oneof![8 => 1..4_u64, 3 => 8..30_u64, 1 => 40..60_u64];
    prop_oneof![
        20 => (streams, events).prop_map(|(stream, events)| Happens::Commit { stream, events }),
        6 => (slot(), ills(), outages())
            .prop_map(|(slot, ill, minutes)| Happens::Outage { slot, ill, minutes }),
        1 => slot().prop_map(|slot| Happens::Gone { slot }),
        2 => (slot(), 0..48_i64).prop_map(|(slot, overlap_h)| Happens::Rotate { slot, overlap_h }),
        1 => slot().prop_map(|slot| Happens::Move { slot }),
        1 => slot().prop_map(|slot| Happens::Delete { slot }),
        2 => slot().prop_map(|slot| Happens::Return { slot }),
        1 => slot().prop_map(|slot| Happens::Disable { slot }),
        2 => slot().prop_map(|slot| Happens::Enable { slot }),
        1 => Just(Happens::Restart),
        1 => Just(Happens::Twice),
    ]
}

/// Minutes until something happens, and what.
type Plan = Vec<(i64, Happens)>;

fn plans() -> impl Strategy<Value = Plan> {
    let pause = prop_oneof![3 => 0..3_i64, 4 => 3..60_i64, 2 => 60..400_i64];
    prop::collection::vec((pause, happenings()), 40..70)
}

/// A URL as the one behind it sees it.
#[derive(Default)]
struct Inbox {
    /// The secrets it verifies with, and until when.
    secrets: Vec<(String, Option<Timestamp>)>,
    ill: Option<Ill>,
    /// When the illness is over.
    until: Timestamp,
    gone: bool,
    /// Nothing may reach it.
    closed: bool,
    /// It asked, at the first moment, to be left alone until the second.
    asked: Option<(Timestamp, Timestamp)>,
    /// By event, the body of the first attempt.
    bodies: BTreeMap<String, Bytes>,
    /// Events of which it said that it had them.
    taken: BTreeSet<String>,
    /// Requests since the illness began that took nothing.
    futile: usize,
}

struct Desk {
    clock: Clock,
    inboxes: BTreeMap<String, Inbox>,
    broken: Vec<String>,
}

/// All receivers.
#[derive(Clone)]
struct Receivers(Arc<Mutex<Desk>>);

impl Receivers {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.lock().unwrap()
    }

    fn of<T>(&self, url: &str, change: impl FnOnce(&mut Inbox) -> T) -> T {
        change(self.desk().inboxes.entry(url.to_owned()).or_default())
    }
}

impl Transport for Receivers {
    fn post(&self, request: Request) -> BoxFuture<'_, Result<Reply, Fault>> {
        async move { self.desk().take(&request) }.boxed()
    }
}

impl Desk {
    fn take(&mut self, request: &Request) -> Result<Reply, Fault> {
        let now = self.clock.now();
        let header = |name: &str| request.headers[name].to_str().unwrap().to_owned();
        let (id, url) = (header("webhook-id"), request.url.as_str());
        let Some(inbox) = self.inboxes.get_mut(url) else {
            self.broken.push(format!("{url} was never an endpoint"));
            return Err(Fault::Connect);
        };
        let mut broken = |what: &str| self.broken.push(format!("{now} {url} {id}: {what}"));
        if inbox.closed {
            broken("sent to an endpoint that is disabled or deleted");
        }
        if inbox
            .asked
            .is_some_and(|(at, until)| at < now && now < until)
        {
            broken("it had asked to be left alone");
        }
        let timestamp = header("webhook-timestamp").parse::<i64>().unwrap();
        if timestamp != now.as_second() {
            broken("signed at another time than it was sent");
        }
        let signatures: Vec<String> = inbox
            .secrets
            .iter()
            .filter(|(_, until)| until.is_none_or(|until| now < until))
            .map(|(secret, _)| {
                let webhook = Webhook::new(secret).unwrap();
                webhook.sign(&id, timestamp, &request.body).unwrap()
            })
            .collect();
        if header("webhook-signature") != signatures.join(" ") {
            broken("not signed with the secrets that there are");
        }
        if let Err(wrong) = okra_wire::documented::check(&request.body) {
            broken(&wrong);
        }
        let first = inbox
            .bodies
            .entry(id.clone())
            .or_insert_with(|| request.body.clone());
        if *first != request.body {
            broken("other bytes than in the first attempt");
        }

        let ill = inbox.ill.filter(|_| now < inbox.until);
        let attempt: usize = header("okra-attempt").parse().unwrap();
        let (status, asked, body) = match ill {
            _ if inbox.gone => (410, None, Ok(Bytes::new())),
            Some(Ill::Status(status)) => (status, None, Ok(Bytes::new())),
            Some(Ill::Asks(status, asked)) => (status, Some(asked), Ok(Bytes::new())),
            Some(Ill::Unreachable(fault)) => {
                inbox.futile += 1;
                return Err(fault);
            }
            Some(Ill::BreaksOff) => (200, None, Err(Fault::Connect)),
            Some(Ill::Flaky) if refuses(&id, attempt) => (500, None, Ok(Bytes::new())),
            Some(Ill::Flaky) | None => (204, None, Ok(Bytes::new())),
        };
        let mut headers = HeaderMap::new();
        if let Some(asked) = asked {
            headers.insert("retry-after", asked.parse().unwrap());
            let seconds = okra_core::retry::retry_after_s(asked, now);
            if let (Some(seconds), 429 | 503) = (seconds, status) {
                let until = now + SignedDuration::from_secs(seconds.into());
                let known = inbox.asked.map_or(now, |(_, until)| until);
                inbox.asked = Some((now, until.max(known)));
            }
        }
        if status == 204 {
            inbox.taken.insert(id);
        } else {
            inbox.futile += 1;
        }
        Ok(Reply {
            status,
            headers,
            body,
        })
    }
}

/// An endpoint as the model knows it.
struct Slot {
    url: String,
    there: bool,
    /// URLs it had so far.
    moved: usize,
    disabled: bool,
    /// Since when its receiver takes everything.
    well_since: Timestamp,
}

struct Run {
    world: World,
    receivers: Receivers,
    slots: Vec<Slot>,
    /// What was committed, by place in the feed.
    committed: BTreeMap<u64, Stream>,
    /// What each URL has to have in the end, by place in the feed.
    owed: BTreeMap<String, BTreeSet<u64>>,
    /// Of these, what was still under way when the URL was deleted.
    cancelled: BTreeMap<String, BTreeSet<u64>>,
    /// Minutes in which the sweep finds something.
    minutes: BTreeSet<u64>,
    attempts_seen: usize,
    twice: bool,
    secrets: u8,
}

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// Which streams a slot wants, and how it says so.
fn wants(slot: usize, stream: Stream) -> bool {
    match slot {
        2 => stream == Stream::Transactions,
        3 => stream == Stream::Balance,
        _ => true,
    }
}

/// Whether a flaky receiver refuses this attempt at an event.
fn refuses(event: &str, attempt: usize) -> bool {
    let sum: usize = event.bytes().map(usize::from).sum();
    (sum + attempt).is_multiple_of(3)
}

fn event_id(seq: u64) -> String {
    okra_core::ids::EventId::of(RECORD, Seq(seq)).to_string()
}

impl Run {
    async fn new() -> Self {
        let clock = Clock::driven(START.parse().unwrap());
        let receivers = Receivers(Arc::new(Mutex::new(Desk {
            clock: clock.clone(),
            inboxes: BTreeMap::new(),
            broken: Vec::new(),
        })));
        let sender = Sender::over(Arc::new(receivers.clone()), AddressPolicy::PublicOnly);
        let config = DeliverConfig {
            rate: Rate::default(),
            processes: 32,
            ..DeliverConfig::new("https://okra.example")
        };
        let mut world = World::sending_by(clock, sender, config).await;
        world.restart(Random::seeded(0));
        let mut run = Self {
            world,
            receivers,
            slots: Vec::new(),
            committed: BTreeMap::new(),
            owed: BTreeMap::new(),
            cancelled: BTreeMap::new(),
            minutes: BTreeSet::new(),
            attempts_seen: 0,
            twice: false,
            secrets: 0,
        };
        for slot in 0..SLOTS {
            run.slots.push(Slot {
                url: format!("https://slot-{slot}.example/0"),
                there: false,
                moved: 0,
                disabled: false,
                well_since: run.now(),
            });
            run.set_up(slot).await;
        }
        run
    }

    fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    fn id(&self, slot: usize) -> EndpointId {
        endpoint_id(APP, &self.slots[slot].url)
    }

    fn fresh(&mut self) -> [u8; SECRET_BYTES] {
        self.secrets = self.secrets.wrapping_add(1);
        [self.secrets; SECRET_BYTES]
    }

    /// Makes a slot's URL an endpoint, as the API does.
    async fn set_up(&mut self, slot: usize) {
        let entropy = self.fresh();
        let secrets = SigningSecrets::fresh(&entropy);
        let (id, url) = (self.id(slot), self.slots[slot].url.clone());
        let endpoint = Endpoint {
            id,
            app: APP,
            url: url.clone(),
            secrets: self
                .world
                .deliverer
                .keyring()
                .seal_secrets(id, &secrets)
                .unwrap(),
            bearer: None,
            previous_until: None,
            products: if slot == 2 {
                vec![Product::Transactions]
            } else {
                vec![]
            },
            events: if slot == 3 {
                vec!["balance.*".to_owned()]
            } else {
                vec![]
            },
            payload: if slot == 1 {
                PayloadMode::Reference
            } else {
                PayloadMode::Full
            },
            version: BodyVersion::LATEST,
            ordered_since: None,
            rate: (slot == 0).then_some(200),
            created_at: self.now(),
        };
        self.world.store.put_endpoint(&endpoint).await.unwrap();
        self.receivers.of(&url, |inbox| {
            inbox.closed = false;
            inbox.gone = false;
            inbox.secrets = vec![(secrets.current().to_owned(), None)];
        });
        self.owed.entry(url.clone()).or_default();
        self.cancelled.entry(url).or_default();
        self.slots[slot].there = true;
        self.slots[slot].disabled = false;
    }

    /// Deletes it, as the API does.
    async fn take_down(&mut self, slot: usize) {
        let id = self.id(slot);
        self.world.store.delete_endpoint(APP, id).await.unwrap();
        self.change_health(id, |health| *health = Health::default())
            .await;
        self.receivers
            .of(&self.slots[slot].url, |inbox| inbox.closed = true);
        let taken = self
            .receivers
            .of(&self.slots[slot].url, |inbox| inbox.taken.clone());
        let left = self.owed[&self.slots[slot].url].iter().copied();
        let left: Vec<u64> = left
            .filter(|seq| !taken.contains(&event_id(*seq)))
            .collect();
        let url = self.slots[slot].url.clone();
        self.cancelled.get_mut(&url).unwrap().extend(left);
        self.slots[slot].there = false;
        self.settle().await;
    }

    async fn change_health(&self, endpoint: EndpointId, change: impl Fn(&mut Health)) {
        self.world.change_health(endpoint, change).await;
        let tend = Tend { app: APP, endpoint };
        self.world.queues.send_tends(&[(tend, 0)]).await.unwrap();
    }

    async fn happen(&mut self, happens: Happens) {
        match happens {
            Happens::Commit { stream, events } => self.commit(stream, events).await,
            Happens::Outage { slot, ill, minutes } => {
                let until = self.now() + MINUTE * i32::try_from(minutes).unwrap();
                self.receivers.of(&self.slots[slot].url, |inbox| {
                    inbox.ill = Some(ill);
                    inbox.until = until;
                    inbox.futile = 0;
                });
                self.slots[slot].well_since = until;
            }
            Happens::Gone { slot } => {
                self.receivers.of(&self.slots[slot].url, |inbox| {
                    (inbox.gone, inbox.futile) = (true, 0);
                });
            }
            Happens::Rotate { slot, overlap_h } if self.slots[slot].there => {
                self.rotate(slot, overlap_h).await;
            }
            Happens::Move { slot } if self.slots[slot].there => {
                self.take_down(slot).await;
                self.slots[slot].moved += 1;
                let moved = self.slots[slot].moved;
                self.slots[slot].url = format!("https://slot-{slot}.example/{moved}");
                self.slots[slot].well_since = self.now();
                self.set_up(slot).await;
                self.replay(slot).await;
            }
            Happens::Delete { slot } if self.slots[slot].there => self.take_down(slot).await,
            Happens::Return { slot } if !self.slots[slot].there => self.set_up(slot).await,
            Happens::Disable { slot } if self.slots[slot].there => {
                let (now, id) = (self.now(), self.id(slot));
                self.change_health(id, |health| health.disable(now)).await;
                self.receivers
                    .of(&self.slots[slot].url, |inbox| inbox.closed = true);
                self.slots[slot].disabled = true;
            }
            Happens::Enable { slot } if self.slots[slot].there => self.enable(slot).await,
            Happens::Restart => self
                .world
                .restart(Random::seeded(self.attempts_seen as u64)),
            Happens::Twice => self.twice = true,
            _ => {}
        }
    }

    async fn enable(&mut self, slot: usize) {
        self.receivers.of(&self.slots[slot].url, |inbox| {
            (inbox.closed, inbox.gone, inbox.asked, inbox.futile) = (false, false, None, 0);
        });
        self.slots[slot].disabled = false;
        let now = self.now();
        self.slots[slot].well_since = self.slots[slot].well_since.max(now);
        self.change_health(self.id(slot), Health::enable).await;
    }

    async fn commit(&mut self, stream: Stream, events: u64) {
        let dispatch = match stream {
            Stream::Transactions => self.world.commit_transaction().await,
            _ => self.world.commit_balances(events).await,
        };
        for seq in dispatch.from.0..=dispatch.to.0 {
            self.committed.insert(seq, stream);
            for (n, slot) in self.slots.iter().enumerate() {
                if slot.there && wants(n, stream) {
                    self.owed.get_mut(&slot.url).unwrap().insert(seq);
                }
            }
        }
        self.world
            .queues
            .send_dispatches(&[dispatch], 0)
            .await
            .unwrap();
    }

    async fn rotate(&mut self, slot: usize, overlap_h: i64) {
        let until = self.now() + SignedDuration::from_hours(overlap_h);
        let (id, entropy) = (self.id(slot), self.fresh());
        let mut endpoint = self.world.store.endpoint(APP, id).await.unwrap().unwrap();
        let keyring = self.world.deliverer.keyring();
        let rotated = keyring.secrets(&endpoint).unwrap().rotated(&entropy);
        endpoint.secrets = keyring.seal_secrets(id, &rotated).unwrap();
        endpoint.previous_until = Some(until);
        self.world.store.put_endpoint(&endpoint).await.unwrap();
        self.receivers.of(&self.slots[slot].url, |inbox| {
            let (before, _) = inbox.secrets.swap_remove(0);
            inbox.secrets = vec![(rotated.current().to_owned(), None), (before, Some(until))];
        });
    }

    /// Tells a URL of everything that it has not been told.
    async fn replay(&mut self, slot: usize) {
        let now = self.now();
        let id = ReplayId::from_bytes(
            [u8::try_from(self.slots[slot].moved * SLOTS + slot).unwrap(); 12],
        );
        let mut replay = Replay {
            record: Some(RECORD),
            times: (Timestamp::UNIX_EPOCH, now),
            ..Replay::begun(id, (APP, self.id(slot)), ReplayOf::Missing, 200, now)
        };
        let known = self.world.store.replay(APP, id).await.unwrap();
        replay.version = known.map_or(0, |known| known.version);
        assert!(self.world.store.put_replay(&mut replay).await.unwrap());
        let step = ReplayStep {
            app: APP,
            replay: id,
            version: replay.version,
        };
        self.world.queues.send_replay(step, 0).await.unwrap();
        let all = self
            .committed
            .iter()
            .filter(|(_, stream)| wants(slot, **stream));
        let owed = self.owed.get_mut(&self.slots[slot].url).unwrap();
        owed.extend(all.map(|(seq, _)| *seq));
    }

    /// Handles what is in the queue now and what that enqueues; true where there was anything.
    async fn settle(&mut self) -> bool {
        for round in 0..MAX_ROUNDS {
            let messages = self.world.messages().await;
            if messages.is_empty() {
                self.note();
                return round > 0;
            }
            for message in messages {
                for _ in 0..=usize::from(self.twice) {
                    self.world.handle(message.clone()).await.unwrap();
                }
            }
        }
        panic!("the queue never comes to rest at {}", self.now());
    }

    /// Remembers which minutes the sweep has to look at, and who must be left alone from now on.
    fn note(&mut self) {
        self.twice = false;
        let attempts = self.world.attempts_after(self.attempts_seen);
        self.attempts_seen += attempts.len();
        let mut due: Vec<Timestamp> = attempts.iter().filter_map(|it| it.next_at).collect();
        let mut desk = self.receivers.desk();
        for inbox in desk.inboxes.values_mut() {
            due.extend(inbox.asked.map(|(_, until)| until));
            // What was under way when it said so may have come since.
            inbox.closed |= inbox.gone && inbox.futile > 0;
        }
        drop(desk);
        let now = Retry::minute_of(self.now());
        for due in due {
            let minute = Retry::minute_of(due + SignedDuration::from_secs(59));
            self.minutes
                .extend([minute, minute + 1].into_iter().filter(|it| *it > now));
        }
    }

    async fn run_until(&mut self, end: Timestamp) {
        let mut step = SignedDuration::from_secs(1);
        loop {
            let handled = self.settle().await;
            let now = self.now();
            if now >= end {
                return;
            }
            let depth = self.world.emulator.depth("deliver").unwrap();
            let waiting = depth.delayed + depth.visible > 0;
            step = if handled {
                SignedDuration::from_secs(1)
            } else {
                (step * 2).min(MINUTE)
            };
            let mut next = if waiting { (now + step).min(end) } else { end };
            if let Some(minute) = self.minutes.first().copied() {
                let due = Timestamp::from_second(i64::try_from(minute).unwrap() * 60).unwrap();
                if due <= next {
                    self.minutes.pop_first();
                    next = due.max(now);
                    self.world.set(next);
                    self.sweep(minute).await;
                    continue;
                }
            }
            self.world.set(next);
        }
    }

    /// The minutes before are empty, or were swept.
    async fn sweep(&self, minute: u64) {
        let before = serde_json::json!({ "minute": minute - 1 });
        self.world.store.put_state("sweep", &before).await.unwrap();
        self.world.deliverer.sweep(self.now()).await.unwrap();
    }

    async fn rows(&self, url: &str) -> HashMap<u64, Delivery> {
        let endpoint = endpoint_id(APP, url);
        let times = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        let mut rows = HashMap::new();
        let mut after = None;
        loop {
            let page = self
                .world
                .store
                .deliveries_of(endpoint, times, after.as_ref(), Direction::Forward, 1000)
                .await
                .unwrap();
            after = page.last().map(|row| row.key);
            let last = page.len() < 1000;
            rows.extend(page.into_iter().map(|row| (row.key.seq.0, row)));
            if last {
                return rows;
            }
        }
    }

    /// What holds at every moment.
    async fn check(&mut self) {
        let broken = std::mem::take(&mut self.receivers.desk().broken);
        assert!(broken.is_empty(), "{broken:#?}");
        let depth = self.world.emulator.depth("deliver").unwrap();
        let waiting = depth.delayed + depth.visible > 0;
        for slot in 0..SLOTS {
            self.check_slot(slot, waiting).await;
        }
    }

    async fn check_slot(&self, slot: usize, waiting: bool) {
        let now = self.now();
        let Slot {
            url,
            well_since,
            there,
            ..
        } = &self.slots[slot];
        let rows = self.rows(url).await;
        let health = self.world.store.health(self.id(slot)).await.unwrap().health;
        let parked = self
            .world
            .store
            .parked(self.id(slot), 10_000)
            .await
            .unwrap();
        let parked: BTreeSet<u64> = parked.iter().map(|key| key.seq.0).collect();
        let (taken, futile, gone) = self.receivers.of(url, |inbox| {
            let ill = inbox.ill.is_some() && now < inbox.until;
            let lasts = if matches!(inbox.ill, Some(Ill::Flaky)) || !ill {
                0
            } else {
                inbox.futile
            };
            (inbox.taken.clone(), lasts, inbox.gone)
        });
        let owed = &self.owed[url];
        let ids: BTreeSet<String> = owed.iter().map(|seq| event_id(*seq)).collect();
        let invented: Vec<_> = taken.difference(&ids).collect();
        assert!(invented.is_empty(), "{url} got {invented:?}");
        assert!(
            futile <= MAX_FUTILE + 3 * 76,
            "{url} was tried {futile} times in vain"
        );
        for seq in owed {
            let row = rows.get(seq);
            let at = format!("{now} {url} {seq} {row:?} {health:?}");
            match row.map(|row| row.state) {
                Some(DeliveryState::Delivered) => assert!(taken.contains(&event_id(*seq)), "{at}"),
                Some(DeliveryState::Parked) => {
                    assert!(parked.contains(seq), "parked and forgotten: {at}");
                    let tended = waiting || health.gate(now) == Gate::Park;
                    assert!(tended, "parked at an endpoint that takes events: {at}");
                }
                Some(DeliveryState::Retry) => {
                    let due = rows[seq].next_at.unwrap();
                    assert!(due + MINUTE * 3 > now, "overdue: {at}");
                }
                // Ten attempts at an endpoint open its circuit.
                Some(DeliveryState::Exhausted) => panic!("given up: {at}"),
                Some(DeliveryState::Cancelled) => {
                    assert!(self.cancelled[url].contains(seq), "{at}");
                }
                // Its turn has not come, or the endpoint asked for time.
                None => assert!(
                    waiting || !self.minutes.is_empty() || !there,
                    "not told: {at}"
                ),
            }
        }
        // An endpoint that is back has what was parked within half an hour and what it asked for.
        let asked = self
            .receivers
            .of(url, |inbox| inbox.asked.map_or(now, |(_, until)| until));
        let quiet = asked.max(*well_since);
        let drained = quiet + MINUTE * 36;
        if *there && health.disabled.is_none() && !gone && drained < now {
            assert!(
                parked.is_empty(),
                "{now} {url} still has {parked:?}: {health:?}"
            );
        }
    }

    /// Everybody is well and enabled again, and what is left is given its time.
    async fn come_to_rest(&mut self) {
        for slot in 0..SLOTS {
            let url = self.slots[slot].url.clone();
            self.receivers.of(&url, |inbox| inbox.ill = None);
            self.slots[slot].well_since = self.slots[slot].well_since.min(self.now());
            if self.slots[slot].there {
                self.enable(slot).await;
            }
        }
        // The longest wait of the schedule, with its jitter.
        let end = self.now() + SignedDuration::from_hours(30);
        self.run_until(end).await;
        self.check().await;
        for slot in self.slots.iter().filter(|slot| slot.there) {
            let rows = self.rows(&slot.url).await;
            let taken = self.receivers.of(&slot.url, |inbox| inbox.taken.clone());
            for seq in &self.owed[&slot.url] {
                let row = &rows[seq];
                // Checked above: it was under way when the endpoint was deleted.
                let cancelled = row.state == DeliveryState::Cancelled;
                assert!(
                    cancelled || taken.contains(&event_id(*seq)),
                    "{} lost {seq}: {row:?}",
                    slot.url
                );
                let settled = cancelled || row.state == DeliveryState::Delivered;
                assert!(settled, "{} {seq}: {row:?}", slot.url);
            }
            let id = endpoint_id(APP, &slot.url);
            assert_eq!(self.world.store.parked(id, 10).await.unwrap(), []);
        }
        let depth = self.world.emulator.depth("deliver").unwrap();
        assert_eq!(
            (depth.visible, depth.delayed),
            (0, 0),
            "somebody is still looked after"
        );
    }
}

async fn run(plan: &Plan) {
    let mut run = Run::new().await;
    let end = run.now() + SignedDuration::from_hours(HOURS);
    for (n, (pause, happens)) in plan.iter().enumerate() {
        let then = run.now() + MINUTE * i32::try_from(*pause).unwrap();
        if then > end {
            break;
        }
        run.run_until(then).await;
        run.happen(*happens).await;
        run.settle().await;
        if n % CHECKED == 0 {
            run.check().await;
        }
    }
    run.run_until(end).await;
    run.check().await;
    run.come_to_rest().await;
}

#[test]
fn three_days() {
    let drawn = std::env::var("OKRA_TEST_THREE_DAYS").ok();
    let cases = drawn.as_deref().map_or(PLANS, |text| text.parse().unwrap());
    let config = Config {
        cases,
        max_shrink_iters: 60,
        failure_persistence: None,
        ..Config::default()
    };
    // The same plans each time, unless others are asked for.
    let mut runner = match drawn {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    };
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
    };
    let outcome = runner.run(&plans(), |plan| {
        runtime().block_on(run(&plan));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
