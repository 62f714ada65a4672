//! The widget and the dashboard by their routes: no browser, the bank over loopback HTTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "../../../api/tests/api/world.rs"]
#[expect(
    dead_code,
    reason = "the world of the API's tests has more than pages need"
)]
mod world;

#[path = "../../../api/tests/api/recipes.rs"]
#[expect(dead_code, reason = "pages have recipes of their own")]
mod recipes;

mod record;
mod sign_out;
mod signed;
mod tenancy;
mod visitor;
mod widget;
