"""What is answered about a reservation that Redis has forgotten: the same as `lua/operations/` would answer.

Such a reservation has ended more than 24 hours ago, so only its ending is left to tell.
"""

from app.ledger.errors import (
    ANOTHERS,
    ReservationCancelled,
    ReservationConfirmed,
    ReservationExpired,
    ReservationNotFound,
    TaskConflict,
)
from app.ledger.operations import Bind, Cancel, Confirm, Extend
from app.ledger.replies import Reservation


def settled_outcome(operation: Confirm | Cancel | Extend | Bind, reservation: Reservation) -> int:
    """The sequence of the entry that answers `operation`, of whose key (if there is one) nothing is known.

    Raises:
        ReservationNotFound, ReservationCancelled, ReservationConfirmed, ReservationExpired, TaskConflict
    """
    if operation.account is not None and operation.account != reservation.account:
        raise ReservationNotFound(ANOTHERS)
    if isinstance(operation, Bind):
        return _bound(operation, reservation)
    settled_at_ms = reservation.settled_at_ms or 0
    ended = reservation.ended_sequence or 0
    if reservation.status == "confirmed":
        if isinstance(operation, Confirm):
            return ended
        raise ReservationConfirmed(at_ms=settled_at_ms)
    if reservation.cancel_cause == "expired":
        raise ReservationExpired(at_ms=settled_at_ms)
    if isinstance(operation, Cancel):
        return ended
    raise ReservationCancelled(cause=reservation.cancel_cause or "", at_ms=settled_at_ms)


def _bound(operation: Bind, reservation: Reservation) -> int:
    """A task can no longer be bound, but a binding that was made is answered again."""
    if reservation.bound_sequence is None:
        raise ReservationNotFound
    if (reservation.task, reservation.provider) != (operation.task, operation.provider) or (
        reservation.resource and operation.resource not in (None, reservation.resource)
    ):
        raise TaskConflict(reservation=reservation.id, task=reservation.task or "")
    if operation.resource and not reservation.resource:
        raise ReservationNotFound
    return reservation.bound_sequence
