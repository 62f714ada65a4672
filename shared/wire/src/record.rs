//! Records, authorisations, and the acknowledgement of what runs on them.

use jiff::Timestamp;
use okra_core::model::{
    fault::FaultClass,
    ids::{AppId, BankId, CustomerId, RecordId, Seq},
    interval::Interval,
    money::Currency,
    snapshot::{ByProduct, Environment, Product},
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    account_context::{NamedReference, ResourceTimes},
    balance::CallbackBalanceResource,
    product_flags::ProductFlags,
    scalar::{EmptyList, IsoInstant},
};

/// The acknowledgement of a refresh: `callback_url` is what clients poll.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
pub struct RefreshAcknowledgement {
    record: RecordId,
    method: &'static str,
    callback_url: String,
    /// The refresh that was begun or joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    /// From when on another can be begun. Until this one is done, asking again joins it.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_refresh_available_at: Option<IsoInstant>,
    /// The refresh of each product, where they are not all the same one.
    #[serde(skip_serializing_if = "Option::is_none")]
    jobs: Option<ProductJobs>,
    /// What came of it, where it was waited for and is done: `unchanged`, `changed`, `failed` (a product
    /// had no answer), or `contended` (other refreshes committed what is newer). The data is at
    /// `callback_url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<String>,
    /// Why something of it could not be had; always there where it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<FailureReason>,
    /// What it found that was new.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<ChangeCounts>,
    /// The balances as they are now, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    balances: Option<Vec<CallbackBalanceResource>>,
}

/// The refresh of each product.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
struct ProductJobs {
    balance: Option<String>,
    transactions: Option<String>,
}

/// Why a bank's answer could not be had.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FailureReason {
    /// `bank_unavailable`, `rate_limited`, `quota_spent`, `consent_refused`, `nonsense`, `internal`.
    class: &'static str,
    /// The same in a sentence.
    message: &'static str,
    /// True where nothing but the user can mend it, by authorising again.
    needs_user: bool,
}

impl From<FaultClass> for FailureReason {
    fn from(class: FaultClass) -> Self {
        Self {
            class: class.as_str(),
            message: class.to_sentence(),
            needs_user: class.needs_user(),
        }
    }
}

/// How much a refresh found that was new.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ChangeCounts {
    /// Balances that changed.
    pub balances: usize,
    /// Transactions added.
    pub added: usize,
    /// Transactions modified.
    pub modified: usize,
    /// Transactions removed.
    pub removed: usize,
}

impl RefreshAcknowledgement {
    /// The same acknowledgement of the jobs of its products, and when another can be begun.
    #[must_use]
    pub fn with_jobs(self, jobs: &ByProduct<String>, next_at: Timestamp) -> Self {
        let first = jobs.iter().next().map(|(_, id)| id);
        let one = jobs.iter().all(|(_, id)| Some(id) == first);
        Self {
            job: first.cloned(),
            jobs: (!one).then(|| ProductJobs {
                balance: jobs.get(Product::Balance).cloned(),
                transactions: jobs.get(Product::Transactions).cloned(),
            }),
            next_refresh_available_at: Some(IsoInstant(next_at)),
            ..self
        }
    }

