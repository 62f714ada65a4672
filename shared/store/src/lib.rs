//! The single table, grouped by aggregate.
//!
//! [`Store`] reads and writes every item of the table. Where each kind of item lies and what is in it says the enum `Key`
//! in `key.rs`, which is also the table of `docs/ARCHITECTURE.md`. Items written often are at most 1 KB, so that they
//! cost one write unit.
//!
//! *The feed is the truth.* Balances and transactions are a projection of it ([`Store::project_entries`]),
//! each row a register in which the entry with the highest seq wins.
//!
//! Methods are named by what they do: `find_` one item or none, `load_` those of some ids, `list_` and `read_` a range,
//! `put_` one in place of another, `delete_` what may have been deleted already. Lists say whether they are read strongly.

mod delivery;
mod key;
mod limits;
mod linking;
mod records;
mod schedule;
mod system_states;
mod table;
mod tenants;

pub use okra_core::sync::state::RecordStatus;

pub use self::{
    delivery::{
        app_feed::{AppFeedEntry, AppNotice, MAX_APP_FEED_PAGE, NewAppFeedEntry},
        deliveries::{
            Delivery, DeliveryKey, DeliveryState, FifoPosition, LoggedAttempt,
            MAX_DELIVERIES_PER_PAGE, MAX_EXCERPT_BYTES, MAX_LOGGED_ATTEMPTS,
        },
        endpoint_health::{PingResult, StoredEndpointHealth},
        replays::{MAX_REPLAYS_LISTED, Replay, ReplayFilter, ReplayState},
        retries::{MAX_RETRIES_PER_LANE, RetryEntry},
    },
    limits::{
        bank_ad_hoc_budgets::AdHocPermit,
        call_counters::{CallLimit, MINUTE_S},
        idempotency::{
            IdempotencyClaim, IdempotentCall, MAX_CACHED_RESPONSE_BYTES, RESPONSE_RETENTION,
        },
        usage_limits::{
            MAX_BANKS, MAX_BANKS_PER_APP, MAX_ENDPOINTS_PER_APP, MAX_KEYS_PER_APP,
            MAX_RECORDS_PER_CUSTOMER, MAX_SHORT_LINKS_PER_APP,
        },
    },
    linking::{
        link_sessions::{LINK_SESSION_RETENTION_S, LinkSession},
        short_links::{MAX_SHORT_LINK_BYTES, ShortLink},
    },
    records::{
        accounts::{Account, AccountChecks, MAX_ACCOUNTS_PER_RECORD, UnreadableRows},
        commits::{CommitError, MAX_COMMIT_BYTES, MAX_ENTRY_BYTES, RecordCommit},
        consents::{Consent, ConsentAccount},
        customers::Customer,
        feed::MAX_FEED_PAGE,
        heads::{MAX_OPTIONS_BYTES, RecordHead},
        jobs::{FAILED_OUTCOME, Job, JobCompletion, JobFindings, NewJob},
        new_record::NewRecord,
        record_deletion::MAX_REMOVED_PER_CALL,
        removal::{RecordRemoval, Removal, RemovedCounts, RevocationOutcome},
        subscriptions::{MAX_SUBSCRIPTIONS_PER_RECORD, Subscription},
        transactions::{
            DATE_SLACK_DAYS, MAX_TRANSACTIONS_PER_READ, NewestTransactions, OlderCursor,
            StoredTransaction,
        },
    },
    schedule::{due_entries::MAX_DUE_PER_LANE, interval_counts::IntervalChanges},
    table::{
        capacity::CapacityUsed,
        error::{ServiceFailure, StoreError},
        key_range::SortOrder,
        list_page::ListPage,
        store::{Consistency, Store},
    },
    tenants::{
        api_keys::{ApiKey, KeyOwner},
        apps::{App, DEFAULT_REFRESHES_PER_MINUTE, MAX_WIDGET_ORIGINS},
        banks::OwnedBank,
        endpoints::Endpoint,
        key_hash::KeyHash,
        minute_counts::{MAX_COUNTED_MINUTES, MinuteCounts},
    },
};
