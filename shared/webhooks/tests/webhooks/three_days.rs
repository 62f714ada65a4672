//! Seventy-six hours of deliveries against a model, on a driven clock: outages of minutes, hours and days, receivers that
//! recover, endpoints whose secret is rotated, whose URL is changed, that are disabled and deleted, and processes that are
//! replaced.
//!
//! The model knows what was committed while which endpoint existed. The deliverer, the table and the queue are the real
//! ones; receivers stand behind a [`WebhookTransport`] and know what may arrive when.
//!
//! `OKRA_TEST_THREE_DAYS=200 cargo test -p okra-webhooks three_days` draws 200 plans.

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
    delivery::endpoint_health::{EndpointAdmission, EndpointHealth},
    model::{
        ids::{EndpointId, ReplayId, Seq},
        snapshot::Product,
    },
    resilience::rate_limiter::SendRate,
    sync::feed::{BodyVersion, FeedStream, PayloadMode},
};
use okra_queue::{EndpointMaintenance, ReplayStep};
use okra_store::{Delivery, DeliveryState, Endpoint, Replay, ReplayFilter, RetryEntry, SortOrder};
use okra_webhooks::{
    AddressPolicy, DeliverConfig, JitterRandom, SECRET_BYTES, SigningSecrets, TransportError,
    TransportReply, TransportRequest, WebhookSender, WebhookTransport, endpoint_id,
};
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use standardwebhooks::Webhook;

use crate::support::{APP, DeliveryWorld, RECORD, START};

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
enum ReceiverFault {
    /// Answers this and takes nothing.
    Status(u16),
    /// The same, and asks for time.
    StatusWithRetryAfter(u16, &'static str),
    /// Cannot be reached.
    Unreachable(TransportError),
    /// Takes the event, and breaks off before it has said so.
    TruncatedResponse,
    /// Refuses every third request or so.
    Flaky,
}

/// What happens.
#[derive(Clone, Copy, Debug)]
enum PlannedEvent {
    Commit {
        stream: FeedStream,
        events: u64,
    },
    Outage {
        slot: usize,
        ill: ReceiverFault,
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
    DuplicateMessages,
}

fn receiver_faults() -> impl Strategy<Value = ReceiverFault> {
    prop_oneof![
        4 => prop::sample::select(vec![500, 404, 503, 429, 302, 502, 100]).prop_map(ReceiverFault::Status),
        2 => prop::sample::select(vec![
            (503, "120"),
            (429, "600"),
            (503, "1000000000"),
            (429, "-5"),
            (500, "300"),
            (503, "Sun, 01 Mar 2026 20:00:00 GMT"),
        ])
        .prop_map(|(status, asked)| ReceiverFault::StatusWithRetryAfter(status, asked)),
        2 => prop::sample::select(vec![
            TransportError::Connect,
            TransportError::Timeout,
            TransportError::Dns,
            TransportError::Tls,
        ])
        .prop_map(ReceiverFault::Unreachable),
        1 => Just(ReceiverFault::TruncatedResponse),
        2 => Just(ReceiverFault::Flaky),
    ]
}

/// Minutes of an outage: some, hours, days.
fn outage_minutes() -> impl Strategy<Value = i64> {
    prop_oneof![3 => 1..30_i64, 3 => 60..600_i64, 1 => 1440..3600_i64]
}

fn planned_events() -> impl Strategy<Value = PlannedEvent> {
    let slot = || 0..SLOTS;
    let streams = prop_oneof![3 => Just(FeedStream::Balance), 1 => Just(FeedStream::Transactions)];
    let events = prop_oneof![8 => 1..4_u64, 3 => 8..30_u64, 1 => 40..60_u64];
    prop_oneof![
        20 => (streams, events).prop_map(|(stream, events)| PlannedEvent::Commit { stream, events }),
        6 => (slot(), receiver_faults(), outage_minutes())
            .prop_map(|(slot, ill, minutes)| PlannedEvent::Outage { slot, ill, minutes }),
        1 => slot().prop_map(|slot| PlannedEvent::Gone { slot }),
        2 => (slot(), 0..48_i64).prop_map(|(slot, overlap_h)| PlannedEvent::Rotate { slot, overlap_h }),
        1 => slot().prop_map(|slot| PlannedEvent::Move { slot }),
        1 => slot().prop_map(|slot| PlannedEvent::Delete { slot }),
        2 => slot().prop_map(|slot| PlannedEvent::Return { slot }),
        1 => slot().prop_map(|slot| PlannedEvent::Disable { slot }),
        2 => slot().prop_map(|slot| PlannedEvent::Enable { slot }),
        1 => Just(PlannedEvent::Restart),
        1 => Just(PlannedEvent::DuplicateMessages),
    ]
}

/// Minutes until something happens, and what.
type ThreeDayPlan = Vec<(i64, PlannedEvent)>;

fn three_day_plans() -> impl Strategy<Value = ThreeDayPlan> {
    let pause = prop_oneof![3 => 0..3_i64, 4 => 3..60_i64, 2 => 60..400_i64];
    prop::collection::vec((pause, planned_events()), 40..70)
}

/// A URL as the one behind it sees it.
#[derive(Default)]
struct ModelInbox {
    /// The secrets it verifies with, and until when.
    secrets: Vec<(String, Option<Timestamp>)>,
    fault: Option<ReceiverFault>,
    /// When the illness is over.
    fault_until: Timestamp,
    is_gone: bool,
    /// Nothing may reach it.
    is_closed: bool,
    /// It asked, at the first moment, to be left alone until the second.
    retry_after_window: Option<(Timestamp, Timestamp)>,
    /// By event, the body of the first attempt.
    bodies: BTreeMap<String, Bytes>,
    /// Events of which it said that it had them.
    accepted_events: BTreeSet<String>,
    /// Requests since the illness began that took nothing.
    futile_requests: usize,
}

struct ModelReceivers {
    clock: Clock,
    inboxes: BTreeMap<String, ModelInbox>,
    violations: Vec<String>,
}

/// All receivers.
#[derive(Clone)]
struct SharedReceivers(Arc<Mutex<ModelReceivers>>);

impl SharedReceivers {
    fn lock_receivers(&self) -> MutexGuard<'_, ModelReceivers> {
        self.0.lock().unwrap()
    }

