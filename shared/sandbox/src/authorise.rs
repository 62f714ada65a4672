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
use okra_core::bank::Standard;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    bank::{Bank, PlayError},
    command::{LoginId, NewLogin},
    fault::Outage,
    movement::Second,
};

/// The password of every login.
pub const PASSWORD: &str = "sandbox";

/// The one-time code of every login that has one.
pub const ONE_TIME_CODE: &str = "123456";

/// Where the login page is; a bank's slug follows.
pub const AUTHORIZE_PATH: &str = "/open-banking/authorize";

/// Wrong passwords or codes until a login is broken off.
const MAX_TRIES: u8 = 5;

/// Seconds that a consent, a login or a code waits to be used.
const PATIENCE_S: Second = 900;

/// Consents, logins and codes that are kept at most; the oldest go first.
const MAX_KEPT: usize = 10_000;

/// Seconds that a consent lasts from its authorisation on, as banks of the UK have it (SCA-RTS article
/// 10, as amended in 2022): 180 days.
const CONSENT_LIFE_S: Second = 180 * 86_400;

/// Bytes of a form at most.
const MAX_BODY_BYTES: usize = 16 * 1024;

/// How long the bank of the login `slow` thinks.
const SLOW_MS: u64 = 3_000;

/// What waits to be used, by its name.
struct Kept<T>(Mutex<HashMap<String, (Second, T)>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Kept<T> {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Second, T)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, name: &str, now: Second, thing: T) {
        let mut kept = self.lock();
        kept.retain(|_, (until, _)| *until > now);
        if kept.len() >= MAX_KEPT
            && let Some(oldest) = kept
                .iter()
                .min_by_key(|(_, (until, _))| *until)
                .map(|(name, _)| name.clone())
        {
            kept.remove(&oldest);
        }
        kept.insert(name.to_owned(), (now + PATIENCE_S, thing));
    }

    fn get(&self, name: &str, now: Second) -> Option<T> {
        let kept = self.lock();
        let (until, thing) = kept.get(name)?;
        (*until > now).then(|| thing.clone())
    }

    fn take(&self, name: &str, now: Second) -> Option<T> {
        let (until, thing) = self.lock().remove(name)?;
        (until > now).then_some(thing)
    }
}

/// What the bank's desk for users holds.
#[derive(Default)]
pub(crate) struct Desk {
    drawn: AtomicU64,
    consents: Kept<Vec<String>>,
    visits: Kept<Visit>,
    codes: Kept<Code>,
}

/// A user who was sent here.
#[derive(Clone)]
struct Visit {
    asked: Asked,
    tries: u8,
    /// Who it is, once the password was right.
    login: Option<LoginId>,
    /// The one-time code is still to come.
    needs_code: bool,
}

/// A code that can be exchanged once.
#[derive(Clone)]
struct Code {
    login: LoginId,
    consent: String,
    client_id: String,
    redirect_uri: String,
    challenge: Option<String>,
}

/// The answer to a client's own credentials.
#[derive(Serialize)]
pub(crate) struct Ours {
    access_token: String,
    expires_in: Second,
}

/// The parameters of an authorisation request (RFC 6749, 4.1.1; RFC 7636, 4.3).
#[derive(Clone, Deserialize)]
struct Asked {
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

impl Asked {
    /// The consent in the request object's claims: `id_token.openbanking_intent_id.value`.
    fn consent(&self) -> Option<String> {
        let claims = self.request.split('.').nth(1)?;
        let claims = base64url(claims)?;
        let claims: Value = serde_json::from_slice(&claims).ok()?;
        let id = &claims["claims"]["id_token"]["openbanking_intent_id"]["value"];
        id.as_str().map(str::to_owned)
    }

    /// Where the user goes back to, with these parameters and the state.
    fn back(&self, pairs: &[(&str, &str)]) -> String {
        let mut url = self.redirect_uri.clone();
        let mut sign = if url.contains('?') { '&' } else { '?' };
        for (name, value) in pairs.iter().chain([&("state", self.state.as_str())]) {
            url.push(sign);
            url.push_str(name);
            url.push('=');
            url.push_str(&escaped(value));
            sign = '&';
        }
        url
    }

