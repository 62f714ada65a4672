//! The payload of `onSuccess`, as Okra's widget had it.

use okra_app::linking::LinkedRecord;
use okra_core::model::bank::BankConfig;
use serde_json::{Value, json};

/// The payload for a record that was linked or renewed.
pub(crate) fn build_success_payload(bank: &BankConfig, linked: &LinkedRecord) -> Value {
    let (record, customer) = (linked.head.record, linked.head.customer);
    let schedule = &linked.head.schedule;
    let accounts: Vec<Value> = linked
        .accounts
        .iter()
        .map(|account| {
            json!({
                "id": account.id,
                "name": account.facts.name,
                "nuban": account.facts.number,
                "customer": customer,
            })
        })
        .collect();
    json!({
        "status": "success",
        "auth": {
            "clientId": format!("okr-{record}"),
            "type": "validate",
            "status": true,
            "login_type": "bank",
            "bank_id": bank.id,
            "customer_id": customer,
            "bank_details": {
                "_id": bank.id, "id": bank.id, "name": bank.name, "slug": bank.slug,
                "logo": "", "icon": "", "v2_logo": "", "v2_icon": "",
                "countries": [bank.country],
            },
        },
        "accounts": accounts,
        "customer": { "id": customer, "name": linked.customer_name },
        "customer_id": customer,
        "identity": { "name": linked.customer_name },
        "income": {},
        "bank_id": bank.id,
        "bank_name": bank.name,
        "record_id": record,
        "refresh": { "balance": schedule.balance, "transactions": schedule.transactions },
    })
}
