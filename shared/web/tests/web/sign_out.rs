//! The end of a session of the dashboard.

use axum::http::StatusCode;

use crate::{signed::DashboardClient, visitor::build_world, world::APP_KEY};

#[tokio::test]
async fn a_copied_cookie_is_worth_nothing_after_the_sign_out() {
    let world = build_world().await;
    let client = DashboardClient::sign_in(&world, APP_KEY).await;
    let other = DashboardClient::sign_in(&world, APP_KEY).await;
    let left = client.send_form("post", "/dashboard/sign-out", &[]).await;
    assert_eq!(left.status, StatusCode::SEE_OTHER, "{}", left.text);
    // The client goes on sending the cookie, as a thief would.
    let page = client.send_form("get", "/dashboard/keys", &[]).await;
    assert!(
        page.text.contains("name=\"key\"") || page.status != StatusCode::OK,
        "{}",
        page.text
    );
    let page = other.send_form("get", "/dashboard/keys", &[]).await;
    assert_eq!(page.status, StatusCode::OK, "another session goes on");
}
