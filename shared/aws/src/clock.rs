//! The clock of the shell: [`Clock`] is the only reader of the system clock, so that tests and simulations can set it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use jiff::Timestamp;

/// Where the shell gets its time from. Clones share one clock.
#[derive(Clone, Debug)]
pub struct Clock(ClockSource);

#[derive(Clone, Debug)]
enum ClockSource {
    System,
    /// Milliseconds since 1970.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The system's clock.
    pub const fn system() -> Self {
        Self(ClockSource::System)
    }

    /// A clock that stands at `at` until it is [set](Self::set_time); for tests and simulations.
    pub fn manual_at(at: Timestamp) -> Self {
        Self(ClockSource::Manual(Arc::new(AtomicI64::new(
            at.as_millisecond(),
        ))))
    }

    /// Sets a manual clock and all its clones; does nothing to the system's.
    pub fn set_time(&self, at: Timestamp) {
        if let ClockSource::Manual(millis) = &self.0 {
            millis.store(at.as_millisecond(), Ordering::SeqCst);
        }
    }

    /// The time, cut to milliseconds: the precision of the wire and of the table, so that a time
    /// survives being stored.
    pub fn now(&self) -> Timestamp {
        let millis = match &self.0 {
            ClockSource::System => system_now().as_millisecond(),
            ClockSource::Manual(millis) => millis.load(Ordering::SeqCst),
        };
        let now = Timestamp::from_millisecond(millis);
        debug_assert!(now.is_ok(), "the milliseconds came from a timestamp");
        now.unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the system clock"
)]
fn system_now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_set_and_with_all_its_clones() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let clock = Clock::manual_at(at("2026-01-01T00:00:00.123456Z"));
        let clone = clock.clone();
        assert_eq!(clone.now(), at("2026-01-01T00:00:00.123Z"));
        clock.set_time(at("2026-01-02T00:00:00Z"));
        assert_eq!(clone.now(), at("2026-01-02T00:00:00Z"));
    }

    #[test]
    fn the_system_clock_is_cut_to_milliseconds() {
        let clock = Clock::system();
        clock.set_time(Timestamp::UNIX_EPOCH);
        let now = clock.now();
        assert!(now > Timestamp::from_second(1_700_000_000).unwrap());
        assert_eq!(now.subsec_nanosecond() % 1_000_000, 0);
    }
}
