//! Endpoints that are told the events of a record one after another.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture, future::join_all};
use http::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use okra_aws::Clock;
use okra_core::{
    feed::Stream,
    health::{Circuit, Health, MAX_PARKED},
    ids::{AccountId, EventId, RecordId, Seq, Source},
    model::Product,
    pace::Rate,
};
use okra_emulator::Fate;
use okra_queue::{DeliverMessage, Dispatch, Queue, Resend, Tend};
use okra_store::{Delivery, DeliveryKey, DeliveryState};
use okra_webhooks::{
    AddressPolicy, DeliverConfig, Deliverer, Fault, Random, Reply, Request, Sender, Tended, Told,
    Transport, endpoint_id,
};

use crate::support::{ACCOUNT, APP, RECORD, Receiver, START, World, balance, handle_by};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

async fn ordered_world(answers: &[u16]) -> (World, Receiver) {
    let world = World::new().await;
    let receiver = Receiver::answering(answers).await;
    world.endpoint(&receiver, &[], None).await;
    world.order(&receiver.url, true).await;
    (world, receiver)
}

/// The places of the events in the order in which a receiver was sent them.
fn sent(receiver: &Receiver) -> Vec<u64> {
    let seq = |(headers, _): &(HeaderMap, Bytes)| header(headers, "okra-event-sequence").unwrap();
    receiver.requests().iter().map(seq).collect()
}

fn header(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().unwrap().parse().ok()
}

fn gaps(receiver: &Receiver) -> Vec<String> {
    let all = receiver.requests();
    let of =
        |headers: &HeaderMap| Some(headers.get("okra-event-gap")?.to_str().unwrap().to_owned());
    all.iter().filter_map(|(headers, _)| of(headers)).collect()
}

async fn states(world: &World, receiver: &Receiver, last: u64) -> Vec<Option<DeliveryState>> {
    let mut states = Vec::new();
    for seq in 1..=last {
        states.push(world.row(seq, receiver).await.map(|row| row.state));
    }
    states
}

const OTHER: (RecordId, AccountId) = (
    RecordId::from_bytes([0x22; 12]),
    AccountId::from_bytes([0x25; 12]),
);

#[tokio::test]
async fn an_event_waits_for_those_before_it_of_its_record_alone() {
    let (world, receiver) = ordered_world(&[500]).await;
    world.link_record(OTHER.0, OTHER.1).await;
    let first = world.commit_balances(3).await;
    let report = world.dispatch(&first).await;
    assert_eq!((report.deferred, report.delivered), (1, 0));
    let second = world.commit_transaction().await;
    assert_eq!(world.dispatch(&second).await.held, 1);
    // Another record does not wait.
    let other = world.commit_to(OTHER, 2, Stream::Balance, balance).await;
    assert_eq!(world.dispatch(&other).await.delivered, 2);
    assert_eq!(sent(&receiver), [1, 1, 2]);
    assert_eq!(
        states(&world, &receiver, 4).await[1..],
        [None, None, None],
        "what waits is written nowhere"
    );
    // The retry goes on with all that wait.
    world.pass(SECOND * 7, SECOND).await;
    assert_eq!(sent(&receiver), [1, 1, 2, 1, 2, 3, 4]);
    assert_eq!(gaps(&receiver), [""; 0]);
    world.pass(MINUTE * 5, MINUTE).await;
    assert_eq!(receiver.count(), 7, "nothing more is sent");
}

#[tokio::test]
async fn an_event_holds_others_up_for_an_hour_at_most_and_is_missed_in_the_next() {
    let (world, receiver) = ordered_world(&[]).await;
    receiver.usually(500);
    let dispatch = world.commit_balances(2).await;
    world.dispatch(&dispatch).await;
    let begun = world.clock.now();
    world
        .store
        .put_state(
            "sweep",
            &serde_json::json!({ "minute": begun.as_second() / 60 }),
        )
        .await
        .unwrap();
    while !sent(&receiver).contains(&2) {
        world.pass(MINUTE, SECOND * 20).await;
        world.deliverer.sweep(world.clock.now()).await.unwrap();
        world.settle().await;
        assert!(world.clock.now() < begun + MINUTE * 60);
    }
    assert_eq!(sent(&receiver), [1, 1, 1, 1, 2]);
    assert_eq!(gaps(&receiver), ["1"]);
    // The next does not wait for it any more, but for the one before it.
    receiver.usually(200);
    let dispatch = world.commit_balances(1).await;
    assert_eq!(world.dispatch(&dispatch).await.held, 1);
    world.pass(SECOND * 8, SECOND).await;
    assert_eq!(sent(&receiver)[5..], [2, 3]);
    assert_eq!(
        gaps(&receiver),
        ["1", "1"],
        "a gap is told until an event of it came"
    );
    let dispatch = world.commit_balances(1).await;
    world.dispatch(&dispatch).await;
    assert_eq!(gaps(&receiver).len(), 2);
    // It comes late, by its own schedule.
    let row = world.row(1, &receiver).await.unwrap();
    world.sweep_at(row.next_at.unwrap()).await;
    assert_eq!(sent(&receiver)[5..], [2, 3, 4, 1]);
}

