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
use okra_app::Services;
use okra_aws::{AwsConfig, Clock, tick_rules::TickRules};
use okra_connectors::Connectors;
use okra_core::model::{
    bank::{BankConfig, BankLimits, BankStandard},
    ids::{AccountId, AppId, BankId, RecordId},
    interval::{DueKey, Interval, Tick},
    snapshot::Environment as Env,
};
use okra_handlers::{
    DeliverEvent, DeliverEventResponse, FetchEvent, FetchEventResponse, RuntimeContext,
};
use okra_queue::{FetchMessage, QueueUrls, Queues};
use okra_refresh::Refresher;
use okra_store::{App, Consistency, KeyHash, RecordHead, RecordStatus, Store};
use okra_vault::Vault;
use okra_webhooks::{AddressPolicy, DeliverConfig, Deliverer, WebhookSender};
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt;

use crate::{
    bank::{BankFaultRates, SimBanks},
    cloud::{NowMillis, SimCloud},
    gate::{EffectFate, EffectKind, EffectPhase, EffectScheduler},
    random::SimRandom,
    receiver::SimReceivers,
    trace::SimTrace,
};

pub(crate) const SIM_BANK_ID: BankId = BankId::from_bytes([0xba; 12]);
pub(crate) const SIM_APP_ID: AppId = AppId::from_bytes([0xa0; 12]);
const SIM_SECRET_KEY: &str = "sk_sim";
/// The app's own endpoint, which is there before the first record and wants all that records bring.
pub(crate) const APP_HOOK_URL: &str = "https://app.example/hook";
/// The endpoint, in some worlds, that is told what becomes of the others.
pub(crate) const OPS_HOOK_URL: &str = "https://ops.example/hook";

/// When every world begins: mid-month, so that no window slides until it pauses.
const START_TIME: &str = "2026-03-08T12:00:30Z";

/// Milliseconds a received message stays invisible: six times a function's timeout.
const VISIBILITY_TIMEOUT_MS: i64 = 360_000;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// How long nothing runs, where a world pauses: longer than any window.
const PAUSE_MS: i64 = 80 * DAY_MS;

/// Purchases while nothing runs.
const PURCHASES_DURING_PAUSE: i64 = 8;

/// Where a user calls from.
const USER_IP: &str = "203.0.113.7";

/// Times Lambda repeats an asynchronous call that failed.
const MAX_LAMBDA_RETRIES: u32 = 2;

/// Rounds of anything in the calm at most; a world that needs more has not come to rest, which breaks a law.
const MAX_QUIESCENCE_ROUNDS: usize = 400;

/// How the faults of a world are distributed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FaultProfile {
    /// Faults of the cloud's calls, in a thousand.
    pub(crate) cloud_fault_permille: u16,
    /// Stale reads among those that may be, in a thousand.
    pub(crate) stale_read_permille: u16,
    /// Crashes, in a thousand effects.
    pub(crate) crash_permille: u16,
    /// Banks, in a thousand calls.
    pub(crate) bank_fault_permille: u16,
    /// Rows that an answer of a bank lacks, in a thousand answers.
    pub(crate) omission_permille: u16,
    /// Receivers, in a thousand calls.
    pub(crate) receiver_fault_permille: u16,
    /// Messages delivered twice, in a thousand.
    pub(crate) duplicate_permille: u16,
    /// Whether banks show A, then B, then A again.
    pub(crate) banks_flip_back: bool,
    /// Whether the bank wants the user there for each refresh.
    pub(crate) user_present_only: bool,
    /// Whether consents have an end that is known.
    pub(crate) consents_expire: bool,
    /// Whether nothing runs for months, in the end.
    pub(crate) pauses_for_months: bool,
    /// Whether the bank allows so little that it is often asked as much as it allows.
    pub(crate) bank_rate_is_low: bool,
    /// Receivers that go down for hours, in a thousand calls.
    pub(crate) outage_permille: u16,
    /// Processes at the same time at most.
    pub(crate) max_processes: usize,
    /// Steps of the storm.
    pub(crate) fault_phase_steps: usize,
}

impl FaultProfile {
    fn from_random(random: &mut SimRandom) -> Self {
        let level =
            |random: &mut SimRandom, most: &[u16]| random.pick_one(most).copied().unwrap_or(0);
        Self {
            cloud_fault_permille: level(random, &[0, 5, 30, 100]),
            stale_read_permille: level(random, &[0, 100, 500]),
            crash_permille: level(random, &[0, 5, 20, 60]),
            bank_fault_permille: level(random, &[0, 50, 300]),
            omission_permille: level(random, &[0, 0, 500]),
            receiver_fault_permille: level(random, &[0, 100, 400]),
            duplicate_permille: level(random, &[0, 20, 200]),
            banks_flip_back: random.roll_permille(300),
            user_present_only: random.roll_permille(80),
            consents_expire: random.roll_permille(120),
            bank_rate_is_low: random.roll_permille(150),
            outage_permille: level(random, &[0, 0, 60]),
            pauses_for_months: random.roll_permille(60),
            max_processes: 1 + random.number_below(4),
            fault_phase_steps: 90 + random.number_below(90),
        }
    }
}

struct ProcessWaker {
    is_woken: AtomicBool,
    root_waker: Arc<Mutex<Option<Waker>>>,
}

impl Wake for ProcessWaker {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::SeqCst);
        let root = self
            .root_waker
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
pub(crate) enum SimJob {
    Tick {
        tick: Tick,
        retry_count: u32,
    },
    Sweep {
        at: Timestamp,
        retry_count: u32,
    },
    Batch {
        queue: &'static str,
        messages: Vec<u64>,
    },
    Call {
        path: &'static str,
        body: Value,
        retry_count: u32,
    },
}

/// What a process came to.
enum ProcessOutcome {
    /// An asynchronous call; false where it has to come again.
    Invocation(bool),
    /// Ids of the messages that have to come again.
    Batch(Result<BTreeSet<u64>, String>),
    /// The API answered.
    ApiCall(u16, Value),
}

