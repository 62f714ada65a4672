//! An app that is signed in at the dashboard.

use axum::{
    body::Body,
    http::{
        Method, Request, StatusCode,
        header::{COOKIE, SET_COOKIE},
    },
};

use crate::world::{ApiWorld, TestResponse};

/// An app at the dashboard.
pub(crate) struct DashboardClient<'a> {
    world: &'a ApiWorld,
    cookie: String,
    pub(crate) csrf: String,
}

/// What stands between two texts of a page.
fn text_between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap();
    rest.split_once(after).unwrap().0
}

fn read_session_cookie(response: &TestResponse) -> String {
    let cookie = response.headers[SET_COOKIE].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

impl<'a> DashboardClient<'a> {
    pub(crate) async fn sign_in(world: &'a ApiWorld, key: &str) -> Self {
        let page = world
            .call_api(Method::GET, "/dashboard/sign-in", None, "")
            .await;
        let guest = Self {
            world,
            cookie: read_session_cookie(&page),
            csrf: text_between(&page.text, "name=\"csrf\" value=\"", "\"").to_owned(),
        };
        let fields = [("key", key.to_owned())];
        let entered = guest.send_form("post", "/dashboard/sign-in", &fields).await;
        assert_eq!(entered.status, StatusCode::SEE_OTHER, "{}", entered.text);
        let mut signed = Self {
            cookie: read_session_cookie(&entered),
            ..guest
        };
        let page = signed.send_form("get", "/dashboard/keys", &[]).await;
        signed.csrf = text_between(&page.text, "name=\"csrf\" value=\"", "\"").to_owned();
        signed
    }

    pub(crate) async fn send_form(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, String)],
    ) -> TestResponse {
        let mut request = Request::builder().header(COOKIE, &self.cookie);
        let mut sent = fields.to_vec();
        let body = match method {
            "get" => {
                let query = serde_urlencoded::to_string(sent).unwrap();
                request = match query.is_empty() {
                    true => request.uri(path),
                    false => request.uri(format!("{path}?{query}")),
                };
                Body::empty()
            }
            _ => {
                sent.push(("csrf", self.csrf.clone()));
                request = request.method(Method::POST).uri(path);
                Body::from(serde_urlencoded::to_string(sent).unwrap())
            }
        };
        self.world.send_request(request.body(body).unwrap()).await
    }
}
