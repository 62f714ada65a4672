//! The transactions of a record as a file, in the envelope: Okra's clients ask for one and none says what
//! it was answered, so the file stands as text beside its name and its media type.

use okra_core::{
    ids::RecordId,
    model::{BookingStatus, Direction},
    money::Money,
};
use okra_wire::scalar::Instant;
use serde::Serialize;

use crate::{
    call::Call,
    envelope::{Answer, Refusal, success},
    scope,
    transactions::{Row, for_callback, rows_of},
};

/// Rows of a file at most: a function answers with 6 MB at most.
const MAX_ROWS: usize = 5000;

/// The names of the columns.
const COLUMNS: &str = "id,account,date,cleared_date,status,description,reference,credit,debit,\
                       balance,currency\r\n";

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct Download {
    record: RecordId,
    file_name: String,
    content_type: &'static str,
    rows: usize,
    /// The file.
    content: String,
}

/// A text as a cell (RFC 4180). What a spreadsheet would take for a formula is kept a text.
fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let guard = if formula { "'" } else { "" };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

fn line((account, row): &Row) -> String {
    let facts = &row.transaction.facts;
    let amount = facts.amount.to_number();
    let (credit, debit) = match facts.direction {
        Direction::Credit => (amount.as_str(), ""),
        Direction::Debit => ("", amount.as_str()),
    };
    let status = match facts.status {
        BookingStatus::Pending => "pending",
        BookingStatus::Booked => "booked",
    };
    let cleared = facts.value_at.map(|at| Instant(at).to_string());
    let balance = facts.balance_after.map(Money::to_number);
    format!(
        "{},{},{},{},{},{},{},{credit},{debit},{},{}\r\n",
        row.transaction.id,
        account.id,
        Instant(facts.booked_at),
        cleared.unwrap_or_default(),
        status,
        cell(&facts.description),
        cell(facts.reference.as_deref().unwrap_or_default()),
        balance.unwrap_or_default(),
        facts.amount.currency,
    )
}

/// A record's transactions as a file.
pub(crate) async fn transactions(call: &Call) -> Answer {
    let head = call.record().await?;
    let form = call.input.text(&["downloadType", "download_type", "type"]);
    let form = form.unwrap_or_else(|| "csv".to_owned()).to_lowercase();
    let rows = rows_of(
        call,
        scope::accounts_of(call, std::slice::from_ref(&head)).await?,
    )
    .await?;
    if rows.len() > MAX_ROWS {
        let problem = format!("has to be later: a file has {MAX_ROWS} rows at most");
        return Err(Refusal::field("from", problem));
    }
    let (content_type, content) = match form.as_str() {
        "csv" => {
            let lines = rows.iter().map(line);
            let content = std::iter::once(COLUMNS.to_owned()).chain(lines).collect();
            ("text/csv; charset=utf-8", content)
        }
        "json" => {
            let content = serde_json::to_string(&for_callback(call, &rows)?)?;
            ("application/json", content)
        }
        _ => return Err(Refusal::field("downloadType", "is csv or json")),
    };
    let data = Download {
        record: head.record,
        file_name: format!("transactions-{}.{form}", head.record),
        content_type,
        rows: rows.len(),
        content,
    };
    success("Transactions retrieved successfully", data)
}

documented! {
    transactions(RECORD, DOWNLOAD, DATES) -> Download: "The transactions of a record as a file, which stands in `content`.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_a_text_whatever_the_bank_says() {
        for (text, expected) in [
            ("POS 5", r#""POS 5""#),
            (r#"a "b", c"#, r#""a ""b"", c""#),
            ("=1+1", r#""'=1+1""#),
            ("@sum", r#""'@sum""#),
            ("", r#""""#),
        ] {
            assert_eq!(cell(text), expected);
        }
    }
}
