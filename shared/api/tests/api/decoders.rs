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
struct Envelope<D> {
    status: String,
    message: String,
    data: D,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pagination {
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
struct Null(());

#[derive(Deserialize)]
struct Named {
    _id: String,
    name: String,
}

#[derive(Deserialize)]
struct AccountOf {
    _id: String,
    name: String,
    nuban: String,
    bank: Named,
}

#[derive(Deserialize)]
struct Periodic {
    available_balance: Vec<String>,
    ledger_balance: Vec<String>,
}

/// `balance/getBy*`.
#[derive(Deserialize)]
struct Balances {
    pagination: Pagination,
    balance: Vec<Balance>,
}

#[derive(Deserialize)]
struct Balance {
    _id: String,
    __v: i64,
    account: AccountOf,
    customer: Named,
    available_balance: Number,
    ledger_balance: Number,
    currency: String,
    periodic: Periodic,
    connected: Vec<String>,
    owner: Vec<String>,
    record: Vec<String>,
    env: String,
    created_at: String,
    last_updated: String,
}

/// `balance/getByType`.
#[derive(Deserialize)]
struct TypedBalances {
    pagination: Pagination,
    balance: Vec<TypedBalance>,
}

#[derive(Deserialize)]
struct TypedBalance {
    id: String,
    account: AccountOf,
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
struct ListedBalances {
    pagination: Null,
    balances: Vec<ListedBalance>,
}

#[derive(Deserialize)]
struct ListedBalance {
    id: String,
    account: AccountOf,
    ledger_balance: Number,
    available_balance: Number,
    currency: String,
    connected: bool,
    env: String,
    created_at: String,
    last_updated: String,
}

#[derive(Deserialize)]
struct Acknowledged {
    record: String,
    method: String,
    callback_url: String,
}

#[derive(Deserialize)]
struct Transactions {
    pagination: Pagination,
    transaction: Vec<Transaction>,
}

#[derive(Deserialize)]
struct Transaction {
    _id: String,
    __v: i64,
    trans_date: String,
    cleared_date: Option<String>,
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
    notes: Notes,
    ner: Entities,
    ner_v: i64,
    location: Location,
    bank: BankOf,
    customer: Named,
    account: Named,
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
struct Notes {
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
struct Entities {
    beneficiaries: String,
    account: Vec<String>,
}

#[derive(Deserialize)]
struct Location {
    address: String,
    lat: i64,
    long: i64,
    raw: String,
}

#[derive(Deserialize)]
struct BankOf {
    name: String,
    logo: String,
    icon: String,
    status: String,
}

#[derive(Deserialize)]
struct Counts {
    pagination: Null,
    trans: Vec<Count>,
}

#[derive(Deserialize)]
struct Count {
    bank: Named,
    customer: Named,
    count: i64,
    env: String,
}

#[derive(Deserialize)]
struct Accounts {
    account: Vec<Account>,
}

#[derive(Deserialize)]
struct ListedAccounts {
    accounts: Vec<Account>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
struct Account {
    _id: String,
    name: String,
    nuban: String,
    bank: AccountBank,
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
struct AccountBank {
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
struct Auths {
    pagination: Pagination,
    auths: Vec<Auth>,
}

#[derive(Deserialize)]
struct Auth {
    _id: String,
    id: String,
    record: String,
    __v: i64,
    bank: AuthBank,
    customer: Named,
    env: String,
    owner: String,
    validated: bool,
    created_at: String,
    last_updated: String,
}

#[derive(Deserialize)]
struct AuthBank {
    name: String,
    logo: String,
    icon: String,
    status: String,
    v2_icon: String,
    v2_logo: String,
}

#[derive(Deserialize)]
struct ListedAuths {
    pagination: Null,
    auths: Vec<ListedAuth>,
}

#[derive(Deserialize)]
struct ListedAuth {
    id: String,
    validated: bool,
    record: AuthRecord,
    created_at: String,
    last_updated: String,
}

#[derive(Deserialize)]
struct AuthRecord {
    _id: String,
    bank: Named,
    env: String,
    owner: String,
    customer: Named,
}

#[derive(Deserialize)]
struct Banks {
    banks: Vec<Bank>,
    credentials: Null,
}

#[derive(Deserialize)]
struct Bank {
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
struct Customers {
    customers: Vec<Customer>,
    pagination: Pagination,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Credential {
    bank: Named,
    nuban: String,
    account_name: String,
    connected: bool,
}

#[derive(Deserialize)]
struct CustomerOwner {
    _id: String,
    name: String,
    app_name: String,
}

#[derive(Deserialize)]
struct Customer {
    _id: String,
    name: String,
    credentials: Vec<Credential>,
    owner: Vec<CustomerOwner>,
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
struct Callback<D> {
    product: String,
    record: String,
    last_transaction_date: Option<String>,
    msg: Null,
    products: Flags,
    status: Status,
    #[serde(flatten)]
    resource: D,
}

#[derive(Deserialize)]
struct Flag {
    status: bool,
    number: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Flags {
    periodic_transactions: Flag,
    guarantors: Flag,
    directors: Flag,
    auth: bool,
    balance: bool,
    accounts: bool,
    transactions: bool,
    income: bool,
    identity: bool,
    direct_debit: bool,
}

#[derive(Deserialize)]
struct Status {
    process: Process,
    transactions: LastRuns,
    last_callback: Option<String>,
}

#[derive(Deserialize)]
struct Process {
    running: bool,
    completed: bool,
}

#[derive(Deserialize)]
struct LastRuns {
    last_success_at: Option<String>,
    last_fail_at: Option<String>,
}

#[derive(Deserialize)]
struct OfBalance {
    balances: Vec<CallbackBalance>,
}

#[derive(Deserialize)]
struct OfAccounts {
    accounts: Vec<Account>,
}

#[derive(Deserialize)]
struct OfTransactions {
    transactions: Vec<PlainTransaction>,
}

#[derive(Deserialize)]
struct OfAuth {
    auth: CallbackAuth,
}

#[derive(Deserialize)]
struct CallbackAuth {
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
struct PlainTransaction {
    _id: String,
    trans_date: String,
    credit: Option<Number>,
    debit: Option<Number>,
    currency: String,
    notes: Notes,
    bank: String,
    customer: String,
    account: String,
    record: Vec<String>,
    created_at: String,
    last_updated: String,
}

#[derive(Deserialize)]
struct Record {
    _id: String,
    #[serde(rename = "usedProduct")]
    used_product: Flags,
    status: Status,
    products: Vec<String>,
    billable_products: Vec<String>,
    source: String,
    limit: i64,
    bank: Named,
    customer: Named,
    env: String,
    owner: String,
    created_at: String,
    last_updated: String,
    __v: i64,
}

#[derive(Deserialize)]
struct Records {
    pagination: Null,
    records: Vec<Record>,
}

#[derive(Deserialize)]
struct OneRecord {
    pagination: Null,
    records: RecordWithCurrency,
}

#[derive(Deserialize)]
struct RecordWithCurrency {
    currency: String,
    #[serde(flatten)]
    record: Record,
}

#[derive(Deserialize)]
struct ProductNames {
    products: Vec<ProductName>,
}

#[derive(Deserialize)]
struct ProductName {
    name: String,
    status: bool,
}

/// `products/all/*`.
#[derive(Deserialize)]
struct Everything {
    pagination: Pagination,
    auth: Vec<ListedAuth>,
    accounts: Vec<Account>,
    balance: Vec<CallbackBalance>,
    transactions: Vec<PlainTransaction>,
}

#[derive(Deserialize)]
struct Spending {
    currency: String,
    months: Vec<Month>,
}

#[derive(Deserialize)]
struct Month {
    month: String,
    credit: Number,
    debit: Number,
    count: i64,
}

#[derive(Deserialize)]
struct File {
    file_name: String,
    content_type: String,
    rows: i64,
    content: String,
}

#[derive(Deserialize)]
struct NoRatio {
    customer: String,
    income: Null,
    debt: Null,
    dti: Null,
    msg: String,
}

#[derive(Deserialize)]
struct OneLink {
    link: ShortLink,
}

#[derive(Deserialize)]
struct ShortLink {
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
    filter: LinkFilter,
    owner: Named,
    app: LinkApp,
}

#[derive(Deserialize)]
struct LinkFilter {
    banks: Vec<String>,
    corp_banks: Vec<String>,
    ind_banks: Vec<String>,
}

#[derive(Deserialize)]
struct LinkApp {
    _id: String,
    tracking_id: String,
}

/// `customers/create` and `generate`.
#[derive(Deserialize)]
struct Created {
    record_id: String,
    customer_id: String,
    bank_id: String,
    accounts: Vec<LinkedAccount>,
    customers: Vec<Value>,
}

#[derive(Deserialize)]
struct LinkedAccount {
    id: String,
    name: String,
    nuban: String,
    customer: String,
}

#[derive(Deserialize)]
struct Subscriptions {
    subscriptions: Vec<Subscription>,
}

#[derive(Deserialize)]
struct Subscription {
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
struct Triggered {
    events: i64,
    records: i64,
}

#[derive(Deserialize)]
struct Removed {
    receipt: String,
}

#[derive(Deserialize)]
struct CallbackBalance {
    id: String,
    account: CallbackAccount,
    customer: CallbackCustomer,
    available_balance: Number,
    ledger_balance: Number,
    currency: String,
    connected: bool,
}

#[derive(Deserialize)]
struct CallbackAccount {
    id: String,
    nuban: String,
    name: String,
}

#[derive(Deserialize)]
struct CallbackCustomer {
    id: String,
    name: String,
    email: Vec<String>,
    phone: Vec<String>,
}

#[derive(Deserialize)]
struct Totals {
    result: Total,
}

#[derive(Deserialize)]
struct Total {
    credit: Number,
    debit: Number,
    currency: String,
}

#[track_caller]
fn read<D: DeserializeOwned>(path: &str, text: &str) {
    let read = serde_json::from_str::<Envelope<D>>(text);
    let envelope = read.unwrap_or_else(|error| panic!("{path}: {error}\n{text}"));
    assert_eq!(envelope.status, "success");
}

/// Whole amounts are integers: typed clients decode them as such.
#[track_caller]
fn no_idle_fraction(path: &str, text: &str) {
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
pub(crate) fn decode(path: &str, text: &str) {
    no_idle_fraction(path, text);
    let (family, call) = path.rsplit_once('/').unwrap_or(("", path));
    match (family, call) {
        // Ours: no client of Okra's calls it.
        ("transactions", "sync") => read::<serde_json::Map<String, Value>>(path, text),
        (_, "refresh" | "check" | "periodic" | "retry") => read::<Acknowledged>(path, text),
        ("balance", "getByType") => read::<TypedBalances>(path, text),
        ("balance" | "transactions/balance" | "transaction/balance", _) => {
            read::<Balances>(path, text);
        }
        ("products", "balances") => read::<ListedBalances>(path, text),
        ("products/transactions", "get") | ("products", "transactions") => {
            read::<Counts>(path, text);
        }
        ("transaction" | "transactions" | "records/transactions", _) => {
            read::<Transactions>(path, text);
        }
        ("accounts" | "account", "getAccountDetails") => read::<Account>(path, text),
        ("accounts" | "account", _) => read::<Accounts>(path, text),
        ("products", "accounts") => read::<ListedAccounts>(path, text),
        ("products", "auths") | ("products/auth", "get") => read::<ListedAuths>(path, text),
        ("auth", _) => read::<Auths>(path, text),
        ("banks", "list") => read::<Banks>(path, text),
        ("banks", _) => read::<Bank>(path, text),
        ("customers", "list" | "find-customers-by") => read::<Customers>(path, text),
        ("customers", "get" | "flag" | "unflag") => read::<Customer>(path, text),
        ("", "callback") => callback(path, text),
        ("callback", "trigger") => read::<Triggered>(path, text),
        ("products", "records") | ("products/records", "getByCustomerByBank") => {
            read::<Records>(path, text);
        }
        ("products/records", "get") => read::<OneRecord>(path, text),
        ("products", "list") => read::<ProductNames>(path, text),
        ("products/all", _) => read::<Everything>(path, text),
        ("products/transactions", "spending-pattern")
        | ("products/spending-patterns", "process") => read::<Spending>(path, text),
        (_, "download") => read::<File>(path, text),
        ("customers/dti", "get") => read::<NoRatio>(path, text),
        ("customers", "create" | "generate") => read::<Created>(path, text),
        ("customers", "remove") => read::<Removed>(path, text),
        ("links", "new") => read::<OneLink>(path, text),
        ("", "auto-refresh" | "data-sync") => read::<Subscriptions>(path, text),
        ("products", "total-debits-credits") | ("products/records/credit-debit", "get") => {
            read::<Totals>(path, text);
        }
        ("", "openapi.json" | "docs") => {}
        // Ours: an object at least.
        _ => {
            let of_okra = |it: &&Route| it.path == path && it.origin == Origin::Okra;
            assert!(
                !ROUTES.iter().any(|it| of_okra(&it)),
                "{path} has no decoder"
            );
            read::<serde_json::Map<String, Value>>(path, text);
        }
    }
}

/// Decodes callback data by the product that it says it is of.
#[track_caller]
fn callback(path: &str, text: &str) {
    let json: Value = serde_json::from_str(text).unwrap();
    match json["data"]["product"].as_str().unwrap() {
        "AUTH" => read::<Callback<OfAuth>>(path, text),
        "ACCOUNTS" => read::<Callback<OfAccounts>>(path, text),
        product if product.contains("BALANCE") => read::<Callback<OfBalance>>(path, text),
        _ => read::<Callback<OfTransactions>>(path, text),
    }
}
