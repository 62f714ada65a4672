//! Types as Okra's strictly typed clients have them: they stop on a wrong JSON type, on null where they
//! want a value, and on an object where they want a list.

#![expect(
    dead_code,
    reason = "what is decoded is not read: decoding is the test"
)]

use okra_api::{Origin, ROUTES, Route};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Number, Value};

#[derive(Deserialize)]
struct DecodedEnvelope<D> {
    status: String,
    message: String,
    data: D,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DecodedPagination {
    total_docs: i64,
    limit: i64,
    has_prev_page: bool,
    has_next_page: bool,
    page: i64,
    total_pages: i64,
    paging_counter: i64,
    prev_page: Option<i64>,
    next_page: Option<i64>,
}

/// Null, and there.
#[derive(Deserialize)]
struct DecodedNull(());

#[derive(Deserialize)]
struct DecodedNamed {
    _id: String,
    name: String,
}

#[derive(Deserialize)]
struct DecodedAccountOf {
    _id: String,
    name: String,
    nuban: String,
    bank: DecodedNamed,
}

#[derive(Deserialize)]
struct DecodedPeriodic {
    available_balance: Vec<String>,
    ledger_balance: Vec<String>,
}

/// `balance/getBy*`.
#[derive(Deserialize)]
struct DecodedBalances {
    pagination: DecodedPagination,
    balance: Vec<DecodedBalance>,
}

#[derive(Deserialize)]
struct DecodedBalance {
    _id: String,
    __v: i64,
    account: DecodedAccountOf,
    customer: DecodedNamed,
    available_balance: Number,
    ledger_balance: Number,
    currency: String,
    periodic: DecodedPeriodic,
    connected: Vec<String>,
    owner: Vec<String>,
    record: Vec<String>,
    env: String,
    created_at: String,
    last_updated: String,
}

/// `balance/getByType`.
#[derive(Deserialize)]
struct DecodedTypedBalances {
    pagination: DecodedPagination,
    balance: Vec<DecodedTypedBalance>,
}

#[derive(Deserialize)]
struct DecodedTypedBalance {
    id: String,
    account: DecodedAccountOf,
    customer: String,
    available_balance: Number,
    ledger_balance: Number,
    currency: String,
    connected: Vec<String>,
    owner: Vec<String>,
    record: Vec<String>,
    env: String,
}

/// `products/balances`.
#[derive(Deserialize)]
struct DecodedListedBalances {
    pagination: DecodedNull,
    balances: Vec<DecodedListedBalance>,
}

#[derive(Deserialize)]
struct DecodedListedBalance {
    id: String,
    account: DecodedAccountOf,
    ledger_balance: Number,
    available_balance: Number,
    currency: String,
    connected: bool,
    env: String,
    created_at: String,
    last_updated: String,
}

#[derive(Deserialize)]
struct DecodedAcknowledged {
    record: String,
    method: String,
    callback_url: String,
}

#[derive(Deserialize)]
struct DecodedTransactions {
    pagination: DecodedPagination,
    transaction: Vec<DecodedTransaction>,
}

#[derive(Deserialize)]
struct DecodedTransaction {
    _id: String,
    __v: i64,
    trans_date: String,
    cleared_date: String,
    unformatted_trans_date: String,
    unformatted_cleared_date: String,
    credit: Option<Number>,
    debit: Option<Number>,
    balance: Option<Number>,
    currency: String,
    #[serde(rename = "ref")]
    reference: String,
    code: String,
    branch: String,
    notes: DecodedNotes,
    ner: DecodedEntities,
    ner_v: i64,
    location: DecodedLocation,
    bank: DecodedBankOf,
    customer: DecodedNamed,
    account: DecodedNamed,
    record: Vec<String>,
    owner: Vec<String>,
    projects: Vec<String>,
    fetched: Vec<String>,
    analyzed: Vec<String>,
    checked: Vec<String>,
    manual: bool,
    reconciled: bool,
    env: String,
    created_at: String,
    last_updated: String,
}

#[derive(Deserialize)]
struct DecodedNotes {
    desc: String,
    topics: Vec<String>,
    places: Vec<String>,
    people: Vec<String>,
    actions: Vec<String>,
    subjects: Vec<String>,
    prepositions: Vec<String>,
    preopositions: Vec<String>,
}

#[derive(Deserialize)]
struct DecodedEntities {
    beneficiaries: String,
    account: Vec<String>,
}

#[derive(Deserialize)]
struct DecodedLocation {
    address: String,
    lat: i64,
    long: i64,
    raw: String,
}

#[derive(Deserialize)]
struct DecodedBankOf {
    name: String,
    logo: String,
    icon: String,
    status: String,
}

#[derive(Deserialize)]
struct DecodedCounts {
    pagination: DecodedNull,
    trans: Vec<DecodedCount>,
}

#[derive(Deserialize)]
struct DecodedCount {
    bank: DecodedNamed,
    customer: DecodedNamed,
    count: i64,
    env: String,
}

#[derive(Deserialize)]
struct DecodedAccounts {
    account: Vec<DecodedAccount>,
}

#[derive(Deserialize)]
struct DecodedListedAccounts {
    accounts: Vec<DecodedAccount>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
struct DecodedAccount {
    _id: String,
    name: String,
    nuban: String,
    bank: DecodedAccountBank,
    #[serde(rename = "type")]
    kind: String,
    customer: String,
    env: String,
    balance: String,
    currency: String,
    manual: bool,
    projects: Vec<String>,
    created_at: String,
    last_updated: String,
    __v: i64,
}

#[derive(Deserialize)]
struct DecodedAccountBank {
    _id: String,
    name: String,
    slug: String,
    icon: String,
    inverted_logo: String,
    v2_icon: String,
    v2_logo: String,
    status: bool,
    #[serde(rename = "isMFA")]
    is_mfa: bool,
    #[serde(rename = "mfaType")]
    mfa_type: String,
    corp: bool,
}

#[derive(Deserialize)]
struct DecodedAuths {
    pagination: DecodedPagination,
    auths: Vec<DecodedAuth>,
}

#[derive(Deserialize)]
struct DecodedAuth {
    _id: String,
    id: String,
    record: String,
    __v: i64,
    bank: DecodedAuthBank,
    customer: DecodedNamed,
    env: String,
    owner: String,
    validated: bool,
    created_at: String,
    last_updated: String,
}

#[derive(Deserialize)]
struct DecodedAuthBank {
    name: String,
    logo: String,
    icon: String,
    status: String,
    v2_icon: String,
    v2_logo: String,
}

#[derive(Deserialize)]
struct DecodedListedAuths {
    pagination: DecodedNull,
    auths: Vec<DecodedListedAuth>,
}

#[derive(Deserialize)]
struct DecodedListedAuth {
    id: String,
    validated: bool,
    record: DecodedAuthRecord,
    created_at: String,
    last_updated: String,
}

#[derive(Deserialize)]
struct DecodedAuthRecord {
    _id: String,
    bank: DecodedNamed,
    env: String,
    owner: String,
    customer: DecodedNamed,
}

#[derive(Deserialize)]
struct DecodedBanks {
    banks: Vec<DecodedBank>,
    credentials: DecodedNull,
}

#[derive(Deserialize)]
struct DecodedBank {
    id: String,
    _id: String,
    name: String,
    slug: String,
    sortcode: String,
    alt_sortcode: String,
    icon: String,
    logo: String,
    v2_icon: String,
    v2_logo: String,
    colors: Value,
    products: Vec<String>,
    countries: Vec<String>,
    corporate: bool,
    individual: bool,
    ussd: bool,
    secret_question_or_otp: bool,
    payments: Value,
    status: String,
}

#[derive(Deserialize)]
struct DecodedCustomers {
    customers: Vec<DecodedCustomer>,
    pagination: DecodedPagination,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DecodedCredential {
    bank: DecodedNamed,
    nuban: String,
    account_name: String,
    connected: bool,
}

#[derive(Deserialize)]
struct DecodedCustomerOwner {
    _id: String,
    name: String,
    app_name: String,
}

#[derive(Deserialize)]
struct DecodedCustomer {
    _id: String,
    name: String,
    credentials: Vec<DecodedCredential>,
    owner: Vec<DecodedCustomerOwner>,
    #[serde(rename = "linkLater")]
    link_later: bool,
    #[serde(rename = "debitLater")]
    debit_later: bool,
    #[serde(rename = "otherInfo")]
    other_info: Vec<String>,
    record: Vec<String>,
    email: Vec<String>,
    phone: Vec<String>,
    blocked: bool,
    unconnected: bool,
    manual: bool,
    env: String,
    created_at: String,
    last_updated: String,
    __v: i64,
}

#[derive(Deserialize)]
struct DecodedCallback<D> {
    product: String,
    record: String,
    last_transaction_date: Option<String>,
    msg: DecodedNull,
    products: DecodedFlags,
    status: DecodedStatus,
    #[serde(flatten)]
    resource: D,
}

#[derive(Deserialize)]
struct DecodedFlag {
    status: bool,
    number: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct DecodedFlags {
    periodic_transactions: DecodedFlag,
    guarantors: DecodedFlag,
    directors: DecodedFlag,
    auth: bool,
    balance: bool,
    accounts: bool,
    transactions: bool,
    income: bool,
    identity: bool,
    direct_debit: bool,
}

#[derive(Deserialize)]
struct DecodedStatus {
    process: DecodedProcess,
    transactions: DecodedLastRuns,
    last_callback: Option<String>,
}

#[derive(Deserialize)]
struct DecodedProcess {
    running: bool,
    completed: bool,
}

#[derive(Deserialize)]
struct DecodedLastRuns {
    last_success_at: Option<String>,
    last_fail_at: Option<String>,
}

#[derive(Deserialize)]
struct DecodedBalanceData {
    balances: Vec<DecodedCallbackBalance>,
}

#[derive(Deserialize)]
struct DecodedAccountsData {
    accounts: Vec<DecodedAccount>,
}

#[derive(Deserialize)]
struct DecodedTransactionsData {
    transactions: Vec<DecodedPlainTransaction>,
}

#[derive(Deserialize)]
struct DecodedAuthData {
    auth: DecodedCallbackAuth,
}

#[derive(Deserialize)]
struct DecodedCallbackAuth {
    _id: String,
    record: String,
    bank: String,
    customer: String,
    env: String,
    validated: bool,
    owner: String,
    current_project: String,
    projects: Vec<String>,
    created_at: String,
    last_updated: String,
    __v: i64,
}

/// In callback data, ids are plain.
#[derive(Deserialize)]
struct DecodedPlainTransaction {
    _id: String,
    trans_date: String,
    credit: Option<Number>,
    debit: Option<Number>,
    currency: String,
    notes: DecodedNotes,
    bank: String,
    customer: String,
    account: String,
    record: Vec<String>,
    created_at: String,
    last_updated: String,
}

#[derive(Deserialize)]
struct DecodedRecord {
    _id: String,
    #[serde(rename = "usedProduct")]
    used_product: DecodedFlags,
    status: DecodedStatus,
    products: Vec<String>,
    billable_products: Vec<String>,
    source: String,
    limit: i64,
    bank: DecodedNamed,
    customer: DecodedNamed,
    env: String,
    owner: String,
    created_at: String,
    last_updated: String,
    __v: i64,
}

#[derive(Deserialize)]
struct DecodedRecords {
    pagination: DecodedNull,
    records: Vec<DecodedRecord>,
}

#[derive(Deserialize)]
struct DecodedOneRecord {
    pagination: DecodedNull,
    records: DecodedRecordWithCurrency,
}

#[derive(Deserialize)]
struct DecodedRecordWithCurrency {
    currency: String,
    #[serde(flatten)]
    record: DecodedRecord,
}

#[derive(Deserialize)]
struct DecodedProductNames {
    products: Vec<DecodedProductName>,
}

#[derive(Deserialize)]
struct DecodedProductName {
    name: String,
    status: bool,
}

/// `products/all/*`.
#[derive(Deserialize)]
struct DecodedEverything {
    pagination: DecodedPagination,
    auth: Vec<DecodedListedAuth>,
    accounts: Vec<DecodedAccount>,
    balance: Vec<DecodedCallbackBalance>,
    transactions: Vec<DecodedPlainTransaction>,
}

#[derive(Deserialize)]
struct DecodedSpending {
    currency: String,
    months: Vec<DecodedMonth>,
}

#[derive(Deserialize)]
struct DecodedMonth {
    month: String,
    credit: Number,
    debit: Number,
    count: i64,
}

#[derive(Deserialize)]
struct DecodedFile {
    file_name: String,
    content_type: String,
    rows: i64,
    content: String,
}

#[derive(Deserialize)]
struct DecodedNoRatio {
    customer: String,
    income: DecodedNull,
    debt: DecodedNull,
    dti: DecodedNull,
    msg: String,
}

#[derive(Deserialize)]
struct DecodedOneLink {
    link: DecodedShortLink,
}

#[derive(Deserialize)]
struct DecodedShortLink {
    _id: String,
    short_url: String,
    url: String,
    callback_url: Option<String>,
    billable_products: Vec<String>,
    env: String,
    reauth: bool,
    current_project: String,
    count: i64,
    past_refs: Vec<String>,
    filter: DecodedLinkFilter,
    owner: DecodedNamed,
    app: DecodedLinkApp,
}

#[derive(Deserialize)]
struct DecodedLinkFilter {
    banks: Vec<String>,
    corp_banks: Vec<String>,
    ind_banks: Vec<String>,
}

#[derive(Deserialize)]
struct DecodedLinkApp {
    _id: String,
    tracking_id: String,
}

/// `customers/create` and `generate`.
#[derive(Deserialize)]
struct DecodedCreated {
    record_id: String,
    customer_id: String,
    bank_id: String,
    accounts: Vec<DecodedLinkedAccount>,
    customers: Vec<Value>,
}

#[derive(Deserialize)]
struct DecodedLinkedAccount {
    id: String,
    name: String,
    nuban: String,
    customer: String,
}

#[derive(Deserialize)]
struct DecodedSubscriptions {
    subscriptions: Vec<DecodedSubscription>,
}

#[derive(Deserialize)]
struct DecodedSubscription {
    id: String,
    record: String,
    bank: String,
    customer: String,
    products: Vec<String>,
    interval: String,
    webhook_url: Option<String>,
    created_at: String,
}

#[derive(Deserialize)]
struct DecodedTriggered {
    events: i64,
    records: i64,
}

#[derive(Deserialize)]
struct DecodedRemoved {
    receipt: String,
}

#[derive(Deserialize)]
struct DecodedCallbackBalance {
    id: String,
    account: DecodedCallbackAccount,
    customer: DecodedCallbackCustomer,
    available_balance: Number,
    ledger_balance: Number,
    currency: String,
    connected: bool,
}

#[derive(Deserialize)]
struct DecodedCallbackAccount {
    id: String,
    nuban: String,
    name: String,
}

#[derive(Deserialize)]
struct DecodedCallbackCustomer {
    id: String,
    name: String,
    email: Vec<String>,
    phone: Vec<String>,
}

#[derive(Deserialize)]
struct DecodedTotals {
    result: DecodedTotal,
}

#[derive(Deserialize)]
struct DecodedTotal {
    credit: Number,
    debit: Number,
    currency: String,
}

#[track_caller]
fn decode_as<D: DeserializeOwned>(path: &str, text: &str) {
    let read = serde_json::from_str::<DecodedEnvelope<D>>(text);
    let envelope = read.unwrap_or_else(|error| panic!("{path}: {error}\n{text}"));
    assert_eq!(envelope.status, "success");
}

/// Whole amounts are integers: typed clients decode them as such.
#[track_caller]
fn check_no_idle_fraction(path: &str, text: &str) {
    for idle in [".0,", ".0}", ".00,", ".00}", "e+", "E+"] {
        let number = text.match_indices(idle).any(|(at, _)| {
            let before = &text[..at];
            before.ends_with(|it: char| it.is_ascii_digit())
                && before
                    .trim_end_matches(|it: char| it.is_ascii_digit())
                    .ends_with(':')
        });
        assert!(!number, "{path}: {text}");
    }
}

/// Decodes a good answer as the clients of this path do.
#[track_caller]
pub(crate) fn decode_response(path: &str, text: &str) {
    check_no_idle_fraction(path, text);
    let (family, call) = path.rsplit_once('/').unwrap_or(("", path));
    match (family, call) {
        // Ours: no client of Okra's calls it.
        ("transactions", "sync") => decode_as::<serde_json::Map<String, Value>>(path, text),
        (_, "refresh" | "check" | "periodic" | "retry") => {
            decode_as::<DecodedAcknowledged>(path, text);
        }
        ("balance", "getByType") => decode_as::<DecodedTypedBalances>(path, text),
        ("balance" | "transactions/balance" | "transaction/balance", _) => {
            decode_as::<DecodedBalances>(path, text);
        }
        ("products", "balances") => decode_as::<DecodedListedBalances>(path, text),
        ("products/transactions", "get") | ("products", "transactions") => {
            decode_as::<DecodedCounts>(path, text);
        }
        ("transaction" | "transactions" | "records/transactions", _) => {
            decode_as::<DecodedTransactions>(path, text);
        }
        ("accounts" | "account", "getAccountDetails") => decode_as::<DecodedAccount>(path, text),
        ("accounts" | "account", _) => decode_as::<DecodedAccounts>(path, text),
        ("products", "accounts") => decode_as::<DecodedListedAccounts>(path, text),
        ("products", "auths") | ("products/auth", "get") => {
            decode_as::<DecodedListedAuths>(path, text);
        }
        ("auth", _) => decode_as::<DecodedAuths>(path, text),
        ("banks", "list") => decode_as::<DecodedBanks>(path, text),
        ("banks", _) => decode_as::<DecodedBank>(path, text),
        ("customers", "list" | "find-customers-by") => decode_as::<DecodedCustomers>(path, text),
        ("customers", "get" | "flag" | "unflag") => decode_as::<DecodedCustomer>(path, text),
        ("", "callback") => decode_callback(path, text),
        ("callback", "trigger") => decode_as::<DecodedTriggered>(path, text),
        ("products", "records") | ("products/records", "getByCustomerByBank") => {
            decode_as::<DecodedRecords>(path, text);
        }
        ("products/records", "get") => decode_as::<DecodedOneRecord>(path, text),
        ("products", "list") => decode_as::<DecodedProductNames>(path, text),
        ("products/all", _) => decode_as::<DecodedEverything>(path, text),
        ("products/transactions", "spending-pattern")
        | ("products/spending-patterns", "process") => decode_as::<DecodedSpending>(path, text),
        (_, "download") => decode_as::<DecodedFile>(path, text),
        ("customers/dti", "get") => decode_as::<DecodedNoRatio>(path, text),
        ("customers", "create" | "generate") => decode_as::<DecodedCreated>(path, text),
        ("customers", "remove") => decode_as::<DecodedRemoved>(path, text),
        ("links", "new") => decode_as::<DecodedOneLink>(path, text),
        ("", "auto-refresh" | "data-sync") => decode_as::<DecodedSubscriptions>(path, text),
        ("products", "total-debits-credits") | ("products/records/credit-debit", "get") => {
            decode_as::<DecodedTotals>(path, text);
        }
        ("", "openapi.json" | "docs") => {}
        // Ours: an object at least.
        _ => {
            let of_okra = |it: &&Route| it.path == path && it.origin == Origin::Okra;
            assert!(
                !ROUTES.iter().any(|it| of_okra(&it)),
                "{path} has no decoder"
            );
            decode_as::<serde_json::Map<String, Value>>(path, text);
        }
    }
}

/// Decodes callback data by the product that it says it is of.
#[track_caller]
fn decode_callback(path: &str, text: &str) {
    let json: Value = serde_json::from_str(text).unwrap();
    match json["data"]["product"].as_str().unwrap() {
        "AUTH" => decode_as::<DecodedCallback<DecodedAuthData>>(path, text),
        "ACCOUNTS" => decode_as::<DecodedCallback<DecodedAccountsData>>(path, text),
        product if product.contains("BALANCE") => {
            decode_as::<DecodedCallback<DecodedBalanceData>>(path, text);
        }
        _ => decode_as::<DecodedCallback<DecodedTransactionsData>>(path, text),
    }
}
