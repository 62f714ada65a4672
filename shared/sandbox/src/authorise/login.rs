//! The user's way through the login page: credentials, a one-time code where the login has one, and the consent.
//!
//! Rule: [`apply_form`] alone moves a session from one [`LoginStep`] to the next; the pages show the step it is at.

use std::time::Duration;

use axum::{
    Form,
    extract::{Path, Query, State},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    pages::{self, PageSession},
    query::AuthorisePageQuery,
    session::{AuthorisationCode, AuthorisationSession, LoginStep},
};
use crate::{
    bank::{error::CommandError, state::SandboxBank},
    command::{LoginId, NewLogin},
};

/// The password of every login.
pub const PASSWORD: &str = "sandbox";

/// The one-time code of every login that has one.
pub const ONE_TIME_CODE: &str = "123456";

/// Wrong passwords or codes after which a login is broken off.
const MAX_LOGIN_ATTEMPTS: u8 = 5;

/// Milliseconds that the bank takes for the login `slow`.
const SLOW_LOGIN_MS: u64 = 3_000;

/// The user arrives from an app.
pub(super) async fn open_login_page(
    State(bank): State<SandboxBank>,
    Path(slug): Path<String>,
    Query(query): Query<AuthorisePageQuery>,
) -> Response {
    let bank_name = bank_name(&slug);
    if query.redirect_origin().is_none() {
        return pages::render_error_page(
            &bank_name,
            "The app that sent you here gave no address to go back to.",
        );
    }
    if bank.lock_faults().outage.is_some() {
        return redirect_with_error(&query, "temporarily_unavailable");
    }
    let consent_id = query
        .consent_id()
        .filter(|id| bank.find_awaiting_consent(id).is_some());
    let Some(consent_id) = consent_id.filter(|_| query.is_well_formed()) else {
        return redirect_with_error(&query, "invalid_request");
    };
    let session = AuthorisationSession {
        query,
        consent_id,
        failed_attempts: 0,
        step: LoginStep::EnterCredentials,
    };
    let session_id = bank.generate_id("visit");
    bank.authorisation_state().sessions.insert_entry(
        &session_id,
        bank.current_second(),
        session.clone(),
    );
    render_step(&bank, &bank_name, &session_id, &session, None)
}

/// The login page's form. The fields of other steps are absent.
#[derive(Deserialize)]
pub(super) struct LoginPageForm {
    #[serde(rename = "visit")]
    session_id: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    action: String,
}

/// The user submits a step.
pub(super) async fn submit_login_form(
    State(bank): State<SandboxBank>,
    Path(slug): Path<String>,
    Form(form): Form<LoginPageForm>,
) -> Response {
    let (bank_name, now) = (bank_name(&slug), bank.current_second());
    let sessions = &bank.authorisation_state().sessions;
    let Some(mut session) = sessions.take_entry(&form.session_id, now) else {
        return pages::render_error_page(
            &bank_name,
            "This page was open for too long. Go back to the app and start again.",
        );
    };
    let problem = match apply_form(&bank, &mut session, &form).await {
        FormOutcome::NextStep(step) => {
            session.step = step;
            None
        }
        FormOutcome::Rejected(problem) => {
            session.failed_attempts += 1;
            Some(problem)
        }
        FormOutcome::Error(error) => return redirect_with_error(&session.query, error),
        FormOutcome::Code(code) => {
            return Redirect::to(&session.query.return_url("code", &code)).into_response();
        }
    };
    if session.failed_attempts >= MAX_LOGIN_ATTEMPTS {
        return redirect_with_error(&session.query, "access_denied");
    }
    sessions.insert_entry(&form.session_id, now, session.clone());
    render_step(&bank, &bank_name, &form.session_id, &session, problem)
}