    /// The origin of the `redirect_uri`: `https://app.example`.
    fn origin(&self) -> Option<&str> {
        let (scheme, rest) = self.redirect_uri.split_once("://")?;
        let host = rest.split(['/', '?', '#']).next()?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        let known = ["http", "https"].contains(&scheme) && !host.is_empty();
        (known && host.bytes().all(plain))
            .then(|| &self.redirect_uri[..scheme.len() + 3 + host.len()])
    }
}

fn base64url(text: &str) -> Option<Vec<u8>> {
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

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

impl Bank {
    /// A name that no other thing has. Derived from the seed, as tokens are.
    pub(crate) fn draw(&self, kind: &str) -> String {
        let number = self.desk().drawn.fetch_add(1, Ordering::Relaxed);
        let mut hash = Sha256::new();
        for part in [
            kind.as_bytes(),
            &self.options().seed.to_be_bytes(),
            &self.now().to_be_bytes(),
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
    pub(crate) fn ours(&self) -> Ours {
        let mut hash = Sha256::new();
        hash.update(b"client");
        hash.update(self.options().seed.to_be_bytes());
        let digest = hash.finalize();
        let hex = digest.iter().map(|byte| format!("{byte:02x}"));
        Ours {
            access_token: hex.collect(),
            expires_in: PATIENCE_S,
        }
    }

    /// The login and the consent that a code is for, where it is exchanged by the client it was made for, once.
    pub(crate) fn redeem(
        &self,
        client_id: &str,
        code: &str,
        redirect_uri: &str,
        verifier: Option<&str>,
    ) -> Option<(LoginId, String)> {
        let code = self.desk().codes.take(code, self.now())?;
        let proven = match &code.challenge {
            None => true,
            Some(challenge) => verifier.is_some_and(|verifier| {
                let digest = Sha256::digest(verifier.as_bytes());
                base64url(challenge).as_deref() == Some(digest.as_slice())
            }),
        };
        let same = code.client_id == client_id && code.redirect_uri == redirect_uri;
        (proven && same).then_some((code.login, code.consent))
    }
}

pub(crate) fn router(bank: &Bank) -> Router {
    let mut router = Router::new()
        .route(
            &format!("{AUTHORIZE_PATH}/{{bank}}"),
            get(arrive).post(proceed),
        )
        .route("/open-banking/authorize.css", get(style));
    for standard in [Standard::Obie31, Standard::Obie40] {
        let path = format!("{}/account-access-consents", Bank::base_path(standard));
        router = router
            .route(&path, post(consent))
            .route(&format!("{path}/{{id}}"), get(terms).delete(revoke));
    }
    router
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(bank.clone())
}

/// Makes a consent that waits for its user.
async fn consent(
    State(bank): State<Bank>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Response {
    if !is_ours(&bank, &headers) {
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
    let (id, now) = (bank.draw("consent"), bank.now());
    let data = json!({
        "Data": {
            "ConsentId": id,
            "Status": "AwaitingAuthorisation",
            "CreationDateTime": at(now).to_string(),
            "StatusUpdateDateTime": at(now).to_string(),
            "Permissions": permissions,
            "ExpirationDateTime": asked["Data"]["ExpirationDateTime"],
        },
        "Risk": {},
    });
    bank.desk().consents.put(&id, now, permissions);
    (StatusCode::CREATED, axum::Json(data)).into_response()
}

/// True for a request with the token of the client's own credentials.
fn is_ours(bank: &Bank, headers: &HeaderMap) -> bool {
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|it| it.to_str().ok()?.strip_prefix("Bearer "));
    bearer == Some(bank.ours().access_token.as_str())
}

/// What is known of a consent: that it waits, or when it ends.
async fn terms(State(bank): State<Bank>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if !is_ours(&bank, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let data = match bank.authorised(&id) {
        Some(authorised) => json!({
            "ConsentId": id,
            "Status": "Authorised",
            "StatusUpdateDateTime": at(authorised.since).to_string(),
            "ExpirationDateTime": at(authorised.since + CONSENT_LIFE_S).to_string(),
        }),
        None if bank.desk().consents.get(&id, bank.now()).is_some() => {
            json!({ "ConsentId": id, "Status": "AwaitingAuthorisation" })
        }
        None => return StatusCode::NOT_FOUND.into_response(),
    };
    axum::Json(json!({ "Data": data, "Risk": {} })).into_response()
}

/// Takes a consent back.
async fn revoke(State(bank): State<Bank>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if !is_ours(&bank, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if bank.authorised(&id).is_none() {
        return StatusCode::NOT_FOUND.into_response();
    }
    match bank.play(crate::command::Command::Revoke { consent: id }) {
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            tracing::error!(%error, "the sandbox bank could not revoke a consent");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn at(second: Second) -> Timestamp {
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
async fn arrive(
    State(bank): State<Bank>,
    Path(slug): Path<String>,
    Query(asked): Query<Asked>,
) -> Response {
    let name = bank_name(&slug);
    if asked.origin().is_none() {
        return trouble(
            &name,
            "The app that sent you here gave no address to go back to.",
        );
    }
    if matches!(
        bank.faults().outage,
        Some(Outage::Unavailable | Outage::Drop)
    ) {
        return Redirect::to(&asked.back(&[("error", "temporarily_unavailable")])).into_response();
    }
    let method = asked.code_challenge_method.as_deref();
    let known = asked
        .consent()
        .is_some_and(|id| bank.desk().consents.get(&id, bank.now()).is_some());
    if asked.response_type != "code"
        || asked.client_id.is_empty()
        || (asked.code_challenge.is_some() && method != Some("S256"))
        || !known
    {
        return Redirect::to(&asked.back(&[("error", "invalid_request")])).into_response();
    }
    let id = bank.draw("visit");
    let visit = Visit {
        asked,
        tries: 0,
        login: None,
        needs_code: false,
    };
    bank.desk().visits.put(&id, bank.now(), visit.clone());
    sign_in(&bank, &name, &id, &visit, None)
}

/// What the user sends.
#[derive(Deserialize)]
struct Sent {
    visit: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    action: String,
}

async fn proceed(
    State(bank): State<Bank>,
    Path(slug): Path<String>,
    Form(sent): Form<Sent>,
) -> Response {
    let (name, now) = (bank_name(&slug), bank.now());
    let Some(mut visit) = bank.desk().visits.take(&sent.visit, now) else {
        return trouble(
            &name,
            "This page has stood open for too long. Go back to the app and start again.",
        );
    };
    if sent.action == "cancel" {
        return Redirect::to(&visit.asked.back(&[("error", "access_denied")])).into_response();
    }
    let problem = match (visit.login, visit.needs_code) {
        (None, _) => match bank.known(&sent.username, &sent.password).await {
            Entry::Known { login, needs_code } => {
                (visit.login, visit.needs_code) = (Some(login), needs_code);
                None
            }
            Entry::Down => {
                let back = visit.asked.back(&[("error", "temporarily_unavailable")]);
                return Redirect::to(&back).into_response();
            }
            Entry::Wrong => Some("The username or the password is wrong."),
        },
        (Some(_), true) if sent.code.trim() == ONE_TIME_CODE => {
            visit.needs_code = false;
            None
        }
        (Some(_), true) => Some("That code is wrong. Look again at the message on your phone."),
        (Some(login), false) => {
            let code = bank.draw("code");
            let kept = Code {
                login,
                consent: visit.asked.consent().unwrap_or_default(),
                client_id: visit.asked.client_id.clone(),
                redirect_uri: visit.asked.redirect_uri.clone(),
                challenge: visit.asked.code_challenge.clone(),
            };
            bank.desk().codes.put(&code, now, kept);
            return Redirect::to(&visit.asked.back(&[("code", &code)])).into_response();
        }
    };
    visit.tries += u8::from(problem.is_some());
    if visit.tries >= MAX_TRIES {
        return Redirect::to(&visit.asked.back(&[("error", "access_denied")])).into_response();
    }
    bank.desk().visits.put(&sent.visit, now, visit.clone());
    match (visit.login, visit.needs_code) {
        (None, _) => sign_in(&bank, &name, &sent.visit, &visit, problem),
        (Some(_), true) => one_time_code(&name, &sent.visit, &visit, problem),
        (Some(login), false) => allow(&bank, &name, &sent.visit, &visit, login),
    }
}

/// Who a username and a password are.
enum Entry {
    Known { login: LoginId, needs_code: bool },
    Wrong,
    Down,
}

impl Bank {
    async fn known(&self, username: &str, password: &str) -> Entry {
        let username = username.trim().to_ascii_lowercase();
        if username == "down" {
            return Entry::Down;
        }
        if username == "slow" {
            tokio::time::sleep(std::time::Duration::from_millis(SLOW_MS)).await;
        }
        if password != PASSWORD {
            return Entry::Wrong;
        }
        let needs_code = username == "mfa";
        let login = match username.as_str() {
            "new" | "mfa" | "slow" => self.newcomer(),
            known => known
                .strip_prefix("customer")
                .and_then(|number| number.parse().ok())
                .and_then(|number| self.login(LoginId(number)))
                .map(|login| login.id)
                .ok_or(PlayError::NoSuchLogin),
        };
        match login {
            Ok(login) => Entry::Known { login, needs_code },
            Err(_) => Entry::Wrong,
        }
    }

    fn newcomer(&self) -> Result<LoginId, PlayError> {
        let new = NewLogin {
            accounts: 2,
            ..NewLogin::default()
        };
        self.create_login(new).map(|login| login.id)
    }
}

fn page(asked: Option<&Asked>, name: &str, title: &str, body: &Markup) -> Response {
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
                header { span.logo aria-hidden="true" { (initials(name)) } (name) span.sandbox { "sandbox" } }
                main { h1 { (title) } (body) }
            }
        }
    };
    // A browser applies `form-action` to where a form's answer leads too.
    let back = asked.and_then(Asked::origin).unwrap_or_default();
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

fn initials(name: &str) -> String {
    let firsts = name.split(' ').filter_map(|word| word.chars().next());
    firsts.take(2).collect()
}

fn trouble(name: &str, sentence: &str) -> Response {
    let body = html! { p role="alert" { (sentence) } };
    (
        StatusCode::BAD_REQUEST,
        page(None, name, "This does not work", &body),
    )
        .into_response()
}

fn form(visit: &str, body: &Markup) -> Markup {
    html! {
        form method="post" {
            input type="hidden" name="visit" value=(visit);
            (body)
            // Without its fields: nobody has to fill them in to leave.
            button name="action" value="cancel" formnovalidate { "Cancel" }
        }
    }
}

fn sign_in(bank: &Bank, name: &str, id: &str, visit: &Visit, problem: Option<&str>) -> Response {
    let known = bank.logins().len();
    let body = html! {
        @if let Some(problem) = problem { p.problem role="alert" { (problem) } }
        (form(id, &html! {
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
                dt { code { "slow" } } dd { "the bank takes " (SLOW_MS / 1000) " seconds to answer" }
                dt { code { "down" } } dd { "the bank is out of order" }
            }
        }
    };
    page(Some(&visit.asked), name, "Log in", &body)
}

fn one_time_code(name: &str, id: &str, visit: &Visit, problem: Option<&str>) -> Response {
    let body = html! {
        p { "We have sent a code to your phone." }
        @if let Some(problem) = problem { p.problem role="alert" { (problem) } }
        (form(id, &html! {
            label for="code" { "One-time code" }
            input id="code" name="code" inputmode="numeric" autocomplete="one-time-code" required autofocus;
            button.main name="action" value="go" { "Continue" }
        }))
        section.hint aria-label="Codes of the sandbox" { p { "In the sandbox it is " code { (ONE_TIME_CODE) } "." } }
    };
    page(Some(&visit.asked), name, "Enter the code", &body)
}

fn allow(bank: &Bank, name: &str, id: &str, visit: &Visit, login: LoginId) -> Response {
    let login = bank.login(login);
    let consent = visit.asked.consent();
    let permitted = consent.and_then(|id| bank.desk().consents.get(&id, bank.now()));
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
        (form(id, &html! { button.main name="action" value="allow" autofocus { "Allow" } }))
    };
    page(Some(&visit.asked), name, "Allow access", &body)
}

const STYLE: &str = include_str!("authorise.css");

async fn style() -> Response {
    let headers = [(CONTENT_TYPE, "text/css; charset=utf-8")];
    (headers, STYLE).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(redirect_uri: &str) -> Asked {
        Asked {
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
            assert_eq!(asked(uri).back(&[("code", "x=")]), expected);
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
        let check =
            |uri: &str, expected: Option<&str>| assert_eq!(asked(uri).origin(), expected, "{uri}");
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
        assert_eq!(base64url("aGk_Lw").as_deref(), Some(&b"hi?/"[..]));
        assert_eq!(base64url("a+"), None);
    }
}