#[tokio::test]
async fn what_is_given_up_lets_the_next_come() {
    let world = World::new().await;
    let abort = (422, Some(("webhook-delivery", "abort-message")));
    let receiver = Receiver::replying(&[abort]).await;
    world.endpoint(&receiver, &[], None).await;
    world.order(&receiver.url, true).await;
    let dispatch = world.commit_balances(2).await;
    let report = world.dispatch(&dispatch).await;
    assert_eq!((report.exhausted, report.delivered), (1, 1));
    assert_eq!(
        (sent(&receiver), gaps(&receiver)),
        (vec![1, 2], vec!["1".to_owned()])
    );
}

/// While the circuit is open, all that waits is parked where it can be seen, and comes in order after.
#[tokio::test]
async fn what_waits_is_parked_with_what_it_waits_for_and_drained_in_order() {
    let (world, receiver) = ordered_world(&[]).await;
    world.link_record(OTHER.0, OTHER.1).await;
    receiver.usually(500);
    let dispatch = world.commit_balances(3).await;
    world.dispatch(&dispatch).await;
    // Others open the circuit while the first waits for its retry.
    let endpoint = endpoint_id(APP, &receiver.url);
    world.change_health(endpoint, Health::on_trial).await;
    let other = world.commit_to(OTHER, 2, Stream::Balance, balance).await;
    world.dispatch(&other).await;
    let health = world.health(&receiver).await.health;
    assert!(matches!(health.circuit, Circuit::Open { .. }));
    assert_eq!(world.parked(&receiver).await, [1, 2], "of the other record");
    world.pass(SECOND * 8, SECOND).await;
    let parked = world.parked(&receiver).await;
    assert_eq!(
        parked.len(),
        5,
        "with its retry the first is parked, and all behind it: {parked:?}"
    );
    let dispatch = world.commit_balances(1).await;
    assert_eq!(world.dispatch(&dispatch).await.parked, 1);
    receiver.usually(200);
    let before = receiver.count();
    world.pass(MINUTE * 4, SECOND * 30).await;
    assert_eq!(world.parked(&receiver).await, [0_u64; 0]);
    let order = arrivals(&receiver, before);
    assert_eq!(order[&RECORD], [1, 2, 3, 4]);
    assert_eq!(order[&OTHER.0], [1, 2]);
}

/// What a receiver was sent after the first `known`, by record, in order.
fn arrivals(receiver: &Receiver, known: usize) -> HashMap<RecordId, Vec<u64>> {
    let mut order: HashMap<RecordId, Vec<u64>> = HashMap::new();
    for (headers, _) in &receiver.requests()[known..] {
        let id = headers["webhook-id"].to_str().unwrap();
        let Some((Source::Record(record), seq)) = EventId::parse(id) else {
            panic!("{id}");
        };
        order.entry(record).or_default().push(seq.0);
    }
    order
}

/// The event whose turn it is asks whether the endpoint is back, though it is parked nowhere.
#[tokio::test]
async fn a_probe_goes_in_order_too() {
    let (world, receiver) = ordered_world(&[500, 500, 500]).await;
    let dispatch = world.commit_balances(1).await;
    world.dispatch(&dispatch).await;
    for _ in 0..2 {
        world.pass(MINUTE * 7, SECOND).await;
    }
    // The third failure was made; the next try is half an hour away.
    assert_eq!(sent(&receiver), [1, 1, 1]);
    let endpoint = endpoint_id(APP, &receiver.url);
    let now = world.clock.now();
    let open = Circuit::Open {
        since: now,
        probes: 0,
        probe_at: now + MINUTE,
    };
    world
        .change_health(endpoint, |health| health.circuit = open)
        .await;
    let dispatch = world.commit_balances(2).await;
    assert_eq!(world.dispatch(&dispatch).await.parked, 2);
    world.advance(MINUTE);
    let tend = Tend { app: APP, endpoint };
    assert_eq!(world.deliverer.tend(tend).await.unwrap(), Tended::Recovered);
    world.pass(SECOND * 3, SECOND).await;
    assert_eq!(sent(&receiver), [1, 1, 1, 1, 2, 3]);
    assert_eq!(world.parked(&receiver).await, [0_u64; 0]);
}

