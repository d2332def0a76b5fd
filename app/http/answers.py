"""What answers look like: built from what the engine and the journal say, encoded once.

A field that does not apply is left out, never `null`, but for `nextCursor` and the `id` of a task look-up.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from app.http.times import iso
from app.ledger.entries import Entry, Kind, Notes
from app.ledger.entries import Price as Computed
from app.ledger.replies import Account
from app.ledger.replies import Reservation as Stored
from app.reports import Transaction as Journaled
from app.reports import TransactionPage

Time = Annotated[str, Meta(description="UTC with milliseconds.", extra_json_schema={"format": "date-time"})]

_notes = msgspec.json.Decoder(Notes).decode


class Shown(Struct, rename="camel", gc=False):
    """A part of an answer."""


class Leg(Shown, kw_only=True):
    """How one lot was moved: signed credits."""

    bucket: str
    expires_at: Time | UnsetType = UNSET
    available: int
    held: int


class Sums(Shown, kw_only=True):
    """The account's sums after the transaction."""

    available: int
    held: int


class Price(Shown, kw_only=True):
    """What an amount was computed from: ceil(base + units x price), by that version of the model's price."""

    model_id: str
    version: int
    base: str
    price: str
    units: str


class Transaction(Shown, kw_only=True):
    """One line of the journal. It never changes."""

    id: str
    kind: Kind
    account_id: str
    amount: int
    at: Time
    version: int
    reservation_id: str | UnsetType = UNSET
    task_id: str | UnsetType = UNSET
    resource_id: str | UnsetType = UNSET
    model_id: str | UnsetType = UNSET
    price: Price | UnsetType = UNSET
    refund_of: Annotated[str, Meta(description="The transaction that it gives back.")] | UnsetType = UNSET
    rollover: Annotated[int, Meta(description="What moved along from earlier lots.")] | UnsetType = UNSET
    lapsed: (
        Annotated[int, Meta(description="What lapsed at once, because its lot had lapsed.")] | UnsetType
    ) = UNSET
    late: Annotated[bool, Meta(description="The deadline had passed.")] | UnsetType = UNSET
    shortfall: Annotated[int, Meta(description="What could not be taken.")] | UnsetType = UNSET
    overdraft_limit: int | UnsetType = UNSET
    status: Literal["active", "frozen", "closed"] | UnsetType = UNSET
    low_balance: int | UnsetType = UNSET
    by: str
    reason: str | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET
    legs: list[Leg]
    balance: Sums


class Reservation(Shown, kw_only=True):
    """A hold as it stands now; reserved = captured + released + held, spent = captured + charged."""

    id: str
    account_id: str
    status: Literal["pending", "confirmed", "cancelled"]
    reserved: int
    captured: int
    charged: int
    released: int
    held: int
    expires_at: Time
    created_at: Time
    settled_at: Time | UnsetType = UNSET
    cancel_cause: Literal["requested", "failed", "expired"] | UnsetType = UNSET
    cancel_reason: str | UnsetType = UNSET
    late: bool
    extensions: int
    task_id: str | UnsetType = UNSET
    provider: str | UnsetType = UNSET
    resource_id: str | UnsetType = UNSET
    model_id: str | UnsetType = UNSET
    price: Price | UnsetType = UNSET
    over_capture: Literal["reject", "cap", "charge"]
    on_expired: Literal["reject", "charge"]
    metadata: dict[str, str]


class Lot(Shown, kw_only=True):
    """A bucket's credits of one expiry."""

    bucket: str
    priority: int
    expires_at: Time | UnsetType = UNSET
    available: int
    held: int


class Balance(Shown, kw_only=True):
    """What an account has now; `buckets` in the order in which they are spent."""

    account_id: str
    available: int
    held: int
    version: int
    overdraft_limit: int
    status: Literal["active", "frozen", "closed"]
    buckets: list[Lot]
    reservations: list[Reservation] | UnsetType = UNSET


class TaskFound(Shown, kw_only=True):
    """The reservation of a task, and the resource that it makes."""

    id: str | None
    task_id: str
    reservation_id: str
    account_id: str
    status: Literal["pending", "confirmed", "cancelled"]


class Page(Shown, kw_only=True):
    """Newest first. `version`: the last journaled one of the account that was asked about."""

    data: list[Transaction]
    next_cursor: str | None
    has_more: bool
    version: int | UnsetType = UNSET


