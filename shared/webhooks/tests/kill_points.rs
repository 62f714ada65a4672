//! The process dies between every two effects of a delivery, one place after the other: of each write to
//! the table and the queue once before it is served, and once after, with the answer lost. Another
//! process takes over; the queue gives again what was not finished. Then every committed event has
//! arrived, none was invented, every attempt had the same id and bytes, and no crash used up an attempt.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

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
    health::Health,
    ids::{EventId, ReplayId, Seq},
    pace::Rate,
};
use okra_emulator::Fate;
use okra_queue::{Queue, ReplayStep};
use okra_store::{AttemptResult, Delivery, DeliveryKey, DeliveryState, Line, Replay, ReplayOf};
use okra_webhooks::{
    AddressPolicy, DeliverConfig, Fault, Random, Reply, Request, Sender, Transport, endpoint_id,
};
use tokio::sync::Notify;

use crate::support::{APP, RECORD, START, World};

const URL: &str = "https://app.example/hook";
const OPERATOR: &str = "https://operator.example/";

/// Places to die at, far more than there are: a story that has not ended by then never does.
const MAX_PLACES: usize = 500;

/// How the clock moves on: slowly while something happens.
const STEP: SignedDuration = SignedDuration::from_secs(5);
const MOST: SignedDuration = SignedDuration::from_secs(60);

/// At most once the endpoint was well for as long.
const MOST_OF_HOURS: SignedDuration = SignedDuration::from_mins(8);

/// Calls that change nothing: to die before one is to die after the effect before it.
const READS: [&str; 3] = ["BatchGetItem", "GetItem", "Query"];

/// One request, as a receiver saw it.
struct Seen {
    /// Its place among all.
    place: usize,
    gap: Option<String>,
    attempt: u32,
    body: Bytes,
    status: u16,
}

/// What came to a URL of an event, in the order of arrival.
type SeenByEvent = BTreeMap<(String, String), Vec<Seen>>;

/// Receivers: the endpoint answers 503 until it is well, and anybody else 200.
#[derive(Clone)]
struct Desk {
    clock: Clock,
    well_at: Timestamp,
    seen: Arc<Mutex<SeenByEvent>>,
}

