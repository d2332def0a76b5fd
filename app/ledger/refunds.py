"""What is given back: of which transactions, to whom, and how much of them has been given back before.

A refund names a transaction, or a reservation and with it all that confirms of it have spent. What that was
is read from Redis as long as it is there, so that what was just spent can be given back while the journal is
behind, or away.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct

from app.ledger.backing import Recorded, Refunded
from app.ledger.entries import Entry
from app.ledger.errors import (
    LedgerError,
    LedgerUnavailable,
    ReservationNotFound,
    TransactionNotFound,
)
from app.ledger.operations import Original, Refund
from app.ledger.past import Past, Place, missing_entry
from app.ledger.present import Present
from app.ledger.replies import Reservation
from app.ledger.shards import TransactionId, shard_of_reservation

RECENT_MS = 23 * 3_600_000
"""What was given back of an entry younger than this Redis still knows: it remembers that for a day."""

_Reservation = Reservation | LedgerError

_SPENT = frozenset({"deducted", "confirmed"})


class RefundOf(Struct, frozen=True, kw_only=True):
    """What is to be given back: of a transaction, or of all that a reservation has spent. `of`: refuse what
    is not this account's.
    """

    transaction: TransactionId | None = None
    reservation: str | None = None
    of: str | None = None


class Refunds:
    """Makes the operation of what is named."""

    def __init__(self, past: Past, present: Present) -> None:
        self._past = past
        self._present = present

    async def resolve(
        self, named: Sequence[RefundOf], count: int, now_ms: Callable[[], int]
    ) -> list[Refund | LedgerError]:
        """The refund of each, without amount, bucket or key; or why there is none.

        Args:
            named: In any number.
            count: How many shards the ledger has.
            now_ms: Redis' time, once it has answered.
        """
        reservations = await self._reservations(named, count)
        places = [_places(each, reservations, count) for each in named]
        wanted = {place for each in places if isinstance(each, list) for place in each}
        recent = await self._present.recent_entries(wanted)
        entries = recent | await self._older_entries(wanted - recent.keys())
        young_ms = now_ms() - RECENT_MS
        old = [
            place
            for place, each in entries.items()
            if isinstance(each, Recorded) and not (place in recent and each.entry.at_ms > young_ms)
        ]
        try:
            refunded = await self._past.refunded(old)
        except LedgerUnavailable as error:
            entries, refunded = entries | dict.fromkeys(old, error), {}
        return [
            _refund(asked, each, entries, refunded) if isinstance(each, list) else each
            for asked, each in zip(named, places, strict=True)
        ]

    async def _reservations(self, named: Sequence[RefundOf], count: int) -> Mapping[str, _Reservation]:
        wanted: dict[str, int] = {}
        for each in named:
            if each.reservation is not None:
                shard = shard_of_reservation(each.reservation, count)
                if shard is not None:
                    wanted[each.reservation] = shard
        return await self._present.all_reservations(wanted)

    async def _older_entries(self, places: Collection[Place]) -> dict[Place, Recorded | LedgerError]:
        try:
            return {**await self._past.entries(places)}
        except LedgerUnavailable as error:
            return dict.fromkeys(places, error)


def _places(
    named: RefundOf, reservations: Mapping[str, _Reservation], count: int
) -> list[Place] | Refund | LedgerError:
    """Where the entries stand that have spent what is to be given back, the latest first; or what is to be
    asked where there are none.
    """
    if named.reservation is None:
        assert named.transaction is not None, "nothing is named"
        transaction = named.transaction
        if transaction.shard >= count:
            return TransactionNotFound()
        return [(transaction.shard, transaction.sequence)]
    reservation = reservations.get(named.reservation) or ReservationNotFound()
    if isinstance(reservation, LedgerError):
        return reservation
    if named.of not in (None, reservation.account):
        return ReservationNotFound()
    shard = shard_of_reservation(reservation.id, count)
    assert shard is not None, "a reservation without a shard"
    sequences = [part.sequence for part in reservation.parts]
    if reservation.status == "confirmed" and reservation.ended_sequence is not None:
        sequences.append(reservation.ended_sequence)
    if not sequences:
        return _nothing_spent(reservation.account, shard, status=reservation.status)
    return [(shard, sequence) for sequence in dict.fromkeys(reversed(sequences))]


def _refund(
    named: RefundOf,
    places: Sequence[Place],
    entries: Mapping[Place, Recorded | LedgerError],
    refunded: Mapping[Place, Refunded],
) -> Refund | LedgerError:
    originals: list[Original] = []
    journaled = None
    account = ""
    for place in places:
        found = entries.get(place)
        if isinstance(found, LedgerError):
            return found
        if named.transaction is not None:
            if found is None or found.entry.incarnation != named.transaction.incarnation:
                return TransactionNotFound()
            if named.of not in (None, found.entry.account):
                return TransactionNotFound()
            if found.entry.kind not in _SPENT:
                return _nothing_spent(found.entry.account, place[0], kind=found.entry.kind)
        if found is None:
            return missing_entry(*place)
        account = found.entry.account
        before = refunded.get(place)
        if before is not None:
            journaled = before.journaled
        originals.append(_original(place, found.entry, before.credits if before else 0))
    return Refund(shard=places[0][0], account=account, originals=originals, journaled=journaled)


def _nothing_spent(account: str, shard: int, **facts: str) -> Refund:
    """The script refuses it, so that the refusal is kept under its key as any other is."""
    return Refund(shard=shard, account=account, originals=[], refusal=facts)


def _original(place: Place, entry: Entry, refunded: int) -> Original:
    shard, sequence = place
    return Original(
        transaction=str(TransactionId(shard, entry.incarnation, sequence)),
        left=left_of(entry),
        refunded=refunded,
        reservation=entry.reservation,
        task=entry.task,
        provider=entry.provider,
        model=entry.model,
    )


def left_of(entry: Entry) -> list[tuple[str, int, int]]:
    """What was spent of which lot, as bucket, expiry and credits, in the order of the legs.

    Where a confirm released credits that repaid a debt, more has left their lots than was spent. A confirm
    takes from the front and releases the rest, so that what was spent is what stands in front: the debt was
    made by another entry, and it is that one's to be given back.
    """
    left: list[tuple[str, int, int]] = []
    rest = entry.amount
    for leg in entry.legs:
        gone = min(rest, -(leg.available + leg.held))
        if gone > 0:
            left.append((leg.bucket, leg.expires_at_ms, gone))
            rest -= gone
    return left
