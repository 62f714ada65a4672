//! `/control`: the bank's commands over HTTP, for people and tests. It asks for no credentials.

use axum::{
    Router,
    extract::{DefaultBodyLimit, Path, State},
    response::{IntoResponse, Response},
    routing::{get, patch, post, put},
};
use bytes::Bytes;
use http::{StatusCode, header::CONTENT_TYPE};
use okra_core::model::bank::BankStandard;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    account::EditError,
    bank::{error::CommandError, state::SandboxBank},
    command::{
        AccountAddress, BookingDetails, FaultTarget, LoginId, NewLogin, RowAmendment, TokenTerms,
    },
    fault::ConsentState,
    obie::TOKEN_PATH,
    rows::movement::RowKey,
};

/// Most bytes of a request.
const MAX_BODY_BYTES: usize = 64 * 1024;

pub(crate) fn control_router(bank: &SandboxBank) -> Router {
    Router::new()
        .route("/control", get(show_guide))
        .route("/control/logins", get(list_logins).post(create_login))
        .route("/control/logins/{login}", get(show_login))
        .route("/control/logins/{login}/link", post(link_login))
        .route("/control/logins/{login}/consent", put(set_consent))
        .route("/control/logins/{login}/faults", put(set_login_faults))
        .route("/control/faults", get(show_faults).put(set_faults))
        .route(
            "/control/logins/{login}/accounts/{account}/transactions",
            get(list_rows).post(add_row),
        )
        .route(
            "/control/logins/{login}/accounts/{account}/transactions/{row}",
            patch(amend_row).delete(remove_row),
        )
        .route(
            "/control/logins/{login}/accounts/{account}/transactions/{row}/book",
            post(book_row),
        )
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(bank.clone())
}

