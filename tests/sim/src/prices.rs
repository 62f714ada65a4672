//! AWS list prices in US dollars, us-east-1, as they were known on [`AS_OF`]; to be checked before a claim is
//! made of them. Free tiers and discounts are left out.

/// When they were written down here.
pub const PRICES_AS_OF: &str = "2026-11-25";

/// A million on-demand write request units of DynamoDB.
pub const PER_MILLION_WRITE_UNITS: f64 = 0.625;
/// A million on-demand read request units of DynamoDB.
pub const PER_MILLION_READ_UNITS: f64 = 0.125;
/// A million requests of a standard SQS queue, with the surcharge of fair queues.
pub const PER_MILLION_SQS_REQUESTS: f64 = 0.40 + 0.10;
/// Bytes that SQS counts as one request.
pub const SQS_REQUEST_BYTES: f64 = 64.0 * 1024.0;
/// A million invocations of Lambda.
pub const PER_MILLION_LAMBDA_REQUESTS: f64 = 0.20;
/// A gigabyte-second of Lambda on arm64.
pub const PER_LAMBDA_GB_SECOND: f64 = 0.000_013_333_4;
/// A gigabyte sent to the internet.
pub const PER_EGRESS_GB: f64 = 0.09;
/// A gigabyte of CloudWatch logs, taken in.
pub const PER_LOGS_GB: f64 = 0.50;
