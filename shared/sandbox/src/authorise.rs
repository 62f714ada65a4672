//! The user's side of a consent: the bank's login page, on the bank's own origin.
//!
//! As in UK Open Banking: an app makes a consent (`POST …/account-access-consents`), sends the user
//! here, and gets a code at its `redirect_uri`, which it exchanges for tokens. What the pages hold is
//! in memory: a restart forgets logins that are half done, and no grant.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Form, Router,
    extract::{DefaultBodyLimit, Path, Query, State},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE},
};
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};
use okra_core::model::bank::BankStandard;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    bank::{CommandError, SandboxBank},
    command::{LoginId, NewLogin},
    fault::Outage,
    movement::UnixSeconds,
};

/// The password of every login.
pub const PASSWORD: &str = "sandbox";

/// The one-time code of every login that has one.
pub const ONE_TIME_CODE: &str = "123456";

/// Where the login page is; a bank's slug follows.
pub const AUTHORIZE_PATH: &str = "/open-banking/authorize";

/// Wrong passwords or codes until a login is broken off.
const MAX_LOGIN_ATTEMPTS: u8 = 5;

/// Seconds that a consent, a login or a code waits to be used.
const UNUSED_LIFE_S: UnixSeconds = 900;

/// Consents, logins and codes that are kept at most; the oldest go first.
const MAX_UNUSED_ENTRIES: usize = 10_000;

/// Seconds that a consent lasts from its authorisation on, as banks of the UK have it (SCA-RTS article
/// 10, as amended in 2022): 180 days.
const CONSENT_LIFE_S: UnixSeconds = 180 * 86_400;

/// Bytes of a form at most.
const MAX_BODY_BYTES: usize = 16 * 1024;

/// How long the bank of the login `slow` thinks.
const SLOW_LOGIN_MS: u64 = 3_000;

/// What waits to be used, by its name.
struct ExpiringMap<T>(Mutex<HashMap<String, (UnixSeconds, T)>>);

impl<T> Default for ExpiringMap<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> ExpiringMap<T> {
    fn lock_entries(&self) -> std::sync::MutexGuard<'_, HashMap<String, (UnixSeconds, T)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert_entry(&self, name: &str, now: UnixSeconds, value: T) {
        let mut kept = self.lock_entries();
        kept.retain(|_, (until, _)| *until > now);
        if kept.len() >= MAX_UNUSED_ENTRIES
            && let Some(oldest) = kept
                .iter()
                .min_by_key(|(_, (until, _))| *until)
                .map(|(name, _)| name.clone())
        {
            kept.remove(&oldest);
        }
        kept.insert(name.to_owned(), (now + UNUSED_LIFE_S, value));
    }

    fn get_entry(&self, name: &str, now: UnixSeconds) -> Option<T> {
        let kept = self.lock_entries();
        let (until, thing) = kept.get(name)?;
        (*until > now).then(|| thing.clone())
    }

    fn take_entry(&self, name: &str, now: UnixSeconds) -> Option<T> {
        let (until, thing) = self.lock_entries().remove(name)?;
        (until > now).then_some(thing)
    }
}

/// What the bank's desk for users holds.
#[derive(Default)]
pub(crate) struct AuthorisationState {
    generated_id_count: AtomicU64,
    consents: ExpiringMap<Vec<String>>,
    sessions: ExpiringMap<AuthorisationSession>,
    codes: ExpiringMap<AuthorisationCode>,
}

/// A user who was sent here.
#[derive(Clone)]
struct AuthorisationSession {
    query: AuthorisePageQuery,
    failed_attempts: u8,
    /// Who it is, once the password was right.
    login: Option<LoginId>,
    /// The one-time code is still to come.
    needs_one_time_code: bool,
}

/// A code that can be exchanged once.
#[derive(Clone)]
struct AuthorisationCode {
    login: LoginId,
    consent_id: String,
    client_id: String,
    redirect_uri: String,
    code_challenge: Option<String>,
}

/// The answer to a client's own credentials.
#[derive(Serialize)]
pub(crate) struct ClientCredentialsToken {
    access_token: String,
    expires_in: UnixSeconds,
}

