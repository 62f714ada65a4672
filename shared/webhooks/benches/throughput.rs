//! Webhooks a second, signed, to receivers on this host over real sockets: from a commit to the
//! recorded acknowledgement, with the table and the queue in memory. Engine, deliverer and receivers
//! are one process and share its cores. What is printed is the table of docs/COSTS.md.
//!
//! ```sh
//! cargo bench -p okra-webhooks --bench throughput            # all of it
//! cargo bench -p okra-webhooks --bench throughput -- noise   # one part: speed, steady, noise, outage
//! ```

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]
#![expect(
    clippy::cast_precision_loss,
    reason = "figures of a benchmark are well below 2^53"
)]

#[path = "../tests/webhooks/support/mod.rs"]
mod support;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use jiff::SignedDuration;
use okra_aws::Clock;
use okra_core::resilience::rate_limiter::SendRate;
use okra_webhooks::{AddressPolicy, AttemptLimits, AttemptReport, DeliverConfig, WebhookSender};
use support::{DeliveryWorld, START};
use tokio::{net::TcpListener, runtime, sync::Semaphore, task::JoinSet};

/// Events that are committed and dispatched together.
const EVENTS: u64 = 32;

/// Messages that are handled at once: a few Lambdas with ten each.
const MESSAGES: usize = 64;

/// Receivers that events are spread over in the measurement of noise.
const ENDPOINTS: usize = 50;

/// What a receiver took, by event, and how it answers.
#[derive(Clone)]
struct CountingReceiver {
    url: String,
    attempts_by_event: Arc<Mutex<HashMap<String, u32>>>,
    status: Arc<AtomicU16>,
}

impl CountingReceiver {
    /// One that answers after `pause`.
    async fn new(pause: Duration) -> Self {
        let taken: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
        let status = Arc::new(AtomicU16::new(200));
        let (shared, usual) = (Arc::clone(&taken), Arc::clone(&status));
        let app = Router::new().fallback(post(
            move |headers: HeaderMap, _: bytes::Bytes| async move {
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                let status = StatusCode::from_u16(usual.load(Ordering::Relaxed)).unwrap();
                if status.is_success() {
                    let id = headers["webhook-id"].to_str().unwrap().to_owned();
                    *shared.lock().unwrap().entry(id).or_default() += 1;
                }
                status
            },
        ));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self {
            url,
            attempts_by_event: taken,
            status,
        }
    }
}

async fn start_world(clock: Clock, rate: u32) -> DeliveryWorld {
    let tls = okra_aws::rustls_client_config();
    let sender =
        WebhookSender::new(tls, AddressPolicy::AllowLoopback, AttemptLimits::default()).unwrap();
    let config = DeliverConfig {
        default_rate: SendRate::from_per_second(rate),
        ..DeliverConfig::new("https://okra.example")
    };
    DeliveryWorld::with_sender(clock, sender, config).await
}

/// Handles messages until `attempts` were made, [`MESSAGES`] at once.
async fn handle_until(world: &Arc<DeliveryWorld>, expected_attempts: usize) {
    let places = Arc::new(Semaphore::new(MESSAGES));
    let mut tasks = JoinSet::new();
    while world.attempt_count() < expected_attempts {
        for message in world.receive_messages().await {
            let place = Arc::clone(&places).acquire_owned().await.unwrap();
            let world = Arc::clone(world);
            tasks.spawn(async move {
                world.handle_message(message).await.unwrap();
                drop(place);
            });
        }
        while tasks.try_join_next().is_some() {}
        tokio::task::yield_now().await;
    }
}

/// Milliseconds from commit to acknowledgement: the middle, and what one in a hundred exceeds.
fn latency_percentiles(attempts: &[AttemptReport]) -> (i128, i128) {
    let mut all: Vec<i128> = attempts
        .iter()
        .filter(|attempt| attempt.outcome.is_ok())
        .map(|attempt| {
            attempt
                .answered_at
                .duration_since(attempt.committed_at)
                .as_millis()
        })
        .collect();
    all.sort_unstable();
    (all[all.len() / 2], all[all.len() * 99 / 100])
}

