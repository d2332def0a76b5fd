"""Ledgers that stand in for ours behind the same application, so that only the ledger differs."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from litestar import Litestar

from app.http.parts import Parts
from app.ledger.entries import Entry, Leg
from app.ledger.operations import Deduct
from app.ledger.receipts import Batched, Receipt
from app.ledger.replies import Account, Lot
from app.ledger.shards import shard_of
from tests.bench.bed import SHARDS

Open = Callable[[], Awaitable[Any]]


def plug(app: Litestar, open_ledger: Open) -> Litestar:
    """The application with another ledger; all other parts stay as they are."""

    async def replace(app: Litestar) -> None:
        parts: Parts = app.state.parts
        parts.ledger = await open_ledger()

    app.on_startup.append(replace)
    return app


def receipt(operation: Deduct, version: int, available: int) -> Receipt:
    """What our ledger would answer for this deduct."""
    now_ms = int(time.time() * 1000)
    shard = shard_of(operation.account, SHARDS)
    entry = Entry(
        format=1,
        kind="deducted",
        at_ms=now_ms,
        account=operation.account,
        version=version,
        amount=operation.amount,
        available=available,
        held=0,
        legs=[Leg("plan", 0, -operation.amount, 0)],
        incarnation=1,
        nonce="0123456789abcdef",
        by=operation.by,
        model=operation.model,
    )
    lots = [Lot("plan", 10, 0, available, 0, 1), Lot("extras", 20, 0, available, 0, 2)]
    account = Account(format=1, version=version, available=available, held=0, lots=lots)
    return Receipt(shard, version, entry, operation.notes, account, None, replayed=False)


class InstantLedger:
    """Answers at once, always the same."""

    def __init__(self) -> None:
        self.receipt = receipt(
            Deduct(account="customer-0001", amount=1, model="video-5s"), 12_345, 999_987_655
        )

    @classmethod
    async def open(cls) -> "InstantLedger":
        return cls()

    async def deduct(self, _: Deduct) -> Receipt:
        return self.receipt

    async def batch(self, operations: Sequence[Deduct], *, atomic: bool) -> Batched:
        return Batched([self.receipt] * len(operations))
