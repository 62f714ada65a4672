//! A world: the real code between a simulated cloud, simulated banks and simulated receivers. What
//! happens, in which order and how it fails follows from the seed alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    num::NonZeroU32,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use axum::{Router, body::Body};
use jiff::Timestamp;
use okra_api::ApiState;
use okra_aws::{AwsConfig, Clock, rules::Rules};
use okra_banks::Connectors;
use okra_core::{
    bank::{BankConfig, BankLimits, Standard},
    ids::{AccountId, AppId, BankId, RecordId},
    model::Environment as Env,
    schedule::{DueKey, Interval, Tick},
};
use okra_handlers::{DeliverEvent, DeliverResponse, Environment, FetchEvent, FetchResponse};
use okra_queue::{FetchMessage, QueueUrls, Queues};
use okra_refresh::Refresher;
use okra_store::{App, Consistency, Head, KeyHash, RecordStatus, Store};
use okra_vault::Vault;
use okra_webhooks::{AddressPolicy, DeliverConfig, Deliverer, Sender};
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt;

use crate::{
    bank::{Banks, Moods},
    cloud::{Cloud, Now},
    gate::{Fate, Gate, Kind, Side},
    random::Random,
    receiver::Receivers,
    trace::Trace,
};

pub(crate) const BANK: BankId = BankId::from_bytes([0xba; 12]);
pub(crate) const APP: AppId = AppId::from_bytes([0xa0; 12]);
const KEY: &str = "sk_sim";
/// The app's own endpoint, which is there before the first record and wants all that records bring.
pub(crate) const APP_HOOK: &str = "https://app.example/hook";
/// The endpoint, in some worlds, that is told what becomes of the others.
pub(crate) const OPS_HOOK: &str = "https://ops.example/hook";

/// When every world begins: mid-month, so that no window slides until it pauses.
const BEGINS: &str = "2026-03-08T12:00:30Z";

/// Milliseconds a received message stays invisible: six times a function's timeout.
const VISIBILITY_MS: i64 = 360_000;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// How long nothing runs, where a world pauses: longer than any window.
const ASLEEP_MS: i64 = 80 * DAY_MS;

/// Purchases while nothing runs.
const SPENT_ASLEEP: i64 = 8;

/// Where a user calls from.
const USER_IP: &str = "203.0.113.7";

/// Times Lambda repeats an asynchronous call that failed.
const LAMBDA_TRIES: u32 = 2;

/// Rounds of anything in the calm at most; a world that needs more has not come to rest, which breaks a law.
const MAX_ROUNDS: usize = 400;

/// How the faults of a world are distributed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Faults of the cloud's calls, in a thousand.
    pub(crate) cloud: u16,
    /// Stale reads among those that may be, in a thousand.
    pub(crate) stale: u16,
    /// Crashes, in a thousand effects.
    pub(crate) crash: u16,
    /// Banks, in a thousand calls.
    pub(crate) banks: u16,
    /// Rows that an answer of a bank lacks, in a thousand answers.
    pub(crate) lacking: u16,
    /// Receivers, in a thousand calls.
    pub(crate) receivers: u16,
    /// Messages delivered twice, in a thousand.
    pub(crate) twice: u16,
    /// Whether banks show A, then B, then A again.
    pub(crate) flips: bool,
    /// Whether the bank wants the user there for each refresh.
    pub(crate) in_person: bool,
    /// Whether consents have an end that is known.
    pub(crate) ends: bool,
    /// Whether nothing runs for months, in the end.
    pub(crate) pause: bool,
    /// Whether the bank allows so little that it is often asked as much as it allows.
    pub(crate) narrow: bool,
    /// Receivers that go down for hours, in a thousand calls.
    pub(crate) down: u16,
    /// Processes at the same time at most.
    pub(crate) width: usize,
    /// Steps of the storm.
    pub(crate) steps: usize,
}

impl Weather {
    fn of(random: &mut Random) -> Self {
        let level = |random: &mut Random, most: &[u16]| random.pick(most).copied().unwrap_or(0);
        Self {
            cloud: level(random, &[0, 5, 30, 100]),
            stale: level(random, &[0, 100, 500]),
            crash: level(random, &[0, 5, 20, 60]),
            banks: level(random, &[0, 50, 300]),
            lacking: level(random, &[0, 0, 500]),
            receivers: level(random, &[0, 100, 400]),
            twice: level(random, &[0, 20, 200]),
            flips: random.chance(300),
            in_person: random.chance(80),
            ends: random.chance(120),
            narrow: random.chance(150),
            down: level(random, &[0, 0, 60]),
            pause: random.chance(60),
            width: 1 + random.below(4),
            steps: 90 + random.below(90),
        }
    }
}

struct Flag {
    set: AtomicBool,
    root: Arc<Mutex<Option<Waker>>>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.set.store(true, Ordering::SeqCst);
        let root = self
            .root
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(root) = root {
            root.wake();
        }
    }
}

/// What a process is started for.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    Tick {
        tick: Tick,
        tries: u32,
    },
    Sweep {
        at: Timestamp,
        tries: u32,
    },
    Batch {
        queue: &'static str,
        messages: Vec<u64>,
    },
    Call {
        path: &'static str,
        body: Value,
        tries: u32,
    },
}

/// What a process came to.
enum Ended {
    /// An asynchronous call; false where it has to come again.
    Done(bool),
    /// Ids of the messages that have to come again.
    Batch(Result<BTreeSet<u64>, String>),
    /// The API answered.
    Answered(u16, Value),
}

