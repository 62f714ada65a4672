//! The visitors of pages: a page of an app that opens the widget, and the customer at the bank.

use axum::{
    body::{Body, to_bytes},
    http::{
        Method, Request, StatusCode,
        header::{COOKIE, LOCATION, SET_COOKIE},
    },
};
use okra_core::model::{
    bank::{BankConfig, ClientAuth, OAuthClient},
    ids::AppId,
};
use okra_refresh::seal_client_secret;
use okra_sandbox::{AUTHORIZE_PATH, CLIENT_ID, CLIENT_SECRET, PASSWORD, TOKEN_PATH};
use okra_store::KeyHash;
use okra_webhooks::AddressPolicy;
use serde_json::{Map, Value, json};
use tower::ServiceExt;

use crate::world::{APP_KEY, ApiWorld, BANK, TestResponse};

/// The public key of the app that most tests call as.
const PUBLIC_KEY: &str = "okra_pk_ours";

/// A page of this machine, which may open the widget of a sandbox app.
const ORIGIN: &str = "http://localhost:5000";

/// The pages and the API, with a bank that has a page for its customers.
pub(crate) async fn build_world() -> ApiWorld {
    let world = ApiWorld::with_router(
        |services| okra_web::build_router(services.clone(), okra_api::build_router(services)),
        AddressPolicy::PublicOnly,
        true,
    )
    .await;
    let store = &world.environment.store;
    let mut bank = store.find_bank(BANK).await.unwrap().unwrap();
    add_login_page(&world, &mut bank);
    store.put_bank(&bank).await.unwrap();
    let key = KeyHash::hash_secret(PUBLIC_KEY);
    let mut app = store
        .find_app(AppId::from_bytes([0xa0; 12]))
        .await
        .unwrap()
        .unwrap();
    app.public_key = Some(PUBLIC_KEY.to_owned());
    store.put_app(&app).await.unwrap();
    store.put_public_key(key, app.id).await.unwrap();
    world
}

/// Gives a bank of the sandbox its login page.
pub(crate) fn add_login_page(world: &ApiWorld, bank: &mut BankConfig) {
    let (origin, _) = bank.base_url.split_once("/open-banking").unwrap();
    let secret = seal_client_secret(&world.environment.vault, bank.id, CLIENT_SECRET).unwrap();
    bank.oauth = Some(OAuthClient {
        token_url: format!("{origin}{TOKEN_PATH}"),
        authorization_url: Some(format!("{origin}{AUTHORIZE_PATH}/{}", bank.slug)),
        client_id: CLIENT_ID.to_owned(),
        client_auth: ClientAuth::ClientSecretPost,
        sealed_secret: Some(secret),
    });
}

/// Opens the widget with these options besides key and token.
pub(crate) async fn begin_widget(world: &ApiWorld, options: &Value) -> TestResponse {
    let store = &world.environment.store;
    let app = store
        .find_app(AppId::from_bytes([0xa0; 12]))
        .await
        .unwrap()
        .unwrap();
    let mut all: Map<String, Value> = options.as_object().unwrap().clone();
    all.insert("key".to_owned(), json!(PUBLIC_KEY));
    all.insert("token".to_owned(), json!(app.client_token().to_string()));
    let body = json!({ "origin": ORIGIN, "options": all });
    world
        .call_api(Method::POST, "/widget/begin", None, body.to_string())
        .await
}

/// A widget that is open.
pub(crate) struct WidgetClient<'a> {
    world: &'a ApiWorld,
    session: String,
    /// What the browser holds that began the last login.
    pub(crate) browser_cookie: Option<String>,
    /// What it shows.
    pub(crate) html: String,
}

impl<'a> WidgetClient<'a> {
    pub(crate) async fn open_widget(world: &'a ApiWorld, options: &Value) -> Self {
        let response = begin_widget(world, options).await;
        assert_eq!(response.status, StatusCode::OK, "{}", response.text);
        let began = response.parse_json();
        Self {
            world,
            session: began["session"].as_str().unwrap().to_owned(),
            browser_cookie: None,
            html: began["html"].as_str().unwrap().to_owned(),
        }
    }

    /// Does one step: what it shows then.
    pub(crate) async fn take_step(&mut self, fields: &[(&str, &str)]) -> &str {
        let body = serde_urlencoded::to_string(fields).unwrap();
        let request = Request::post("/widget/step").header("x-okra-link", &self.session);
        let response = self
            .world
            .send_request(request.body(Body::from(body)).unwrap())
            .await;
        assert_eq!(response.status, StatusCode::OK, "{}", response.text);
        self.html = response.text;
        &self.html
    }

