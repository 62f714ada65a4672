//! Our client's credentials at a bank: how the client proves itself at the token endpoint, and what the vault
//! seals its secret for.

use okra_core::model::{
    bank::{ClientAuth, OAuthClient},
    ids::BankId,
};
use reqwest::RequestBuilder;
use url::form_urlencoded;

/// The form of a token request, while it is built.
pub(super) type TokenForm = form_urlencoded::Serializer<'static, String>;

/// True where the client proves itself with a secret.
pub fn requires_secret(client: &OAuthClient) -> bool {
    client.client_auth != ClientAuth::None
}

/// The owner that the vault seals a bank's client secret for. Consents are sealed for the bare ids of their
/// records, so a consent can never be taken for a client secret.
pub fn client_secret_owner(bank: BankId) -> [u8; 19] {
    let mut owner = *b"client:____________";
    owner[7..].copy_from_slice(bank.as_bytes());
    owner
}

/// Adds to a token request what proves the client.
pub(super) fn authenticate_client(
    request: RequestBuilder,
    form: &mut TokenForm,
    client: &OAuthClient,
    client_secret: &str,
) -> RequestBuilder {
    match client.client_auth {
        ClientAuth::ClientSecretBasic => {
            // RFC 6749, 2.3.1: both are form-encoded before they are joined.
            let id = form_encode(&client.client_id);
            return request.basic_auth(id, Some(form_encode(client_secret)));
        }
        ClientAuth::ClientSecretPost => {
            form.append_pair("client_id", &client.client_id)
                .append_pair("client_secret", client_secret);
        }
        ClientAuth::None => {
            form.append_pair("client_id", &client.client_id);
        }
    }
    request
}

fn form_encode(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_of_client_secrets_differ_from_those_of_consents() {
        let (one, two) = (BankId::from_bytes([1; 12]), BankId::from_bytes([2; 12]));
        assert_ne!(client_secret_owner(one), client_secret_owner(two));
        assert_ne!(&client_secret_owner(one)[..], one.as_bytes());
    }
}
