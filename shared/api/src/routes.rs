//! All routes of the API ([`ROUTES`], which the features declare), and the way of a request through them
//! ([`serve_request`]): route, method, key, input, idempotency, handler, envelope.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Request,
    http::{
        HeaderValue, Method, StatusCode,
        header::{
            ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW,
        },
    },
    response::{IntoResponse, Response},
};
use data_encoding::HEXLOWER;
use okra_app::Services;

use crate::{
    admin, customers, data,
    http::{
        api_key,
        envelope::{ApiError, ApiResponse},
        idempotency,
        input::Input,
        path::{find_family, normalise_path},
        request::ApiRequest,
        route::{Access, Route},
    },
    records, sync, webhooks,
};

/// The routes of each feature.
const FEATURES: &[&[Route]] = &[
    admin::health::ROUTES,
    admin::reference::ROUTES,
    admin::banks::ROUTES,
    customers::directory::ROUTES,
    customers::removal::ROUTES,
    customers::short_links::ROUTES,
    records::linking::ROUTES,
    records::details::ROUTES,
    admin::api_keys::ROUTES,
    data::products::ROUTES,
    sync::data_sync::ROUTES,
    data::auth::ROUTES,
    data::accounts::ROUTES,
    data::balances::ROUTES,
    data::transactions::ROUTES,
    data::downloads::ROUTES,
    data::callback::ROUTES,
    data::feed::ROUTES,
    data::versions::ROUTES,
    sync::refresh::ROUTES,
    sync::jobs::ROUTES,
    webhooks::endpoints::ROUTES,
    webhooks::deliveries::ROUTES,
];

/// The whole API.
pub const ROUTES: &[Route] = &concatenate_routes::<{ count_routes(FEATURES) }>(FEATURES);

const fn count_routes(features: &[&[Route]]) -> usize {
    let (mut count, mut feature) = (0, 0);
    while feature < features.len() {
        count += features[feature].len();
        feature += 1;
    }
    count
}

const fn concatenate_routes<const COUNT: usize>(features: &[&[Route]]) -> [Route; COUNT] {
    let mut routes = [features[0][0]; COUNT];
    let (mut count, mut feature) = (0, 0);
    while feature < features.len() {
        let mut route = 0;
        while route < features[feature].len() {
            routes[count] = features[feature][route];
            count += 1;
            route += 1;
        }
        feature += 1;
    }
    routes
}

/// Families that Okra had and this system does not: they answer 501 rather than 404.
const UNSUPPORTED_FAMILIES: [&str; 12] = [
    "identity",
    "identities",
    "income",
    "kyc",
    "pay",
    "payment",
    "payments",
    "authorization",
    "wallet",
    "reports",
    "liabilities",
    "investments",
];

pub(crate) async fn serve_request(services: Arc<Services>, request: Request) -> Response {
    // Without random bytes the id is zeros: the request is served all the same, and the logs say less.
    let request_id = HEXLOWER.encode(&services.random_bytes::<12>().unwrap_or_default());
    let path = normalise_path(request.uri().path());
    let is_head = request.method() == Method::HEAD;
    let result = route_request(services, &path, request).await;
    let mut response =
        result.unwrap_or_else(|error| error.into_response(&request_id, find_family(&path)));
    if is_head {
        *response.body_mut() = Body::empty();
    }
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

async fn route_request(services: Arc<Services>, path: &str, request: Request) -> ApiResponse {
    let Some(route) = ROUTES.iter().find(|route| route.path == path) else {
        return Err(missing_route_error(path));
    };
    if request.method() == Method::OPTIONS {
        return Ok(respond_to_options(route));
    }
    if !route.methods.allows_method(request.method()) {
        return Err(ApiError::wrong_method(route.methods.as_str()));
    }
    let app = match route.access {
        Access::Open => None,
        Access::Either => api_key::find_app_by_key(&services, request.headers()).await?,
        Access::Key => Some(api_key::authenticate_app(&services, request.headers()).await?),
    };
    let headers = request.headers().clone();
    let (input, content) = Input::read_request(request).await?;
    let idempotent_call = match &app {
        Some(app) if route.is_change() => {
            idempotency::parse_idempotency_key(&headers, app.id, path, &content)?
        }
        _ => None,
    };
    let call = ApiRequest::new(services, input, app);
    let run = (route.handler)(&call);
    let mut result = match idempotent_call {
        Some(idempotent_call) => idempotency::run_once(&call.services, idempotent_call, run).await,
        None => run.await,
    };
    if let (Access::Open | Access::Either, Ok(response)) = (route.access, &mut result) {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    result
}

/// What may be done with a route. Pages of any origin may call an open one; a secret key has no place in a page, so
/// browsers are given no origin for the others.
fn respond_to_options(route: &Route) -> Response {
    let methods = HeaderValue::from_static(route.methods.as_str());
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(ALLOW, methods.clone());
    if route.access != Access::Key {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        let fields = HeaderValue::from_static("content-type");
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, fields);
    }
    response
}

fn missing_route_error(path: &str) -> ApiError {
    let mut segments = path.split('/');
    let first = segments.next().unwrap_or_default();
    let family = match first {
        "products" => segments.next().unwrap_or_default(),
        family => family,
    };
    if UNSUPPORTED_FAMILIES.contains(&family) {
        let message = format!("{family} is not part of this system, which only syncs bank data");
        return ApiError::new(StatusCode::NOT_IMPLEMENTED, "NOT_IMPLEMENTED", message);
    }
    let message = "There is no such endpoint";
    ApiError::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_stands_once() {
        let mut paths: Vec<&str> = ROUTES.iter().map(|route| route.path).collect();
        let count = paths.len();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), count);
    }
}
