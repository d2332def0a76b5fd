"""One line of the journal, as the script writes it and everybody else reads it.

An entry is a JSON object with names, so that `redis-cli XRANGE` and `psql` show it to people, and so that a
later release can add a field without a new format. The exact text that Redis wrote is what the hash chain
covers. Personal text (reason, metadata, resource id) is not in it: that stands in the notes beside it, of
which the entry carries only the salted hash.

Structs that are made by the thousand and are in no circle of references are not the garbage collector's
business (`gc=False`).
"""

import hashlib
import os
from typing import Literal

import msgspec
from msgspec import Struct

FORMAT = 1

Kind = Literal[
    "granted", "deducted", "reserved", "confirmed", "cancelled", "expired", "extended", "refunded",
    "lapsed", "adjusted", "bound", "configured", "repaired",
]  # fmt: skip


class Leg(Struct, frozen=True, gc=False, array_like=True):
    """How an entry moved one lot. Signed credits; `expires_at_ms` 0 means never."""

    bucket: str
    expires_at_ms: int
    available: int
    held: int


class Stands(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A reservation as it stands after an entry that adopted it, because the entries that led there are
    lost.
    """

    status: Literal["pending", "confirmed", "cancelled"]
    reserved: int
    captured: int = 0
    charged: int = 0
    released: int = 0
    held: int = 0
    deadline_ms: int
    created_at_ms: int
    reserved_sequence: int
    bound_sequence: int | None = None
    ended_sequence: int | None = None
    settled_at_ms: int | None = None
    cause: Literal["requested", "failed", "expired"] | None = None
    late: bool = False
    extensions: int = 0
    parts: list[tuple[int, str, str]] = []


class Price(Struct, frozen=True, gc=False, kw_only=True):
    """What an amount was computed from: ceil(base + units x price), by that version of the model's row in the
    rate card. `base`, `price` and `units` are decimal numbers in their shortest form.
    """

    model: str
    version: int
    base: str
    price: str
    units: str


class Entry(Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, rename={"format": "v"}):
    """What happened to one account. `available` and `held` are the account's sums after it.

    `amount` is what was granted, deducted, refunded, adjusted (signed) or lapsed; what a reservation took
    (reserved), what a confirm spent, captured and charged (confirmed), what was given back (cancelled,
    expired); 0 where no credits move (bound, extended, configured, repaired).
    `previous_nonce` stands in the first entry of each call only: with it the calls of a shard form a chain.

    By kind: granted has `bucket`, `priority`, and in `rollover` what moved along from lots that expire
    earlier. reserved has `deadline_ms`, and where they are not the default `over_capture` and `on_expired`;
    extended has the new `deadline_ms`. confirmed has `captured`, `charged` and `released`; it ended the
    reservation if nothing is held afterwards, and `late` says that the deadline had passed. refunded has
    `refund_of` (a transaction id), and in `lapsed` how much of it lapses at once because its lot has.
    adjusted has in `shortfall` what could not be taken. configured has the settings that it changed.

    `adopted` stands in an entry that took the place of one that PostgreSQL has lost: the first and the last
    sequence that were lost with it. `stands` is what its reservation is then (its policies and its price are
    the entry's), `refunded` how much had been given back of `refund_of`, `lots` all lots of the account as a
    row of bucket, priority, expiry, available, held, since.
    """

    format: int
    kind: Kind
    at_ms: int
    account: str
    version: int
    amount: int
    available: int
    held: int
    legs: list[Leg]
    incarnation: int
    nonce: str
    previous_nonce: str | None = None
    by: str = "system"
    key: str | None = None
    fingerprint: str | None = None
    reservation: str | None = None
    task: str | None = None
    provider: str | None = None
    model: str | None = None
    bucket: str | None = None
    priority: int | None = None
    deadline_ms: int | None = None
    captured: int | None = None
    charged: int | None = None
    released: int | None = None
    cause: str | None = None
    late: bool = False
    over_capture: Literal["cap", "charge"] | None = None
    on_expired: Literal["charge"] | None = None
    price: Price | None = None
    rollover: int | None = None
    refund_of: str | None = None
    lapsed: int | None = None
    shortfall: int | None = None
    overdraft_limit: int | None = None
    status: Literal["active", "frozen", "closed"] | None = None
    low_balance: int | None = None
    notes: str | None = None
    adopted: tuple[int, int] | None = None
    stands: Stands | None = None
    refunded: int | None = None
    lots: list[tuple[str, int, int, int, int, int]] | None = None


class Notes(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Personal text beside an entry, erasable without breaking the chain.

    `salt` is 32 hex digits; the entry's `notes` is the SHA-256 of the exact text of this object.
    """

    salt: str
    reason: str | None = None
    resource: str | None = None
    metadata: dict[str, str] | None = None


class Sealed(Struct, frozen=True):
    """Notes ready to travel: their exact text and its hash (64 hex digits)."""

    text: str
    hash: str


def seal(
    reason: str | None = None, resource: str | None = None, metadata: dict[str, str] | None = None
) -> Sealed | None:
    """The notes as one text and its salted hash, or `None` when there is nothing to note."""
    if reason is None and resource is None and not metadata:
        return None
    notes = Notes(salt=os.urandom(16).hex(), reason=reason, resource=resource, metadata=metadata or None)
    text = msgspec.json.encode(notes)
    return Sealed(text.decode(), hashlib.sha256(text).hexdigest())


def genesis(ledger_id: bytes, shard: int) -> bytes:
    """The chain head before the first entry of a shard (32 bytes). Args: 16 bytes, 0 .. 4095."""
    return hashlib.sha256(b"lastro" + ledger_id + shard.to_bytes(2, "big")).digest()


def chained(head: bytes, shard: int, sequence: int, entry: bytes) -> bytes:
    """The chain head after `entry`: sha256 of head, shard (2 bytes), sequence (8), entry; big-endian."""
    return hashlib.sha256(head + shard.to_bytes(2, "big") + sequence.to_bytes(8, "big") + entry).digest()
