//! The directory of an app's customers: created at the sandbox bank, listed, found and flagged.

use okra_app::{
    AppError, CreateLoginRequest, SandboxLoginFactory,
    linking::{LinkCustomer, LinkRecordRequest},
};
use okra_core::model::ids::{BankId, CustomerId};
use okra_store::{Customer, ListPage};
use okra_wire::{
    account_context::{NamedReference, ResourceTimes},
    customer::{CustomerResource as Shown, LinkedCredential},
    envelope::{MAX_PAGE_LIMIT, Pagination},
};
use serde::Serialize;

use crate::{
    http::{
        envelope::{ApiError, ApiResponse, success_response},
        input::{self, BANK, CUSTOMER, Input},
        request::ApiRequest,
    },
    records::{
        details,
        linking::{LinkRecordResponse, parse_link_terms},
        names::DisplayNames,
    },
};

/// Most customers that a list with pages looks at. An app with more uses a cursor.
const MAX_LISTED_CUSTOMERS: usize = 10_000;

/// The cursor of a list that begins.
const START_CURSOR: &str = "start";

/// Most customers that one request creates.
const MAX_GENERATED: usize = 10;

/// Most accounts of a sandbox login.
const MAX_SANDBOX_ACCOUNTS: u64 = 5;

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct CreateCustomersResponse {
    #[serde(flatten)]
    first: Option<LinkRecordResponse>,
    customers: Vec<LinkRecordResponse>,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct DebtToIncomeResponse {
    customer: CustomerId,
    income: (),
    debt: (),
    dti: (),
    msg: &'static str,
}

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct CustomersResponse {
    customers: Vec<Shown>,
    /// Null where the request has a `cursor`.
    pagination: Option<Pagination>,
    /// The `cursor` of the next page; absent at the end, and where the request has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<CustomerId>,
}

/// Creates customers with logins at the sandbox bank, and links them: one, or a list of them, each
/// `{name?, bank?, noOfAccount?, volume?}` as Okra's sandbox took them, and what a link takes besides.
pub(crate) async fn create_customers(request: &ApiRequest) -> ApiResponse {
    let items = request.input.items();
    if items.len() > MAX_GENERATED {
        let problem = format!("must be at most {MAX_GENERATED} customers");
        return Err(ApiError::invalid_field("body", problem));
    }
    let sandbox = require_sandbox(request)?;
    let mut linked = Vec::with_capacity(items.len());
    for input in items {
        linked.push(create_sandbox_customer(request, sandbox, input).await?);
    }
    respond_with_created(linked)
}

/// Creates `number` customers that the sandbox chooses.
pub(crate) async fn generate_customers(request: &ApiRequest) -> ApiResponse {
    let number = request.input.parse_number("number")?.unwrap_or(1);
    let number = usize::try_from(number)
        .ok()
        .filter(|number| (1..=MAX_GENERATED).contains(number))
        .ok_or_else(|| {
            ApiError::invalid_field("number", format!("must be 1 to {MAX_GENERATED}"))
        })?;
    let sandbox = require_sandbox(request)?;
    let mut linked = Vec::with_capacity(number);
    for _ in 0..number {
        linked.push(create_sandbox_customer(request, sandbox, &request.input).await?);
    }
    respond_with_created(linked)
}

fn require_sandbox(request: &ApiRequest) -> Result<&dyn SandboxLoginFactory, ApiError> {
    let sandbox = request.services.sandbox();
    Ok(sandbox.ok_or(AppError::NoSandbox)?)
}

async fn create_sandbox_customer(
    request: &ApiRequest,
    sandbox: &dyn SandboxLoginFactory,
    input: &Input,
) -> Result<LinkRecordResponse, ApiError> {
    let accounts = input.parse_number("noOfAccount")?.unwrap_or(1);
    if !(1..=MAX_SANDBOX_ACCOUNTS).contains(&accounts) {
        let problem = format!("must be 1 to {MAX_SANDBOX_ACCOUNTS}");
        return Err(ApiError::invalid_field("noOfAccount", problem));
    }
    let terms = parse_link_terms(input)?;
    let login = CreateLoginRequest {
        name: input.find_text(&["name"]),
        bank: input.parse_id(BANK)?,
        accounts: u8::try_from(accounts).unwrap_or(1),
        volume: input.find_text(&["volume"]),
    };
    let login = sandbox
        .create_login(login)
        .map_err(|problem| ApiError::invalid_field("customer", problem))?;
    let linking = LinkRecordRequest {
        bank: login.bank,
        consent: login.consent,
        customer: LinkCustomer::New {
            name: login.name,
            email: input.find_text(&["email"]),
        },
        account_ids: vec![],
        terms,
        user_address: request.input.parse_user_address()?,
    };
    let linked = request.scope()?.link_record(linking).await?;
    Ok(linked.into())
}

/// The first one's fields stand at the top, for callers that made one.
fn respond_with_created(linked: Vec<LinkRecordResponse>) -> ApiResponse {
    let data = CreateCustomersResponse {
        first: linked.first().cloned(),
        customers: linked,
    };
    success_response("Customer created successfully", data)
}

/// After which customer a list goes on that has a cursor.
enum CustomerPaging {
    /// It has pages.
    PageNumber,
    /// It has a cursor; `None`: it begins.
    AfterCursor(Option<CustomerId>),
}

impl CustomerPaging {
    fn from_request(request: &ApiRequest) -> Result<Self, ApiError> {
        let cursor = &["cursor"];
        match request.input.find_text(cursor) {
            None => Ok(Self::PageNumber),
            Some(_) if request.input.is_given(&["page"]) => Err(ApiError::invalid_field(
                "page",
                "must not be sent with a cursor",
            )),
            Some(text) if text == START_CURSOR => Ok(Self::AfterCursor(None)),
            Some(_) => Ok(Self::AfterCursor(request.input.parse_id(cursor)?)),
        }
    }
}

/// A total of what was not all looked at would be wrong.
fn too_many_customers_error() -> ApiError {
    let problem = format!(
        "is required: the app has {MAX_LISTED_CUSTOMERS} customers or more; begin with {START_CURSOR} and continue with next_cursor"
    );
    ApiError::invalid_field("cursor", problem)
}

/// So many of the app's customers after one of them, rounded up to [`MAX_PAGE_LIMIT`].
async fn load_customers_after(
    request: &ApiRequest,
    after: Option<CustomerId>,
    limit: usize,
) -> Result<ListPage<Customer, CustomerId>, ApiError> {
    let app = request.require_app()?.id;
    let (mut items, mut next) = (Vec::new(), after);
    for _ in 0..limit.div_ceil(MAX_PAGE_LIMIT) {
        let page = request
            .services
            .store
            .list_customers(app, next, MAX_PAGE_LIMIT)
            .await?;
        items.extend(page.items);
        next = page.next_cursor;
        if next.is_none() {
            break;
        }
    }
    Ok(ListPage {
        items,
        next_cursor: next,
    })
}

fn respond_with_customers(
    request: &ApiRequest,
    customers: Vec<Customer>,
    pagination: Option<Pagination>,
    next_cursor: Option<CustomerId>,
) -> ApiResponse {
    let customers = customers
        .into_iter()
        .map(|customer| render_customer(request, customer));
    let data = CustomersResponse {
        customers: customers.collect::<Result<_, _>>()?,
        pagination,
        next_cursor,
    };
    success_response("Customers retrieved successfully", data)
}

/// The app's customers: which there are is known by their ids, and the page's are read.
pub(crate) async fn list_customers(request: &ApiRequest) -> ApiResponse {
    let (app, store) = (request.require_app()?.id, &request.services.store);
    if let CustomerPaging::AfterCursor(after) = CustomerPaging::from_request(request)? {
        let limit = request.input.parse_page_end()?;
        let page = store.list_customers(app, after, limit).await?;
        return respond_with_customers(request, page.items, None, page.next_cursor);
    }
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let some = store.list_customer_ids(app, after, MAX_PAGE_LIMIT).await?;
        after = some.last().copied();
        ids.extend(&some);
        if some.len() < MAX_PAGE_LIMIT {
            break;
        }
        if ids.len() >= MAX_LISTED_CUSTOMERS {
            return Err(too_many_customers_error());
        }
    }
    let pagination = request.input.parse_page(ids.len())?;
    let customers = store.load_customers(&pagination.cut_page(ids)).await?;
    respond_with_customers(request, customers, Some(pagination), None)
}

