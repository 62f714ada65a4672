//! The calls that link a record or give it a new consent. What they do is in [`okra_app::linking`].

use jiff::{SignedDuration, Timestamp};
use okra_app::linking::{
    LinkCustomer, LinkRecordRequest, LinkTerms, LinkedRecord, RenewRecordRequest,
};
use okra_connectors::{ConsentId, ConsentSecret};
use okra_core::{
    backfill::progress::MAX_BACKFILL_MONTHS,
    model::{
        ids::{BankId, CustomerId, RecordId},
        snapshot::Product,
    },
};
use okra_wire::{account::LinkedAccountResource, record::ScheduleResource};
use serde::Serialize;

use crate::http::{
    envelope::{ApiError, ApiResponse, success_response},
    input::{
        BANK, CONSENT_EXPIRES_AT, CONSENT_ID, CUSTOMER, Input, LIMIT_MONTHS, RECORD, SYNC_PRODUCTS,
        WEBHOOK_URL,
    },
    request::ApiRequest,
};

/// The record that was linked.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Serialize)]
pub(crate) struct LinkRecordResponse {
    record_id: RecordId,
    bank_id: BankId,
    customer_id: CustomerId,
    name: String,
    accounts: Vec<LinkedAccountResource>,
    schedule: ScheduleResource,
}

impl From<LinkedRecord> for LinkRecordResponse {
    fn from(linked: LinkedRecord) -> Self {
        let head = linked.head;
        let accounts = linked
            .accounts
            .into_iter()
            .map(|account| LinkedAccountResource {
                id: account.id,
                name: account.facts.name,
                nuban: account.facts.number,
                customer: head.customer,
            });
        Self {
            record_id: head.record,
            bank_id: head.bank,
            customer_id: head.customer,
            name: linked.customer_name,
            accounts: accounts.collect(),
            schedule: head.schedule.into(),
        }
    }
}

/// The data sync of a new record, and what its webhooks echo.
pub(crate) fn parse_link_terms(input: &Input) -> Result<LinkTerms, ApiError> {
    let products = input
        .parse_products()?
        .unwrap_or_else(|| Product::ALL.to_vec());
    Ok(LinkTerms {
        interval: input.parse_interval()?,
        synced_products: parse_synced_products(input, &products)?,
        products,
        webhook_url: input.find_text(WEBHOOK_URL),
        backfill_months: parse_backfill_months(input)?,
        consent_expires_at: parse_consent_expiry(input)?,
        options: input.parse_object("options")?.unwrap_or_default(),
        meta: input.parse_object("meta")?.unwrap_or_default(),
    })
}

/// Which of `products` are refreshed at the interval: all, unless the request names some.
fn parse_synced_products(input: &Input, products: &[Product]) -> Result<Vec<Product>, ApiError> {
    let Some(named) = input.find_texts(SYNC_PRODUCTS) else {
        return Ok(products.to_vec());
    };
    let mut synced = products.to_vec();
    synced.retain(|product| named.iter().any(|name| name == product.as_str()));
    let mut names = named.iter();
    let are_known = names.all(|name| synced.iter().any(|product| product.as_str() == name));
    if synced.is_empty() || !are_known {
        return Err(ApiError::invalid_field(
            SYNC_PRODUCTS,
            "must be any of products",
        ));
    }
    Ok(synced)
}

/// When the consent ends, where the app knows.
fn parse_consent_expiry(input: &Input) -> Result<Option<Timestamp>, ApiError> {
    let Some(text) = input.find_text(CONSENT_EXPIRES_AT) else {
        return Ok(None);
    };
    let at = text.parse();
    at.map(Some).map_err(|_| {
        ApiError::invalid_field("consent_expires_at", "must be an ISO 8601 date and time")
    })
}

/// Months of backfill: Okra's `limit`; the most where it is absent.
fn parse_backfill_months(input: &Input) -> Result<u8, ApiError> {
    let expected = format!("a number of months, 1 to {MAX_BACKFILL_MONTHS}");
    let Some(text) = input.find_scalar(LIMIT_MONTHS, &expected)? else {
        return Ok(MAX_BACKFILL_MONTHS);
    };
    let months = text
        .parse()
        .ok()
        .filter(|it| (1..=MAX_BACKFILL_MONTHS).contains(it));
    months.ok_or_else(|| ApiError::invalid_field("limit", format!("must be {expected}")))
}

/// The tokens of a consent, as the caller has them from the bank.
fn parse_consent_tokens(request: &ApiRequest) -> Result<ConsentSecret, ApiError> {
    let input = &request.input;
    let refresh_token = input.find_text(&["refresh_token"]);
    let access_token = match &refresh_token {
        Some(_) => input.find_text(&["access_token"]).unwrap_or_default(),
        None => input.require_text(&["access_token"])?,
    };
    let consent_id = match input.find_text(CONSENT_ID) {
        None => None,
        Some(text) => Some(ConsentId::new(text).ok_or_else(|| {
            ApiError::invalid_field("consent_id", "must be 1 to 128 visible ASCII characters")
        })?),
    };
    let mut consent = ConsentSecret::from_bearer_token(access_token);
    consent.consent_id = consent_id;
    consent.expires_at = parse_token_expiry(request)?;
    consent.refresh_token = refresh_token;
    Ok(consent)
}

/// When an access token ends, by its `expires_in`. One that ends after the end of the calendar does not end.
fn parse_token_expiry(request: &ApiRequest) -> Result<Option<Timestamp>, ApiError> {
    let seconds = request.input.parse_number("expires_in")?;
    let lifetime = seconds.and_then(|seconds| i64::try_from(seconds).ok());
    let lifetime = lifetime.map(SignedDuration::from_secs);
    Ok(lifetime.and_then(|lifetime| request.now().checked_add(lifetime).ok()))
}

/// Links a record to any configured bank by the tokens of its consent: an extension, and how a bank is connected that
/// has no widget. With the id of a record it renews that record's consent.
pub(crate) async fn link_or_renew_record(request: &ApiRequest) -> ApiResponse {
    let (input, scope) = (&request.input, request.scope()?);
    let consent = parse_consent_tokens(request)?;
    let user_address = input.parse_user_address()?;
    if let Some(record) = input.parse_id(RECORD)? {
        let renewal = RenewRecordRequest {
            record,
            consent,
            consent_expires_at: parse_consent_expiry(input)?,
            user_address,
        };
        let renewed = LinkRecordResponse::from(scope.renew_record(renewal).await?);
        return success_response("Record linked again", renewed);
    }
    let customer = match input.parse_id::<CustomerId>(CUSTOMER)? {
        Some(id) => LinkCustomer::Existing(id),
        None => LinkCustomer::New {
            name: input.require_text(&["name"])?,
            email: input.find_text(&["email"]),
        },
    };
    let link = LinkRecordRequest {
        bank: input.require_id(BANK)?,
        consent,
        customer,
        account_ids: input.find_texts("account_ids").unwrap_or_default(),
        terms: parse_link_terms(input)?,
        user_address,
    };
    let linked = LinkRecordResponse::from(scope.link_record(link).await?);
    success_response("Record linked successfully", linked)
}

routes! {
    Change Key [Ours "records/link"] => link_or_renew_record(TOKENS, make_optional(BANK), make_optional(CUSTOMER), make_optional(RECORD), make_optional(NAME), EMAIL, ACCOUNT_IDS, SYNC, LINK_OPTIONS, make_optional(CUSTOMER_IP)) -> LinkRecordResponse:
        "Links a record to a bank by the tokens of its consent and returns it with its accounts; with the id of a record, replaces that record's consent.";
}
