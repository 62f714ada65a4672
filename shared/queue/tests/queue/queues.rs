//! Sending, receiving and deleting messages, over the embedded service.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use jiff::{SignedDuration, Timestamp};
use okra_aws::{AwsConfig, Clock};
use okra_core::{
    model::{
        ids::{BankId, EndpointId, RecordId, Seq},
        interval::{DueKey, Interval, Tick},
        snapshot::ByProduct,
    },
    schedule::plan::{Chunk, DueEntry, RefreshTrigger},
    sync::feed::FeedStream,
};
use okra_emulator::{AwsService, CallFate, Emulator, QueueSpec};
use okra_queue::{
    ChunkQueue, DeliverMessage, DeliveryRetry, FeedDispatch, FetchMessage, IncomingMessage, Queue,
    QueueUrls, Queues, SendError,
};

struct World {
    queues: Queues,
    emulator: Emulator,
    clock: Clock,
}

impl World {
    fn new() -> Self {
        let clock = Clock::manual_at("2026-03-01T12:00:00Z".parse().unwrap());
        let emulator = Emulator::in_memory(clock.clone()).unwrap();
        let names = ["fetch", "priority", "deliver"];
        emulator.create_queues(&names.map(QueueSpec::new)).unwrap();
        let [fetch, priority, deliver] = names.map(|name| emulator.queue_url(name));
        let urls = QueueUrls {
            fetch,
            priority,
            deliver,
        };
        let client = AwsConfig::with_http_client(emulator.http_client()).sqs_client();
        Self {
            queues: Queues::new(client, urls),
            emulator,
            clock,
        }
    }

    fn advance_time(&self, seconds: i64) {
        self.clock
            .set_time(self.clock.now() + SignedDuration::from_secs(seconds));
    }

    /// All messages that can be received.
    async fn receive_all(&self, queue: Queue) -> Vec<IncomingMessage> {
        let mut all = Vec::new();
        loop {
            let messages = self.queues.receive_messages(queue, 10, 0).await.unwrap();
            if messages.is_empty() {
                return all;
            }
            all.extend(messages);
        }
    }

    fn count_sends(&self) -> u64 {
        self.emulator
            .call_count(AwsService::Sqs, "SendMessageBatch")
    }
}

/// The `n`th chunk, delayed by as many seconds.
fn chunk(bank: u8, n: u8, records: u32) -> Chunk {
    let bank = BankId::from_bytes([bank; 12]);
    let at = Timestamp::from_second(1_700_000_040).unwrap();
    let interval = Interval::OneHour;
    let tick = Tick { interval, at };
    let entry = |n: u32| DueEntry {
        key: DueKey {
            interval,
            bank,
            record: RecordId::derive(&[&n.to_be_bytes()]),
        },
        watermarks: ByProduct::default(),
        state_seq: None,
        failure_state: None,
    };
    Chunk {
        id: format!("chunk-{n}"),
        bank,
        trigger: RefreshTrigger::Scheduled { tick },
        not_after: tick.not_after(),
        delay_s: n.into(),
        requeue_count: 0,
        records: (0..records).map(entry).collect(),
    }
}

fn dispatch(n: u8) -> FeedDispatch {
    FeedDispatch {
        record: RecordId::from_bytes([n; 12]),
        first_seq: Seq(1),
        last_seq: Seq(2),
        stream: FeedStream::Balance,
    }
}

#[tokio::test]
async fn chunks_arrive_in_their_queue_after_their_delay_and_grouped_by_bank() {
    let world = World::new();
    let chunks: Vec<Chunk> = (0..25).map(|n| chunk(n % 3, n, 2)).collect();
    world
        .queues
        .send_chunks(ChunkQueue::Scheduled, &chunks)
        .await
        .unwrap();
    assert_eq!(world.count_sends(), 3);
    assert_eq!(world.emulator.queue_depth("fetch").unwrap().delayed, 24);
    world.advance_time(24);
    let received = world.receive_all(Queue::Fetch).await;
    let mut ids = HashSet::new();
    for message in &received {
        let FetchMessage::ChunkV1(got) = serde_json::from_str(&message.body).unwrap() else {
            panic!("{message:?}")
        };
        let sent = chunks.iter().find(|chunk| chunk.id == got.id).unwrap();
        // The delay is that of the message, not of the chunk.
        let sent = Chunk {
            delay_s: 0,
            ..sent.clone()
        };
        assert_eq!(got, sent);
        assert_eq!(message.attributes["MessageGroupId"], got.bank.to_string());
        assert_eq!(message.attributes["ApproximateReceiveCount"], "1");
        ids.insert(got.id);
    }
    assert_eq!((received.len(), ids.len()), (25, 25));
    assert_eq!(world.receive_all(Queue::Priority).await.len(), 0);

    world
        .queues
        .send_chunks(ChunkQueue::Priority, &chunks[..1])
        .await
        .unwrap();
    assert_eq!(world.receive_all(Queue::Priority).await.len(), 1);
}

#[tokio::test]
async fn a_batch_is_no_larger_than_sqs_takes() {
    let world = World::new();
    // About 150 bytes a record: 10 of these are 1.5 MB.
    let chunks: Vec<Chunk> = (0..10).map(|n| chunk(1, n, 1000)).collect();
    world
        .queues
        .send_chunks(ChunkQueue::Scheduled, &chunks)
        .await
        .unwrap();
    assert_eq!(world.count_sends(), 2);
    world.advance_time(10);
    assert_eq!(world.receive_all(Queue::Fetch).await.len(), 10);

    let huge = chunk(1, 0, 10_000);
    let error = world
        .queues
        .send_chunks(ChunkQueue::Scheduled, &[huge])
        .await;
    assert!(matches!(error, Err(SendError::TooLarge { .. })));
}

