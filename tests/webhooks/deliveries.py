"""Deliveries as the senders make them, and the vectors that they or their libraries publish."""

import base64
from pathlib import Path
from typing import NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.webhooks.event import Delivery, Outcome, Unverified
from app.webhooks.providers import PROVIDERS, Provider
from app.webhooks.simulated import Told, body
from app.webhooks.stripe import STRIPE

NOW = 1_781_080_794
TASK = "9fb1c7a0-task"
RESERVATION = "01a1ffa5-4956-7003-abd8-99c175348713"
SENDERS: dict[str, Provider] = {**PROVIDERS, "stripe": STRIPE}
SIGNING = [name for name in SENDERS if name != "luma"]
TIMED = ["replicate", "kling", "generic", "sync", "stripe", "fal"]
"""Those who sign a time."""

FAL_PRIVATE, FAL_PUBLIC = (
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
    "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg",
)
SECRETS = {
    "replicate": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "kling": "whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI=",
    "generic": "9b1f3a56c0de5ec2e7f1aa0b4c5d6e7f9b1f3a56c0de5ec2e7f1aa0b4c5d6e7f",
    "sync": "sync-secret",
    "stripe": "whsec_test_secret",
    "bfl": "your-secret-key-here",
    "heygen": "whsec_test_only",
    "fal": FAL_PUBLIC,
}
OTHERS = {name: "whsec_" + base64.b64encode(name.encode() * 4).decode() for name in SECRETS} | {
    "fal": base64.urlsafe_b64encode(
        Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()
    ).decode()
}
"""Well-formed secrets that signed nothing here."""


class Vector(NamedTuple):
    """A delivery that is known to be right, and when it was."""

    name: str
    headers: dict[str, str]
    body: bytes
    secret: str
    at: int


def vectors() -> list[Vector]:
    found = []
    for each in msgspec.json.decode(Path(__file__).with_name("vectors.json").read_bytes()):
        name = each["name"].rpartition("/")[2]
        secret = each["secret"]["jwk"]["x"] if name == "fal" else each["secret"]
        at = int(each["headers"].get("webhook-timestamp", 1_614_265_330))
        found.append(Vector(name, each["headers"], each["body"].encode(), secret, at))
    return found


def told(outcome: Outcome = "succeeded", **more: object) -> Told:
    return msgspec.structs.replace(Told(outcome=outcome, task=TASK, at=NOW), **more)


def made(
    name: str, outcome: Outcome = "succeeded", *, at: float = NOW, secret: str | None = None
) -> Delivery:
    """What the sender would send, signed at this time."""
    more = {"amount": 500, "account": "alice"} if name == "stripe" else {}
    return signed(name, body(name, told(outcome, **more)), at=at, secret=secret)


def signed(name: str, of: bytes, *, at: float = NOW, secret: str | None = None) -> Delivery:
    if name == "luma":
        return Delivery({}, of)
    by = secret or (FAL_PRIVATE if name == "fal" else SECRETS[name])
    return Delivery(SENDERS[name].sign(of, by, at, TASK), of)


def sent(of: object) -> Delivery:
    """An unsigned one, for what is read after the proof."""
    return Delivery({}, msgspec.json.encode(of))


def is_proven(name: str, delivery: Delivery, secret: str, now: float) -> bool:
    """Whether the sender's proof holds; what does not hold has failed, and the check has not."""
    try:
        SENDERS[name].verify(delivery, [secret], now)
    except Unverified as why:
        fault = why.__cause__
    else:
        return True
    assert fault is None
    return False
