//! The single table, one module per item kind.
//!
//! | item | `pk` | `sk` | module |
//! |---|---|---|---|
//! | app | `APP#<app>` | `APP` | apps |
//! | API key | `KEY#<sha-256>` | `KEY`; link `APP#..`/`KEY#<sha-256>` | apps |
//! | calls of a minute, receipt of a removal | `APP#<app>` | `LIM#<product>#<minute>`, `RCP#<id>` | limits, removal |
//! | kept answer | `IDM#<app>#<sha-256>` | `IDM` | replies |
//! | bank | `INS` | `INS#<bank>` | banks |
//! | allowance of a bank | `ALW#<bank>` | `ALW` | allowances |
//! | circuit breaker of a bank | `BRK` | `BRK#<bank>` | breakers |
//! | customer | `CUS#<customer's tag>` | `CUS#<customer>`; link `APP#<app>`/`CUS#<customer>` | customers |
//! | account | `CUS#<customer's tag>` | `ACC#<account>` | accounts |
//! | head | `REC#<record>` | `HEAD`; links `CUS#..`/`REC#<customer>#<record>`, `APP#..`/`REC#<record>` | records |
//! | consent | `REC#<record>` | `CRED` | consents |
//! | subscription | `REC#<record>` | `SUB#<subscription>` | subscriptions |
//! | job | `REC#<record>` | `JOB#<product>` | jobs |
//! | history | `REC#<record>` | `HIST` | histories |
//! | feed entries | `REC#<record>` | `FED#<seq of the last, 12 digits>` | feed |
//! | transaction | `ACC#<account's tag>` | `T#<day>#<hash>#<rest of account>` | transactions |
//! | due entry | `DUE#<interval>#<slot>#<lane>` | `<bank>#<record>` | due |
//! | interval counter | `INT#<interval>` | `N#<lane>` | intervals |
//! | endpoint | `APP#<app>` | `WHK#<endpoint>` | endpoints |
//! | delivery | `DLV#<endpoint>` | `<commit, ms>#<source>#<seq>` | deliveries |
//! | parked event | `PRK#<endpoint>` | `<commit, ms>#<source>#<seq>` | parked |
//! | endpoint health | `HLT#<endpoint>` | `HLT` | healths |
//! | pace of an endpoint | `PAC#<endpoint>` | `PAC` | paces |
//! | app feed | `AEV#<app>` | `HEAD`, `FED#<seq>` | healths |
//! | due retry | `RTY#<minute>#<lane>` | `<source>#<seq>#<endpoint>` | retries |
//! | counts of a minute | `CNT#<hour>` | `<minute>` | counts |
//! | public key | `PUB#<sha-256>` | `PUB` | apps |
//! | short link | `SHL#<name>` | `SHL`; link `APP#..`/`SHL#<name>` | short_links |
//! | link session | `LNK#<sha-256>` | `LNK` | link_sessions |
//! | replay | `APP#<app>` | `RPL#<replay>` | replays |
//! | state | `SYS#<name>` | `SYS` | states |
//!
//! There is no index: ids carry their keys, and what must be listed has a link item. Items written
//! often are at most 1 KB, so that they cost one write unit.
//!
//! *The feed is the truth.* Balances and transactions are a projection of it ([`Store::project`]),
//! each row a register in which the entry with the highest sequence number wins.

mod delivery;
mod limits;
mod linking;
mod records;
mod schedule;
mod system_states;
mod table;
mod tenants;

use std::sync::Arc;

pub use self::{
    delivery::deliveries::{
        Delivery, DeliveryKey, DeliveryState, FifoPosition, LoggedAttempt, MAX_DELIVERIES_PER_PAGE,
        MAX_EXCERPT_BYTES, MAX_LOGGED_ATTEMPTS,
    },
    delivery::endpoint_health::{
        AppFeedEntry, AppNotice, MAX_APP_FEED_PAGE, NewAppFeedEntry, PingResult,
        StoredEndpointHealth,
    },
    delivery::replays::{MAX_REPLAYS_LISTED, Replay, ReplayFilter, ReplayState},
    delivery::retries::{MAX_RETRIES_PER_LANE, RetryEntry},
    limits::ad_hoc_budgets::AdHocPermit,
    limits::call_counters::MINUTE_S,
    limits::idempotency::{
        IdempotencyClaim, IdempotentCall, MAX_CACHED_RESPONSE_BYTES, RESPONSE_RETENTION,
    },
    linking::link_sessions::{LINK_SESSION_RETENTION_S, LinkSession},
    linking::short_links::{MAX_SHORT_LINK_BYTES, MAX_SHORT_LINKS_PER_APP, ShortLink},
    records::accounts::{Account, AccountChecks, MAX_ACCOUNTS_PER_RECORD},
    records::consents::{Consent, ConsentAccount},
    records::customers::Customer,
    records::feed::{CommitError, MAX_COMMIT_BYTES, MAX_ENTRY_BYTES, MAX_FEED_PAGE, RecordCommit},
    records::heads::{
        ListPage, MAX_OPTIONS_BYTES, MAX_RECORDS_PER_CUSTOMER, NewRecord, RecordHead,
    },
    records::jobs::{FAILED_OUTCOME, Job, JobCompletion, JobFindings, NewJob},
    records::removal::{
        MAX_REMOVED_PER_CALL, RecordRemoval, Removal, RemovedCounts, RevocationOutcome,
    },
    records::subscriptions::{MAX_SUBSCRIPTIONS_PER_RECORD, Subscription},
    records::transactions::{
        DATE_SLACK_DAYS, MAX_TRANSACTIONS_PER_READ, NewestTransactions, OlderCursor,
        StoredTransaction,
    },
    schedule::due_entries::MAX_DUE_PER_LANE,
    schedule::interval_counts::IntervalChanges,
    table::call::SortOrder,
    table::capacity::CapacityUsed,
    table::error::StoreError,
    tenants::apps::{
        ApiKey, App, DEFAULT_REFRESHES_PER_MINUTE, KeyHash, KeyOwner, MAX_KEYS_PER_APP,
        MAX_WIDGET_ORIGINS,
    },
    tenants::banks::{MAX_BANKS, MAX_BANKS_PER_APP, OwnedBank},
    tenants::endpoints::{Endpoint, MAX_ENDPOINTS_PER_APP},
    tenants::minute_counts::{MAX_COUNTED_MINUTES, MinuteCounts},
};
use aws_sdk_dynamodb::Client;
pub use okra_core::sync::state::RecordStatus;

/// How fresh a read is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// May miss the writes of the last second; half the price.
    Eventual,
    /// Sees every write that was acknowledged before it.
    Strong,
}

impl Consistency {
    const fn is_strong(self) -> bool {
        matches!(self, Self::Strong)
    }
}

/// The table. Clones share the client and the count of capacity used.
#[derive(Clone, Debug)]
pub struct Store {
    client: Client,
    table: Arc<str>,
    capacity_meter: table::capacity::CapacityMeter,
}

impl Store {
    /// The table of this name.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self {
            client,
            table: Arc::from(table.into()),
            capacity_meter: table::capacity::CapacityMeter::default(),
        }
    }

    /// What the calls of this store and its clones have consumed since [`new`](Self::new). A write
    /// that was refused by its condition is not counted, although DynamoDB charges it.
    pub fn capacity_used(&self) -> CapacityUsed {
        self.capacity_meter.capacity_used()
    }
}
