//! The persons of an app: the [`directory`] of them, [`short_links`] that open the widget for them, and their [`removal`].

pub(crate) mod directory;
pub(crate) mod removal;
pub(crate) mod short_links;