    /// The same of jobs that are done.
    #[must_use]
    pub fn with_outcome(
        self,
        outcome: String,
        reason: Option<FaultClass>,
        changes: ChangeCounts,
        balances: Option<Vec<CallbackBalanceResource>>,
    ) -> Self {
        Self {
            outcome: Some(outcome),
            reason: reason.map(FailureReason::from),
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
pub struct RefreshStatusResource {
    process: RefreshProcess,
    transactions: LastRefreshTimes,
    last_callback: (),
    /// The last refresh on demand of what is asked for, of the last 25 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    /// What came of it, once it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<String>,
    /// Why something of it could not be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<FailureReason>,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Serialize)]
struct RefreshProcess {
    running: bool,
    completed: bool,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct LastRefreshTimes {
    /// When what is asked for was last had, as far as that is known: a scheduled refresh that finds
    /// nothing new leaves no trace.
    last_success_at: Option<IsoInstant>,
    /// When it was last known not to be had.
    last_fail_at: Option<IsoInstant>,
}

/// A refresh on demand, as the status of a record tells of it.
#[derive(Clone, Debug)]
pub struct LastJobStatus {
    /// Its id.
    pub job: String,
    /// True while it runs.
    pub is_running: bool,
    /// What came of it.
    pub outcome: Option<String>,
    /// Why something of it could not be had.
    pub reason: Option<FaultClass>,
}

impl RefreshStatusResource {
    /// Completed; or else still running, unless the record is not `active` and has to wait for its
    /// user.
    pub fn new(is_completed: bool, is_active: bool) -> Self {
        Self {
            process: RefreshProcess {
                running: is_active && !is_completed,
                completed: is_completed,
            },
            transactions: LastRefreshTimes::default(),
            last_callback: (),
            job: None,
            outcome: None,
            reason: None,
        }
    }

    /// The same after a refresh on demand: while that runs nothing is completed.
    #[must_use]
    pub fn with_last_job(self, last_job: LastJobStatus) -> Self {
        Self {
            process: match last_job.is_running {
                true => RefreshProcess {
                    running: true,
                    completed: false,
                },
                false => self.process,
            },
            job: Some(last_job.job),
            outcome: last_job.outcome,
            reason: last_job.reason.map(FailureReason::from),
            ..self
        }
    }

    /// The same with when it was last had and last not, where that is known.
    #[must_use]
    pub fn with_refresh_times(
        self,
        last_success: Option<Timestamp>,
        last_failure: Option<Timestamp>,
    ) -> Self {
        Self {
            transactions: LastRefreshTimes {
                last_success_at: last_success.map(IsoInstant),
                last_fail_at: last_failure.map(IsoInstant),
            },
            ..self
        }
    }
}

/// What is known of a record, whatever it is shown as.
#[derive(Clone, Debug)]
pub struct RecordDetails {
    /// The record.
    pub record: RecordId,
    /// Its app.
    pub app: AppId,
    /// The app's environment.
    pub env: Environment,
    /// Its customer.
    pub customer: NamedReference<CustomerId>,
    /// Its bank.
    pub bank: NamedReference<BankId>,
    /// `active`, `token_required`, `invalid`.
    pub connection: &'static str,
    /// The interval of each product.
    pub schedule: ByProduct<Interval>,
    /// The number of its last feed entry.
    pub sequence: Seq,
    /// True after its first pull.
    pub is_initially_refreshed: bool,
    /// Months of history that were asked for.
    pub backfill_months: u8,
    /// The currency of its accounts, where they were read.
    pub currency: Option<Currency>,
    /// What the app gave when linking.
    pub options: Value,
    /// When it was linked and when it last changed.
    pub times: ResourceTimes,
}

impl RecordDetails {
    /// True where the bank accepts its consent.
    fn is_active(&self) -> bool {
        self.connection == "active"
    }
}

/// A record. `connection`, `schedule` and `sequence` are ours.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct RecordResource {
    _id: RecordId,
    id: RecordId,
    bank: NamedReference<BankId>,
    customer: NamedReference<CustomerId>,
    env: Environment,
    owner: AppId,
    #[serde(rename = "usedProduct")]
    used_product: ProductFlags,
    products: [&'static str; 4],
    billable_products: [&'static str; 4],
    source: &'static str,
    /// Months of history that were asked for.
    limit: u8,
    /// That of its accounts, where one record is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<Currency>,
    status: RefreshStatusResource,
    connection: &'static str,
    schedule: ScheduleResource,
    sequence: u64,
    options: Value,
    created_at: IsoInstant,
    last_updated: IsoInstant,
    __v: u8,
}

/// Products as they are named here.
const PRODUCT_NAMES: [&str; 4] = ["auth", "accounts", "balance", "transactions"];

/// Which interval each product of a record is refreshed on.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ScheduleResource {
    balance: Option<Interval>,
    transactions: Option<Interval>,
}

impl From<ByProduct<Interval>> for ScheduleResource {
    fn from(intervals: ByProduct<Interval>) -> Self {
        Self {
            balance: intervals.get(Product::Balance).copied(),
            transactions: intervals.get(Product::Transactions).copied(),
        }
    }
}

impl From<&RecordDetails> for RecordResource {
    fn from(view: &RecordDetails) -> Self {
        Self {
            _id: view.record,
            id: view.record,
            bank: view.bank.clone(),
            customer: view.customer.clone(),
            env: view.env,
            owner: view.app,
            used_product: ProductFlags::default(),
            products: PRODUCT_NAMES,
            billable_products: PRODUCT_NAMES,
            source: "integration",
            limit: view.backfill_months,
            currency: view.currency,
            status: RefreshStatusResource::new(view.is_initially_refreshed, view.is_active()),
            connection: view.connection,
            schedule: view.schedule.into(),
            sequence: view.sequence.0,
            options: view.options.clone(),
            created_at: IsoInstant(view.times.created_at),
            last_updated: IsoInstant(view.times.last_updated),
            __v: 0,
        }
    }
}

/// An authorisation in callback data: a record, seen as what its customer consented to. Ids are plain.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct AuthResource {
    _id: RecordId,
    id: RecordId,
    record: RecordId,
    bank: BankId,
    customer: CustomerId,
    env: Environment,
    validated: bool,
    owner: AppId,
    current_project: AppId,
    projects: EmptyList,
    created_at: IsoInstant,
    last_updated: IsoInstant,
    __v: u8,
}

impl From<&RecordDetails> for AuthResource {
    fn from(view: &RecordDetails) -> Self {
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
            projects: EmptyList,
            created_at: IsoInstant(view.times.created_at),
            last_updated: IsoInstant(view.times.last_updated),
            __v: 0,
        }
    }
}

/// An authorisation of `auth/getBy*`: bank and customer with their names, the record as a plain id.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct PopulatedAuthResource {
    _id: RecordId,
    id: RecordId,
    record: RecordId,
    __v: u8,
    bank: AuthBankResource,
    customer: NamedReference<CustomerId>,
    env: Environment,
    owner: AppId,
    validated: bool,
    created_at: IsoInstant,
    last_updated: IsoInstant,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
struct AuthBankResource {
    name: String,
    logo: &'static str,
    icon: &'static str,
    status: &'static str,
    v2_icon: &'static str,
    v2_logo: &'static str,
}

impl From<&RecordDetails> for PopulatedAuthResource {
    fn from(view: &RecordDetails) -> Self {
        Self {
            _id: view.record,
            id: view.record,
            record: view.record,
            __v: 0,
            bank: AuthBankResource {
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
            created_at: IsoInstant(view.times.created_at),
            last_updated: IsoInstant(view.times.last_updated),
        }
    }
}

/// An authorisation of `products/auths`: the record with its names inside.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
pub struct ListedAuthResource {
    id: RecordId,
    validated: bool,
    record: AuthRecordResource,
    created_at: IsoInstant,
    last_updated: IsoInstant,
}

#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Serialize)]
struct AuthRecordResource {
    _id: RecordId,
    bank: NamedReference<BankId>,
    env: Environment,
    owner: AppId,
    customer: NamedReference<CustomerId>,
}

impl From<&RecordDetails> for ListedAuthResource {
    fn from(view: &RecordDetails) -> Self {
        Self {
            id: view.record,
            validated: view.is_active(),
            record: AuthRecordResource {
                _id: view.record,
                bank: view.bank.clone(),
                env: view.env,
                owner: view.app,
                customer: view.customer.clone(),
            },
            created_at: IsoInstant(view.times.created_at),
            last_updated: IsoInstant(view.times.last_updated),
        }
    }
}
