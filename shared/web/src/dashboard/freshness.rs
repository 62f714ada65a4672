//! How fresh records are.
//!
//! A refresh that finds nothing new writes nothing, so the time of the last refresh is stored nowhere. It follows from
//! the schedule: a record whose due entries know of no failure was refreshed in its last slot.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use okra_core::{
    model::{ids::RecordId, interval::DueKey},
    schedule::plan::DueEntry,
};
use okra_store::{RecordHead, RecordStatus};

use crate::{page_error::PageError, web_state::WebState};

/// Whether a record is as fresh as its interval promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Every product was refreshed in its last slot; the older of these instants.
    Fresh(Timestamp),
    /// A product could not be refreshed, or never was.
    Late,
}

/// The freshness of these records, without those that are unlinked.
pub(crate) async fn load_freshness(
    web: &WebState,
    heads: &[RecordHead],
    now: Timestamp,
) -> Result<HashMap<RecordId, Freshness>, PageError> {
    let active = heads
        .iter()
        .filter(|head| head.status == RecordStatus::Active);
    let keys: Vec<DueKey> = active.flat_map(RecordHead::due_keys).collect();
    let entries = web.services.store.load_due_entries(&keys).await?;
    let mut by_record: HashMap<RecordId, Vec<DueEntry>> = HashMap::new();
    for entry in entries {
        by_record.entry(entry.key.record).or_default().push(entry);
    }
    let linked = heads
        .iter()
        .filter(|head| head.status != RecordStatus::Invalid);
    Ok(linked
        .map(|head| {
            let entries = by_record.get(&head.record).map_or(&[][..], Vec::as_slice);
            (head.record, assess_freshness(head, entries, now))
        })
        .collect())
}

fn assess_freshness(head: &RecordHead, entries: &[DueEntry], now: Timestamp) -> Freshness {
    let due_keys = head.due_keys();
    let is_scheduled = !due_keys.is_empty() && due_keys.len() == entries.len();
    if head.status != RecordStatus::Active || !is_scheduled || !entries.iter().all(has_succeeded) {
        return Freshness::Late;
    }
    let oldest = due_keys
        .into_iter()
        .map(|key| last_due_at(key, now).max(head.created_at))
        .min();
    oldest.map_or(Freshness::Late, Freshness::Fresh)
}

/// True where every product of a due entry was fetched and none failed since.
fn has_succeeded(entry: &DueEntry) -> bool {
    let mut watermarks = entry.watermarks.iter();
    entry.failure_state.is_none() && watermarks.all(|(_, watermark)| watermark.digest.is_some())
}

/// When the last slot of a due entry was.
fn last_due_at(key: DueKey, now: Timestamp) -> Timestamp {
    let length = SignedDuration::from_secs(i64::from(key.interval.seconds()));
    next_due_at(key, now).checked_sub(length).unwrap_or(now)
}

/// When the next slot of a due entry is.
fn next_due_at(key: DueKey, now: Timestamp) -> Timestamp {
    let (length, slot) = (i64::from(key.interval.minutes()), i64::from(key.slot().0));
    let minute = now.as_second().div_euclid(60) + 1;
    let wait = (slot - minute).rem_euclid(length);
    Timestamp::from_second((minute + wait) * 60).unwrap_or(now)
}

/// Freshness over many records.
pub(crate) struct FreshnessSummary {
    pub(crate) fresh_count: usize,
    pub(crate) total_count: usize,
    /// The fresh record that was refreshed longest ago.
    pub(crate) oldest_fresh: Option<(RecordId, Timestamp)>,
}

impl FreshnessSummary {
    pub(crate) fn from_records(freshness: &HashMap<RecordId, Freshness>) -> Self {
        let times: Vec<(RecordId, Timestamp)> = freshness
            .iter()
            .filter_map(|(record, it)| match it {
                Freshness::Fresh(at) => Some((*record, *at)),
                Freshness::Late => None,
            })
            .collect();
        Self {
            fresh_count: times.len(),
            total_count: freshness.len(),
            oldest_fresh: times.into_iter().min_by_key(|(record, at)| (*at, *record)),
        }
    }

    /// In per cent, rounded down: 100 means every record.
    pub(crate) fn format_percent(&self) -> Option<String> {
        let tenths = (self.fresh_count * 1000).checked_div(self.total_count)?;
        Some(match tenths % 10 {
            0 => format!("{} %", tenths / 10),
            tenth => format!("{}.{tenth} %", tenths / 10),
        })
    }
}

#[cfg(test)]
mod tests {
    use okra_core::model::{ids::BankId, interval::Interval};

    use super::*;

    #[test]
    fn a_percentage_is_rounded_down() {
        let check = |fresh, all, expected: Option<&str>| {
            let summary = FreshnessSummary {
                fresh_count: fresh,
                total_count: all,
                oldest_fresh: None,
            };
            assert_eq!(
                summary.format_percent().as_deref(),
                expected,
                "{fresh} of {all}"
            );
        };
        check(0, 0, None);
        check(0, 3, Some("0 %"));
        check(2, 3, Some("66.6 %"));
        check(1999, 2000, Some("99.9 %"));
        check(2000, 2000, Some("100 %"));
    }

    #[test]
    fn the_next_refresh_is_the_next_minute_of_its_slot() {
        for byte in 0..50 {
            let record = RecordId::from_bytes([byte; 12]);
            for interval in Interval::ALL {
                let key = DueKey {
                    interval,
                    bank: BankId::from_bytes([1; 12]),
                    record,
                };
                let now = Timestamp::from_second(1_700_000_123).unwrap();
                let at = next_due_at(key, now);
                assert_eq!(interval.slot_at(at), key.slot());
                let wait = at.duration_since(now).as_secs();
                assert!(wait > 0 && wait <= i64::from(interval.seconds()), "{wait}");
            }
        }
    }

    #[test]
    fn the_last_slot_is_within_the_interval() {
        for interval in Interval::ALL {
            let key = DueKey {
                interval,
                bank: BankId::from_bytes([1; 12]),
                record: RecordId::from_bytes([7; 12]),
            };
            let now = Timestamp::from_second(1_700_000_123).unwrap();
            let at = last_due_at(key, now);
            assert_eq!(interval.slot_at(at), key.slot());
            let since = now.duration_since(at).as_secs();
            assert!(
                (0..i64::from(interval.seconds()) + 60).contains(&since),
                "{interval}: {since}"
            );
        }
    }
}
