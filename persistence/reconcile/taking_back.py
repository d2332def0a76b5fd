"""One entry taken back: what Redis had before it, as far as the entry and what came of it tell."""

from collections.abc import Sequence

from msgspec.structs import replace

from app.ledger.entries import Entry
from app.ledger.replies import HeldLeg, Lot, Reservation
from persistence.folding import LAST_PRIORITY, OVERDRAFT, spending_order
from persistence.reconcile.lost import NotAdoptable, Then

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
    lots = _lots_before(account.lots, entry)
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


def _lots_before(lots: Sequence[Lot], entry: Entry) -> list[Lot]:
    """The same credits as before; of a lot that went meanwhile its bucket's empty row tells the rest."""
    rows = {(lot.bucket, lot.expires_at_ms): lot for lot in lots}
    for leg in entry.legs:
        key = (leg.bucket, leg.expires_at_ms)
        if leg.bucket == OVERDRAFT:
            debt = rows.pop(key, Lot(OVERDRAFT, LAST_PRIORITY, 0, 0, 0, 1))
            if debt.available != leg.available:  # debt that is repaid leaves nothing
                rows[key] = replace(debt, available=debt.available - leg.available)
            continue
        lot = rows.pop(key, None)
        if lot is None:
            empty = rows.get((leg.bucket, 0))
            is_it = empty is not None and empty.available == empty.held == 0
            others = (each for each in rows.values() if each.bucket == leg.bucket)
            new = Lot(leg.bucket, 100, 0, 0, 0, 1)
            like = rows.pop((leg.bucket, 0)) if is_it else next(others, new)
            lot = Lot(leg.bucket, like.priority, leg.expires_at_ms, 0, 0, like.since)
        available, held = lot.available - leg.available, lot.held - leg.held
        if available < 0 or held < 0:
            raise NotAdoptable(f"A lot of {entry.account} does not have what its entries say.")
        is_last = all(each.bucket != leg.bucket for each in rows.values())
        if is_last and not available and not held:
            key = (leg.bucket, 0)  # so stands a bucket that has nothing: with its priority
        if is_last or available or held:
            rows[key] = Lot(lot.bucket, lot.priority, key[1], available, held, lot.since)
    return sorted(rows.values(), key=spending_order)


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
    """What was held, in the order of capture: what an ending releases whole stands in reverse."""
    legs = [leg for leg in entry.legs if leg.held < 0]
    captured = [leg for leg in legs if leg.available < -leg.held]
    whole = [leg for leg in legs if leg.available >= -leg.held]
    return [HeldLeg(leg.bucket, leg.expires_at_ms, -leg.held) for leg in [*captured, *reversed(whole)]]
