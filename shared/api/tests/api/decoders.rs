//! Types as Okra's strictly typed clients have them: they stop on a wrong JSON type, on null where they
//! want a value, and on an object where they want a list.

#![expect(
    dead_code,
    reason = "what is decoded is not read: decoding is the test"
)]

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
struct Customer {
    _id: String,
    name: String,
    credentials: Vec<Value>,
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
struct Callback {
    product: String,
    record: String,
    products: Value,
    status: Value,
    balances: Vec<CallbackBalance>,
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
        ("", "callback") => read::<Callback>(path, text),
        ("products", "total-debits-credits") | ("products/records/credit-debit", "get") => {
            read::<Totals>(path, text);
        }
        ("", "openapi.json" | "docs") => {}
        // Ours, or without a typed client: an object at least.
        _ => read::<serde_json::Map<String, Value>>(path, text),
    }
}
