"""fal's requests, and its own way of signing: Ed25519 by keys that it publishes."""

import base64
import binascii
import hashlib
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from app.webhooks import payload
from app.webhooks.event import Delivery, Event, Outcome, Unreadable, Unverified
from app.webhooks.schemes import Scheme, demand_fresh

_WORDS: dict[str, Outcome] = {"OK": "succeeded", "ERROR": "failed"}
_REQUEST = "x-fal-webhook-request-id"
_USER = "x-fal-webhook-user-id"
_TIMESTAMP = "x-fal-webhook-timestamp"
_SIGNATURE = "x-fal-webhook-signature"
_KEY_BYTES = 32


def _key(x: str) -> bytes:
    """A key of a JWKS (RFC 8037): base64url without its padding, which Python's decoder wants."""
    try:
        key = base64.b64decode(x + "=" * (-len(x) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise ValueError(f"should be a key of {_KEY_BYTES} bytes, base64url")
    return key


def _message(request: str, user: str, timestamp: str, body: bytes) -> bytes:
    return "\n".join((request, user, timestamp, hashlib.sha256(body).hexdigest())).encode()


def _verify(delivery: Delivery, keys: Sequence[bytes], now: float) -> None:
    request, user, timestamp, signature = map(delivery.header, (_REQUEST, _USER, _TIMESTAMP, _SIGNATURE))
    demand_fresh(timestamp, now)
    try:
        given = bytes.fromhex(signature)
    except ValueError:
        raise Unverified(f"the header {_SIGNATURE} is not in hex") from None
    message = _message(request, user, timestamp, delivery.body)
    for key in keys:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(given, message)
        except InvalidSignature:
            continue
        return
    raise Unverified("the signature is of another body, another time or another key")


def _sign(body: bytes, key: bytes, now: float, identity: str) -> dict[str, str]:
    timestamp, user = str(int(now)), "lastro"
    message = _message(identity, user, timestamp, body)
    signature = Ed25519PrivateKey.from_private_bytes(key).sign(message)
    return {_REQUEST: identity, _USER: user, _TIMESTAMP: timestamp, _SIGNATURE: signature.hex()}


ED25519 = Scheme(_key, _verify, _sign, is_timed=True)


def read(delivery: Delivery) -> Event:
    """A request. `OK` is a success also where the result was too much to send (`payload` null).

    Its `request_id` is the queue's; `gateway_request_id` is another one at every attempt of fal's own.
    """
    body = payload.decoded(delivery.body)
    outcome, word = payload.ending(body, _WORDS, "status")
    request = payload.identity(body, "request_id")
    if delivery.headers.get(_REQUEST) != request:
        raise Unreadable(f"`request_id` should be the one that the header {_REQUEST} names")
    return Event(
        provider="fal",
        task=request,
        outcome=outcome,
        status=word,
        reason=payload.reason(outcome, body.get("error"), body.get("payload_error")),
        payload=body,
    )
