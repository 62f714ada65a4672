//! [`WebState`]: what every page stands on.

use std::sync::Arc;

use okra_api::ApiState;

/// What every page stands on.
pub(crate) struct WebState {
    pub(crate) api: Arc<ApiState>,
}

impl WebState {
    pub(crate) fn now(&self) -> jiff::Timestamp {
        self.api.clock.now()
    }
}
