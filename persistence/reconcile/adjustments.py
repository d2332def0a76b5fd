"""Makes the entries `adjusted` that take the places of lost ones, from what PostgreSQL has to what Redis had.

- Each lost entry had one sequence of the shard and one version of one account. The versions that Redis'
  accounts are ahead must therefore be exactly as many as the sequences that are missing. If they are not,
  Redis does not go on from what PostgreSQL has, and nothing is made. So sequences stay 1, 2, 3 ... and
  versions too, unique as ever.
- The rows carry the nonce of the call before the first entry that Redis' stream still has, and the first of
  them names the call of the cursor: the links are whole, and the worker and the admission find in the stream
  what they demand.
- The legs of an account's first entry bring what is available, its sum is the entry's signed amount; a
  reservation that was opened or ended meanwhile has an entry of its own, at the very sequence at which Redis
  says that it was, which moves what is held. Each entry proves itself, conservation holds with `adjusted`,
  and a reservation's legs are found where they always are.
- An account's last entry carries its lots word for word: the order in which they are spent is nothing that
  legs tell.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from app.ledger.entries import FORMAT, Entry, Leg, Stands, seal
from app.ledger.replies import Account, Lot, Reservation
from app.ledger.stream import Line
from persistence.reconcile.lost import Loss, NotAdoptable, Then

_encode = msgspec.json.Encoder().encode


class Adjustments:
    """Makes the entries of a shard's loss.

    Args:
        loss: What is lost.
        then: What Redis had just before the first entry that it still has.
        link: The nonce of the call on which PostgreSQL's cursor stands.
        incarnation: A number that was never given.
        by: Who wants it.
    """

    def __init__(self, loss: Loss, then: Then, link: str, incarnation: int, by: str) -> None:
        self._loss = loss
        self._then = then
        self._link = link
        self._incarnation = incarnation
        self._by = by

    def replace(self, known: dict[str, Account], opened: dict[str, Reservation]) -> list[Line]:
        """All of them, in order.

        Args:
            known: What PostgreSQL has of the shard's accounts.
            opened: What reservations it has open.

        Raises:
            NotAdoptable: The two do not belong to one history.
        """
        loss = self._loss
        ahead = self._ahead(known)
        placed = self._placed(ahead, opened)
        lines: dict[int, Line] = {}
        for name, its in placed.items():
            for line in self._of_account(name, its, known.get(name), opened):
                lines[line.sequence] = line
        return self._linked([lines[sequence] for sequence in range(loss.first, loss.last + 1)])

    def _ahead(self, known: dict[str, Account]) -> dict[str, int]:
        """How many versions Redis is ahead, by account; in all as many as sequences are missing."""
        loss, then = self._loss, self._then
        ahead: dict[str, int] = {}
        for name in known.keys() | then.accounts.keys():
            ours, theirs = known.get(name), then.accounts.get(name)
            missing = (theirs.version if theirs else 0) - (ours.version if ours else 0)
            if missing < 0 or (missing == 0 and _sums(ours) != _sums(theirs)):
                raise NotAdoptable(
                    f"Redis does not go on from what PostgreSQL has of {name}: another history. "
                    "Restore instead."
                )
            if missing:
                ahead[name] = missing
        places = loss.last - loss.first + 1
        if sum(ahead.values()) != places:
            raise NotAdoptable(
                f"{places} entries of shard {loss.shard} are missing, and its accounts are "
                f"{sum(ahead.values())} versions ahead: Redis does not go on from what PostgreSQL has."
            )
        return ahead

    def _placed(
        self, ahead: dict[str, int], opened: dict[str, Reservation]
    ) -> dict[str, dict[int, Reservation | None]]:
        """Which account has which sequences: where Redis remembers a reservation's, that one."""
        loss, then = self._loss, self._then
        placed = self._remembered(ahead)
        taken = {place for its in placed.values() for place in its}
        forgotten: dict[str, list[Reservation]] = defaultdict(list)
        for each in opened.values():
            if each.id not in then.reservations:
                forgotten[each.account].append(_forgotten(each, then.at_ms))
        free = (place for place in range(loss.first, loss.last + 1) if place not in taken)
        for name, count in ahead.items():
            for _ in range(count - len(placed[name])):
                place = next(free)
                ended = forgotten[name].pop() if forgotten[name] else None
                placed[name][place] = ended and msgspec.structs.replace(ended, ended_sequence=place)
        if any(forgotten.values()):
            raise NotAdoptable("More reservations have ended than entries are missing: another history.")
        return placed

    def _remembered(self, ahead: dict[str, int]) -> dict[str, dict[int, Reservation | None]]:
        loss = self._loss
        placed: dict[str, dict[int, Reservation | None]] = {name: {} for name in ahead}
        taken: set[int] = set()
        for each in self._then.reservations.values():
            place = _place(each, loss.first)
            if place is None or not loss.first <= place <= loss.last:
                continue
            if place in taken or len(placed.get(each.account, ())) >= ahead.get(each.account, 0):
                raise NotAdoptable(f"Reservation {each.id} of {each.account} does not fit what is missing.")
            placed[each.account][place] = each
            taken.add(place)
        return placed

    def _of_account(
        self,
        name: str,
        placed: dict[int, Reservation | None],
        known: Account | None,
        opened: dict[str, Reservation],
    ) -> Iterable[Line]:
        theirs = self._then.accounts[name]
        available = {(lot.bucket, lot.expires_at_ms): -lot.available for lot in (known.lots if known else [])}
        for lot in theirs.lots:
            key = (lot.bucket, lot.expires_at_ms)
            available[key] = available.get(key, 0) + lot.available
        moves = {place: self._held_legs(its, opened) for place, its in placed.items()}
        for legs in moves.values():  # what they will set aside has to be there first
            for leg in legs:
                key = (leg.bucket, leg.expires_at_ms)
                available[key] = available.get(key, 0) - leg.available
        version = known.version if known else 0
        sums = [known.available if known else 0, known.held if known else 0]
        amount = theirs.available + theirs.held - sum(sums)
        rest = [Leg(bucket, expires, by, 0) for (bucket, expires), by in available.items() if by]
        last = max(placed)
        for place in sorted(placed):
            version += 1
            legs = rest + moves[place]
            sums = [sums[0] + sum(leg.available for leg in legs), sums[1] + sum(leg.held for leg in legs)]
            lots = theirs.lots if place == last else None
            yield self._line(
                place, name=name, version=version, amount=amount, sums=sums, legs=legs,
                reservation=placed[place], lots=lots,
            )  # fmt: skip
            amount, rest = 0, []
        if sums != [theirs.available, theirs.held]:
            raise NotAdoptable(f"The holds of {name} do not add up to what it has held; repair Redis first.")

    @staticmethod
    def _held_legs(reservation: Reservation | None, opened: dict[str, Reservation]) -> list[Leg]:
        """A reservation that was opened sets aside; what one that has ended gave back or spent is in the
        rest.
        """
        if reservation is None:
            return []
        before = opened.get(reservation.id)
        if reservation.status == "pending":
            if before is not None:
                return []
            return [Leg(leg.bucket, leg.expires_at_ms, -leg.held, leg.held) for leg in reservation.legs]
        return [Leg(leg.bucket, leg.expires_at_ms, 0, -leg.held) for leg in (before.legs if before else [])]

    def _line(
        self,
        place: int,
        *,
        name: str,
        version: int,
        amount: int,
        sums: Sequence[int],
        legs: list[Leg],
        reservation: Reservation | None,
        lots: Sequence[Lot] | None,
    ) -> Line:
        """The entry at one place; `lots`: of an account's last one."""
        sealed = seal(
            reason="adopted: PostgreSQL lost this entry, and Redis has what it came to",
            resource=reservation.resource if reservation else None,
            metadata=reservation.metadata if reservation else None,
        )
        assert sealed is not None, "notes without a reason"
        entry = Entry(
            format=FORMAT,
            kind="adjusted",
            at_ms=self._then.at_ms,
            account=name,
            version=version,
            amount=amount,
            available=sums[0],
            held=sums[1],
            legs=legs,
            incarnation=self._incarnation,
            nonce=self._then.link,
            by=self._by,
            notes=sealed.hash,
            adopted=(self._loss.first, self._loss.last),
            reservation=reservation.id if reservation else None,
            task=reservation.task if reservation else None,
            provider=reservation.provider if reservation else None,
            model=reservation.model if reservation else None,
            stands=_stands(reservation) if reservation else None,
            lots=None
            if lots is None
            else [
                (each.bucket, each.priority, each.expires_at_ms, each.available, each.held, each.since)
                for each in lots
            ],
        )
        return Line(place, entry, _encode(entry), sealed.text.encode())

    def _linked(self, lines: list[Line]) -> list[Line]:
        """The first one names the call of the cursor."""
        entry = msgspec.structs.replace(lines[0].entry, previous_nonce=self._link)
        return [lines[0]._replace(entry=entry, text=_encode(entry)), *lines[1:]]


