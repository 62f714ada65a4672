//! The transactions of a record as a file, in the envelope: Okra's clients ask for one and none says what
//! it was answered, so the file stands as text beside its name and its media type.

use okra_core::model::{
    ids::RecordId,
    money::Money,
    snapshot::{BookingStatus, Direction},
};
use okra_wire::scalar::IsoInstant;
use serde::Serialize;

use crate::{
    data::transactions::{AccountTransaction, read_rows, render_for_callback},
    http::{
        envelope::{ApiError, ApiResponse, success_response},
        request::ApiRequest,
    },
};

/// Rows of a file at most: a function answers with 6 MB at most.
const MAX_ROWS: usize = 5000;

/// The names of the columns.
const CSV_HEADER: &str = "id,account,date,cleared_date,status,description,reference,credit,debit,\
                       balance,currency\r\n";

#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Serialize)]
struct TransactionDownloadResponse {
    record: RecordId,
    file_name: String,
    content_type: &'static str,
    rows: usize,
    /// The file.
    content: String,
}

/// A text as a cell (RFC 4180). What a spreadsheet would take for a formula is kept a text.
fn format_csv_cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let guard = if formula { "'" } else { "" };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

fn format_csv_row(account_row: &AccountTransaction) -> String {
    let (account, row) = account_row;
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
    let cleared = facts.value_at.map(|at| IsoInstant(at).to_string());
    let balance = facts.balance_after.map(Money::to_number);
    format!(
        "{},{},{},{},{},{},{},{credit},{debit},{},{}\r\n",
        row.transaction.id,
        account.id,
        IsoInstant(facts.booked_at),
        cleared.unwrap_or_default(),
        status,
        format_csv_cell(&facts.description),
        format_csv_cell(facts.reference.as_deref().unwrap_or_default()),
        balance.unwrap_or_default(),
        facts.amount.currency,
    )
}

/// A record's transactions as a file.
pub(crate) async fn download_transactions(request: &ApiRequest) -> ApiResponse {
    let head = request.load_requested_record().await?;
    let form = request
        .input
        .find_text(&["downloadType", "download_type", "type"]);
    let form = form.unwrap_or_else(|| "csv".to_owned()).to_lowercase();
    let rows = read_rows(
        request,
        request
            .scope()?
            .load_accounts_of_records(std::slice::from_ref(&head))
            .await?,
    )
    .await?;
    if rows.len() > MAX_ROWS {
        let problem = format!("must be later: a file has at most {MAX_ROWS} rows");
        return Err(ApiError::invalid_field("from", problem));
    }
    let (content_type, content) = match form.as_str() {
        "csv" => {
            let lines = rows.iter().map(format_csv_row);
            let content = std::iter::once(CSV_HEADER.to_owned())
                .chain(lines)
                .collect();
            ("text/csv; charset=utf-8", content)
        }
        "json" => {
            let content = serde_json::to_string(&render_for_callback(request, &rows)?)?;
            ("application/json", content)
        }
        _ => {
            return Err(ApiError::invalid_field(
                "downloadType",
                "must be csv or json",
            ));
        }
    };
    let data = TransactionDownloadResponse {
        record: head.record,
        file_name: format!("transactions-{}.{form}", head.record),
        content_type,
        rows: rows.len(),
        content,
    };
    success_response("Transactions retrieved successfully", data)
}

routes! {
    Post Key [
        Okra "products/transactions/download",
        Okra "products/record/download",
    ] => download_transactions(RECORD, DOWNLOAD, DATES) -> TransactionDownloadResponse:
        "Returns the transactions of a record as a file, in `content`.";
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
            assert_eq!(format_csv_cell(text), expected);
        }
    }
}