    fn change_inbox<T>(&self, url: &str, change: impl FnOnce(&mut ModelInbox) -> T) -> T {
        change(
            self.lock_receivers()
                .inboxes
                .entry(url.to_owned())
                .or_default(),
        )
    }
}

impl WebhookTransport for SharedReceivers {
    fn post_request(
        &self,
        request: TransportRequest,
    ) -> BoxFuture<'_, Result<TransportReply, TransportError>> {
        async move { self.lock_receivers().take_request(&request) }.boxed()
    }
}

impl ModelReceivers {
    fn take_request(
        &mut self,
        request: &TransportRequest,
    ) -> Result<TransportReply, TransportError> {
        let now = self.clock.now();
        let header = |name: &str| request.headers[name].to_str().unwrap().to_owned();
        let (id, url) = (header("webhook-id"), request.url.as_str());
        let Some(inbox) = self.inboxes.get_mut(url) else {
            self.violations.push(format!("{url} was never an endpoint"));
            return Err(TransportError::Connect);
        };
        let mut broken = |what: &str| self.violations.push(format!("{now} {url} {id}: {what}"));
        if inbox.is_closed {
            broken("sent to an endpoint that is disabled or deleted");
        }
        if inbox
            .retry_after_window
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
        if let Err(wrong) = okra_wire::documented::check_documented_body(&request.body) {
            broken(&wrong);
        }
        let first = inbox
            .bodies
            .entry(id.clone())
            .or_insert_with(|| request.body.clone());
        if *first != request.body {
            broken("other bytes than in the first attempt");
        }

        let ill = inbox.fault.filter(|_| now < inbox.fault_until);
        let attempt: usize = header("okra-attempt").parse().unwrap();
        let (status, asked, body) = match ill {
            _ if inbox.is_gone => (410, None, Ok(Bytes::new())),
            Some(ReceiverFault::Status(status)) => (status, None, Ok(Bytes::new())),
            Some(ReceiverFault::StatusWithRetryAfter(status, asked)) => {
                (status, Some(asked), Ok(Bytes::new()))
            }
            Some(ReceiverFault::Unreachable(fault)) => {
                inbox.futile_requests += 1;
                return Err(fault);
            }
            Some(ReceiverFault::TruncatedResponse) => (200, None, Err(TransportError::Connect)),
            Some(ReceiverFault::Flaky) if flaky_receiver_rejects(&id, attempt) => {
                (500, None, Ok(Bytes::new()))
            }
            Some(ReceiverFault::Flaky) | None => (204, None, Ok(Bytes::new())),
        };
        let mut headers = HeaderMap::new();
        if let Some(asked) = asked {
            headers.insert("retry-after", asked.parse().unwrap());
            let seconds = okra_core::delivery::retry::parse_retry_after_s(asked, now);
            if let (Some(seconds), 429 | 503) = (seconds, status) {
                let until = now + SignedDuration::from_secs(seconds.into());
                let known = inbox.retry_after_window.map_or(now, |(_, until)| until);
                inbox.retry_after_window = Some((now, until.max(known)));
            }
        }
        if status == 204 {
            inbox.accepted_events.insert(id);
        } else {
            inbox.futile_requests += 1;
        }
        Ok(TransportReply {
            status,
            headers,
            body,
        })
    }
}

