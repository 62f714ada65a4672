//! The forms on the page of a record: refresh it, change its interval, end a data sync.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
};
use okra_core::model::ids::RecordId;
use okra_store::Consistency;
use serde_json::json;

use super::{
    super::{api_call::call_api, session::SubmittedForm},
    load::load_own_record,
};
use crate::{
    components::labels::refresh_outcome_label, page_error::PageError, web_state::WebState,
};

/// Refreshes one product and waits for what comes of it, which is the answer, as a sentence: the page's
/// script asks so. Without a product, enqueues a refresh of everything.
pub(crate) async fn refresh_record(
    State(web): State<Arc<WebState>>,
    Path(id): Path<RecordId>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let path = match posted.fields.get("product") {
        "balance" => Some("balance/refresh"),
        "transactions" => Some("transactions/refresh"),
        _ => None,
    };
    if let Some(path) = path {
        let asked = json!({ "record_id": id, "wait": true });
        let answer = call_api(&web, &posted.session, path, asked).await?;
        return Ok(refresh_outcome_label(answer["outcome"].as_str()).into_response());
    }
    call_api(
        &web,
        &posted.session,
        "customers/retry",
        json!({ "record_id": id }),
    )
    .await?;
    Ok(Redirect::to(&format!("/dashboard/records/{id}")).into_response())
}

/// Ends one data sync of the record.
pub(crate) async fn end_subscription(
    State(web): State<Arc<WebState>>,
    Path(id): Path<RecordId>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let head = load_own_record(&web, &posted.session, id, Consistency::Eventual).await?;
    let body = json!({
        "customer": head.customer,
        "record_id": id,
        "id": posted.fields.get("id"),
    });
    call_api(&web, &posted.session, "data-sync/cancel", body).await?;
    Ok(Redirect::to(&format!("/dashboard/records/{id}#sync")).into_response())
}

/// Puts products of the record on another interval.
pub(crate) async fn change_interval(
    State(web): State<Arc<WebState>>,
    Path(id): Path<RecordId>,
    posted: SubmittedForm,
) -> Result<Response, PageError> {
    let head = load_own_record(&web, &posted.session, id, Consistency::Eventual).await?;
    let fields = &posted.fields;
    let body = json!({
        "customer": head.customer,
        "record_id": id,
        "bank": head.bank,
        "interval": fields.get("interval"),
        "products": fields.get("products"),
    });
    call_api(&web, &posted.session, "data-sync", body).await?;
    Ok(Redirect::to(&format!("/dashboard/records/{id}#sync")).into_response())
}
