//! The wait between repeated calls.

use std::time::Duration;

/// Before the first repetition; doubled for each further one.
const INITIAL_BACKOFF: Duration = Duration::from_millis(20);

/// Repetitions after which the wait is not doubled any more: it is 1.28 s then.
const MAX_DOUBLINGS: u32 = 6;

/// Waits before the repetition that follows this attempt, counted from 0.
pub(crate) async fn back_off(attempt: u32) {
    tokio::time::sleep(INITIAL_BACKOFF * 2_u32.pow(attempt.min(MAX_DOUBLINGS))).await;
}
