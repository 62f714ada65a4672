//! Every kind of response against the official specification.

use std::fs;

use jsonschema::{Draft, Validator};
use okra_core::model::{
    bank::BankStandard,
    snapshot::{BookingStatus, Direction},
};
use okra_sandbox::{
    FaultTarget, Faults, MalformedFault, NewLogin, NewTransaction, SandboxBank, SandboxOptions,
    pkdd::{PkddReader, ReplayBank},
};
use serde_json::{Value, json};

use crate::support::{LoginClient, login_with_rows, reference_path, send_get};

/// The schemas of one version of the standard.
struct ObieComponents {
    components: Value,
}

impl ObieComponents {
    fn load_components(standard: BankStandard) -> Option<Self> {
        let file = match standard {
            BankStandard::Obie31 => "specs/obie-account-info-3.1.11.yaml",
            BankStandard::Obie40 => "specs/obie-account-info-4.0.0.yaml",
        };
        let text = fs::read_to_string(reference_path(file)?).unwrap();
        let mut whole: Value = serde_yaml_ng::from_str(&text).unwrap();
        let components = whole["components"].take();
        Some(Self { components })
    }

    fn schema_validator(&self, schema: &str) -> Validator {
        let root = json!({
            "$ref": format!("#/components/schemas/{schema}"),
            "components": self.components,
        });
        jsonschema::options()
            .with_draft(Draft::Draft7)
            .should_validate_formats(true)
            .build(&root)
            .unwrap()
    }
}

async fn check_responses(standard: BankStandard, bank: &SandboxBank, token: &str, account: &str) {
    let Some(spec) = ObieComponents::load_components(standard) else {
        return;
    };
    let base = format!("{}/accounts", SandboxBank::base_path(standard));
    for (below, token, schema) in [
        (String::new(), Some(token), "OBReadAccount6"),
        (format!("/{account}"), Some(token), "OBReadAccount6"),
        (
            format!("/{account}/balances"),
            Some(token),
            "OBReadBalance1",
        ),
        (
            format!("/{account}/transactions"),
            Some(token),
            "OBReadTransaction6",
        ),
        ("/nobody".to_owned(), Some(token), "OBErrorResponse1"),
        (String::new(), None, "OBErrorResponse1"),
        (
            format!("/{account}/transactions?fromBookingDateTime=x"),
            Some(token),
            "OBErrorResponse1",
        ),
    ] {
        let response = send_get(&bank.api_router(), &format!("{base}{below}"), token).await;
        let (json, validator) = (response.parse_json(), spec.schema_validator(schema));
        let errors: Vec<_> = validator
            .iter_errors(&json)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{base}{below}: {errors:#?}");
    }
}

#[tokio::test]
async fn generated_responses_match_the_standard() {
    let login = NewLogin {
        accounts: 2,
        row_interval_s: Some(60),
        ..login_with_rows(150)
    };
    let client = LoginClient::with_options(SandboxOptions::default(), login);
    client.manual_clock.advance_seconds(600);
    let address = client.account_address();
    let added = NewTransaction {
        direction: Direction::Debit,
        amount: "1000000000".to_owned(),
        text: String::new(),
        status: BookingStatus::Pending,
        booking_time: None,
        id: None,
    };
    client.bank.add_row(address.clone(), added).unwrap();
    for standard in [BankStandard::Obie31, BankStandard::Obie40] {
        check_responses(standard, &client.bank, &client.token, &address.account_id).await;
    }
}

#[tokio::test]
async fn replayed_responses_match_the_standard() {
    let rows = PkddReader::new(crate::pkdd::SMALL_FILE.as_bytes()).unwrap();
    let replay = ReplayBank::load_rows(
        rows.map(Result::unwrap),
        BankStandard::Obie31,
        SandboxOptions::default(),
    )
    .unwrap();
    replay.advance_to(jiff::civil::date(1993, 1, 5));
    let login = replay.login_id(7).unwrap();
    let token = replay.sandbox_bank().link_login(login).unwrap();
    for standard in [BankStandard::Obie31, BankStandard::Obie40] {
        check_responses(standard, replay.sandbox_bank(), token.as_str(), "7").await;
    }
}

#[tokio::test]
async fn a_malformed_response_does_not_match_the_standard() {
    let client = LoginClient::with_options(SandboxOptions::default(), login_with_rows(20));
    for malformed in [MalformedFault::CommaAmount, MalformedFault::WrongTypes] {
        let faults = Faults {
            malformed: Some(malformed),
            ..Faults::default()
        };
        client.bank.set_faults(FaultTarget::Bank, faults).unwrap();
        let json = client.get_first_account("/transactions").await.parse_json();
        if let Some(spec) = ObieComponents::load_components(BankStandard::Obie31) {
            assert!(!spec.schema_validator("OBReadTransaction6").is_valid(&json));
        }
    }
}
