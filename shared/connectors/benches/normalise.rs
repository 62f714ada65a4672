//! An unchanged refresh's work on one response: bytes to rows in normal form to digest. Budget: 15,000 responses of
//! 100 rows a second and core.

use divan::{Bencher, black_box, counter::BytesCount};
use jiff::civil::date;
use okra_connectors::obie::parse_transactions;
use okra_core::{
    model::{ids::AccountId, snapshot::TransactionWindow},
    sync::digest::digest_transactions,
};

fn main() {
    divan::main();
}

/// Which optional fields the bank fills.
#[derive(Clone, Copy, Debug)]
enum BankVerbosity {
    /// Those it must, and a text.
    Terse,
    /// All that we read and as many that we do not.
    Verbose,
}

fn row_json(bank: BankVerbosity, n: usize) -> String {
    let (whole, minor) = (n * 37, n % 100);
    let (day, minute) = (1 + n % 28, n % 60);
    let more = match bank {
        BankVerbosity::Terse => String::new(),
        BankVerbosity::Verbose => format!(
            r#","TransactionReference":"REF {n}/2026",
            "ValueDateTime":"2026-03-{day:02}T00:00:00+00:00",
            "TransactionMutability":"Mutable","AddressLine":"12 Allen Avenue, Ikeja",
            "BankTransactionCode":{{"Code":"ReceivedCreditTransfer","SubCode":"DomesticCreditTransfer"}},
            "ProprietaryBankTransactionCode":{{"Code":"Transfer","Issuer":"Bank"}},
            "Balance":{{"Amount":{{"Amount":"{whole}.{minor:02}","Currency":"NGN"}},
                "CreditDebitIndicator":"Credit","Type":"InterimBooked"}},
            "MerchantDetails":{{"MerchantName":"Shoprite","MerchantCategoryCode":"5411"}},
            "CardInstrument":{{"CardSchemeName":"VISA","Name":"ADA TEST","Identification":"1234"}}"#
        ),
    };
    format!(
        r#"{{"AccountId":"22289","TransactionId":"tx-{n:08}","CreditDebitIndicator":"Debit",
        "Status":"Booked","BookingDateTime":"2026-03-{day:02}T10:{minute:02}:07+01:00",
        "TransactionInformation":"POS PURCHASE SHOPRITE IKEJA LAGOS {n}",
        "Amount":{{"Amount":"{whole}.{minor:02}","Currency":"NGN"}}{more}}}"#
    )
}

fn transactions_body(bank: BankVerbosity) -> Vec<u8> {
    let rows: Vec<_> = (0..ROWS_PER_BODY).map(|n| row_json(bank, n)).collect();
    let data = format!(r#"{{"Transaction":[{}]}}"#, rows.join(","));
    let links = r#"{"Self":"https://bank.example/accounts/22289/transactions"}"#;
    let body = format!(r#"{{"Data":{data},"Links":{links},"Meta":{{"TotalPages":1}}}}"#);
    let read = parse_transactions(body.as_bytes()).map(|page| page.items.len());
    assert_eq!(read, Ok(ROWS_PER_BODY), "else a failure would be measured");
    body.into_bytes()
}

const ROWS_PER_BODY: usize = 100;
const BANKS: [BankVerbosity; 2] = [BankVerbosity::Terse, BankVerbosity::Verbose];

#[divan::bench(args = BANKS)]
fn parse(bencher: Bencher<'_, '_>, bank: BankVerbosity) {
    let body = transactions_body(bank);
    bencher
        .counter(BytesCount::of_slice(&body))
        .bench(|| parse_transactions(black_box(&body)));
}

#[divan::bench(args = BANKS)]
fn parse_and_digest(bencher: Bencher<'_, '_>, bank: BankVerbosity) {
    let body = transactions_body(bank);
    let account = AccountId::derive(&[b"22289"]);
    bencher.counter(BytesCount::of_slice(&body)).bench(|| {
        let page = parse_transactions(black_box(&body)).ok()?;
        let window = TransactionWindow {
            unreadable: vec![],
            from: date(2026, 1, 1),
            rows: page.items,
        };
        Some(digest_transactions(&[(account, &window)]))
    });
}