/// An endpoint as the model knows it.
struct EndpointSlot {
    url: String,
    is_registered: bool,
    /// URLs it had so far.
    url_count: usize,
    is_disabled: bool,
    /// Since when its receiver takes everything.
    well_since: Timestamp,
}

struct ThreeDayRun {
    world: DeliveryWorld,
    receivers: SharedReceivers,
    slots: Vec<EndpointSlot>,
    /// What was committed, by place in the feed.
    committed: BTreeMap<u64, FeedStream>,
    /// What each URL has to have in the end, by place in the feed.
    owed_by_url: BTreeMap<String, BTreeSet<u64>>,
    /// Of these, what was still under way when the URL was deleted.
    cancelled_by_url: BTreeMap<String, BTreeSet<u64>>,
    /// Minutes in which the sweep finds something.
    sweep_minutes: BTreeSet<u64>,
    attempts_seen: usize,
    duplicate_messages: bool,
    secrets_made: u8,
}

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// Which streams a slot wants, and how it says so.
fn slot_wants_stream(slot: usize, stream: FeedStream) -> bool {
    match slot {
        2 => stream == FeedStream::Transactions,
        3 => stream == FeedStream::Balance,
        _ => true,
    }
}

/// Whether a flaky receiver refuses this attempt at an event.
fn flaky_receiver_rejects(event: &str, attempt: usize) -> bool {
    let sum: usize = event.bytes().map(usize::from).sum();
    (sum + attempt).is_multiple_of(3)
}

fn event_id(seq: u64) -> String {
    okra_core::model::ids::EventId::for_record_entry(RECORD, Seq(seq)).to_string()
}

impl ThreeDayRun {
    async fn new() -> Self {
        let clock = Clock::manual_at(START.parse().unwrap());
        let receivers = SharedReceivers(Arc::new(Mutex::new(ModelReceivers {
            clock: clock.clone(),
            inboxes: BTreeMap::new(),
            violations: Vec::new(),
        })));
        let sender =
            WebhookSender::with_transport(Arc::new(receivers.clone()), AddressPolicy::PublicOnly);
        let config = DeliverConfig {
            default_rate: SendRate::default(),
            max_processes: 32,
            ..DeliverConfig::new("https://okra.example")
        };
        let mut world = DeliveryWorld::with_sender(clock, sender, config).await;
        world.restart_process(JitterRandom::from_seed(0));
        let mut run = Self {
            world,
            receivers,
            slots: Vec::new(),
            committed: BTreeMap::new(),
            owed_by_url: BTreeMap::new(),
            cancelled_by_url: BTreeMap::new(),
            sweep_minutes: BTreeSet::new(),
            attempts_seen: 0,
            duplicate_messages: false,
            secrets_made: 0,
        };
        for slot in 0..SLOTS {
            run.slots.push(EndpointSlot {
                url: format!("https://slot-{slot}.example/0"),
                is_registered: false,
                url_count: 0,
                is_disabled: false,
                well_since: run.now(),
            });
            run.register_endpoint(slot).await;
        }
        run
    }

    fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    fn slot_endpoint_id(&self, slot: usize) -> EndpointId {
        endpoint_id(APP, &self.slots[slot].url)
    }

    fn next_entropy(&mut self) -> [u8; SECRET_BYTES] {
        self.secrets_made = self.secrets_made.wrapping_add(1);
        [self.secrets_made; SECRET_BYTES]
    }

    /// Makes a slot's URL an endpoint, as the API does.
    async fn register_endpoint(&mut self, slot: usize) {
        let entropy = self.next_entropy();
        let secrets = SigningSecrets::from_entropy(&entropy);
        let (id, url) = (self.slot_endpoint_id(slot), self.slots[slot].url.clone());
        let endpoint = Endpoint {
            id,
            app: APP,
            url: url.clone(),
            sealed_secrets: self
                .world
                .deliverer
                .keyring()
                .seal_secrets(id, &secrets)
                .unwrap(),
            sealed_bearer: None,
            previous_secret_until: None,
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
            payload_mode: if slot == 1 {
                PayloadMode::Reference
            } else {
                PayloadMode::Full
            },
            body_version: BodyVersion::LATEST,
            ordered_since: None,
            events_per_second: (slot == 0).then_some(200),
            created_at: self.now(),
        };
        self.world.store.put_endpoint(&endpoint).await.unwrap();
        self.receivers.change_inbox(&url, |inbox| {
            inbox.is_closed = false;
            inbox.is_gone = false;
            inbox.secrets = vec![(secrets.current_secret().to_owned(), None)];
        });
        self.owed_by_url.entry(url.clone()).or_default();
        self.cancelled_by_url.entry(url).or_default();
        self.slots[slot].is_registered = true;
        self.slots[slot].is_disabled = false;
    }

    /// Deletes it, as the API does.
    async fn delete_endpoint(&mut self, slot: usize) {
        let id = self.slot_endpoint_id(slot);
        self.world.store.delete_endpoint(APP, id).await.unwrap();
        self.change_health(id, |health| *health = EndpointHealth::default())
            .await;
        self.receivers
            .change_inbox(&self.slots[slot].url, |inbox| inbox.is_closed = true);
        let taken = self
            .receivers
            .change_inbox(&self.slots[slot].url, |inbox| inbox.accepted_events.clone());
        let left = self.owed_by_url[&self.slots[slot].url].iter().copied();
        let left: Vec<u64> = left
            .filter(|seq| !taken.contains(&event_id(*seq)))
            .collect();
        let url = self.slots[slot].url.clone();
        self.cancelled_by_url.get_mut(&url).unwrap().extend(left);
        self.slots[slot].is_registered = false;
        self.handle_until_idle().await;
    }

    async fn change_health(&self, endpoint: EndpointId, change: impl Fn(&mut EndpointHealth)) {
        self.world.change_health(endpoint, change).await;
        let tend = EndpointMaintenance { app: APP, endpoint };
        self.world
            .queues
            .send_maintenances(&[(tend, 0)])
            .await
            .unwrap();
    }