/// Seconds of CPU that this process used, in user mode and in the kernel.
fn used_cpu_seconds() -> f64 {
    const TICKS_PER_S: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks: f64 = [11, 12]
        .iter()
        .map(|n| fields[*n].parse::<f64>().unwrap())
        .sum();
    ticks / TICKS_PER_S
}

/// From here on [`peak_mb`] is counted: what an earlier part needed is not this one's.
fn reset_peak_memory() {
    const PEAK_OF_RESIDENT: &str = "5";
    std::fs::write("/proc/self/clear_refs", PEAK_OF_RESIDENT).unwrap();
}

/// Megabytes that were resident at most.
fn peak_memory_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<f64>()
        .unwrap()
        / 1024.0
}

/// As fast as it goes: everything is committed, then delivered.
async fn measure_throughput() {
    const DISPATCHES: u64 = 1_000;
    let world = Arc::new(start_world(Clock::system(), 1_000_000).await);
    let taker = CountingReceiver::new(Duration::ZERO).await;
    world.add_endpoint_at(&taker.url).await;
    let mut dispatches = Vec::new();
    for _ in 0..DISPATCHES {
        dispatches.push(world.commit_balances(EVENTS).await);
    }
    world.queues.send_dispatches(&dispatches, 0).await.unwrap();
    let events = usize::try_from(DISPATCHES * EVENTS).unwrap();
    let (started, cpu) = (Instant::now(), used_cpu_seconds());
    handle_until(&world, events).await;
    let (took, cpu) = (started.elapsed().as_secs_f64(), used_cpu_seconds() - cpu);
    let (p50, p99) = latency_percentiles(&world.all_attempts());
    let taken = taker.attempts_by_event.lock().unwrap();
    assert_eq!((taken.len(), taken.values().max()), (events, Some(&1)));
    println!(
        "| {events} events at once | {:.0}/s | {p50} ms, most of it waiting | {p99} ms | {:.3} | {:.0} MB |",
        events as f64 / took,
        cpu * 1000.0 / events as f64,
        peak_memory_mb()
    );
}

/// A thousand events a second, evenly: how long each takes.
async fn measure_steady_latency() {
    const PER_S: u64 = 1_000;
    const SECONDS: u64 = 10;
    let world = Arc::new(start_world(Clock::system(), 1_000_000).await);
    let taker = CountingReceiver::new(Duration::ZERO).await;
    world.add_endpoint_at(&taker.url).await;
    let events = PER_S * SECONDS;
    let committer = {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_micros(1_000_000 * 10 / PER_S));
            for _ in 0..events / 10 {
                beat.tick().await;
                let dispatch = world.commit_balances(10).await;
                world.queues.send_dispatches(&[dispatch], 0).await.unwrap();
            }
        })
    };
    let cpu = used_cpu_seconds();
    handle_until(&world, usize::try_from(events).unwrap()).await;
    committer.await.unwrap();
    let (p50, p99) = latency_percentiles(&world.all_attempts());
    println!(
        "| evenly for {SECONDS} s | {PER_S}/s | {p50} ms | {p99} ms | {:.3}, commits included | {:.0} MB |",
        (used_cpu_seconds() - cpu) * 1000.0 / events as f64,
        peak_memory_mb()
    );
}

