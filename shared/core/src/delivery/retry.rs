//! Retries: how an attempt to deliver an event ended, and when the next one is due.
//!
//! [`AttemptOutcome`] is the class of an attempt, [`schedule_retry`] the schedule. The rule: a delay is never shorter
//! than the receiver requested, within [`MAX_RETRY_AFTER_S`], and every outcome but success ends after a bounded number
//! of attempts.

use jiff::{Timestamp, fmt::rfc2822};
use serde::{Deserialize, Serialize};

/// How an attempt ended. The serde names are stored and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// 2xx: delivered. What the body has after the read limit does not matter.
    Ok,
    /// 3xx. Never followed: a client that follows turns the POST into a GET without a body, and the
    /// 200 it then gets looks like a delivery.
    Redirect,
    /// 410: the receiver requests never to be called again.
    Gone,
    /// 429, 502, 503, 504: the receiver, or a proxy in front of it, cannot take more now.
    Throttled,
    /// Every other status. A 404 is retried too: a receiver may respond so while it is deployed.
    Rejected,
    /// There was no complete response within the deadline.
    Timeout,
    /// There was no connection, or it broke before the response was complete.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The host name has no address.
    Dns,
    /// The URL leads to an address that must not be called. Nothing was sent.
    Blocked,
}

impl AttemptOutcome {
    /// The outcome of a response with this status.
    pub const fn from_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Ok,
            300..=399 => Self::Redirect,
            410 => Self::Gone,
            429 | 502 | 503 | 504 => Self::Throttled,
            _ => Self::Rejected,
        }
    }

    /// True where the event is delivered.
    pub const fn is_ok(self) -> bool {
        matches!(self, Self::Ok)
    }

    /// The stable name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Redirect => "redirect",
            Self::Gone => "gone",
            Self::Throttled => "throttled",
            Self::Rejected => "rejected",
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Dns => "dns",
            Self::Blocked => "blocked",
        }
    }

    /// Attempts that are made at most while they end so.
    const fn max_attempts(self) -> u32 {
        match self {
            Self::Ok | Self::Gone => 1,
            Self::Blocked => MAX_BLOCKED_ATTEMPTS,
            _ => MAX_ATTEMPTS,
        }
    }

    /// True where the receiver needs a pause.
    const fn is_overload(self) -> bool {
        matches!(self, Self::Throttled | Self::Timeout)
    }
}

impl std::fmt::Display for AttemptOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Seconds before each attempt, counted from the end of the one before: Standard Webhooks' schedule.
/// Its 75 h 35 min 5 s outlast a weekend.
const RETRY_SCHEDULE_S: [u32; 10] = [
    0,
    5,
    5 * MINUTE_S,
    30 * MINUTE_S,
    2 * HOUR_S,
    5 * HOUR_S,
    10 * HOUR_S,
    14 * HOUR_S,
    20 * HOUR_S,
    24 * HOUR_S,
];
const MINUTE_S: u32 = 60;
const HOUR_S: u32 = 60 * MINUTE_S;

/// Attempts at one delivery at most.
pub const MAX_ATTEMPTS: u32 = 10;
const _: () = assert!(RETRY_SCHEDULE_S.len() == MAX_ATTEMPTS as usize);

/// Attempts at an address that must not be called at most: its owner may correct a DNS record.
pub const MAX_BLOCKED_ATTEMPTS: u32 = 3;

/// Seconds of a `Retry-After` that are honoured at most.
pub const MAX_RETRY_AFTER_S: u32 = HOUR_S;

/// Seconds of a delay at least where the receiver is overloaded.
pub const MIN_OVERLOAD_DELAY_S: u32 = 60;

/// Seconds for which an event that fails blocks those that must not be delivered before it.
pub const HEAD_OF_LINE_MAX_S: i64 = 3600;

/// Attempts after which it does not any more.
pub const HEAD_OF_LINE_MAX_ATTEMPTS: u32 = 5;

