//! The HTTP API: Okra's endpoints, and extensions on the same resources.
//!
//! [`ROUTES`] is the whole API: path, method, who may call, handler. A call is read tolerantly, as
//! Okra's clients send it ([`input`]), answered in Okra's envelope, and refused in it too
//! ([`envelope`]): never with a stack, never with what another app owns.

#[macro_use]
mod documented;

mod accounts;
mod auth;
mod auths;
mod balances;
mod banks;
mod call;
mod callback;
mod customers;
mod deliveries;
mod downloads;
mod envelope;
mod feed;
pub mod gateway;
mod history;
mod input;
mod jobs;
mod kept;
mod keys;
mod link;
mod links;
mod names;
#[cfg(feature = "openapi")]
mod openapi;
mod places;
mod products;
mod records;
mod reference;
mod refresh;
mod removals;
mod repeats;
mod routes;
mod scope;
mod states;
mod sync;
mod system;
mod transactions;
mod webhooks;

use std::{future::Future, ops::Deref, pin::Pin, sync::Arc};

use axum::{Router, extract::State, response::Response};
use okra_connectors::ConsentSecret;
use okra_core::model::ids::BankId;
use okra_handlers::RuntimeContext;
use okra_webhooks::Keyring;

pub use okra_vault::secrets_match;

pub use self::{
    input::MAX_BODY_BYTES,
    places::await_bank_permit,
    repeats::IDEMPOTENCY_KEY,
    routes::{Access, Origin, ROUTES, Route},
};

/// A login at the sandbox bank, and the consent its customer gave.
#[derive(Clone, Debug)]
pub struct LinkableLogin {
    /// The bank to link it through.
    pub bank: BankId,
    /// The customer's name.
    pub name: String,
    /// The consent.
    pub consent: ConsentSecret,
}

/// What a sandbox login is asked to be.
#[derive(Clone, Debug, Default)]
pub struct CreateLoginRequest {
    /// The customer's name; the bank makes one up where it is absent.
    pub name: Option<String>,
    /// The bank; the sandbox chooses where it is absent.
    pub bank: Option<BankId>,
    /// Accounts, 1 to 5.
    pub accounts: u8,
    /// Okra's `low`, `medium`, `high`.
    pub volume: Option<String>,
}

/// Makes logins at the sandbox bank.
pub trait SandboxLoginFactory: Send + Sync {
    /// A new login, with its customer's consent.
    ///
    /// # Errors
    ///
    /// A sentence that says what was wrong with what was asked.
    fn create_login(&self, request: CreateLoginRequest) -> Result<LinkableLogin, String>;
}

/// Fills bytes with random ones. Ids and signing secrets are made of them.
pub type RandomSource = Arc<dyn Fn(&mut [u8]) -> Result<(), RandomnessError> + Send + Sync>;

/// There are no random numbers to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no random numbers")]
pub struct RandomnessError;

/// What the API stands on: the functions' environment, and the sandbox bank where there is one.
#[derive(Clone)]
pub struct ApiState {
    environment: RuntimeContext,
    keyring: Keyring,
    cache: Arc<kept::AppBankCache>,
    sandbox: Option<Arc<dyn SandboxLoginFactory>>,
    random_source: RandomSource,
}

impl ApiState {
    /// The state of an API on this environment, with the operating system's random numbers.
    pub fn new(environment: RuntimeContext, sandbox: Option<Arc<dyn SandboxLoginFactory>>) -> Self {
        let keyring = Keyring::new(environment.store.clone(), Arc::clone(&environment.vault));
        Self {
            environment,
            keyring,
            cache: Arc::default(),
            sandbox,
            random_source: Arc::new(|bytes| getrandom::fill(bytes).map_err(|_| RandomnessError)),
        }
    }

    /// The same state with other random numbers.
    #[must_use]
    pub fn with_random_source(mut self, random_source: RandomSource) -> Self {
        self.random_source = random_source;
        self
    }

    fn random_bytes<const N: usize>(&self) -> Result<[u8; N], RandomnessError> {
        let mut bytes = [0; N];
        (self.random_source)(&mut bytes)?;
        Ok(bytes)
    }
}

impl Deref for ApiState {
    type Target = RuntimeContext;

    fn deref(&self) -> &RuntimeContext {
        &self.environment
    }
}

type HandlerFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Response, envelope::ApiError>> + Send + 'a>>;

/// The OpenAPI 3.1 document of [`ROUTES`], as the code says it: what `openapi.json` has to be.
///
/// # Errors
///
/// Names a route whose handler is not documented.
#[cfg(feature = "openapi")]
pub fn generate_openapi_document() -> Result<serde_json::Value, String> {
    let modules = [
        accounts::documented(),
        auths::documented(),
        balances::documented(),
        banks::documented(),
        callback::documented(),
        customers::documented(),
        deliveries::documented(),
        downloads::documented(),
        feed::documented(),
        history::documented(),
        jobs::documented(),
        keys::documented(),
        link::documented(),
        links::documented(),
        products::documented(),
        records::documented(),
        reference::documented(),
        refresh::documented(),
        removals::documented(),
        sync::documented(),
        system::documented(),
        transactions::documented(),
        webhooks::documented(),
    ];
    openapi::generate_document(modules.into_iter().flatten().collect())
}

/// The API as one router, on every path.
pub fn build_router(state: ApiState) -> Router {
    Router::new()
        .fallback(serve_request)
        .with_state(Arc::new(state))
}

/// Calls a route of [`ROUTES`] in process, for an app that something else than a key has named: the
/// dashboard's session, a customer's link session. `body` is what the JSON body would be. Answers the
/// status and Okra's envelope, as over HTTP.
pub async fn call_route(
    state: &Arc<ApiState>,
    app: okra_core::model::ids::AppId,
    path: &str,
    body: serde_json::Value,
) -> (axum::http::StatusCode, serde_json::Value) {
    routes::call_route(Arc::clone(state), app, path, body).await
}

async fn serve_request(
    State(state): State<Arc<ApiState>>,
    request: axum::extract::Request,
) -> Response {
    routes::serve_request(state, request).await
}
