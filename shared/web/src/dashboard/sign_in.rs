//! Signing in with the app's secret key, and out.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header::SET_COOKIE},
    response::{IntoResponse, Redirect, Response},
};
use maud::html;

use crate::{
    Web,
    assets::href,
    form::Fields,
    html as shell,
    session::{Posted, Session, Signed, checked},
    trouble::Trouble,
};

pub(crate) async fn page(
    State(web): State<Arc<Web>>,
    signed: Result<Signed, Trouble>,
    uri: Uri,
) -> Result<Response, Trouble> {
    let query = Fields::parse(uri.query().unwrap_or_default().as_bytes());
    // Who is signed in stays so: the form would put a session of nobody in the place of theirs.
    if signed.is_ok() {
        return Ok(Redirect::to(local(query.get("next"))).into_response());
    }
    form(&web, query.get("next"), None)
}

/// The form, in a session of nobody that only guards it.
fn form(web: &Web, next: &str, problem: Option<&str>) -> Result<Response, Trouble> {
    let guest = Session::guest(web)?;
    let body = html! {
        main.sign-in id="main" {
            img src=(href("icon.svg")) alt="" width="40" height="40";
            h1 { "Sign in to okra-sync" }
            form method="post" action="/dashboard/sign-in" {
                input type="hidden" name="csrf" value=(guest.csrf);
                input type="hidden" name="next" value=(local(next));
                label for="key" { "Secret key" }
                input id="key" name="key" type="password" autocomplete="current-password" required
                    autofocus spellcheck="false" placeholder="okra_sk_…"
                    aria-describedby="key-help" aria-invalid=[problem.map(|_| "true")];
                @if let Some(problem) = problem { p.problem role="alert" { (problem) } }
                p.help id="key-help" {
                    "The key your server calls the API with. "
                    code { "cargo run" } " prints the demo app's; "
                    code { "okra-sync app NAME" } " makes a new app with one."
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
        shell::document(status, "Sign in", &body),
        &guest.cookie(web)?,
    )
}

/// A path of the dashboard, whatever was asked for: nobody is sent elsewhere.
fn local(next: &str) -> &str {
    let inside =
        next == "/dashboard" || next.starts_with("/dashboard/") || next.starts_with("/dashboard?");
    let plain = next
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if inside && plain { next } else { "/dashboard" }
}

fn with_cookie(mut response: Response, cookie: &str) -> Result<Response, Trouble> {
    let cookie =
        HeaderValue::from_str(cookie).map_err(|error| Trouble::Internal(Box::new(error)))?;
    response.headers_mut().append(SET_COOKIE, cookie);
    Ok(response)
}

pub(crate) async fn submit(
    State(web): State<Arc<Web>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Trouble> {
    let guest = Session::of(&web, &headers);
    let csrf = guest.map(|guest| guest.csrf).unwrap_or_default();
    let fields = match checked(&headers, body, &csrf).await {
        Ok(fields) => fields,
        Err(_) => {
            return form(
                &web,
                "",
                Some("This page had stood open for too long. Try again."),
            );
        }
    };
    let key = fields.get("key");
    match Session::sign_in(&web, key).await? {
        None => {
            let problem = "That is not a secret key of any app here. Check that it is whole.";
            form(&web, fields.get("next"), Some(problem))
        }
        Some(session) => {
            let to = Redirect::to(local(fields.get("next")));
            with_cookie(to.into_response(), &session.cookie(&web)?)
        }
    }
}

pub(crate) async fn sign_out(State(web): State<Arc<Web>>, _: Posted) -> Result<Response, Trouble> {
    let to = Redirect::to("/dashboard/sign-in");
    with_cookie(to.into_response(), &Session::forgotten(&web))
}

#[cfg(test)]
mod tests {
    use super::local;

    #[test]
    fn nobody_is_sent_elsewhere() {
        for next in ["/dashboard", "/dashboard/records?q=a%20b", "/dashboard?a=1"] {
            assert_eq!(local(next), next);
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
            assert_eq!(local(next), "/dashboard", "{next:?}");
        }
    }
}