/// What a submitted form leads to.
enum FormOutcome {
    NextStep(LoginStep),
    /// The user may try again; the sentence says what was wrong.
    Rejected(&'static str),
    /// Back to the app with this error (RFC 6749, 4.1.2.1).
    Error(&'static str),
    /// Back to the app with this code.
    Code(String),
}

async fn apply_form(
    bank: &SandboxBank,
    session: &mut AuthorisationSession,
    form: &LoginPageForm,
) -> FormOutcome {
    if form.action == "cancel" {
        return FormOutcome::Error("access_denied");
    }
    match session.step {
        LoginStep::EnterCredentials => {
            match check_credentials(bank, &form.username, &form.password).await {
                CredentialCheck::Accepted(step) => FormOutcome::NextStep(step),
                CredentialCheck::Rejected => {
                    FormOutcome::Rejected("The username or the password is wrong.")
                }
                CredentialCheck::BankDown => FormOutcome::Error("temporarily_unavailable"),
            }
        }
        LoginStep::EnterOneTimeCode(login) if form.code.trim() == ONE_TIME_CODE => {
            FormOutcome::NextStep(LoginStep::AllowAccess(login))
        }
        LoginStep::EnterOneTimeCode(_) => {
            FormOutcome::Rejected("That code is wrong. Look again at the message on your phone.")
        }
        LoginStep::AllowAccess(login) => FormOutcome::Code(issue_code(bank, session, login)),
    }
}

fn issue_code(bank: &SandboxBank, session: &AuthorisationSession, login: LoginId) -> String {
    let code = bank.generate_id("code");
    let issued = AuthorisationCode {
        login,
        consent_id: session.consent_id.clone(),
        client_id: session.query.client_id.clone(),
        redirect_uri: session.query.redirect_uri.clone(),
        code_challenge: session.query.code_challenge.clone(),
    };
    bank.authorisation_state()
        .codes
        .insert_entry(&code, bank.current_second(), issued);
    code
}

/// What a username and a password give.
enum CredentialCheck {
    Accepted(LoginStep),
    Rejected,
    BankDown,
}

async fn check_credentials(bank: &SandboxBank, username: &str, password: &str) -> CredentialCheck {
    let username = username.trim().to_ascii_lowercase();
    if username == "down" {
        return CredentialCheck::BankDown;
    }
    if username == "slow" {
        tokio::time::sleep(Duration::from_millis(SLOW_LOGIN_MS)).await;
    }
    if password != PASSWORD {
        return CredentialCheck::Rejected;
    }
    let login = match username.as_str() {
        "new" | "mfa" | "slow" => create_new_customer(bank),
        existing => existing
            .strip_prefix("customer")
            .and_then(|number| number.parse().ok())
            .and_then(|number| bank.find_login(LoginId(number)))
            .map(|login| login.id)
            .ok_or(CommandError::NoSuchLogin),
    };
    match login {
        Ok(login) if username == "mfa" => {
            CredentialCheck::Accepted(LoginStep::EnterOneTimeCode(login))
        }
        Ok(login) => CredentialCheck::Accepted(LoginStep::AllowAccess(login)),
        Err(CommandError::NoSuchLogin) => CredentialCheck::Rejected,
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the sandbox bank could not create a login"
            );
            CredentialCheck::BankDown
        }
    }
}

fn create_new_customer(bank: &SandboxBank) -> Result<LoginId, CommandError> {
    let new = NewLogin {
        accounts: 2,
        ..NewLogin::default()
    };
    bank.create_login(new).map(|login| login.id)
}

fn render_step(
    bank: &SandboxBank,
    bank_name: &str,
    session_id: &str,
    session: &AuthorisationSession,
    problem: Option<&str>,
) -> Response {
    let page = PageSession {
        bank_name,
        session_id,
        session,
        problem,
    };
    match session.step {
        LoginStep::EnterCredentials => {
            let hints = pages::LoginHints {
                password: PASSWORD,
                one_time_code: ONE_TIME_CODE,
                slow_login_s: SLOW_LOGIN_MS / 1000,
                login_count: bank.login_count(),
            };
            pages::render_login_page(&page, &hints)
        }
        LoginStep::EnterOneTimeCode(_) => pages::render_one_time_code_page(&page, ONE_TIME_CODE),
        LoginStep::AllowAccess(login) => {
            let login = bank.find_login(login);
            let permissions = bank.find_awaiting_consent(&session.consent_id);
            pages::render_allow_page(&page, login.as_ref(), &permissions.unwrap_or_default())
        }
    }
}

fn redirect_with_error(query: &AuthorisePageQuery, error: &str) -> Response {
    Redirect::to(&query.return_url("error", error)).into_response()
}

/// The name in a slug: `guaranty-trust-bank` is `Guaranty Trust Bank`.
fn bank_name(slug: &str) -> String {
    let words: Vec<String> = slug.split('-').take(8).map(capitalise_word).collect();
    words.join(" ")
}

fn capitalise_word(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}
