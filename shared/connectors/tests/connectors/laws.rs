//! What holds of every response: its spelling makes no difference, its contents do, and nothing makes the connector
//! panic.

use jiff::{Timestamp, civil::date};
use okra_connectors::obie::{parse_accounts, parse_balances, parse_transactions};
use okra_core::{
    model::{
        ids::AccountId,
        snapshot::{TransactionWindow, utc_date},
    },
    sync::digest::{Digest, digest_transactions},
};
use proptest::prelude::*;

/// What a row says; how it is written is drawn when it is.
#[derive(Clone, Debug)]
struct GeneratedRow {
    id: Option<String>,
    credit: bool,
    booked: bool,
    kobo: u64,
    booked_at_ms: i64,
    text: String,
    balance: Option<(bool, u64)>,
}

fn any_row() -> impl Strategy<Value = GeneratedRow> {
    let text = "[A-Za-z0-9/₦é\"\\\\]{1,8}( [A-Za-z0-9]{1,8}){0,3}";
    (
        prop::option::of("[a-z0-9-]{1,12}"),
        any::<bool>(),
        any::<bool>(),
        0..1_000_000_000_u64,
        1_600_000_000_000..1_900_000_000_000_i64,
        text,
        prop::option::of((any::<bool>(), 0..1_000_000_u64)),
    )
        .prop_map(
            |(id, credit, booked, kobo, booked_at_ms, text, balance)| GeneratedRow {
                id,
                credit,
                booked,
                kobo,
                booked_at_ms,
                text,
                balance,
            },
        )
}

/// Writes JSON as some bank might.
struct JsonWriter(fastrand::Rng);

impl JsonWriter {
    fn write_space(&mut self) -> &'static str {
        self.0.choice(["", "", " ", "\n", "\t", "\r\n  "]).unwrap()
    }

    fn write_string(&mut self, text: &str) -> String {
        let escaped = text.chars().map(|c| {
            if c == '"' || c == '\\' || self.0.u8(..8) == 0 {
                let units = c.encode_utf16(&mut [0; 2]).to_vec();
                units.iter().map(|unit| format!("\\u{unit:04x}")).collect()
            } else {
                c.to_string()
            }
        });
        let escaped: String = escaped.collect();
        format!("\"{escaped}\"")
    }

    fn write_object(&mut self, mut fields: Vec<(&str, String)>) -> String {
        if self.0.bool() {
            fields.push(("Unheard", r#"{"Of":[1,2.5,null,"\n"]}"#.to_owned()));
        }
        self.0.shuffle(&mut fields);
        let mut parts = Vec::new();
        for (name, value) in fields {
            let (a, b, c) = (self.write_space(), self.write_space(), self.write_space());
            let name = self.write_string(name);
            parts.push(format!("{a}{name}{b}:{c}{value}"));
        }
        format!("{{{}{}}}", parts.join(","), self.write_space())
    }

    fn write_list(&mut self, mut items: Vec<String>) -> String {
        self.0.shuffle(&mut items);
        format!("[{}{}]", items.join(","), self.write_space())
    }

    fn write_decimal(&mut self, kobo: u64) -> String {
        let mut text = format!("{}.{:02}", kobo / 100, kobo % 100);
        match self.0.u8(..3) {
            0 => text.push_str("000"),
            1 => text = text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            _ => {}
        }
        text
    }

    fn write_amount(&mut self, kobo: u64) -> String {
        let decimal = self.write_decimal(kobo);
        let fields = vec![
            ("Amount", self.write_string(&decimal)),
            ("Currency", "\"NGN\"".to_owned()),
        ];
        self.write_object(fields)
    }

    fn write_indicator(&mut self, credit: bool) -> String {
        self.write_string(if credit { "Credit" } else { "Debit" })
    }

    fn write_instant(&mut self, ms: i64) -> String {
        let at = Timestamp::from_millisecond(ms).unwrap();
        // With any offset that leaves its day: the day is what the bank wrote.
        let drawn = jiff::tz::Offset::from_hours(self.0.i8(-11..=12)).unwrap();
        let is_same_day = drawn.to_datetime(at).date() == utc_date(at);
        let offset = if is_same_day {
            drawn
        } else {
            jiff::tz::Offset::UTC
        };
        let mut text = at.display_with_offset(offset).to_string();
        if self.0.bool() {
            // More digits than are stored.
            let point = text.find('.').unwrap_or(19);
            let end = text.rfind(['+', '-']).unwrap();
            let millis = format!(".{:03}{}", ms.rem_euclid(1000), self.0.u16(100..1000));
            text.replace_range(point..end, &millis);
        }
        self.write_string(&text)
    }

    fn write_text(&mut self, text: &str) -> String {
        let gaps = [" ", "  ", "\t", "\u{a0} "];
        let words: Vec<_> = text.split(' ').collect();
        let mut spaced = String::from(self.0.choice(["", " "]).unwrap());
        for word in words {
            spaced.push_str(word);
            spaced.push_str(self.0.choice(gaps).unwrap());
        }
        // A tab must be escaped in JSON.
        self.write_string(&spaced).replace('\t', "\\t")
    }

    fn write_row(&mut self, row: &GeneratedRow) -> String {
        let status = match row.booked {
            true => ["Booked", "BOOK"],
            false => ["Pending", "PDNG"],
        };
        let status = self.0.choice(status).unwrap();
        let mut fields = vec![
            ("AccountId", self.write_string("22289")),
            ("CreditDebitIndicator", self.write_indicator(row.credit)),
            ("Status", self.write_string(status)),
            ("BookingDateTime", self.write_instant(row.booked_at_ms)),
            ("Amount", self.write_amount(row.kobo)),
            ("TransactionInformation", self.write_text(&row.text)),
        ];
        match &row.id {
            Some(id) => fields.push(("TransactionId", self.write_string(id))),
            None if self.0.bool() => fields.push(("TransactionId", "\" \"".to_owned())),
            None => {}
        }
        if let Some((credit, kobo)) = row.balance {
            let balance = vec![
                ("Amount", self.write_amount(kobo)),
                ("CreditDebitIndicator", self.write_indicator(credit)),
                ("Type", self.write_string("InterimBooked")),
            ];
            fields.push(("Balance", self.write_object(balance)));
        }
        self.write_object(fields)
    }

    fn write_body(&mut self, rows: &[GeneratedRow]) -> Vec<u8> {
        let mut written: Vec<_> = rows.iter().map(|row| self.write_row(row)).collect();
        if self.0.bool() {
            let rejected = r#"{"Status":"Rejected","CreditDebitIndicator":"Debit",
                "BookingDateTime":"2026-01-01T00:00:00Z","Amount":{"Amount":"1","Currency":"NGN"}}"#;
            written.push(rejected.to_owned());
        }
        let data = vec![("Transaction", self.write_list(written))];
        let fields = vec![
            ("Data", self.write_object(data)),
            ("Links", "{}".to_owned()),
        ];
        self.write_object(fields).into_bytes()
    }
}

