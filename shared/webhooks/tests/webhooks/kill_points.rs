//! The process is killed between every two effects of a delivery: at each write to the table and the queue once before
//! it is served, and once after, with the response lost. Another process takes over, and the queue redelivers what was not
//! finished. Then every committed event has arrived, none was invented, every attempt had the same id and bytes, and no
//! crash used up an attempt.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use okra_aws::Clock;
use okra_core::{
    delivery::endpoint_health::EndpointHealth,
    model::ids::{EventId, ReplayId, Seq},
    resilience::rate_limiter::SendRate,
};
use okra_emulator::CallFate;
use okra_queue::{Queue, ReplayStep};
use okra_store::{
    Delivery, DeliveryKey, DeliveryState, FifoPosition, LoggedAttempt, Replay, ReplayFilter,
};
use okra_webhooks::{
    AddressPolicy, DeliverConfig, JitterRandom, TransportError, TransportReply, TransportRequest,
    WebhookSender, WebhookTransport, endpoint_id,
};
use tokio::sync::Notify;

use crate::support::{APP, DeliveryWorld, RECORD, START};

const URL: &str = "https://app.example/hook";
const OPERATOR: &str = "https://operator.example/";

/// Places to die at, far more than there are: a story that has not ended by then never does.
const MAX_KILL_POINTS: usize = 500;

/// How the clock moves on: slowly while something happens.
const STEP: SignedDuration = SignedDuration::from_secs(5);
const MOST: SignedDuration = SignedDuration::from_secs(60);

/// At most once the endpoint was well for as long.
const MOST_OF_HOURS: SignedDuration = SignedDuration::from_mins(8);

/// Calls that change nothing: to die before one is to die after the effect before it.
const READS: [&str; 3] = ["BatchGetItem", "GetItem", "Query"];

/// One request, as a receiver saw it.
struct ReceivedRequest {
    /// Its place among all.
    index: usize,
    gap: Option<String>,
    attempt: u32,
    body: Bytes,
    status: u16,
}

/// What came to a URL of an event, in the order of arrival.
type RequestsByEvent = BTreeMap<(String, String), Vec<ReceivedRequest>>;

/// Receivers: the endpoint answers 503 until it is well, and anybody else 200.
#[derive(Clone)]
struct OutageReceivers {
    clock: Clock,
    recovers_at: Timestamp,
    requests: Arc<Mutex<RequestsByEvent>>,
}

impl WebhookTransport for OutageReceivers {
    fn post_request(
        &self,
        request: TransportRequest,
    ) -> BoxFuture<'_, Result<TransportReply, TransportError>> {
        async move {
            let header = |name: &str| request.headers[name].to_str().unwrap().to_owned();
            let (url, id) = (request.url.to_string(), header("webhook-id"));
            assert_eq!(
                okra_wire::documented::check_documented_body(&request.body),
                Ok(())
            );
            let down = url == URL && self.clock.now() < self.recovers_at;
            let status = if down { 503 } else { 200 };
            let gap = request.headers.get("okra-event-gap");
            let gap = gap.map(|it| it.to_str().unwrap().to_owned());
            let mut all = self.requests.lock().unwrap();
            let seen = ReceivedRequest {
                index: all.values().map(Vec::len).sum(),
                gap,
                attempt: header("okra-attempt").parse().unwrap(),
                body: request.body,
                status,
            };
            all.entry((url, id)).or_default().push(seen);
            Ok(TransportReply {
                status,
                headers: HeaderMap::new(),
                body: Ok(Bytes::new()),
            })
        }
        .boxed()
    }
}

/// What happens, and for how long things may take to settle.
#[derive(Clone, Copy)]
struct KillStory {
    name: &'static str,
    events: u64,
    /// How long the endpoint is down.
    outage: SignedDuration,
    /// The endpoint is told in order, each event by a message of its own.
    is_ordered: bool,
    /// So often the first event failed within the last half an hour.
    failed_attempts: u32,
    /// The endpoint is there only after the commit, and is told by a replay.
    is_replayed: bool,
    settling_time: SignedDuration,
    /// What its other endpoint is told: parked and recovered, or nothing.
    operator_events: usize,
}

