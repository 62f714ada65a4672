//! Endpoints that get the events of a record one after another.

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
    delivery::{
        endpoint_health::{AttemptFailure, EndpointHealth, MAX_PARKED_EVENTS},
        retry::AttemptOutcome,
    },
    model::{
        ids::{AccountId, EventId, FeedSource, RecordId, Seq},
        snapshot::Product,
    },
    resilience::rate_limiter::SendRate,
    sync::feed::FeedStream,
};
use okra_emulator::CallFate;
use okra_queue::{DeliverMessage, EndpointMaintenance, FeedDispatch, Queue, Redelivery};
use okra_store::{Delivery, DeliveryKey, DeliveryState};
use okra_webhooks::{
    AddressPolicy, DeliverConfig, Deliverer, DeliveryOutcome, JitterRandom, MaintenanceOutcome,
    TransportError, TransportReply, TransportRequest, WebhookSender, WebhookTransport, endpoint_id,
};

use crate::support::{
    ACCOUNT, APP, DeliveryWorld, RECORD, START, TestReceiver, balance_change, handle_message_by,
};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

async fn ordered_world(answers: &[u16]) -> (DeliveryWorld, TestReceiver) {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(answers).await;
    world.add_endpoint(&receiver, &[], None).await;
    world.set_ordered(&receiver.url, true).await;
    (world, receiver)
}

/// The places of the events in the order in which a receiver was sent them.
fn sent_seqs(receiver: &TestReceiver) -> Vec<u64> {
    let seq =
        |(headers, _): &(HeaderMap, Bytes)| numeric_header(headers, "okra-event-sequence").unwrap();
    receiver.received_requests().iter().map(seq).collect()
}

fn numeric_header(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().unwrap().parse().ok()
}

fn gap_headers(receiver: &TestReceiver) -> Vec<String> {
    let all = receiver.received_requests();
    let of =
        |headers: &HeaderMap| Some(headers.get("okra-event-gap")?.to_str().unwrap().to_owned());
    all.iter().filter_map(|(headers, _)| of(headers)).collect()
}

