//! The declaration of routes: [`Route`], and the macro [`routes!`] by which each feature declares its own, with method,
//! access, origin, paths, handler, fields, response type and summary in one place.
//!
//! A table of our own, because what Okra's clients need is more than `utoipa-axum` or `aide` describe: one handler on
//! many paths under many prefixes, `GET` or `POST` at will, and lenient inputs (forms, empty bodies, several names for one
//! field) that no extractor's type says. The types of responses are documented by `utoipa`.

use std::pin::Pin;

use axum::{http::Method, response::Response};

use crate::http::{envelope::ApiError, request::ApiRequest};

/// The response of a handler, to come.
pub(crate) type HandlerFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Response, ApiError>> + Send + 'a>>;

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Open,
    /// Anybody; an app with its secret key also sees what is its own.
    Either,
    /// An app, with its secret key.
    Key,
}

/// The methods of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Methods {
    /// GET and HEAD.
    Get,
    /// POST.
    Post,
    /// A POST that changes something; it may carry an `Idempotency-Key`.
    Change,
    /// GET, HEAD and POST.
    Both,
}

/// Whether a route is Okra's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Okra's: its clients call it.
    Okra,
    /// Ours: an extension.
    Ours,
}

/// One route. Its path stands under every prefix of Okra's.
#[derive(Clone, Copy)]
pub struct Route {
    /// The path after the prefix, without a leading slash.
    pub path: &'static str,
    pub(crate) methods: Methods,
    /// Who may call it.
    pub access: Access,
    /// Whether it is Okra's.
    pub origin: Origin,
    pub(crate) handler: fn(&ApiRequest) -> HandlerFuture<'_>,
    /// The handler's path, by which routes with the same one are recognised.
    #[cfg(feature = "openapi")]
    pub(crate) handler_name: &'static str,
    /// Its documentation.
    #[cfg(feature = "openapi")]
    pub(crate) document: fn() -> crate::http::openapi::documentation::RouteDocumentation,
}

impl Methods {
    pub(crate) fn allows_method(self, method: &Method) -> bool {
        let is_get = method == Method::GET || method == Method::HEAD;
        let is_post = method == Method::POST;
        match self {
            Self::Get => is_get,
            Self::Post | Self::Change => is_post,
            Self::Both => is_get || is_post,
        }
    }

    /// As in the header `allow`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post | Self::Change => "POST",
            Self::Both => "GET, POST",
        }
    }
}

impl Route {
    /// A method that it accepts.
    pub const fn main_method(&self) -> Method {
        match self.methods {
            Methods::Get => Method::GET,
            Methods::Post | Methods::Change | Methods::Both => Method::POST,
        }
    }

    /// True where a call of it changes something.
    pub fn is_change(&self) -> bool {
        self.methods == Methods::Change
    }

    /// All methods that it accepts, except `HEAD`.
    pub fn all_methods(&self) -> Vec<&'static str> {
        self.methods.as_str().split(", ").collect()
    }
}

/// Declares the routes of a feature as its `ROUTES`.
///
/// ```text
/// routes! {
///     Post Key [Okra "balance/getByCustomer"] => get_balances_by_customer(CUSTOMER, DATES, PAGE) -> BalancesResponse:
///         "Lists the balances of a customer.";
/// }
/// ```
///
/// That is: the methods, who may call it, its paths with whose they are, the handler, the fields of its request, the
/// type of its response's `data`, and a sentence that says what it does and returns. Fields are those of
/// `crate::http::openapi::fields`; the type derives `utoipa::ToSchema` behind the feature `openapi`, without which nothing
/// of the documentation is compiled.
macro_rules! routes {
    ($(
        $methods:ident $access:ident [$($origin:ident $path:literal),+ $(,)?]
            => $handler:ident $fields:tt -> $data:ty: $summary:literal;
    )+) => {
        pub(crate) const ROUTES: &[crate::http::route::Route] = &[$($(crate::http::route::Route {
            path: $path,
            methods: crate::http::route::Methods::$methods,
            access: crate::http::route::Access::$access,
            origin: crate::http::route::Origin::$origin,
            handler: |request| Box::pin($handler(request)),
            #[cfg(feature = "openapi")]
            handler_name: concat!(module_path!(), "::", stringify!($handler)),
            #[cfg(feature = "openapi")]
            document: || document_route!($fields, $data, $summary),
        }),+),+];
    };
}

#[cfg(feature = "openapi")]
macro_rules! document_route {
    (($($fields:expr),* $(,)?), $data:ty, $summary:expr) => {{
        #[allow(unused_imports, reason = "not every route has fields")]
        use crate::http::openapi::fields::*;
        #[allow(unused_mut, reason = "not every route has fields")]
        let mut fields = Vec::new();
        $(fields.extend($fields);)*
        crate::http::openapi::documentation::RouteDocumentation::new::<$data>($summary, fields)
    }};
}
