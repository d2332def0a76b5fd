"""How senders prove who they are: one scheme for each way of signing, over the raw bytes.

A scheme reads its secrets itself: one text may be the key to one and the wrong key to another, and nothing is
guessed from how a secret begins. All that is wrong with a delivery is `Unverified`.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from app.webhooks.event import Delivery, Unverified

TOLERANCE_SECONDS = 300
KEY_BYTES_MIN = 16
SIGNATURES_MAX = 16
"""In one header: by as many keys as anybody changes at once."""

_TIMESTAMP_DIGITS_MAX = 12
_PREFIX = "whsec_"


class Scheme(NamedTuple):
    """One way of signing.

    Args:
        key: The key that a secret means. Raises `ValueError`, which does not show it, where it means none.
        verify: Of a delivery, all keys that count, and the Unix time. Raises `Unverified`.
        sign: The headers of a body, by a key, the Unix time and the id of the message.
        is_timed: Whether a time is signed, so that an old delivery proves nothing any more.
    """

    key: Callable[[str], bytes]
    verify: Callable[[Delivery, Sequence[bytes], float], None]
    sign: Callable[[bytes, bytes, float, str], dict[str, str]]
    is_timed: bool


def as_text(secret: str) -> bytes:
    """The key of senders that take the secret as it stands, whatever it begins with."""
    if not secret.strip():
        raise ValueError("is empty")
    return secret.encode()


def as_base64(secret: str) -> bytes:
    """The key of Standard Webhooks: base64, behind `whsec_` or alone."""
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < KEY_BYTES_MIN:
        raise ValueError(f"should be {_PREFIX} and base64 of {KEY_BYTES_MIN} bytes or more")
    return key


def demand_fresh(timestamp: str, now: float) -> None:
    """Raises `Unverified` for what is no Unix time in digits, or further than 300 s from now."""
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _TIMESTAMP_DIGITS_MAX):
        raise Unverified("the timestamp is no Unix time in digits")
    age = now - int(timestamp)
    if abs(age) > TOLERANCE_SECONDS:
        raise Unverified("signed too long ago" if age > 0 else "signed in the future, by the clock here")


def _demand_one(right: Iterable[bytes], given: Sequence[bytes]) -> None:
    """Raises `Unverified` unless one of those given is one of those that are right."""
    if len(given) > SIGNATURES_MAX:
        raise Unverified(f"there are more than {SIGNATURES_MAX} signatures")
    if not any(hmac.compare_digest(one, other) for one in right for other in given):
        raise Unverified("the signature is of another body, another time or another secret")


def _sha256(key: bytes, message: bytes) -> "hmac.HMAC":
    return hmac.new(key, message, hashlib.sha256)


def _standard() -> Scheme:
    def signature(key: bytes, identity: str, timestamp: str, body: bytes) -> bytes:
        message = b"%b.%b.%b" % (identity.encode(), timestamp.encode(), body)
        return b"v1," + base64.b64encode(_sha256(key, message).digest())

    def verify(delivery: Delivery, keys: Sequence[bytes], now: float) -> None:
        identity, timestamp = delivery.header("webhook-id"), delivery.header("webhook-timestamp")
        listed = delivery.header("webhook-signature").encode().split(b" ")
        demand_fresh(timestamp, now)
        _demand_one([signature(key, identity, timestamp, delivery.body) for key in keys], listed)

    def sign(body: bytes, key: bytes, now: float, identity: str) -> dict[str, str]:
        timestamp = str(int(now))
        return {
            "webhook-id": identity,
            "webhook-timestamp": timestamp,
            "webhook-signature": signature(key, identity, timestamp, body).decode(),
        }

    return Scheme(as_base64, verify, sign, is_timed=True)


STANDARD = _standard()
"""Standard Webhooks: `id.timestamp.body`, several signatures with a space between."""


def stamped(name: str) -> Scheme:
    """`t=<timestamp>,v1=<hex>` in one header `name`, over `timestamp.body`; `v1` may come several times."""

    def signature(key: bytes, timestamp: str, body: bytes) -> bytes:
        return _sha256(key, timestamp.encode() + b"." + body).hexdigest().encode()

    def verify(delivery: Delivery, keys: Sequence[bytes], now: float) -> None:
        parts = [part.partition("=") for part in delivery.header(name).split(",")]
        timestamps = [value for word, _, value in parts if word.strip() == "t"]
        if len(timestamps) != 1:
            raise Unverified(f"the header {name} should have t= once")
        demand_fresh(timestamps[0], now)
        given = [value.encode() for word, _, value in parts if word.strip() == "v1"]
        _demand_one([signature(key, timestamps[0], delivery.body) for key in keys], given)

    def sign(body: bytes, key: bytes, now: float, identity: str) -> dict[str, str]:  # noqa: ARG001 - no id here
        timestamp = str(int(now))
        return {name: f"t={timestamp},v1={signature(key, timestamp, body).decode()}"}

    return Scheme(as_text, verify, sign, is_timed=True)


def of_body(*names: str, before: str = "") -> Scheme:
    """Hex behind `before`, over the body alone, in the first of these headers that is there.

    Nothing here is fresh: whoever reads such deliveries must know what was there before.
    """

    def signature(key: bytes, body: bytes) -> str:
        return before + _sha256(key, body).hexdigest()

    def verify(delivery: Delivery, keys: Sequence[bytes], now: float) -> None:  # noqa: ARG001 - no time is signed
        there = next((name for name in names if name in delivery.headers), names[0])
        given = delivery.header(there).encode()
        _demand_one([signature(key, delivery.body).encode() for key in keys], [given])

    def sign(body: bytes, key: bytes, now: float, identity: str) -> dict[str, str]:  # noqa: ARG001
        return {names[0]: signature(key, body)}

    return Scheme(as_text, verify, sign, is_timed=False)


def _unsigned() -> Scheme:
    def key(secret: str) -> bytes:  # noqa: ARG001 - there is none
        raise ValueError("signs nothing: only `callback` can be set")

    def verify(delivery: Delivery, keys: Sequence[bytes], now: float) -> None:  # noqa: ARG001
        raise Unverified("it signs nothing, only a callback URL proves it")

    def sign(body: bytes, key: bytes, now: float, identity: str) -> dict[str, str]:  # noqa: ARG001
        return {}

    return Scheme(key, verify, sign, is_timed=False)


UNSIGNED = _unsigned()
"""Of those who prove nothing: only the token of a callback URL does."""
