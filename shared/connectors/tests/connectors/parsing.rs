//! Responses of both versions into normal form.

use jiff::Timestamp;
use okra_connectors::obie::{
    MalformedResponse, ObiePage, parse_accounts, parse_balances, parse_transactions,
};
use okra_core::model::{
    fault::{BankFault, FaultClass},
    money::Money,
    snapshot::{BookingStatus, Direction, TransactionFacts},
};
use serde_json::{Value, json};

fn parse_money(text: &str, currency: &str) -> Money {
    Money::parse(text, currency.parse().unwrap()).unwrap()
}

fn parse_naira(text: &str) -> Money {
    parse_money(text, "NGN")
}

fn parse_time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn to_json_bytes(response: &Value) -> Vec<u8> {
    serde_json::to_vec(response).unwrap()
}

/// A row with what the standard requires.
fn minimal_row() -> Value {
    json!({
        "AccountId": "22289",
        "CreditDebitIndicator": "Debit",
        "Status": "Booked",
        "BookingDateTime": "2026-03-15T10:43:07+00:00",
        "Amount": { "Amount": "10.00", "Currency": "NGN" },
    })
}

/// `row` with `changes` merged over its fields; null takes a field away.
fn merge_fields(mut row: Value, changes: &Value) -> Value {
    let fields = row.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            fields.remove(name);
        } else {
            fields.insert(name.clone(), value.clone());
        }
    }
    row
}

fn parse_rows(rows: &[Value]) -> Result<ObiePage<TransactionFacts>, MalformedResponse> {
    parse_transactions(&to_json_bytes(&json!({ "Data": { "Transaction": rows } })))
}

fn parse_changed_row(changes: &Value) -> TransactionFacts {
    let mut items = parse_rows(&[merge_fields(minimal_row(), changes)])
        .unwrap()
        .items;
    assert_eq!(items.len(), 1, "{changes}");
    items.remove(0)
}

#[test]
fn a_row_with_only_what_it_must_have() {
    assert_eq!(
        parse_changed_row(&json!({})),
        TransactionFacts {
            bank_id: None,
            status: BookingStatus::Booked,
            direction: Direction::Debit,
            amount: parse_naira("10"),
            booked_at: parse_time("2026-03-15T10:43:07Z"),
            value_at: None,
            description: String::new(),
            reference: None,
            code: None,
            balance_after: None,
        }
    );
}

#[test]
fn a_row_with_everything() {
    let full = json!({
        "TransactionId": " tx-1 ",
        "TransactionReference": "Ref  7",
        "CreditDebitIndicator": "Credit",
        "Status": "PDNG",
        "TransactionMutability": "Mutable",
        "BookingDateTime": "2026-03-15T10:43:07.123456+01:00",
        "ValueDateTime": "2026-03-17T00:00:00Z",
        "TransactionInformation": "NIP/\u{a0}ADA\tTEST \"\u{20a6}\"",
        "AddressLine": "12 Allen Avenue",
        "Amount": { "Amount": "0.5", "Currency": "NGN" },
        "ChargeAmount": { "Amount": "nothing we read", "Currency": "?" },
        "CurrencyExchange": { "SourceCurrency": "USD", "ExchangeRate": 1500.25 },
        "BankTransactionCode": { "Code": "ReceivedCreditTransfer", "SubCode": "DomesticCreditTransfer" },
        "ProprietaryBankTransactionCode": { "Code": "Transfer", "Issuer": "Bank" },
        "Balance": {
            "Amount": { "Amount": "3.07", "Currency": "NGN" },
            "CreditDebitIndicator": "Debit",
            "Type": "ITBD",
        },
        "MerchantDetails": { "MerchantName": "Shoprite", "MerchantCategoryCode": "5411" },
        "SupplementaryData": { "Anything": [1, { "At": null }] },
    });
    assert_eq!(
        parse_changed_row(&full),
        TransactionFacts {
            bank_id: Some("tx-1".into()),
            status: BookingStatus::Pending,
            direction: Direction::Credit,
            amount: parse_naira("0.50"),
            booked_at: parse_time("2026-03-15T09:43:07.123Z"),
            value_at: Some(parse_time("2026-03-17T00:00:00Z")),
            description: "NIP/ ADA TEST \"\u{20a6}\"".into(),
            reference: Some("Ref 7".into()),
            code: Some("Transfer".into()),
            balance_after: Some(parse_naira("-3.07")),
        }
    );
}