class Ready(Shown, kw_only=True):
    """`degraded` names what does not answer."""

    status: Literal["ready", "degraded", "unavailable"]
    degraded: list[str]


class Live(Shown, kw_only=True):
    """The process runs."""

    status: Literal["live"]


def transaction(name: str, entry: Entry, text: str | None) -> Transaction:
    """A transaction by its id, its entry and the text of its notes."""
    built = Transaction(
        id=name,
        kind=entry.kind,
        account_id=entry.account,
        amount=entry.amount,
        at=iso(entry.at_ms),
        version=entry.version,
        by=entry.by,
        legs=[
            Leg(bucket=leg.bucket, expires_at=iso(leg.expires_at_ms), available=leg.available, held=leg.held)
            if leg.expires_at_ms
            else Leg(bucket=leg.bucket, available=leg.available, held=leg.held)
            for leg in entry.legs
        ],
        balance=Sums(available=entry.available, held=entry.held),
    )
    if entry.reservation is not None:
        built.reservation_id = entry.reservation
    if entry.task is not None:
        built.task_id = entry.task
    if entry.model is not None:
        built.model_id = entry.model
    if entry.price is not None:
        built.price = price(entry.price)
    if entry.late:
        built.late = True
    for said in _TOLD.get(entry.kind, ()):
        if (value := getattr(entry, said)) is not None:
            setattr(built, said, value)
    if text is not None:
        notes = _notes(text)
        built.resource_id = UNSET if notes.resource is None else notes.resource
        built.reason = UNSET if notes.reason is None else notes.reason
        built.metadata = UNSET if notes.metadata is None else notes.metadata
    return built


_TOLD = {
    "granted": ("rollover",),
    "refunded": ("refund_of", "lapsed"),
    "adjusted": ("shortfall",),
    "configured": ("overdraft_limit", "status", "low_balance"),
}
"""What only entries of these kinds say, where they do."""


def price(of: Computed) -> Price:
    """What an amount was computed from."""
    return Price(model_id=of.model, version=of.version, base=of.base, price=of.price, units=of.units)


def balance(account_id: str, account: Account) -> Balance:
    """The present balance."""
    return Balance(
        account_id=account_id,
        available=account.available,
        held=account.held,
        version=account.version,
        overdraft_limit=account.overdraft_limit,
        status=account.status,
        buckets=[
            Lot(
                bucket=lot.bucket,
                priority=lot.priority,
                expires_at=iso(lot.expires_at_ms) if lot.expires_at_ms else UNSET,
                available=lot.available,
                held=lot.held,
            )
            for lot in account.lots
        ],
    )


def reservation(stored: Stored) -> Reservation:
    """The present reservation. Its metadata by name: Redis keeps no order of them."""
    return Reservation(
        id=stored.id,
        account_id=stored.account,
        status=stored.status,
        reserved=stored.reserved,
        captured=stored.captured,
        charged=stored.charged,
        released=stored.released,
        held=stored.held,
        expires_at=iso(stored.expires_at_ms),
        created_at=iso(stored.created_at_ms),
        settled_at=UNSET if stored.settled_at_ms is None else iso(stored.settled_at_ms),
        cancel_cause=UNSET if stored.cancel_cause is None else stored.cancel_cause,
        cancel_reason=UNSET if stored.cancel_reason is None else stored.cancel_reason,
        late=stored.late,
        extensions=stored.extensions,
        task_id=UNSET if stored.task is None else stored.task,
        provider=UNSET if stored.provider is None else stored.provider,
        resource_id=UNSET if stored.resource is None else stored.resource,
        model_id=UNSET if stored.model is None else stored.model,
        price=UNSET if stored.price is None else price(stored.price),
        over_capture=stored.over_capture,
        on_expired=stored.on_expired,
        metadata=dict(sorted(stored.metadata.items())) if stored.metadata else {},
    )


def task_found(task: str, stored: Stored) -> TaskFound:
    """Which reservation a task belongs to."""
    return TaskFound(
        id=stored.resource,
        task_id=task,
        reservation_id=stored.id,
        account_id=stored.account,
        status=stored.status,
    )


def journaled(row: Journaled) -> Transaction:
    """A transaction as the journal has it."""
    return transaction(str(row.id), row.entry, row.notes)


def page(found: TransactionPage) -> Page:
    """A page of the journal."""
    return Page(
        data=[journaled(row) for row in found.data],
        next_cursor=found.next_cursor,
        has_more=found.has_more,
        version=UNSET if found.version is None else found.version,
    )
