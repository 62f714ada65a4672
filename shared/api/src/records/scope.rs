//! Which records and accounts a request is about: the fields of its input, read through the app's scope.

use okra_app::record_scope::contains_options;
use okra_core::model::ids::{BankId, CustomerId};
use okra_store::{Account, RecordHead};

use crate::http::{
    envelope::ApiError,
    input::{BANK, CUSTOMER},
    request::ApiRequest,
};

/// The account that the request names.
pub(crate) async fn load_account(request: &ApiRequest) -> Result<Vec<Account>, ApiError> {
    Ok(vec![request.load_requested_account().await?])
}

/// The accounts of the record that the request names.
pub(crate) async fn load_record_accounts(request: &ApiRequest) -> Result<Vec<Account>, ApiError> {
    let head = request.load_requested_record().await?;
    Ok(request.scope()?.load_accounts_of_records(&[head]).await?)
}

/// The accounts of the customer that the request names.
pub(crate) async fn load_customer_accounts(request: &ApiRequest) -> Result<Vec<Account>, ApiError> {
    let customer = request.input.require_id(CUSTOMER)?;
    Ok(request.scope()?.load_customer_accounts(customer).await?)
}

/// The app's accounts at the bank that the request names.
pub(crate) async fn load_bank_accounts(request: &ApiRequest) -> Result<Vec<Account>, ApiError> {
    let bank: BankId = request.input.require_id(BANK)?;
    let mut accounts = load_app_accounts(request).await?;
    accounts.retain(|account| account.bank == bank);
    Ok(accounts)
}

/// The app's accounts whose records were linked with the options of the request, maybe among others.
pub(crate) async fn load_accounts_by_options(
    request: &ApiRequest,
) -> Result<Vec<Account>, ApiError> {
    let heads = load_records_by_options(request).await?;
    Ok(request.scope()?.load_accounts_of_records(&heads).await?)
}

/// All accounts of the app, or the customer's where the request names one.
pub(crate) async fn load_app_accounts(request: &ApiRequest) -> Result<Vec<Account>, ApiError> {
    load_app_accounts_until(request, |_| false).await
}

/// The same, until they are enough.
pub(crate) async fn load_app_accounts_until(
    request: &ApiRequest,
    is_enough: impl Fn(&[Account]) -> bool,
) -> Result<Vec<Account>, ApiError> {
    let customer = find_customer_id(request)?;
    Ok(request
        .scope()?
        .load_accounts_until(customer, is_enough)
        .await?)
}

/// The records of the customer that the request names.
pub(crate) async fn load_customer_records(
    request: &ApiRequest,
) -> Result<Vec<RecordHead>, ApiError> {
    let customer = request.input.require_id(CUSTOMER)?;
    Ok(request.scope()?.load_customer_records(customer).await?)
}

/// The app's records at the bank that the request names.
pub(crate) async fn load_bank_records(request: &ApiRequest) -> Result<Vec<RecordHead>, ApiError> {
    let bank: BankId = request.input.require_id(BANK)?;
    let mut heads = load_app_records(request).await?;
    heads.retain(|head| head.bank == bank);
    Ok(heads)
}

/// The app's records that were linked with the options of the request, maybe among others.
pub(crate) async fn load_records_by_options(
    request: &ApiRequest,
) -> Result<Vec<RecordHead>, ApiError> {
    let wanted = request.input.parse_object("options")?;
    let wanted = wanted.ok_or_else(|| ApiError::invalid_field("options", "is required"))?;
    let mut heads = load_app_records(request).await?;
    heads.retain(|head| contains_options(&head.options, &wanted));
    Ok(heads)
}

/// All records of the app, or the customer's where the request names one.
pub(crate) async fn load_app_records(request: &ApiRequest) -> Result<Vec<RecordHead>, ApiError> {
    load_app_records_until(request, |_| false).await
}

/// The same, until they are enough.
pub(crate) async fn load_app_records_until(
    request: &ApiRequest,
    is_enough: impl Fn(&[RecordHead]) -> bool,
) -> Result<Vec<RecordHead>, ApiError> {
    let customer = find_customer_id(request)?;
    Ok(request
        .scope()?
        .load_records_until(customer, is_enough)
        .await?)
}

/// The customer, where the request names one.
fn find_customer_id(request: &ApiRequest) -> Result<Option<CustomerId>, ApiError> {
    match request.input.is_given(CUSTOMER) {
        true => request.input.require_id(CUSTOMER).map(Some),
        false => Ok(None),
    }
}