struct SimProcess {
    id: u64,
    job: SimJob,
    future: Pin<Box<dyn Future<Output = ProcessOutcome>>>,
    waker: Arc<ProcessWaker>,
}

/// A record that was linked.
#[derive(Clone, Debug)]
pub(crate) struct SimLinkedRecord {
    pub(crate) record: RecordId,
    pub(crate) login: usize,
    pub(crate) customer: String,
}

pub(crate) struct World {
    pub(crate) random: SimRandom,
    pub(crate) fault_profile: FaultProfile,
    pub(crate) scheduler: EffectScheduler,
    pub(crate) cloud: SimCloud,
    pub(crate) banks: SimBanks,
    pub(crate) receivers: SimReceivers,
    pub(crate) store: Store,
    pub(crate) trace: SimTrace,
    pub(crate) linked_records: Vec<SimLinkedRecord>,
    pub(crate) violations: Vec<String>,
    rules: TickRules,
    clock: Clock,
    started_at_ms: i64,
    started_instant: Instant,
    router: Router,
    environment: RuntimeContext,
    refresher: Arc<Refresher>,
    deliverer: Arc<Deliverer>,
    processes: Vec<SimProcess>,
    next_process_id: u64,
    root_waker: Arc<Mutex<Option<Waker>>>,
    /// Processes that were handed nothing but chunks whose time is over: they may call no bank.
    late_processes: BTreeSet<u64>,
    /// Processes whose calls of the bank no tick planned: they need a place of its pace.
    unplanned_processes: BTreeSet<u64>,
    /// Asynchronous calls that have to come again, and when, in milliseconds since 1970.
    pending_retries: Vec<(i64, SimJob)>,
    pub(crate) event_counts: BTreeMap<&'static str, u64>,
}

impl World {
    pub(crate) async fn new(seed: u64, keep_trace: bool) -> Self {
        let mut random = SimRandom::new(seed);
        let weather = FaultProfile::from_random(&mut random);
        let gate = EffectScheduler::default();
        gate.set_bypassed(true);
        let begins: Timestamp = START_TIME.parse().unwrap_or_default();
        let clock = Clock::manual_at(begins);
        let now: NowMillis = {
            let clock = clock.clone();
            Arc::new(move || clock.now().as_millisecond())
        };
        let cloud = SimCloud::new(gate.clone(), Arc::clone(&now));
        let banks = SimBanks::new(gate.clone(), Arc::clone(&now), random.fork_generator());
        let receivers = SimReceivers::new(gate.clone(), Arc::clone(&now), random.fork_generator());
        let aws = AwsConfig::with_http_client(cloud.http_client());
        let store = Store::new(aws.dynamodb_client(), "okra");
        let rules = TickRules::new(aws.eventbridge_client(), "sim");
        let url = |name: &str| format!("https://sqs.local.amazonaws.com/000000000000/{name}");
        let urls = QueueUrls {
            fetch: url("fetch"),
            priority: url("priority"),
            deliver: url("deliver"),
        };
        let connectors = shared_connectors().with_http_client(Arc::new(banks.clone()));
        let environment = RuntimeContext {
            store: store.clone(),
            queues: Queues::new(aws.sqs_client(), urls),
            tick_rules: rules.clone(),
            event_bus: None,
            vault: Arc::new(Vault::new([1; 32])),
            connectors,
            address_policy: AddressPolicy::PublicOnly,
            clock: clock.clone(),
            public_url: "https://sync.example".to_owned(),
            deliver_concurrency: DELIVERER_COUNT,
        };
        let numbers = Mutex::new(random.fork_generator());
        let state =
            Services::new(environment.clone(), None).with_random_source(Arc::new(move |bytes| {
                let mut numbers = numbers.lock().unwrap_or_else(PoisonError::into_inner);
                bytes.chunks_mut(8).for_each(|part| {
                    part.copy_from_slice(&numbers.next().to_be_bytes()[..part.len()]);
                });
                Ok(())
            }));
        let router = okra_api::build_router(state);
        let refresher = Arc::new(environment.build_refresher());
        let deliverer = Arc::new(build_deliverer(&environment, &receivers, random.next()));
        let mut world = Self {
            random,
            fault_profile: weather,
            scheduler: gate,
            cloud,
            banks,
            receivers,
            store,
            trace: SimTrace::new(keep_trace),
            linked_records: Vec::new(),
            violations: Vec::new(),
            rules,
            clock,
            started_at_ms: begins.as_millisecond(),
            started_instant: Instant::now(),
            router,
            environment,
            refresher,
            deliverer,
            processes: Vec::new(),
            next_process_id: 1,
            root_waker: Arc::default(),
            late_processes: BTreeSet::new(),
            unplanned_processes: BTreeSet::new(),
            pending_retries: Vec::new(),
            event_counts: BTreeMap::new(),
        };
        world.set_up_world().await;
        world
    }

    async fn set_up_world(&mut self) {
        let bank = BankConfig {
            id: SIM_BANK_ID,
            name: "Bank".to_owned(),
            slug: "bank".to_owned(),
            standard: BankStandard::Obie31,
            base_url: "https://bank.example/aisp".to_owned(),
            financial_id: None,
            country: "NG".to_owned(),
            oauth: None,
            limits: BankLimits {
                user_present_only: self.fault_profile.user_present_only,
                records_per_second: if self.fault_profile.bank_rate_is_low {
                    1
                } else {
                    50
                },
                ..BankLimits::default()
            },
        };
        let app = App {
            id: SIM_APP_ID,
            name: "app".to_owned(),
            environment: Env::Sandbox,
            created_at: self.clock.now(),
            widget_origins: Vec::new(),
            public_key: None,
            refreshes_per_minute: okra_store::DEFAULT_REFRESHES_PER_MINUTE,
        };
        let set = async {
            self.store.put_bank(&bank).await?;
            self.store.put_app(&app).await?;
            self.store
                .put_bare_api_key(KeyHash::hash_secret(SIM_SECRET_KEY), SIM_APP_ID)
                .await?;
            // Sweeps ran every minute since the deployment, and found nothing.
            let swept = self.now().as_second() / 60;
            self.store
                .put_system_state("sweep", &json!({ "minute": swept }))
                .await
        };
        if let Err(error) = set.await {
            self.violations.push(format!("set up: {error}"));
        }
        // One endpoint of the app that is told of everything.
        let ordered = self.random.roll_permille(400);
        self.receivers
            .lock_state()
            .set_ordered(APP_HOOK_URL, ordered);
        let hook = json!({ "url": APP_HOOK_URL, "ordered": ordered });
        self.call_api_now("webhooks/set", hook).await;
        if self.random.roll_permille(300) {
            let named = json!({ "url": OPS_HOOK_URL, "events": ["endpoint.*", "delivery.*"] });
            self.call_api_now("webhooks/set", named).await;
        }
        // Every read sees the endpoints from now on.
        self.advance_time(3_000).await;
        let records = 1 + self.random.number_below(2);
        for _ in 0..records {
            let (path, body) = self.make_link_call();
            self.call_api_now(path, body).await;
        }
    }

