//! Records: one consent of a customer at one bank. Their [`details`] and [`state`], [`linking`], and what every read of
//! their data needs: which ones are meant ([`scope`]), and the [`names`] around them.

pub(crate) mod details;
pub(crate) mod linking;
pub(crate) mod names;
pub(crate) mod scope;
pub(crate) mod state;