/// A drain leaves what waits for a retry where it is, and the retry goes on with it.
#[tokio::test]
async fn a_drain_waits_for_an_event_that_is_being_retried() {
    let (world, receiver) = ordered_world(&[500]).await;
    let dispatch = world.commit_balances(1).await;
    world.dispatch(&dispatch).await;
    let endpoint = endpoint_id(APP, &receiver.url);
    let now = world.clock.now();
    world
        .change_health(endpoint, |health| health.disable(now))
        .await;
    let dispatch = world.commit_balances(2).await;
    assert_eq!(world.dispatch(&dispatch).await.parked, 2);
    world.change_health(endpoint, Health::enable).await;
    let tend = Tend { app: APP, endpoint };
    assert_eq!(
        world.deliverer.tend(tend).await.unwrap(),
        Tended::Drained { sent: 0 }
    );
    assert_eq!(world.parked(&receiver).await, [2, 3]);
    // What comes meanwhile is parked behind them.
    let dispatch = world.commit_balances(1).await;
    assert_eq!(world.dispatch(&dispatch).await.parked, 1);
    world.pass(SECOND * 8, SECOND).await;
    assert_eq!(sent(&receiver), [1, 1, 2, 3, 4]);
    assert_eq!(world.parked(&receiver).await, [0_u64; 0]);
}

/// The message of an event was lost, or its endpoint not seen: those behind it begin it themselves.
#[tokio::test]
async fn an_event_that_nobody_began_is_begun_after_a_minute() {
    let (world, receiver) = ordered_world(&[]).await;
    world.commit_balances(1).await;
    let dispatch = world.commit_balances(1).await;
    assert_eq!(world.dispatch(&dispatch).await.held, 1);
    world.pass(SECOND * 50, SECOND * 10).await;
    assert_eq!(receiver.count(), 0);
    world.pass(SECOND * 15, SECOND * 5).await;
    assert_eq!(sent(&receiver), [1, 2]);
}

/// What was asked for in person does not wait, and holds nothing back from its order.
#[tokio::test]
async fn a_resend_does_not_wait_and_lets_nothing_pass() {
    let (world, receiver) = ordered_world(&[500]).await;
    let dispatch = world.commit_balances(4).await;
    world.dispatch(&dispatch).await;
    let resend = Resend {
        source: RECORD.into(),
        seq: Seq(3),
        endpoint: endpoint_id(APP, &receiver.url),
        paced: false,
    };
    assert_eq!(
        world.deliverer.resend(resend).await.unwrap(),
        Told::Delivered
    );
    world.settle().await;
    assert_eq!(sent(&receiver), [1, 3]);
    world.pass(SECOND * 8, SECOND).await;
    assert_eq!(sent(&receiver), [1, 3, 1, 2, 4]);
    assert_eq!(gaps(&receiver), [""; 0]);
}

/// Nothing that waited is forgotten when the endpoint wants no order, or no such events, any more.
#[tokio::test]
async fn what_waits_comes_also_after_the_endpoint_was_changed() {
    for change in ["order", "events", "products"] {
        let (world, receiver) = ordered_world(&[500]).await;
        let transaction = world.commit_transaction().await;
        world.dispatch(&transaction).await;
        let dispatch = world.commit_balances(2).await;
        assert_eq!(world.dispatch(&dispatch).await.held, 1);
        match change {
            "order" => world.order(&receiver.url, false).await,
            "events" => world.narrow(&receiver, &["balance.*"]).await,
            _ => {
                let id = endpoint_id(APP, &receiver.url);
                let mut endpoint = world.store.endpoint(APP, id).await.unwrap().unwrap();
                endpoint.products = vec![Product::Balance];
                world.store.put_endpoint(&endpoint).await.unwrap();
            }
        }
        world.pass(SECOND * 8, SECOND).await;
        let expected: &[u64] = match change {
            "order" => &[1, 1, 2, 3],
            _ => &[1, 2, 3],
        };
        assert_eq!(sent(&receiver), expected, "{change}");
    }
}

