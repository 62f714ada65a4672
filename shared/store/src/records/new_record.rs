//! Linking: a new record is stored with all that it has, or not at all.

use okra_core::{model::interval::Interval, schedule::plan::DueEntry, sync::feed::FeedEntry};

use crate::{
    Account, Consent, IntervalChanges, MAX_ACCOUNTS_PER_RECORD, RecordHead, Store, StoreError,
    limits::{usage_counters::CountedWriteOutcome, usage_limits::UsageCounter},
    records::{accounts, consents, feed, heads},
    schedule::{due_entries, interval_counts},
    table::{expression::Condition, item::link_item},
};

/// Everything that a newly linked record has.
#[derive(Clone, Debug)]
pub struct NewRecord {
    /// Its head.
    pub head: RecordHead,
    /// Its consent.
    pub consent: Consent,
    /// Its accounts, [`MAX_ACCOUNTS_PER_RECORD`] at most.
    pub accounts: Vec<Account>,
    /// Its due entries, one for each interval of the head's schedule.
    pub due_entries: Vec<DueEntry>,
    /// The first entries of its feed, which say that it was linked. The head's seqs are theirs.
    pub feed_entries: Vec<FeedEntry>,
}

impl Store {
    /// Stores a newly linked record, all of it or nothing. Returns the intervals whose rules may have to
    /// be switched on for it.
    ///
    /// # Errors
    ///
    /// [`StoreError::AlreadyExists`] where the record or one of its accounts does;
    /// [`StoreError::BoundExceeded`] for too many accounts or too large options,
    /// [`StoreError::LimitReached`] where the customer has as many records as it may have.
    pub async fn create_record(&self, new: &NewRecord) -> Result<IntervalChanges, StoreError> {
        if new.accounts.len() > MAX_ACCOUNTS_PER_RECORD {
            return Err(StoreError::BoundExceeded {
                what: "accounts of a record",
                bound: MAX_ACCOUNTS_PER_RECORD,
            });
        }
        // Everything that the record has, none of which may exist.
        let mut items = vec![
            heads::write_head(&new.head)?,
            consents::write_consent(&new.consent)?,
        ];
        for account in &new.accounts {
            items.push(accounts::write_account(account)?);
        }
        items.extend(new.due_entries.iter().map(due_entries::write_due_entry));
        items.extend(feed::write_entries(&new.feed_entries)?);
        items.extend(heads::record_links(&new.head).map(link_item));
        let mut actions = Vec::with_capacity(items.len() + new.due_entries.len());
        for item in items {
            actions.push(self.put_action(item, vec![Condition::Absent])?);
        }

        // The counters of its intervals move with it.
        let mut joined: Vec<Interval> = Vec::with_capacity(new.due_entries.len());
        for entry in &new.due_entries {
            actions.push(self.update_action(interval_counts::count_update(&entry.key, 1))?);
            joined.push(entry.key.interval);
        }
        let counts_before = self.count_before_change(joined, vec![]).await?;
        let counters = [UsageCounter::RecordsOfCustomer(new.head.customer)];
        let outcome = self.transact_counted(actions, &counters).await?;
        match outcome.require_room()? {
            CountedWriteOutcome::Committed => self.compare_interval_counts(counts_before).await,
            _ => Err(StoreError::AlreadyExists { kind: "record" }),
        }
    }
}