fn digest_of_rows(rows: &[GeneratedRow], seed: u64) -> Digest {
    let body = JsonWriter(fastrand::Rng::with_seed(seed)).write_body(rows);
    let page = parse_transactions(&body).unwrap_or_else(|malformed| {
        panic!("{malformed}\n{}", String::from_utf8_lossy(&body));
    });
    let window = TransactionWindow {
        unreadable: vec![],
        from: date(2020, 1, 1),
        rows: page.items,
    };
    digest_transactions(&[(AccountId::derive(&[b"22289"]), &window)])
}

/// The row with one field changed.
fn change_one_field(mut row: GeneratedRow, which: usize) -> GeneratedRow {
    match which {
        0 => row.id = Some(row.id.map_or_else(|| "new".to_owned(), |id| id + "x")),
        1 => row.credit ^= true,
        2 => row.booked ^= true,
        3 => row.kobo += 1,
        4 => row.booked_at_ms += 1,
        5 => row.text.push('x'),
        _ => row.balance = row.balance.xor(Some((true, 7))).or(Some((true, 8))),
    }
    row
}

proptest! {
    #[test]
    fn spelling_and_order_make_no_difference(
        rows in prop::collection::vec(any_row(), 0..12), one: u64, other: u64,
    ) {
        prop_assert_eq!(digest_of_rows(&rows, one), digest_of_rows(&rows, other));
    }

    #[test]
    fn whatever_a_row_says_makes_a_difference(
        rows in prop::collection::vec(any_row(), 1..6), at: prop::sample::Index, which in 0..7_usize, seed: u64,
    ) {
        let mut changed = rows.clone();
        let at = at.index(rows.len());
        changed[at] = change_one_field(changed[at].clone(), which);
        prop_assert_ne!(digest_of_rows(&rows, seed), digest_of_rows(&changed, seed));
        changed[at] = rows[at].clone();
        changed.push(rows[at].clone());
        prop_assert_ne!(digest_of_rows(&rows, seed), digest_of_rows(&changed, seed));
    }

    #[test]
    fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = (parse_transactions(&bytes), parse_balances(&bytes), parse_accounts(&bytes));
    }

    #[test]
    fn nothing_that_is_almost_an_answer_makes_it_panic(
        rows in prop::collection::vec(any_row(), 1..4), seed: u64,
        corrupted in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut: prop::sample::Index,
    ) {
        let mut body = JsonWriter(fastrand::Rng::with_seed(seed)).write_body(&rows);
        let part = &body[..cut.index(body.len())];
        prop_assert!(parse_transactions(part).is_err());
        for (at, byte) in corrupted {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let _ = (parse_transactions(&body), parse_balances(&body), parse_accounts(&body));
    }
}

#[path = "../../../../tests/fuzz/checks.rs"]
mod checks;

proptest! {
    /// The fuzz targets' checks, without a fuzzer.
    #[test]
    fn any_bytes_keep_the_fuzz_targets_laws(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        checks::bank_answer(&bytes);
        checks::cursor(&bytes);
    }

    #[test]
    fn any_answer_keeps_the_fuzz_targets_laws(
        rows in prop::collection::vec(any_row(), 0..12), seed: u64,
        corrupted in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut body = JsonWriter(fastrand::Rng::with_seed(seed)).write_body(&rows);
        checks::bank_answer(&body);
        for (at, byte) in corrupted {
            let at = at.index(body.len());
            body[at] = byte;
        }
        checks::bank_answer(&body);
    }
}