const STORIES: [KillStory; 7] = [
    KillStory {
        name: "two tries",
        events: 2,
        outage: SignedDuration::from_secs(3),
        is_ordered: false,
        failed_attempts: 0,
        is_replayed: false,
        settling_time: SignedDuration::from_mins(8),
        operator_events: 0,
    },
    // After the third failure the next attempt waits for the sweep.
    KillStory {
        name: "a sweep",
        events: 1,
        outage: SignedDuration::from_mins(12),
        is_ordered: false,
        failed_attempts: 0,
        is_replayed: false,
        settling_time: SignedDuration::from_mins(120),
        operator_events: 0,
    },
    // One failure more opens the circuit, the first probe fails, the second closes it.
    KillStory {
        name: "an outage",
        events: 2,
        outage: SignedDuration::from_mins(3),
        is_ordered: false,
        failed_attempts: 0,
        is_replayed: false,
        settling_time: SignedDuration::from_mins(20),
        operator_events: 2,
    },
    KillStory {
        name: "a replay",
        events: 3,
        outage: SignedDuration::ZERO,
        is_ordered: false,
        failed_attempts: 0,
        is_replayed: true,
        settling_time: SignedDuration::from_mins(4),
        operator_events: 0,
    },
    KillStory {
        name: "a line",
        events: 3,
        outage: SignedDuration::from_secs(3),
        is_ordered: true,
        failed_attempts: 0,
        is_replayed: false,
        settling_time: SignedDuration::from_mins(10),
        operator_events: 0,
    },
    // With its fourth failure the first holds the other up no more. It comes by the sweep.
    KillStory {
        name: "a line with a gap",
        events: 2,
        outage: SignedDuration::from_mins(5),
        is_ordered: true,
        failed_attempts: 3,
        is_replayed: false,
        settling_time: SignedDuration::from_mins(240),
        operator_events: 0,
    },
    KillStory {
        name: "a line in an outage",
        events: 3,
        outage: SignedDuration::from_mins(3),
        is_ordered: true,
        failed_attempts: 0,
        is_replayed: false,
        settling_time: SignedDuration::from_mins(20),
        operator_events: 2,
    },
];

/// Where the process dies.
#[derive(Clone, Copy, Debug)]
struct KillPoint {
    /// Before or after which write.
    write_index: usize,
    /// The call was served.
    is_served: bool,
}

/// A life of the process: its writes are counted, and at its place it is killed.
struct ProcessLife {
    calls: AtomicUsize,
    /// What the platform does for it is not its own.
    is_handling: AtomicBool,
    killed: Notify,
    is_dead: AtomicBool,
}

async fn story_world(clock: Clock, desk: &OutageReceivers) -> DeliveryWorld {
    let sender = WebhookSender::with_transport(Arc::new(desk.clone()), AddressPolicy::PublicOnly);
    let config = DeliverConfig {
        default_rate: SendRate::from_per_second(100_000),
        max_processes: 32,
        ..DeliverConfig::new("https://okra.example")
    };
    DeliveryWorld::with_sender(clock, sender, config).await
}

impl ProcessLife {
    fn inject_kill(world: &DeliveryWorld, place: Option<KillPoint>) -> Arc<Self> {
        let life = Arc::new(Self {
            calls: AtomicUsize::new(0),
            is_handling: AtomicBool::new(false),
            killed: Notify::new(),
            is_dead: AtomicBool::new(false),
        });
        let shared = Arc::clone(&life);
        world.emulator.inject_fates(move |_, operation| {
            if !shared.is_handling.load(Ordering::SeqCst) {
                return CallFate::Serve;
            }
            if shared.is_dead.load(Ordering::SeqCst) {
                return CallFate::Unreachable;
            }
            if READS.contains(&operation) {
                return CallFate::Serve;
            }
            let call = shared.calls.fetch_add(1, Ordering::SeqCst);
            match place {
                Some(place) if place.write_index == call => {
                    shared.is_dead.store(true, Ordering::SeqCst);
                    shared.killed.notify_one();
                    if place.is_served {
                        CallFate::LoseResponse
                    } else {
                        CallFate::Unreachable
                    }
                }
                _ => CallFate::Serve,
            }
        });
        life
    }

    fn is_killed(&self) -> bool {
        self.is_dead.load(Ordering::SeqCst)
    }