/// Fifty receivers that answer in 20 ms, or 49 and one that hangs for 15 s: what the 49 see of it.
async fn measure_noisy_neighbour() {
    const DISPATCHES: usize = 200;
    let mut p99s = Vec::new();
    for hanging in [false, true] {
        let world = Arc::new(start_world(Clock::system(), 1_000_000).await);
        for n in 0..ENDPOINTS {
            let hangs = hanging && n == 0;
            let pause = if hangs { 60_000 } else { 20 };
            let taker = CountingReceiver::new(Duration::from_millis(pause)).await;
            let host = if n == 0 { "/first" } else { "/other" };
            world
                .add_endpoint_at(&format!("{}{}", taker.url.trim_end_matches('/'), host))
                .await;
        }
        let first = world.store.list_endpoints(support::APP).await.unwrap();
        let first = first
            .iter()
            .find(|it| it.url.ends_with("/first"))
            .unwrap()
            .id;
        let committer = {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let mut beat = tokio::time::interval(Duration::from_millis(100));
                for _ in 0..DISPATCHES {
                    beat.tick().await;
                    let dispatch = world.commit_balances(1).await;
                    world.queues.send_dispatches(&[dispatch], 0).await.unwrap();
                }
            })
        };
        let others = |world: &DeliveryWorld| -> Vec<AttemptReport> {
            let all = world.all_attempts();
            all.into_iter().filter(|it| it.endpoint != first).collect()
        };
        // As Lambda does: a message that hangs holds up nobody who waits for another.
        let mut tasks = JoinSet::new();
        let enough = DISPATCHES * (ENDPOINTS - 1);
        let mut looked = Instant::now();
        loop {
            for message in world.receive_messages().await {
                let world = Arc::clone(&world);
                tasks.spawn(async move { world.handle_message(message).await.unwrap() });
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
            if world.attempt_count() >= enough && looked.elapsed() > Duration::from_millis(500) {
                looked = Instant::now();
                if others(&world).len() >= enough {
                    break;
                }
            }
        }
        committer.await.unwrap();
        let (p50, p99) = latency_percentiles(&others(&world));
        p99s.push(p99);
        let beside = if hanging {
            "one that hangs 15 s"
        } else {
            "one like them"
        };
        let ratio = p99 as f64 / p99s[0] as f64;
        println!(
            "| {} receivers of 20 ms beside {beside} | 10/s each | {p50} ms | {p99} ms: {ratio:.2} times | | |",
            ENDPOINTS - 1,
        );
    }
}

/// Ten minutes of 503 on a driven clock, over real sockets: every event comes once.
async fn measure_outage() {
    const PER_S: u64 = 10;
    const SECONDS: u64 = 600;
    let clock = Clock::manual_at(START.parse().unwrap());
    let world = start_world(clock, 200).await;
    let taker = CountingReceiver::new(Duration::ZERO).await;
    world.add_endpoint_at(&taker.url).await;
    taker.status.store(503, Ordering::Relaxed);
    let second = SignedDuration::from_secs(1);
    let cpu = used_cpu_seconds();
    for _ in 0..SECONDS {
        let dispatch = world.commit_balances(PER_S).await;
        world.queues.send_dispatches(&[dispatch], 0).await.unwrap();
        world.pass_time(second, second).await;
    }
    let futile = world.attempt_count();
    taker.status.store(200, Ordering::Relaxed);
    let events = usize::try_from(PER_S * SECONDS).unwrap();
    let mut seconds = 0;
    while taker.attempts_by_event.lock().unwrap().len() < events {
        world.pass_time(second, second).await;
        seconds += 1;
        assert!(seconds < 3600);
    }
    let taken = taker.attempts_by_event.lock().unwrap();
    assert_eq!((taken.len(), taken.values().max()), (events, Some(&1)));
    println!(
        "| {SECONDS} s of 503: {events} events, {futile} attempts in vain, each came once by id | \
         200/s | | all {seconds} s after its end | {:.3} | {:.0} MB |",
        (used_cpu_seconds() - cpu) * 1000.0 / events as f64,
        peak_memory_mb()
    );
}

fn main() {
    let parts: Vec<String> = std::env::args()
        .skip(1)
        .filter(|it| !it.starts_with('-'))
        .collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|it| it == part);
    let run = |part: &str, work: std::pin::Pin<Box<dyn Future<Output = ()>>>| {
        if wanted(part) {
            reset_peak_memory();
            let runtime = runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(work);
        }
    };
    println!(
        "| | events | p50, commit to acknowledgement | p99 | CPU s per 1,000 | resident at most |"
    );
    println!("|---|---|---|---|---|---|");
    run("speed", Box::pin(measure_throughput()));
    run("steady", Box::pin(measure_steady_latency()));
    run("noise", Box::pin(measure_noisy_neighbour()));
    run("outage", Box::pin(measure_outage()));
}