/// The parameters of an authorisation request (RFC 6749, 4.1.1; RFC 7636, 4.3).
#[derive(Clone, Deserialize)]
struct AuthorisePageQuery {
    #[serde(default)]
    response_type: String,
    #[serde(default)]
    client_id: String,
    #[serde(default)]
    redirect_uri: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    code_challenge: Option<String>,
    #[serde(default)]
    code_challenge_method: Option<String>,
    /// The request object, whose claims name the consent.
    #[serde(default)]
    request: String,
}

impl AuthorisePageQuery {
    /// The consent in the request object's claims: `id_token.openbanking_intent_id.value`.
    fn consent_id(&self) -> Option<String> {
        let claims = self.request.split('.').nth(1)?;
        let claims = decode_base64url(claims)?;
        let claims: Value = serde_json::from_slice(&claims).ok()?;
        let id = &claims["claims"]["id_token"]["openbanking_intent_id"]["value"];
        id.as_str().map(str::to_owned)
    }

    /// Where the user goes back to, with these parameters and the state.
    fn return_url(&self, parameters: &[(&str, &str)]) -> String {
        let mut url = self.redirect_uri.clone();
        let mut sign = if url.contains('?') { '&' } else { '?' };
        for (name, value) in parameters.iter().chain([&("state", self.state.as_str())]) {
            url.push(sign);
            url.push_str(name);
            url.push('=');
            url.push_str(&percent_encode(value));
            sign = '&';
        }
        url
    }

    /// The origin of the `redirect_uri`: `https://app.example`.
    fn redirect_origin(&self) -> Option<&str> {
        let (scheme, rest) = self.redirect_uri.split_once("://")?;
        let host = rest.split(['/', '?', '#']).next()?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        let known = ["http", "https"].contains(&scheme) && !host.is_empty();
        (known && host.bytes().all(plain))
            .then(|| &self.redirect_uri[..scheme.len() + 3 + host.len()])
    }
}

fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    };
    let (mut bytes, mut held, mut bits) = (Vec::with_capacity(text.len() * 3 / 4), 0_u32, 0_u32);
    for byte in text.trim_end_matches('=').bytes() {
        held = (held << 6) | u32::from(value(byte)?);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((held >> bits) & 0xFF).ok()?);
        }
    }
    Some(bytes)
}

fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

