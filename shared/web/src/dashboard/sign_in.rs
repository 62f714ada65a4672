//! Signing in with the app's secret key, and out.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header::SET_COOKIE},
    response::{IntoResponse, Redirect, Response},
};
use cookie::Cookie;
use maud::html;

use super::session::{AppSession, SessionCookie, SubmittedForm, read_verified_form};
use crate::{
    assets::asset_href, components::document::render_document, form::FormFields,
    page_error::PageError, web_state::WebState,
};

pub(crate) async fn render_sign_in_page(
    State(web): State<Arc<WebState>>,
    session: Result<AppSession, PageError>,
    uri: Uri,
) -> Result<Response, PageError> {
    let query = FormFields::parse(uri.query().unwrap_or_default().as_bytes());
    // A session that exists stays: the form would replace it by one before the sign-in.
    if session.is_ok() {
        return Ok(Redirect::to(restrict_to_dashboard(query.get("next"))).into_response());
    }
    render_sign_in_form(&web, query.get("next"), None)
}

/// The form, in a session that only guards it.
fn render_sign_in_form(
    web: &WebState,
    next: &str,
    problem: Option<&str>,
) -> Result<Response, PageError> {
    let guest = SessionCookie::new_guest(web)?;
    let body = html! {
        main.sign-in id="main" {
            img src=(asset_href("icon.svg")) alt="" width="40" height="40";
            h1 { "Sign in to okra-sync" }
            form method="post" action="/dashboard/sign-in" {
                input type="hidden" name="csrf" value=(guest.csrf);
                input type="hidden" name="next" value=(restrict_to_dashboard(next));
                label for="key" { "Secret key" }
                input id="key" name="key" type="password" autocomplete="current-password" required
                    autofocus spellcheck="false" placeholder="okra_sk_…"
                    aria-describedby="key-help" aria-invalid=[problem.map(|_| "true")];
                @if let Some(problem) = problem { p.problem role="alert" { (problem) } }
                p.help id="key-help" {
                    "The key that your server calls the API with. "
                    code { "cargo run" } " prints the demo app's; "
                    code { "okra-sync app NAME" } " creates a new app with one."
                }
                button.main { "Sign in" }
            }
        }
    };
    let status = if problem.is_some() {
        StatusCode::UNAUTHORIZED
    } else {
        StatusCode::OK
    };
    with_cookie(
        render_document(status, "Sign in", &body),
        &guest.to_cookie(web)?,
    )
}

/// The path to go on to, where it is one of the dashboard; the overview otherwise, so that no link leads elsewhere.
fn restrict_to_dashboard(next: &str) -> &str {
    let inside =
        next == "/dashboard" || next.starts_with("/dashboard/") || next.starts_with("/dashboard?");
    let plain = next
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if inside && plain { next } else { "/dashboard" }
}

fn with_cookie(mut response: Response, cookie: &Cookie<'_>) -> Result<Response, PageError> {
    let cookie = HeaderValue::try_from(cookie.to_string()).map_err(PageError::internal)?;
    response.headers_mut().append(SET_COOKIE, cookie);
    Ok(response)
}

pub(crate) async fn submit_sign_in(
    State(web): State<Arc<WebState>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, PageError> {
    let guest = SessionCookie::from_headers(&web, &headers);
    let csrf = guest.map(|guest| guest.csrf).unwrap_or_default();
    let fields = match read_verified_form(&headers, body, &csrf).await {
        Ok(fields) => fields,
        Err(_) => {
            return render_sign_in_form(
                &web,
                "",
                Some("This page was open for too long. Try again."),
            );
        }
    };
    let key = fields.get("key");
    match SessionCookie::sign_in(&web, key).await? {
        None => {
            let problem = "That is not a secret key of any app here. Check that it is complete.";
            render_sign_in_form(&web, fields.get("next"), Some(problem))
        }
        Some(session) => {
            let to = Redirect::to(restrict_to_dashboard(fields.get("next")));
            with_cookie(to.into_response(), &session.to_cookie(&web)?)
        }
    }
}

pub(crate) async fn sign_out(
    State(web): State<Arc<WebState>>,
    headers: HeaderMap,
    _: SubmittedForm,
) -> Result<Response, PageError> {
    SessionCookie::end_session(&web, &headers).await?;
    let to = Redirect::to("/dashboard/sign-in");
    with_cookie(to.into_response(), &SessionCookie::removal_cookie(&web))
}

#[cfg(test)]
mod tests {
    use super::restrict_to_dashboard;

    #[test]
    fn a_sign_in_leads_to_the_dashboard_only() {
        for next in ["/dashboard", "/dashboard/records?q=a%20b", "/dashboard?a=1"] {
            assert_eq!(restrict_to_dashboard(next), next);
        }
        for next in [
            "",
            "https://evil.example/",
            "//evil.example",
            "/dashboards",
            "/dashboard/\\evil",
            "/dashboard/ a",
            "/dashboard/\r\nx: y",
        ] {
            assert_eq!(restrict_to_dashboard(next), "/dashboard", "{next:?}");
        }
    }
}
