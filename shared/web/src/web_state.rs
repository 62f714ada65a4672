//! [`WebState`]: what every page stands on.

use std::sync::Arc;

use okra_app::Services;

/// What every page stands on.
pub(crate) struct WebState {
    pub(crate) services: Arc<Services>,
}

impl WebState {
    /// The time.
    pub(crate) fn now(&self) -> jiff::Timestamp {
        self.services.clock.now()
    }
}