def _sums(account: Account | None) -> tuple[int, int] | None:
    return None if account is None else (account.available, account.held)


def _place(each: Reservation, first: int) -> int | None:
    """The sequence of the last entry of a reservation, as Redis remembers it. One that has ended may have
    been bound later; of an open one the entry that made it says what it holds.
    """
    if each.status != "pending":
        return max(each.ended_sequence or 0, each.bound_sequence or 0) or None
    return each.reserved_sequence if each.reserved_sequence >= first else each.bound_sequence


def _stands(each: Reservation) -> Stands:
    return Stands(
        status=each.status,
        reserved=each.reserved,
        captured=each.captured,
        charged=each.charged,
        released=each.released,
        held=each.held,
        deadline_ms=each.expires_at_ms,
        created_at_ms=each.created_at_ms,
        reserved_sequence=each.reserved_sequence,
        bound_sequence=each.bound_sequence,
        ended_sequence=each.ended_sequence,
        settled_at_ms=each.settled_at_ms,
        cause=each.cancel_cause,
    )


def _forgotten(each: Reservation, at_ms: int) -> Reservation:
    """It has ended, and Redis has forgotten how: what it held is where Redis has it."""
    return msgspec.structs.replace(
        each,
        status="cancelled",
        released=each.released + each.held,
        held=0,
        legs=[],
        ended_sequence=None,
        settled_at_ms=at_ms,
        cancel_cause="expired",
    )
