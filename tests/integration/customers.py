"""Customers who ask for whatever the ledger can do, at random and all at once.

One seed asks for the same, as far as it can be: what becomes of it depends on who comes first.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

from app.ledger.credits import CREDITS_MAX
from app.ledger.entries import Entry, seal
from app.ledger.errors import AccountNotFound, LedgerError, Refused, ReservationNotFound
from app.ledger.ledger import Ledger
from app.ledger.operations import (
    Adjust,
    Bind,
    Cancel,
    Configure,
    Confirm,
    Deduct,
    Extend,
    Grant,
    Refund,
    Reserve,
    Write,
)
from app.ledger.receipts import Receipt
from tests.integration.wishes import PRICES

BY = "key:customers"
ACCOUNTS = [f"customer-{number}" for number in range(9)] + ["whale"]
BUCKETS = ["default", "plan", "gifts"]
NOT_REMEMBERED = (AccountNotFound, ReservationNotFound)


class Customers:
    """`acknowledged`: every entry that somebody was told of, by transaction id. `told`: how often what."""

    def __init__(self, ledgers: list[Ledger], seed: int) -> None:
        self.acknowledged: dict[str, Entry] = {}
        self.told: Counter[str] = Counter()
        self._ledgers = ledgers
        self._random = random.Random(seed)
        self._numbers = count(1)
        self._reservations: list[str] = []
        self._spent: list[Receipt] = []

    async def come(self, times: int) -> None:
        """One customer, so many times. Refusals are what happens to customers; anything else is not."""
        for _ in range(times):
            verb = self._pick(one=12, twice=3, batch=2)
            await getattr(self, f"_{verb}")()

    # How it is asked

    async def _one(self) -> None:
        await self._heard(self._carry_out(self._ledger(), await self._wish()))

    async def _twice(self) -> None:
        """An impatient one: the same request with its key, through two processes."""
        operation = await self._wish()
        if isinstance(operation, Configure):
            return
        self._sign(operation)
        asked = (self._heard(self._carry_out(self._ledger(), operation)) for _ in range(2))
        first, second = await asyncio.gather(*asked)
        if isinstance(first, Receipt) and isinstance(second, Receipt):
            assert first.entry == second.entry
            assert first.replayed or second.replayed
        elif not isinstance(first, NOT_REMEMBERED) and not isinstance(second, NOT_REMEMBERED):
            assert type(first) is type(second), (first, second)

    async def _batch(self) -> None:
        wishes = [await self._wish() for _ in range(self._random.randint(2, 8))]
        fit = [each for each in wishes if not isinstance(each, Configure | Bind)]
        atomic = self._random.random() < 0.5
        batched = await self._ledger().batch(fit, atomic=atomic)
        assert len(batched.results) == len(fit)
        if atomic and batched.failed is not None:
            assert not any(isinstance(each, Receipt) for each in batched.results)
        for each in batched.results:
            self._hear(each)

    def _carry_out(self, ledger: Ledger, operation: Write) -> Awaitable[Any]:
        verb: Callable[[Any], Awaitable[Any]] = getattr(ledger, type(operation).__name__.lower())
        return verb(operation)

    async def _heard(self, answer: Awaitable[Any]) -> Receipt | LedgerError | None:
        try:
            found = await answer
        except LedgerError as error:
            return self._hear(error)
        return self._hear(found if isinstance(found, Receipt) else found.receipt)

    def _hear(self, answer: Receipt | LedgerError | None) -> Receipt | LedgerError | None:
        if isinstance(answer, LedgerError):
            assert isinstance(answer, Refused), answer
            self.told[answer.word] += 1
        elif answer is None:
            self.told["as it should be"] += 1
        else:
            name, entry = str(answer.transaction), answer.entry
            assert self.acknowledged.setdefault(name, entry) == entry
            self.told["replayed" if answer.replayed else entry.kind] += 1
            if entry.kind == "reserved" and entry.reservation:
                self._reservations.append(entry.reservation)
            if entry.kind in {"deducted", "confirmed"} and entry.amount:
                self._spent.append(answer)
        return answer

    def _ledger(self) -> Ledger:
        return self._random.choice(self._ledgers)

    def _sign(self, operation: Write) -> None:
        operation.key = operation.key or f"key-{next(self._numbers)}"
        operation.fingerprint = operation.fingerprint or "f" * 16

    # What is asked for

    async def _wish(self) -> Write:
        verb = self._pick(
            grant=5,
            deduct=6,
            reserve=8,
            confirm=8,
            cancel=2,
            extend=2,
            refund=5,
            adjust=2,
            configure=2,
            bind=1,
        )
        wished = await getattr(self, f"_{verb}_")(self._random.choice(ACCOUNTS))
        operation: Write = wished or await self._grant_(self._random.choice(ACCOUNTS))
        operation.by = BY
        sealed = seal(self._either(None, None, "because"))
        if sealed:
            operation.notes, operation.notes_hash = sealed.text, sealed.hash
        if self._random.random() < 0.2 and not isinstance(operation, Configure):
            self._sign(operation)
        return operation

    def _pick(self, **weights: int) -> str:
        return self._random.choices([*weights], [*weights.values()])[0]

    def _either(self, *values: Any) -> Any:
        return self._random.choice(values)

    def _amount(self, account: str) -> int:
        if account == "whale":
            return self._either(1, 10**15, 2**52, CREDITS_MAX - 1, CREDITS_MAX)
        return self._random.randint(1, 40)

    def _expiry(self) -> int:
        return self._either(0, 0, self._ledgers[0].now_ms() + self._either(30, 200, 1_000, 60_000))

    async def _grant_(self, account: str) -> Grant:
        return Grant(
            account=account, amount=self._amount(account), bucket=self._either(*BUCKETS),
            priority=self._either(None, None, 10, 200), expires_at_ms=self._expiry(),
            rollover=self._either(0, 0, 15, CREDITS_MAX),
        )  # fmt: skip

    async def _deduct_(self, account: str) -> Deduct:
        price = self._either(None, *PRICES)
        return Deduct(account=account, amount=self._amount(account), model="video", price=price)

    async def _reserve_(self, account: str) -> Reserve:
        id_ = await self._ledgers[0].new_reservation_id(account)
        return Reserve(
            account=account, reservation=id_, amount=self._amount(account),
            ttl_ms=self._either(15, 80, 400, 60_000), task=self._either(None, None, f"task-{id_}"),
            provider=self._either(None, "fal"), over_capture=self._either("reject", "cap", "charge"),
            on_expired=self._either("reject", "charge", "charge"), price=self._either(None, *PRICES),
        )  # fmt: skip

    def _reservation(self) -> str | None:
        """One of those made lately, or any."""
        some = self._reservations[-40:] if self._random.random() < 0.9 else self._reservations
        return self._random.choice(some) if some else None

    async def _confirm_(self, _: str) -> Confirm | None:
        id_ = self._reservation()
        if id_ is None:
            return None
        operation = Confirm(
            reservation=id_, amount=self._either(None, None, 0, 3, 9, 45),
            final=self._either(True, True, False),
            over_capture=self._either(None, None, "cap", "charge"), on_expired=self._either(None, "charge"),
            model=self._either(None, "video"),
        )  # fmt: skip
        if not operation.final:
            operation.amount = operation.amount or 2
            self._sign(operation)
        return operation

    async def _cancel_(self, _: str) -> Cancel | None:
        id_ = self._reservation()
        return Cancel(reservation=id_, cause=self._either("requested", "failed")) if id_ else None

    async def _extend_(self, _: str) -> Extend | None:
        id_ = self._reservation()
        return Extend(reservation=id_, ttl_ms=self._either(30, 400, 60_000)) if id_ else None

    async def _bind_(self, _: str) -> Bind | None:
        id_ = self._reservation()
        return Bind(reservation=id_, task=f"late-{id_}", provider=self._either(None, "bfl")) if id_ else None

    async def _refund_(self, _: str) -> Refund | None:
        if not self._spent:
            return None
        some = self._spent[-60:] if self._random.random() < 0.8 else self._spent
        receipt = self._random.choice(some)
        names: dict[str, Any] = {"transaction": receipt.transaction}
        if receipt.entry.reservation is not None and self._random.random() < 0.5:
            names = {"reservation": receipt.entry.reservation}
        operation = await self._ledger().refunding(**names)
        operation.amount = self._either(None, 1, 5, 30)
        operation.bucket = self._either(None, None, *BUCKETS)
        return operation

    async def _adjust_(self, account: str) -> Adjust:
        sign = self._either(1, -1)
        return Adjust(
            account=account, amount=sign * self._amount(account), bucket=self._either(None, None, *BUCKETS),
            short=self._either("reject", "take"),
        )  # fmt: skip

    async def _configure_(self, account: str) -> Configure:
        return Configure(
            account=account, overdraft_limit=self._either(None, 0, 25, CREDITS_MAX),
            status=self._either(None, *["active"] * 6, "frozen", "closed"),
            low_balance=self._either(None, 0, 10),
        )  # fmt: skip