/// The customers with one property, among those after a cursor.
async fn search_customers(
    request: &ApiRequest,
    key: input::FieldNames<'_>,
    after: Option<CustomerId>,
    limit: usize,
) -> Result<ListPage<Customer, CustomerId>, ApiError> {
    let name = key[0];
    let (key, value) = (
        request.input.require_text(key)?,
        request.input.require_text(&["value"])?,
    );
    let is: fn(&Customer, &str) -> bool = match key.as_str() {
        "id" | "_id" | "customer" => {
            let id = value.parse().map_err(|error| {
                ApiError::invalid_field("value", format!("must be an id: {error}"))
            })?;
            let items = vec![request.scope()?.load_own_customer(id).await?];
            return Ok(ListPage {
                items,
                next_cursor: None,
            });
        }
        "name" => |customer, value| customer.name.to_lowercase() == value,
        "email" => |customer, value| {
            let email = customer.email.as_ref().map(|it| it.to_lowercase());
            email.as_deref() == Some(value)
        },
        _ => return Err(ApiError::invalid_field(name, "must be id, name or email")),
    };
    let (mut page, value) = (
        load_customers_after(request, after, limit).await?,
        value.to_lowercase(),
    );
    page.items.retain(|customer| is(customer, &value));
    Ok(page)
}

