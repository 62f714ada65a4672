//! Records, authorisations, and the acknowledgement of what runs on them.

use jiff::Timestamp;
use okra_core::{
    fault::FaultClass,
    ids::{AppId, BankId, CustomerId, RecordId, Seq},
    model::{ByProduct, Environment, Product},
    money::Currency,
    schedule::Interval,
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    balance::CallbackBalance,
    callback::Products,
    origin::{Named, Times},
    scalar::{Empty, Instant},
};

/// The acknowledgement of a refresh: `callback_url` is what clients poll.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
pub struct Acknowledged {
    record: RecordId,
    method: &'static str,
    callback_url: String,
    /// The refresh that was begun or joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    /// From when on another can be begun. Until this one is done, asking again joins it.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_refresh_available_at: Option<Instant>,
    /// The refresh of each product, where they are not all the same one.
    #[serde(skip_serializing_if = "Option::is_none")]
    jobs: Option<Jobs>,
    /// What came of it, where it was waited for and is done: `unchanged`, `changed`, `failed` (a product
    /// had no answer), or `contended` (other refreshes committed what is newer). The data is at
    /// `callback_url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<String>,
    /// Why something of it could not be had; always there where it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    /// What it found that was new.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<FoundChanges>,
    /// The balances as they are now, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    balances: Option<Vec<CallbackBalance>>,
}

/// The refresh of each product.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
struct Jobs {
    balance: Option<String>,
    transactions: Option<String>,
}

/// Why a bank's answer could not be had.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Reason {
    /// `bank_unavailable`, `rate_limited`, `quota_spent`, `consent_refused`, `nonsense`, `internal`.
    class: &'static str,
    /// The same in a sentence.
    message: &'static str,
    /// True where nothing but the user can mend it, by authorising again.
    needs_user: bool,
}

impl From<FaultClass> for Reason {
    fn from(class: FaultClass) -> Self {
        Self {
            class: class.as_str(),
            message: class.sentence(),
            needs_user: class.needs_user(),
        }
    }
}

/// How much a refresh found that was new.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FoundChanges {
    /// Balances that changed.
    pub balances: usize,
    /// Transactions added.
    pub added: usize,
    /// Transactions modified.
    pub modified: usize,
    /// Transactions removed.
    pub removed: usize,
}

impl Acknowledged {
    /// The same acknowledgement of the jobs of its products, and when another can be begun.
    #[must_use]
    pub fn of_jobs(self, jobs: &ByProduct<String>, next_at: Timestamp) -> Self {
        let first = jobs.iter().next().map(|(_, id)| id);
        let one = jobs.iter().all(|(_, id)| Some(id) == first);
        Self {
            job: first.cloned(),
            jobs: (!one).then(|| Jobs {
                balance: jobs.get(Product::Balance).cloned(),
                transactions: jobs.get(Product::Transactions).cloned(),
            }),
            next_refresh_available_at: Some(Instant(next_at)),
            ..self
        }
    }

    /// The same of jobs that are done.
    #[must_use]
    pub fn done(
        self,
        outcome: String,
        reason: Option<FaultClass>,
        changes: FoundChanges,
        balances: Option<Vec<CallbackBalance>>,
    ) -> Self {
        Self {
            outcome: Some(outcome),
            reason: reason.map(Reason::from),
            changes: Some(changes),
            balances,
            ..self
        }
    }

    /// What was asked of a record, and where its data is read. `public_url` has no trailing slash.
    pub fn new(public_url: &str, record: RecordId, method: &'static str) -> Self {
        Self {
            record,
            method,
            callback_url: callback_url(public_url, record, method),
            job: None,
            jobs: None,
            next_refresh_available_at: None,
            outcome: None,
            reason: None,
            changes: None,
            balances: None,
        }
    }
}

/// Okra's address of a record's data of one family. `public_url` has no trailing slash.
pub fn callback_url(public_url: &str, record: RecordId, method: &str) -> String {
    format!("{public_url}/v2/callback?record={record}&method={method}")
}

