"""Verifies captured requests with the libraries that receivers use, and refuses each of them once it was changed.

Argument: a file with a JSON list of {profile, method, url, headers, body (base64), secret, publicKeys, keyId}.
"""

import base64
import json
import sys
from types import SimpleNamespace

import standardwebhooks
import stripe
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cryptography.exceptions import InvalidSignature as BadSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from http_message_signatures import HTTPMessageVerifier, InvalidSignature, MappingKeyResolver, algorithms


def raw_public(request):
    return base64.b64decode(request["publicKeys"][0].removeprefix("whpk_"))


def standard(request, body):
    standardwebhooks.Webhook(request["secret"]).verify(body, request["headers"], json_parse=False)


def standard_ed25519(request, body):
    headers = request["headers"]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    public = Ed25519PublicKey.from_public_bytes(raw_public(request))
    found = [s for s in headers["webhook-signature"].split(" ") if s.startswith("v1a,")]
    assert found, headers
    for signature in found:
        public.verify(base64.b64decode(signature.removeprefix("v1a,")), signed)


def of_stripe(request, body):
    stripe.WebhookSignature.verify_header(body, request["headers"]["stripe-signature"], request["secret"], tolerance=300)


def http_message(request, body):
    is_ed25519 = 'alg="ed25519"' in request["headers"]["signature-input"]
    secret = base64.b64decode(request["secret"].removeprefix("whsec_"))
    key = Ed25519PublicKey.from_public_bytes(raw_public(request)) if is_ed25519 else secret
    verifier = HTTPMessageVerifier(
        signature_algorithm=algorithms.ED25519 if is_ed25519 else algorithms.HMAC_SHA256,
        key_resolver=MappingKeyResolver(public_keys={request["keyId"]: key}, private_keys={}),
    )
    message = SimpleNamespace(method=request["method"], url=request["url"], headers=dict(request["headers"]))
    verifier.verify(
        message,
        expect_tag="webhook",
        body=body,
        require_components=("@method", "@target-uri", "content-digest", "content-type", "webhook-id", "webhook-timestamp"),
    )


def cloudevent(request, body):
    event = from_http_event(HTTPMessage(headers=request["headers"], body=body))
    found = {
        "id": event.get_id(),
        "source": event.get_source(),
        "type": event.get_type(),
        "subject": event.get_subject(),
        "time": event.get_time().isoformat(),
        "extension": event.get_extension("tenantregion"),
        "data": event.get_data(),
    }
    assert found == request["expected"], found


CHECKS = {
    "standard": standard,
    "standard_ed25519": standard_ed25519,
    "stripe": of_stripe,
    "http_message": http_message,
}
REFUSALS = (
    standardwebhooks.WebhookVerificationError,
    stripe.SignatureVerificationError,
    BadSignature,
    InvalidSignature,
)


def main():
    verified = 0
    for request in json.load(open(sys.argv[1], encoding="utf-8")):
        body = base64.b64decode(request["body"])
        if request["profile"] == "cloudevents":
            cloudevent(request, body)
        elif request["profile"] in CHECKS:
            check = CHECKS[request["profile"]]
            check(request, body)
            try:
                check(request, body + b" ")
            except REFUSALS:
                pass
            else:
                raise AssertionError(f"{request['profile']}: a changed body was not refused")
        else:
            continue
        verified += 1
    print(f"verified {verified}")


main()