/// Customers with one property: in pages or, with each request looking at a thousand, with a cursor.
pub(crate) async fn find_customers(request: &ApiRequest) -> ApiResponse {
    let key = &["key", "type"];
    if let CustomerPaging::AfterCursor(after) = CustomerPaging::from_request(request)? {
        let page = search_customers(request, key, after, MAX_PAGE_LIMIT).await?;
        return respond_with_customers(request, page.items, None, page.next_cursor);
    }
    let page = search_customers(request, key, None, MAX_LISTED_CUSTOMERS).await?;
    if page.next_cursor.is_some() {
        return Err(too_many_customers_error());
    }
    let pagination = request.input.parse_page(page.items.len())?;
    let customers = pagination.cut_page(page.items);
    respond_with_customers(request, customers, Some(pagination), None)
}

/// Sets whether a customer is flagged: a flagged one links nothing more until the flag is taken away.
async fn set_customer_flag(request: &ApiRequest, is_blocked: bool) -> ApiResponse {
    let mut customer = request.load_requested_customer().await?;
    if let Some(bank) = request.input.parse_id::<BankId>(BANK)? {
        let records = request
            .services
            .store
            .list_records_of_customer(customer.id)
            .await?;
        if !records.iter().any(|head| head.bank == bank) {
            return Err(ApiError::invalid_field(
                "bank",
                "must be one of the customer's banks",
            ));
        }
    }
    if customer.is_blocked != is_blocked {
        customer.is_blocked = is_blocked;
        request.services.store.put_customer(&customer).await?;
    }
    let message = match is_blocked {
        true => "Customer flagged successfully",
        false => "Customer unflagged successfully",
    };
    success_response(message, render_customer(request, customer)?)
}

pub(crate) async fn flag_customer(request: &ApiRequest) -> ApiResponse {
    set_customer_flag(request, true).await
}

pub(crate) async fn unflag_customer(request: &ApiRequest) -> ApiResponse {
    set_customer_flag(request, false).await
}

/// Okra's debt-to-income ratio, which is not computed: a bank states neither incomes nor debts.
pub(crate) async fn get_debt_to_income(request: &ApiRequest) -> ApiResponse {
    let customer = request.load_requested_customer().await?.id;
    let msg = "Not computed: a bank states neither incomes nor debts";
    let data = DebtToIncomeResponse {
        customer,
        income: (),
        debt: (),
        dti: (),
        msg,
    };
    success_response("Debt to income is not computed here", data)
}