#[test]
fn excluded_rows_are_left_out_whatever_they_hold() {
    let with = |status: &str| merge_fields(minimal_row(), &json!({ "Status": status }));
    let counted = |status| parse_rows(&[with(status)]).unwrap().items;
    for (status, expected) in [
        ("Booked", BookingStatus::Booked),
        ("BOOK", BookingStatus::Booked),
        ("Pending", BookingStatus::Pending),
        ("PDNG", BookingStatus::Pending),
    ] {
        assert_eq!(counted(status)[0].status, expected, "{status}");
    }
    for status in ["Rejected", "RJCT", "FUTR", "INFO"] {
        assert_eq!(counted(status), [], "{status}");
        let broken = json!({ "Status": status, "Amount": { "Amount": "?", "Currency": "?" } });
        let mixed = parse_rows(&[merge_fields(minimal_row(), &broken), minimal_row()]).unwrap();
        assert_eq!(mixed.items.len(), 1, "{status}");
    }
}

#[test]
fn a_blank_id_or_reference_is_none() {
    let blank = parse_changed_row(&json!({ "TransactionId": " ", "TransactionReference": "\t" }));
    assert_eq!((blank.bank_id, blank.reference), (None, None));
}

#[test]
fn a_row_without_a_text_names_the_merchant_or_the_other_party() {
    let check = |changes: Value, expected: &str| {
        let description = parse_changed_row(&changes).description;
        assert_eq!(description, expected, "{changes}");
    };
    let merchant = json!({ "MerchantName": "Shoprite" });
    let (ada, bola) = (json!({ "Name": "Ada" }), json!({ "Name": "Bola" }));
    check(
        json!({ "TransactionInformation": "POS", "MerchantDetails": merchant }),
        "POS",
    );
    check(
        json!({ "TransactionInformation": " ", "MerchantDetails": merchant, "CreditorAccount": ada }),
        "Shoprite",
    );
    let both = json!({ "CreditorAccount": ada, "DebtorAccount": bola });
    check(both.clone(), "Ada");
    check(
        merge_fields(both, &json!({ "CreditDebitIndicator": "Credit" })),
        "Bola",
    );
    check(json!({ "DebtorAccount": bola, "MerchantDetails": {} }), "");
}

#[test]
fn the_banks_own_code_comes_before_the_iso_one() {
    let check = |changes: Value, expected: Option<&str>| {
        assert_eq!(
            parse_changed_row(&changes).code.as_deref(),
            expected,
            "{changes}"
        );
    };
    let iso = json!({ "Code": "PMNT", "SubCode": "ICDT" });
    let own = json!({ "Code": "TRF" });
    check(json!({ "BankTransactionCode": iso }), Some("PMNT/ICDT"));
    check(
        json!({ "BankTransactionCode": iso, "ProprietaryBankTransactionCode": own }),
        Some("TRF"),
    );
    check(
        json!({ "BankTransactionCode": iso, "ProprietaryBankTransactionCode": { "Code": "" } }),
        Some("PMNT/ICDT"),
    );
    check(
        json!({ "BankTransactionCode": { "Code": "PMNT", "SubCode": " " } }),
        Some("PMNT"),
    );
    check(
        json!({ "BankTransactionCode": { "SubCode": "ICDT" } }),
        None,
    );
}

#[test]
fn amounts_have_the_currency_of_their_row() {
    let amount = |amount: &str, currency: &str| {
        let changes = json!({ "Amount": { "Amount": amount, "Currency": currency } });
        parse_changed_row(&changes).amount
    };
    for spelling in ["10", "10.0", "10.00", "10.00000"] {
        assert_eq!(amount(spelling, "NGN"), parse_naira("10"), "{spelling}");
    }
    assert_eq!(
        amount("1234567890123.45", "GBP"),
        parse_money("1234567890123.45", "GBP")
    );
    assert_eq!(amount("1200", "JPY").minor, 1200);
    assert_eq!(amount("1.234", "KWD").minor, 1234);
}

