//! The official specifications, where they lie beside the repository: every code that they have for a field that we
//! read is known to us, and every field that we read is theirs.

use std::path::Path;

use okra_connectors::obie::{parse_accounts, parse_balances, parse_transactions};
use serde_json::{Value, json};

struct ObieSpec {
    name: &'static str,
    document: Value,
}

impl ObieSpec {
    fn load_all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/specs");
        let names = ["obie-account-info-3.1.11", "obie-account-info-4.0.0"];
        let read = |name| {
            let path = folder.join(format!("{name}.yaml"));
            let Ok(text) = std::fs::read_to_string(&path) else {
                eprintln!("skipped: there is no {}", path.display());
                return None;
            };
            let document = serde_yaml_ng::from_str(&text).unwrap();
            Some(Self { name, document })
        };
        names.into_iter().filter_map(read).collect()
    }

    fn resolve_schema<'a>(&'a self, mut schema: &'a Value) -> &'a Value {
        while let Some(reference) = schema["$ref"].as_str() {
            schema = self
                .document
                .pointer(reference.trim_start_matches('#'))
                .unwrap();
        }
        schema
    }

    /// The schema of a field of a response; `[]` is the item of a list.
    fn field_schema(&self, response: &str, path: &[&str]) -> &Value {
        let schema = &self.document["components"]["schemas"][response];
        path.iter()
            .fold(self.resolve_schema(schema), |schema, name| {
                let field = match *name {
                    "[]" => &schema["items"],
                    name => &schema["properties"][name],
                };
                assert!(!field.is_null(), "{}: {response} {path:?}", self.name);
                self.resolve_schema(field)
            })
    }

    fn field_codes(&self, response: &str, path: &[&str]) -> Vec<String> {
        let codes = self.field_schema(response, path)["enum"]
            .as_array()
            .unwrap();
        codes
            .iter()
            .map(|it| it.as_str().unwrap().to_owned())
            .collect()
    }
}

fn single_item_body(list: &str, item: &Value) -> Vec<u8> {
    serde_json::to_vec(&json!({ "Data": { list: [item] } })).unwrap()
}

#[test]
fn every_status_of_a_transaction_is_known() {
    for spec in ObieSpec::load_all() {
        let statuses = spec.field_codes(
            "OBReadTransaction6",
            &["Data", "Transaction", "[]", "Status"],
        );
        assert!(statuses.len() >= 3);
        for status in statuses {
            let row = json!({
                "AccountId": "1", "CreditDebitIndicator": "Credit", "Status": status,
                "BookingDateTime": "2017-04-05T10:43:07+00:00",
                "Amount": { "Amount": "10.00", "Currency": "GBP" },
            });
            let read = parse_transactions(&single_item_body("Transaction", &row));
            assert!(read.is_ok(), "{} {status}: {read:?}", spec.name);
        }
    }
}

#[test]
fn every_type_of_balance_but_the_informative_is_known() {
    for spec in ObieSpec::load_all() {
        let types = spec.field_codes("OBReadBalance1", &["Data", "Balance", "[]", "Type"]);
        assert!(types.len() >= 10);
        for kind in types {
            let row = json!({
                "AccountId": "1", "CreditDebitIndicator": "Credit", "Type": kind,
                "DateTime": "2017-04-05T10:43:07+00:00",
                "Amount": { "Amount": "10.00", "Currency": "GBP" },
            });
            let read = parse_balances(&single_item_body("Balance", &row));
            let informative = ["INFO", "Information"].contains(&kind.as_str());
            assert_eq!(read.is_err(), informative, "{} {kind}: {read:?}", spec.name);
        }
    }
}

#[test]
fn the_kinds_of_account_are_known() {
    for spec in ObieSpec::load_all() {
        let old = spec.name.contains("3.1");
        let field = if old {
            "AccountSubType"
        } else {
            "AccountTypeCode"
        };
        for code in spec.field_codes("OBReadAccount6", &["Data", "Account", "[]", field]) {
            let row = json!({ "AccountId": "1", "Currency": "GBP", field: code });
            let account = parse_accounts(&single_item_body("Account", &row))
                .unwrap()
                .items
                .remove(0);
            assert!(!old || account.kind != "OTHER", "{} {code}", spec.name);
        }
    }
}

#[test]
fn every_field_that_is_read_is_in_the_standard() {
    for spec in ObieSpec::load_all() {
        let has = |response: &str, list: &str, fields: &[&[&str]]| {
            for field in fields {
                spec.field_schema(response, &[&["Data", list, "[]"], *field].concat());
            }
            spec.field_schema(response, &["Links", "Next"]);
        };
        has(
            "OBReadTransaction6",
            "Transaction",
            &[
                &["TransactionId"],
                &["TransactionReference"],
                &["Amount", "Amount"],
                &["Amount", "Currency"],
                &["CreditDebitIndicator"],
                &["BookingDateTime"],
                &["ValueDateTime"],
                &["TransactionInformation"],
                &["BankTransactionCode", "Code"],
                &["BankTransactionCode", "SubCode"],
                &["ProprietaryBankTransactionCode", "Code"],
                &["Balance", "Amount", "Amount"],
                &["Balance", "CreditDebitIndicator"],
                &["MerchantDetails", "MerchantName"],
                &["CreditorAccount", "Name"],
                &["DebtorAccount", "Name"],
            ],
        );
        has(
            "OBReadBalance1",
            "Balance",
            &[
                &["Amount", "Amount"],
                &["Amount", "Currency"],
                &["Amount", "SubType"],
                &["CreditDebitIndicator"],
                &["DateTime"],
                &["CreditLine", "[]", "Included"],
            ],
        );
        has(
            "OBReadAccount6",
            "Account",
            &[
                &["AccountId"],
                &["Status"],
                &["Currency"],
                &["Nickname"],
                &["Description"],
                &["Account", "[]", "Identification"],
                &["Account", "[]", "Name"],
            ],
        );
    }
}