/// How far a record's first pull of a product has come, or the last refresh on demand after it.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    process: Process,
    transactions: LastRuns,
    last_callback: (),
    /// The last refresh on demand of what is asked for, of the last 25 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    /// What came of it, once it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<String>,
    /// Why something of it could not be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Serialize)]
struct Process {
    running: bool,
    completed: bool,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct LastRuns {
    /// When what is asked for was last had, as far as that is known: a scheduled refresh that finds
    /// nothing new leaves no trace.
    last_success_at: Option<Instant>,
    /// When it was last known not to be had.
    last_fail_at: Option<Instant>,
}

/// A refresh on demand, as the status of a record tells of it.
#[derive(Clone, Debug)]
pub struct LastJob {
    /// Its id.
    pub job: String,
    /// True while it runs.
    pub running: bool,
    /// What came of it.
    pub outcome: Option<String>,
    /// Why something of it could not be had.
    pub reason: Option<FaultClass>,
}

impl Status {
    /// Completed; or else still running, unless the record is not `active` and has to wait for its
    /// user.
    pub fn new(completed: bool, active: bool) -> Self {
        Self {
            process: Process {
                running: active && !completed,
                completed,
            },
            transactions: LastRuns::default(),
            last_callback: (),
            job: None,
            outcome: None,
            reason: None,
        }
    }

    /// The same after a refresh on demand: while that runs nothing is completed.
    #[must_use]
    pub fn after(self, last: LastJob) -> Self {
        Self {
            process: match last.running {
                true => Process {
                    running: true,
                    completed: false,
                },
                false => self.process,
            },
            job: Some(last.job),
            outcome: last.outcome,
            reason: last.reason.map(Reason::from),
            ..self
        }
    }

    /// The same with when it was last had and last not, where that is known.
    #[must_use]
    pub fn with_runs(self, success: Option<Timestamp>, fail: Option<Timestamp>) -> Self {
        Self {
            transactions: LastRuns {
                last_success_at: success.map(Instant),
                last_fail_at: fail.map(Instant),
            },
            ..self
        }
    }
}

/// What is known of a record, whatever it is shown as.
#[derive(Clone, Debug)]
pub struct RecordView {
    /// The record.
    pub record: RecordId,
    /// Its app.
    pub app: AppId,
    /// The app's environment.
    pub env: Environment,
    /// Its customer.
    pub customer: Named<CustomerId>,
    /// Its bank.
    pub bank: Named<BankId>,
    /// `active`, `token_required`, `invalid`.
    pub connection: &'static str,
    /// The interval of each product.
    pub schedule: ByProduct<Interval>,
    /// The number of its last feed entry.
    pub sequence: Seq,
    /// True after its first pull.
    pub pulled: bool,
    /// Months of history that were asked for.
    pub months: u8,
    /// The currency of its accounts, where they were read.
    pub currency: Option<Currency>,
    /// What the app gave when linking.
    pub options: Value,
    /// When it was linked and when it last changed.
    pub times: Times,
}

impl RecordView {
    /// True where the bank accepts its consent.
    fn is_active(&self) -> bool {
        self.connection == "active"
    }
}

/// A record. `connection`, `schedule` and `sequence` are ours.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    _id: RecordId,
    id: RecordId,
    bank: Named<BankId>,
    customer: Named<CustomerId>,
    env: Environment,
    owner: AppId,
    #[serde(rename = "usedProduct")]
    used_product: Products,
    products: [&'static str; 4],
    billable_products: [&'static str; 4],
    source: &'static str,
    /// Months of history that were asked for.
    limit: u8,
    /// That of its accounts, where one record is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<Currency>,
    status: Status,
    connection: &'static str,
    schedule: Schedule,
    sequence: u64,
    options: Value,
    created_at: Instant,
    last_updated: Instant,
    __v: u8,
}

/// Products as they are named here.
const PRODUCTS: [&str; 4] = ["auth", "accounts", "balance", "transactions"];

/// Which interval each product of a record is refreshed on.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Schedule {
    balance: Option<Interval>,
    transactions: Option<Interval>,
}

impl From<ByProduct<Interval>> for Schedule {
    fn from(of: ByProduct<Interval>) -> Self {
        Self {
            balance: of.get(Product::Balance).copied(),
            transactions: of.get(Product::Transactions).copied(),
        }
    }
}

impl From<&RecordView> for Record {
    fn from(view: &RecordView) -> Self {
        Self {
            _id: view.record,
            id: view.record,
            bank: view.bank.clone(),
            customer: view.customer.clone(),
            env: view.env,
            owner: view.app,
            used_product: Products::default(),
            products: PRODUCTS,
            billable_products: PRODUCTS,
            source: "integration",
            limit: view.months,
            currency: view.currency,
            status: Status::new(view.pulled, view.is_active()),
            connection: view.connection,
            schedule: view.schedule.into(),
            sequence: view.sequence.0,
            options: view.options.clone(),
            created_at: Instant(view.times.created_at),
            last_updated: Instant(view.times.last_updated),
            __v: 0,
        }
    }
}

/// An authorisation in callback data: a record, seen as what its customer consented to. Ids are plain.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct Auth {
    _id: RecordId,
    id: RecordId,
    record: RecordId,
    bank: BankId,
    customer: CustomerId,
    env: Environment,
    validated: bool,
    owner: AppId,
    current_project: AppId,
    projects: Empty,
    created_at: Instant,
    last_updated: Instant,
    __v: u8,
}