#[test]
fn a_list_may_be_empty_and_a_page_may_link_to_the_next() {
    let check = |body: &str, next: Option<&str>| {
        let page = parse_transactions(body.as_bytes()).unwrap();
        assert_eq!(
            (page.items.len(), page.next.as_deref()),
            (0, next),
            "{body}"
        );
    };
    check(r#"{"Data":{}}"#, None);
    check(r#"{"Data":{"Transaction":null},"Links":null}"#, None);
    check(r#"{"Data":{"Transaction":[]},"Links":{"Self":"/a"}}"#, None);
    check("", None);
    check(" \r\n", None);
    check(r#"{"Data":null,"Links":{"Self":"/a"},"Meta":{}}"#, None);
    check("\u{feff}{\"Data\":{\"Transaction\":[]}}", None);
    check(r#"{"Data":{},"Links":{"Next":""}}"#, None);
    check(r#"{"Data":{},"Links":{"Next":null}}"#, None);
    check(
        r#"{"Data":{},"Links":{"Next":"https:\/\/b\/a?p=2"}}"#,
        Some("https://b/a?p=2"),
    );
}

/// Checks the path and the problem of a fault, and that it does not show the secret value.
fn check_fault<T: std::fmt::Debug>(
    parsed: Result<T, MalformedResponse>,
    path: &str,
    problem: &str,
) {
    let malformed = parsed.unwrap_err();
    assert_eq!(malformed.path, path, "{malformed}");
    assert!(malformed.problem.contains(problem), "{malformed}");
    let fault = BankFault::from(malformed);
    assert_eq!(fault.class, FaultClass::MalformedResponse);
    assert!(!fault.detail.contains("5eCret"), "{fault}");
}

/// Checks that one row is set aside, with the path and the problem of its fault and without its secret value, and that
/// the others are read.
fn check_set_aside(rows: &[Value], path: &str, problem: &str) {
    let page = parse_rows(rows).unwrap();
    let [row] = page.unreadable.as_slice() else {
        panic!("{:?}", page.unreadable)
    };
    assert!(row.fault.starts_with(&format!("{path}: ")), "{}", row.fault);
    assert!(row.fault.contains(problem), "{}", row.fault);
    assert!(!row.fault.contains("5eCret"), "{}", row.fault);
    assert_eq!(page.items.len(), rows.len() - 1);
}

#[test]
fn a_row_that_cannot_be_read_is_set_aside_and_named_by_its_path() {
    let check = |changes: Value, field: &str, problem: &str| {
        let path = format!("Data.Transaction[1]{field}");
        let row = merge_fields(minimal_row(), &changes);
        check_set_aside(&[minimal_row(), row, minimal_row()], &path, problem);
    };
    let wrong_type = "wrong type";
    check(json!({ "Amount": null }), "", "Amount is missing");
    check(json!({ "Status": null }), "", "Status is missing");
    check(
        json!({ "BookingDateTime": null }),
        "",
        "BookingDateTime is missing",
    );
    check(
        json!({ "CreditDebitIndicator": "5eCret" }),
        ".CreditDebitIndicator",
        wrong_type,
    );
    check(
        json!({ "Status": "5eCret" }),
        ".Status",
        "standard does not have",
    );
    check(json!({ "Status": 5 }), ".Status", wrong_type);
    for time in ["5eCret", "15/03/2026", ""] {
        check(
            json!({ "BookingDateTime": time }),
            ".BookingDateTime",
            wrong_type,
        );
    }
}

#[test]
fn an_optional_fact_that_cannot_be_read_is_left_out_and_the_row_counts() {
    let balance = |amount: &str| {
        let amount = json!({ "Amount": amount, "Currency": "NGN" });
        json!({ "Balance": { "Amount": amount, "CreditDebitIndicator": "Credit", "Type": "ITBD" } })
    };
    for changes in [
        json!({ "TransactionId": 5 }),
        json!({ "TransactionInformation": ["5eCret"] }),
        json!({ "MerchantDetails": "5eCret" }),
        json!({ "ValueDateTime": 1_700_000_000 }),
        json!({ "ValueDateTime": "" }),
        json!({ "ValueDateTime": "5eCret" }),
        balance("-1.50"),
        balance("5eCret"),
    ] {
        let page = parse_rows(&[merge_fields(minimal_row(), &changes)]).unwrap();
        assert_eq!(page.unreadable, [], "{changes}");
        let [row] = page.items.as_slice() else {
            panic!("{changes}")
        };
        assert_eq!(row.amount, parse_naira("10"), "{changes}");
        assert_eq!((row.value_at, row.balance_after), (None, None), "{changes}");
    }
}

#[test]
fn what_identifies_an_unreadable_row_is_kept() {
    let row = json!({ "TransactionId": " t9 ", "Status": "5eCret", "BookingDateTime": "2026-03-16T00:30:00+01:00" });
    let page = parse_rows(&[merge_fields(minimal_row(), &row)]).unwrap();
    assert_eq!(page.unreadable[0].bank_id.as_deref(), Some("t9"));
    assert_eq!(page.unreadable[0].day, Some(jiff::civil::date(2026, 3, 16)));
}

#[test]
fn a_fault_in_an_amount_is_named_by_its_path() {
    let check = |amount: Value, field: &str, problem: &str| {
        let path = format!("Data.Transaction[0].Amount{field}");
        let row = merge_fields(minimal_row(), &json!({ "Amount": amount }));
        check_set_aside(&[row, minimal_row()], &path, problem);
    };
    let amount = |amount: Value| json!({ "Amount": amount, "Currency": "NGN" });
    for text in ["", "5eCret", "1,50", "-1.50", "+1.50", "1e3", " 1"] {
        check(amount(json!(text)), ".Amount", "decimal digits");
    }
    check(amount(json!("1.005")), ".Amount", "more decimal places");
    check(amount(json!("99999999999999999999")), ".Amount", "64 bits");
    check(amount(json!(10.5)), ".Amount", "wrong type");
    check(
        json!({ "Amount": "1", "Currency": "5eCret" }),
        ".Currency",
        "three capital letters",
    );
    check(json!({ "Amount": "1" }), "", "Currency is missing");
}

#[test]
fn a_response_of_another_form_is_named_by_its_path_too() {
    let check = |body: &str, path: &str, problem: &str| {
        check_fault(parse_transactions(body.as_bytes()), path, problem);
    };
    check("<html>5eCret</html>", "$", "not JSON");
    check("null", "$", "wrong type");
    for list in ["[]", "[[]]", "[{}]", "[{\"Transaction\":[]}]"] {
        check(list, "$", "wrong type");
    }
    check(r#"{"Data":[]}"#, "Data", "wrong type");
    check("{}", "$", "Data is missing");
    check(r#"{"Data":{}} 5eCret"#, "$", "nothing after");
    check(r#"{"Data":{},"Data":{}}"#, "$", "Data is there twice");
    check(
        r#"{"Data":{"Transaction":{}}}"#,
        "Data.Transaction",
        "wrong type",
    );
    check(
        r#"{"Data":{"Transaction":[{"Status":"Bo"#,
        "Data.Transaction[0].Status",
        "incomplete",
    );
    check(
        r#"{"Data":{},"Links":{"Next":7}}"#,
        "Links.Next",
        "wrong type",
    );
    check(r#"{"Data":{"5eCret":["#, "Data.?", "incomplete");
    check(&"[".repeat(100_000), "$", "wrong type");
    check_fault(parse_transactions(b"{\"Data\":\xff"), "Data", "not JSON");
}

fn balance_json(kind: &str, amount: &str) -> Value {
    json!({
        "AccountId": "22289",
        "CreditDebitIndicator": "Credit",
        "Type": kind,
        "DateTime": "2026-03-15T10:43:07+00:00",
        "Amount": { "Amount": amount, "Currency": "NGN" },
    })
}

fn parse_balance_rows(rows: &[Value]) -> Result<(Option<Money>, Option<Money>), MalformedResponse> {
    let parsed = parse_balances(&to_json_bytes(&json!({ "Data": { "Balance": rows } })))?;
    let mut reversed = rows.to_vec();
    reversed.reverse();
    let body = to_json_bytes(&json!({ "Data": { "Balance": reversed } }));
    assert_eq!(parse_balances(&body).unwrap(), parsed, "order matters");
    Ok((parsed.available, parsed.ledger))
}

#[test]
fn the_best_balance_of_each_kind_counts() {
    let preferred = [
        [
            "InterimAvailable",
            "ClosingAvailable",
            "ForwardAvailable",
            "OpeningAvailable",
        ],
        ["ITAV", "CLAV", "FWAV", "OPAV"],
    ];
    for kinds in preferred {
        for at in 0..kinds.len() {
            let rows: Vec<_> = (at..kinds.len())
                .map(|n| balance_json(kinds[n], &n.to_string()))
                .collect();
            let expected = (Some(parse_naira(&at.to_string())), None);
            assert_eq!(
                parse_balance_rows(&rows).unwrap(),
                expected,
                "{}",
                kinds[at]
            );
        }
    }
    let preferred = [
        &[
            "InterimBooked",
            "ClosingBooked",
            "OpeningBooked",
            "PreviouslyClosedBooked",
            "InterimCleared",
            "ClosingCleared",
            "OpeningCleared",
            "Expected",
        ][..],
        &["ITBD", "CLBD", "OPBD", "PRCD", "XPCD"],
    ];
    for kinds in preferred {
        for at in 0..kinds.len() {
            let mut rows: Vec<_> = (at..kinds.len())
                .map(|n| balance_json(kinds[n], &n.to_string()))
                .collect();
            rows.push(balance_json("INFO", "99"));
            rows.push(balance_json("Information", "98"));
            let expected = (None, Some(parse_naira(&at.to_string())));
            assert_eq!(
                parse_balance_rows(&rows).unwrap(),
                expected,
                "{}",
                kinds[at]
            );
        }
    }
}

#[test]
fn a_balance_owed_is_negative() {
    let owed = merge_fields(
        balance_json("ITBD", "12.5"),
        &json!({ "CreditDebitIndicator": "Debit" }),
    );
    assert_eq!(
        parse_balance_rows(&[owed]).unwrap(),
        (None, Some(parse_naira("-12.50")))
    );
}

#[test]
fn of_balances_of_one_type_own_money_in_own_currency_and_the_latest_count() {
    let check = |better: Value, worse: Value| {
        let better = merge_fields(balance_json("ITAV", "5"), &better);
        let worse = merge_fields(balance_json("ITAV", "1"), &worse);
        let (available, _) = parse_balance_rows(&[worse.clone(), better.clone()]).unwrap();
        assert_eq!(available, Some(parse_naira("5")), "{better} {worse}");
    };
    let line = |included: bool| json!([{ "Included": included, "Type": "Pre-Agreed" }]);
    check(json!({}), json!({ "CreditLine": line(true) }));
    check(
        json!({ "CreditLine": line(false) }),
        json!({ "CreditLine": line(true) }),
    );
    let converted = json!({ "Amount": "1", "Currency": "NGN", "SubType": "LCUR" });
    check(json!({}), json!({ "Amount": converted }));
    check(json!({}), json!({ "DateTime": "2026-03-15T10:43:06Z" }));
    check(json!({}), json!({ "DateTime": null }));
    // Nothing tells these apart: the lower one counts, wherever it stands.
    let alike = [balance_json("ITAV", "5"), balance_json("ITAV", "4.99")];
    assert_eq!(
        parse_balance_rows(&alike).unwrap().0,
        Some(parse_naira("4.99"))
    );
    // Stated only with a credit line: that is what the bank says.
    let only = merge_fields(
        balance_json("ITAV", "5"),
        &json!({ "CreditLine": line(true) }),
    );
    assert_eq!(
        parse_balance_rows(&[only]).unwrap().0,
        Some(parse_naira("5"))
    );
}

#[test]
fn a_fault_in_a_balance_is_named_by_its_path() {
    let check = |rows: &[Value], path: &str, problem: &str| {
        check_fault(parse_balance_rows(rows), path, problem);
    };
    check(&[], "Data.Balance", "no balance of");
    check(
        &[balance_json("INFO", "1")],
        "Data.Balance",
        "no balance of",
    );
    check(
        &[balance_json("5eCret", "1")],
        "Data.Balance",
        "no balance of",
    );
    let bad = balance_json("ITBD", "5eCret");
    check(
        &[balance_json("ITAV", "1"), bad],
        "Data.Balance[1].Amount.Amount",
        "decimal digits",
    );
    let no_kind = merge_fields(balance_json("ITAV", "1"), &json!({ "Type": null }));
    check(&[no_kind], "Data.Balance[0]", "Type is missing");
    check_fault(
        parse_balances(br#"{"Data":{}}"#),
        "Data",
        "Balance is missing",
    );
}

#[test]
fn a_balance_that_is_not_used_may_be_broken() {
    let rows = [
        balance_json("ITAV", "1"),
        balance_json("CLAV", "?"),
        balance_json("INFO", "?"),
    ];
    assert_eq!(
        parse_balance_rows(&rows).unwrap(),
        (Some(parse_naira("1")), None)
    );
}

fn minimal_account() -> Value {
    json!({ "AccountId": "22289", "Currency": "NGN", "AccountType": "Personal" })
}

fn parse_account_rows(
    rows: &[Value],
) -> Result<Vec<okra_core::model::snapshot::AccountFacts>, MalformedResponse> {
    parse_accounts(&to_json_bytes(&json!({ "Data": { "Account": rows } }))).map(|page| page.items)
}

#[test]
fn an_account_has_a_name_a_number_and_a_kind() {
    let check = |changes: Value, name: &str, number: &str, kind: &str| {
        let facts = parse_account_rows(&[merge_fields(minimal_account(), &changes)])
            .unwrap()
            .remove(0);
        let got = (
            facts.name.as_str(),
            facts.number.as_str(),
            facts.kind.as_str(),
        );
        assert_eq!(got, (name, number, kind), "{changes}");
        assert_eq!(
            (facts.bank_account_id.as_str(), facts.currency.as_str()),
            ("22289", "NGN")
        );
    };
    check(json!({}), "", "", "OTHER");
    check(
        json!({
            "AccountSubType": "Savings",
            "Nickname": "Rent",
            "Account": [{ "SchemeName": "NUBAN", "Identification": "0123456789", "Name": "ADA  TEST" }],
        }),
        "ADA TEST",
        "0123456789",
        "SAVINGS",
    );
    check(
        json!({ "AccountTypeCode": "CACC", "Nickname": " ", "Description": "Main" }),
        "Main",
        "",
        "CURRENT",
    );
    let two = json!([{ "Identification": "" }, { "Identification": "7", "Name": "Bola" }]);
    check(
        json!({ "Account": two, "AccountSubType": "EMoney" }),
        "Bola",
        "7",
        "WALLET",
    );
}

#[test]
fn deleted_accounts_are_left_out() {
    let with = |status: &str| merge_fields(minimal_account(), &json!({ "Status": status }));
    assert_eq!(
        parse_account_rows(&[with("Deleted"), with("Enabled"), with("Disabled")])
            .unwrap()
            .len(),
        2
    );
    assert_eq!(parse_accounts(br#"{"Data":{}}"#).unwrap().items, []);
}

#[test]
fn a_fault_in_an_account_is_named_by_its_path() {
    let check = |changes: Value, field: &str, problem: &str| {
        let rows = [minimal_account(), merge_fields(minimal_account(), &changes)];
        check_fault(
            parse_account_rows(&rows),
            &format!("Data.Account[1]{field}"),
            problem,
        );
    };
    for id in ["", " ", ".", ".."] {
        check(json!({ "AccountId": id }), ".AccountId", "blank");
    }
    check(
        json!({ "AccountId": "5eCret".repeat(100) }),
        ".AccountId",
        "too long",
    );
    check(json!({ "AccountId": null }), "", "AccountId is missing");
    check(
        json!({ "Currency": null }),
        ".Currency",
        "three capital letters",
    );
    check(
        json!({ "Currency": "5eCret" }),
        ".Currency",
        "three capital letters",
    );
}
