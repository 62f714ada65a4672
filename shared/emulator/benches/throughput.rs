//! Messages through a queue and back, ten at a time, through the SDK: in memory and in a folder.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on panics")]

use aws_sdk_sqs::{
    Client,
    types::{DeleteMessageBatchRequestEntry, SendMessageBatchRequestEntry},
};
use divan::{Bencher, counter::ItemsCount};
use okra_aws::{AwsConfig, Clock};
use okra_emulator::{Emulator, QueueSpec};

/// Messages that wait in the queue all the time.
const BACKLOG: [usize; 2] = [0, 10_000];

/// Batches of ten in a run.
const BATCHES_PER_RUN: usize = 100;

fn main() {
    divan::main();
}

#[divan::bench(args = BACKLOG)]
fn memory(bencher: Bencher<'_, '_>, backlog: usize) {
    run_bench(
        bencher,
        &Emulator::in_memory(Clock::system()).unwrap(),
        backlog,
    );
}

#[divan::bench(args = BACKLOG)]
fn folder(bencher: Bencher<'_, '_>, backlog: usize) {
    let folder = tempfile::tempdir().unwrap();
    let emulator = Emulator::open_folder(folder.path(), Clock::system()).unwrap();
    run_bench(bencher, &emulator, backlog);
}

fn run_bench(bencher: Bencher<'_, '_>, emulator: &Emulator, backlog: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    emulator.create_queues(&[QueueSpec::new("queue")]).unwrap();
    let client = AwsConfig::with_http_client(emulator.http_client()).sqs_client();
    let url = emulator.queue_url("queue");
    runtime.block_on(async {
        for _ in 0..backlog / 10 {
            send_batch(&client, &url).await;
        }
    });
    bencher
        .counter(ItemsCount::new(BATCHES_PER_RUN * 10))
        .bench_local(|| {
            runtime.block_on(async {
                for _ in 0..BATCHES_PER_RUN {
                    send_batch(&client, &url).await;
                    receive_and_delete(&client, &url).await;
                }
            });
        });
}

async fn send_batch(client: &Client, url: &str) {
    let entries = (0..10).map(|n| {
        SendMessageBatchRequestEntry::builder()
            .id(n.to_string())
            .message_body("x".repeat(200))
            .message_group_id(format!("group-{n}"))
            .build()
            .unwrap()
    });
    let batch = client.send_message_batch().queue_url(url);
    batch
        .set_entries(Some(entries.collect()))
        .send()
        .await
        .unwrap();
}

async fn receive_and_delete(client: &Client, url: &str) {
    let receive = client.receive_message().queue_url(url);
    let received = receive.max_number_of_messages(10).send().await.unwrap();
    let entries = received.messages().iter().zip(0..).map(|(message, n)| {
        DeleteMessageBatchRequestEntry::builder()
            .id(n.to_string())
            .receipt_handle(message.receipt_handle().unwrap_or_default())
            .build()
            .unwrap()
    });
    let batch = client.delete_message_batch().queue_url(url);
    batch
        .set_entries(Some(entries.collect()))
        .send()
        .await
        .unwrap();
}
