//! What pages are drawn from: the document around a page, tables, badges, charts, and how values and states read.
//!
//! Nothing here knows which page it is on. The sentence or label of a state stands in [`labels`], once.

pub(crate) mod badges;
pub(crate) mod chart;
pub(crate) mod document;
pub(crate) mod format;
pub(crate) mod labels;
pub(crate) mod parts;
