//! Okra's client libraries, as they put their calls on the wire: byte for byte over a socket, and what
//! comes back decoded as strictly as they do.
//!
//! `tests/clients` runs okra_py itself; the others are not to be had where tests run.

use okra_api::ROUTES;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    decoders,
    recipes::Fixture,
    world::{APP_KEY, ApiWorld, BANK},
};

/// What a library sends: its name, the request's head, and its body. In braces stands what the caller
/// fills in.
struct ClientRequest {
    library: &'static str,
    head: &'static str,
    body: &'static str,
}

const fn client_request(
    library: &'static str,
    head: &'static str,
    body: &'static str,
) -> ClientRequest {
    ClientRequest {
        library,
        head,
        body,
    }
}

const JSON: &str = "Accept: application/json, text/plain, */*\r\nContent-Type: application/json\r\nAuthorization: Bearer {key}\r\nUser-Agent: axios/0.19.0";
const JSON_CHARSET: &str =
    "Content-Type: application/json; charset=utf-8\r\nauthorization: Bearer {key}";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\nAuthorization: Bearer {key}";

/// A head: its first line, and one of the sets of headers above in place of `{json}`, `{charset}`,
/// `{form}`.
const CLIENT_REQUESTS: &[ClientRequest] = &[
    // Node, okra-node 0.1: JSON; what is open without a key; a path with two slashes.
    client_request(
        "okra-node 0.1",
        "GET /v2/banks/list HTTP/1.1\r\nAccept: application/json, text/plain, */*",
        "",
    ),
    client_request(
        "okra-node 0.1",
        "GET /v2/banks/getById?id={bank} HTTP/1.1\r\nAccept: */*",
        "",
    ),
    client_request(
        "okra-node 0.1",
        "POST /v2/products/auths HTTP/1.1\r\n{json}",
        r#"{"page":1,"limit":20}"#,
    ),
    client_request(
        "okra-node 0.1",
        "POST /v2/products/balances HTTP/1.1\r\n{json}",
        r#"{"page":1,"limit":20,"pdf":false}"#,
    ),
    client_request(
        "okra-node 0.1",
        "POST /v2/products/transactions HTTP/1.1\r\n{json}",
        "{}",
    ),
    client_request(
        "okra-node 0.1",
        "POST /v2/balance/getById HTTP/1.1\r\n{json}",
        r#"{"id":"{balance}"}"#,
    ),
    client_request(
        "okra-node 0.1",
        "POST /v2/balance/getByAccount HTTP/1.1\r\n{json}",
        r#"{"account":"{account}"}"#,
    ),
    client_request(
        "okra-node 0.1",
        "POST /v2/balance/getByType HTTP/1.1\r\n{json}",
        r#"{"type":"ledger_balance","amount":5}"#,
    ),
    client_request(
        "okra-node 0.1",
        "POST /v2//transaction/balance/process HTTP/1.1\r\n{json}",
        r#"{"account_id":"{account}","customer_id":"{customer}","from":"2020-01-01","to":"2030-01-01"}"#,
    ),
    client_request(
        "okra-node 0.1",
        "POST /v2/transaction/getByCustomerDate HTTP/1.1\r\n{json}",
        r#"{"customer":"{customer}","from":"2020-01-01","to":"2030-01-01","page":1,"limit":20}"#,
    ),
    client_request(
        "okra-node 0.1",
        "POST /v2/account/getByCustomerDate HTTP/1.1\r\n{json}",
        r#"{"customer":"{customer}","from":"2020-01-01","to":"2030-01-01"}"#,
    ),
    client_request(
        "okra-node 0.1",
        "GET /v2/callback?record={record}&method=TRANSACTIONS HTTP/1.1\r\n{json}",
        "",
    ),
    client_request(
        "okra-node 0.1",
        "POST /v2/balance/refresh HTTP/1.1\r\n{json}",
        r#"{"account_id":"{account}","record_id":"{record}"}"#,
    ),
    client_request(
        "okra-node 0.1",
        "POST /v2/products/transactions/periodic HTTP/1.1\r\n{json}",
        r#"{"record_id":"{record}","account_id":"{account}","currency":"NGN"}"#,
    ),
    client_request(
        "okra-node 0.1",
        "POST /v2/customers/retry HTTP/1.1\r\n{json}",
        r#"{"record_id":"{record}","user":""}"#,
    ),
    // Node, okra-node 0.2: the sandbox behind /v2/sandbox, a dangling &, limit 1, account_id.
    client_request(
        "okra-node 0.2",
        "GET /v2/sandbox/banks/list?page=1&limit=1& HTTP/1.1\r\n{json}",
        "",
    ),
    client_request(
        "okra-node 0.2",
        "POST /v2/sandbox/auth/getByCustomer HTTP/1.1\r\n{json}",
        r#"{"customer":"{customer}","page":1,"limit":1}"#,
    ),
    client_request(
        "okra-node 0.2",
        "POST /v2/sandbox/balance/getByAccount HTTP/1.1\r\n{json}",
        r#"{"account_id":"{account}","page":1,"limit":1}"#,
    ),
    client_request(
        "okra-node 0.2",
        "POST /v2/sandbox/transactions/getByNuban HTTP/1.1\r\n{json}",
        r#"{"nuban":"{nuban}","limit":1}"#,
    ),
    client_request(
        "okra-node 0.2",
        "POST /v2/sandbox/customers/list HTTP/1.1\r\n{json}",
        r#"{"page":1,"limit":1}"#,
    ),
    client_request(
        "okra-node 0.2",
        "POST /v2/sandbox/products/total-debits-credits HTTP/1.1\r\n{json}",
        r#"{"customer":"{customer}"}"#,
    ),
    client_request(
        "okra-node 0.2",
        "POST /v2/sandbox/links/new HTTP/1.1\r\n{json}",
        r#"{"name":"Loans","countries":["NG"],"billable_products":["balance"],"color":"","logo":"","options":{}}"#,
    ),
    client_request(
        "okra-node 0.2",
        "POST /v2/sandbox/customers/generate HTTP/1.1\r\n{json}",
        r#"{"number":1,"create":true}"#,
    ),
    // Python, okra_py: an empty body under a JSON content type.
    client_request(
        "okra_py",
        "POST /sandbox/v1/products/auths HTTP/1.1\r\nAccept-Encoding: gzip, deflate\r\n{json}",
        "",
    ),
    client_request(
        "okra_py",
        "POST /sandbox/v1/auth/getByDateCustomer HTTP/1.1\r\n{json}",
        r#"{"customer": "{customer}", "from": "2020-01-01", "to": "2030-01-01", "page": 1, "limit": 20}"#,
    ),
    // Python, pyokra: a form under a JSON content type, and the prefix twice.
    client_request(
        "pyokra",
        "POST /v2/sandbox/sandbox/customers/create HTTP/1.1\r\n{json}",
        "name=Ada+Obi&noOfAccount=1&type=ind&volume=low&identity=50&internetSpeed=2",
    ),
    client_request(
        "pyokra",
        "POST /v2/sandbox/balance/getByCustomer HTTP/1.1\r\n{json}",
        "customer={customer}",
    ),
    // Go, OkraGo: null, and every field of its structs, empty or as a text.
    client_request(
        "OkraGo",
        "POST /sandbox/v1/products/balances HTTP/1.1\r\n{json}",
        "null",
    ),
    client_request(
        "OkraGo",
        "POST /sandbox/v1/balance/getByCustomer HTTP/1.1\r\n{json}",
        r#"{"id":"","customer":"{customer}","customer_id":"","account":"","bank":"","from":"","to":"","type":"","value":"","amount":"","page":"1","limit":"30"}"#,
    ),
    client_request(
        "OkraGo",
        "POST /sandbox/v1/transaction/getByDate HTTP/1.1\r\n{json}",
        r#"{"id":"","customer":"","account":"","from":"2020-4-02","to":"2030-01-01","page":"1","limit":"30"}"#,
    ),
    client_request(
        "OkraGo",
        "POST /sandbox/v1/auth/getByOptions HTTP/1.1\r\n{json}",
        r#"{"options":{"UserId":42},"page":"","limit":""}"#,
    ),
    client_request(
        "OkraGo",
        "POST /sandbox/v1/transaction/getByType HTTP/1.1\r\n{json}",
        r#"{"type":"debit","value":"5000","page":"1","limit":"30"}"#,
    ),
    client_request(
        "OkraGo",
        "POST /sandbox/v1/transaction/getByCustomerDate HTTP/1.1\r\n{json}",
        r#"{"customer":"","customer_id":"{customer}","from":"2020/04/02","to":"2030/01/01","page":"1","limit":"2147483600"}"#,
    ),
    // .NET, OkraDotNet: date-times, and a name of its own for the list of transactions.
    client_request(
        "OkraDotNet",
        "POST /sandbox/v2/products/transactions/get HTTP/1.1\r\n{charset}",
        r#"{"page":1,"limit":20}"#,
    ),
    client_request(
        "OkraDotNet",
        "POST /sandbox/v2/balance/getByDate HTTP/1.1\r\n{charset}",
        r#"{"from":"2020-01-01T00:00:00","to":"2030-01-01T00:00:00.0000000+01:00","page":1,"limit":20,"pdf":null}"#,
    ),
    client_request(
        "OkraDotNet",
        "POST /sandbox/v2/transactions/getByCustomerDate HTTP/1.1\r\n{charset}",
        r#"{"customer":"{customer}","from":"2020-01-01T00:00:00Z","to":"2030-01-01T00:00:00Z"}"#,
    ),
    client_request(
        "OkraDotNet",
        "POST /sandbox/v2/products/balance/periodic HTTP/1.1\r\n{charset}",
        r#"{"record_id":"{record}","account_id":"{account}","currency":"NGN"}"#,
    ),
    client_request(
        "OkraDotNet",
        "GET /sandbox/v2/callback?record={record}&method=BALANCE HTTP/1.1\r\n{charset}",
        "",
    ),
    // Ruby, okra-ruby: names of its own.
    client_request(
        "okra-ruby",
        "POST /v2/sandbox/products/auth/get HTTP/1.1\r\n{json}",
        "{}",
    ),
    client_request(
        "okra-ruby",
        "POST /v2/sandbox/balance/getBalanceById HTTP/1.1\r\n{json}",
        r#"{"id":"{balance}"}"#,
    ),
    client_request(
        "okra-ruby",
        "POST /v2/sandbox/balance/process HTTP/1.1\r\n{json}",
        r#"{"account_id":"{account}"}"#,
    ),
    client_request(
        "okra-ruby",
        "POST /v2/sandbox/records/transactions/get HTTP/1.1\r\n{json}",
        r#"{"record_id":"{record}"}"#,
    ),
    client_request(
        "okra-ruby",
        "POST /v2/sandbox/products/records/get HTTP/1.1\r\n{json}",
        r#"{"record_id":"{record}"}"#,
    ),
    // PHP: forms, the first version, a key without its word, a space before it, absolute targets.
    client_request(
        "Laravel",
        "POST /v1/balance/getByCustomer HTTP/1.1\r\n{form}",
        "customer={customer}&page=1&limit=20",
    ),
    client_request(
        "Laravel",
        "POST /v2/auto-refresh HTTP/1.1\r\n{form}",
        "customer={customer}&products%5B0%5D=balance&products%5B1%5D=transactions&interval=one_hour",
    ),
    client_request(
        "okra-php",
        "POST /v1/transaction/getByAccount HTTP/1.1\r\nContent-Type: application/json\r\nAuthorization: {key}",
        r#"{"account":"{account}"}"#,
    ),
    client_request(
        "okra-php",
        "POST /v1/products/accounts HTTP/1.1\r\nContent-Type: application/json\r\nAuthorization:  Bearer {key}",
        "",
    ),
    client_request(
        "okra-php",
        "POST https://api.okra.ng/v2/balance/check HTTP/1.1\r\n{json}",
        r#"{"account_id":"{account}","record_id":"{record}"}"#,
    ),
];