/// Order that is asked for later begins with what is committed then.
/// What waited for an endpoint that is removed goes with it; set again, its line begins anew.
#[tokio::test]
async fn what_waits_for_a_removed_endpoint_goes_with_it() {
    let (world, receiver) = ordered_world(&[500]).await;
    let dispatch = world.commit_balances(3).await;
    world.dispatch(&dispatch).await;
    let endpoint = endpoint_id(APP, &receiver.url);
    world.store.delete_endpoint(APP, endpoint).await.unwrap();
    world.pass(MINUTE * 5, SECOND * 5).await;
    assert_eq!(
        sent(&receiver),
        [1],
        "nothing comes to an endpoint that is gone"
    );
    world.endpoint(&receiver, &[], None).await;
    world.order(&receiver.url, true).await;
    let dispatch = world.commit_balances(2).await;
    assert_eq!(world.dispatch(&dispatch).await.delivered, 2);
    assert_eq!(sent(&receiver), [1, 4, 5]);
    assert_eq!(gaps(&receiver), [""; 0]);
}

#[tokio::test]
async fn order_begins_where_it_is_asked_for() {
    let world = World::new().await;
    let receiver = Receiver::answering(&[500]).await;
    world.endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    world.dispatch(&dispatch).await;
    world.advance(SECOND);
    world.order(&receiver.url, true).await;
    let dispatch = world.commit_balances(1).await;
    assert_eq!(world.dispatch(&dispatch).await.delivered, 1);
    assert_eq!((sent(&receiver), gaps(&receiver)), (vec![1, 2], vec![]));
}

#[tokio::test]
async fn a_success_in_order_writes_once() {
    let (world, receiver) = ordered_world(&[]).await;
    let used = async || {
        let dispatch = world.commit_balances(1).await;
        let before = world.store.capacity();
        assert_eq!(world.dispatch(&dispatch).await.delivered, 1);
        let used = world.store.capacity() - before;
        (used.write_units, used.read_units)
    };
    // The first reads what is remembered after.
    used().await;
    let in_order = used().await;
    world.order(&receiver.url, false).await;
    let freely = used().await;
    assert_eq!((in_order.0, freely.0), (1.0, 1.0));
    let more = in_order.1 - freely.1;
    assert_eq!(
        more, 2.5,
        "the entry before, its row, and what comes behind"
    );
}

/// What cannot be parked any more is told to be missing.
#[tokio::test]
async fn what_is_lost_to_the_bound_of_parked_events_is_missed_in_the_next() {
    let (world, receiver) = ordered_world(&[]).await;
    let endpoint = endpoint_id(APP, &receiver.url);
    let now = world.clock.now();
    world
        .change_health(endpoint, |health| health.disable(now))
        .await;
    let dispatch = world.commit_balances(1).await;
    assert_eq!(world.dispatch(&dispatch).await.parked, 1);
    world
        .store
        .count_parked(endpoint, MAX_PARKED)
        .await
        .unwrap();
    let dispatch = world.commit_balances(2).await;
    assert_eq!(world.dispatch(&dispatch).await.exhausted, 2);
    world.change_health(endpoint, Health::enable).await;
    // The next comes before the drain, and is parked behind what is parked: there is no room.
    let tend = Tend { app: APP, endpoint };
    world.deliverer.tend(tend).await.unwrap();
    let dispatch = world.commit_balances(1).await;
    assert_eq!(world.dispatch(&dispatch).await.delivered, 1);
    assert_eq!(sent(&receiver), [1, 4]);
    assert_eq!(gaps(&receiver), ["2,3"]);
}

/// A line of many goes on in messages of its own, and ends.
#[tokio::test]
async fn a_long_line_goes_on_from_message_to_message() {
    let (world, receiver) = ordered_world(&[]).await;
    let mut dispatches: Vec<Dispatch> = Vec::new();
    for _ in 0..3 {
        dispatches.push(world.commit_balances(40).await);
    }
    let report = world.dispatch(&dispatches[0]).await;
    assert_eq!(report.delivered, 32);
    world.settle().await;
    assert_eq!(sent(&receiver), (1..=120).collect::<Vec<_>>());
    for dispatch in &dispatches {
        world.dispatch(dispatch).await;
        world.settle().await;
    }
    assert_eq!(receiver.count(), 120);
}

