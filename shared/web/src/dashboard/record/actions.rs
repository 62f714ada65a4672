//! The forms on the page of a record: refresh it, change its interval, end a data sync.

use axum::{
    extract::Path,
    response::{IntoResponse, Redirect, Response},
};
use okra_app::{
    data_sync::{DataSyncTarget, SubscribeRequest, SubscriptionTerms},
    refresh::RefreshRequest,
};
use okra_core::model::{ids::RecordId, snapshot::Product};
use okra_store::Consistency;

use super::super::session::SubmittedForm;
use crate::{
    components::labels::{find_product, refresh_outcome_label},
    page_error::PageError,
};

/// Refreshes one product and waits for the outcome, which is the response, as a text: the page's script submits this.
/// Without a product, starts a refresh of all.
pub(crate) async fn refresh_record(
    Path(id): Path<RecordId>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let scope = &posted.session.scope;
    let request = RefreshRequest {
        record: id,
        product: find_product(posted.fields.get("product")),
        user_address: None,
    };
    let started = scope.start_refresh(&request).await?;
    if request.product.is_none() {
        return Ok(Redirect::to(&format!("/dashboard/records/{id}")).into_response());
    }
    let finished = scope.wait_for_refresh(&started).await?;
    let outcome = finished.map(|it| it.result.outcome.unwrap_or_default());
    Ok(refresh_outcome_label(outcome.as_deref()).into_response())
}

/// Ends one data sync of the record.
pub(crate) async fn end_subscription(
    Path(id): Path<RecordId>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let scope = &posted.session.scope;
    let head = scope.load_own_record(id, Consistency::Eventual).await?;
    let subscription = posted.fields.get("id").parse();
    let subscription = subscription.map_err(|_| PageError::NotFound("subscription"))?;
    let target = DataSyncTarget {
        customer: head.customer,
        bank: None,
        record: Some(id),
    };
    scope.cancel_subscription(&target, subscription).await?;
    Ok(Redirect::to(&format!("/dashboard/records/{id}#sync")).into_response())
}

/// Puts products of the record on another interval.
pub(crate) async fn change_interval(
    Path(id): Path<RecordId>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let (scope, fields) = (&posted.session.scope, &posted.fields);
    let head = scope.load_own_record(id, Consistency::Eventual).await?;
    let interval = fields.get("interval").parse();
    let products = fields.get("products").split(',').map(find_product);
    let products: Option<Vec<Product>> = products.collect();
    let request = SubscribeRequest {
        target: DataSyncTarget {
            customer: head.customer,
            bank: None,
            record: Some(id),
        },
        terms: SubscriptionTerms {
            products: products.ok_or_else(|| PageError::invalid_form("Choose products."))?,
            interval: interval.map_err(|_| PageError::invalid_form("Choose an interval."))?,
            webhook_url: None,
        },
    };
    scope.subscribe_to_data_sync(&request).await?;
    Ok(Redirect::to(&format!("/dashboard/records/{id}#sync")).into_response())
}
