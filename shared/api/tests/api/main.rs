//! The API as its callers see it: over the embedded DynamoDB and SQS, with the sandbox bank behind it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod access;
mod asking;
mod clients;
mod costs;
mod decoders;
mod every_route;
mod feeding;
mod gateway;
mod keeping;
mod linking;
mod reading;
mod recipes;
mod removing;
mod syncing;
mod telling;
mod world;