const URL: &str = "https://app.example/hook";

/// How many worlds are drawn; `OKRA_TEST_ORDERED` draws more.
const SEEDS: u64 = 6;

/// Steps of a world while it storms.
const STEPS: usize = 40;

/// Events of a record at most.
const EVENTS: u64 = 14;

struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }
}

/// What a receiver knows of a record's events.
#[derive(Default)]
struct Line {
    taken: BTreeSet<u64>,
    told_missing: BTreeSet<u64>,
}

#[derive(Default)]
struct Inbox {
    lines: BTreeMap<String, Line>,
    story: Vec<String>,
}

/// A receiver that fails as dice fall, and knows in which order events came.
#[derive(Clone)]
struct Desk {
    dice: Arc<Mutex<Dice>>,
    inbox: Arc<Mutex<Inbox>>,
    failing: Arc<Mutex<u64>>,
}

impl Transport for Desk {
    fn post(&self, request: Request) -> BoxFuture<'_, Result<Reply, Fault>> {
        async move {
            let (before, after) = {
                let mut dice = self.dice.lock().unwrap();
                (dice.below(30), dice.below(30))
            };
            for _ in 0..before {
                tokio::task::yield_now().await;
            }
            let reply = self.take(&request);
            for _ in 0..after {
                tokio::task::yield_now().await;
            }
            reply
        }
        .boxed()
    }
}

impl Desk {
    fn take(&self, request: &Request) -> Result<Reply, Fault> {
        let text = |name: &str| request.headers.get(name).map(|it| it.to_str().unwrap());
        let id = text("webhook-id").unwrap();
        let (record, seq) = id.rsplit_once('_').unwrap();
        let seq: u64 = seq.parse().unwrap();
        let mut dice = self.dice.lock().unwrap();
        let fails = dice.chance(*self.failing.lock().unwrap());
        let kind = dice.below(6);
        let reply = |status, retry_after: Option<u64>, whole| {
            let mut headers = HeaderMap::new();
            if let Some(seconds) = retry_after {
                headers.insert("retry-after", seconds.into());
            }
            let body = if whole {
                Ok(Bytes::new())
            } else {
                Err(Fault::Connect)
            };
            Ok(Reply {
                status,
                headers,
                body,
            })
        };
        let answer = match (fails, kind) {
            (false, _) => reply(204, None, true),
            (true, 0) => Err(Fault::Timeout),
            (true, 1) => reply(429, Some(dice.below(5000)), true),
            (true, 2) => reply(503, None, true),
            // Taken, and the answer breaks off.
            (true, 3) => reply(200, None, false),
            (true, _) => reply(500, None, true),
        };
        let takes = !fails || kind == 3;
        let mut inbox = self.inbox.lock().unwrap();
        inbox.story.push(format!(
            "{id} gap {:?} taken {takes}",
            text("okra-event-gap")
        ));
        let line = inbox.lines.entry(record.to_owned()).or_default();
        let gap = text("okra-event-gap").unwrap_or_default();
        let gap = gap.split(',').filter_map(|seq| seq.parse::<u64>().ok());
        line.told_missing.extend(gap);
        if takes && line.taken.insert(seq) && text("okra-replay").is_none() {
            let missing: Vec<u64> = (1..seq)
                .filter(|it| !line.taken.contains(it) && !line.told_missing.contains(it))
                .collect();
            assert!(
                missing.is_empty(),
                "{id} came before {missing:?}: {:#?}",
                inbox.story
            );
        }
        answer
    }
}

struct Storm {
    world: World,
    desk: Desk,
    dice: Dice,
    processes: Vec<Deliverer>,
    records: Vec<(RecordId, AccountId)>,
    committed: BTreeMap<RecordId, u64>,
    keys: Vec<DeliveryKey>,
    swept: i64,
}