struct Process {
    id: u64,
    job: Job,
    future: Pin<Box<dyn Future<Output = Ended>>>,
    flag: Arc<Flag>,
}

/// A record that was linked.
#[derive(Clone, Debug)]
pub(crate) struct Linked {
    pub(crate) record: RecordId,
    pub(crate) login: usize,
    pub(crate) customer: String,
}

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) weather: Weather,
    pub(crate) gate: Gate,
    pub(crate) cloud: Cloud,
    pub(crate) banks: Banks,
    pub(crate) receivers: Receivers,
    pub(crate) store: Store,
    pub(crate) trace: Trace,
    pub(crate) linked: Vec<Linked>,
    pub(crate) broken: Vec<String>,
    rules: Rules,
    clock: Clock,
    begins_ms: i64,
    started: Instant,
    router: Router,
    environment: Environment,
    refresher: Arc<Refresher>,
    deliverer: Arc<Deliverer>,
    processes: Vec<Process>,
    next_process: u64,
    root: Arc<Mutex<Option<Waker>>>,
    /// Processes that were handed nothing but chunks whose time is over: they may call no bank.
    late: BTreeSet<u64>,
    /// Processes whose calls of the bank no tick planned: they need a place of its pace.
    beside: BTreeSet<u64>,
    /// Asynchronous calls that have to come again, and when, in milliseconds since 1970.
    again: Vec<(i64, Job)>,
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl World {
    pub(crate) async fn new(seed: u64, keep: bool) -> Self {
        let mut random = Random::new(seed);
        let weather = Weather::of(&mut random);
        let gate = Gate::default();
        gate.set_open(true);
        let begins: Timestamp = BEGINS.parse().unwrap_or_default();
        let clock = Clock::driven(begins);
        let now: Now = {
            let clock = clock.clone();
            Arc::new(move || clock.now().as_millisecond())
        };
        let cloud = Cloud::new(gate.clone(), Arc::clone(&now));
        let banks = Banks::new(gate.clone(), Arc::clone(&now), random.fork());
        let receivers = Receivers::new(gate.clone(), Arc::clone(&now), random.fork());
        let aws = AwsConfig::with_http_client(cloud.http_client());
        let store = Store::new(aws.dynamodb(), "okra");
        let rules = Rules::new(aws.eventbridge(), "sim");
        let url = |name: &str| format!("https://sqs.local.amazonaws.com/000000000000/{name}");
        let urls = QueueUrls {
            fetch: url("fetch"),
            priority: url("priority"),
            deliver: url("deliver"),
        };
        let connectors = shared_connectors().over(Arc::new(banks.clone()));
        let environment = Environment {
            store: store.clone(),
            queues: Queues::new(aws.sqs(), urls),
            rules: rules.clone(),
            bus: None,
            vault: Arc::new(Vault::new([1; 32])),
            connectors,
            addresses: AddressPolicy::PublicOnly,
            clock: clock.clone(),
            public_url: "https://sync.example".to_owned(),
            deliverers: DELIVERERS,
        };
        let numbers = Mutex::new(random.fork());
        let state = ApiState::new(environment.clone(), None).with_random(Arc::new(move |bytes| {
            let mut numbers = numbers.lock().unwrap_or_else(PoisonError::into_inner);
            bytes
                .chunks_mut(8)
                .for_each(|part| part.copy_from_slice(&numbers.next().to_be_bytes()[..part.len()]));
            Ok(())
        }));
        let router = okra_api::router(state);
        let refresher = Arc::new(environment.refresher());
        let deliverer = Arc::new(deliverer(&environment, &receivers, random.next()));
        let mut world = Self {
            random,
            weather,
            gate,
            cloud,
            banks,
            receivers,
            store,
            trace: Trace::new(keep),
            linked: Vec::new(),
            broken: Vec::new(),
            rules,
            clock,
            begins_ms: begins.as_millisecond(),
            started: Instant::now(),
            router,
            environment,
            refresher,
            deliverer,
            processes: Vec::new(),
            next_process: 1,
            root: Arc::default(),
            late: BTreeSet::new(),
            beside: BTreeSet::new(),
            again: Vec::new(),
            counts: BTreeMap::new(),
        };
        world.set_up().await;
        world
    }

    async fn set_up(&mut self) {
        let bank = BankConfig {
            id: BANK,
            name: "Bank".to_owned(),
            slug: "bank".to_owned(),
            standard: Standard::Obie31,
            base_url: "https://bank.example/aisp".to_owned(),
            financial_id: None,
            country: "NG".to_owned(),
            oauth: None,
            limits: BankLimits {
                user_present_only: self.weather.in_person,
                records_per_second: if self.weather.narrow { 1 } else { 50 },
                ..BankLimits::default()
            },
        };
        let app = App {
            id: APP,
            name: "app".to_owned(),
            env: Env::Sandbox,
            created_at: self.clock.now(),
            origins: Vec::new(),
            public_key: None,
            rate: okra_store::DEFAULT_RATE,
        };
        let set = async {
            self.store.put_bank(&bank).await?;
            self.store.put_app(&app).await?;
            self.store.put_key(KeyHash::of(KEY), APP).await?;
            // Sweeps ran every minute since the deployment, and found nothing.
            let swept = self.now().as_second() / 60;
            self.store
                .put_state("sweep", &json!({ "minute": swept }))
                .await
        };
        if let Err(error) = set.await {
            self.broken.push(format!("set up: {error}"));
        }
        // One endpoint of the app that is told of everything.
        let ordered = self.random.chance(400);
        self.receivers.desk().ask_for_order(APP_HOOK, ordered);
        let hook = json!({ "url": APP_HOOK, "ordered": ordered });
        self.call_now("webhooks/set", hook).await;
        if self.random.chance(300) {
            let named = json!({ "url": OPS_HOOK, "events": ["endpoint.*", "delivery.*"] });
            self.call_now("webhooks/set", named).await;
        }
        // Every read sees the endpoints from now on.
        self.pass(3_000).await;
        let records = 1 + self.random.below(2);
        for _ in 0..records {
            let (path, body) = self.link_call();
            self.call_now(path, body).await;
        }
    }

    /// A call of the API with the gate as it is, waited for.
    async fn call_now(&mut self, path: &'static str, body: Value) {
        let job = Job::Call {
            path,
            body,
            tries: 0,
        };
        let (status, answer) = call(self.router.clone(), path, &job_body(&job)).await;
        self.answered(path, &job, status, &answer);
    }

    fn link_call(&mut self) -> (&'static str, Value) {
        let accounts = 1 + self.random.below(2);
        let token = self.banks.open(accounts);
        if accounts > 1 && self.random.chance(150) {
            let mut books = self.banks.books();
            if let Some(account) = books
                .logins
                .last_mut()
                .and_then(|login| login.accounts.last_mut())
            {
                account.broken = true;
            }
        }
        let mut body = json!({ "access_token": token, "bank": BANK, "name": "Ada Obi" });
        if self.weather.ends {
            let minutes = self.random.between(1, 3 * 24 * 60);
            let ends = later(self.now(), minutes * 60_000);
            if let Some(login) = self.banks.books().logins.last_mut() {
                login.expires_at = Some(ends);
            }
            body["consent_expires_at"] = json!(ends);
        }
        if self.random.chance(500) {
            body["limit"] = json!(1 + self.random.below(3));
        }
        if self.random.chance(600) {
            let interval = self
                .random
                .pick(&Interval::ALL)
                .copied()
                .unwrap_or_default();
            body["interval"] = json!(interval);
            body["webhook_url"] = json!(format!("https://r{}.example/hook", self.random.below(2)));
        }
        ("records/link", body)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// What the banks answered, beside what happened here.
    pub(crate) fn count_answers(&mut self) {
        let lacking = self.banks.books().lacking;
        self.counts.insert("answers that lacked a row", lacking);
    }

    pub(crate) fn log(&mut self, text: impl FnOnce() -> String) {
        let at = self.clock.now().as_millisecond() - self.begins_ms;
        self.trace.say(at, text);
    }

    /// Time passes, for the timers of the code as well.
    pub(crate) async fn pass(&mut self, ms: i64) {
        let ms = u64::try_from(ms).unwrap_or(0);
        if ms > 0 {
            tokio::time::advance(Duration::from_millis(ms)).await;
        }
        self.keep_time();
    }

    pub(crate) fn begins(&self) -> Timestamp {
        Timestamp::from_millisecond(self.begins_ms).unwrap_or_default()
    }

    fn keep_time(&self) {
        let elapsed = self.started.elapsed().as_millis();
        let at = self.begins_ms + i64::try_from(elapsed).unwrap_or(0);
        self.clock
            .set(Timestamp::from_millisecond(at).unwrap_or_default());
    }

    async fn pass_until(&mut self, at: i64) {
        let wait = at - self.now().as_millisecond();
        self.pass(wait).await;
    }

    fn start(&mut self, job: Job) {
        let id = self.next_process;
        self.next_process += 1;
        self.log(|| format!("start {id} {}", name(&job)));
        if let Job::Batch { messages, .. } = &job
            && self.all_late(messages)
        {
            self.count("late chunks");
            self.late.insert(id);
        }
        if self.is_beside(&job) {
            self.beside.insert(id);
        }
        let (refresher, deliverer) = (Arc::clone(&self.refresher), Arc::clone(&self.deliverer));
        let future: Pin<Box<dyn Future<Output = Ended>>> = match &job {
            Job::Tick { tick, .. } => {
                let tick = *tick;
                Box::pin(async move {
                    Ended::Done(
                        okra_handlers::fetch(&refresher, FetchEvent::Tick(tick))
                            .await
                            .is_ok(),
                    )
                })
            }
            Job::Sweep { at, .. } => {
                let sweep = *at;
                Box::pin(async move {
                    let event = DeliverEvent::Sweep { sweep };
                    Ended::Done(okra_handlers::deliver(&deliverer, event).await.is_ok())
                })
            }
            Job::Batch { queue, messages } => {
                let event = self.event(queue, messages);
                let deliver = *queue == "deliver";
                Box::pin(async move {
                    let response = if deliver {
                        let event: DeliverEvent = match serde_json::from_value(event) {
                            Ok(event) => event,
                            Err(error) => return Ended::Batch(Err(error.to_string())),
                        };
                        match okra_handlers::deliver(&deliverer, event).await {
                            Ok(DeliverResponse::Messages(response)) => response,
                            Ok(DeliverResponse::Sweep(_)) => {
                                return Ended::Batch(Err("a sweep".to_owned()));
                            }
                            Err(error) => return Ended::Batch(Err(error.to_string())),
                        }
                    } else {
                        let event: FetchEvent = match serde_json::from_value(event) {
                            Ok(event) => event,
                            Err(error) => return Ended::Batch(Err(error.to_string())),
                        };
                        match okra_handlers::fetch(&refresher, event).await {
                            Ok(FetchResponse::Messages(response)) => response,
                            Ok(FetchResponse::Tick(_)) => {
                                return Ended::Batch(Err("a tick".to_owned()));
                            }
                            Err(error) => return Ended::Batch(Err(error.to_string())),
                        }
                    };
                    let failed = response.batch_item_failures.iter();
                    Ended::Batch(Ok(failed
                        .filter_map(|it| it.item_identifier.parse().ok())
                        .collect()))
                })
            }
            Job::Call { path, .. } => {
                let (router, path, body) = (self.router.clone(), *path, job_body(&job));
                Box::pin(async move {
                    let (status, answer) = call(router, path, &body).await;
                    Ended::Answered(status, answer)
                })
            }
        };
        let flag = Arc::new(Flag {
            set: AtomicBool::new(true),
            root: Arc::clone(&self.root),
        });
        self.processes.push(Process {
            id,
            job,
            future,
            flag,
        });
    }

    /// True where whatever is asked of the bank is asked beside its ticks: by a link, by steps of histories, by
    /// chunks that come late. What is asked on demand took its place when it was sent.
    fn is_beside(&self, job: &Job) -> bool {
        let messages = match job {
            Job::Batch { messages, .. } => messages,
            Job::Call { .. } => return true,
            Job::Tick { .. } | Job::Sweep { .. } => return false,
        };
        let now = self.now();
        self.all(messages, |message| match message {
            FetchMessage::ChunkV1(chunk) => chunk.is_late(now),
            FetchMessage::HistoryV1(_) => true,
            FetchMessage::FollowUpV1(_) | FetchMessage::RemovalV1(_) => false,
        })
    }

    fn all_late(&self, messages: &[u64]) -> bool {
        let now = self.now();
        self.all(
            messages,
            |message| matches!(message, FetchMessage::ChunkV1(chunk) if chunk.not_after < now),
        )
    }

    /// True where each of these messages is one of the fetch queues, and `fits`.
    fn all(&self, messages: &[u64], fits: impl Fn(&FetchMessage) -> bool) -> bool {
        let services = self.cloud.services();
        messages.iter().all(|id| {
            let message = services.queues.get(id);
            let message = message.and_then(|it| serde_json::from_str(&it.body).ok());
            message.is_some_and(|message| fits(&message))
        })
    }

    /// What Lambda hands to a function for these messages.
    fn event(&self, queue: &str, messages: &[u64]) -> Value {
        let services = self.cloud.services();
        let records: Vec<Value> = messages
            .iter()
            .filter_map(|id| services.queues.get(id))
            .map(|message| {
                json!({
                    "messageId": message.id.to_string(),
                    "receiptHandle": "-",
                    "body": message.body,
                    "attributes": {
                        "ApproximateReceiveCount": message.receives.to_string(),
                        "MessageGroupId": message.group,
                    },
                    "messageAttributes": {},
                    "eventSource": "aws:sqs",
                    "eventSourceARN": format!("arn:aws:sqs:local:0:{queue}"),
                    "awsRegion": "local",
                })
            })
            .collect();
        json!({ "Records": records })
    }

    /// Lets every process run until it waits at the gate, sleeps or ends.
    async fn settle(&mut self) {
        let ended = poll_fn(|cx| {
            *self.root.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
            let mut ended = Vec::new();
            while let Some(at) = self
                .processes
                .iter()
                .position(|it| it.flag.set.swap(false, Ordering::SeqCst))
            {
                let process = &mut self.processes[at];
                self.gate.enter(process.id);
                let waker = Waker::from(Arc::clone(&process.flag));
                if let Poll::Ready(end) = process
                    .future
                    .as_mut()
                    .poll(&mut Context::from_waker(&waker))
                {
                    ended.push((self.processes.remove(at), end));
                }
            }
            let waiting = !self.gate.waiting(|_, _| ()).is_empty();
            if waiting || self.processes.is_empty() || !ended.is_empty() {
                Poll::Ready(ended)
            } else {
                Poll::Pending
            }
        })
        .await;
        self.keep_time();
        for (process, end) in ended {
            self.ended(&process, end);
        }
    }

    fn ended(&mut self, process: &Process, end: Ended) {
        let id = process.id;
        match end {
            Ended::Done(done) => {
                self.log(|| format!("end {id} {done}"));
                if !done {
                    self.come_again(&process.job);
                }
            }
            Ended::Batch(Err(error)) => {
                self.broken
                    .push(format!("a batch could not be handed over: {error}"));
            }
            Ended::Batch(Ok(failed)) => {
                self.log(|| format!("end {id} failed {failed:?}"));
                if let Job::Batch { messages, .. } = &process.job {
                    let (twice, now) = (self.weather.twice, self.now().as_millisecond());
                    for message in messages {
                        let again = self.random.chance(twice);
                        let mut services = self.cloud.services();
                        let Some(held) = services.queues.get_mut(message) else {
                            continue;
                        };
                        if failed.contains(message) {
                            held.in_flight = false;
                            held.visible_at = now + 1000;
                        } else if again {
                            // A duplicate, which SQS may count as a first receive.
                            held.in_flight = false;
                            held.visible_at = now + 1000;
                            held.receives = 0;
                        } else {
                            services.queues.remove(message);
                        }
                    }
                }
            }
            Ended::Answered(status, answer) => {
                self.log(|| format!("end {id} {status}"));
                if status == 429 {
                    self.count("asked too often");
                }
                if let Job::Call { path, .. } = &process.job {
                    self.answered(path, &process.job, status, &answer);
                }
            }
        }
    }

    fn answered(&mut self, path: &'static str, job: &Job, status: u16, answer: &Value) {
        let Job::Call { body, .. } = job else { return };
        if status >= 500 || status == 429 {
            // Whoever asked for a link or a consent asks again; others give up.
            if path == "records/link" {
                self.come_again(job);
            }
            return;
        }
        if path == "records/link" && status == 200 && body["record_id"].is_null() {
            let data = &answer["data"];
            let record = data["record_id"].as_str().and_then(|id| id.parse().ok());
            let token = body["access_token"].as_str().unwrap_or_default();
            let login = self
                .banks
                .books()
                .logins
                .iter()
                .position(|login| login.token == token);
            if let (Some(record), Some(login)) = (record, login) {
                let customer = data["customer_id"].as_str().unwrap_or_default().to_owned();
                self.linked.push(Linked {
                    record,
                    login,
                    customer,
                });
            }
        }
    }

    fn come_again(&mut self, job: &Job) {
        let mut job = job.clone();
        let delay = match &mut job {
            Job::Tick { tries, .. } | Job::Sweep { tries, .. } => {
                *tries += 1;
                if *tries > LAMBDA_TRIES {
                    return;
                }
                60_000
            }
            Job::Call { tries, .. } => {
                *tries += 1;
                5_000
            }
            Job::Batch { .. } => return,
        };
        self.again.push((self.now().as_millisecond() + delay, job));
    }

    /// A process dies where it stands. Whoever called it sees no answer.
    fn crash(&mut self, process: u64) {
        let Some(at) = self.processes.iter().position(|it| it.id == process) else {
            return;
        };
        let dead = self.processes.remove(at);
        self.log(|| format!("crash {process}"));
        self.count("crashes");
        if let Job::Batch { messages, .. } = &dead.job {
            let now = self.now().as_millisecond();
            let mut services = self.cloud.services();
            for message in messages {
                if let Some(held) = services.queues.get_mut(message) {
                    held.in_flight = false;
                    held.visible_at = now + VISIBILITY_MS;
                }
            }
        } else if !matches!(dead.job, Job::Call { .. }) || name(&dead.job).contains("link") {
            self.come_again(&dead.job);
        }
        drop(dead);
        // The next call finds a process without memory.
        self.refresher = Arc::new(self.environment.refresher());
        let seed = self.random.next();
        self.deliverer = Arc::new(deliverer(&self.environment, &self.receivers, seed));
    }

    fn fate(&mut self, kind: Kind) -> Fate {
        let weather = self.weather;
        if kind == Kind::EventualRead || kind == Kind::Batch {
            if self.random.chance(weather.stale) && kind == Kind::EventualRead {
                return Fate::Stale(self.random.between(1, 2_000));
            }
            if kind == Kind::Batch && self.random.chance(weather.cloud) {
                return Fate::Partial;
            }
        }
        let faulty = match kind {
            Kind::Bank | Kind::Receiver => return Fate::Pass,
            _ => weather.cloud,
        };
        if !self.random.chance(faulty) {
            return Fate::Pass;
        }
        let fates = [
            Fate::Throttle,
            Fate::Fail,
            Fate::Unreachable,
            Fate::LoseAnswer,
        ];
        self.random.pick(&fates).copied().unwrap_or(Fate::Pass)
    }

    /// One waiting effect goes on, or its process dies. False where none waits.
    async fn effect(&mut self, calm: bool) -> bool {
        self.settle().await;
        let points = self
            .gate
            .waiting(|id, point| (id, point.process, point.kind, point.side));
        let at = if calm {
            0
        } else {
            self.random.below(points.len())
        };
        let Some(&(id, process, kind, side)) = points.get(at) else {
            return false;
        };
        let label = self.trace.keeps().then(|| {
            self.gate
                .waiting(|it, point| (it == id).then(|| point.label.clone()))
        });
        let label = label.into_iter().flatten().flatten().next();
        if !calm && self.random.chance(self.weather.crash) {
            self.log(|| format!("{process} dies {side:?} {}", label.unwrap_or_default()));
            self.crash(process);
            return true;
        }
        if kind == Kind::Bank && side == Side::Before && self.late.contains(&process) {
            self.broken
                .push("law 9: a bank is called for a chunk whose time is over".to_owned());
        }
        if kind == Kind::Bank && side == Side::Before && self.beside.contains(&process) {
            self.cloud.services().asks(process, "a turn of its own");
        }
        let fate = if calm || side == Side::After {
            Fate::Pass
        } else {
            self.fate(kind)
        };
        if fate != Fate::Pass {
            self.count("faults");
        }
        self.count("effects");
        self.log(|| format!("{process} {side:?} {fate:?} {}", label.unwrap_or_default()));
        self.gate.release(id, fate);
        let ms = if calm { 1 } else { self.random.between(0, 25) };
        self.pass(ms).await;
        true
    }

    /// The storm: jobs start, effects happen in any order, processes die, banks move.
    pub(crate) async fn storm(&mut self) {
        self.gate.set_open(false);
        self.banks.books().moods = Moods {
            failing: self.weather.banks,
            lacking: self.weather.lacking,
        };
        self.receivers.desk().failing = self.weather.receivers;
        for _ in 0..self.weather.steps {
            match self.random.below(100) {
                0..=74 if !self.processes.is_empty() => {
                    self.effect(false).await;
                }
                0..=84 => self.start_something().await,
                85..=95 => {
                    let (now, flips) = (self.now(), self.weather.flips);
                    let moved = self.banks.books().move_something(now, flips);
                    self.log(|| moved.unwrap_or_default());
                }
                _ => {
                    let ms = self.random.between(1, 30_000);
                    self.pass(ms).await;
                }
            }
        }
    }

    async fn start_something(&mut self) {
        if self.processes.len() >= self.weather.width {
            return;
        }
        match self.random.below(20) {
            0..=4 => {
                let Some(key) = self.some_due_key() else {
                    return;
                };
                if self.processes.is_empty() {
                    self.pass_until(next_tick(&key, self.now())).await;
                }
                let tick = Tick {
                    interval: key.interval,
                    at: minute(self.now()),
                };
                if self.rule_is_on(tick.interval) {
                    self.start(Job::Tick { tick, tries: 0 });
                    let twice = self.weather.twice;
                    if self.random.chance(twice) {
                        self.start(Job::Tick { tick, tries: 0 });
                    }
                }
            }
            5..=13 => {
                if !self.start_batch() && self.processes.is_empty() {
                    let next = self.next_visible();
                    if let Some(at) = next {
                        self.pass_until(at).await;
                        self.start_batch();
                    }
                }
            }
            14 => {
                let at = minute(self.now());
                if self.random.chance(300) {
                    self.skip_sweeps();
                    self.start(Job::Sweep { at, tries: 0 });
                }
            }
            15 => {
                if let Some((_, job)) = (!self.again.is_empty()).then(|| self.again.remove(0)) {
                    self.start(job);
                }
            }
            _ => {
                if let Some((path, body)) = self.some_call() {
                    self.start(Job::Call {
                        path,
                        body,
                        tries: 0,
                    });
                }
            }
        }
    }

    fn some_call(&mut self) -> Option<(&'static str, Value)> {
        let linked = self.random.pick(&self.linked.clone()).cloned();
        match self.random.below(10) {
            0 if self.linked.len() < 3 => Some(self.link_call()),
            0..=3 => {
                let path = self
                    .random
                    .pick(&["balance/refresh", "transactions/refresh", "customers/retry"])
                    .copied()?;
                let mut body = json!({ "record_id": linked?.record });
                if self.weather.in_person || self.random.chance(200) {
                    body["customer_ip"] = json!(USER_IP);
                }
                Some((path, body))
            }
            4 | 5 => {
                let interval = self.random.pick(&Interval::ALL).copied()?;
                let products = self
                    .random
                    .pick(&[
                        &["balance"][..],
                        &["transactions"],
                        &["balance", "transactions"],
                    ])
                    .copied()?;
                let url = format!("https://r{}.example/hook", self.random.below(3));
                Some((
                    "data-sync",
                    json!({ "customer": linked?.customer, "products": products, "interval": interval, "webhook_url": url }),
                ))
            }
            6 => {
                // The consent ends; the user links again some time later.
                let login = linked?.login;
                self.banks.books().logins[login].refused = true;
                self.log(|| format!("consent of login {login} ends"));
                None
            }
            7 => {
                let linked = linked?;
                Some(("records/link", self.relink(&linked)))
            }
            8 => {
                let down = self.weather.down;
                if self.random.chance(down.saturating_mul(10)) {
                    let url = match self.random.below(3) {
                        0 => APP_HOOK.to_owned(),
                        n => format!("https://r{n}.example/hook"),
                    };
                    let minutes = self.random.between(5, 20 * 60);
                    let until = self.now().as_millisecond() + minutes * 60_000;
                    self.log(|| format!("{url} is down for {minutes} minutes"));
                    self.count("receivers down");
                    self.receivers
                        .desk()
                        .inboxes
                        .entry(url)
                        .or_default()
                        .down_until = until;
                    return None;
                }
                let url = format!("https://r{}.example/hook", self.random.below(3));
                if self.random.chance(200) {
                    self.receivers.desk().inboxes.entry(url).or_default().gone = true;
                    return None;
                }
                Some(("webhooks/set", json!({ "url": APP_HOOK, "rotate": true })))
            }
            _ => None,
        }
    }

    /// The user consents again, and the app says so.
    fn relink(&mut self, linked: &Linked) -> Value {
        let mut books = self.banks.books();
        let login = &mut books.logins[linked.login];
        let turn = login
            .token
            .rsplit('-')
            .next()
            .and_then(|it| it.parse::<u32>().ok())
            .unwrap_or(0);
        login.token = format!("token-{}-{}", linked.login, turn + 1);
        login.refused = false;
        let mut body = json!({ "record_id": linked.record, "access_token": login.token });
        if self.weather.ends {
            // Beyond the end of every world.
            let ends = later(self.clock.now(), 90 * DAY_MS);
            login.expires_at = Some(ends);
            body["consent_expires_at"] = json!(ends);
        }
        body
    }

    /// Consents that have an end come to it, and everybody is asked for.
    pub(crate) async fn end_consents(&mut self) {
        let ends = {
            let books = self.banks.books();
            let ends = books.logins.iter().filter_map(|login| login.expires_at);
            ends.map(Timestamp::as_millisecond).collect::<Vec<_>>()
        };
        let soon = self.now().as_millisecond() + 30 * DAY_MS;
        if let Some(last) = ends.into_iter().filter(|at| *at < soon).max() {
            self.pass_until(last + 1).await;
            self.tick_all().await;
            self.check_ends().await;
        }
    }

    fn rule_is_on(&self, interval: Interval) -> bool {
        self.cloud
            .services()
            .rules
            .contains(&self.rules.name(interval))
    }

    /// The due entries that are in the table, in order.
    pub(crate) fn due_keys(&self) -> Vec<DueKey> {
        let services = self.cloud.services();
        let keys = services.table.items().filter_map(|((pk, sk), _)| {
            let mut parts = pk.strip_prefix("DUE#")?.split('#');
            let interval = parts.next()?.parse().ok()?;
            let (bank, record) = sk.split_once('#')?;
            Some(DueKey {
                interval,
                bank: bank.parse().ok()?,
                record: record.parse().ok()?,
            })
        });
        keys.collect()
    }

    /// True where a bank's earlier faults still leave something of a record alone.
    pub(crate) async fn is_held(&self) -> bool {
        let now = self.now();
        self.gate.set_open(true);
        let mut held = false;
        for key in self.due_keys() {
            let entry = self.store.due_entry(key, Consistency::Strong).await;
            let trouble = entry.ok().flatten().and_then(|entry| entry.trouble);
            held |= trouble.is_some_and(|it| it.held_until(now).is_some());
        }
        self.gate.set_open(false);
        held
    }

    /// True where an account's bank shows so little that it is not believed yet.
    pub(crate) async fn is_doubted(&self) -> bool {
        self.gate.set_open(true);
        let mut doubted = false;
        for linked in &self.linked {
            let accounts = self.banks.books().logins[linked.login].accounts.clone();
            let customer = self.head(linked.record).await.map(|head| head.customer);
            for account in &accounts {
                let Some(customer) = customer else { continue };
                let id = AccountId::of(customer, linked.record, &account.id);
                let stored = self.store.account(id).await.ok().flatten();
                doubted |= stored.is_some_and(|it| it.checks.doubt.is_some());
            }
        }
        self.gate.set_open(false);
        doubted
    }

    fn some_due_key(&mut self) -> Option<DueKey> {
        let keys = self.due_keys();
        self.random.pick(&keys).copied()
    }

    fn next_visible(&self) -> Option<i64> {
        let services = self.cloud.services();
        services
            .queues
            .values()
            .filter(|it| !it.in_flight)
            .map(|it| it.visible_at)
            .min()
    }

    fn start_batch(&mut self) -> bool {
        let queues = ["priority", "fetch", "deliver"];
        let first = self.random.below(3);
        let now = self.now().as_millisecond();
        for turn in 0..3 {
            let queue = queues[(first + turn) % 3];
            let mut visible: Vec<u64> = {
                let services = self.cloud.services();
                let visible = services
                    .queues
                    .values()
                    .filter(|it| it.queue == queue && !it.in_flight && it.visible_at <= now);
                visible.map(|it| it.id).collect()
            };
            if visible.is_empty() {
                continue;
            }
            self.random.shuffle(&mut visible);
            let most = 1 + self.random.below(10);
            visible.truncate(most);
            {
                let mut services = self.cloud.services();
                for id in &visible {
                    if let Some(message) = services.queues.get_mut(id) {
                        message.receives += 1;
                        message.in_flight = true;
                        message.visible_at = now + VISIBILITY_MS;
                    }
                }
            }
            self.start(Job::Batch {
                queue,
                messages: visible,
            });
            return true;
        }
        false
    }

    /// Everything that runs goes on to its end, without faults.
    async fn finish(&mut self) {
        for _ in 0..100_000 {
            if self.processes.is_empty() {
                return;
            }
            self.effect(true).await;
        }
        self.broken.push("a process does not end".to_owned());
    }

    /// From now on banks show all they have.
    pub(crate) fn lack_nothing(&self) {
        self.banks.books().moods.lacking = 0;
    }

    /// The storm is over: what was begun is finished, what failed comes again, until nothing is left to
    /// do but to wait for the next tick.
    pub(crate) async fn calm(&mut self) {
        self.weather.twice = 0;
        self.weather.crash = 0;
        self.banks.books().moods.failing = 0;
        self.receivers.desk().failing = 0;
        for _ in 0..MAX_ROUNDS {
            self.finish().await;
            if self.start_batch() {
                continue;
            }
            let next_message = self.next_visible();
            let next_again = self.again.iter().map(|(at, _)| *at).min();
            let next_retry = self.next_retry_ms();
            let next = [next_message, next_again, next_retry]
                .into_iter()
                .flatten()
                .min();
            let Some(next) = next else { return };
            self.pass_until(next).await;
            if next_again == Some(next) {
                if let Some(at) = self.again.iter().position(|(at, _)| *at == next) {
                    let (_, job) = self.again.remove(at);
                    self.start(job);
                }
            } else if next_retry == Some(next) {
                self.start(Job::Sweep {
                    at: self.now(),
                    tries: 0,
                });
            }
        }
        self.broken
            .push("the world does not come to rest".to_owned());
    }

    /// The minute of the earliest retry that waits for a sweep. The sweeps of the minutes before it
    /// would find nothing: that they ran is written down for them.
    fn next_retry_ms(&self) -> Option<i64> {
        let minute = self.earliest_retry()?;
        self.skip_sweeps();
        Some((minute * 60_000).max(self.now().as_millisecond()))
    }

    fn earliest_retry(&self) -> Option<i64> {
        let services = self.cloud.services();
        let due = services.table.items().filter_map(|((pk, _), _)| {
            pk.strip_prefix("RTY#")?
                .split('#')
                .next()?
                .parse::<i64>()
                .ok()
        });
        due.min()
    }

    fn skip_sweeps(&self) {
        let last = self.now().as_second() / 60 - 1;
        let until = self
            .earliest_retry()
            .map_or(last, |minute| last.min(minute - 1));
        self.cloud.services().table.skip_sweeps_to(until);
    }

    /// One tick for each due entry, at the minute that is its own.
    pub(crate) async fn tick_all(&mut self) {
        let mut keys = self.due_keys();
        keys.sort_by_key(|key| next_tick(key, self.now()));
        for key in keys {
            self.pass_until(next_tick(&key, self.now())).await;
            if !self.rule_is_on(key.interval) {
                self.broken.push(format!(
                    "rules: {} is off although record {} is on it",
                    key.interval, key.record
                ));
            }
            let tick = Tick {
                interval: key.interval,
                at: minute(self.now()),
            };
            self.start(Job::Tick { tick, tries: 0 });
            self.calm().await;
        }
    }

    /// Everybody whose consent was refused consents again.
    pub(crate) async fn relink_all(&mut self) {
        for linked in self.linked.clone() {
            let refused = self.banks.books().logins[linked.login].is_over(self.now());
            self.gate.set_open(true);
            let head = self.head(linked.record).await;
            self.gate.set_open(false);
            let waits = head.is_some_and(|head| head.status == RecordStatus::TokenRequired);
            if refused || waits {
                let body = self.relink(&linked);
                self.start(Job::Call {
                    path: "records/link",
                    body,
                    tries: 0,
                });
                self.calm().await;
            }
        }
    }

    /// Nothing runs for months, in which people go on to pay. Then everything runs again.
    pub(crate) async fn sleep_for_months(&mut self) {
        self.count("pauses");
        for _ in 0..SPENT_ASLEEP {
            self.pass(ASLEEP_MS / SPENT_ASLEEP).await;
            let moved = self.banks.books().spend_something(self.now());
            self.log(|| moved.unwrap_or_default());
        }
        self.tick_all().await;
        if self.weather.in_person {
            self.ask_all().await;
        }
    }

    /// Every record is asked for in person, which takes the strong read.
    pub(crate) async fn ask_all(&mut self) {
        for linked in self.linked.clone() {
            let body = json!({ "record_id": linked.record, "customer_ip": USER_IP });
            self.start(Job::Call {
                path: "customers/retry",
                body,
                tries: 0,
            });
            self.calm().await;
        }
    }

    /// Every rule of an interval without records ticks once, which switches it off.
    pub(crate) async fn rest_rules(&mut self) {
        for interval in Interval::ALL {
            if self.rule_is_on(interval)
                && !self.due_keys().iter().any(|key| key.interval == interval)
            {
                let tick = Tick {
                    interval,
                    at: minute(self.now()),
                };
                self.start(Job::Tick { tick, tries: 0 });
                self.calm().await;
                if self.rule_is_on(interval) {
                    self.broken
                        .push(format!("rules: {interval} is on although nothing is on it"));
                }
            }
        }
    }

    pub(crate) async fn head(&self, record: RecordId) -> Option<Head> {
        self.store
            .head(record, Consistency::Strong)
            .await
            .ok()
            .flatten()
    }
}

fn job_body(job: &Job) -> Value {
    match job {
        Job::Call { body, .. } => body.clone(),
        _ => Value::Null,
    }
}

fn name(job: &Job) -> String {
    match job {
        Job::Tick { tick, tries } => format!("tick {} {} try {tries}", tick.interval, tick.at),
        Job::Sweep { at, tries } => format!("sweep {at} try {tries}"),
        Job::Batch { queue, messages } => format!("batch {queue} {messages:?}"),
        Job::Call { path, body, tries } => format!("call {path} {body} try {tries}"),
    }
}

fn later(at: Timestamp, ms: i64) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond() + ms).unwrap_or(at)
}

