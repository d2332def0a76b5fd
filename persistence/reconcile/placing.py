"""Which lost sequence becomes which entry: whose it is, and what of a reservation or a refund it tells.

Each lost entry had one sequence of the shard and one version of one account. The versions that Redis'
accounts are ahead must therefore be exactly as many as the sequences that are missing. If they are not, Redis
does not go on from what PostgreSQL has, and nothing is made.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from app.ledger.replies import Account, Reservation
from app.ledger.shards import TransactionId
from persistence.reconcile.lost import Loss, NotAdoptable, Then
from persistence.reconcile.taking_back import DEADLINE, TASK


class Stored(NamedTuple):
    """What PostgreSQL has of a shard: all accounts; reservations, all that are open and those that Redis
    knows; and by transaction whose it is, and how much of it was given back.
    """

    accounts: Mapping[str, Account]
    reservations: Mapping[str, Reservation]
    refunds: Mapping[str, tuple[str, int]]


class Placed(NamedTuple):
    """What the entry in a lost place tells, beside credits: how a reservation stands, how much a transaction
    had been given back. `was`: the reservation whose lost entry that was.
    """

    reservation: Reservation | None = None
    refund: tuple[str, int] | None = None
    was: Reservation | None = None


class Placing:
    """Finds the places of a loss. `placed` is what comes of it: by account and sequence."""

    def __init__(self, loss: Loss, then: Then, stored: Stored) -> None:
        """Raises `NotAdoptable` when the two do not belong to one history."""
        self._loss = loss
        self._then = then
        self._stored = stored
        self._ahead = self._versions_ahead()
        self.placed: dict[str, dict[int, Placed]] = {name: {} for name in self._ahead}
        others = self._place_remembered()
        self._place_others(others)
        self._place_refunds()

    def _versions_ahead(self) -> dict[str, int]:
        """How many versions Redis is ahead, by account; in all as many as sequences are missing."""
        loss, then, known = self._loss, self._then, self._stored.accounts
        ahead: dict[str, int] = {}
        for name in sorted(known.keys() | then.accounts.keys()):
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

    def _place_remembered(self) -> list[Reservation]:
        """Give each reservation the places of which Redis remembers that they were its own; the entry in one
        of them tells how it stands. Returns those that have changed, and of which nobody remembers where.
        """
        others: list[Reservation] = []
        taken: set[int] = set()
        for each in self._reservations():
            places = [place for place in _places(each) if self._loss.first <= place <= self._loss.last]
            if not places:
                if self._has_changed(each):
                    others.append(each)
                continue
            its = self.placed.get(each.account, {})
            if taken & set(places) or len(its) + len(places) > self._ahead.get(each.account, 0):
                raise NotAdoptable(f"Reservation {each.id} of {each.account} does not fit what is missing.")
            taken.update(places)
            its |= {place: Placed(was=each) for place in places}
            its[places[0]] = Placed(_ended_there(each, places[0]), was=each)
        return others

    def _reservations(self) -> Iterable[Reservation]:
        """As they were, as far as both sides together tell."""
        then, stored = self._then, self._stored.reservations
        for each in then.reservations.values():
            yield self._as_it_was(each, stored.get(each.id))
        for each in stored.values():
            if each.status == "pending" and each.id not in then.reservations:
                yield _forgotten(each, then.at_ms)

    def _as_it_was(self, each: Reservation, ours: Reservation | None) -> Reservation:
        """What was changed later and does not tell what it was before is as PostgreSQL has it."""
        unsure = self._then.unsure
        if ours is not None and (each.id, TASK) in unsure and each.task is None:
            each = replace(each, task=ours.task, provider=ours.provider, bound_sequence=ours.bound_sequence)
        if ours is not None and (each.id, DEADLINE) in unsure and each.extensions == ours.extensions:
            each = replace(each, expires_at_ms=ours.expires_at_ms)
        if each.status != "cancelled" or each.ended_sequence is not None:
            return each
        if ours is not None and ours.status == "cancelled":
            return replace(each, ended_sequence=ours.ended_sequence, settled_at_ms=ours.settled_at_ms)
        return replace(each, settled_at_ms=self._then.at_ms)

    def _has_changed(self, each: Reservation) -> bool:
        ours = self._stored.reservations.get(each.id)
        if ours is None:
            return each.reserved_sequence >= self._loss.first
        return any(getattr(each, name) != getattr(ours, name) for name in _CHANGES)

    def _place_others(self, others: Iterable[Reservation]) -> None:
        """Every other place is somebody's, too."""
        waiting: dict[str, list[Reservation]] = defaultdict(list)
        for each in others:
            waiting[each.account].append(each)
        taken = {place for its in self.placed.values() for place in its}
        free = (place for place in range(self._loss.first, self._loss.last + 1) if place not in taken)
        for name, count in self._ahead.items():
            its = self.placed[name]
            for _ in range(count - len(its)):
                place = next(free)
                changed = waiting[name].pop() if waiting[name] else None
                its[place] = Placed(changed and _ended_there(changed, place))
        if any(waiting.values()):
            raise NotAdoptable("More reservations have changed than entries are missing: another history.")

    def _place_refunds(self) -> None:
        """The last places tell of what was spent last: a refund comes after what it gives back."""
        wanted: dict[str, list[tuple[int, str, int]]] = defaultdict(list)
        for transaction, total in self._then.refunded.items():
            account, refunded = self._stored.refunds.get(transaction, ("", total))
            named = TransactionId.parse(transaction)
            if named is not None and total > refunded:
                wanted[account].append((named.sequence, transaction, total))
        for account, its in wanted.items():
            places = sorted(self.placed.get(account, ()), reverse=True)
            if len(places) < len(its):
                raise NotAdoptable(f"More was given back to {account} than entries are missing.")
            for place, (_, transaction, total) in zip(places, sorted(its, reverse=True), strict=False):
                before = self.placed[account][place]
                self.placed[account][place] = before._replace(refund=(transaction, total))


_CHANGES = (
    "status", "captured", "charged", "released", "held", "extensions", "late", "bound_sequence",
)  # fmt: skip


def _sums(account: Account | None) -> tuple[int, int] | None:
    return None if account is None else (account.available, account.held)


def _places(each: Reservation) -> list[int]:
    """The sequences that Redis remembers of a reservation. The first of them tells how it stands: of an open
    one the entry that made it, because that says what it holds; of another the one that ended it, by which a
    restore finds it; otherwise the last.
    """
    made, ended = each.reserved_sequence, each.ended_sequence
    first = made if each.status == "pending" else ended
    known = {made, each.bound_sequence, ended, *(part.sequence for part in each.parts)}
    return sorted((place for place in known if place), key=lambda place: (place != first, -place))


def _ended_there(each: Reservation, place: int) -> Reservation:
    """Where nobody knows which entry has ended it, it is the one that tells of it."""
    if each.status == "pending" or each.ended_sequence is not None:
        return each
    return replace(each, ended_sequence=place)


def _forgotten(each: Reservation, at_ms: int) -> Reservation:
    """It has ended, and Redis has forgotten how: what it held is where Redis has it."""
    return replace(
        each,
        status="cancelled",
        released=each.released + each.held,
        held=0,
        legs=[],
        ended_sequence=None,
        settled_at_ms=at_ms,
        cancel_cause="expired",
    )
