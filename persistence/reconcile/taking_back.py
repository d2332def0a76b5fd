"""One entry taken back: what Redis had before it, as far as the entry and what came of it tell."""

from collections.abc import Sequence

from msgspec.structs import replace

from app.ledger.entries import Entry
from app.ledger.replies import HeldLeg, Reservation
from persistence.reconcile.lost import NotAdoptable, Then
from persistence.reconcile.lots_before import lots_before

SETTINGS = ("overdraft_limit", "status", "low_balance")
DEADLINE, TASK = "deadline", "task"


def take_back(then: Then, entry: Entry, sequence: int) -> None:
    """Make `then` what it was before its last entry.

    Raises:
        NotAdoptable: The entry did not lead to it.
    """
    account = then.accounts.get(entry.account)
    if account is None or account.version != entry.version:
        version = None if account is None else account.version
        raise NotAdoptable(
            f"Entry {sequence} is version {entry.version} of {entry.account}, which Redis has as {version}: "
            "repair Redis first, from a backup of its data."
        )
    lots = lots_before(account.lots, entry)
    if entry.version == 1:
        del then.accounts[entry.account]
    else:
        then.accounts[entry.account] = replace(
            account,
            version=entry.version - 1,
            available=account.available - sum(leg.available for leg in entry.legs),
            held=account.held - sum(leg.held for leg in entry.legs),
            lots=lots,
        )
    if entry.kind == "configured":
        then.unsure |= {(entry.account, each) for each in SETTINGS if getattr(entry, each) is not None}
    if entry.overdraft_limit is not None:
        then.owed.pop(entry.account, None)
    elif entry.available < 0:
        then.owed[entry.account] = max(-entry.available, then.owed.get(entry.account, 0))
    if entry.kind == "refunded":
        _take_back_refund(then, entry)
    elif entry.reservation is not None and entry.reservation in then.reservations:
        _take_back_reservation(then, entry, sequence, then.reservations[entry.reservation])


def _take_back_refund(then: Then, entry: Entry) -> None:
    transaction = entry.refund_of or ""
    total = then.refunded.pop(transaction, 0) - entry.amount
    if total > 0:
        then.refunded[transaction] = total


def _take_back_reservation(then: Then, entry: Entry, sequence: int, reservation: Reservation) -> None:
    id_ = reservation.id
    if entry.kind == "reserved":
        del then.reservations[id_]
    elif entry.kind == "bound":
        if reservation.bound_sequence == sequence:
            then.unsure.add((id_, TASK))
            then.reservations[id_] = replace(reservation, task=None, provider=None, bound_sequence=None)
    elif entry.kind == "extended":
        # Until when it ran before is not known: not longer than this.
        then.unsure.add((id_, DEADLINE))
        then.reservations[id_] = replace(
            reservation,
            extensions=reservation.extensions - 1,
            expires_at_ms=entry.deadline_ms or reservation.expires_at_ms,
        )
    elif entry.late:
        then.reservations[id_] = _expired(reservation, entry)
    elif any(part.sequence == sequence for part in reservation.parts):
        then.reservations[id_] = _before_part(reservation, entry, sequence)
    elif sequence == reservation.ended_sequence or (entry.kind == "expired" and _is_taken_back(reservation)):
        then.reservations[id_] = _before_end(reservation, entry)


def _expired(reservation: Reservation, entry: Entry) -> Reservation:
    """Confirmed late: which entry had ended it, and when, is not known."""
    return replace(
        reservation,
        status="cancelled",
        charged=reservation.charged - (entry.charged or 0),
        ended_sequence=None,
        settled_at_ms=None,
        cancel_cause="expired",
        late=False,
    )


def _is_taken_back(reservation: Reservation) -> bool:
    return reservation.status == "cancelled" and reservation.ended_sequence is None


def _before_part(reservation: Reservation, entry: Entry, sequence: int) -> Reservation:
    captured = [HeldLeg(leg.bucket, leg.expires_at_ms, -leg.held) for leg in entry.legs if leg.held < 0]
    return replace(
        reservation,
        captured=reservation.captured - (entry.captured or 0),
        held=reservation.held + (entry.captured or 0),
        legs=_joined(captured, reservation.legs),
        parts=[part for part in reservation.parts if part.sequence != sequence],
    )


def _joined(first: Sequence[HeldLeg], rest: Sequence[HeldLeg]) -> list[HeldLeg]:
    """What stands one behind the other; of the lot in the middle both may have a part."""
    if not first or not rest:
        return [*first, *rest]
    last, following = first[-1], rest[0]
    if (last.bucket, last.expires_at_ms) != (following.bucket, following.expires_at_ms):
        return [*first, *rest]
    return [*first[:-1], replace(following, held=last.held + following.held), *rest[1:]]


def _before_end(reservation: Reservation, entry: Entry) -> Reservation:
    captured, released = entry.captured or 0, entry.released or 0
    return replace(
        reservation,
        status="pending",
        captured=reservation.captured - captured,
        released=reservation.released - released,
        charged=reservation.charged - (entry.charged or 0),
        held=captured + released,
        legs=_legs_before(entry),
        ended_sequence=None,
        settled_at_ms=None,
        cancel_cause=None,
        cancel_reason=None,
    )


def _legs_before(entry: Entry) -> list[HeldLeg]:
    """What was held, in the order of capture: what is captured stands in it, what goes back whole behind that
    in reverse.
    """
    held = [HeldLeg(leg.bucket, leg.expires_at_ms, -leg.held) for leg in entry.legs if leg.held < 0]
    captured, ends = entry.captured or 0, 0
    while captured > 0 and ends < len(held):
        captured -= held[ends].held
        ends += 1
    return [*held[:ends], *reversed(held[ends:])]
