//! Logs of the functions: one JSON object a line, as CloudWatch reads them.

use tracing_subscriber::filter::LevelFilter;

/// Writes logs to standard output as JSON; `RUST_LOG` is the level, `info` by default. A filter by
/// module would link a regular expression engine, a tenth of a function's size.
pub fn log_json() {
    let level = std::env::var("RUST_LOG")
        .ok()
        .and_then(|level| level.parse().ok());
    let level = level.unwrap_or(LevelFilter::INFO);
    // A second call would be a second subscriber; the first one stays.
    let _ = tracing_subscriber::fmt()
        .json()
        .with_max_level(level)
        .with_target(false)
        .try_init();
}
