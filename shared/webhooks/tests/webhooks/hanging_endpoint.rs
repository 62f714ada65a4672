//! One endpoint that hangs among fifty, and what the others notice of it, in virtual time. Nothing here waits: a receiver
//! responds at a moment of the driven clock, and the clock moves on when all are waiting.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use futures::{
    FutureExt, StreamExt,
    channel::oneshot,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use http::HeaderMap;
use jiff::Timestamp;
use okra_aws::Clock;
use okra_webhooks::{
    AddressPolicy, DeliverConfig, TransportError, TransportReply, TransportRequest, WebhookSender,
    WebhookTransport,
};

use crate::support::{DeliveryWorld, START};

const ENDPOINTS: usize = 50;
const HANGING: &str = "https://hangs.example/";
const DEADLINE_MS: i64 = 15_000;

/// One every quarter of a second.
const EVENTS: usize = 24;
const PAUSE_MS: i64 = 250;

/// Invocations of the function at most; each takes up to ten messages, and ends with the last of them.
const INVOCATIONS: usize = 64;

/// Answers that are due, by when.
type PendingResponses = Arc<Mutex<BTreeMap<(Timestamp, usize), oneshot::Sender<()>>>>;

/// Receivers that answer in 20 to 49 ms, but for the one that hangs.
struct DelayedReceivers {
    clock: Clock,
    due: PendingResponses,
    has_hanging: bool,
}

impl WebhookTransport for DelayedReceivers {
    fn post_request(
        &self,
        request: TransportRequest,
    ) -> BoxFuture<'_, Result<TransportReply, TransportError>> {
        assert_eq!(
            okra_wire::documented::check_documented_body(&request.body),
            Ok(())
        );
        let hangs = self.has_hanging && request.url.as_str() == HANGING;
        let spread: usize = request.headers["webhook-signature"]
            .as_bytes()
            .iter()
            .map(|byte| usize::from(*byte))
            .sum();
        let takes_ms = if hangs {
            DEADLINE_MS
        } else {
            20 + i64::try_from(spread % 30).unwrap()
        };
        let (answer, answered) = oneshot::channel();
        {
            let mut due = self.due.lock().unwrap();
            let n = due.len();
            due.insert(
                (add_millis(self.clock.now(), takes_ms), n + spread * 1000),
                answer,
            );
        }
        async move {
            answered.await.unwrap();
            if hangs {
                return Err(TransportError::Timeout);
            }
            Ok(TransportReply {
                status: 200,
                headers: HeaderMap::new(),
                body: Ok(Bytes::new()),
            })
        }
        .boxed()
    }
}

fn add_millis(at: Timestamp, ms: i64) -> Timestamp {
    at + jiff::SignedDuration::from_millis(ms)
}

/// Set when something that was polled can go on.
struct WokenFlag(AtomicBool);

impl Wake for WokenFlag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Polls until all are waiting for something that will not come by itself.
fn run_until_stalled(work: &mut FuturesUnordered<BoxFuture<'_, ()>>) {
    let woken = Arc::new(WokenFlag(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&woken));
    while woken.0.swap(false, Ordering::SeqCst) {
        let mut context = Context::from_waker(&waker);
        while let Poll::Ready(Some(())) = work.poll_next_unpin(&mut context) {}
    }
}

/// Milliseconds from commit to acknowledgement at the other 49, in order.
fn measure_latencies(has_hanging: bool) -> Vec<i128> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let clock = Clock::manual_at(START.parse().unwrap());
    let due = PendingResponses::default();
    let receivers = DelayedReceivers {
        clock: clock.clone(),
        due: Arc::clone(&due),
        has_hanging,
    };
    let sender = WebhookSender::with_transport(Arc::new(receivers), AddressPolicy::PublicOnly);
    let config = DeliverConfig::new("https://okra.example");
    let world = runtime.block_on(async {
        let world = DeliveryWorld::with_sender(clock, sender, config).await;
        world.add_endpoint_at(HANGING).await;
        for n in 1..ENDPOINTS {
            world
                .add_endpoint_at(&format!("https://receiver-{n}.example/"))
                .await;
        }
        world
    });
    let _inside = runtime.enter();
    let others = || {
        let mut all = world.all_attempts();
        all.retain(|attempt| attempt.host != "hangs.example");
        all
    };
    let mut invocations: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
    let (mut committed, mut next_commit) = (0, world.clock.now());
    while committed < EVENTS || others().len() < EVENTS * (ENDPOINTS - 1) {
        if committed < EVENTS && world.clock.now() >= next_commit {
            let dispatch = runtime.block_on(world.commit_balances(1));
            runtime
                .block_on(world.queues.send_dispatches(&[dispatch], 0))
                .unwrap();
            committed += 1;
            next_commit = add_millis(next_commit, PAUSE_MS);
        }
        while invocations.len() < INVOCATIONS {
            let messages = runtime.block_on(world.receive_messages());
            if messages.is_empty() {
                break;
            }
            let world = &world;
            let one = |message| async move { world.handle_message(message).await.unwrap() };
            invocations.push(join_all(messages.into_iter().map(one)).map(drop).boxed());
        }
        run_until_stalled(&mut invocations);
        let mut answers = due.lock().unwrap();
        let answer_at = answers.first_key_value().map(|((at, _), _)| *at);
        let commit_at = (committed < EVENTS).then_some(next_commit);
        let Some(next) = answer_at.into_iter().chain(commit_at).min() else {
            // Nobody is under way: what waits its turn waits whole seconds.
            world.set_clock(add_millis(world.clock.now(), 1000));
            continue;
        };
        world.set_clock(next.max(world.clock.now()));
        while let Some(first) = answers.first_entry().filter(|first| first.key().0 <= next) {
            // Whoever asked may be gone.
            let _ = first.remove().send(());
        }
    }
    let mut all: Vec<i128> = others()
        .iter()
        .map(|attempt| {
            assert!(attempt.outcome.is_ok());
            attempt
                .answered_at
                .duration_since(attempt.committed_at)
                .as_millis()
        })
        .collect();
    all.sort_unstable();
    all
}

#[test]
fn an_endpoint_that_hangs_is_not_seen_by_the_others() {
    let (without, with) = (measure_latencies(false), measure_latencies(true));
    let p99 = |all: &[i128]| all[all.len() * 99 / 100];
    assert!(p99(&without) >= 20, "{without:?}");
    // Within a tenth.
    assert!(
        p99(&with) * 10 <= p99(&without) * 11,
        "p99 {} ms beside it, {} ms without",
        p99(&with),
        p99(&without)
    );
}
