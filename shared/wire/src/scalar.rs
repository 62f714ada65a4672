//! How Okra writes amounts and instants.

use std::fmt;

use jiff::{Timestamp, tz::Offset};
use okra_core::model::money::Money;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// An amount in major units as a JSON number without needless decimals: `29180`, `29180.5`. Okra's
/// typed clients decode whole amounts as integers, so `29180.0` would break them. Written from minor
/// units, never through a float.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MajorUnits(pub Money);

impl Serialize for MajorUnits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw = RawValue::from_string(self.0.to_number()).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// An instant as Okra writes it: ISO 8601, UTC, milliseconds, `Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsoInstant(pub Timestamp);

impl fmt::Display for IsoInstant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = Offset::UTC.to_datetime(self.0);
        write!(f, "{}", time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ"))
    }
}

impl Serialize for IsoInstant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A list that is always empty: of what Okra had and this system has nothing for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmptyList;

impl Serialize for EmptyList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(std::iter::empty::<()>())
    }
}

#[cfg(feature = "schema")]
mod schema {
    use utoipa::{
        PartialSchema, ToSchema,
        openapi::{
            KnownFormat, RefOr, SchemaFormat,
            schema::{ArrayBuilder, ObjectBuilder, Schema, Type},
        },
    };

    use super::{EmptyList, IsoInstant, MajorUnits};

    impl PartialSchema for MajorUnits {
        fn schema() -> RefOr<Schema> {
            ObjectBuilder::new()
                .schema_type(Type::Number)
                .description(Some(
                    "Major units, without needless decimals: 29180, 29180.5.",
                ))
                .into()
        }
    }

    impl ToSchema for MajorUnits {}

    impl PartialSchema for EmptyList {
        fn schema() -> RefOr<Schema> {
            ArrayBuilder::new().max_items(Some(0)).into()
        }
    }

    impl ToSchema for EmptyList {}

    impl PartialSchema for IsoInstant {
        fn schema() -> RefOr<Schema> {
            ObjectBuilder::new()
                .schema_type(Type::String)
                .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
                .pattern(Some(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$"))
                .description(Some("UTC with milliseconds: 2022-04-01T09:30:00.000Z."))
                .into()
        }
    }

    impl ToSchema for IsoInstant {}
}

#[cfg(test)]
mod tests {
    use okra_core::model::money::Currency;

    use super::*;

    #[test]
    fn amounts_are_exact_and_short() {
        let written =
            |minor| serde_json::to_string(&MajorUnits(Money::new(minor, Currency::NGN))).unwrap();
        assert_eq!(written(2_918_000), "29180");
        assert_eq!(written(2_918_050), "29180.5");
        assert_eq!(written(-5), "-0.05");
        // Beyond what a float holds exactly.
        assert_eq!(written(9_007_199_254_740_993), "90071992547409.93");
    }

    #[test]
    fn instants_have_milliseconds() {
        let at: Timestamp = "2022-04-01T09:30:00.5Z".parse().unwrap();
        assert_eq!(
            serde_json::to_string(&IsoInstant(at)).unwrap(),
            "\"2022-04-01T09:30:00.500Z\""
        );
    }
}
