//! The login page's HTML: one function for each step.
//!
//! Rule: no script, no style or image from elsewhere, and forms that lead to the bank or back to the app only.

use axum::response::{IntoResponse, Response};
use http::{
    HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE},
};
use maud::{DOCTYPE, Markup, html};

use super::{query::AuthorisePageQuery, session::AuthorisationSession};
use crate::bank::view::LoginView;

const STYLESHEET: &str = include_str!("authorise.css");

/// What every step's page shows.
pub(super) struct PageSession<'a> {
    pub(super) bank_name: &'a str,
    pub(super) session_id: &'a str,
    pub(super) session: &'a AuthorisationSession,
    /// What was wrong with the form before.
    pub(super) problem: Option<&'a str>,
}

/// What the login page says about the sandbox's logins.
pub(super) struct LoginHints {
    pub(super) password: &'static str,
    pub(super) one_time_code: &'static str,
    pub(super) slow_login_s: u64,
    pub(super) login_count: usize,
}

pub(super) async fn serve_stylesheet() -> Response {
    let headers = [(CONTENT_TYPE, "text/css; charset=utf-8")];
    (headers, STYLESHEET).into_response()
}

pub(super) fn render_error_page(bank_name: &str, sentence: &str) -> Response {
    let body = html! { p role="alert" { (sentence) } };
    let page = render_page(None, bank_name, "This does not work", &body);
    (StatusCode::BAD_REQUEST, page).into_response()
}

pub(super) fn render_login_page(page: &PageSession<'_>, hints: &LoginHints) -> Response {
    let body = html! {
        (render_problem(page))
        (render_form(page, &html! {
            label for="username" { "Username" }
            input id="username" name="username" autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus;
            label for="password" { "Password" }
            input id="password" name="password" type="password" autocomplete="current-password" required;
            button.main name="action" value="go" { "Log in" }
        }))
        section.hint aria-label="Logins of the sandbox" {
            p { "This bank is a sandbox: no money, no real people. Every password is " code { (hints.password) } "." }
            dl {
                dt { code { "new" } } dd { "a new customer with two accounts" }
                @if hints.login_count > 0 {
                    dt { code { "customer1" } @if hints.login_count > 1 { " … " code { "customer" (hints.login_count) } } }
                    dd { "a customer of an earlier login" }
                }
                dt { code { "mfa" } } dd { "a new customer with a one-time code, " code { (hints.one_time_code) } }
                dt { code { "slow" } } dd { "the bank takes " (hints.slow_login_s) " seconds to answer" }
                dt { code { "down" } } dd { "the bank is out of order" }
            }
        }
    };
    render_page(Some(&page.session.query), page.bank_name, "Log in", &body)
}

pub(super) fn render_one_time_code_page(page: &PageSession<'_>, one_time_code: &str) -> Response {
    let body = html! {
        p { "We have sent a code to your phone." }
        (render_problem(page))
        (render_form(page, &html! {
            label for="code" { "One-time code" }
            input id="code" name="code" inputmode="numeric" autocomplete="one-time-code" required autofocus;
            button.main name="action" value="go" { "Continue" }
        }))
        section.hint aria-label="Codes of the sandbox" { p { "In the sandbox the code is " code { (one_time_code) } "." } }
    };
    render_page(
        Some(&page.session.query),
        page.bank_name,
        "Enter the code",
        &body,
    )
}

pub(super) fn render_allow_page(
    page: &PageSession<'_>,
    login: Option<&LoginView>,
    permissions: &[String],
) -> Response {
    let body = html! {
        @if let Some(login) = login {
            p { "You are logged in as " strong { (login.name) } "." }
            p { "okra-sync asks to read these accounts: " (describe_permissions(permissions)) ". It cannot move money." }
            ul { @for account in &login.accounts {
                li { (account.kind) " " (account.number) }
            } }
        }
        (render_form(page, &html! { button.main name="action" value="allow" autofocus { "Allow" } }))
    };
    render_page(
        Some(&page.session.query),
        page.bank_name,
        "Allow access",
        &body,
    )
}

/// What the permissions let an app read.
fn describe_permissions(permissions: &[String]) -> &'static str {
    match (
        permits(permissions, "ReadBalances"),
        permits(permissions, "ReadTransactions"),
    ) {
        (true, true) => "who holds them, their balances and their transactions",
        (true, false) => "who holds them and their balances",
        (false, true) => "who holds them and their transactions",
        (false, false) => "who holds them",
    }
}

/// True where a permission of this name is there, or one that details it, such as `ReadTransactionsDetail`.
fn permits(permissions: &[String], name: &str) -> bool {
    permissions
        .iter()
        .any(|permission| permission.starts_with(name))
}

fn render_problem(page: &PageSession<'_>) -> Markup {
    html! {
        @if let Some(problem) = page.problem { p.problem role="alert" { (problem) } }
    }
}

fn render_form(page: &PageSession<'_>, body: &Markup) -> Markup {
    html! {
        form method="post" {
            input type="hidden" name="visit" value=(page.session_id);
            (body)
            // The fields need not be filled in to leave.
            button name="action" value="cancel" formnovalidate { "Cancel" }
        }
    }
}

fn render_page(
    query: Option<&AuthorisePageQuery>,
    bank_name: &str,
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
                title { (title) " · " (bank_name) }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="/open-banking/authorize.css";
            }
            body {
                header { span.logo aria-hidden="true" { (bank_initials(bank_name)) } (bank_name) span.sandbox { "sandbox" } }
                main { h1 { (title) } (body) }
            }
        }
    };
    // A browser applies `form-action` also to where the response to a form redirects.
    let redirect_origin = query
        .and_then(AuthorisePageQuery::redirect_origin)
        .unwrap_or_default();
    let policy = format!(
        "default-src 'none'; style-src 'self'; img-src data:; form-action 'self' {redirect_origin}; base-uri 'none'; frame-ancestors 'none'"
    );
    // An origin has no character that a header could not have; without the policy nothing is allowed.
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

fn bank_initials(bank_name: &str) -> String {
    let initials = bank_name.split(' ').filter_map(|word| word.chars().next());
    initials.take(2).collect()
}