    /// Does something of the process; nothing where it died over it.
    async fn run_unless_killed<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.is_handling.store(true, Ordering::SeqCst);
        let done = tokio::select! {
            biased;
            () = self.killed.notified() => None,
            done = work => Some(done),
        };
        self.is_handling.store(false, Ordering::SeqCst);
        done.filter(|_| !self.is_killed())
    }
}

/// Tells the story with a process that dies at this place. False where it came to its end before.
async fn run_story(story: KillStory, kill_point: Option<KillPoint>) -> bool {
    let clock = Clock::manual_at(START.parse().unwrap());
    let desk = OutageReceivers {
        recovers_at: clock.now() + story.outage,
        clock: clock.clone(),
        requests: Arc::default(),
    };
    let mut world = story_world(clock, &desk).await;
    if !story.is_replayed {
        world.add_endpoint_at(URL).await;
    }
    world.add_endpoint_at(OPERATOR).await;
    let mut operator = world
        .store
        .find_endpoint(APP, endpoint_id(APP, OPERATOR))
        .await
        .unwrap()
        .unwrap();
    operator.events = vec!["endpoint.*".to_owned()];
    world.store.put_endpoint(&operator).await.unwrap();
    if story.operator_events > 0 {
        let endpoint = endpoint_id(APP, URL);
        world
            .change_health(endpoint, EndpointHealth::begin_trial)
            .await;
    }
    if story.is_ordered {
        world.set_ordered(URL, true).await;
    }
    let (messages, each) = match story.is_ordered {
        true => (story.events, 1),
        false => (1, story.events),
    };
    let mut dispatches = Vec::new();
    for _ in 0..messages {
        dispatches.push(world.commit_balances(each).await);
    }
    if story.failed_attempts > 0 {
        store_failed_attempts(&world, story.failed_attempts).await;
    }
    if story.is_replayed {
        world.add_endpoint_at(URL).await;
        world
            .queues
            .send_replay_step(start_replay(&world).await, 0)
            .await
            .unwrap();
    } else {
        world.queues.send_dispatches(&dispatches, 0).await.unwrap();
    }

    let mut life = ProcessLife::inject_kill(&world, kill_point);
    let mut died = false;
    let end = world.clock.now() + story.settling_time;
    let mut swept = None;
    let mut step = STEP;
    while world.clock.now() < end {
        let handled = Box::pin(handle_messages(&world, &life)).await;
        let depth = world.emulator.queue_depth("deliver").unwrap();
        let at_rest = depth.visible + depth.in_flight + depth.delayed == 0;
        if at_rest && !life.is_killed() {
            let minute = world.clock.now().as_second() / 60;
            match next_sweep_due(&world, story).await {
                SweepDue::Never => break,
                SweepDue::Later => {}
                SweepDue::Since(at) => {
                    // The minutes before are empty, and not looked through.
                    if swept != Some(minute) {
                        let state = serde_json::json!({ "minute": at.as_second() / 60 - 2 });
                        world.store.put_system_state("sweep", &state).await.unwrap();
                    }
                    let sweep = Box::pin(world.deliverer.sweep_retries(world.clock.now()));
                    if swept != Some(minute)
                        && let Some(report) = life.run_unless_killed(sweep).await
                    {
                        report.unwrap();
                        swept = Some(minute);
                    }
                }
            }
        }
        if life.is_killed() {
            died = true;
            world.restart_process(JitterRandom::from_seed(1));
            life = ProcessLife::inject_kill(&world, None);
        }
        let late = world.clock.now() > desk.recovers_at + MOST_OF_HOURS;
        let most = if late { MOST_OF_HOURS } else { MOST };
        step = if handled { STEP } else { (step * 2).min(most) };
        world.advance_clock(step);
    }
    check_story_end(&world, &desk, story, kill_point).await;
    died
}

