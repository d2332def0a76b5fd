"""Some accounts through a year or two, in few steps: the clock jumps between them."""

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from app.ledger.errors import LedgerError
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
    Operation,
    Reserve,
)
from tests.engine import Clock

HOUR_MS = 3_600_000
PAUSES_MS = (
    *[0] * 30, 1_000, *[61_000] * 4, 16 * 60_000, HOUR_MS, 5 * HOUR_MS, 23 * HOUR_MS, 24 * HOUR_MS,
    25 * HOUR_MS, 7 * 24 * HOUR_MS, 30 * 24 * HOUR_MS,
)  # fmt: skip


class Years:
    """`ledger` goes by `clock`. `journaled`: waits for the journal, without which nothing can be spent after
    a jump.
    """

    def __init__(
        self, ledger: Ledger, clock: Clock, journaled: Callable[[], Awaitable[None]], seed: int
    ) -> None:
        self._ledger = ledger
        self._journaled = journaled
        self._clock = clock
        self._random = random.Random(seed)
        self._accounts = [f"account-{number}" for number in range(6)]
        self._reservations: list[str] = []
        self._spent: list[dict[str, Any]] = []

    async def begin(self) -> None:
        """One of everything, so that nothing depends on chance alone."""
        ledger, account = self._ledger, "beginner"
        lapses_at_ms = self._clock.now_ms + HOUR_MS
        await ledger.grant(Grant(account=account, amount=100))
        await ledger.grant(Grant(account=account, amount=7, bucket="plan", expires_at_ms=lapses_at_ms))
        parted, late, given_up = [await ledger.new_reservation_id(account) for _ in range(3)]
        for made in (parted, late, given_up):
            terms = {"amount": 10, "ttl_ms": 60_000, "model": "video"}
            await ledger.reserve(Reserve(account=account, reservation=made, **terms))
        part = {"amount": 4, "final": False, "key": "part", "fingerprint": "0123456789abcdef"}
        await ledger.confirm(Confirm(reservation=parted, **part))
        await ledger.confirm(Confirm(reservation=parted))
        await ledger.cancel(Cancel(reservation=given_up, cause="failed"))
        deducted = await ledger.deduct(Deduct(account=account, amount=5, model="lip-sync"))
        await ledger.refund(await ledger.refunding(deducted.transaction))
        await ledger.adjust(Adjust(account=account, amount=-1))
        await self._journaled()
        await self._clock.advance(2 * HOUR_MS)
        await ledger.confirm(Confirm(reservation=late, on_expired="charge"))

    async def end(self) -> None:
        """Something is held."""
        made = await self._ledger.new_reservation_id("beginner")
        await self._ledger.reserve(
            Reserve(account="beginner", reservation=made, amount=3, ttl_ms=24 * HOUR_MS)
        )
        await self._journaled()

    async def go_on(self, steps: int) -> None:
        """As many operations; some of them are refused."""
        for _ in range(steps):
            jump = self._random.choice(PAUSES_MS)
            if jump:
                await self._journaled()
                await self._clock.advance(jump + self._random.randrange(1_000_000))
            with suppress(LedgerError):
                await self._step()

    async def _step(self) -> None:
        account = self._random.choice(self._accounts)
        choose, ledger = self._random.choice, self._ledger
        match choose(
            ["grant", "deduct", "reserve", "reserve", "settle", "settle", "settle", "other", "refund"]
        ):
            case "grant":
                await ledger.grant(self._grant(account))
            case "deduct":
                receipt = await ledger.deduct(
                    Deduct(account=account, amount=choose([1, 5, 900]), model=choose([None, "lip-sync"]))
                )
                self._spent.append({"transaction": receipt.transaction})
            case "reserve":
                made = await ledger.new_reservation_id(account)
                await ledger.reserve(self._reserve(account, made))
                self._reservations.append(made)
            case "settle" if self._reservations:
                await self._settle(choose(self._reservations[-6:]))
            case "refund" if self._spent:
                refund = await ledger.refunding(**choose(self._spent))
                refund.amount = choose([None, 1])
                await ledger.refund(refund)
            case "other":
                await self._carry_out(self._other(account))

    async def _settle(self, reservation: str) -> None:
        choose = self._random.choice
        key = f"part-{self._random.random()}"
        part = Confirm(
            reservation=reservation, amount=choose([1, 9]), final=False, key=key,
            fingerprint="0123456789abcdef",
        )  # fmt: skip
        confirm = Confirm(
            reservation=reservation, amount=choose([None, None, 0, 1, 30, 2000]),
            over_capture=choose(["charge", "cap"]), on_expired="charge", model=choose([None, "flux/pro"]),
        )  # fmt: skip
        for operation in choose([
            [confirm],
            [part],
            [part, Confirm(reservation=reservation)],
            [Cancel(reservation=reservation, cause=choose(["requested", "failed"]))],
            [Extend(reservation=reservation, ttl_ms=20 * HOUR_MS)],
            [Bind(reservation=reservation, task=key, provider="fal")],
        ]):  # fmt: skip
            await self._carry_out(operation)
        self._spent.append({"reservation": reservation})

    def _grant(self, account: str) -> Grant:
        choose = self._random.choice
        return Grant(
            account=account, amount=choose([10, 40, 2**52]), bucket=choose(["default", "plan"]),
            expires_at_ms=choose([0, 0, self._clock.now_ms + 26 * HOUR_MS]),
        )  # fmt: skip

    def _reserve(self, account: str, made: str) -> Reserve:
        choose = self._random.choice
        return Reserve(
            account=account, reservation=made, amount=choose([10, 20]),
            ttl_ms=choose([60_000, 60_000, 24 * HOUR_MS]), model=choose([None, "video", "lip-sync"]),
        )  # fmt: skip

    def _other(self, account: str) -> Operation:
        choose = self._random.choice
        return choose([
            Adjust(account=account, amount=choose([-9, 9]), short="take"),
            Configure(account=account, overdraft_limit=choose([50, 60, 1000]), open=True),
        ])  # fmt: skip

    async def _carry_out(self, operation: Operation) -> None:
        verb = type(operation).__name__.lower()
        await getattr(self._ledger, verb)(operation)