impl Transport for Desk {
    fn post(&self, request: Request) -> BoxFuture<'_, Result<Reply, Fault>> {
        async move {
            let header = |name: &str| request.headers[name].to_str().unwrap().to_owned();
            let (url, id) = (request.url.to_string(), header("webhook-id"));
            assert_eq!(okra_wire::documented::check(&request.body), Ok(()));
            let down = url == URL && self.clock.now() < self.well_at;
            let status = if down { 503 } else { 200 };
            let gap = request.headers.get("okra-event-gap");
            let gap = gap.map(|it| it.to_str().unwrap().to_owned());
            let mut all = self.seen.lock().unwrap();
            let seen = Seen {
                place: all.values().map(Vec::len).sum(),
                gap,
                attempt: header("okra-attempt").parse().unwrap(),
                body: request.body,
                status,
            };
            all.entry((url, id)).or_default().push(seen);
            Ok(Reply {
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
struct Story {
    name: &'static str,
    events: u64,
    /// How long the endpoint is down.
    down: SignedDuration,
    /// The endpoint is told in order, each event by a message of its own.
    ordered: bool,
    /// So often the first event failed within the last half an hour.
    failed: u32,
    /// The endpoint is there only after the commit, and is told by a replay.
    replayed: bool,
    settles: SignedDuration,
    /// What its other endpoint is told: parked and recovered, or nothing.
    told: usize,
}

const STORIES: [Story; 7] = [
    Story {
        name: "two tries",
        events: 2,
        down: SignedDuration::from_secs(3),
        ordered: false,
        failed: 0,
        replayed: false,
        settles: SignedDuration::from_mins(8),
        told: 0,
    },
    // After the third failure the next attempt waits for the sweep.
    Story {
        name: "a sweep",
        events: 1,
        down: SignedDuration::from_mins(12),
        ordered: false,
        failed: 0,
        replayed: false,
        settles: SignedDuration::from_mins(120),
        told: 0,
    },
    // One failure more opens the circuit, the first probe fails, the second closes it.
    Story {
        name: "an outage",
        events: 2,
        down: SignedDuration::from_mins(3),
        ordered: false,
        failed: 0,
        replayed: false,
        settles: SignedDuration::from_mins(20),
        told: 2,
    },
    Story {
        name: "a replay",
        events: 3,
        down: SignedDuration::ZERO,
        ordered: false,
        failed: 0,
        replayed: true,
        settles: SignedDuration::from_mins(4),
        told: 0,
    },
    Story {
        name: "a line",
        events: 3,
        down: SignedDuration::from_secs(3),
        ordered: true,
        failed: 0,
        replayed: false,
        settles: SignedDuration::from_mins(10),
        told: 0,
    },
    // With its fourth failure the first holds the other up no more. It comes by the sweep.
    Story {
        name: "a line with a gap",
        events: 2,
        down: SignedDuration::from_mins(5),
        ordered: true,
        failed: 3,
        replayed: false,
        settles: SignedDuration::from_mins(240),
        told: 0,
    },
    Story {
        name: "a line in an outage",
        events: 3,
        down: SignedDuration::from_mins(3),
        ordered: true,
        failed: 0,
        replayed: false,
        settles: SignedDuration::from_mins(20),
        told: 2,
    },
];

/// Where the process dies.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Before or after which write.
    call: usize,
    /// The call was served.
    served: bool,
}

/// A life of the process: its writes are counted, and at its place it is killed.
struct Life {
    calls: AtomicUsize,
    /// What the platform does for it is not its own.
    handling: AtomicBool,
    killed: Notify,
    dead: AtomicBool,
}

async fn world(clock: Clock, desk: &Desk) -> World {
    let sender = Sender::over(Arc::new(desk.clone()), AddressPolicy::PublicOnly);
    let config = DeliverConfig {
        rate: Rate::of(100_000),
        processes: 32,
        ..DeliverConfig::new("https://okra.example")
    };
    World::sending_by(clock, sender, config).await
}

impl Life {
    fn of(world: &World, place: Option<Place>) -> Arc<Self> {
        let life = Arc::new(Self {
            calls: AtomicUsize::new(0),
            handling: AtomicBool::new(false),
            killed: Notify::new(),
            dead: AtomicBool::new(false),
        });
        let shared = Arc::clone(&life);
        world.emulator.inject(move |_, operation| {
            if !shared.handling.load(Ordering::SeqCst) {
                return Fate::Pass;
            }
            if shared.dead.load(Ordering::SeqCst) {
                return Fate::Unreachable;
            }
            if READS.contains(&operation) {
                return Fate::Pass;
            }
            let call = shared.calls.fetch_add(1, Ordering::SeqCst);
            match place {
                Some(place) if place.call == call => {
                    shared.dead.store(true, Ordering::SeqCst);
                    shared.killed.notify_one();
                    if place.served {
                        Fate::LoseAnswer
                    } else {
                        Fate::Unreachable
                    }
                }
                _ => Fate::Pass,
            }
        });
        life
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Does something of the process; nothing where it died over it.
    async fn lives<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.handling.store(true, Ordering::SeqCst);
        let done = tokio::select! {
            biased;
            () = self.killed.notified() => None,
            done = work => Some(done),
        };
        self.handling.store(false, Ordering::SeqCst);
        done.filter(|_| !self.is_dead())
    }
}

/// Tells the story with a process that dies at this place. False where it came to its end before.
async fn tell(story: Story, place: Option<Place>) -> bool {
    let clock = Clock::driven(START.parse().unwrap());
    let desk = Desk {
        well_at: clock.now() + story.down,
        clock: clock.clone(),
        seen: Arc::default(),
    };
    let mut world = world(clock, &desk).await;
    if !story.replayed {
        world.endpoint_at(URL).await;
    }
    world.endpoint_at(OPERATOR).await;
    let mut operator = world
        .store
        .endpoint(APP, endpoint_id(APP, OPERATOR))
        .await
        .unwrap()
        .unwrap();
    operator.events = vec!["endpoint.*".to_owned()];
    world.store.put_endpoint(&operator).await.unwrap();
    if story.told > 0 {
        let endpoint = endpoint_id(APP, URL);
        world.change_health(endpoint, Health::on_trial).await;
    }
    if story.ordered {
        world.order(URL, true).await;
    }
    let (messages, each) = match story.ordered {
        true => (story.events, 1),
        false => (1, story.events),
    };
    let mut dispatches = Vec::new();
    for _ in 0..messages {
        dispatches.push(world.commit_balances(each).await);
    }
    if story.failed > 0 {
        fail(&world, story.failed).await;
    }
    if story.replayed {
        world.endpoint_at(URL).await;
        world
            .queues
            .send_replay(started(&world).await, 0)
            .await
            .unwrap();
    } else {
        world.queues.send_dispatches(&dispatches, 0).await.unwrap();
    }

    let mut life = Life::of(&world, place);
    let mut died = false;
    let end = world.clock.now() + story.settles;
    let mut swept = None;
    let mut step = STEP;
    while world.clock.now() < end {
        let handled = Box::pin(handle_all(&world, &life)).await;
        let depth = world.emulator.depth("deliver").unwrap();
        let at_rest = depth.visible + depth.in_flight + depth.delayed == 0;
        if at_rest && !life.is_dead() {
            let minute = world.clock.now().as_second() / 60;
            match due(&world, story).await {
                Due::Never => break,
                Due::Later => {}
                Due::Since(at) => {
                    // The minutes before are empty, and not looked through.
                    if swept != Some(minute) {
                        let state = serde_json::json!({ "minute": at.as_second() / 60 - 2 });
                        world.store.put_state("sweep", &state).await.unwrap();
                    }
                    let sweep = Box::pin(world.deliverer.sweep(world.clock.now()));
                    if swept != Some(minute)
                        && let Some(report) = life.lives(sweep).await
                    {
                        report.unwrap();
                        swept = Some(minute);
                    }
                }
            }
        }
        if life.is_dead() {
            died = true;
            world.restart(Random::seeded(1));
            life = Life::of(&world, None);
        }
        let late = world.clock.now() > desk.well_at + MOST_OF_HOURS;
        let most = if late { MOST_OF_HOURS } else { MOST };
        step = if handled { STEP } else { (step * 2).min(most) };
        world.advance(step);
    }
    check(&world, &desk, story, place).await;
    died
}

/// Handles what is in the queue now, as the platform does: what is not finished comes again. True where
/// there was anything.
async fn handle_all(world: &World, life: &Life) -> bool {
    let mut handled = false;
    loop {
        let received = world.queues.receive(Queue::Deliver, 10, 0).await.unwrap();
        if received.is_empty() {
            return handled;
        }
        handled = true;
        for message in received.into_iter().take_while(|_| !life.is_dead()) {
            let parsed = serde_json::from_str(&message.body).unwrap();
            if let Some(done) = life.lives(Box::pin(world.handle(parsed))).await {
                done.unwrap();
                let receipts = [message.receipt];
                world
                    .queues
                    .delete(Queue::Deliver, &receipts)
                    .await
                    .unwrap();
            }
        }
    }
}

/// When a sweep has something to wake.
enum Due {
    /// The time of the first retry that is due.
    Since(Timestamp),
    Later,
    /// Everything is delivered.
    Never,
}

async fn due(world: &World, story: Story) -> Due {
    const LATE: SignedDuration = SignedDuration::from_secs(60);
    let (mut due, mut first) = (Due::Never, None);
    for seq in 1..=story.events {
        let row = row(world, seq).await;
        if row
            .as_ref()
            .is_some_and(|row| row.state == DeliveryState::Delivered)
        {
            continue;
        }
        due = Due::Later;
        let at = row.and_then(|row| row.next_at);
        let late = at.filter(|at| *at + LATE < world.clock.now());
        first = first.into_iter().chain(late).min();
    }
    first.map_or(due, Due::Since)
}

async fn row(world: &World, seq: u64) -> Option<Delivery> {
    let entry = world.store.entry(RECORD, Seq(seq)).await.unwrap().unwrap();
    let key = DeliveryKey {
        endpoint: endpoint_id(APP, URL),
        at: entry.at,
        source: RECORD.into(),
        seq: Seq(seq),
    };
    world.store.delivery(&key).await.unwrap()
}

/// The first event failed so often, and is tried again.
async fn fail(world: &World, times: u32) {
    let now = world.clock.now();
    let attempt = AttemptResult {
        status: Some(503),
        class: "throttled".to_owned(),
        at: now - SignedDuration::from_mins(30),
        latency_ms: 9,
    };
    let failed = Delivery {
        key: DeliveryKey {
            endpoint: endpoint_id(APP, URL),
            at: now,
            source: RECORD.into(),
            seq: Seq(1),
        },
        event: "balance.success".to_owned(),
        state: DeliveryState::Retry,
        attempts: times,
        log: vec![attempt],
        excerpt: None,
        next_at: Some(now),
        replayed: false,
        line: Line::In,
        version: times,
    };
    assert!(world.store.put_delivery(&failed, now).await.unwrap());
}

/// A replay of what is missing at the endpoint.
async fn started(world: &World) -> ReplayStep {
    let now = world.clock.now();
    let (id, endpoint) = (ReplayId::from_bytes([7; 12]), endpoint_id(APP, URL));
    let mut replay = Replay {
        record: Some(RECORD),
        ..Replay::begun(id, (APP, endpoint), ReplayOf::Missing, 200, now)
    };
    assert!(world.store.put_replay(&mut replay).await.unwrap());
    ReplayStep {
        app: APP,
        replay: replay.id,
        version: replay.version,
    }
}

async fn check(world: &World, desk: &Desk, story: Story, place: Option<Place>) {
    let at = format!("{} {place:?}", story.name);
    let depth = world.emulator.depth("deliver").unwrap();
    assert_eq!(
        (depth.visible, depth.in_flight, depth.delayed),
        (0, 0, 0),
        "{at}: the queue"
    );
    let endpoint = endpoint_id(APP, URL);
    assert_eq!(
        world.store.parked(endpoint, 10).await.unwrap(),
        [],
        "{at}: parked"
    );
    let mut told = BTreeSet::new();
    let mut of_operator = 0;
    for ((url, id), seen) in &*desk.seen.lock().unwrap() {
        let taken = seen.iter().filter(|it| it.status == 200).count();
        assert!(taken > 0, "{at}: {id} never arrived at {url}");
        let same = seen.iter().all(|it| it.body == seen[0].body);
        assert!(same, "{at}: {id} has two bodies");
        let first = EventId::of(RECORD, Seq(1)).to_string() == *id;
        let mut refused = if first { story.failed } else { 0 };
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
    if story.ordered {
        in_order(desk, story, &at);
    }
    let committed = (1..=story.events).map(|seq| EventId::of(RECORD, Seq(seq)).to_string());
    assert_eq!(told, committed.collect(), "{at}");
    assert_eq!(of_operator, story.told, "{at}: parked and recovered");
    for seq in 1..=story.events {
        let row = row(world, seq).await.unwrap();
        assert_eq!(row.state, DeliveryState::Delivered, "{at}: {row:?}");
    }
}

/// No event was taken before another, unless that was told to be missing.
fn in_order(desk: &Desk, story: Story, at: &str) {
    let all = desk.seen.lock().unwrap();
    let of = |seq: u64| &all[&(URL.to_owned(), EventId::of(RECORD, Seq(seq)).to_string())];
    let taken = |seq: u64| of(seq).iter().find(|it| it.status == 200).unwrap();
    for seq in 2..=story.events {
        let (before, this) = (taken(seq - 1), taken(seq));
        let missing = this
            .gap
            .as_ref()
            .is_some_and(|gap| gap.contains(&(seq - 1).to_string()));
        assert!(before.place < this.place || missing, "{at}: {seq}");
    }
    let late = story.failed > 0;
    assert_eq!(
        taken(1).place > taken(2).place,
        late,
        "{at}: the first is late"
    );
}

async fn everywhere(story: Story) {
    Box::pin(each(story, &[false, true])).await;
}

/// Dies at each write, before it or after it.
async fn each(story: Story, served: &[bool]) {
    assert!(!Box::pin(tell(story, None)).await);
    let mut places = 0;
    for &served in served {
        for call in 0.. {
            assert!(call < MAX_PLACES, "{} never ends", story.name);
            let place = Some(Place { call, served });
            if !Box::pin(tell(story, place)).await {
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
    Box::pin(everywhere(STORIES[0])).await;
}

#[tokio::test]
async fn killed_around_a_sweep() {
    Box::pin(everywhere(STORIES[1])).await;
}

#[tokio::test]
async fn killed_in_an_outage() {
    Box::pin(everywhere(STORIES[2])).await;
}

#[tokio::test]
async fn killed_in_a_replay() {
    Box::pin(everywhere(STORIES[3])).await;
}

#[tokio::test]
async fn killed_in_a_line() {
    Box::pin(everywhere(STORIES[4])).await;
}

#[tokio::test]
async fn killed_before_a_write_where_a_line_goes_on_without_one() {
    Box::pin(each(STORIES[5], &[false])).await;
}

#[tokio::test]
async fn killed_after_a_write_where_a_line_goes_on_without_one() {
    Box::pin(each(STORIES[5], &[true])).await;
}

#[tokio::test]
async fn killed_before_a_write_in_a_line_in_an_outage() {
    Box::pin(each(STORIES[6], &[false])).await;
}

#[tokio::test]
async fn killed_after_a_write_in_a_line_in_an_outage() {
    Box::pin(each(STORIES[6], &[true])).await;
}
