//! Every kind of answer against the official description of it.

use std::fs;

use jsonschema::{Draft, Validator};
use okra_core::{
    bank::Standard,
    model::{BookingStatus, Direction},
};
use okra_sandbox::{
    Bank, Faults, Malformed, NewLogin, NewTransaction, Options, Target,
    pkdd::{ReplayBank, Rows},
};
use serde_json::{Value, json};

use crate::support::{Probe, ask, reference, rows};

/// The schemas of one version of the standard.
struct Spec {
    components: Value,
}

impl Spec {
    fn load(standard: Standard) -> Option<Self> {
        let file = match standard {
            Standard::Obie31 => "specs/obie-account-info-3.1.11.yaml",
            Standard::Obie40 => "specs/obie-account-info-4.0.0.yaml",
        };
        let text = fs::read_to_string(reference(file)?).unwrap();
        let mut whole: Value = serde_yaml_ng::from_str(&text).unwrap();
        let components = whole["components"].take();
        Some(Self { components })
    }

    fn validator(&self, schema: &str) -> Validator {
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

async fn check(standard: Standard, bank: &Bank, token: &str, account: &str) {
    let Some(spec) = Spec::load(standard) else {
        return;
    };
    let base = format!("{}/accounts", Bank::base_path(standard));
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
        let answer = ask(&bank.router(), &format!("{base}{below}"), token).await;
        let (json, validator) = (answer.json(), spec.validator(schema));
        let errors: Vec<_> = validator
            .iter_errors(&json)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{base}{below}: {errors:#?}");
    }
}

#[tokio::test]
async fn generated_answers_are_true_to_the_standard() {
    let login = NewLogin {
        accounts: 2,
        pace_s: Some(60),
        ..rows(150)
    };
    let probe = Probe::new(Options::default(), login);
    probe.hand.forward(600);
    let place = probe.place();
    let added = NewTransaction {
        direction: Direction::Debit,
        amount: "1000000000".to_owned(),
        text: String::new(),
        status: BookingStatus::Pending,
        dated: None,
        id: None,
    };
    probe.bank.add(place.clone(), added).unwrap();
    for standard in [Standard::Obie31, Standard::Obie40] {
        check(standard, &probe.bank, &probe.token, &place.account).await;
    }
}

#[tokio::test]
async fn replayed_answers_are_true_to_the_standard() {
    let rows = Rows::new(crate::pkdd::SMALL.as_bytes()).unwrap();
    let replay = ReplayBank::load(
        rows.map(Result::unwrap),
        Standard::Obie31,
        Options::default(),
    );
    replay.advance_to(jiff::civil::date(1993, 1, 5));
    let login = replay.login_of(7).unwrap();
    let token = replay.bank().link(login).unwrap();
    for standard in [Standard::Obie31, Standard::Obie40] {
        check(standard, replay.bank(), token.as_str(), "7").await;
    }
}

#[tokio::test]
async fn a_malformed_answer_is_not() {
    let probe = Probe::new(Options::default(), rows(20));
    for malformed in [Malformed::CommaAmount, Malformed::WrongTypes] {
        let faults = Faults {
            malformed: Some(malformed),
            ..Faults::default()
        };
        probe.bank.set_faults(Target::Bank, faults).unwrap();
        let json = probe.first("/transactions").await.json();
        if let Some(spec) = Spec::load(Standard::Obie31) {
            assert!(!spec.validator("OBReadTransaction6").is_valid(&json));
        }
    }
}