async fn delivery_states(
    world: &DeliveryWorld,
    receiver: &TestReceiver,
    last: u64,
) -> Vec<Option<DeliveryState>> {
    let mut states = Vec::new();
    for seq in 1..=last {
        states.push(
            world
                .load_delivery(seq, receiver)
                .await
                .map(|row| row.state),
        );
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
    let report = world.deliver_dispatch(&first).await;
    assert_eq!((report.retry_scheduled, report.delivered), (1, 0));
    let second = world.commit_transaction().await;
    assert_eq!(
        world.deliver_dispatch(&second).await.awaiting_predecessor,
        1
    );
    // Another record does not wait.
    let other = world
        .commit_to_record(OTHER, 2, FeedStream::Balance, balance_change)
        .await;
    assert_eq!(world.deliver_dispatch(&other).await.delivered, 2);
    assert_eq!(sent_seqs(&receiver), [1, 1, 2]);
    assert_eq!(
        delivery_states(&world, &receiver, 4).await[1..],
        [None, None, None],
        "what waits is written nowhere"
    );
    // The retry goes on with all that wait.
    world.pass_time(SECOND * 7, SECOND).await;
    assert_eq!(sent_seqs(&receiver), [1, 1, 2, 1, 2, 3, 4]);
    assert_eq!(gap_headers(&receiver), [""; 0]);
    world.pass_time(MINUTE * 5, MINUTE).await;
    assert_eq!(receiver.request_count(), 7, "nothing more is sent");
}

#[tokio::test]
async fn an_event_blocks_others_for_an_hour_at_most_and_the_next_names_it_as_missing() {
    let (world, receiver) = ordered_world(&[]).await;
    receiver.set_default_status(500);
    let dispatch = world.commit_balances(2).await;
    world.deliver_dispatch(&dispatch).await;
    let begun = world.clock.now();
    world
        .store
        .put_system_state(
            "sweep",
            &serde_json::json!({ "minute": begun.as_second() / 60 }),
        )
        .await
        .unwrap();
    while !sent_seqs(&receiver).contains(&2) {
        world.pass_time(MINUTE, SECOND * 20).await;
        world
            .deliverer
            .sweep_retries(world.clock.now())
            .await
            .unwrap();
        world.handle_until_idle().await;
        assert!(world.clock.now() < begun + MINUTE * 60);
    }
    assert_eq!(sent_seqs(&receiver), [1, 1, 1, 1, 2]);
    assert_eq!(gap_headers(&receiver), ["1"]);
    // The next does not wait for it any more, but for the one before it.
    receiver.set_default_status(200);
    let dispatch = world.commit_balances(1).await;
    assert_eq!(
        world.deliver_dispatch(&dispatch).await.awaiting_predecessor,
        1
    );
    world.pass_time(SECOND * 8, SECOND).await;
    assert_eq!(sent_seqs(&receiver)[5..], [2, 3]);
    assert_eq!(
        gap_headers(&receiver),
        ["1", "1"],
        "a gap is told until an event of it came"
    );
    let dispatch = world.commit_balances(1).await;
    world.deliver_dispatch(&dispatch).await;
    assert_eq!(gap_headers(&receiver).len(), 2);
    // It comes late, by its own schedule.
    let row = world.load_delivery(1, &receiver).await.unwrap();
    world.sweep_at(row.next_attempt_at.unwrap()).await;
    assert_eq!(sent_seqs(&receiver)[5..], [2, 3, 4, 1]);
}

#[tokio::test]
async fn what_is_given_up_lets_the_next_come() {
    let world = DeliveryWorld::new().await;
    let abort = (422, Some(("webhook-delivery", "abort-message")));
    let receiver = TestReceiver::with_replies(&[abort]).await;
    world.add_endpoint(&receiver, &[], None).await;
    world.set_ordered(&receiver.url, true).await;
    let dispatch = world.commit_balances(2).await;
    let report = world.deliver_dispatch(&dispatch).await;
    assert_eq!((report.exhausted, report.delivered), (1, 1));
    assert_eq!(
        (sent_seqs(&receiver), gap_headers(&receiver)),
        (vec![1, 2], vec!["1".to_owned()])
    );
}

/// While the circuit is open, all that waits is parked where it can be seen, and comes in order after.
#[tokio::test]
async fn what_waits_is_parked_with_what_it_waits_for_and_drained_in_order() {
    let (world, receiver) = ordered_world(&[]).await;
    world.link_record(OTHER.0, OTHER.1).await;
    receiver.set_default_status(500);
    let dispatch = world.commit_balances(3).await;
    world.deliver_dispatch(&dispatch).await;
    // Others open the circuit while the first waits for its retry.
    let endpoint = endpoint_id(APP, &receiver.url);
    world
        .change_health(endpoint, EndpointHealth::begin_trial)
        .await;
    let other = world
        .commit_to_record(OTHER, 2, FeedStream::Balance, balance_change)
        .await;
    world.deliver_dispatch(&other).await;
    let health = world.load_health(&receiver).await.health;
    assert!(health.breaker().is_open());
    assert_eq!(
        world.parked_seqs(&receiver).await,
        [1, 2],
        "of the other record"
    );
    world.pass_time(SECOND * 8, SECOND).await;
    let parked = world.parked_seqs(&receiver).await;
    assert_eq!(
        parked.len(),
        5,
        "with its retry the first is parked, and all behind it: {parked:?}"
    );
    let dispatch = world.commit_balances(1).await;
    assert_eq!(world.deliver_dispatch(&dispatch).await.parked, 1);
    receiver.set_default_status(200);
    let before = receiver.request_count();
    world.pass_time(MINUTE * 4, SECOND * 30).await;
    assert_eq!(world.parked_seqs(&receiver).await, [0_u64; 0]);
    let order = arrivals_by_record(&receiver, before);
    assert_eq!(order[&RECORD], [1, 2, 3, 4]);
    assert_eq!(order[&OTHER.0], [1, 2]);
}

/// What a receiver was sent after the first `known`, by record, in order.
fn arrivals_by_record(receiver: &TestReceiver, known: usize) -> HashMap<RecordId, Vec<u64>> {
    let mut order: HashMap<RecordId, Vec<u64>> = HashMap::new();
    for (headers, _) in &receiver.received_requests()[known..] {
        let id = headers["webhook-id"].to_str().unwrap();
        let Some((FeedSource::Record(record), seq)) = EventId::parse(id) else {
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
    world.deliver_dispatch(&dispatch).await;
    for _ in 0..2 {
        world.pass_time(MINUTE * 7, SECOND).await;
    }
    // The third failure was made; the next try is half an hour away.
    assert_eq!(sent_seqs(&receiver), [1, 1, 1]);
    let endpoint = endpoint_id(APP, &receiver.url);
    let now = world.clock.now();
    let failure = AttemptFailure {
        failed_at: now,
        outcome: AttemptOutcome::Rejected,
        status: Some(500),
        retry_after_s: None,
        requests_disable: false,
    };
    world
        .change_health(endpoint, |health| {
            while !health.breaker().is_open() {
                health.record_failure(&failure);
            }
        })
        .await;
    let probe_at = world.load_health(&receiver).await.health.next_probe_at();
    assert_eq!(probe_at, Some(now + MINUTE));
    let dispatch = world.commit_balances(2).await;
    assert_eq!(world.deliver_dispatch(&dispatch).await.parked, 2);
    world.advance_clock(MINUTE);
    let tend = EndpointMaintenance { app: APP, endpoint };
    assert_eq!(
        world.deliverer.maintain_endpoint(tend).await.unwrap(),
        MaintenanceOutcome::Recovered
    );
    world.pass_time(SECOND * 3, SECOND).await;
    assert_eq!(sent_seqs(&receiver), [1, 1, 1, 1, 2, 3]);
    assert_eq!(world.parked_seqs(&receiver).await, [0_u64; 0]);
}

/// A drain leaves what waits for a retry where it is, and the retry goes on with it.
#[tokio::test]
async fn a_drain_waits_for_an_event_that_is_being_retried() {
    let (world, receiver) = ordered_world(&[500]).await;
    let dispatch = world.commit_balances(1).await;
    world.deliver_dispatch(&dispatch).await;
    let endpoint = endpoint_id(APP, &receiver.url);
    let now = world.clock.now();
    world
        .change_health(endpoint, |health| health.disable_by_app(now))
        .await;
    let dispatch = world.commit_balances(2).await;
    assert_eq!(world.deliver_dispatch(&dispatch).await.parked, 2);
    world
        .change_health(endpoint, EndpointHealth::enable_by_app)
        .await;
    let tend = EndpointMaintenance { app: APP, endpoint };
    assert_eq!(
        world.deliverer.maintain_endpoint(tend).await.unwrap(),
        MaintenanceOutcome::Drained { sent: 0 }
    );
    assert_eq!(world.parked_seqs(&receiver).await, [2, 3]);
    // What comes meanwhile is parked behind them.
    let dispatch = world.commit_balances(1).await;
    assert_eq!(world.deliver_dispatch(&dispatch).await.parked, 1);
    world.pass_time(SECOND * 8, SECOND).await;
    assert_eq!(sent_seqs(&receiver), [1, 1, 2, 3, 4]);
    assert_eq!(world.parked_seqs(&receiver).await, [0_u64; 0]);
}

/// The message of an event was lost, or its endpoint not seen: those behind it begin it themselves.
#[tokio::test]
async fn an_event_that_nobody_began_is_begun_after_a_minute() {
    let (world, receiver) = ordered_world(&[]).await;
    world.commit_balances(1).await;
    let dispatch = world.commit_balances(1).await;
    assert_eq!(
        world.deliver_dispatch(&dispatch).await.awaiting_predecessor,
        1
    );
    world.pass_time(SECOND * 50, SECOND * 10).await;
    assert_eq!(receiver.request_count(), 0);
    world.pass_time(SECOND * 15, SECOND * 5).await;
    assert_eq!(sent_seqs(&receiver), [1, 2]);
}

/// What was asked for in person does not wait, and holds nothing back from its order.
#[tokio::test]
async fn a_resend_does_not_wait_and_lets_nothing_pass() {
    let (world, receiver) = ordered_world(&[500]).await;
    let dispatch = world.commit_balances(4).await;
    world.deliver_dispatch(&dispatch).await;
    let resend = Redelivery {
        source: RECORD.into(),
        seq: Seq(3),
        endpoint: endpoint_id(APP, &receiver.url),
        has_permit: false,
    };
    assert_eq!(
        world.deliverer.attempt_resend(resend).await.unwrap(),
        DeliveryOutcome::Delivered
    );
    world.handle_until_idle().await;
    assert_eq!(sent_seqs(&receiver), [1, 3]);
    world.pass_time(SECOND * 8, SECOND).await;
    assert_eq!(sent_seqs(&receiver), [1, 3, 1, 2, 4]);
    assert_eq!(gap_headers(&receiver), [""; 0]);
}

/// Nothing that waited is forgotten when the endpoint wants no order, or no such events, any more.
#[tokio::test]
async fn what_waits_comes_also_after_the_endpoint_was_changed() {
    for change in ["order", "events", "products"] {
        let (world, receiver) = ordered_world(&[500]).await;
        let transaction = world.commit_transaction().await;
        world.deliver_dispatch(&transaction).await;
        let dispatch = world.commit_balances(2).await;
        assert_eq!(
            world.deliver_dispatch(&dispatch).await.awaiting_predecessor,
            1
        );
        match change {
            "order" => world.set_ordered(&receiver.url, false).await,
            "events" => world.set_event_filters(&receiver, &["balance.*"]).await,
            _ => {
                let id = endpoint_id(APP, &receiver.url);
                let mut endpoint = world.store.find_endpoint(APP, id).await.unwrap().unwrap();
                endpoint.products = vec![Product::Balance];
                world.store.put_endpoint(&endpoint).await.unwrap();
            }
        }
        world.pass_time(SECOND * 8, SECOND).await;
        let expected: &[u64] = match change {
            "order" => &[1, 1, 2, 3],
            _ => &[1, 2, 3],
        };
        assert_eq!(sent_seqs(&receiver), expected, "{change}");
    }
}

/// Order that is asked for later begins with what is committed then.
/// What waited for an endpoint that is removed goes with it; set again, its line begins anew.
#[tokio::test]
async fn what_waits_for_a_removed_endpoint_goes_with_it() {
    let (world, receiver) = ordered_world(&[500]).await;
    let dispatch = world.commit_balances(3).await;
    world.deliver_dispatch(&dispatch).await;
    let endpoint = endpoint_id(APP, &receiver.url);
    world.store.delete_endpoint(APP, endpoint).await.unwrap();
    world.pass_time(MINUTE * 5, SECOND * 5).await;
    assert_eq!(
        sent_seqs(&receiver),
        [1],
        "nothing comes to an endpoint that is gone"
    );
    world.add_endpoint(&receiver, &[], None).await;
    world.set_ordered(&receiver.url, true).await;
    let dispatch = world.commit_balances(2).await;
    assert_eq!(world.deliver_dispatch(&dispatch).await.delivered, 2);
    assert_eq!(sent_seqs(&receiver), [1, 4, 5]);
    assert_eq!(gap_headers(&receiver), [""; 0]);
}

#[tokio::test]
async fn order_begins_when_it_is_requested() {
    let world = DeliveryWorld::new().await;
    let receiver = TestReceiver::with_statuses(&[500]).await;
    world.add_endpoint(&receiver, &[], None).await;
    let dispatch = world.commit_balances(1).await;
    world.deliver_dispatch(&dispatch).await;
    world.advance_clock(SECOND);
    world.set_ordered(&receiver.url, true).await;
    let dispatch = world.commit_balances(1).await;
    assert_eq!(world.deliver_dispatch(&dispatch).await.delivered, 1);
    assert_eq!(
        (sent_seqs(&receiver), gap_headers(&receiver)),
        (vec![1, 2], vec![])
    );
}

#[tokio::test]
async fn a_success_in_order_writes_once() {
    let (world, receiver) = ordered_world(&[]).await;
    let used = async || {
        let dispatch = world.commit_balances(1).await;
        let before = world.store.capacity_used();
        assert_eq!(world.deliver_dispatch(&dispatch).await.delivered, 1);
        let used = world.store.capacity_used() - before;
        (used.write_units, used.read_units)
    };
    // The first reads what is remembered after.
    used().await;
    let in_order = used().await;
    world.set_ordered(&receiver.url, false).await;
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
        .change_health(endpoint, |health| health.disable_by_app(now))
        .await;
    let dispatch = world.commit_balances(1).await;
    assert_eq!(world.deliver_dispatch(&dispatch).await.parked, 1);
    world
        .store
        .add_parked_count(endpoint, MAX_PARKED_EVENTS)
        .await
        .unwrap();
    let dispatch = world.commit_balances(2).await;
    assert_eq!(world.deliver_dispatch(&dispatch).await.exhausted, 2);
    world
        .change_health(endpoint, EndpointHealth::enable_by_app)
        .await;
    // The next comes before the drain, and is parked behind what is parked: there is no room.
    let tend = EndpointMaintenance { app: APP, endpoint };
    world.deliverer.maintain_endpoint(tend).await.unwrap();
    let dispatch = world.commit_balances(1).await;
    assert_eq!(world.deliver_dispatch(&dispatch).await.delivered, 1);
    assert_eq!(sent_seqs(&receiver), [1, 4]);
    assert_eq!(gap_headers(&receiver), ["2,3"]);
}

/// A line of many goes on in messages of its own, and ends.
#[tokio::test]
async fn a_long_fifo_continues_from_message_to_message() {
    let (world, receiver) = ordered_world(&[]).await;
    let mut dispatches: Vec<FeedDispatch> = Vec::new();
    for _ in 0..3 {
        dispatches.push(world.commit_balances(40).await);
    }
    let report = world.deliver_dispatch(&dispatches[0]).await;
    assert_eq!(report.delivered, 32);
    world.handle_until_idle().await;
    assert_eq!(sent_seqs(&receiver), (1..=120).collect::<Vec<_>>());
    for dispatch in &dispatches {
        world.deliver_dispatch(dispatch).await;
        world.handle_until_idle().await;
    }
    assert_eq!(receiver.request_count(), 120);
}

const URL: &str = "https://app.example/hook";

/// How many worlds are drawn; `OKRA_TEST_ORDERED` draws more.
const SEEDS: u64 = 6;

/// Steps of a world while it storms.
const STEPS: usize = 40;

/// Events of a record at most.
const EVENTS: u64 = 14;

struct TestDice(u64);

impl TestDice {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn next_below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    fn next_chance(&mut self, permille: u64) -> bool {
        self.next_below(1000) < permille
    }
}

/// What a receiver knows of a record's events.
#[derive(Default)]
struct ReceivedSeqs {
    taken: BTreeSet<u64>,
    announced_missing: BTreeSet<u64>,
}

#[derive(Default)]
struct OrderedInbox {
    seqs_by_record: BTreeMap<String, ReceivedSeqs>,
    log: Vec<String>,
}

/// A receiver that fails as dice fall, and knows in which order events came.
#[derive(Clone)]
struct FlakyReceiver {
    dice: Arc<Mutex<TestDice>>,
    inbox: Arc<Mutex<OrderedInbox>>,
    failing_permille: Arc<Mutex<u64>>,
}

impl WebhookTransport for FlakyReceiver {
    fn post_request(
        &self,
        request: TransportRequest,
    ) -> BoxFuture<'_, Result<TransportReply, TransportError>> {
        async move {
            let (before, after) = {
                let mut dice = self.dice.lock().unwrap();
                (dice.next_below(30), dice.next_below(30))
            };
            for _ in 0..before {
                tokio::task::yield_now().await;
            }
            let reply = self.take_request(&request);
            for _ in 0..after {
                tokio::task::yield_now().await;
            }
            reply
        }
        .boxed()
    }
}

impl FlakyReceiver {
    fn take_request(&self, request: &TransportRequest) -> Result<TransportReply, TransportError> {
        let text = |name: &str| request.headers.get(name).map(|it| it.to_str().unwrap());
        let id = text("webhook-id").unwrap();
        let (record, seq) = id.rsplit_once('_').unwrap();
        let seq: u64 = seq.parse().unwrap();
        let mut dice = self.dice.lock().unwrap();
        let fails = dice.next_chance(*self.failing_permille.lock().unwrap());
        let kind = dice.next_below(6);
        let reply = |status, retry_after: Option<u64>, whole| {
            let mut headers = HeaderMap::new();
            if let Some(seconds) = retry_after {
                headers.insert("retry-after", seconds.into());
            }
            let body = if whole {
                Ok(Bytes::new())
            } else {
                Err(TransportError::Connect)
            };
            Ok(TransportReply {
                status,
                headers,
                body,
            })
        };
        let answer = match (fails, kind) {
            (false, _) => reply(204, None, true),
            (true, 0) => Err(TransportError::Timeout),
            (true, 1) => reply(429, Some(dice.next_below(5000)), true),
            (true, 2) => reply(503, None, true),
            // Taken, and the answer breaks off.
            (true, 3) => reply(200, None, false),
            (true, _) => reply(500, None, true),
        };
        let takes = !fails || kind == 3;
        let mut inbox = self.inbox.lock().unwrap();
        inbox.log.push(format!(
            "{id} gap {:?} taken {takes}",
            text("okra-event-gap")
        ));
        let line = inbox.seqs_by_record.entry(record.to_owned()).or_default();
        let gap = text("okra-event-gap").unwrap_or_default();
        let gap = gap.split(',').filter_map(|seq| seq.parse::<u64>().ok());
        line.announced_missing.extend(gap);
        if takes && line.taken.insert(seq) && text("okra-replay").is_none() {
            let missing: Vec<u64> = (1..seq)
                .filter(|it| !line.taken.contains(it) && !line.announced_missing.contains(it))
                .collect();
            assert!(
                missing.is_empty(),
                "{id} came before {missing:?}: {:#?}",
                inbox.log
            );
        }
        answer
    }
}

struct OrderingStorm {
    world: DeliveryWorld,
    desk: FlakyReceiver,
    dice: TestDice,
    processes: Vec<Deliverer>,
    records: Vec<(RecordId, AccountId)>,
    committed: BTreeMap<RecordId, u64>,
    keys: Vec<DeliveryKey>,
    swept_minute: i64,
}

impl OrderingStorm {
    async fn new(seed: u64) -> Self {
        let mut dice = TestDice(seed);
        let desk = FlakyReceiver {
            dice: Arc::new(Mutex::new(TestDice(dice.next()))),
            inbox: Arc::default(),
            failing_permille: Arc::default(),
        };
        let sender =
            WebhookSender::with_transport(Arc::new(desk.clone()), AddressPolicy::PublicOnly);
        let rate = [2, 25, 100_000][usize::try_from(dice.next_below(3)).unwrap()];
        let config = DeliverConfig {
            default_rate: SendRate::from_per_second(rate),
            max_processes: 4,
            ..DeliverConfig::new("https://okra.example")
        };
        let world =
            DeliveryWorld::with_sender(Clock::manual_at(START.parse().unwrap()), sender, config)
                .await;
        let mut records = vec![(RECORD, ACCOUNT)];
        for n in [0x31, 0x41] {
            let of = (
                RecordId::from_bytes([n; 12]),
                AccountId::from_bytes([n + 1; 12]),
            );
            world.link_record(of.0, of.1).await;
            records.push(of);
        }
        world.add_endpoint_at(URL).await;
        world.set_ordered(URL, true).await;
        let swept = world.clock.now().as_second() / 60;
        let state = serde_json::json!({ "minute": swept });
        world.store.put_system_state("sweep", &state).await.unwrap();
        let processes = (0..3)
            .map(|n| world.start_another_process(JitterRandom::from_seed(seed + n)))
            .collect();
        Self {
            world,
            desk,
            dice,
            processes,
            records,
            committed: BTreeMap::new(),
            keys: Vec::new(),
            swept_minute: swept,
        }
    }

    /// Faults of the table and the queue, so many in a thousand calls.
    fn inject_faults(&mut self, permille: u64) {
        let dice = Mutex::new(TestDice(self.dice.next()));
        self.world.emulator.inject_fates(move |_, operation| {
            let mut dice = dice.lock().unwrap();
            if operation.starts_with("Receive")
                || operation.starts_with("Delete")
                || !dice.next_chance(permille)
            {
                return CallFate::Serve;
            }
            match dice.next_below(3) {
                0 => CallFate::Fail,
                1 => CallFate::Unreachable,
                _ => CallFate::LoseResponse,
            }
        });
    }

    /// The processes handle what is in the queue now, at the same time. What fails comes again.
    async fn handle_messages(&mut self) -> usize {
        let queues = self.world.queues.clone();
        let received = queues
            .receive_messages(Queue::Deliver, 10, 0)
            .await
            .unwrap();
        let count = received.len();
        let work: Vec<_> = received
            .iter()
            .map(|message| {
                let by = usize::try_from(self.dice.next_below(3)).unwrap();
                let message: DeliverMessage = serde_json::from_str(&message.body).unwrap();
                (by, message)
            })
            .collect();
        let work = work
            .into_iter()
            .map(|(by, message)| handle_message_by(&self.processes[by], message).boxed_local());
        let done = join_all(work).await;
        let receipts: Vec<String> = received
            .into_iter()
            .zip(done)
            .filter(|(_, done)| done.is_ok())
            .map(|(message, _)| message.receipt)
            .collect();
        queues
            .delete_messages(Queue::Deliver, &receipts)
            .await
            .unwrap();
        count
    }

    async fn pass_time(&mut self, by: SignedDuration) {
        self.world.advance_clock(by);
        let minute = self.world.clock.now().as_second() / 60;
        if minute > self.swept_minute
            && self
                .world
                .deliverer
                .sweep_retries(self.world.clock.now())
                .await
                .is_ok()
        {
            self.swept_minute = minute;
        }
    }

    async fn commit_changes(&mut self) {
        let at = usize::try_from(self.dice.next_below(3)).unwrap();
        let of = self.records[at];
        let known = self.committed.entry(of.0).or_default();
        if *known >= EVENTS {
            return;
        }
        let count = 1 + self.dice.next_below(3);
        *known += count;
        let dispatch = self
            .world
            .commit_to_record(of, count, FeedStream::Balance, balance_change)
            .await;
        for seq in dispatch.first_seq.0..=dispatch.last_seq.0 {
            self.keys.push(DeliveryKey {
                endpoint: endpoint_id(APP, URL),
                committed_at: self.world.clock.now(),
                source: of.0.into(),
                seq: Seq(seq),
            });
        }
        let times = 1 + u64::from(self.dice.next_chance(200));
        for _ in 0..times {
            let delay_s = u16::try_from(self.dice.next_below(4)).unwrap();
            self.world
                .queues
                .send_dispatches(&[dispatch], delay_s)
                .await
                .unwrap();
        }
    }

    async fn change_health(&self, change: impl Fn(&mut EndpointHealth, Timestamp)) {
        let endpoint = endpoint_id(APP, URL);
        let now = self.world.clock.now();
        self.world
            .change_health(endpoint, |health| change(health, now))
            .await;
        let tend = EndpointMaintenance { app: APP, endpoint };
        self.world
            .queues
            .send_maintenances(&[(tend, 0)])
            .await
            .unwrap();
    }

    async fn random_step(&mut self) {
        self.world.emulator.inject_fates(|_, _| CallFate::Serve);
        match self.dice.next_below(10) {
            0..4 => self.commit_changes().await,
            4 => {
                let failing =
                    [0, 100, 500, 1000][usize::try_from(self.dice.next_below(4)).unwrap()];
                *self.desk.failing_permille.lock().unwrap() = failing;
            }
            5 if self.dice.next_chance(300) => {
                self.change_health(EndpointHealth::disable_by_app).await;
            }
            5 | 6 => self.change_health(|health, _| health.enable_by_app()).await,
            7 if self.dice.next_chance(300) => {
                // Another process in place of one: it remembers nothing.
                let seed = self.dice.next();
                self.processes[0] = self
                    .world
                    .start_another_process(JitterRandom::from_seed(seed));
            }
            _ => {
                let seconds =
                    [1, 5, 30, 90, 240][usize::try_from(self.dice.next_below(5)).unwrap()];
                let by = SignedDuration::from_secs(seconds);
                self.pass_time(by).await;
            }
        }
        let faults = [0, 0, 20, 60][usize::try_from(self.dice.next_below(4)).unwrap()];
        self.inject_faults(faults);
        self.handle_messages().await;
    }

    /// All is well from now on: everything comes.
    async fn calm_down(&mut self) {
        self.world.emulator.inject_fates(|_, _| CallFate::Serve);
        *self.desk.failing_permille.lock().unwrap() = 0;
        self.change_health(|health, _| health.enable_by_app()).await;
        let end = self.world.clock.now() + SignedDuration::from_hours(80);
        let mut step = SECOND;
        while self.world.clock.now() < end {
            let mut handled = 0;
            loop {
                let count = self.handle_messages().await;
                handled += count;
                if count == 0 {
                    break;
                }
            }
            let depth = self.world.emulator.queue_depth("deliver").unwrap();
            if depth.visible + depth.in_flight + depth.delayed == 0
                && self.missing_deliveries().await.is_empty()
            {
                return;
            }
            let next = self.next_retry_at().await;
            let soon = self.world.clock.now() + MINUTE * 4;
            if let Some(next) = next.filter(|next| handled == 0 && *next > soon) {
                // The minutes before it are empty, and not looked through.
                self.swept_minute = next.as_second() / 60 - 2;
                let state = serde_json::json!({ "minute": self.swept_minute });
                self.world
                    .store
                    .put_system_state("sweep", &state)
                    .await
                    .unwrap();
                self.world.set_clock(next - MINUTE);
            }
            step = if handled > 0 {
                SECOND * 2
            } else {
                (step * 2).min(MINUTE * 10)
            };
            self.pass_time(step).await;
        }
    }

    /// When the first event that is missing is tried again, where all that are wait for that.
    async fn next_retry_at(&self) -> Option<Timestamp> {
        let depth = self.world.emulator.queue_depth("deliver").unwrap();
        let rows = self.world.store.load_deliveries(&self.keys).await.unwrap();
        let open = rows.into_iter().filter(|row| !row.is_final());
        let tries: Vec<Timestamp> = open.filter_map(|row| row.next_attempt_at).collect();
        let waits = depth.visible + depth.in_flight + depth.delayed > 0;
        tries.into_iter().min().filter(|_| !waits)
    }

    /// The events that were not delivered, and what their rows say.
    async fn missing_deliveries(&self) -> Vec<(FeedSource, Seq, Option<DeliveryState>)> {
        let rows = self.world.store.load_deliveries(&self.keys).await.unwrap();
        let state = |key: &DeliveryKey| {
            let at = key.committed_at.as_millisecond();
            let same = |row: &&Delivery| {
                (row.key.source, row.key.seq) == (key.source, key.seq)
                    && row.key.committed_at.as_millisecond() == at
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
async fn events_arrive_in_order_whatever_fails() {
    let seeds = std::env::var("OKRA_TEST_ORDERED").ok();
    let seeds = seeds.and_then(|it| it.parse().ok()).unwrap_or(SEEDS);
    for seed in 0..seeds {
        println!("seed {seed}");
        let mut storm = OrderingStorm::new(seed).await;
        for _ in 0..STEPS {
            Box::pin(storm.random_step()).await;
        }
        Box::pin(storm.calm_down()).await;
        assert_eq!(storm.missing_deliveries().await, [], "seed {seed}");
        let parked = storm
            .world
            .store
            .list_parked_events(endpoint_id(APP, URL), 10)
            .await
            .unwrap();
        assert_eq!(parked, [], "seed {seed}");
    }
}
