"""Along which index a search for reservations goes, newest first, and which of the rows there are wanted.

An index has an account, a model, or what is open or has run out of time, and none has two of these. What its
index does not have is looked at row by row; whoever walks says how far.
"""

from typing import NamedTuple
from uuid import UUID

from app.searching import ReservationFilter
from persistence.conditions import Conditions

_CLOCKS_APART_SECONDS = 86_400
_MADE_MS_MAX = 2**48 - 1
"""Of an id: its first 48 bits are the milliseconds at which it was made, by the clock of who made it."""

_NONE, _ALL = UUID(int=0), UUID(int=2**128 - 1)


class Walk(NamedTuple):
    """Conditions of rows `r`: of those that are passed by, and of those among them that are wanted."""

    passed: Conditions
    wanted: Conditions
    order: str


def walk_of(which: ReservationFilter, last: UUID | None) -> Walk:
    """From behind `last` on; `None`: from the newest one."""
    passed, wanted, order = Conditions(), Conditions(), "r.id DESC"
    key, value = _key(which)
    since, before = _span(which, last)
    if key is None:
        passed.add("r.id >= {} AND r.id < {}", since, before)
    else:
        # As rows, because only the index that is meant has their order. The one of all ids has it, too, if
        # the account is the same everywhere, and may have to be read for long until there is one of it.
        passed.add(f"r.{key} IS NOT NULL AND (r.{key}, r.id) >= ({{}}, {{}})", value, since)
        passed.add(f"(r.{key}, r.id) < ({{}}, {{}})", value, before)
        order = f"r.{key} DESC, r.id DESC"
    if which.status == "pending":
        _among_open(which, passed, wanted)
    elif which.status == "expired":
        # Some of them were confirmed late.
        (passed if key is None else wanted).add("r.cancel_cause = 'expired'")
        wanted.add("r.status = 'cancelled'")
    elif which.status == "cancelled":
        wanted.add("r.status = 'cancelled' AND r.cancel_cause IS DISTINCT FROM 'expired'")
    elif which.status == "confirmed":
        wanted.add("r.status = 'confirmed'")
    if which.status != "pending" and which.due_before is not None:
        wanted.add("r.expires_at < {}", which.due_before)
    if key != "model" and which.model is not None:
        wanted.add("r.model = {}", which.model)
    return Walk(passed, wanted, order)


def _key(which: ReservationFilter) -> tuple[str | None, str | None]:
    """What the index has before the id."""
    if which.status == "pending":
        return None, None
    if which.account is not None:
        return "account", which.account
    if which.model is not None and which.status != "expired":
        return "model", which.model
    return None, None


def _among_open(which: ReservationFilter, passed: Conditions, wanted: Conditions) -> None:
    passed.add("r.status = 'pending'")
    if which.account is not None:
        passed.add("r.account = {}", which.account)
        passed.add("r.shard = (SELECT shard FROM accounts WHERE account = {})", which.account)
    if which.due_before is not None:
        (passed if which.account is None else wanted).add("r.expires_at < {}", which.due_before)


def _span(which: ReservationFilter, last: UUID | None) -> tuple[UUID, UUID]:
    """From which id on, and before which one."""
    since = _NONE if which.made_since is None else _first_id(which.made_since.timestamp())
    before = [_ALL if last is None else last]
    if which.made_before is not None:
        before.append(_first_id(which.made_before.timestamp()))
    if which.due_before is not None:
        # What is due was made before: from here on its index is walked, not from the newest one on.
        before.append(_first_id(which.due_before.timestamp() + _CLOCKS_APART_SECONDS))
    return since, min(before)


def _first_id(seconds: float) -> UUID:
    """The first id that can have been made at a moment (seconds since 1970)."""
    return UUID(int=min(max(0, int(seconds * 1000)), _MADE_MS_MAX) << 80)
