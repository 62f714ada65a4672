//! One slot of 10^7 hourly records: read from the table, planned, and written as messages.
//!
//! ```text
//! cargo run --profile sim -p okra-sim --example slot [-- RECORDS]
//! ```
#![expect(clippy::print_stdout, reason = "a report")]

use std::{fs, future::Future, io::Write as _};

use aws_smithy_runtime_api::client::http::{SharedHttpClient, http_client_fn};
use okra_aws::AwsConfig;
use okra_core::{
    model::{
        ids::{AppId, BankId, CustomerId, RecordId, Seq},
        interval::{DueKey, Interval, Slot, Tick},
        snapshot::ByProduct,
    },
    schedule::plan::{BankRate, DueEntry, plan_tick},
    sync::{decide::Watermark, digest::Digest},
};
use okra_queue::FetchMessage;
use okra_sim::TableService;
use okra_store::{Consent, NewRecord, RecordHead, RecordStatus, Store};

/// A sixtieth of 10^7.
const SLOT_RECORDS: usize = 166_667;

const BANK_COUNT: u8 = 10;

/// Clock ticks of `/proc/self/stat` in a second (`sysconf(_SC_CLK_TCK)` of Linux).
const TICKS_PER_S: f64 = 100.0;

/// Seconds of CPU that the process has had.
fn process_cpu_seconds() -> std::io::Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|it| it.parse::<f64>().ok());
    Ok((ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / TICKS_PER_S)
}

/// Megabytes that are resident, or were at most since the peak was forgotten.
fn process_megabytes(name: &str) -> std::io::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(name));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    Ok(kilobytes.unwrap_or(0.0) / 1024.0)
}

/// Runs a part, and says what it took: CPU, and memory beyond what was there before.
async fn measure_part<T>(name: &str, part: impl Future<Output = T>) -> std::io::Result<T> {
    // Forgets the peak (proc(5), clear_refs).
    fs::OpenOptions::new()
        .write(true)
        .open("/proc/self/clear_refs")?
        .write_all(b"5")?;
    let (before_mb, before_s) = (process_megabytes("VmRSS")?, process_cpu_seconds()?);
    let done = part.await;
    let (cpu_s, more_mb) = (
        process_cpu_seconds()? - before_s,
        process_megabytes("VmHWM")? - before_mb,
    );
    println!("{name:<44} {cpu_s:.2} s CPU, {more_mb:.0} MB more at most");
    Ok(done)
}

fn slot_tick() -> Tick {
    Tick {
        interval: Interval::OneHour,
        at: jiff::Timestamp::from_second(1_800_000_000).unwrap_or_default(),
    }
}

/// Records of the tick's slot.
fn slot_records(count: usize) -> impl Iterator<Item = NewRecord> {
    let ids = (0_u32..).map(|n| {
        let record = RecordId::derive(&[&n.to_be_bytes()]);
        let bank = BankId::from_bytes([u8::try_from(n % u32::from(BANK_COUNT)).unwrap_or(0); 12]);
        DueKey {
            interval: Interval::OneHour,
            bank,
            record,
        }
    });
    let due = ids.filter(|key| key.slot() == slot_tick().slot());
    due.take(count).map(|key| {
        let digest = |n: u8| Watermark {
            digest: Some(Digest([n; 16])),
            seq: Seq(1_000_000),
        };
        let marks = ByProduct {
            balance: Some(digest(1)),
            transactions: Some(digest(2)),
        };
        let interval = Some(Interval::OneHour);
        NewRecord {
            head: RecordHead {
                record: key.record,
                app: AppId::from_bytes([1; 12]),
                customer: CustomerId::derive(&[key.record.as_bytes()]),
                bank: key.bank,
                seq: Seq(1_000_000),
                watermarks: marks,
                state_seq: Seq(1_000_000),
                schedule: ByProduct {
                    balance: interval,
                    transactions: interval,
                },
                status: RecordStatus::Active,
                first_fetch_done: true,
                transaction_count: Some(0),
                options: serde_json::json!({}),
                meta: serde_json::Map::new(),
                backfill_months: 1,
                created_at: slot_tick().at,
                last_changed_at: slot_tick().at,
            },
            consent: Consent {
                record: key.record,
                app: None,
                bank: key.bank,
                sealed_secret: vec![],
                accounts: vec![],
                consent_clock: None,
            },
            accounts: vec![],
            due_entries: vec![DueEntry {
                key,
                watermarks: marks,
                state_seq: Some(Seq(1_000_000)),
                failure_state: None,
            }],
            feed_entries: vec![],
        }
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count = std::env::args().nth(1).and_then(|it| it.parse().ok());
    let count = count.unwrap_or(SLOT_RECORDS);
    let connector = TableService::new().connector();
    let client = SharedHttpClient::new(http_client_fn(move |_, _| connector.clone()));
    let store = Store::new(
        AwsConfig::with_http_client(client).dynamodb_client(),
        "okra",
    );
    for record in slot_records(count) {
        store.create_record(&record).await?;
    }

    let (interval, slot): (Interval, Slot) = (slot_tick().interval, slot_tick().slot());
    let read = measure_part("read, with the simulated table's part", async {
        store.list_due_entries(interval, slot).await
    });
    let due = read.await??;
    assert_eq!(due.len(), count);
    // As fast as the slot needs: nothing is left out.
    let rate = u32::try_from(count)?;
    let planned = measure_part("planned", async {
        plan_tick(slot_tick(), due, |_| BankRate::from_per_second(rate))
    });
    let plan = planned.await?;
    let written = measure_part("written as messages", async {
        let messages = plan.chunks.iter().map(|chunk| {
            let message = FetchMessage::ChunkV1(chunk.clone());
            serde_json::to_string(&message)
        });
        messages.collect::<Result<Vec<_>, _>>()
    });
    let messages = written.await??;
    let bytes: usize = messages.iter().map(String::len).sum();
    println!(
        "{count} records of {BANK_COUNT} banks: {} chunks, {} KB, {} left out",
        messages.len(),
        bytes / 1024,
        plan.unreachable_records
    );
    Ok(())
}
