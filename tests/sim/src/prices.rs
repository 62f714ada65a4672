//! AWS list prices in US dollars, us-east-1, as they were known on [`AS_OF`]; to be checked before a claim is
//! made of them. Free tiers and discounts are left out.

/// When they were written down here.
pub const AS_OF: &str = "2026-11-25";

/// A million on-demand write request units of DynamoDB.
pub const WRITE_UNITS_M: f64 = 0.625;
/// A million on-demand read request units of DynamoDB.
pub const READ_UNITS_M: f64 = 0.125;
/// A million requests of a standard SQS queue, with the surcharge of fair queues.
pub const SQS_REQUESTS_M: f64 = 0.40 + 0.10;
/// Bytes that SQS counts as one request.
pub const SQS_REQUEST_BYTES: f64 = 64.0 * 1024.0;
/// A million invocations of Lambda.
pub const LAMBDA_REQUESTS_M: f64 = 0.20;
/// A gigabyte-second of Lambda on arm64.
pub const LAMBDA_GB_S: f64 = 0.000_013_333_4;
/// A gigabyte sent to the internet.
pub const EGRESS_GB: f64 = 0.09;
/// A gigabyte of CloudWatch logs, taken in.
pub const LOGS_GB: f64 = 0.50;