/// One customer, by its id or as [`find_customers`] finds it.
pub(crate) async fn get_customer(request: &ApiRequest) -> ApiResponse {
    let customer = match request.input.is_given(CUSTOMER) {
        false if request.input.find_text(&["type", "key"]).is_some() => {
            let page =
                search_customers(request, &["type", "key"], None, MAX_LISTED_CUSTOMERS).await?;
            match (page.items.into_iter().next(), page.next_cursor) {
                (Some(found), _) => found,
                (None, None) => return Err(ApiError::not_found("customer")),
                (None, Some(_)) => {
                    let problem = format!(
                        "is required: it is not among the first {MAX_LISTED_CUSTOMERS}; continue with customers/find-customers-by"
                    );
                    return Err(ApiError::invalid_field("customer", problem));
                }
            }
        }
        _ => {
            let id = request.input.require_id(CUSTOMER)?;
            return respond_with_customer(request, id).await;
        }
    };
    respond_with_customer(request, customer.id).await
}

/// A customer with its records.
async fn respond_with_customer(request: &ApiRequest, id: CustomerId) -> ApiResponse {
    let heads = request.scope()?.load_customer_records(id).await?;
    let customer = request.scope()?.load_cached_customer(id).await?;
    let customer = customer.ok_or_else(|| ApiError::not_found("customer"))?;
    let customer = Customer::clone(&customer);
    let accounts = request.scope()?.load_customer_accounts(id).await?;
    let shown_records = details::render_records(request, &heads, &accounts).await?;
    let ids = heads.iter().map(|head| head.record);
    let names = DisplayNames::load_for_accounts(request, &accounts)
        .await?
        .with_record_states(&heads);
    let credentials = accounts
        .iter()
        .map(|account| {
            Ok(LinkedCredential::new(
                &names.build_origin(request, account)?,
            ))
        })
        .collect::<Result<_, ApiError>>()?;
    let shown = render_customer(request, customer)?
        .with_credentials(credentials)
        .with_records(ids.zip(shown_records).collect());
    success_response("Customer retrieved successfully", shown)
}

fn render_customer(request: &ApiRequest, customer: Customer) -> Result<Shown, ApiError> {
    let blocked = customer.is_blocked;
    Ok(Shown::new(
        NamedReference::new(customer.id, customer.name),
        NamedReference::new(
            request.require_app()?.id,
            request.require_app()?.name.clone(),
        ),
        customer.email,
        request.require_app()?.environment,
        ResourceTimes::at_instant(customer.created_at),
    )
    .with_blocked_flag(blocked))
}

routes! {
    Change Key [Okra "customers/create"] => create_customers(make_optional(NAME), EMAIL, make_optional(BANK), SANDBOX, SYNC, LINK_OPTIONS) -> CreateCustomersResponse:
        "Creates one customer or a list of them with logins at the sandbox bank, and links them.";
    Change Key [Okra "customers/generate"] => generate_customers(NUMBER, SANDBOX, SYNC, LINK_OPTIONS) -> CreateCustomersResponse:
        "Creates a number of customers with logins at the sandbox bank, and links them.";
    Post Key [Okra "customers/list"] => list_customers(PAGE, AFTER_CUSTOMER) -> CustomersResponse:
        "Lists the customers of the app, by page or by cursor.";
    Post Key [Okra "customers/find-customers-by"] => find_customers(KEY, TEXT_VALUE, PAGE, AFTER_CUSTOMER) -> CustomersResponse:
        "Lists the customers with an id, a name or an email address.";
    Change Key [Okra "customers/flag"] => flag_customer(CUSTOMER, make_optional(BANK)) -> Shown:
        "Flags a customer, who then cannot link a bank, and returns the customer.";
    Change Key [Okra "customers/unflag"] => unflag_customer(CUSTOMER, make_optional(BANK)) -> Shown:
        "Removes the flag of a customer and returns the customer.";
    Post Key [Okra "customers/dti/get"] => get_debt_to_income(CUSTOMER) -> DebtToIncomeResponse:
        "Returns empty figures: a debt-to-income ratio is not computed here.";
    Post Key [Okra "customers/get"] => get_customer(CUSTOMER) -> Shown:
        "Returns one customer with all records and accounts.";
}