/// Sends a request as it is, and reads status and body until the server closes.
async fn send_raw_request(address: std::net::SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// The path of a request's target, without what stands before Okra's families.
fn request_path(head: &str) -> String {
    let target = head.split(' ').nth(1).unwrap();
    let target = target.split('?').next().unwrap();
    let longest = ROUTES
        .iter()
        .map(|route| route.path)
        .filter(|path| target.ends_with(&format!("/{path}")))
        .max_by_key(|path| path.len());
    longest.unwrap_or_else(|| panic!("{target}")).to_owned()
}

#[tokio::test]
async fn what_client_libraries_send_is_answered_as_they_decode_it() {
    let world = ApiWorld::new().await;
    let there = Fixture::new(&world).await;
    let address = world.listen_locally().await;
    let linked = &there.linked;
    let fill = |text: &str| {
        [
            ("{json}", JSON.to_owned()),
            ("{charset}", JSON_CHARSET.to_owned()),
            ("{form}", FORM.to_owned()),
            ("{key}", APP_KEY.to_owned()),
            ("{bank}", BANK.to_string()),
            ("{customer}", linked.customer_id()),
            ("{account}", linked.account_id()),
            ("{record}", linked.record_id().to_string()),
            ("{nuban}", linked.nuban()),
            ("{balance}", there.balance.to_string()),
        ]
        .into_iter()
        .fold(text.to_owned(), |text, (name, value)| {
            text.replace(name, &value)
        })
    };
    for ClientRequest {
        library,
        head,
        body,
    } in CLIENT_REQUESTS
    {
        let (head, body) = (fill(head), fill(body));
        let is_get = head.starts_with("GET");
        let length = match is_get {
            true => String::new(),
            false => format!("Content-Length: {}\r\n", body.len()),
        };
        let request =
            format!("{head}\r\nHost: sync.example\r\n{length}Connection: close\r\n\r\n{body}");
        let (status, answer) = send_raw_request(address, &request).await;
        assert_eq!(status, 200, "{library}: {request}\n{answer}");
        let json: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert!(json["data"].is_object(), "{library}: {request}\n{answer}");
        decoders::decode_response(&request_path(&head), &answer);
    }
}

/// What they read of a refusal: a status that is no success, `message`, and the list in `data`.
#[tokio::test]
async fn what_client_libraries_read_of_refusals_is_there() {
    let world = ApiWorld::new().await;
    let address = world.listen_locally().await;
    for (head, body, expected) in [
        (
            "POST /v2/balance/getById HTTP/1.1\r\nAuthorization: Bearer wrong",
            "{}",
            401,
        ),
        (
            "POST /v2/balance/getById HTTP/1.1\r\nAuthorization: Bearer {key}",
            "{}",
            400,
        ),
        (
            "POST /v2/balance/getById HTTP/1.1\r\nAuthorization: Bearer {key}",
            r#"{"id":"000000000000000000000000"}"#,
            404,
        ),
        (
            "POST /v2/identity/getById HTTP/1.1\r\nAuthorization: Bearer {key}",
            "{}",
            501,
        ),
    ] {
        let head = head.replace("{key}", APP_KEY);
        let length = body.len();
        let request = format!(
            "{head}\r\nHost: sync.example\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        let (status, answer) = send_raw_request(address, &request).await;
        assert_eq!(status, expected, "{answer}");
        let json: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(json["status"], "error");
        assert!(
            json["message"].is_string() && json["data"].is_object(),
            "{answer}"
        );
        assert!(json["data"]["message"][0].is_string(), "{answer}");
        assert!(
            json["data"]["method"].is_string() && json["data"]["type"].is_string(),
            "{answer}"
        );
    }
}