impl From<&RecordView> for Auth {
    fn from(view: &RecordView) -> Self {
        Self {
            _id: view.record,
            id: view.record,
            record: view.record,
            bank: view.bank.id,
            customer: view.customer.id,
            env: view.env,
            validated: view.is_active(),
            owner: view.app,
            current_project: view.app,
            projects: Empty,
            created_at: Instant(view.times.created_at),
            last_updated: Instant(view.times.last_updated),
            __v: 0,
        }
    }
}

/// An authorisation of `auth/getBy*`: bank and customer with their names, the record as a plain id.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct PopulatedAuth {
    _id: RecordId,
    id: RecordId,
    record: RecordId,
    __v: u8,
    bank: AuthBank,
    customer: Named<CustomerId>,
    env: Environment,
    owner: AppId,
    validated: bool,
    created_at: Instant,
    last_updated: Instant,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
struct AuthBank {
    name: String,
    logo: &'static str,
    icon: &'static str,
    status: &'static str,
    v2_icon: &'static str,
    v2_logo: &'static str,
}

impl From<&RecordView> for PopulatedAuth {
    fn from(view: &RecordView) -> Self {
        Self {
            _id: view.record,
            id: view.record,
            record: view.record,
            __v: 0,
            bank: AuthBank {
                name: view.bank.name.clone(),
                logo: "",
                icon: "",
                status: "active",
                v2_icon: "",
                v2_logo: "",
            },
            customer: view.customer.clone(),
            env: view.env,
            owner: view.app,
            validated: view.is_active(),
            created_at: Instant(view.times.created_at),
            last_updated: Instant(view.times.last_updated),
        }
    }
}

/// An authorisation of `products/auths`: the record with its names inside.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct ListedAuth {
    id: RecordId,
    validated: bool,
    record: AuthRecord,
    created_at: Instant,
    last_updated: Instant,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
struct AuthRecord {
    _id: RecordId,
    bank: Named<BankId>,
    env: Environment,
    owner: AppId,
    customer: Named<CustomerId>,
}

impl From<&RecordView> for ListedAuth {
    fn from(view: &RecordView) -> Self {
        Self {
            id: view.record,
            validated: view.is_active(),
            record: AuthRecord {
                _id: view.record,
                bank: view.bank.clone(),
                env: view.env,
                owner: view.app,
                customer: view.customer.clone(),
            },
            created_at: Instant(view.times.created_at),
            last_updated: Instant(view.times.last_updated),
        }
    }
}