impl SandboxBank {
    /// A name that no other thing has. Derived from the seed, as tokens are.
    pub(crate) fn generate_id(&self, kind: &str) -> String {
        let number = self
            .authorisation_state()
            .generated_id_count
            .fetch_add(1, Ordering::Relaxed);
        let mut hash = Sha256::new();
        for part in [
            kind.as_bytes(),
            &self.options().seed.to_be_bytes(),
            &self.current_second().to_be_bytes(),
            &number.to_be_bytes(),
        ] {
            hash.update(part);
        }
        let digest = hash.finalize();
        digest
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// What a client gets for its own credentials: the token that consents are made with.
    pub(crate) fn client_credentials_token(&self) -> ClientCredentialsToken {
        let mut hash = Sha256::new();
        hash.update(b"client");
        hash.update(self.options().seed.to_be_bytes());
        let digest = hash.finalize();
        let hex = digest.iter().map(|byte| format!("{byte:02x}"));
        ClientCredentialsToken {
            access_token: hex.collect(),
            expires_in: UNUSED_LIFE_S,
        }
    }

    /// The login and the consent that a code is for, where it is exchanged by the client it was made for, once.
    pub(crate) fn redeem_code(
        &self,
        client_id: &str,
        code: &str,
        redirect_uri: &str,
        code_verifier: Option<&str>,
    ) -> Option<(LoginId, String)> {
        let code = self
            .authorisation_state()
            .codes
            .take_entry(code, self.current_second())?;
        let proven = match &code.code_challenge {
            None => true,
            Some(challenge) => code_verifier.is_some_and(|verifier| {
                let digest = Sha256::digest(verifier.as_bytes());
                decode_base64url(challenge).as_deref() == Some(digest.as_slice())
            }),
        };
        let same = code.client_id == client_id && code.redirect_uri == redirect_uri;
        (proven && same).then_some((code.login, code.consent_id))
    }
}

pub(crate) fn authorise_router(bank: &SandboxBank) -> Router {
    let mut router = Router::new()
        .route(
            &format!("{AUTHORIZE_PATH}/{{bank}}"),
            get(open_login_page).post(submit_login_form),
        )
        .route("/open-banking/authorize.css", get(serve_stylesheet));
    for standard in [BankStandard::Obie31, BankStandard::Obie40] {
        let path = format!(
            "{}/account-access-consents",
            SandboxBank::base_path(standard)
        );
        router = router.route(&path, post(create_consent)).route(
            &format!("{path}/{{id}}"),
            get(get_consent).delete(revoke_consent),
        );
    }
    router
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(bank.clone())
}

/// Makes a consent that waits for its user.
async fn create_consent(
    State(bank): State<SandboxBank>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Response {
    if !has_client_token(&bank, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let Ok(asked) = serde_json::from_slice::<Value>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let permissions: Vec<String> = asked["Data"]["Permissions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| it.as_str().map(str::to_owned))
        .collect();
    if permissions.is_empty() {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let (id, now) = (bank.generate_id("consent"), bank.current_second());
    let data = json!({
        "Data": {
            "ConsentId": id,
            "Status": "AwaitingAuthorisation",
            "CreationDateTime": timestamp_at(now).to_string(),
            "StatusUpdateDateTime": timestamp_at(now).to_string(),
            "Permissions": permissions,
            "ExpirationDateTime": asked["Data"]["ExpirationDateTime"],
        },
        "Risk": {},
    });
    bank.authorisation_state()
        .consents
        .insert_entry(&id, now, permissions);
    (StatusCode::CREATED, axum::Json(data)).into_response()
}

/// True for a request with the token of the client's own credentials.
fn has_client_token(bank: &SandboxBank, headers: &HeaderMap) -> bool {
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|it| it.to_str().ok()?.strip_prefix("Bearer "));
    bearer == Some(bank.client_credentials_token().access_token.as_str())
}

/// What is known of a consent: that it waits, or when it ends.
async fn get_consent(
    State(bank): State<SandboxBank>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    if !has_client_token(&bank, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let data = match bank.find_authorised_consent(&id) {
        Some(authorised) => json!({
            "ConsentId": id,
            "Status": "Authorised",
            "StatusUpdateDateTime": timestamp_at(authorised.authorised_at).to_string(),
            "ExpirationDateTime": timestamp_at(authorised.authorised_at + CONSENT_LIFE_S).to_string(),
        }),
        None if bank
            .authorisation_state()
            .consents
            .get_entry(&id, bank.current_second())
            .is_some() =>
        {
            json!({ "ConsentId": id, "Status": "AwaitingAuthorisation" })
        }
        None => return StatusCode::NOT_FOUND.into_response(),
    };
    axum::Json(json!({ "Data": data, "Risk": {} })).into_response()
}

/// Takes a consent back.
async fn revoke_consent(
    State(bank): State<SandboxBank>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    if !has_client_token(&bank, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if bank.find_authorised_consent(&id).is_none() {
        return StatusCode::NOT_FOUND.into_response();
    }
    match bank.execute_command(crate::command::SandboxCommand::RevokeConsent { consent_id: id }) {
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            tracing::error!(%error, "the sandbox bank could not revoke a consent");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn timestamp_at(second: UnixSeconds) -> Timestamp {
    Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// `guaranty-trust-bank` as people write it.
fn bank_name(slug: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|it| it.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    slug.split('-')
        .take(8)
        .map(word)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The user arrives.
async fn open_login_page(
    State(bank): State<SandboxBank>,
    Path(slug): Path<String>,
    Query(query): Query<AuthorisePageQuery>,
) -> Response {
    let name = bank_name(&slug);
    if query.redirect_origin().is_none() {
        return render_error_page(
            &name,
            "The app that sent you here gave no address to go back to.",
        );
    }
    if matches!(
        bank.lock_faults().outage,
        Some(Outage::Unavailable | Outage::Drop)
    ) {
        return Redirect::to(&query.return_url(&[("error", "temporarily_unavailable")]))
            .into_response();
    }
    let method = query.code_challenge_method.as_deref();
    let known = query.consent_id().is_some_and(|id| {
        bank.authorisation_state()
            .consents
            .get_entry(&id, bank.current_second())
            .is_some()
    });
    if query.response_type != "code"
        || query.client_id.is_empty()
        || (query.code_challenge.is_some() && method != Some("S256"))
        || !known
    {
        return Redirect::to(&query.return_url(&[("error", "invalid_request")])).into_response();
    }
    let id = bank.generate_id("visit");
    let visit = AuthorisationSession {
        query,
        failed_attempts: 0,
        login: None,
        needs_one_time_code: false,
    };
    bank.authorisation_state()
        .sessions
        .insert_entry(&id, bank.current_second(), visit.clone());
    render_login_page(&bank, &name, &id, &visit, None)
}

/// What the user sends.
#[derive(Deserialize)]
struct LoginPageForm {
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

async fn submit_login_form(
    State(bank): State<SandboxBank>,
    Path(slug): Path<String>,
    Form(form): Form<LoginPageForm>,
) -> Response {
    let (name, now) = (bank_name(&slug), bank.current_second());
    let Some(mut visit) = bank
        .authorisation_state()
        .sessions
        .take_entry(&form.session_id, now)
    else {
        return render_error_page(
            &name,
            "This page has stood open for too long. Go back to the app and start again.",
        );
    };
    if form.action == "cancel" {
        return Redirect::to(&visit.query.return_url(&[("error", "access_denied")]))
            .into_response();
    }
    let problem = match (visit.login, visit.needs_one_time_code) {
        (None, _) => match bank.check_credentials(&form.username, &form.password).await {
            CredentialCheck::Accepted {
                login,
                needs_one_time_code: needs_code,
            } => {
                (visit.login, visit.needs_one_time_code) = (Some(login), needs_code);
                None
            }
            CredentialCheck::BankDown => {
                let back = visit
                    .query
                    .return_url(&[("error", "temporarily_unavailable")]);
                return Redirect::to(&back).into_response();
            }
            CredentialCheck::Rejected => Some("The username or the password is wrong."),
        },
        (Some(_), true) if form.code.trim() == ONE_TIME_CODE => {
            visit.needs_one_time_code = false;
            None
        }
        (Some(_), true) => Some("That code is wrong. Look again at the message on your phone."),
        (Some(login), false) => {
            let code = bank.generate_id("code");
            let kept = AuthorisationCode {
                login,
                consent_id: visit.query.consent_id().unwrap_or_default(),
                client_id: visit.query.client_id.clone(),
                redirect_uri: visit.query.redirect_uri.clone(),
                code_challenge: visit.query.code_challenge.clone(),
            };
            bank.authorisation_state()
                .codes
                .insert_entry(&code, now, kept);
            return Redirect::to(&visit.query.return_url(&[("code", &code)])).into_response();
        }
    };
    visit.failed_attempts += u8::from(problem.is_some());
    if visit.failed_attempts >= MAX_LOGIN_ATTEMPTS {
        return Redirect::to(&visit.query.return_url(&[("error", "access_denied")]))
            .into_response();
    }
    bank.authorisation_state()
        .sessions
        .insert_entry(&form.session_id, now, visit.clone());
    match (visit.login, visit.needs_one_time_code) {
        (None, _) => render_login_page(&bank, &name, &form.session_id, &visit, problem),
        (Some(_), true) => render_one_time_code_page(&name, &form.session_id, &visit, problem),
        (Some(login), false) => render_allow_page(&bank, &name, &form.session_id, &visit, login),
    }
}

/// Who a username and a password are.
enum CredentialCheck {
    Accepted {
        login: LoginId,
        needs_one_time_code: bool,
    },
    Rejected,
    BankDown,
}

impl SandboxBank {
    async fn check_credentials(&self, username: &str, password: &str) -> CredentialCheck {
        let username = username.trim().to_ascii_lowercase();
        if username == "down" {
            return CredentialCheck::BankDown;
        }
        if username == "slow" {
            tokio::time::sleep(std::time::Duration::from_millis(SLOW_LOGIN_MS)).await;
        }
        if password != PASSWORD {
            return CredentialCheck::Rejected;
        }
        let needs_code = username == "mfa";
        let login = match username.as_str() {
            "new" | "mfa" | "slow" => self.create_new_customer(),
            known => known
                .strip_prefix("customer")
                .and_then(|number| number.parse().ok())
                .and_then(|number| self.find_login(LoginId(number)))
                .map(|login| login.id)
                .ok_or(CommandError::NoSuchLogin),
        };
        match login {
            Ok(login) => CredentialCheck::Accepted {
                login,
                needs_one_time_code: needs_code,
            },
            Err(_) => CredentialCheck::Rejected,
        }
    }

    fn create_new_customer(&self) -> Result<LoginId, CommandError> {
        let new = NewLogin {
            accounts: 2,
            ..NewLogin::default()
        };
        self.create_login(new).map(|login| login.id)
    }
}

fn render_page(
    query: Option<&AuthorisePageQuery>,
    name: &str,
    title: &str,
    body: &Markup,
) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · " (name) }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="/open-banking/authorize.css";
            }
            body {
                header { span.logo aria-hidden="true" { (bank_initials(name)) } (name) span.sandbox { "sandbox" } }
                main { h1 { (title) } (body) }
            }
        }
    };
    // A browser applies `form-action` to where a form's answer leads too.
    let back = query
        .and_then(AuthorisePageQuery::redirect_origin)
        .unwrap_or_default();
    let policy = format!(
        "default-src 'none'; style-src 'self'; img-src data:; form-action 'self' {back}; base-uri 'none'; frame-ancestors 'none'"
    );
    let policy =
        HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    let headers = [
        (
            CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        ),
        (CONTENT_SECURITY_POLICY, policy),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, page.into_string()).into_response()
}

fn bank_initials(name: &str) -> String {
    let firsts = name.split(' ').filter_map(|word| word.chars().next());
    firsts.take(2).collect()
}

fn render_error_page(name: &str, sentence: &str) -> Response {
    let body = html! { p role="alert" { (sentence) } };
    (
        StatusCode::BAD_REQUEST,
        render_page(None, name, "This does not work", &body),
    )
        .into_response()
}

fn render_form(session_id: &str, body: &Markup) -> Markup {
    html! {
        form method="post" {
            input type="hidden" name="visit" value=(session_id);
            (body)
            // Without its fields: nobody has to fill them in to leave.
            button name="action" value="cancel" formnovalidate { "Cancel" }
        }
    }
}

fn render_login_page(
    bank: &SandboxBank,
    name: &str,
    session_id: &str,
    session: &AuthorisationSession,
    problem: Option<&str>,
) -> Response {
    let known = bank.list_logins().len();
    let body = html! {
        @if let Some(problem) = problem { p.problem role="alert" { (problem) } }
        (render_form(session_id, &html! {
            label for="username" { "Username" }
            input id="username" name="username" autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus;
            label for="password" { "Password" }
            input id="password" name="password" type="password" autocomplete="current-password" required;
            button.main name="action" value="go" { "Log in" }
        }))
        section.hint aria-label="Logins of the sandbox" {
            p { "This bank is a sandbox: no money, no real people. Every password is " code { (PASSWORD) } "." }
            dl {
                dt { code { "new" } } dd { "a new customer with two accounts" }
                @if known > 0 { dt { code { "customer1" } @if known > 1 { " … " code { "customer" (known) } } } dd { "who has been here before" } }
                dt { code { "mfa" } } dd { "a new customer with a one-time code, " code { (ONE_TIME_CODE) } }
                dt { code { "slow" } } dd { "the bank takes " (SLOW_LOGIN_MS / 1000) " seconds to answer" }
                dt { code { "down" } } dd { "the bank is out of order" }
            }
        }
    };
    render_page(Some(&session.query), name, "Log in", &body)
}

fn render_one_time_code_page(
    name: &str,
    session_id: &str,
    session: &AuthorisationSession,
    problem: Option<&str>,
) -> Response {
    let body = html! {
        p { "We have sent a code to your phone." }
        @if let Some(problem) = problem { p.problem role="alert" { (problem) } }
        (render_form(session_id, &html! {
            label for="code" { "One-time code" }
            input id="code" name="code" inputmode="numeric" autocomplete="one-time-code" required autofocus;
            button.main name="action" value="go" { "Continue" }
        }))
        section.hint aria-label="Codes of the sandbox" { p { "In the sandbox it is " code { (ONE_TIME_CODE) } "." } }
    };
    render_page(Some(&session.query), name, "Enter the code", &body)
}

fn render_allow_page(
    bank: &SandboxBank,
    name: &str,
    session_id: &str,
    session: &AuthorisationSession,
    login: LoginId,
) -> Response {
    let login = bank.find_login(login);
    let consent = session.query.consent_id();
    let permitted = consent.and_then(|id| {
        bank.authorisation_state()
            .consents
            .get_entry(&id, bank.current_second())
    });
    let permits = |name: &str| {
        let mut permitted = permitted.iter().flatten();
        permitted.any(|it| it.starts_with(name))
    };
    let read = match (permits("ReadBalances"), permits("ReadTransactions")) {
        (true, true) => "who holds them, their balances and their transactions",
        (true, false) => "who holds them and their balances",
        (false, true) => "who holds them and their transactions",
        (false, false) => "who holds them",
    };
    let body = html! {
        @if let Some(login) = &login {
            p { "You are logged in as " strong { (login.name) } "." }
            p { "okra-sync asks to read of these accounts " (read) ". It cannot move money." }
            ul { @for account in &login.accounts {
                li { (account.kind) " " (account.number) }
            } }
        }
        (render_form(session_id, &html! { button.main name="action" value="allow" autofocus { "Allow" } }))
    };
    render_page(Some(&session.query), name, "Allow access", &body)
}

const STYLESHEET: &str = include_str!("authorise.css");

async fn serve_stylesheet() -> Response {
    let headers = [(CONTENT_TYPE, "text/css; charset=utf-8")];
    (headers, STYLESHEET).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorise_query(redirect_uri: &str) -> AuthorisePageQuery {
        AuthorisePageQuery {
            response_type: "code".to_owned(),
            client_id: "okra".to_owned(),
            redirect_uri: redirect_uri.to_owned(),
            state: "a b&c".to_owned(),
            code_challenge: None,
            code_challenge_method: None,
            request: String::new(),
        }
    }

    #[test]
    fn a_user_goes_back_with_the_state() {
        let check = |uri, expected: &str| {
            assert_eq!(authorise_query(uri).return_url(&[("code", "x=")]), expected);
        };
        check(
            "https://a.example/cb",
            "https://a.example/cb?code=x%3D&state=a%20b%26c",
        );
        check(
            "https://a.example/cb?k=1",
            "https://a.example/cb?k=1&code=x%3D&state=a%20b%26c",
        );
    }

    #[test]
    fn an_origin_is_one_or_none() {
        let check = |uri: &str, expected: Option<&str>| {
            assert_eq!(authorise_query(uri).redirect_origin(), expected, "{uri}")
        };
        check("https://a.example/cb", Some("https://a.example"));
        check(
            "http://127.0.0.1:3000/widget/callback",
            Some("http://127.0.0.1:3000"),
        );
        check("javascript:alert(1)", None);
        check("ftp://a.example/", None);
        check("https://", None);
        check("https://a b/", None);
        check("https://a;script-src/", None);
    }

    #[test]
    fn base64url_is_read() {
        assert_eq!(decode_base64url("aGk_Lw").as_deref(), Some(&b"hi?/"[..]));
        assert_eq!(decode_base64url("a+"), None);
    }
}