    async fn apply_event(&mut self, happens: PlannedEvent) {
        match happens {
            PlannedEvent::Commit { stream, events } => self.commit_events(stream, events).await,
            PlannedEvent::Outage { slot, ill, minutes } => {
                let until = self.now() + MINUTE * i32::try_from(minutes).unwrap();
                self.receivers.change_inbox(&self.slots[slot].url, |inbox| {
                    inbox.fault = Some(ill);
                    inbox.fault_until = until;
                    inbox.futile_requests = 0;
                });
                self.slots[slot].well_since = until;
            }
            PlannedEvent::Gone { slot } => {
                self.receivers.change_inbox(&self.slots[slot].url, |inbox| {
                    (inbox.is_gone, inbox.futile_requests) = (true, 0);
                });
            }
            PlannedEvent::Rotate { slot, overlap_h } if self.slots[slot].is_registered => {
                self.rotate_secret(slot, overlap_h).await;
            }
            PlannedEvent::Move { slot } if self.slots[slot].is_registered => {
                self.delete_endpoint(slot).await;
                self.slots[slot].url_count += 1;
                let moved = self.slots[slot].url_count;
                self.slots[slot].url = format!("https://slot-{slot}.example/{moved}");
                self.slots[slot].well_since = self.now();
                self.register_endpoint(slot).await;
                self.replay_missed(slot).await;
            }
            PlannedEvent::Delete { slot } if self.slots[slot].is_registered => {
                self.delete_endpoint(slot).await;
            }
            PlannedEvent::Return { slot } if !self.slots[slot].is_registered => {
                self.register_endpoint(slot).await;
            }
            PlannedEvent::Disable { slot } if self.slots[slot].is_registered => {
                let (now, id) = (self.now(), self.slot_endpoint_id(slot));
                self.change_health(id, |health| health.disable_by_app(now))
                    .await;
                self.receivers
                    .change_inbox(&self.slots[slot].url, |inbox| inbox.is_closed = true);
                self.slots[slot].is_disabled = true;
            }
            PlannedEvent::Enable { slot } if self.slots[slot].is_registered => {
                self.enable_endpoint(slot).await;
            }
            PlannedEvent::Restart => self
                .world
                .restart_process(JitterRandom::from_seed(self.attempts_seen as u64)),
            PlannedEvent::DuplicateMessages => self.duplicate_messages = true,
            _ => {}
        }
    }

    async fn enable_endpoint(&mut self, slot: usize) {
        self.receivers.change_inbox(&self.slots[slot].url, |inbox| {
            (
                inbox.is_closed,
                inbox.is_gone,
                inbox.retry_after_window,
                inbox.futile_requests,
            ) = (false, false, None, 0);
        });
        self.slots[slot].is_disabled = false;
        let now = self.now();
        self.slots[slot].well_since = self.slots[slot].well_since.max(now);
        self.change_health(self.slot_endpoint_id(slot), EndpointHealth::enable_by_app)
            .await;
    }

    async fn commit_events(&mut self, stream: FeedStream, events: u64) {
        let dispatch = match stream {
            FeedStream::Transactions => self.world.commit_transaction().await,
            _ => self.world.commit_balances(events).await,
        };
        for seq in dispatch.first_seq.0..=dispatch.last_seq.0 {
            self.committed.insert(seq, stream);
            for (n, slot) in self.slots.iter().enumerate() {
                if slot.is_registered && slot_wants_stream(n, stream) {
                    self.owed_by_url.get_mut(&slot.url).unwrap().insert(seq);
                }
            }
        }
        self.world
            .queues
            .send_dispatches(&[dispatch], 0)
            .await
            .unwrap();
    }

    async fn rotate_secret(&mut self, slot: usize, overlap_h: i64) {
        let until = self.now() + SignedDuration::from_hours(overlap_h);
        let (id, entropy) = (self.slot_endpoint_id(slot), self.next_entropy());
        let mut endpoint = self
            .world
            .store
            .find_endpoint(APP, id)
            .await
            .unwrap()
            .unwrap();
        let keyring = self.world.deliverer.keyring();
        let rotated = keyring
            .open_secrets(&endpoint)
            .unwrap()
            .with_new_secret(&entropy);
        endpoint.sealed_secrets = keyring.seal_secrets(id, &rotated).unwrap();
        endpoint.previous_secret_until = Some(until);
        self.world.store.put_endpoint(&endpoint).await.unwrap();
        self.receivers.change_inbox(&self.slots[slot].url, |inbox| {
            let (before, _) = inbox.secrets.swap_remove(0);
            inbox.secrets = vec![
                (rotated.current_secret().to_owned(), None),
                (before, Some(until)),
            ];
        });
    }