/// Why a request had no effect.
#[derive(Debug, thiserror::Error)]
enum ControlError {
    #[error("the body is not valid: {0}")]
    InvalidBody(#[from] serde_json::Error),
    #[error(transparent)]
    CommandFailed(#[from] CommandError),
}

#[derive(Serialize)]
struct ControlErrorBody {
    error: String,
}

impl IntoResponse for ControlError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::InvalidBody(_) | Self::CommandFailed(CommandError::OutOfBounds(_)) => {
                StatusCode::BAD_REQUEST
            }
            Self::CommandFailed(CommandError::EditFailed(error)) => match error {
                EditError::NoSuchRow => StatusCode::NOT_FOUND,
                EditError::AlreadyBooked | EditError::TooManyEdits => StatusCode::CONFLICT,
                EditError::InvalidAmount | EditError::TooLong => StatusCode::BAD_REQUEST,
            },
            Self::CommandFailed(CommandError::NoSuchLogin | CommandError::NoSuchAccount) => {
                StatusCode::NOT_FOUND
            }
            Self::CommandFailed(CommandError::LimitReached(_)) => StatusCode::CONFLICT,
            Self::CommandFailed(
                error @ (CommandError::JournalFailed(_) | CommandError::UnexpectedOutcome),
            ) => {
                tracing::error!(
                    error = error as &dyn std::error::Error,
                    "the sandbox bank could not execute a command"
                );
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        json_response(
            status,
            &ControlErrorBody {
                error: self.to_string(),
            },
        )
    }
}

type ControlResult = Result<Response, ControlError>;

fn json_response(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => (status, [(CONTENT_TYPE, "application/json")], body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn ok_response(body: &impl Serialize) -> ControlResult {
    Ok(json_response(StatusCode::OK, body))
}

/// An absent body stands for an object without fields.
fn parse_body<T: DeserializeOwned>(body: &Bytes) -> Result<T, ControlError> {
    let body: &[u8] = if body.is_empty() { b"{}" } else { body };
    Ok(serde_json::from_slice(body)?)
}

fn account_address(login: u32, account: String) -> AccountAddress {
    AccountAddress {
        login: LoginId(login),
        account_id: account,
    }
}

/// The guide to these requests, in plain text.
const GUIDE: &str = include_str!("control.txt");

async fn show_guide() -> &'static str {
    GUIDE
}

async fn list_logins(State(bank): State<SandboxBank>) -> ControlResult {
    ok_response(&bank.list_logins())
}

async fn create_login(State(bank): State<SandboxBank>, body: Bytes) -> ControlResult {
    let login = bank.create_login(parse_body::<NewLogin>(&body)?)?;
    Ok(json_response(StatusCode::CREATED, &login))
}

async fn show_login(State(bank): State<SandboxBank>, Path(login): Path<u32>) -> ControlResult {
    ok_response(
        &bank
            .find_login(LoginId(login))
            .ok_or(CommandError::NoSuchLogin)?,
    )
}

#[derive(Serialize)]
struct LinkedLoginResponse {
    access_token: String,
    #[serde(flatten)]
    expiring_token: Option<ExpiringTokenFields>,
    standard: BankStandard,
    base_path: &'static str,
}

/// What comes with an access token that expires.
#[derive(Serialize)]
struct ExpiringTokenFields {
    refresh_token: String,
    expires_in: u32,
    token_path: &'static str,
}

/// Links a login: without a body, its token lives as long as its grant.
async fn link_login(
    State(bank): State<SandboxBank>,
    Path(login): Path<u32>,
    body: Bytes,
) -> ControlResult {
    let id = LoginId(login);
    let (access_token, expiring_token) = if body.is_empty() {
        (bank.link_login(id)?, None)
    } else {
        let tokens = bank.issue_tokens(id, parse_body::<TokenTerms>(&body)?)?;
        let expiring = ExpiringTokenFields {
            refresh_token: tokens.refresh_token.into_string(),
            expires_in: tokens.expires_in,
            token_path: TOKEN_PATH,
        };
        (tokens.access_token, Some(expiring))
    };
    let login = bank.find_login(id).ok_or(CommandError::NoSuchLogin)?;
    ok_response(&LinkedLoginResponse {
        access_token: access_token.into_string(),
        expiring_token,
        standard: login.standard,
        base_path: SandboxBank::base_path(login.standard),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetConsentRequest {
    state: ConsentState,
}

async fn set_consent(
    State(bank): State<SandboxBank>,
    Path(login): Path<u32>,
    body: Bytes,
) -> ControlResult {
    let new: SetConsentRequest = parse_body(&body)?;
    bank.set_consent(LoginId(login), new.state)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn set_login_faults(
    State(bank): State<SandboxBank>,
    Path(login): Path<u32>,
    body: Bytes,
) -> ControlResult {
    bank.set_faults(FaultTarget::Login(LoginId(login)), parse_body(&body)?)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn show_faults(State(bank): State<SandboxBank>) -> ControlResult {
    let faults = bank.lock_faults().clone();
    ok_response(&faults)
}

async fn set_faults(State(bank): State<SandboxBank>, body: Bytes) -> ControlResult {
    bank.set_faults(FaultTarget::Bank, parse_body(&body)?)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn list_rows(
    State(bank): State<SandboxBank>,
    Path((login, account)): Path<(u32, String)>,
) -> ControlResult {
    let rows = bank.list_rows(&account_address(login, account));
    ok_response(&rows.ok_or(CommandError::NoSuchAccount)?)
}

async fn add_row(
    State(bank): State<SandboxBank>,
    Path((login, account)): Path<(u32, String)>,
    body: Bytes,
) -> ControlResult {
    let row = bank.add_row(account_address(login, account), parse_body(&body)?)?;
    Ok(json_response(StatusCode::CREATED, &row))
}

/// A row by its name or, for people who read the bank's responses, by its transaction id: the newest row that
/// shows it.
fn find_row_key(
    bank: &SandboxBank,
    address: &AccountAddress,
    row_name: &str,
) -> Result<RowKey, ControlError> {
    if let Ok(row) = row_name.parse() {
        return Ok(row);
    }
    let rows = bank.list_rows(address).ok_or(CommandError::NoSuchAccount)?;
    let row = rows
        .iter()
        .find(|row| row.transaction_id.as_deref() == Some(row_name));
    let row = row.ok_or(CommandError::EditFailed(EditError::NoSuchRow))?;
    Ok(row.row)
}

async fn book_row(
    State(bank): State<SandboxBank>,
    Path((login, account, row_name)): Path<(u32, String, String)>,
    body: Bytes,
) -> ControlResult {
    let address = account_address(login, account);
    let row = find_row_key(&bank, &address, &row_name)?;
    ok_response(&bank.book_row(address, row, parse_body::<BookingDetails>(&body)?)?)
}

async fn amend_row(
    State(bank): State<SandboxBank>,
    Path((login, account, row_name)): Path<(u32, String, String)>,
    body: Bytes,
) -> ControlResult {
    let address = account_address(login, account);
    let row = find_row_key(&bank, &address, &row_name)?;
    ok_response(&bank.amend_row(address, row, parse_body::<RowAmendment>(&body)?)?)
}

async fn remove_row(
    State(bank): State<SandboxBank>,
    Path((login, account, row_name)): Path<(u32, String, String)>,
) -> ControlResult {
    let address = account_address(login, account);
    let row = find_row_key(&bank, &address, &row_name)?;
    ok_response(&bank.remove_row(address, row)?)
}