/// Handles what is in the queue now, as the platform does: what is not finished comes again. True where
/// there was anything.
async fn handle_messages(world: &DeliveryWorld, life: &ProcessLife) -> bool {
    let mut handled = false;
    loop {
        let received = world
            .queues
            .receive_messages(Queue::Deliver, 10, 0)
            .await
            .unwrap();
        if received.is_empty() {
            return handled;
        }
        handled = true;
        for message in received.into_iter().take_while(|_| !life.is_killed()) {
            let parsed = serde_json::from_str(&message.body).unwrap();
            if let Some(done) = life
                .run_unless_killed(Box::pin(world.handle_message(parsed)))
                .await
            {
                done.unwrap();
                let receipts = [message.receipt];
                world
                    .queues
                    .delete_messages(Queue::Deliver, &receipts)
                    .await
                    .unwrap();
            }
        }
    }
}

/// When a sweep has something to wake.
enum SweepDue {
    /// The time of the first retry that is due.
    Since(Timestamp),
    Later,
    /// Everything is delivered.
    Never,
}

async fn next_sweep_due(world: &DeliveryWorld, story: KillStory) -> SweepDue {
    const LATE: SignedDuration = SignedDuration::from_secs(60);
    let (mut due, mut first) = (SweepDue::Never, None);
    for seq in 1..=story.events {
        let row = load_delivery(world, seq).await;
        if row
            .as_ref()
            .is_some_and(|row| row.state == DeliveryState::Delivered)
        {
            continue;
        }
        due = SweepDue::Later;
        let at = row.and_then(|row| row.next_attempt_at);
        let late = at.filter(|at| *at + LATE < world.clock.now());
        first = first.into_iter().chain(late).min();
    }
    first.map_or(due, SweepDue::Since)
}

async fn load_delivery(world: &DeliveryWorld, seq: u64) -> Option<Delivery> {
    let entry = world
        .store
        .find_feed_entry(RECORD, Seq(seq))
        .await
        .unwrap()
        .unwrap();
    let key = DeliveryKey {
        endpoint: endpoint_id(APP, URL),
        committed_at: entry.committed_at,
        source: RECORD.into(),
        seq: Seq(seq),
    };
    world.store.find_delivery(&key).await.unwrap()
}

/// The first event failed so often, and is tried again.
async fn store_failed_attempts(world: &DeliveryWorld, times: u32) {
    let now = world.clock.now();
    let attempt = LoggedAttempt {
        status: Some(503),
        outcome_class: "throttled".to_owned(),
        attempted_at: now - SignedDuration::from_mins(30),
        latency_ms: 9,
    };
    let failed = Delivery {
        key: DeliveryKey {
            endpoint: endpoint_id(APP, URL),
            committed_at: now,
            source: RECORD.into(),
            seq: Seq(1),
        },
        event_name: "balance.success".to_owned(),
        state: DeliveryState::Retry,
        attempt_count: times,
        attempt_log: vec![attempt],
        response_excerpt: None,
        next_attempt_at: Some(now),
        is_redelivery: false,
        fifo_position: FifoPosition::Queued,
        version: times,
    };
    assert!(world.store.put_delivery(&failed, now).await.unwrap());
}

/// A replay of what is missing at the endpoint.
async fn start_replay(world: &DeliveryWorld) -> ReplayStep {
    let now = world.clock.now();
    let (id, endpoint) = (ReplayId::from_bytes([7; 12]), endpoint_id(APP, URL));
    let mut replay = Replay {
        record: Some(RECORD),
        ..Replay::start_replay(id, APP, endpoint, ReplayFilter::Missing, 200, now)
    };
    assert!(world.store.put_replay(&mut replay).await.unwrap());
    ReplayStep {
        app: APP,
        replay: replay.id,
        version: replay.version,
    }
}

