//! Standard Webhooks signatures, verified by a second implementation: what signs is not asked whether it is right.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hookstream_testkit::receiver::Arrived;
use sha2::Sha256;

/// Whether one of the request's signatures is that of `secret` (`whsec_…`).
#[must_use]
pub fn is_valid(request: &Arrived, secret: &str) -> bool {
    let header = |name| request.header(name);
    let (Some(id), Some(timestamp), Some(signatures)) =
        (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"))
    else {
        return false;
    };
    let expected = v1(secret, id, timestamp, &request.body);
    signatures.split(' ').any(|signature| signature == expected)
}

/// `v1,<base64 of HMAC-SHA256(secret, "id.timestamp.body")>`
///
/// # Panics
/// If `secret` is not `whsec_` and base64.
#[must_use]
pub fn v1(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> String {
    let key = secret.strip_prefix("whsec_").expect("a secret begins with `whsec_`");
    let key = STANDARD.decode(key).expect("a secret is base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    /// The vector of the Standard Webhooks specification.
    #[test]
    fn standard_vector() {
        let signature = super::v1(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