    /// A call of the API with the gate as it is, waited for.
    async fn call_api_now(&mut self, path: &'static str, body: Value) {
        let job = SimJob::Call {
            path,
            body,
            retry_count: 0,
        };
        let (status, answer) = call_api(self.router.clone(), path, &job_body(&job)).await;
        self.handle_api_response(path, &job, status, &answer);
    }

    fn make_link_call(&mut self) -> (&'static str, Value) {
        let accounts = 1 + self.random.number_below(2);
        let token = self.banks.open_login(accounts);
        if accounts > 1 && self.random.roll_permille(150) {
            let mut books = self.banks.lock_state();
            if let Some(account) = books
                .logins
                .last_mut()
                .and_then(|login| login.accounts.last_mut())
            {
                account.always_fails = true;
            }
        }
        let mut body = json!({ "access_token": token, "bank": SIM_BANK_ID, "name": "Ada Obi" });
        if self.fault_profile.consents_expire {
            let minutes = self.random.number_between(1, 3 * 24 * 60);
            let ends = add_milliseconds(self.now(), minutes * 60_000);
            if let Some(login) = self.banks.lock_state().logins.last_mut() {
                login.expires_at = Some(ends);
            }
            body["consent_expires_at"] = json!(ends);
        }
        if self.random.roll_permille(500) {
            body["limit"] = json!(1 + self.random.number_below(3));
        }
        if self.random.roll_permille(600) {
            let interval = self
                .random
                .pick_one(&Interval::ALL)
                .copied()
                .unwrap_or_default();
            body["interval"] = json!(interval);
            body["webhook_url"] = json!(format!(
                "https://r{}.example/hook",
                self.random.number_below(2)
            ));
        }
        ("records/link", body)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn increment_count(&mut self, event: &'static str) {
        *self.event_counts.entry(event).or_default() += 1;
    }

    /// What the banks answered, beside what happened here.
    pub(crate) fn count_omissions(&mut self) {
        let lacking = self.banks.lock_state().omission_count;
        self.event_counts
            .insert("answers that lacked a row", lacking);
    }

    pub(crate) fn log_event(&mut self, text: impl FnOnce() -> String) {
        let at = self.clock.now().as_millisecond() - self.started_at_ms;
        self.trace.push_line(at, text);
    }

    /// Time passes, for the timers of the code as well.
    pub(crate) async fn advance_time(&mut self, ms: i64) {
        let ms = u64::try_from(ms).unwrap_or(0);
        if ms > 0 {
            tokio::time::advance(Duration::from_millis(ms)).await;
        }
        self.sync_clock();
    }

    pub(crate) fn start_time(&self) -> Timestamp {
        Timestamp::from_millisecond(self.started_at_ms).unwrap_or_default()
    }

    fn sync_clock(&self) {
        let elapsed = self.started_instant.elapsed().as_millis();
        let at = self.started_at_ms + i64::try_from(elapsed).unwrap_or(0);
        self.clock
            .set_time(Timestamp::from_millisecond(at).unwrap_or_default());
    }

    async fn advance_time_until(&mut self, until_ms: i64) {
        let wait = until_ms - self.now().as_millisecond();
        self.advance_time(wait).await;
    }

    fn start_process(&mut self, job: SimJob) {
        let id = self.next_process_id;
        self.next_process_id += 1;
        self.log_event(|| format!("start {id} {}", describe_job(&job)));
        if let SimJob::Batch { messages, .. } = &job
            && self.are_all_chunks_late(messages)
        {
            self.increment_count("late chunks");
            self.late_processes.insert(id);
        }
        if self.needs_permits(&job) {
            self.unplanned_processes.insert(id);
        }
        let (refresher, deliverer) = (Arc::clone(&self.refresher), Arc::clone(&self.deliverer));
        let future: Pin<Box<dyn Future<Output = ProcessOutcome>>> = match &job {
            SimJob::Tick { tick, .. } => {
                let tick = *tick;
                Box::pin(async move {
                    ProcessOutcome::Invocation(
                        okra_handlers::handle_fetch_event(&refresher, FetchEvent::Tick(tick))
                            .await
                            .is_ok(),
                    )
                })
            }
            SimJob::Sweep { at, .. } => {
                let sweep = *at;
                Box::pin(async move {
                    let event = DeliverEvent::Sweep { sweep };
                    ProcessOutcome::Invocation(
                        okra_handlers::handle_deliver_event(&deliverer, event)
                            .await
                            .is_ok(),
                    )
                })
            }
            SimJob::Batch { queue, messages } => {
                let event = self.lambda_event(queue, messages);
                let deliver = *queue == "deliver";
                Box::pin(async move {
                    let response = if deliver {
                        let event: DeliverEvent = match serde_json::from_value(event) {
                            Ok(event) => event,
                            Err(error) => return ProcessOutcome::Batch(Err(error.to_string())),
                        };
                        match okra_handlers::handle_deliver_event(&deliverer, event).await {
                            Ok(DeliverEventResponse::Messages(response)) => response,
                            Ok(DeliverEventResponse::Sweep(_)) => {
                                return ProcessOutcome::Batch(Err("a sweep".to_owned()));
                            }
                            Err(error) => return ProcessOutcome::Batch(Err(error.to_string())),
                        }
                    } else {
                        let event: FetchEvent = match serde_json::from_value(event) {
                            Ok(event) => event,
                            Err(error) => return ProcessOutcome::Batch(Err(error.to_string())),
                        };
                        match okra_handlers::handle_fetch_event(&refresher, event).await {
                            Ok(FetchEventResponse::Messages(response)) => response,
                            Ok(FetchEventResponse::Tick(_)) => {
                                return ProcessOutcome::Batch(Err("a tick".to_owned()));
                            }
                            Err(error) => return ProcessOutcome::Batch(Err(error.to_string())),
                        }
                    };
                    let failed = response.batch_item_failures.iter();
                    ProcessOutcome::Batch(Ok(failed
                        .filter_map(|it| it.item_identifier.parse().ok())
                        .collect()))
                })
            }
            SimJob::Call { path, .. } => {
                let (router, path, body) = (self.router.clone(), *path, job_body(&job));
                Box::pin(async move {
                    let (status, answer) = call_api(router, path, &body).await;
                    ProcessOutcome::ApiCall(status, answer)
                })
            }
        };
        let flag = Arc::new(ProcessWaker {
            is_woken: AtomicBool::new(true),
            root_waker: Arc::clone(&self.root_waker),
        });
        self.processes.push(SimProcess {
            id,
            job,
            future,
            waker: flag,
        });
    }

    /// True where whatever is asked of the bank is asked beside its ticks: by a link, by steps of histories, by
    /// chunks that come late. What is asked on demand took its place when it was sent.
    fn needs_permits(&self, job: &SimJob) -> bool {
        let messages = match job {
            SimJob::Batch { messages, .. } => messages,
            SimJob::Call { .. } => return true,
            SimJob::Tick { .. } | SimJob::Sweep { .. } => return false,
        };
        let now = self.now();
        self.all_fetch_messages(messages, |message| match message {
            FetchMessage::ChunkV1(chunk) => chunk.is_late(now),
            FetchMessage::BackfillV1(_) => true,
            FetchMessage::FollowUpV1(_) | FetchMessage::RemovalStepV1(_) => false,
        })
    }

    fn are_all_chunks_late(&self, messages: &[u64]) -> bool {
        let now = self.now();
        self.all_fetch_messages(
            messages,
            |message| matches!(message, FetchMessage::ChunkV1(chunk) if chunk.not_after < now),
        )
    }

    /// True where each of these messages is one of the fetch queues, and `fits`.
    fn all_fetch_messages(
        &self,
        messages: &[u64],
        predicate: impl Fn(&FetchMessage) -> bool,
    ) -> bool {
        let services = self.cloud.lock_services();
        messages.iter().all(|id| {
            let message = services.queues.get(id);
            let message = message.and_then(|it| serde_json::from_str(&it.body).ok());
            message.is_some_and(|message| predicate(&message))
        })
    }

    /// What Lambda hands to a function for these messages.
    fn lambda_event(&self, queue: &str, messages: &[u64]) -> Value {
        let services = self.cloud.lock_services();
        let records: Vec<Value> = messages
            .iter()
            .filter_map(|id| services.queues.get(id))
            .map(|message| {
                json!({
                    "messageId": message.id.to_string(),
                    "receiptHandle": "-",
                    "body": message.body,
                    "attributes": {
                        "ApproximateReceiveCount": message.receive_count.to_string(),
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
    async fn poll_processes(&mut self) {
        let ended = poll_fn(|cx| {
            *self
                .root_waker
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
            let mut ended = Vec::new();
            while let Some(at) = self
                .processes
                .iter()
                .position(|it| it.waker.is_woken.swap(false, Ordering::SeqCst))
            {
                let process = &mut self.processes[at];
                self.scheduler.set_current_process(process.id);
                let waker = Waker::from(Arc::clone(&process.waker));
                if let Poll::Ready(end) = process
                    .future
                    .as_mut()
                    .poll(&mut Context::from_waker(&waker))
                {
                    ended.push((self.processes.remove(at), end));
                }
            }
            let waiting = !self.scheduler.map_pending_effects(|_, _| ()).is_empty();
            if waiting || self.processes.is_empty() || !ended.is_empty() {
                Poll::Ready(ended)
            } else {
                Poll::Pending
            }
        })
        .await;
        self.sync_clock();
        for (process, end) in ended {
            self.handle_process_outcome(&process, end);
        }
    }

    fn handle_process_outcome(&mut self, process: &SimProcess, outcome: ProcessOutcome) {
        let id = process.id;
        match outcome {
            ProcessOutcome::Invocation(done) => {
                self.log_event(|| format!("end {id} {done}"));
                if !done {
                    self.schedule_job_retry(&process.job);
                }
            }
            ProcessOutcome::Batch(Err(error)) => {
                self.violations
                    .push(format!("a batch could not be handed over: {error}"));
            }
            ProcessOutcome::Batch(Ok(failed)) => {
                self.log_event(|| format!("end {id} failed {failed:?}"));
                if let SimJob::Batch { messages, .. } = &process.job {
                    let (twice, now) = (
                        self.fault_profile.duplicate_permille,
                        self.now().as_millisecond(),
                    );
                    for message in messages {
                        let again = self.random.roll_permille(twice);
                        let mut services = self.cloud.lock_services();
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
                            held.receive_count = 0;
                        } else {
                            services.queues.remove(message);
                        }
                    }
                }
            }
            ProcessOutcome::ApiCall(status, answer) => {
                self.log_event(|| format!("end {id} {status}"));
                if status == 429 {
                    self.increment_count("asked too often");
                }
                if let SimJob::Call { path, .. } = &process.job {
                    self.handle_api_response(path, &process.job, status, &answer);
                }
            }
        }
    }

    fn handle_api_response(
        &mut self,
        path: &'static str,
        job: &SimJob,
        status: u16,
        response: &Value,
    ) {
        let SimJob::Call { body, .. } = job else {
            return;
        };
        if status >= 500 || status == 429 {
            // Whoever asked for a link or a consent asks again; others give up.
            if path == "records/link" {
                self.schedule_job_retry(job);
            }
            return;
        }
        if path == "records/link" && status == 200 && body["record_id"].is_null() {
            let data = &response["data"];
            let record = data["record_id"].as_str().and_then(|id| id.parse().ok());
            let token = body["access_token"].as_str().unwrap_or_default();
            let login = self
                .banks
                .lock_state()
                .logins
                .iter()
                .position(|login| login.token == token);
            if let (Some(record), Some(login)) = (record, login) {
                let customer = data["customer_id"].as_str().unwrap_or_default().to_owned();
                self.linked_records.push(SimLinkedRecord {
                    record,
                    login,
                    customer,
                });
            }
        }
    }

    fn schedule_job_retry(&mut self, job: &SimJob) {
        let mut job = job.clone();
        let delay = match &mut job {
            SimJob::Tick {
                retry_count: tries, ..
            }
            | SimJob::Sweep {
                retry_count: tries, ..
            } => {
                *tries += 1;
                if *tries > MAX_LAMBDA_RETRIES {
                    return;
                }
                60_000
            }
            SimJob::Call {
                retry_count: tries, ..
            } => {
                *tries += 1;
                5_000
            }
            SimJob::Batch { .. } => return,
        };
        self.pending_retries
            .push((self.now().as_millisecond() + delay, job));
    }

    /// A process dies where it stands. Whoever called it sees no answer.
    fn crash_process(&mut self, process: u64) {
        let Some(at) = self.processes.iter().position(|it| it.id == process) else {
            return;
        };
        let dead = self.processes.remove(at);
        self.log_event(|| format!("crash {process}"));
        self.increment_count("crashes");
        if let SimJob::Batch { messages, .. } = &dead.job {
            let now = self.now().as_millisecond();
            let mut services = self.cloud.lock_services();
            for message in messages {
                if let Some(held) = services.queues.get_mut(message) {
                    held.in_flight = false;
                    held.visible_at = now + VISIBILITY_TIMEOUT_MS;
                }
            }
        } else if !matches!(dead.job, SimJob::Call { .. })
            || describe_job(&dead.job).contains("link")
        {
            self.schedule_job_retry(&dead.job);
        }
        drop(dead);
        // The next call finds a process without memory.
        self.refresher = Arc::new(self.environment.build_refresher());
        let seed = self.random.next();
        self.deliverer = Arc::new(build_deliverer(&self.environment, &self.receivers, seed));
    }

    fn draw_fate(&mut self, kind: EffectKind) -> EffectFate {
        let weather = self.fault_profile;
        if kind == EffectKind::EventualRead || kind == EffectKind::Batch {
            if self.random.roll_permille(weather.stale_read_permille)
                && kind == EffectKind::EventualRead
            {
                return EffectFate::StaleRead(self.random.number_between(1, 2_000));
            }
            if kind == EffectKind::Batch && self.random.roll_permille(weather.cloud_fault_permille)
            {
                return EffectFate::Partial;
            }
        }
        let faulty = match kind {
            EffectKind::Bank | EffectKind::Receiver => return EffectFate::Succeed,
            _ => weather.cloud_fault_permille,
        };
        if !self.random.roll_permille(faulty) {
            return EffectFate::Succeed;
        }
        let fates = [
            EffectFate::Throttle,
            EffectFate::Fail,
            EffectFate::Unreachable,
            EffectFate::LoseResponse,
        ];
        self.random
            .pick_one(&fates)
            .copied()
            .unwrap_or(EffectFate::Succeed)
    }

    /// One waiting effect goes on, or its process dies. False where none waits.
    async fn perform_effect(&mut self, is_fault_free: bool) -> bool {
        self.poll_processes().await;
        let points = self
            .scheduler
            .map_pending_effects(|id, point| (id, point.process, point.kind, point.phase));
        let at = if is_fault_free {
            0
        } else {
            self.random.number_below(points.len())
        };
        let Some(&(id, process, kind, side)) = points.get(at) else {
            return false;
        };
        let label = self.trace.keeps_lines().then(|| {
            self.scheduler
                .map_pending_effects(|it, point| (it == id).then(|| point.label.clone()))
        });
        let label = label.into_iter().flatten().flatten().next();
        if !is_fault_free && self.random.roll_permille(self.fault_profile.crash_permille) {
            self.log_event(|| format!("{process} dies {side:?} {}", label.unwrap_or_default()));
            self.crash_process(process);
            return true;
        }
        if kind == EffectKind::Bank
            && side == EffectPhase::Before
            && self.late_processes.contains(&process)
        {
            self.violations
                .push("law 9: a bank is called for a chunk whose time is over".to_owned());
        }
        if kind == EffectKind::Bank
            && side == EffectPhase::Before
            && self.unplanned_processes.contains(&process)
        {
            self.cloud
                .lock_services()
                .require_permit(process, "a turn of its own");
        }
        let fate = if is_fault_free || side == EffectPhase::After {
            EffectFate::Succeed
        } else {
            self.draw_fate(kind)
        };
        if fate != EffectFate::Succeed {
            self.increment_count("faults");
        }
        self.increment_count("effects");
        self.log_event(|| format!("{process} {side:?} {fate:?} {}", label.unwrap_or_default()));
        self.scheduler.release_effect(id, fate);
        let ms = if is_fault_free {
            1
        } else {
            self.random.number_between(0, 25)
        };
        self.advance_time(ms).await;
        true
    }

    /// The storm: jobs start, effects happen in any order, processes die, banks move.
    pub(crate) async fn run_fault_phase(&mut self) {
        self.scheduler.set_bypassed(false);
        self.banks.lock_state().fault_rates = BankFaultRates {
            failure_permille: self.fault_profile.bank_fault_permille,
            omission_permille: self.fault_profile.omission_permille,
        };
        self.receivers.lock_state().failure_permille = self.fault_profile.receiver_fault_permille;
        for _ in 0..self.fault_profile.fault_phase_steps {
            match self.random.number_below(100) {
                0..=74 if !self.processes.is_empty() => {
                    self.perform_effect(false).await;
                }
                0..=84 => self.start_random_job().await,
                85..=95 => {
                    let (now, flips) = (self.now(), self.fault_profile.banks_flip_back);
                    let moved = self.banks.lock_state().change_random_account(now, flips);
                    self.log_event(|| moved.unwrap_or_default());
                }
                _ => {
                    let ms = self.random.number_between(1, 30_000);
                    self.advance_time(ms).await;
                }
            }
        }
    }

    async fn start_random_job(&mut self) {
        if self.processes.len() >= self.fault_profile.max_processes {
            return;
        }
        match self.random.number_below(20) {
            0..=4 => {
                let Some(key) = self.pick_due_key() else {
                    return;
                };
                if self.processes.is_empty() {
                    self.advance_time_until(next_tick_at_ms(&key, self.now()))
                        .await;
                }
                let tick = Tick {
                    interval: key.interval,
                    at: start_of_minute(self.now()),
                };
                if self.is_rule_enabled(tick.interval) {
                    self.start_process(SimJob::Tick {
                        tick,
                        retry_count: 0,
                    });
                    let twice = self.fault_profile.duplicate_permille;
                    if self.random.roll_permille(twice) {
                        self.start_process(SimJob::Tick {
                            tick,
                            retry_count: 0,
                        });
                    }
                }
            }
            5..=13 => {
                if !self.start_batch() && self.processes.is_empty() {
                    let next = self.next_visible_at_ms();
                    if let Some(at) = next {
                        self.advance_time_until(at).await;
                        self.start_batch();
                    }
                }
            }
            14 => {
                let at = start_of_minute(self.now());
                if self.random.roll_permille(300) {
                    self.skip_empty_sweeps();
                    self.start_process(SimJob::Sweep { at, retry_count: 0 });
                }
            }
            15 => {
                if let Some((_, job)) =
                    (!self.pending_retries.is_empty()).then(|| self.pending_retries.remove(0))
                {
                    self.start_process(job);
                }
            }
            _ => {
                if let Some((path, body)) = self.pick_api_call() {
                    self.start_process(SimJob::Call {
                        path,
                        body,
                        retry_count: 0,
                    });
                }
            }
        }
    }

    fn pick_api_call(&mut self) -> Option<(&'static str, Value)> {
        let linked = self.random.pick_one(&self.linked_records.clone()).cloned();
        match self.random.number_below(10) {
            0 if self.linked_records.len() < 3 => Some(self.make_link_call()),
            0..=3 => {
                let path = self
                    .random
                    .pick_one(&["balance/refresh", "transactions/refresh", "customers/retry"])
                    .copied()?;
                let mut body = json!({ "record_id": linked?.record });
                if self.fault_profile.user_present_only || self.random.roll_permille(200) {
                    body["customer_ip"] = json!(USER_IP);
                }
                Some((path, body))
            }
            4 | 5 => {
                let interval = self.random.pick_one(&Interval::ALL).copied()?;
                let products = self
                    .random
                    .pick_one(&[
                        &["balance"][..],
                        &["transactions"],
                        &["balance", "transactions"],
                    ])
                    .copied()?;
                let url = format!("https://r{}.example/hook", self.random.number_below(3));
                Some((
                    "data-sync",
                    json!({ "customer": linked?.customer, "products": products, "interval": interval, "webhook_url": url }),
                ))
            }
            6 => {
                // The consent ends; the user links again some time later.
                let login = linked?.login;
                self.banks.lock_state().logins[login].is_revoked = true;
                self.log_event(|| format!("consent of login {login} ends"));
                None
            }
            7 => {
                let linked = linked?;
                Some(("records/link", self.make_relink_call(&linked)))
            }
            8 => {
                let down = self.fault_profile.outage_permille;
                if self.random.roll_permille(down.saturating_mul(10)) {
                    let url = match self.random.number_below(3) {
                        0 => APP_HOOK_URL.to_owned(),
                        n => format!("https://r{n}.example/hook"),
                    };
                    let minutes = self.random.number_between(5, 20 * 60);
                    let until = self.now().as_millisecond() + minutes * 60_000;
                    self.log_event(|| format!("{url} is down for {minutes} minutes"));
                    self.increment_count("receivers down");
                    self.receivers
                        .lock_state()
                        .inboxes
                        .entry(url)
                        .or_default()
                        .down_until_ms = until;
                    return None;
                }
                let url = format!("https://r{}.example/hook", self.random.number_below(3));
                if self.random.roll_permille(200) {
                    self.receivers
                        .lock_state()
                        .inboxes
                        .entry(url)
                        .or_default()
                        .is_gone = true;
                    return None;
                }
                Some((
                    "webhooks/set",
                    json!({ "url": APP_HOOK_URL, "rotate": true }),
                ))
            }
            _ => None,
        }
    }

    /// The user consents again, and the app says so.
    fn make_relink_call(&mut self, linked: &SimLinkedRecord) -> Value {
        let mut books = self.banks.lock_state();
        let login = &mut books.logins[linked.login];
        let turn = login
            .token
            .rsplit('-')
            .next()
            .and_then(|it| it.parse::<u32>().ok())
            .unwrap_or(0);
        login.token = format!("token-{}-{}", linked.login, turn + 1);
        login.is_revoked = false;
        let mut body = json!({ "record_id": linked.record, "access_token": login.token });
        if self.fault_profile.consents_expire {
            // Beyond the end of every world.
            let ends = add_milliseconds(self.clock.now(), 90 * DAY_MS);
            login.expires_at = Some(ends);
            body["consent_expires_at"] = json!(ends);
        }
        body
    }

    /// Consents that have an end come to it, and everybody is asked for.
    pub(crate) async fn expire_consents(&mut self) {
        let ends = {
            let books = self.banks.lock_state();
            let ends = books.logins.iter().filter_map(|login| login.expires_at);
            ends.map(Timestamp::as_millisecond).collect::<Vec<_>>()
        };
        let soon = self.now().as_millisecond() + 30 * DAY_MS;
        if let Some(last) = ends.into_iter().filter(|at| *at < soon).max() {
            self.advance_time_until(last + 1).await;
            self.tick_all_due_entries().await;
            self.check_expired_consents().await;
        }
    }

    fn is_rule_enabled(&self, interval: Interval) -> bool {
        self.cloud
            .lock_services()
            .rules
            .contains(&self.rules.rule_name(interval))
    }

    /// The due entries that are in the table, in order.
    pub(crate) fn due_keys(&self) -> Vec<DueKey> {
        let services = self.cloud.lock_services();
        let keys = services.table.current_items().filter_map(|((pk, sk), _)| {
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
    pub(crate) async fn has_suspended_products(&self) -> bool {
        let now = self.now();
        self.scheduler.set_bypassed(true);
        let mut held = false;
        for key in self.due_keys() {
            let entry = self.store.find_due_entry(key, Consistency::Strong).await;
            let trouble = entry.ok().flatten().and_then(|entry| entry.failure_state);
            held |= trouble.is_some_and(|it| it.suspended_until(now).is_some());
        }
        self.scheduler.set_bypassed(false);
        held
    }

    /// True where an account's bank shows so little that it is not believed yet.
    pub(crate) async fn has_pending_deletions(&self) -> bool {
        self.scheduler.set_bypassed(true);
        let mut doubted = false;
        for linked in &self.linked_records {
            let accounts = self.banks.lock_state().logins[linked.login]
                .accounts
                .clone();
            let customer = self
                .load_head(linked.record)
                .await
                .map(|head| head.customer);
            for account in &accounts {
                let Some(customer) = customer else { continue };
                let id = AccountId::for_bank_account(customer, linked.record, &account.id);
                let stored = self.store.find_account(id).await.ok().flatten();
                doubted |= stored.is_some_and(|it| it.checks.pending_deletions.is_some());
            }
        }
        self.scheduler.set_bypassed(false);
        doubted
    }

    fn pick_due_key(&mut self) -> Option<DueKey> {
        let keys = self.due_keys();
        self.random.pick_one(&keys).copied()
    }

    fn next_visible_at_ms(&self) -> Option<i64> {
        let services = self.cloud.lock_services();
        services
            .queues
            .values()
            .filter(|it| !it.in_flight)
            .map(|it| it.visible_at)
            .min()
    }

    fn start_batch(&mut self) -> bool {
        let queues = ["priority", "fetch", "deliver"];
        let first = self.random.number_below(3);
        let now = self.now().as_millisecond();
        for turn in 0..3 {
            let queue = queues[(first + turn) % 3];
            let mut visible: Vec<u64> = {
                let services = self.cloud.lock_services();
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
            let most = 1 + self.random.number_below(10);
            visible.truncate(most);
            {
                let mut services = self.cloud.lock_services();
                for id in &visible {
                    if let Some(message) = services.queues.get_mut(id) {
                        message.receive_count += 1;
                        message.in_flight = true;
                        message.visible_at = now + VISIBILITY_TIMEOUT_MS;
                    }
                }
            }
            self.start_process(SimJob::Batch {
                queue,
                messages: visible,
            });
            return true;
        }
        false
    }

    /// Everything that runs goes on to its end, without faults.
    async fn finish_processes(&mut self) {
        for _ in 0..100_000 {
            if self.processes.is_empty() {
                return;
            }
            self.perform_effect(true).await;
        }
        self.violations.push("a process does not end".to_owned());
    }

    /// From now on banks show all they have.
    pub(crate) fn stop_omitting_rows(&self) {
        self.banks.lock_state().fault_rates.omission_permille = 0;
    }

    /// The storm is over: what was begun is finished, what failed comes again, until nothing is left to
    /// do but to wait for the next tick.
    pub(crate) async fn run_to_quiescence(&mut self) {
        self.fault_profile.duplicate_permille = 0;
        self.fault_profile.crash_permille = 0;
        self.banks.lock_state().fault_rates.failure_permille = 0;
        self.receivers.lock_state().failure_permille = 0;
        for _ in 0..MAX_QUIESCENCE_ROUNDS {
            self.finish_processes().await;
            if self.start_batch() {
                continue;
            }
            let next_message = self.next_visible_at_ms();
            let next_again = self.pending_retries.iter().map(|(at, _)| *at).min();
            let next_retry = self.next_sweep_at_ms();
            let next = [next_message, next_again, next_retry]
                .into_iter()
                .flatten()
                .min();
            let Some(next) = next else { return };
            self.advance_time_until(next).await;
            if next_again == Some(next) {
                if let Some(at) = self.pending_retries.iter().position(|(at, _)| *at == next) {
                    let (_, job) = self.pending_retries.remove(at);
                    self.start_process(job);
                }
            } else if next_retry == Some(next) {
                self.start_process(SimJob::Sweep {
                    at: self.now(),
                    retry_count: 0,
                });
            }
        }
        self.violations
            .push("the world does not come to rest".to_owned());
    }

    /// The minute of the earliest retry that waits for a sweep. The sweeps of the minutes before it
    /// would find nothing: that they ran is written down for them.
    fn next_sweep_at_ms(&self) -> Option<i64> {
        let minute = self.earliest_retry_minute()?;
        self.skip_empty_sweeps();
        Some((minute * 60_000).max(self.now().as_millisecond()))
    }

    fn earliest_retry_minute(&self) -> Option<i64> {
        let services = self.cloud.lock_services();
        let due = services.table.current_items().filter_map(|((pk, _), _)| {
            pk.strip_prefix("RTY#")?
                .split('#')
                .next()?
                .parse::<i64>()
                .ok()
        });
        due.min()
    }

    fn skip_empty_sweeps(&self) {
        let last = self.now().as_second() / 60 - 1;
        let until = self
            .earliest_retry_minute()
            .map_or(last, |minute| last.min(minute - 1));
        self.cloud.lock_services().table.record_sweeps_until(until);
    }

    /// One tick for each due entry, at the minute that is its own.
    pub(crate) async fn tick_all_due_entries(&mut self) {
        let mut keys = self.due_keys();
        keys.sort_by_key(|key| next_tick_at_ms(key, self.now()));
        for key in keys {
            self.advance_time_until(next_tick_at_ms(&key, self.now()))
                .await;
            if !self.is_rule_enabled(key.interval) {
                self.violations.push(format!(
                    "rules: {} is off although record {} is on it",
                    key.interval, key.record
                ));
            }
            let tick = Tick {
                interval: key.interval,
                at: start_of_minute(self.now()),
            };
            self.start_process(SimJob::Tick {
                tick,
                retry_count: 0,
            });
            self.run_to_quiescence().await;
        }
    }

    /// Everybody whose consent was refused consents again.
    pub(crate) async fn relink_revoked_records(&mut self) {
        for linked in self.linked_records.clone() {
            let refused = self.banks.lock_state().logins[linked.login].is_consent_over(self.now());
            self.scheduler.set_bypassed(true);
            let head = self.load_head(linked.record).await;
            self.scheduler.set_bypassed(false);
            let waits =
                head.is_some_and(|head| head.status == RecordStatus::ReauthorisationRequired);
            if refused || waits {
                let body = self.make_relink_call(&linked);
                self.start_process(SimJob::Call {
                    path: "records/link",
                    body,
                    retry_count: 0,
                });
                self.run_to_quiescence().await;
            }
        }
    }

    /// Nothing runs for months, in which people go on to pay. Then everything runs again.
    pub(crate) async fn pause_for_months(&mut self) {
        self.increment_count("pauses");
        for _ in 0..PURCHASES_DURING_PAUSE {
            self.advance_time(PAUSE_MS / PURCHASES_DURING_PAUSE).await;
            let moved = self
                .banks
                .lock_state()
                .purchase_at_random_account(self.now());
            self.log_event(|| moved.unwrap_or_default());
        }
        self.tick_all_due_entries().await;
        if self.fault_profile.user_present_only {
            self.refresh_all_user_present().await;
        }
    }

    /// Every record is asked for in person, which takes the strong read.
    pub(crate) async fn refresh_all_user_present(&mut self) {
        for linked in self.linked_records.clone() {
            let body = json!({ "record_id": linked.record, "customer_ip": USER_IP });
            self.start_process(SimJob::Call {
                path: "customers/retry",
                body,
                retry_count: 0,
            });
            self.run_to_quiescence().await;
        }
    }

    /// Every rule of an interval without records ticks once, which switches it off.
    pub(crate) async fn disable_idle_rules(&mut self) {
        for interval in Interval::ALL {
            if self.is_rule_enabled(interval)
                && !self.due_keys().iter().any(|key| key.interval == interval)
            {
                let tick = Tick {
                    interval,
                    at: start_of_minute(self.now()),
                };
                self.start_process(SimJob::Tick {
                    tick,
                    retry_count: 0,
                });
                self.run_to_quiescence().await;
                if self.is_rule_enabled(interval) {
                    self.violations
                        .push(format!("rules: {interval} is on although nothing is on it"));
                }
            }
        }
    }

    pub(crate) async fn load_head(&self, record: RecordId) -> Option<RecordHead> {
        self.store
            .find_head(record, Consistency::Strong)
            .await
            .ok()
            .flatten()
    }
}

fn job_body(job: &SimJob) -> Value {
    match job {
        SimJob::Call { body, .. } => body.clone(),
        _ => Value::Null,
    }
}

fn describe_job(job: &SimJob) -> String {
    match job {
        SimJob::Tick {
            tick,
            retry_count: tries,
        } => format!("tick {} {} try {tries}", tick.interval, tick.at),
        SimJob::Sweep {
            at,
            retry_count: tries,
        } => format!("sweep {at} try {tries}"),
        SimJob::Batch { queue, messages } => format!("batch {queue} {messages:?}"),
        SimJob::Call {
            path,
            body,
            retry_count: tries,
        } => format!("call {path} {body} try {tries}"),
    }
}

fn add_milliseconds(at: Timestamp, ms: i64) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond() + ms).unwrap_or(at)
}

fn start_of_minute(at: Timestamp) -> Timestamp {
    let second = at.as_second().div_euclid(60) * 60;
    Timestamp::from_second(second).unwrap_or(at)
}

/// When the next minute of a due entry's slot begins, in milliseconds since 1970.
fn next_tick_at_ms(key: &DueKey, now: Timestamp) -> i64 {
    let length = i64::from(key.interval.minutes());
    let this = now.as_second().div_euclid(60);
    let ahead = (i64::from(key.slot().0) - this).rem_euclid(length);
    let ahead = if ahead == 0 { length } else { ahead };
    (this + ahead) * 60_000
}

/// Deliver functions that the deployment may run at the same time.
const DELIVERER_COUNT: NonZeroU32 = NonZeroU32::new(32).expect("it is not 0");

fn build_deliverer(environment: &RuntimeContext, receivers: &SimReceivers, seed: u64) -> Deliverer {
    let sender =
        WebhookSender::with_transport(Arc::new(receivers.clone()), AddressPolicy::PublicOnly);
    let RuntimeContext {
        store,
        queues,
        vault,
        clock,
        public_url,
        deliver_concurrency: deliverers,
        ..
    } = environment.clone();
    let config = DeliverConfig {
        max_processes: deliverers.get(),
        ..DeliverConfig::new(public_url)
    };
    Deliverer::new(store, queues, vault, sender, clock, config)
        .with_random(okra_webhooks::JitterRandom::from_seed(seed))
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
const MAX_RESPONSE_BYTES: usize = 1 << 20;

async fn call_api(router: Router, path: &str, body: &Value) -> (u16, Value) {
    let request = http::Request::builder()
        .method("POST")
        .uri(format!("/v2/{path}"))
        .header("authorization", format!("Bearer {SIM_SECRET_KEY}"))
        .body(Body::from(body.to_string()));
    let Ok(request) = request else {
        return (0, Value::Null);
    };
    let response = match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), MAX_RESPONSE_BYTES)
        .await
        .unwrap_or_default();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}