impl Storm {
    async fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let desk = Desk {
            dice: Arc::new(Mutex::new(Dice(dice.next()))),
            inbox: Arc::default(),
            failing: Arc::default(),
        };
        let sender = Sender::over(Arc::new(desk.clone()), AddressPolicy::PublicOnly);
        let rate = [2, 25, 100_000][usize::try_from(dice.below(3)).unwrap()];
        let config = DeliverConfig {
            rate: Rate::of(rate),
            processes: 4,
            ..DeliverConfig::new("https://okra.example")
        };
        let world = World::sending_by(Clock::driven(START.parse().unwrap()), sender, config).await;
        let mut records = vec![(RECORD, ACCOUNT)];
        for n in [0x31, 0x41] {
            let of = (
                RecordId::from_bytes([n; 12]),
                AccountId::from_bytes([n + 1; 12]),
            );
            world.link_record(of.0, of.1).await;
            records.push(of);
        }
        world.endpoint_at(URL).await;
        world.order(URL, true).await;
        let swept = world.clock.now().as_second() / 60;
        let state = serde_json::json!({ "minute": swept });
        world.store.put_state("sweep", &state).await.unwrap();
        let processes = (0..3)
            .map(|n| world.another(Random::seeded(seed + n)))
            .collect();
        Self {
            world,
            desk,
            dice,
            processes,
            records,
            committed: BTreeMap::new(),
            keys: Vec::new(),
            swept,
        }
    }

    /// Faults of the table and the queue, so many in a thousand calls.
    fn faults(&mut self, permille: u64) {
        let dice = Mutex::new(Dice(self.dice.next()));
        self.world.emulator.inject(move |_, operation| {
            let mut dice = dice.lock().unwrap();
            if operation.starts_with("Receive")
                || operation.starts_with("Delete")
                || !dice.chance(permille)
            {
                return Fate::Pass;
            }
            match dice.below(3) {
                0 => Fate::Fail,
                1 => Fate::Unreachable,
                _ => Fate::LoseAnswer,
            }
        });
    }

    /// The processes handle what is in the queue now, at the same time. What fails comes again.
    async fn handle(&mut self) -> usize {
        let queues = self.world.queues.clone();
        let received = queues.receive(Queue::Deliver, 10, 0).await.unwrap();
        let count = received.len();
        let work: Vec<_> = received
            .iter()
            .map(|message| {
                let by = usize::try_from(self.dice.below(3)).unwrap();
                let message: DeliverMessage = serde_json::from_str(&message.body).unwrap();
                (by, message)
            })
            .collect();
        let work = work
            .into_iter()
            .map(|(by, message)| handle_by(&self.processes[by], message).boxed_local());
        let done = join_all(work).await;
        let receipts: Vec<String> = received
            .into_iter()
            .zip(done)
            .filter(|(_, done)| done.is_ok())
            .map(|(message, _)| message.receipt)
            .collect();
        queues.delete(Queue::Deliver, &receipts).await.unwrap();
        count
    }

    async fn pass(&mut self, by: SignedDuration) {
        self.world.advance(by);
        let minute = self.world.clock.now().as_second() / 60;
        if minute > self.swept
            && self
                .world
                .deliverer
                .sweep(self.world.clock.now())
                .await
                .is_ok()
        {
            self.swept = minute;
        }
    }

    async fn commit(&mut self) {
        let at = usize::try_from(self.dice.below(3)).unwrap();
        let of = self.records[at];
        let known = self.committed.entry(of.0).or_default();
        if *known >= EVENTS {
            return;
        }
        let count = 1 + self.dice.below(3);
        *known += count;
        let dispatch = self
            .world
            .commit_to(of, count, Stream::Balance, balance)
            .await;
        for seq in dispatch.from.0..=dispatch.to.0 {
            self.keys.push(DeliveryKey {
                endpoint: endpoint_id(APP, URL),
                at: self.world.clock.now(),
                source: of.0.into(),
                seq: Seq(seq),
            });
        }
        let times = 1 + u64::from(self.dice.chance(200));
        for _ in 0..times {
            let delay_s = u16::try_from(self.dice.below(4)).unwrap();
            self.world
                .queues
                .send_dispatches(&[dispatch], delay_s)
                .await
                .unwrap();
        }
    }

    async fn health(&self, change: impl Fn(&mut Health, Timestamp)) {
        let endpoint = endpoint_id(APP, URL);
        let now = self.world.clock.now();
        self.world
            .change_health(endpoint, |health| change(health, now))
            .await;
        let tend = Tend { app: APP, endpoint };
        self.world.queues.send_tends(&[(tend, 0)]).await.unwrap();
    }

    async fn step(&mut self) {
        self.world.emulator.inject(|_, _| Fate::Pass);
        match self.dice.below(10) {
            0..4 => self.commit().await,
            4 => {
                let failing = [0, 100, 500, 1000][usize::try_from(self.dice.below(4)).unwrap()];
                *self.desk.failing.lock().unwrap() = failing;
            }
            5 if self.dice.chance(300) => {
                self.health(Health::disable).await;
            }
            5 | 6 => self.health(|health, _| health.enable()).await,
            7 if self.dice.chance(300) => {
                // Another process in place of one: it remembers nothing.
                let seed = self.dice.next();
                self.processes[0] = self.world.another(Random::seeded(seed));
            }
            _ => {
                let seconds = [1, 5, 30, 90, 240][usize::try_from(self.dice.below(5)).unwrap()];
                let by = SignedDuration::from_secs(seconds);
                self.pass(by).await;
            }
        }
        let faults = [0, 0, 20, 60][usize::try_from(self.dice.below(4)).unwrap()];
        self.faults(faults);
        self.handle().await;
    }

    /// All is well from now on: everything comes.
    async fn calm(&mut self) {
        self.world.emulator.inject(|_, _| Fate::Pass);
        *self.desk.failing.lock().unwrap() = 0;
        self.health(|health, _| health.enable()).await;
        let end = self.world.clock.now() + SignedDuration::from_hours(80);
        let mut step = SECOND;
        while self.world.clock.now() < end {
            let mut handled = 0;
            loop {
                let count = self.handle().await;
                handled += count;
                if count == 0 {
                    break;
                }
            }
            let depth = self.world.emulator.depth("deliver").unwrap();
            if depth.visible + depth.in_flight + depth.delayed == 0
                && self.missing().await.is_empty()
            {
                return;
            }
            let next = self.next_try().await;
            let soon = self.world.clock.now() + MINUTE * 4;
            if let Some(next) = next.filter(|next| handled == 0 && *next > soon) {
                // The minutes before it are empty, and not looked through.
                self.swept = next.as_second() / 60 - 2;
                let state = serde_json::json!({ "minute": self.swept });
                self.world.store.put_state("sweep", &state).await.unwrap();
                self.world.set(next - MINUTE);
            }
            step = if handled > 0 {
                SECOND * 2
            } else {
                (step * 2).min(MINUTE * 10)
            };
            self.pass(step).await;
        }
    }

    /// When the first event that is missing is tried again, where all that are wait for that.
    async fn next_try(&self) -> Option<Timestamp> {
        let depth = self.world.emulator.depth("deliver").unwrap();
        let rows = self.world.store.deliveries(&self.keys).await.unwrap();
        let open = rows.into_iter().filter(|row| !row.is_over());
        let tries: Vec<Timestamp> = open.filter_map(|row| row.next_at).collect();
        let waits = depth.visible + depth.in_flight + depth.delayed > 0;
        tries.into_iter().min().filter(|_| !waits)
    }

    /// The events that were not delivered, and what their rows say.
    async fn missing(&self) -> Vec<(Source, Seq, Option<DeliveryState>)> {
        let rows = self.world.store.deliveries(&self.keys).await.unwrap();
        let state = |key: &DeliveryKey| {
            let at = key.at.as_millisecond();
            let same = |row: &&Delivery| {
                (row.key.source, row.key.seq) == (key.source, key.seq)
                    && row.key.at.as_millisecond() == at
            };
            rows.iter().find(same).map(|row| row.state)
        };
        let all = self.keys.iter();
        all.map(|key| (key.source, key.seq, state(key)))
            .filter(|(.., state)| *state != Some(DeliveryState::Delivered))
            .collect()
    }
}

/// Several processes over one table, receivers, tables and queues that fail, outages and pauses: the
/// events of a record come in order but for the gaps that were told, and all come.
#[tokio::test(start_paused = true)]
async fn order_is_kept_whatever_happens() {
    let seeds = std::env::var("OKRA_TEST_ORDERED").ok();
    let seeds = seeds.and_then(|it| it.parse().ok()).unwrap_or(SEEDS);
    for seed in 0..seeds {
        println!("seed {seed}");
        let mut storm = Storm::new(seed).await;
        for _ in 0..STEPS {
            Box::pin(storm.step()).await;
        }
        Box::pin(storm.calm()).await;
        assert_eq!(storm.missing().await, [], "seed {seed}");
        let parked = storm
            .world
            .store
            .parked(endpoint_id(APP, URL), 10)
            .await
            .unwrap();
        assert_eq!(parked, [], "seed {seed}");
    }
}
