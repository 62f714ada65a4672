//! Reads of `balance/getByCustomer` over loopback HTTP, at a fixed rate. Budget: 2,000 a second on 2 cores
//! with the 99th percentile under 20 ms, and at most one read unit each. `cargo bench -p okra-api`
#![expect(clippy::unwrap_used, reason = "a benchmark")]

#[path = "../tests/api/world.rs"]
#[expect(dead_code, reason = "the tests' world does more than is measured here")]
mod world;

use std::{net::SocketAddr, time::Duration};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

use self::world::{APP_KEY, ApiWorld};

/// Customers with two accounts each, who are read in turn.
const CUSTOMERS: usize = 100;

/// Connections that are kept, each with one call at a time.
const CONNECTIONS: u32 = 32;

/// Calls a second, over all connections.
const CALLS_PER_SECOND: u32 = 2000;

/// How long they are made.
const RUN_DURATION: Duration = Duration::from_secs(10);

/// Makes one call on a kept connection; the length of the answer's body.
async fn send_call(stream: &mut TcpStream, request: &[u8], buffer: &mut Vec<u8>) -> usize {
    stream.write_all(request).await.unwrap();
    buffer.clear();
    loop {
        let read = stream.read_buf(buffer).await.unwrap();
        assert!(read > 0, "the server hung up");
        let text = String::from_utf8_lossy(buffer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        assert!(head.starts_with("HTTP/1.1 200"), "{head}\n{body}");
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            let is_length = name.eq_ignore_ascii_case("content-length");
            is_length.then(|| value.parse::<usize>().ok())?
        });
        if body.len() == length.unwrap() {
            return body.len();
        }
    }
}

/// Calls at its share of the rate; latencies from the moment each call was due, so that a stall counts
/// for every call that it delays.
async fn run_load(
    address: SocketAddr,
    requests: Vec<Vec<u8>>,
    first: Instant,
) -> (Vec<Duration>, usize) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let every = Duration::from_secs(1) * CONNECTIONS / CALLS_PER_SECOND;
    let (mut latencies, mut bytes, mut buffer) = (Vec::new(), 0, Vec::with_capacity(16 * 1024));
    let mut due = first;
    for request in requests.iter().cycle() {
        if due.duration_since(first) >= RUN_DURATION {
            break;
        }
        tokio::time::sleep_until(due).await;
        bytes += send_call(&mut stream, request, &mut buffer).await;
        latencies.push(due.elapsed());
        due += every;
    }
    (latencies, bytes)
}

#[expect(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark's report"
)]
fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let world = ApiWorld::new().await;
        let address = world.listen_locally().await;
        let mut requests = Vec::new();
        for _ in 0..CUSTOMERS {
            let linked = world
                .create_refreshed_with(json!({ "noOfAccount": 2 }))
                .await;
            let body = json!({ "customer": linked.customer_id() }).to_string();
            let length = body.len();
            let request = format!(
                "POST /v2/balance/getByCustomer HTTP/1.1\r\nHost: sync.example\r\n\
                 Authorization: Bearer {APP_KEY}\r\nContent-Type: application/json\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            );
            requests.push(request.into_bytes());
        }
        let before = world.environment.store.capacity_used();
        let first = Instant::now() + Duration::from_millis(100);
        let every = Duration::from_secs(1) / CALLS_PER_SECOND;
        let loads = (0..CONNECTIONS).map(|n| {
            let mut requests = requests.clone();
            requests.rotate_left(n as usize);
            tokio::spawn(run_load(address, requests, first + every * n))
        });
        let loads: Vec<_> = loads.collect();
        let (mut latencies, mut bytes) = (Vec::new(), 0);
        for load in loads {
            let (some, of_load) = load.await.unwrap();
            latencies.extend(some);
            bytes += of_load;
        }
        let elapsed = first.elapsed().as_secs_f64();
        let cost = world.environment.store.capacity_used() - before;
        latencies.sort_unstable();
        let at = |per_mille: usize| latencies[(latencies.len() - 1) * per_mille / 1000];
        println!(
            "reads                    {:.0} a second",
            latencies.len() as f64 / elapsed
        );
        for (name, per_mille) in [("p50", 500), ("p99", 990), ("p99.9", 999)] {
            println!("{name:<24} {:.2} ms", at(per_mille).as_secs_f64() * 1000.0);
        }
        println!(
            "bytes of an answer       {:.0}",
            bytes as f64 / latencies.len() as f64
        );
        println!(
            "read units for each      {:.3}",
            cost.read_units / latencies.len() as f64
        );
    });
}
