"""What the script answers. `accounts` and `reservations` are the very texts that Redis stores."""

from typing import Literal

import msgspec
from msgspec import Struct

from app.ledger.entries import Entry, Price


class Lot(Struct, frozen=True, gc=False, array_like=True):
    """A bucket's credits of one expiry. `expires_at_ms` 0 means never; `since` is the account's version when
    the lot last began to hold something: among equals the older is spent first.
    """

    bucket: str
    priority: int
    expires_at_ms: int
    available: int
    held: int
    since: int


class Account(Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, rename={"format": "v"}):
    """The balance of an account as Redis stores it. `available` and `held` are the sums of its lots.

    `open_holds` counts pending reservations; `lapses_at_ms` is the soonest expiry of a lot that has something
    available (0: none), which is its score in `due`; `fence` says why this account alone is refused. Debt is
    a lot of the bucket `overdraft`, below zero and never below the limit. `low_balance`: whoever watches is
    told when less is available (0: never).
    """

    format: int
    version: int
    available: int
    held: int
    lots: list[Lot]
    open_holds: int = 0
    lapses_at_ms: int = 0
    overdraft_limit: int = 0
    status: Literal["active", "frozen", "closed"] = "active"
    low_balance: int = 0
    fence: str | None = None


class HeldLeg(Struct, frozen=True, gc=False, array_like=True):
    """What a reservation still holds of one lot, in the order in which a confirm takes it."""

    bucket: str
    expires_at_ms: int
    held: int


class Part(Struct, frozen=True, gc=False, array_like=True):
    """A confirm that captured a part and left the rest held: its entry, and the key under which it came."""

    sequence: int
    key: str
    fingerprint: str


class Reservation(Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, rename={"format": "v"}):
    """A hold with a deadline, as Redis stores it. reserved = captured + released + held, and what was spent
    is captured + charged.

    `reserved_sequence`, `bound_sequence` and `ended_sequence` name the entries (in this shard) that made,
    bound and ended it, so that a repeated request gets the first answer. `notes` are the notes of the
    reserved entry.

    The order is that of `lua/parts/reservations.lua`: an ending writes anew what stands before `id`, and
    keeps the rest of the text as it is.
    """

    format: int
    status: Literal["pending", "confirmed", "cancelled"]
    reserved: int
    captured: int = 0
    charged: int = 0
    released: int = 0
    held: int = 0
    legs: list[HeldLeg] = []
    expires_at_ms: int
    created_at_ms: int
    reserved_sequence: int
    bound_sequence: int | None = None
    ended_sequence: int | None = None
    settled_at_ms: int | None = None
    cancel_cause: Literal["requested", "failed", "expired"] | None = None
    cancel_reason: str | None = None
    late: bool = False
    extensions: int = 0
    parts: list[Part] = []
    id: str
    account: str
    task: str | None = None
    provider: str | None = None
    model: str | None = None
    resource: str | None = None
    metadata: dict[str, str] | None = None
    over_capture: Literal["reject", "cap", "charge"] = "reject"
    on_expired: Literal["reject", "charge"] = "reject"
    price: Price | None = None


class Applied(Struct, frozen=True, gc=False, array_like=True, tag="ok"):
    """An operation that was applied now, replayed, or read.

    `account` and `reservation` index the reply's lists (-1: none). `entry` is `None` for reads, and for a
    replay whose entry has left the stream: then `sequence` says where the journal has it. `notes` is the
    exact text.
    """

    sequence: int
    entry: Entry | None
    account: int
    reservation: int
    replayed: bool
    notes: str | None = None
    open: list[int] | None = None


class Located(Struct, frozen=True, array_like=True, tag="located"):
    """Which reservation a task belongs to."""

    reservation: str


class Declined(Struct, frozen=True, gc=False, array_like=True, tag="no"):
    """An operation that was refused, with the facts of the refusal (integers, or short words)."""

    word: str
    facts: dict[str, int | str]
    replayed: bool = False


class Reply(Struct, frozen=True, array_like=True):
    """What one call answers. When `status` is not `ok`, nothing ran and the lists are empty.

    `not_admitted`: this process' terms are not this server's (why is in `detail`). `stale`: a call with a
    higher number of this lane has run. `too_late`: the call's deadline has passed on Redis' clock.
    """

    status: Literal["ok", "not_admitted", "stale", "too_late"]
    now_ms: int
    detail: str
    results: list[Applied | Located | Declined]
    accounts: list[Account]
    reservations: list[Reservation]


decode = msgspec.json.Decoder(Reply).decode