fn minute(at: Timestamp) -> Timestamp {
    let second = at.as_second().div_euclid(60) * 60;
    Timestamp::from_second(second).unwrap_or(at)
}

/// When the next minute of a due entry's slot begins, in milliseconds since 1970.
fn next_tick(key: &DueKey, now: Timestamp) -> i64 {
    let length = i64::from(key.interval.minutes());
    let this = now.as_second().div_euclid(60);
    let ahead = (i64::from(key.slot().0) - this).rem_euclid(length);
    let ahead = if ahead == 0 { length } else { ahead };
    (this + ahead) * 60_000
}

/// Deliver functions that the deployment may run at the same time.
const DELIVERERS: NonZeroU32 = NonZeroU32::new(32).expect("it is not 0");

fn deliverer(environment: &Environment, receivers: &Receivers, seed: u64) -> Deliverer {
    let sender = Sender::over(Arc::new(receivers.clone()), AddressPolicy::PublicOnly);
    let Environment {
        store,
        queues,
        vault,
        clock,
        public_url,
        deliverers,
        ..
    } = environment.clone();
    let config = DeliverConfig {
        processes: deliverers.get(),
        ..DeliverConfig::new(public_url)
    };
    Deliverer::new(store, queues, vault, sender, clock, config)
        .drawing_from(okra_webhooks::Random::seeded(seed))
}

/// Builds requests; no world uses its sockets.
fn shared_connectors() -> Connectors {
    thread_local! {
        static CONNECTORS: Option<Connectors> = Connectors::new(okra_aws::rustls_client_config()).ok();
    }
    match CONNECTORS.with(Clone::clone) {
        Some(connectors) => connectors,
        None => unreachable!("rustls takes its own configuration"),
    }
}

/// Longest answer of the API that is read.
const MAX_ANSWER: usize = 1 << 20;

async fn call(router: Router, path: &str, body: &Value) -> (u16, Value) {
    let request = http::Request::builder()
        .method("POST")
        .uri(format!("/v2/{path}"))
        .header("authorization", format!("Bearer {KEY}"))
        .body(Body::from(body.to_string()));
    let Ok(request) = request else {
        return (0, Value::Null);
    };
    let response = match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), MAX_ANSWER)
        .await
        .unwrap_or_default();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}
