//! The payload of `onSuccess`, as Okra's widget had it.

use okra_core::model::bank::BankConfig;
use serde_json::{Value, json};

/// The payload of `onSuccess` for a record that was linked: `link_data` is the data of `records/link`.
pub(crate) fn build_success_payload(bank: &BankConfig, link_data: &Value) -> Value {
    let customer = &link_data["customer_id"];
    json!({
        "status": "success",
        "auth": {
            "clientId": format!("okr-{}", link_data["record_id"].as_str().unwrap_or_default()),
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
        "accounts": link_data["accounts"],
        "customer": { "id": customer, "name": link_data["name"] },
        "customer_id": customer,
        "identity": { "name": link_data["name"] },
        "income": {},
        "bank_id": bank.id,
        "bank_name": bank.name,
        "record_id": link_data["record_id"],
        "refresh": link_data["schedule"],
    })
}