async fn check_story_end(
    world: &DeliveryWorld,
    desk: &OutageReceivers,
    story: KillStory,
    kill_point: Option<KillPoint>,
) {
    let at = format!("{} {kill_point:?}", story.name);
    let depth = world.emulator.queue_depth("deliver").unwrap();
    assert_eq!(
        (depth.visible, depth.in_flight, depth.delayed),
        (0, 0, 0),
        "{at}: the queue"
    );
    let endpoint = endpoint_id(APP, URL);
    assert_eq!(
        world.store.list_parked_events(endpoint, 10).await.unwrap(),
        [],
        "{at}: parked"
    );
    let mut told = BTreeSet::new();
    let mut of_operator = 0;
    for ((url, id), seen) in &*desk.requests.lock().unwrap() {
        let taken = seen.iter().filter(|it| it.status == 200).count();
        assert!(taken > 0, "{at}: {id} never arrived at {url}");
        let same = seen.iter().all(|it| it.body == seen[0].body);
        assert!(same, "{at}: {id} has two bodies");
        let first = EventId::for_record_entry(RECORD, Seq(1)).to_string() == *id;
        let mut refused = if first { story.failed_attempts } else { 0 };
        for request in seen {
            let attempt = request.attempt;
            assert!(
                attempt <= refused + 1,
                "{at}: attempt {attempt} of {id} after {refused} refusals"
            );
            refused += u32::from(request.status != 200);
        }
        if url == URL {
            told.insert(id.clone());
        } else {
            of_operator += 1;
        }
    }
    if story.is_ordered {
        check_order(desk, story, &at);
    }
    let committed =
        (1..=story.events).map(|seq| EventId::for_record_entry(RECORD, Seq(seq)).to_string());
    assert_eq!(told, committed.collect(), "{at}");
    assert_eq!(
        of_operator, story.operator_events,
        "{at}: parked and recovered"
    );
    for seq in 1..=story.events {
        let row = load_delivery(world, seq).await.unwrap();
        assert_eq!(row.state, DeliveryState::Delivered, "{at}: {row:?}");
    }
}

/// No event was taken before another, unless that was told to be missing.
fn check_order(desk: &OutageReceivers, story: KillStory, at: &str) {
    let all = desk.requests.lock().unwrap();
    let of = |seq: u64| {
        &all[&(
            URL.to_owned(),
            EventId::for_record_entry(RECORD, Seq(seq)).to_string(),
        )]
    };
    let taken = |seq: u64| of(seq).iter().find(|it| it.status == 200).unwrap();
    for seq in 2..=story.events {
        let (before, this) = (taken(seq - 1), taken(seq));
        let missing = this
            .gap
            .as_ref()
            .is_some_and(|gap| gap.contains(&(seq - 1).to_string()));
        assert!(before.index < this.index || missing, "{at}: {seq}");
    }
    let late = story.failed_attempts > 0;
    assert_eq!(
        taken(1).index > taken(2).index,
        late,
        "{at}: the first is late"
    );
}

async fn run_at_all_points(story: KillStory) {
    Box::pin(run_at_each_write(story, &[false, true])).await;
}

/// Dies at each write, before it or after it.
async fn run_at_each_write(story: KillStory, served: &[bool]) {
    assert!(!Box::pin(run_story(story, None)).await);
    let mut places = 0;
    for &served in served {
        for call in 0.. {
            assert!(call < MAX_KILL_POINTS, "{} never ends", story.name);
            let place = Some(KillPoint {
                write_index: call,
                is_served: served,
            });
            if !Box::pin(run_story(story, place)).await {
                break;
            }
            places += 1;
        }
    }
    assert!(
        places >= 10,
        "{}: only {places} places to die at",
        story.name
    );
}

#[tokio::test]
async fn killed_between_two_tries() {
    Box::pin(run_at_all_points(STORIES[0])).await;
}

#[tokio::test]
async fn killed_around_a_sweep() {
    Box::pin(run_at_all_points(STORIES[1])).await;
}

#[tokio::test]
async fn killed_in_an_outage() {
    Box::pin(run_at_all_points(STORIES[2])).await;
}

#[tokio::test]
async fn killed_in_a_replay() {
    Box::pin(run_at_all_points(STORIES[3])).await;
}

#[tokio::test]
async fn killed_in_a_fifo() {
    Box::pin(run_at_all_points(STORIES[4])).await;
}

#[tokio::test]
async fn killed_before_a_write_where_a_fifo_continues_without_one() {
    Box::pin(run_at_each_write(STORIES[5], &[false])).await;
}

#[tokio::test]
async fn killed_after_a_write_where_a_fifo_continues_without_one() {
    Box::pin(run_at_each_write(STORIES[5], &[true])).await;
}

#[tokio::test]
async fn killed_before_a_write_in_a_fifo_in_an_outage() {
    Box::pin(run_at_each_write(STORIES[6], &[false])).await;
}

#[tokio::test]
async fn killed_after_a_write_in_a_fifo_in_an_outage() {
    Box::pin(run_at_each_write(STORIES[6], &[true])).await;
}
