//! The widget and the dashboard by their routes: no browser, the bank over loopback HTTP.

#[path = "../../../api/tests/api/world.rs"]
#[expect(
    dead_code,
    reason = "the world of the API's tests has more than pages need"
)]
mod world;

mod visitor;
mod widget;