    /// Agrees, logs in at the bank and returns: the accounts can be chosen then.
    pub(crate) async fn give_consent(&mut self) -> &str {
        let back = self.authorise_at_bank().await;
        let returned = self
            .return_from_bank(&back, self.browser_cookie.clone())
            .await;
        assert_eq!(returned.status, StatusCode::OK, "{}", returned.text);
        self.take_step(&[("action", "wait")]).await
    }

    /// Goes on to the bank: where that is, and what the browser holds then.
    async fn start_bank_login(&mut self) -> String {
        self.take_step(&[("action", "go")]).await;
        let request = Request::post("/widget/authorize").header("x-okra-link", &self.session);
        let response = self
            .world
            .send_request(request.body(Body::empty()).unwrap())
            .await;
        assert_eq!(response.status, StatusCode::OK, "{}", response.text);
        let cookie = response.headers[SET_COOKIE].to_str().unwrap();
        self.browser_cookie = Some(cookie.split(';').next().unwrap().to_owned());
        response.parse_json()["url"].as_str().unwrap().to_owned()
    }

    /// Returns from the bank in a browser with this cookie.
    pub(crate) async fn return_from_bank(
        &self,
        path: &str,
        cookie: Option<String>,
    ) -> TestResponse {
        let mut request = Request::get(path);
        if let Some(cookie) = cookie {
            request = request.header(COOKIE, cookie);
        }
        self.world
            .send_request(request.body(Body::empty()).unwrap())
            .await
    }

    /// Agrees and logs in at the bank: where the bank sends the browser back to.
    pub(crate) async fn authorise_at_bank(&mut self) -> String {
        let href = self.start_bank_login().await;
        let (_, path) = href.split_once("/open-banking").unwrap();
        let bank = self.world.bank.api_router();
        let path = format!("/open-banking{path}");
        let get = Request::get(&path).body(Body::empty()).unwrap();
        let page = bank.clone().oneshot(get).await.unwrap();
        let page = to_bytes(page.into_body(), usize::MAX).await.unwrap();
        let page = String::from_utf8(page.to_vec()).unwrap();
        let visit = page.split_once("name=\"visit\" value=\"").unwrap().1;
        let visit = visit.split_once('"').unwrap().0.to_owned();
        let form = |fields: &[(&str, &str)]| {
            let path = path.split('?').next().unwrap();
            let body = serde_urlencoded::to_string(fields).unwrap();
            let post =
                Request::post(path).header("content-type", "application/x-www-form-urlencoded");
            post.body(Body::from(body)).unwrap()
        };
        let who = [
            ("visit", visit.as_str()),
            ("username", "new"),
            ("password", PASSWORD),
        ];
        bank.clone().oneshot(form(&who)).await.unwrap();
        let allow = [("visit", visit.as_str()), ("action", "allow")];
        let back = bank.oneshot(form(&allow)).await.unwrap();
        let back = back.headers()[LOCATION].to_str().unwrap().to_owned();
        back.strip_prefix("https://sync.example")
            .unwrap()
            .to_owned()
    }

    /// The accounts that can be chosen.
    pub(crate) fn offered_accounts(&self) -> Vec<String> {
        let after = self.html.split("name=\"account\" value=\"").skip(1);
        let ids = after.map(|rest| rest.split_once('"').unwrap().0.to_owned());
        ids.collect()
    }

    /// Links a bank with all of its accounts: what the page is handed.
    pub(crate) async fn link_all_accounts(&mut self) -> Value {
        self.take_step(&[("action", "bank"), ("bank", &BANK.to_string())])
            .await;
        self.give_consent().await;
        self.share_all_accounts().await;
        self.world.process_chunks().await;
        self.take_step(&[("action", "progress"), ("look", "99")])
            .await;
        let success = self.html.split_once("data-success=\"").unwrap().1;
        let success = success.split_once('"').unwrap().0.replace("&quot;", "\"");
        serde_json::from_str(&success).unwrap()
    }

    /// Shares all accounts.
    pub(crate) async fn share_all_accounts(&mut self) -> &str {
        let accounts = self.offered_accounts();
        let mut fields = vec![("action", "accounts")];
        fields.extend(accounts.iter().map(|id| ("account", id.as_str())));
        self.take_step(&fields).await
    }
}

/// The text of a page without tags, with single spaces.
pub(crate) fn visible_text(html: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for letter in html.chars() {
        match letter {
            '<' => {
                inside = true;
                text.push(' ');
            }
            '>' => inside = false,
            _ if !inside => text.push(letter),
            _ => {}
        }
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

/// A call of the API as the app of [`APP_KEY`].
pub(crate) async fn post_to_api(world: &ApiWorld, path: &str, body: Value) -> TestResponse {
    world.post_as(APP_KEY, path, &body).await
}
