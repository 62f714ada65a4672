//! The command itself: loads the file, plays it, and prints the verdict.

use std::{fs, time::Instant};

use anyhow::{Context, bail, ensure};
use data_encoding::HEXLOWER;
use jiff::{ToSpan, civil::Date};
use okra_core::model::bank::BankStandard;
use okra_sandbox::{SandboxOptions, pkdd};
use sha2::{Digest, Sha256};

use super::{
    inject::Injector,
    progress::ReplayProgress,
    report::ReplayReport,
    run::ReplayRun,
    setup::{ReplayFile, open_or_resume},
    verdict::{ChangeErrors, ExpectedAccounts, ReplayVerdict, judge_replay},
};
use crate::{
    cli::{GlobalOptions, ReplayArgs},
    output::print_line,
};

/// Most problems that are listed.
const MAX_LISTED_PROBLEMS: usize = 20;

/// Runs a replay to its verdict.
pub(crate) async fn run_replay(options: &GlobalOptions, args: &ReplayArgs) -> anyhow::Result<()> {
    // The file, and what follows from it.
    let bytes =
        fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let file_digest = HEXLOWER.encode(&Sha256::digest(&bytes));
    let LoadedRows {
        rows,
        skipped_rows,
        stop_reason,
    } = load_rows(&bytes, args.skip_bad_rows)?;
    report_stop(&rows, stop_reason.as_deref())?;
    let mut expected = ExpectedAccounts::from_rows(&rows);
    let injector = args.inject.map(|seed| Injector::new(seed, &rows));
    let first_day = rows.iter().map(|row| row.date).min();
    let first_day = first_day.context("the file has no rows")?;
    let last_day = last_day_to_play(&rows, first_day, args.days)?;

    // The days, and the webhooks that are still under way after the last.
    let bank_options = SandboxOptions {
        public_url: Some(format!("http://127.0.0.1:{}", options.port + 1)),
        ..SandboxOptions::default()
    };
    let bank = pkdd::ReplayBank::load_rows(rows, BankStandard::Obie31, bank_options)?;
    let file = ReplayFile {
        digest: file_digest,
        first_day,
    };
    let mut replay = open_or_resume(options, args, &file, bank, injector).await?;
    let started = Instant::now();
    replay.play_days(last_day).await?;
    replay.drain_webhooks().await?;
    let elapsed = started.elapsed();
    let finished = ReplayProgress {
        file_digest: file.digest,
        injection_seed: args.inject,
        next_day: last_day.tomorrow()?,
        is_finished: true,
    };
    let store = &replay.system.environment.store;
    finished.save(store).await?;

    // The verdict.
    let verdict = judge_run(&replay, &mut expected, last_day).await?;
    let report = ReplayReport {
        accounts: replay.records.len(),
        refreshes: &replay.refresh_totals,
        feed_entries: verdict.feed_entries,
        latencies: &replay.latencies,
        receiver: &replay.receiver,
        capacity: store.capacity_used(),
        elapsed,
        skipped_rows: &skipped_rows,
    };
    print_line(&report.to_string());
    print_verdict(&replay, &verdict)?;
    match stop_reason {
        Some(reason) => bail!("{reason}"),
        None => Ok(()),
    }
}

struct LoadedRows {
    rows: Vec<pkdd::PkddRow>,
    /// What was wrong with each row that was skipped.
    skipped_rows: Vec<String>,
    /// Why reading stopped before the end of the file.
    stop_reason: Option<String>,
}

fn load_rows(bytes: &[u8], skip_bad_rows: bool) -> anyhow::Result<LoadedRows> {
    let mut loaded = LoadedRows {
        rows: Vec::new(),
        skipped_rows: Vec::new(),
        stop_reason: None,
    };
    for row in pkdd::PkddReader::new(bytes)? {
        match row {
            Ok(row) => loaded.rows.push(row),
            Err(error) if skip_bad_rows => loaded.skipped_rows.push(error.to_string()),
            Err(error) => {
                loaded.stop_reason = Some(error.to_string());
                break;
            }
        }
    }
    Ok(loaded)
}

async fn judge_run(
    replay: &ReplayRun,
    expected: &mut ExpectedAccounts,
    last_day: Date,
) -> anyhow::Result<ReplayVerdict> {
    if let Some(injector) = &replay.injector {
        expected.apply_injected_changes(injector);
    }
    judge_replay(
        &replay.system.environment.store,
        &replay.records,
        expected,
        last_day,
        replay.receiver.received_events(),
        replay.injector.as_ref(),
    )
    .await
}

/// Prints why reading stopped early, where it did; an error where there is nothing to play.
fn report_stop(rows: &[pkdd::PkddRow], stop_reason: Option<&str>) -> anyhow::Result<()> {
    ensure!(
        !rows.is_empty(),
        "{}",
        stop_reason.unwrap_or("the file has no rows")
    );
    if let Some(reason) = stop_reason {
        print_line(&format!(
            "{reason}: playing the {} rows before it (--skip-bad-rows skips such rows)",
            rows.len()
        ));
    }
    Ok(())
}

/// The last day of the file, or the last of as many days as are to be played.
fn last_day_to_play(
    rows: &[pkdd::PkddRow],
    first_day: Date,
    max_days: Option<u32>,
) -> anyhow::Result<Date> {
    let last_day = rows.iter().map(|row| row.date).max();
    let last_day = last_day.context("the file has no rows")?;
    Ok(match max_days {
        // One day is played at least. Saturates: the end of time is after every file.
        Some(days) => first_day
            .saturating_add(i64::from(days.saturating_sub(1)).days())
            .min(last_day),
        None => last_day,
    })
}

fn print_verdict(replay: &ReplayRun, verdict: &ReplayVerdict) -> anyhow::Result<()> {
    if let (Some(injector), Some(errors)) = (&replay.injector, verdict.change_errors) {
        let ChangeErrors { missed, unexpected } = errors;
        print_line(&format!("injected             {}", injector.counts));
        print_line(&format!(
            "changes              {missed} missed, {unexpected} false"
        ));
    }
    if !verdict.problems.is_empty() {
        for problem in verdict.problems.iter().take(MAX_LISTED_PROBLEMS) {
            print_line(&format!("  wrong: {problem}"));
        }
        bail!("the verdict: {} things are wrong", verdict.problems.len());
    }
    print_line(
        "Verdict: the stored state equals the file, and every transaction was announced exactly once.",
    );
    Ok(())
}
