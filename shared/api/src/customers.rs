//! Customers, and the sandbox's.

use axum::http::StatusCode;
use okra_core::ids::{BankId, CustomerId};
use okra_store::{Customer, Page};
use okra_wire::{
    customer::{Credential, Customer as Shown},
    envelope::{MAX_LIMIT, Pagination},
    origin::{Named, Times},
};
use serde::Serialize;

use crate::{
    Sandbox, SandboxAsk,
    call::Call,
    envelope::{Answer, Refusal, success},
    input::{self, BANK, CUSTOMER, Input},
    link::{Linked, Linking, Terms, Whom, link_record},
    names::Names,
    records,
};

/// Customers that a list with pages looks at, at most. An app with more goes through them with a cursor.
const MAX_LISTED: usize = 10_000;

/// The cursor of a list that begins.
const START: &str = "start";

/// Customers that one call makes at most.
const MAX_GENERATED: usize = 10;

/// Accounts of a sandbox login at most.
const MAX_SANDBOX_ACCOUNTS: u64 = 5;

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Created {
    #[serde(flatten)]
    first: Option<Linked>,
    customers: Vec<Linked>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct DebtToIncome {
    customer: CustomerId,
    income: (),
    debt: (),
    dti: (),
    msg: &'static str,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Customers {
    customers: Vec<Shown>,
    /// Null where there was a `cursor`.
    pagination: Option<Pagination>,
    /// What `cursor` has to be to go on; absent at the end, and where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<CustomerId>,
}

/// Makes customers with logins at the sandbox bank, and links them: one, or a list of them, each
/// `{name?, bank?, noOfAccount?, volume?}` as Okra's sandbox took them, and what a link takes besides.
pub(crate) async fn create(call: &Call) -> Answer {
    let asked = call.input.items();
    if asked.len() > MAX_GENERATED {
        let problem = format!("has more than {MAX_GENERATED} customers");
        return Err(Refusal::field("body", problem));
    }
    let sandbox = sandbox(call)?;
    let mut linked = Vec::with_capacity(asked.len());
    for input in asked {
        linked.push(create_one(call, sandbox, input).await?);
    }
    answer(linked)
}

/// Makes `number` customers of the sandbox's choice.
pub(crate) async fn generate(call: &Call) -> Answer {
    let number = call.input.number("number")?.unwrap_or(1);
    let number = usize::try_from(number)
        .ok()
        .filter(|number| (1..=MAX_GENERATED).contains(number))
        .ok_or_else(|| Refusal::field("number", format!("is 1 to {MAX_GENERATED}")))?;
    let sandbox = sandbox(call)?;
    let mut linked = Vec::with_capacity(number);
    for _ in 0..number {
        linked.push(create_one(call, sandbox, &call.input).await?);
    }
    answer(linked)
}

fn sandbox(call: &Call) -> Result<&dyn Sandbox, Refusal> {
    call.state.sandbox.as_deref().ok_or_else(|| {
        let message = "There is no sandbox bank here; link a record with records/link";
        Refusal::new(StatusCode::NOT_IMPLEMENTED, "ENV", message)
    })
}

async fn create_one(call: &Call, sandbox: &dyn Sandbox, input: &Input) -> Result<Linked, Refusal> {
    let accounts = input.number("noOfAccount")?.unwrap_or(1);
    if !(1..=MAX_SANDBOX_ACCOUNTS).contains(&accounts) {
        let problem = format!("is 1 to {MAX_SANDBOX_ACCOUNTS}");
        return Err(Refusal::field("noOfAccount", problem));
    }
    let terms = Terms::of(call, input)?;
    let ask = SandboxAsk {
        name: input.text(&["name"]),
        bank: input.id(BANK)?,
        accounts: u8::try_from(accounts).unwrap_or(1),
        volume: input.text(&["volume"]),
    };
    let login = sandbox
        .create(ask)
        .map_err(|problem| Refusal::field("customer", problem))?;
    let linking = Linking {
        bank: login.bank,
        consent: login.consent,
        whom: Whom::New {
            name: login.name,
            email: input.text(&["email"]),
        },
        account_ids: vec![],
        terms,
    };
    link_record(call, linking).await
}

/// The first one's fields stand at the top, for callers that made one.
fn answer(linked: Vec<Linked>) -> Answer {
    let data = Created {
        first: linked.first().cloned(),
        customers: linked,
    };
    success("Customer created successfully", data)
}

/// After which customer a list goes on that has a cursor.
enum Paged {
    /// It has pages.
    ByNumber,
    /// It has a cursor; `None`: it begins.
    After(Option<CustomerId>),
}

impl Paged {
    fn of(call: &Call) -> Result<Self, Refusal> {
        let cursor = &["cursor"];
        match call.input.text(cursor) {
            None => Ok(Self::ByNumber),
            Some(_) if call.input.is_given(&["page"]) => {
                Err(Refusal::field("page", "is not taken with a cursor"))
            }
            Some(text) if text == START => Ok(Self::After(None)),
            Some(_) => Ok(Self::After(call.input.id(cursor)?)),
        }
    }
}

/// A total of what was not all looked at would be wrong.
fn too_many() -> Refusal {
    let problem = format!(
        "is required: the app has {MAX_LISTED} customers or more; begin with {START} and go on with next_cursor"
    );
    Refusal::field("cursor", problem)
}

/// So many of the app's customers after one of them, rounded up to [`MAX_LIMIT`].
async fn some(
    call: &Call,
    after: Option<CustomerId>,
    most: usize,
) -> Result<Page<Customer, CustomerId>, Refusal> {
    let app = call.app()?.id;
    let (mut items, mut next) = (Vec::new(), after);
    for _ in 0..most.div_ceil(MAX_LIMIT) {
        let page = call.state.store.customers(app, next, MAX_LIMIT).await?;
        items.extend(page.items);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    Ok(Page { items, next })
}

fn answer_list(
    call: &Call,
    customers: Vec<Customer>,
    pagination: Option<Pagination>,
    next_cursor: Option<CustomerId>,
) -> Answer {
    let customers = customers.into_iter().map(|customer| shown(call, customer));
    let data = Customers {
        customers: customers.collect::<Result<_, _>>()?,
        pagination,
        next_cursor,
    };
    success("Customers retrieved successfully", data)
}

/// The app's customers: which there are is known by their ids, and the page's are read.
pub(crate) async fn list(call: &Call) -> Answer {
    let (app, store) = (call.app()?.id, &call.state.store);
    if let Paged::After(after) = Paged::of(call)? {
        let limit = call.input.page_end()?;
        let page = store.customers(app, after, limit).await?;
        return answer_list(call, page.items, None, page.next);
    }
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let some = store.customer_ids(app, after, MAX_LIMIT).await?;
        after = some.last().copied();
        ids.extend(&some);
        if some.len() < MAX_LIMIT {
            break;
        }
        if ids.len() >= MAX_LISTED {
            return Err(too_many());
        }
    }
    let pagination = call.input.page(ids.len())?;
    let customers = store.customers_of(&pagination.cut(ids)).await?;
    answer_list(call, customers, Some(pagination), None)
}

/// Customers by one of what is known of them, of those looked at.
async fn found(
    call: &Call,
    key: input::Names<'_>,
    (after, most): (Option<CustomerId>, usize),
) -> Result<Page<Customer, CustomerId>, Refusal> {
    let name = key[0];
    let (key, value) = (
        call.input.needed_text(key)?,
        call.input.needed_text(&["value"])?,
    );
    let is: fn(&Customer, &str) -> bool = match key.as_str() {
        "id" | "_id" | "customer" => {
            let id = value
                .parse()
                .map_err(|error| Refusal::field("value", format!("is no id: {error}")))?;
            let items = vec![call.own_customer(id).await?];
            return Ok(Page { items, next: None });
        }
        "name" => |customer, value| customer.name.to_lowercase() == value,
        "email" => |customer, value| {
            let email = customer.email.as_ref().map(|it| it.to_lowercase());
            email.as_deref() == Some(value)
        },
        _ => return Err(Refusal::field(name, "is one of id, name, email")),
    };
    let (mut page, value) = (some(call, after, most).await?, value.to_lowercase());
    page.items.retain(|customer| is(customer, &value));
    Ok(page)
}

/// Customers by what is known of them, in pages or, a thousand looked at with each call, with a cursor.
pub(crate) async fn find(call: &Call) -> Answer {
    let key = &["key", "type"];
    if let Paged::After(after) = Paged::of(call)? {
        let page = found(call, key, (after, MAX_LIMIT)).await?;
        return answer_list(call, page.items, None, page.next);
    }
    let page = found(call, key, (None, MAX_LISTED)).await?;
    if page.next.is_some() {
        return Err(too_many());
    }
    let pagination = call.input.page(page.items.len())?;
    let customers = pagination.cut(page.items);
    answer_list(call, customers, Some(pagination), None)
}

/// Sets whether a customer is flagged: a flagged one links nothing more until the flag is taken away.
async fn set_flag(call: &Call, blocked: bool) -> Answer {
    let mut customer = call.customer().await?;
    if let Some(bank) = call.input.id::<BankId>(BANK)? {
        let records = call.state.store.records_of_customer(customer.id).await?;
        if !records.iter().any(|head| head.bank == bank) {
            return Err(Refusal::field("bank", "is none of the customer's banks"));
        }
    }
    if customer.blocked != blocked {
        customer.blocked = blocked;
        call.state.store.put_customer(&customer).await?;
    }
    let message = match blocked {
        true => "Customer flagged successfully",
        false => "Customer unflagged successfully",
    };
    success(message, shown(call, customer)?)
}

pub(crate) async fn flag(call: &Call) -> Answer {
    set_flag(call, true).await
}

pub(crate) async fn unflag(call: &Call) -> Answer {
    set_flag(call, false).await
}

/// Okra's debt-to-income ratio. Incomes and debts are not told by a bank and nothing is guessed.
pub(crate) async fn debt_to_income(call: &Call) -> Answer {
    let customer = call.customer().await?.id;
    let msg = "Not computed: a bank tells neither incomes nor debts, and nothing is guessed";
    let data = DebtToIncome {
        customer,
        income: (),
        debt: (),
        dti: (),
        msg,
    };
    success("Debt to income is not computed here", data)
}

/// One customer, by its id or as [`find`] finds it.
pub(crate) async fn get(call: &Call) -> Answer {
    let customer = match call.input.is_given(CUSTOMER) {
        false if call.input.text(&["type", "key"]).is_some() => {
            let page = found(call, &["type", "key"], (None, MAX_LISTED)).await?;
            match (page.items.into_iter().next(), page.next) {
                (Some(found), _) => found,
                (None, None) => return Err(Refusal::not_found("customer")),
                (None, Some(_)) => {
                    let problem = format!(
                        "is required: it is none of the first {MAX_LISTED}; look on with customers/find-customers-by"
                    );
                    return Err(Refusal::field("customer", problem));
                }
            }
        }
        _ => {
            let id = call.input.needed_id(CUSTOMER)?;
            return one(call, id).await;
        }
    };
    one(call, customer.id).await
}

/// A customer with its records.
async fn one(call: &Call, id: CustomerId) -> Answer {
    let heads = call.records_of_customer(id).await?;
    let customer = call.named_customer(id).await?;
    let customer = customer.ok_or_else(|| Refusal::not_found("customer"))?;
    let customer = Customer::clone(&customer);
    let accounts = call.accounts_of_customer(id).await?;
    let shown_records = records::shown(call, &heads, &accounts).await?;
    let ids = heads.iter().map(|head| head.record);
    let names = Names::of_accounts(call, &accounts)
        .await?
        .with_states(&heads);
    let credentials = accounts
        .iter()
        .map(|account| Ok(Credential::new(&names.origin(call, account)?)))
        .collect::<Result<_, Refusal>>()?;
    let shown = shown(call, customer)?
        .with_credentials(credentials)
        .with_records(ids.zip(shown_records).collect());
    success("Customer retrieved successfully", shown)
}

fn shown(call: &Call, customer: Customer) -> Result<Shown, Refusal> {
    let blocked = customer.blocked;
    Ok(Shown::new(
        Named::new(customer.id, customer.name),
        Named::new(call.app()?.id, call.app()?.name.clone()),
        customer.email,
        call.app()?.env,
        Times::at(customer.created_at),
    )
    .with_block(blocked))
}

documented! {
    create(optional(NAME), EMAIL, optional(BANK), SANDBOX, SYNC, LINK_OPTIONS) -> Created: "Makes a customer with a login at the sandbox bank, or a list of them, and links them.";
    generate(NUMBER, SANDBOX, SYNC, LINK_OPTIONS) -> Created: "Makes customers of the sandbox's choice, and links them.";
    list(PAGE, AFTER_CUSTOMER) -> Customers: "The customers of the app.";
    find(KEY, TEXT_VALUE, PAGE, AFTER_CUSTOMER) -> Customers: "Customers by id, name or address.";
    flag(CUSTOMER, optional(BANK)) -> Shown: "Flags a customer: one that is flagged links nothing more.";
    unflag(CUSTOMER, optional(BANK)) -> Shown: "Takes a customer's flag away.";
    debt_to_income(CUSTOMER) -> DebtToIncome: "Says that no ratio is computed here.";
    get(CUSTOMER) -> Shown: "One customer with its records.";
}