    /// Tells a URL of everything that it has not been told.
    async fn replay_missed(&mut self, slot: usize) {
        let now = self.now();
        let id = ReplayId::from_bytes(
            [u8::try_from(self.slots[slot].url_count * SLOTS + slot).unwrap(); 12],
        );
        let mut replay = Replay {
            record: Some(RECORD),
            commit_time_range: (Timestamp::UNIX_EPOCH, now),
            ..Replay::start_replay(
                id,
                APP,
                self.slot_endpoint_id(slot),
                ReplayFilter::Missing,
                200,
                now,
            )
        };
        let known = self.world.store.find_replay(APP, id).await.unwrap();
        replay.version = known.map_or(0, |known| known.version);
        assert!(self.world.store.put_replay(&mut replay).await.unwrap());
        let step = ReplayStep {
            app: APP,
            replay: id,
            version: replay.version,
        };
        self.world.queues.send_replay_step(step, 0).await.unwrap();
        let all = self
            .committed
            .iter()
            .filter(|(_, stream)| slot_wants_stream(slot, **stream));
        let owed = self.owed_by_url.get_mut(&self.slots[slot].url).unwrap();
        owed.extend(all.map(|(seq, _)| *seq));
    }

    /// Handles what is in the queue now and what that enqueues; true where there was anything.
    async fn handle_until_idle(&mut self) -> bool {
        for round in 0..MAX_ROUNDS {
            let messages = self.world.receive_messages().await;
            if messages.is_empty() {
                self.note_wake_ups();
                return round > 0;
            }
            for message in messages {
                for _ in 0..=usize::from(self.duplicate_messages) {
                    self.world.handle_message(message.clone()).await.unwrap();
                }
            }
        }
        panic!("the queue never comes to rest at {}", self.now());
    }

    /// Remembers which minutes the sweep has to look at, and who must be left alone from now on.
    fn note_wake_ups(&mut self) {
        self.duplicate_messages = false;
        let attempts = self.world.attempts_after(self.attempts_seen);
        self.attempts_seen += attempts.len();
        let mut due: Vec<Timestamp> = attempts.iter().filter_map(|it| it.next_at).collect();
        let mut desk = self.receivers.lock_receivers();
        for inbox in desk.inboxes.values_mut() {
            due.extend(inbox.retry_after_window.map(|(_, until)| until));
            // What was under way when it said so may have come since.
            inbox.is_closed |= inbox.is_gone && inbox.futile_requests > 0;
        }
        drop(desk);
        let now = RetryEntry::minute_from(self.now());
        for due in due {
            let minute = RetryEntry::minute_from(due + SignedDuration::from_secs(59));
            self.sweep_minutes
                .extend([minute, minute + 1].into_iter().filter(|it| *it > now));
        }
    }

    async fn run_until(&mut self, end: Timestamp) {
        let mut step = SignedDuration::from_secs(1);
        loop {
            let handled = self.handle_until_idle().await;
            let now = self.now();
            if now >= end {
                return;
            }
            let depth = self.world.emulator.queue_depth("deliver").unwrap();
            let waiting = depth.delayed + depth.visible > 0;
            step = if handled {
                SignedDuration::from_secs(1)
            } else {
                (step * 2).min(MINUTE)
            };
            let mut next = if waiting { (now + step).min(end) } else { end };
            if let Some(minute) = self.sweep_minutes.first().copied() {
                let due = Timestamp::from_second(i64::try_from(minute).unwrap() * 60).unwrap();
                if due <= next {
                    self.sweep_minutes.pop_first();
                    next = due.max(now);
                    self.world.set_clock(next);
                    self.sweep_minute(minute).await;
                    continue;
                }
            }
            self.world.set_clock(next);
        }
    }

    /// The minutes before are empty, or were swept.
    async fn sweep_minute(&self, minute: u64) {
        let before = serde_json::json!({ "minute": minute - 1 });
        self.world
            .store
            .put_system_state("sweep", &before)
            .await
            .unwrap();
        self.world
            .deliverer
            .sweep_retries(self.now())
            .await
            .unwrap();
    }