#[tokio::test]
async fn messages_that_sqs_rejected_are_sent_again() {
    let world = World::new();
    let calls = Arc::new(AtomicU32::new(0));
    world.emulator.inject_fates({
        let calls = Arc::clone(&calls);
        move |_, operation| match operation {
            "SendMessageBatch" if calls.fetch_add(1, Ordering::Relaxed) < 2 => {
                CallFate::ServeFirstHalf
            }
            _ => CallFate::Serve,
        }
    });
    let dispatches: Vec<FeedDispatch> = (0..10).map(dispatch).collect();
    world.queues.send_dispatches(&dispatches, 0).await.unwrap();
    // 5 of 10, 3 of 5, 2 of 2.
    assert_eq!(world.count_sends(), 3);
    let received = world.receive_all(Queue::Deliver).await;
    let bodies: HashSet<&str> = received.iter().map(|message| &*message.body).collect();
    assert_eq!((received.len(), bodies.len()), (10, 10));
}

#[tokio::test]
async fn messages_that_stay_rejected_are_counted() {
    let world = World::new();
    world.emulator.inject_fates(|_, _| CallFate::ServeFirstHalf);
    let dispatches: Vec<FeedDispatch> = (0..20).map(dispatch).collect();
    let error = world.queues.send_dispatches(&dispatches, 0).await;
    // Of ten messages 5, 3 and 1 are accepted, and the last one is not.
    let expected = "SQS rejected 2 messages; the error code of the first is InternalError";
    assert_eq!(error.unwrap_err().to_string(), expected);
    world.emulator.inject_fates(|_, _| CallFate::Serve);
    assert_eq!(world.receive_all(Queue::Deliver).await.len(), 18);
}

#[tokio::test]
async fn a_service_that_is_down_is_an_error_and_a_short_throttle_is_not() {
    let world = World::new();
    world.emulator.inject_fates(|_, _| CallFate::Fail);
    let error = world.queues.send_dispatches(&[dispatch(1)], 0).await;
    assert!(matches!(error, Err(SendError::Service { .. })));
    assert!(
        world
            .queues
            .receive_messages(Queue::Deliver, 10, 0)
            .await
            .is_err()
    );
    assert!(
        world
            .queues
            .delete_messages(Queue::Deliver, &["1-1".to_owned()])
            .await
            .is_err()
    );

    let calls = AtomicU32::new(0);
    world.emulator.inject_fates(move |_, _| {
        if calls.fetch_add(1, Ordering::Relaxed) == 0 {
            CallFate::Throttle
        } else {
            CallFate::Serve
        }
    });
    world
        .queues
        .send_dispatches(&[dispatch(1)], 0)
        .await
        .unwrap();
}

#[tokio::test]
async fn dispatches_and_retries_share_the_delivery_queue() {
    let world = World::new();
    let retry = DeliveryRetry {
        source: RecordId::from_bytes([1; 12]).into(),
        seq: Seq(7),
        endpoint: EndpointId::from_bytes([2; 12]),
        has_permit: false,
        attempts_made: 3,
    };
    world
        .queues
        .send_dispatches(&[dispatch(1)], 5)
        .await
        .unwrap();
    // Longer than a message can be delayed: it is received early, and the receiver sees that it is not due.
    world.queues.send_retries(&[(retry, 1800)]).await.unwrap();
    assert_eq!(world.receive_all(Queue::Deliver).await.len(), 0);
    let mut received = Vec::new();
    for seconds in [5, 895] {
        world.advance_time(seconds);
        let messages = world.receive_all(Queue::Deliver).await;
        let [message] = messages.as_slice() else {
            panic!("{messages:?}")
        };
        let read: DeliverMessage = serde_json::from_str(&message.body).unwrap();
        received.push((read, message.attributes["MessageGroupId"].clone()));
        let receipts = [message.receipt.clone()];
        world
            .queues
            .delete_messages(Queue::Deliver, &receipts)
            .await
            .unwrap();
    }
    let expected = [
        (
            DeliverMessage::DispatchV1(dispatch(1)),
            retry.source.to_string(),
        ),
        (DeliverMessage::RetryV1(retry), retry.endpoint.to_string()),
    ];
    assert_eq!(received, expected);
}

#[tokio::test]
async fn deleted_messages_are_not_received_again() {
    let world = World::new();
    let dispatches: Vec<FeedDispatch> = (0..25).map(dispatch).collect();
    world.queues.send_dispatches(&dispatches, 0).await.unwrap();
    let received = world.receive_all(Queue::Deliver).await;
    let receipts: Vec<String> = received[..24].iter().map(|m| m.receipt.clone()).collect();
    world
        .queues
        .delete_messages(Queue::Deliver, &receipts)
        .await
        .unwrap();
    world.advance_time(30);
    let remaining = world.receive_all(Queue::Deliver).await;
    assert_eq!(remaining.len(), 1);
    assert_eq!(remaining[0].message_id, received[24].message_id);
    assert_eq!(remaining[0].attributes["ApproximateReceiveCount"], "2");
    // Nothing to send or delete makes no call.
    world
        .queues
        .delete_messages(Queue::Deliver, &[])
        .await
        .unwrap();
    world.queues.send_dispatches(&[], 0).await.unwrap();
}
