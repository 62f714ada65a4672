//! What keeps data fresh: subscriptions to [`data_sync`], the [`refresh`] on demand and its [`jobs`].

pub(crate) mod data_sync;
pub(crate) mod jobs;
pub(crate) mod refresh;