/// Parts of a thousand by which a delay varies, either way.
const JITTER_PERMILLE: u64 = 200;

/// Where in its spread of 20 % either way a delay falls, so that deliveries that failed together do
/// not all come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Jitter(u16);

impl Jitter {
    /// No jitter.
    pub const NONE: Self = Self(500);

    /// From 0 (20 % sooner) over 500 (as scheduled) to 1000 (20 % later); more counts as 1000.
    pub const fn from_permille(permille: u16) -> Self {
        Self(if permille > 1000 { 1000 } else { permille })
    }

    /// The jitter that a random number stands for; every jitter is as likely as any other.
    pub const fn from_random(random: u32) -> Self {
        Self((random % 1001) as u16)
    }

    fn apply_to(self, delay_s: u32) -> u32 {
        let permille = 1000 - JITTER_PERMILLE + u64::from(self.0) * 2 * JITTER_PERMILLE / 1000;
        // The schedule is far from the limit.
        u32::try_from(u64::from(delay_s) * permille / 1000).unwrap_or(u32::MAX)
    }
}

/// What follows an attempt that did not deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    /// Try again so many seconds from now.
    After {
        /// Seconds.
        delay_s: u32,
    },
    /// Do not try again unless somebody requests it.
    Exhausted,
}

/// What follows attempt number `attempt` (from 1) that ended in `outcome`.
///
/// The delay is the schedule's, jittered; longer where the receiver requested it by `retry_after_s`, of which
/// [`MAX_RETRY_AFTER_S`] count, or is overloaded ([`MIN_OVERLOAD_DELAY_S`]); never shorter.
pub fn schedule_retry(
    attempt: u32,
    outcome: AttemptOutcome,
    retry_after_s: Option<u32>,
    jitter: Jitter,
) -> RetryDecision {
    let scheduled = RETRY_SCHEDULE_S.get(attempt as usize);
    let Some(&scheduled) = scheduled.filter(|_| attempt < outcome.max_attempts()) else {
        return RetryDecision::Exhausted;
    };
    let requested = retry_after_s.unwrap_or(0).min(MAX_RETRY_AFTER_S);
    let floor = if outcome.is_overload() {
        MIN_OVERLOAD_DELAY_S
    } else {
        0
    };
    RetryDecision::After {
        delay_s: jitter.apply_to(scheduled).max(requested).max(floor),
    }
}

/// True where an event that failed so often, was first attempted at `first_attempt_at` and is attempted again at
/// `next_attempt_at` still blocks those that must not be delivered before it.
pub fn blocks_head_of_line(
    attempts: u32,
    first_attempt_at: Timestamp,
    next_attempt_at: Timestamp,
) -> bool {
    attempts < HEAD_OF_LINE_MAX_ATTEMPTS
        && next_attempt_at.as_second() - first_attempt_at.as_second() <= HEAD_OF_LINE_MAX_S
}

/// Seconds that a `Retry-After` header requests to wait from `now`, as a number or as an HTTP date; at most
/// [`MAX_RETRY_AFTER_S`]. What is neither, negative or past is `None`.
pub fn parse_retry_after_s(header: &str, now: Timestamp) -> Option<u32> {
    parse_retry_after_within(header, now, MAX_RETRY_AFTER_S)
}

