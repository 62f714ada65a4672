//! What drives the bank over HTTP: `/control`.

use axum::{
    Router,
    extract::{DefaultBodyLimit, Path, State},
    response::{IntoResponse, Response},
    routing::{get, patch, post, put},
};
use bytes::Bytes;
use http::{StatusCode, header::CONTENT_TYPE};
use okra_core::bank::Standard;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    account::EditError,
    bank::{Bank, PlayError},
    command::{Amend, Book, LoginId, NewLogin, Place, Target},
    fault::ConsentState,
    movement::RowKey,
    obie::TOKEN_PATH,
    tokens::TokenTerms,
};

/// Bytes of a request at most.
const MAX_BODY_BYTES: usize = 64 * 1024;

pub(crate) fn router(bank: &Bank) -> Router {
    Router::new()
        .route("/control", get(show_guide))
        .route("/control/logins", get(list_logins).post(create_login))
        .route("/control/logins/{login}", get(show_login))
        .route("/control/logins/{login}/link", post(link))
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

/// A request that has no effect.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the body is not what is expected here: {0}")]
    Body(#[from] serde_json::Error),
    #[error(transparent)]
    Play(#[from] PlayError),
}

#[derive(Serialize)]
struct RefusalBody {
    error: String,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Body(_) | Self::Play(PlayError::OutOfBounds(_)) => StatusCode::BAD_REQUEST,
            Self::Play(PlayError::Edit(error)) => match error {
                EditError::NoSuchRow => StatusCode::NOT_FOUND,
                EditError::AlreadyBooked | EditError::TooMany => StatusCode::CONFLICT,
                EditError::Amount | EditError::TooLong => StatusCode::BAD_REQUEST,
            },
            Self::Play(PlayError::NoSuchLogin | PlayError::NoSuchAccount) => StatusCode::NOT_FOUND,
            Self::Play(PlayError::Full(_)) => StatusCode::CONFLICT,
            Self::Play(PlayError::Journal(error)) => {
                tracing::error!(%error, "the sandbox bank's journal cannot be written");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        json(
            status,
            &RefusalBody {
                error: self.to_string(),
            },
        )
    }
}

type Answer = Result<Response, Refusal>;

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => (status, [(CONTENT_TYPE, "application/json")], body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn ok(body: &impl Serialize) -> Answer {
    Ok(json(StatusCode::OK, body))
}

/// An absent body stands for an object without fields.
fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    let body: &[u8] = if body.is_empty() { b"{}" } else { body };
    Ok(serde_json::from_slice(body)?)
}

fn place(login: u32, account: String) -> Place {
    Place {
        login: LoginId(login),
        account,
    }
}

/// What can be asked for, for people.
const GUIDE: &str = include_str!("control.txt");

async fn show_guide() -> &'static str {
    GUIDE
}

async fn list_logins(State(bank): State<Bank>) -> Answer {
    ok(&bank.logins())
}

async fn create_login(State(bank): State<Bank>, body: Bytes) -> Answer {
    let login = bank.create_login(parse::<NewLogin>(&body)?)?;
    Ok(json(StatusCode::CREATED, &login))
}

async fn show_login(State(bank): State<Bank>, Path(login): Path<u32>) -> Answer {
    ok(&bank.login(LoginId(login)).ok_or(PlayError::NoSuchLogin)?)
}

#[derive(Serialize)]
struct Linked {
    access_token: String,
    #[serde(flatten)]
    ending: Option<Ending>,
    standard: Standard,
    base_path: &'static str,
}

/// What comes with an access token that ends.
#[derive(Serialize)]
struct Ending {
    refresh_token: String,
    expires_in: u32,
    token_path: &'static str,
}

/// Without terms a token that lives as long as its grant.
async fn link(State(bank): State<Bank>, Path(login): Path<u32>, body: Bytes) -> Answer {
    let id = LoginId(login);
    let (access_token, ending) = if body.is_empty() {
        (bank.link(id)?, None)
    } else {
        let tokens = bank.issue(id, parse::<TokenTerms>(&body)?)?;
        let ending = Ending {
            refresh_token: tokens.refresh_token.into_string(),
            expires_in: tokens.expires_in,
            token_path: TOKEN_PATH,
        };
        (tokens.access_token, Some(ending))
    };
    let login = bank.login(id).ok_or(PlayError::NoSuchLogin)?;
    ok(&Linked {
        access_token: access_token.into_string(),
        ending,
        standard: login.standard,
        base_path: Bank::base_path(login.standard),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewConsent {
    state: ConsentState,
}

async fn set_consent(State(bank): State<Bank>, Path(login): Path<u32>, body: Bytes) -> Answer {
    let new: NewConsent = parse(&body)?;
    bank.set_consent(LoginId(login), new.state)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn set_login_faults(State(bank): State<Bank>, Path(login): Path<u32>, body: Bytes) -> Answer {
    bank.set_faults(Target::Login(LoginId(login)), parse(&body)?)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn show_faults(State(bank): State<Bank>) -> Answer {
    let faults = bank.faults().clone();
    ok(&faults)
}

async fn set_faults(State(bank): State<Bank>, body: Bytes) -> Answer {
    bank.set_faults(Target::Bank, parse(&body)?)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn list_rows(
    State(bank): State<Bank>,
    Path((login, account)): Path<(u32, String)>,
) -> Answer {
    let rows = bank.rows(&place(login, account));
    ok(&rows.ok_or(PlayError::NoSuchAccount)?)
}

async fn add_row(
    State(bank): State<Bank>,
    Path((login, account)): Path<(u32, String)>,
    body: Bytes,
) -> Answer {
    let row = bank.add(place(login, account), parse(&body)?)?;
    Ok(json(StatusCode::CREATED, &row))
}

/// A row by its name or, for people who read the bank's answers, by its transaction id: the newest
/// row that shows it.
fn row(bank: &Bank, place: &Place, named: &str) -> Result<RowKey, Refusal> {
    if let Ok(row) = named.parse() {
        return Ok(row);
    }
    let rows = bank.rows(place).ok_or(PlayError::NoSuchAccount)?;
    let row = rows
        .iter()
        .find(|row| row.transaction_id.as_deref() == Some(named));
    let row = row.ok_or(PlayError::Edit(EditError::NoSuchRow))?;
    Ok(row.row)
}

async fn book_row(
    State(bank): State<Bank>,
    Path((login, account, named)): Path<(u32, String, String)>,
    body: Bytes,
) -> Answer {
    let place = place(login, account);
    let row = row(&bank, &place, &named)?;
    ok(&bank.book(place, row, parse::<Book>(&body)?)?)
}

async fn amend_row(
    State(bank): State<Bank>,
    Path((login, account, named)): Path<(u32, String, String)>,
    body: Bytes,
) -> Answer {
    let place = place(login, account);
    let row = row(&bank, &place, &named)?;
    ok(&bank.amend(place, row, parse::<Amend>(&body)?)?)
}

async fn remove_row(
    State(bank): State<Bank>,
    Path((login, account, named)): Path<(u32, String, String)>,
) -> Answer {
    let place = place(login, account);
    let row = row(&bank, &place, &named)?;
    ok(&bank.remove(place, row)?)
}
