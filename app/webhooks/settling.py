"""What an ending that a provider tells means for the credits: a confirm, a cancel, or nothing.

The same for what came in at the door, what is tried again later, and what was asked for. Knows nothing of how
it was told, and may be repeated as often as one likes: an ending is the reservation's, for ever.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from app.ledger import confirming
from app.ledger.credits import CREDITS_MAX
from app.ledger.entries import seal
from app.ledger.errors import (
    LedgerError,
    LedgerUnavailable,
    Refused,
    ReservationCancelled,
    ReservationConfirmed,
    ReservationExpired,
    ReservationNotFound,
)
from app.ledger.ledger import Ledger
from app.ledger.operations import Cancel, Confirm
from app.ledger.receipts import Receipt
from app.rates import computed
from app.webhooks.event import Event
from app.webhooks.units import units_at

OURS = "·"
"""In keys that we make. No Idempotency-Key of a request may have it, so that nobody who may spend from the
account uses such a key up before, and what it is for cannot be done.
"""

Status = Literal["verified", "late", "waiting", "conflict", "refused"]


class Settlement(Struct, frozen=True, kw_only=True):
    """What came of it.

    Args:
        status: `verified`: done, or as it was already; `late`: confirmed after the deadline; `waiting`: no
            such reservation yet; `conflict`: it contradicts an ending, or itself, and nothing moved;
            `refused`: the ledger said no, and nothing moved.
        why: In words, where there is something to say.
        reservation: Which one, as far as that is known; likewise its account and the caller's resource.
        transaction: What was done, now or the first time.
        credits: How many it moved.
    """

    status: Status
    why: str | None = None
    reservation: str | None = None
    account: str | None = None
    resource: str | None = None
    transaction: str | None = None
    credits: int | None = None


class _Contradiction(Exception):
    """It names several reservations, or one that is none of this provider's."""


async def settle(
    ledger: Ledger, units: Mapping[str, str], event: Event, *, reservation: str | None = None
) -> Settlement:
    """Confirm on success, cancel on failure, nothing on progress.

    Args:
        ledger: Where.
        units: By provider, where its payload says how many units were used (`configured.read_units`).
        event: What the provider says.
        reservation: The one whose callback URL was called, or that was asked about. Without it the event's
            own, else that of the provider's task, else that of the task without a provider.

    Raises:
        Unavailable: Nothing can be told or done now; repeating is safe.
    """
    if event.outcome == "progress":
        return Settlement(status="verified", reservation=reservation)
    named = reservation
    try:
        named = await _named(ledger, event, reservation)
        receipt = await _asked(ledger, units, event, named)
    except _Contradiction as error:
        return Settlement(status="conflict", why=str(error), reservation=reservation)
    except ReservationNotFound as error:
        if named is None and event.outcome == "succeeded":  # of one that has a name the ledger was asked
            looked_for = {"task": event.task, "provider": event.provider}
            confirming.not_found(looked_for, error, f"webhook:{event.provider}")
        return Settlement(status="waiting", why="no reservation of this task is known", reservation=named)
    except Refused as error:
        return await _refused(ledger, event, named, error)
    return _settled(event, receipt)


async def _named(ledger: Ledger, event: Event, path: str | None) -> str:
    """The one reservation that is meant.

    Raises:
        ReservationNotFound: None is known.
    """
    own = event.reservation
    if own is not None and own != path and event.task is not None and not await _has(ledger, event, own):
        own = None  # the caller's own name for the work, which looks like an id of ours
    if path is not None and own is not None and own != path:
        raise _Contradiction(f"the callback URL is of {path}, the payload names {own}")
    named = path or own
    found = await _located(ledger, event)
    if isinstance(found, str):
        if named is not None and found != named:
            raise _Contradiction(f"task {event.task} belongs to {found}, and this names {named}")
        return found
    if named is None:
        raise found
    return named  # whether the task is another's cannot be told, or it is nobody's


async def _has(ledger: Ledger, event: Event, own: str) -> bool:
    """Whether there is such a reservation, for the provider to speak of.

    Raises:
        _Contradiction: Its work is done by another provider.
    """
    try:
        found = await ledger.find(own)
    except (ReservationNotFound, LedgerUnavailable):  # what the rest names may be known all the same
        return False
    if found.provider not in (None, event.provider):
        raise _Contradiction(f"{own} is done by {found.provider}")
    return True


async def _located(ledger: Ledger, event: Event) -> str | LedgerError:
    """The reservation of the task, under its provider or else without one; or why there is none.

    What Redis knows counts, even if only PostgreSQL could tell of the other name.
    """
    if event.task is None:
        return ReservationNotFound()
    found = await ledger.locate_all([(event.provider, event.task), (None, event.task)])
    known = [each for each in found if isinstance(each, str)]
    unsure = [each for each in found if not isinstance(each, str | ReservationNotFound)]
    return (known or unsure or [ReservationNotFound()])[0]


async def _asked(ledger: Ledger, units: Mapping[str, str], event: Event, reservation: str) -> Receipt:
    by = f"webhook:{event.provider}"
    if event.outcome == "succeeded":
        amount = await _amount(ledger, units, event, reservation)
        return await ledger.confirm(Confirm(reservation=reservation, amount=amount, by=by))
    notes = seal(event.reason)
    return await ledger.cancel(
        Cancel(
            reservation=reservation,
            cause="failed",
            reason=event.reason,
            notes=notes.text if notes else None,
            notes_hash=notes.hash if notes else None,
            by=by,
        )
    )


async def _amount(ledger: Ledger, units: Mapping[str, str], event: Event, reservation: str) -> int | None:
    """What the work has cost, where it is told: units by the price that the reservation has frozen, or an
    amount. `None`: all that is held.
    """
    pointer = units.get(event.provider)
    used = None if pointer is None else units_at(event.payload, pointer)
    if used is not None:
        price = (await ledger.find(reservation)).price
        if price is not None:
            return min(CREDITS_MAX, computed(price.base, price.price, used))
    return event.amount


def _settled(event: Event, receipt: Receipt) -> Settlement:
    entry, reservation = receipt.entry, receipt.reservation
    assert reservation is not None, "the engine answers these verbs with a reservation"
    why = None
    if receipt.replayed and entry.by != f"webhook:{event.provider}":
        why = f"it was {entry.kind} already by {entry.by}: {entry.amount} credits"
    return Settlement(
        status="late" if entry.late else "verified",
        why=why,
        reservation=reservation.id,
        account=reservation.account,
        resource=reservation.resource,
        transaction=str(receipt.transaction),
        credits=entry.amount,
    )


async def _refused(ledger: Ledger, event: Event, named: str | None, error: Refused) -> Settlement:
    assert named is not None, "nothing is refused of what is not named"
    found = await ledger.find(named)
    over = isinstance(error, ReservationExpired) and event.outcome == "failed"  # the credits are back anyway
    against = isinstance(error, ReservationCancelled | ReservationConfirmed)
    return Settlement(
        status="verified" if over else "conflict" if against else "refused",
        why=worded(error),
        reservation=found.id,
        account=found.account,
        resource=found.resource,
    )


def worded(error: Refused) -> str:
    """Why the ledger said no, for people who look into the inbox."""
    facts = ", ".join(f"{name} {fact}" for name, fact in error.facts.items() if not name.endswith("_ms"))
    return f"{error.word} ({facts})" if facts else error.word