/// The same with another maximum, in seconds.
pub fn parse_retry_after_within(header: &str, now: Timestamp, max_s: u32) -> Option<u32> {
    let header = header.trim();
    let seconds = if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits that do not fit are more than any maximum.
        header.parse::<u32>().unwrap_or(u32::MAX)
    } else {
        let at = rfc2822::DateTimeParser::new()
            .parse_timestamp(header)
            .ok()?;
        let seconds = at.as_second().saturating_sub(now.as_second());
        u32::try_from(seconds.min(i64::from(max_s))).ok()?
    };
    (seconds > 0).then_some(seconds.min(max_s))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [AttemptOutcome; 10] = [
        AttemptOutcome::Ok,
        AttemptOutcome::Redirect,
        AttemptOutcome::Gone,
        AttemptOutcome::Throttled,
        AttemptOutcome::Rejected,
        AttemptOutcome::Timeout,
        AttemptOutcome::Connect,
        AttemptOutcome::Tls,
        AttemptOutcome::Dns,
        AttemptOutcome::Blocked,
    ];

    fn retry_delay(
        attempt: u32,
        outcome: AttemptOutcome,
        retry_after_s: Option<u32>,
        jitter: Jitter,
    ) -> Option<u32> {
        match schedule_retry(attempt, outcome, retry_after_s, jitter) {
            RetryDecision::After { delay_s } => Some(delay_s),
            RetryDecision::Exhausted => None,
        }
    }

    fn any_outcome() -> impl Strategy<Value = AttemptOutcome> {
        prop::sample::select(ALL.to_vec())
    }

    proptest! {
        #[test]
        fn a_delay_stays_within_its_bounds(
            attempt in 1..12_u32,
            outcome in any_outcome(),
            asked: Option<u32>,
            permille: u16,
        ) {
            let jitter = Jitter::from_permille(permille);
            let Some(delay) = retry_delay(attempt, outcome, asked, jitter) else {
                prop_assert!(attempt >= outcome.max_attempts());
                return Ok(());
            };
            prop_assert!(attempt < outcome.max_attempts());
            let base = RETRY_SCHEDULE_S[attempt as usize];
            let asked = asked.unwrap_or(0).min(MAX_RETRY_AFTER_S);
            let floor = if outcome.is_overload() { MIN_OVERLOAD_DELAY_S } else { 0 };
            prop_assert!(delay >= (base * 4 / 5).max(asked).max(floor));
            prop_assert!(delay <= (base * 6 / 5).max(asked).max(floor));
        }

        #[test]
        fn a_delay_never_shrinks_with_attempts_jitter_or_the_requested_wait(
            attempt in 1..12_u32,
            outcome in any_outcome(),
            asked in 0..10_000_u32,
            more in 0..10_000_u32,
            permille in 0..=1000_u16,
            later in 0..=1000_u16,
        ) {
            let at = |attempt, asked, permille| {
                retry_delay(attempt, outcome, Some(asked), Jitter::from_permille(permille)).unwrap_or(u32::MAX)
            };
            let delay = at(attempt, asked, permille);
            prop_assert!(at(attempt + 1, asked, permille) >= delay);
            prop_assert!(at(attempt, asked + more, permille) >= delay);
            prop_assert!(at(attempt, asked, permille.saturating_add(later)) >= delay);
        }

        #[test]
        fn every_retry_after_is_parsed_or_ignored(header in "\\PC*", second in 0..4_000_000_000_i64) {
            let asked = parse_retry_after_s(&header, Timestamp::from_second(second).unwrap());
            prop_assert!(asked.is_none_or(|asked| (1..=MAX_RETRY_AFTER_S).contains(&asked)));
        }
    }

    #[test]
    fn ten_attempts_take_three_days() {
        let mut total = 0;
        let mut attempts = 1;
        while let Some(delay) = retry_delay(attempts, AttemptOutcome::Rejected, None, Jitter::NONE)
        {
            total += delay;
            attempts += 1;
        }
        assert_eq!(attempts, MAX_ATTEMPTS);
        assert_eq!(total, 75 * HOUR_S + 35 * MINUTE_S + 5);
    }

    #[test]
    fn an_event_blocks_others_for_an_hour_or_five_attempts() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (attempts, next, expected) in [
            (1, 5, true),
            (1, HEAD_OF_LINE_MAX_S, true),
            (1, HEAD_OF_LINE_MAX_S + 1, false),
            (HEAD_OF_LINE_MAX_ATTEMPTS - 1, 1, true),
            (HEAD_OF_LINE_MAX_ATTEMPTS, 1, false),
        ] {
            let holds = blocks_head_of_line(attempts, at(0), at(next));
            assert_eq!(holds, expected, "{attempts} {next}");
        }
        // By the schedule it is the fourth failure after which no try falls within the hour.
        let (mut now, mut attempts) = (0, 1);
        while let Some(delay) = retry_delay(attempts, AttemptOutcome::Rejected, None, Jitter::NONE)
            && blocks_head_of_line(attempts, at(0), at(now + i64::from(delay)))
        {
            now += i64::from(delay);
            attempts += 1;
        }
        assert_eq!((attempts, now), (4, 35 * 60 + 5));
    }

    #[test]
    fn outcomes_that_end_a_delivery_are_not_retried() {
        for (outcome, attempts) in [
            (AttemptOutcome::Ok, 1),
            (AttemptOutcome::Gone, 1),
            (AttemptOutcome::Blocked, 3),
        ] {
            assert_eq!(
                schedule_retry(attempts, outcome, Some(5), Jitter::NONE),
                RetryDecision::Exhausted,
                "{outcome}"
            );
            if attempts > 1 {
                assert!(retry_delay(attempts - 1, outcome, None, Jitter::NONE).is_some());
            }
        }
        for attempt in [0, MAX_ATTEMPTS, u32::MAX] {
            let expected = (attempt == 0).then_some(0);
            assert_eq!(
                retry_delay(attempt, AttemptOutcome::Dns, None, Jitter::NONE),
                expected,
                "{attempt}"
            );
        }
    }

    #[test]
    fn the_receiver_can_request_a_wait() {
        let check = |attempt, outcome, asked, expected| {
            assert_eq!(
                retry_delay(attempt, outcome, asked, Jitter::NONE),
                Some(expected),
                "{attempt} {outcome} {asked:?}"
            );
        };
        check(1, AttemptOutcome::Rejected, None, 5);
        check(1, AttemptOutcome::Rejected, Some(3), 5);
        check(1, AttemptOutcome::Rejected, Some(40), 40);
        check(1, AttemptOutcome::Throttled, None, 60);
        check(1, AttemptOutcome::Timeout, None, 60);
        check(1, AttemptOutcome::Throttled, Some(90), 90);
        check(1, AttemptOutcome::Throttled, Some(1_000_000_000), 3600);
        check(4, AttemptOutcome::Throttled, Some(90), 7200);
    }

    #[test]
    fn statuses_have_their_outcome() {
        for (status, outcome) in [
            (200, AttemptOutcome::Ok),
            (204, AttemptOutcome::Ok),
            (299, AttemptOutcome::Ok),
            (101, AttemptOutcome::Rejected),
            (301, AttemptOutcome::Redirect),
            (307, AttemptOutcome::Redirect),
            (400, AttemptOutcome::Rejected),
            (404, AttemptOutcome::Rejected),
            (410, AttemptOutcome::Gone),
            (429, AttemptOutcome::Throttled),
            (500, AttemptOutcome::Rejected),
            (502, AttemptOutcome::Throttled),
            (503, AttemptOutcome::Throttled),
            (504, AttemptOutcome::Throttled),
            (599, AttemptOutcome::Rejected),
        ] {
            assert_eq!(AttemptOutcome::from_status(status), outcome, "{status}");
        }
    }

    #[test]
    fn retry_after_is_a_number_or_a_date() {
        let now: Timestamp = "1994-11-06T08:49:37Z".parse().unwrap();
        for (header, expected) in [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("0", None),
            ("-5", None),
            ("+5", None),
            ("1e9", None),
            ("99999999999999999999", Some(3600)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 23:00:00 GMT", Some(3600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:00:00 GMT", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(parse_retry_after_s(header, now), expected, "{header:?}");
        }
    }

    #[test]
    fn an_outcome_reads_the_same_everywhere() {
        for outcome in ALL {
            assert_eq!(
                serde_json::to_value(outcome).unwrap(),
                outcome.to_string().as_str()
            );
        }
    }
}
