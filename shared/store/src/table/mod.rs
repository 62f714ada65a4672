//! The table as DynamoDB has it: items, expressions, calls, what they cost and how they fail.

pub(crate) mod call;
pub(crate) mod capacity;
pub(crate) mod creation;
pub(crate) mod error;
pub(crate) mod expression;
pub(crate) mod item;
