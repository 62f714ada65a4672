//! Logs of the functions: one JSON object a line, as CloudWatch reads them.

use tracing_subscriber::filter::LevelFilter;

/// The finest level: below it the SDK logs whole requests and responses, and with them the data of
/// accounts.
const MAX_LOG_LEVEL: LevelFilter = LevelFilter::DEBUG;

/// Writes logs to standard output as JSON; `RUST_LOG` is the level, `info` by default and `debug` at
/// most. A filter by module would link a regular expression engine, a tenth of a function's size.
pub fn init_json_logging() {
    // A second call would be a second subscriber; the first one stays.
    let _ = tracing_subscriber::fmt()
        .json()
        .with_max_level(parse_log_level(std::env::var("RUST_LOG").ok().as_deref()))
        .with_target(false)
        .try_init();
}

fn parse_log_level(wanted: Option<&str>) -> LevelFilter {
    let parsed = wanted.and_then(|level| level.parse().ok());
    parsed.unwrap_or(LevelFilter::INFO).min(MAX_LOG_LEVEL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_level_shows_what_the_sdk_sends() {
        let check = |wanted, expected| assert_eq!(parse_log_level(wanted), expected, "{wanted:?}");
        check(None, LevelFilter::INFO);
        check(Some("chatty"), LevelFilter::INFO);
        check(Some("off"), LevelFilter::OFF);
        check(Some("warn"), LevelFilter::WARN);
        check(Some("debug"), LevelFilter::DEBUG);
        check(Some("trace"), LevelFilter::DEBUG);
    }
}
