"""What the bodies of a request need to know that stands elsewhere, looked up for all of them at once.

A body says what it wants (`Body.wants`), `look_up` asks, and then the body makes its operation of what was
found (`Body.operation`). What was not found is raised there, so that in a batch it concerns this one only.
"""

from typing import TypeVar

from app.http import pricing
from app.http.parts import Caller, Parts
from app.http.problems import Problem
from app.ledger.errors import (
    ANOTHERS,
    JournalBacklogged,
    LedgerError,
    LedgerUnavailable,
    ReservationNotFound,
)
from app.ledger.operations import Deduct, Refund
from app.ledger.refunds import RefundOf
from app.ledger.replies import Reservation
from app.ledger.shards import TransactionId
from app.rates import Priced

T = TypeVar("T")

Named = str | tuple[str | None, str]
"""A reservation by its id, or by a provider (none is a name space of its own) and its task."""


class Lookups:
    """Of one request. To whoever may touch some accounts only, what is another's does not exist."""

    __slots__ = (
        "_answered", "_asking", "_caller", "_found", "_located", "_named", "_new", "_parts", "_prices",
        "_refunds",
    )  # fmt: skip

    def __init__(self, parts: Parts, caller: Caller) -> None:
        self._parts = parts
        self._caller = caller
        self._prices: dict[tuple[str, int | str], Priced | Problem | LedgerError] = {}
        self._asking: list[tuple[tuple[str, int | str], Deduct]] = []
        self._answered: set[tuple[str, str | None]] = set()
        self._new: dict[str, list[str]] = {}
        self._named: dict[Named, bool] = {}
        self._located: dict[Named, str | LedgerError] = {}
        self._found: dict[str, Reservation | LedgerError] = {}
        self._refunds: dict[tuple[str | None, str | None], Refund | LedgerError] = {}

    @property
    def _restricted(self) -> bool:
        return self._caller.principal.accounts is not None

    @property
    def holds_max(self) -> int:
        """How many reservations of an account may be open."""
        return self._parts.holds_max

    def want_new_reservation(self, account: str) -> None:
        """`new_reservation` is going to be asked."""
        self._new.setdefault(account, []).append("")

    def want_price(self, model: str, units: int | str, asking: Deduct | None) -> None:
        """`price` is going to be asked. `asking`: what may be asked without a price, for its key alone."""
        self._prices[model, units] = LedgerUnavailable()
        if asking is not None:
            self._asking.append(((model, units), asking))

    def want_reservation(self, named: Named, *, whole: bool = False) -> None:
        """`id_of` is going to be asked, and `captured` too if the `whole` reservation is wanted."""
        self._named[named] = whole or self._restricted or self._named.get(named, False)

    def want_refund(self, transaction: str | None, reservation: str | None) -> None:
        """`refund` is going to be asked."""
        self._refunds[transaction, reservation] = ReservationNotFound()

    async def look_up(self) -> None:
        """Ask for all that is wanted."""
        if self._new:
            made = self._parts.ledger.new_reservation_id
            self._new = {account: [await made(account) for _ in of] for account, of in self._new.items()}
        if self._prices:
            await self._look_up_prices()
        if self._named:
            await self._look_up_reservations()
        if self._refunds:
            await self._look_up_refunds()

    def new_reservation(self, account: str) -> str:
        """An id for a reservation of this account, another one each time."""
        return self._new[account].pop()

    def price(self, model: str, units: int | str) -> Priced:
        """What so many units of a model cost now.

        Raises:
            Problem, LedgerError: They cannot be priced.
        """
        return _or_raise(self._prices[model, units])

    def is_answered(self, account: str, key: str | None) -> bool:
        """Whether something was answered under a key whose request cannot be priced, or nobody can tell."""
        return (account, key) in self._answered

    def ttl_seconds(self, model: str | None) -> int:
        """How long a reservation holds its credits that does not say."""
        return pricing.ttl_seconds(self._parts, model)

    def id_of(self, named: Named) -> str:
        """The id of a reservation.

        Raises:
            LedgerError: There is none, or it cannot be found now.
        """
        found = _or_raise(self._located[named]) if isinstance(named, tuple) else named
        if self._restricted and not self._caller.owns(_or_raise(self._found[found]).account):
            raise ReservationNotFound(ANOTHERS)
        return found

    def captured(self, named: Named, units: int | str) -> int:
        """What so many units cost by the price at which they were reserved. Raises as `id_of` and `price`."""
        return pricing.repriced(_or_raise(self._found[self.id_of(named)]), units)

    def refund(self, transaction: str | None, reservation: str | None) -> Refund:
        """A refund of what was spent, which does not say yet of how much and to where.

        Raises:
            LedgerError: There is nothing to give back, or it cannot be found now.
        """
        return _or_raise(self._refunds[transaction, reservation])

    async def _look_up_prices(self) -> None:
        await pricing.learn(self._parts, {model for model, _ in self._prices})
        for named in self._prices:
            try:
                self._prices[named] = pricing.priced(self._parts, *named)
            except (Problem, LedgerError) as failure:
                self._prices[named] = failure
        asking = [each for named, each in self._asking if not isinstance(self._prices[named], Priced)]
        if asking:
            await self._look_up_keys(asking)

    async def _look_up_keys(self, asking: list[Deduct]) -> None:
        """A repeated request is answered as the first time, whatever has become of the price since."""
        outcomes = (await self._parts.ledger.batch(asking)).results
        for each, outcome in zip(asking, outcomes, strict=True):
            if not isinstance(outcome, JournalBacklogged):
                self._answered.add((each.account, each.key))

    async def _look_up_reservations(self) -> None:
        ledger = self._parts.ledger
        tasks = [named for named in self._named if isinstance(named, tuple)]
        if tasks:
            self._located = dict(zip(tasks, await ledger.locate_all(tasks), strict=True))
        found = [self._located.get(named, named) for named, whole in self._named.items() if whole]
        ids = list(dict.fromkeys(each for each in found if isinstance(each, str)))
        if ids:
            self._found = dict(zip(ids, await ledger.find_all(ids), strict=True))

    async def _look_up_refunds(self) -> None:
        asked = [
            RefundOf(
                transaction=None if transaction is None else TransactionId.parse(transaction),
                reservation=reservation,
                of=self._caller.sees(None),  # refunds are for keys, and a key has one account or all
            )
            for transaction, reservation in self._refunds
        ]
        found = await self._parts.ledger.refunding_all(asked)
        self._refunds = dict(zip(self._refunds, found, strict=True))


def _or_raise(found: T | Problem | LedgerError) -> T:
    if isinstance(found, Problem | LedgerError):
        raise found
    return found