    async fn load_deliveries(&self, url: &str) -> HashMap<u64, Delivery> {
        let endpoint = endpoint_id(APP, url);
        let times = Timestamp::UNIX_EPOCH..=Timestamp::MAX;
        let mut rows = HashMap::new();
        let mut after = None;
        loop {
            let page = self
                .world
                .store
                .list_deliveries(
                    endpoint,
                    times.clone(),
                    after.as_ref(),
                    SortOrder::Ascending,
                    1000,
                )
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
    async fn check_slots(&mut self) {
        let broken = std::mem::take(&mut self.receivers.lock_receivers().violations);
        assert!(broken.is_empty(), "{broken:#?}");
        let depth = self.world.emulator.queue_depth("deliver").unwrap();
        let waiting = depth.delayed + depth.visible > 0;
        for slot in 0..SLOTS {
            self.check_slot(slot, waiting).await;
        }
    }

    async fn check_slot(&self, slot: usize, waiting: bool) {
        let now = self.now();
        let EndpointSlot {
            url,
            well_since,
            is_registered: there,
            ..
        } = &self.slots[slot];
        let rows = self.load_deliveries(url).await;
        let health = self
            .world
            .store
            .load_endpoint_health(self.slot_endpoint_id(slot))
            .await
            .unwrap()
            .health;
        let parked = self
            .world
            .store
            .list_parked_events(self.slot_endpoint_id(slot), 10_000)
            .await
            .unwrap();
        let parked: BTreeSet<u64> = parked.iter().map(|key| key.seq.0).collect();
        let (taken, futile, gone) = self.receivers.change_inbox(url, |inbox| {
            let ill = inbox.fault.is_some() && now < inbox.fault_until;
            let lasts = if matches!(inbox.fault, Some(ReceiverFault::Flaky)) || !ill {
                0
            } else {
                inbox.futile_requests
            };
            (inbox.accepted_events.clone(), lasts, inbox.is_gone)
        });
        let owed = &self.owed_by_url[url];
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
                    let tended = waiting || health.admission(now) == EndpointAdmission::Park;
                    assert!(tended, "parked at an endpoint that takes events: {at}");
                }
                Some(DeliveryState::Retry) => {
                    let due = rows[seq].next_attempt_at.unwrap();
                    assert!(due + MINUTE * 3 > now, "overdue: {at}");
                }
                // Ten attempts at an endpoint open its circuit.
                Some(DeliveryState::Exhausted) => panic!("given up: {at}"),
                Some(DeliveryState::Cancelled) => {
                    assert!(self.cancelled_by_url[url].contains(seq), "{at}");
                }
                // Its turn has not come, or the endpoint asked for time.
                None => assert!(
                    waiting || !self.sweep_minutes.is_empty() || !there,
                    "not told: {at}"
                ),
            }
        }
        // An endpoint that is back has what was parked within half an hour and what it asked for.
        let asked = self.receivers.change_inbox(url, |inbox| {
            inbox.retry_after_window.map_or(now, |(_, until)| until)
        });
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
            self.receivers
                .change_inbox(&url, |inbox| inbox.fault = None);
            self.slots[slot].well_since = self.slots[slot].well_since.min(self.now());
            if self.slots[slot].is_registered {
                self.enable_endpoint(slot).await;
            }
        }
        // The longest wait of the schedule, with its jitter.
        let end = self.now() + SignedDuration::from_hours(30);
        self.run_until(end).await;
        self.check_slots().await;
        for slot in self.slots.iter().filter(|slot| slot.is_registered) {
            let rows = self.load_deliveries(&slot.url).await;
            let taken = self
                .receivers
                .change_inbox(&slot.url, |inbox| inbox.accepted_events.clone());
            for seq in &self.owed_by_url[&slot.url] {
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
            assert_eq!(
                self.world.store.list_parked_events(id, 10).await.unwrap(),
                []
            );
        }
        let depth = self.world.emulator.queue_depth("deliver").unwrap();
        assert_eq!(
            (depth.visible, depth.delayed),
            (0, 0),
            "somebody is still looked after"
        );
    }
}

async fn run_plan(plan: &ThreeDayPlan) {
    let mut run = ThreeDayRun::new().await;
    let end = run.now() + SignedDuration::from_hours(HOURS);
    for (n, (pause, happens)) in plan.iter().enumerate() {
        let then = run.now() + MINUTE * i32::try_from(*pause).unwrap();
        if then > end {
            break;
        }
        run.run_until(then).await;
        Box::pin(run.apply_event(*happens)).await;
        run.handle_until_idle().await;
        if n % CHECKED == 0 {
            run.check_slots().await;
        }
    }
    run.run_until(end).await;
    run.check_slots().await;
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
    let outcome = runner.run(&three_day_plans(), |plan| {
        runtime().block_on(run_plan(&plan));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
