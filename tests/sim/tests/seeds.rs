//! Worlds by their seeds: the laws hold in every one.
//!
//! ```text
//! OKRA_SIM_SEEDS=10000 cargo test --profile sim -p okra-sim --test seeds
//! OKRA_SIM_SEED=123 cargo test --profile sim -p okra-sim --test seeds -- --nocapture
//! ```
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use okra_sim::{WorldReport, run_world};

/// A third of a world's time is the allocator's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seeds that failed once, each with what it found; they run first, and one that fails is added.
const CORPUS_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus.txt");

/// Worlds that are run where nobody says how many: what a debug build does in seconds.
const DEFAULT_WORLD_COUNT: u64 = 20;

/// Failing worlds that are told of; more are counted.
const MAX_REPORTED_WORLDS: usize = 5;

fn read_env_number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    assert!(number.is_ok(), "{name} is no number");
    number.ok()
}

fn read_corpus_seeds() -> Vec<u64> {
    let text = std::fs::read_to_string(CORPUS_PATH).unwrap();
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap().trim());
    lines
        .filter(|line| !line.is_empty())
        .map(|line| line.parse().unwrap())
        .collect()
}

/// Keeps a seed that failed for the next run, and for whoever mends what it found.
fn append_to_corpus(reports: &[WorldReport]) {
    let known = read_corpus_seeds();
    let new = reports
        .iter()
        .filter(|report| !known.contains(&report.seed));
    let lines: String = new
        .map(|report| format!("{} # {}\n", report.seed, report.violations[0]))
        .collect();
    let mut file = std::fs::OpenOptions::new().append(true).open(CORPUS_PATH);
    // A folder that cannot be written is no reason to say less.
    if let Ok(file) = &mut file {
        file.write_all(lines.as_bytes()).unwrap();
    }
}

fn run_world_catching_panics(seed: u64) -> WorldReport {
    let ran = catch_unwind(AssertUnwindSafe(|| run_world(seed, false)));
    ran.unwrap_or_else(|_| WorldReport {
        seed,
        violations: vec!["it panicked".to_owned()],
        trace: Vec::new(),
        counts: BTreeMap::new(),
    })
}

#[test]
fn the_laws_hold_in_every_world() {
    if let Some(seed) = read_env_number("OKRA_SIM_SEED") {
        let report = run_world(seed, true);
        for line in &report.trace {
            println!("{line}");
        }
        assert!(report.violations.is_empty(), "{:#?}", report.violations);
        return;
    }
    let from = read_env_number("OKRA_SIM_FROM").unwrap_or(0);
    let count = read_env_number("OKRA_SIM_SEEDS").unwrap_or(DEFAULT_WORLD_COUNT);
    let mut seeds = read_corpus_seeds();
    seeds.extend(from..from + count);
    let next = AtomicUsize::new(0);
    let (failed, counts) = (Mutex::new(Vec::new()), Mutex::new(BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(1, Into::into);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = run_world_catching_panics(seed);
                    let mut sum = counts.lock().unwrap();
                    for (what, count) in &report.counts {
                        *sum.entry(*what).or_insert(0_u64) += count;
                    }
                    if !report.violations.is_empty() {
                        failed.lock().unwrap().push(report);
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    println!("{} worlds: {:?}", seeds.len(), counts.into_inner().unwrap());
    failed.sort_by_key(|report| report.seed);
    let (all, mut text) = (failed.len(), String::new());
    failed.truncate(MAX_REPORTED_WORLDS);
    append_to_corpus(&failed);
    for WorldReport {
        seed,
        violations: broken,
        ..
    } in &failed
    {
        let broken = broken.join("\n    ");
        writeln!(text, "\nseed {seed}:\n    {broken}").unwrap();
        writeln!(
            text,
            "    alone: OKRA_SIM_SEED={seed} cargo test --profile sim -p okra-sim --test seeds -- --nocapture"
        )
        .unwrap();
    }
    assert!(
        failed.is_empty(),
        "{all} of {} worlds break a law; the first are in tests/sim/corpus.txt now:\n{text}",
        seeds.len()
    );
}

#[test]
fn a_seed_tells_the_same_story_byte_by_byte() {
    for seed in 0..8 {
        // One alone, one after another world of its thread, at the same time.
        let (first, second) = std::thread::scope(|scope| {
            let alone = scope.spawn(|| run_world(seed, true));
            let after = scope.spawn(|| {
                run_world(seed + 1, false);
                run_world(seed, true)
            });
            (alone.join().unwrap(), after.join().unwrap())
        });
        let mut lines = first.trace.iter().zip(&second.trace).enumerate();
        if let Some((at, (a, b))) = lines.find(|(_, (a, b))| a != b) {
            panic!("seed {seed}, line {at}:\n{a}\n{b}");
        }
        assert_eq!(first.trace.len(), second.trace.len(), "seed {seed}");
        assert!(first.trace.len() > 100, "seed {seed} has no story");
        assert_eq!(first.violations, second.violations, "seed {seed}");
    }
}

#[test]
fn seeds_tell_different_stories() {
    assert_ne!(run_world(1, true).trace, run_world(2, true).trace);
}
