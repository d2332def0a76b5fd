"""Loads the engine itself, in this process: so many coroutines, each with one operation under way."""

import asyncio
import itertools
import random
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator

from app.ledger.ledger import Ledger
from app.ledger.operations import Confirm, Deduct, Reserve
from tests.bench.bed import ACCOUNTS
from tests.bench.figures import Loaded, loaded

BY = "key:bench"
IN_FLIGHT = 256
MODEL = "video-5s"

Step = Callable[[], Awaitable[object]]


def any_account() -> Iterator[str]:
    """Accounts in a mixed order that repeats after a while."""
    return itertools.cycle(random.Random(7).choices(ACCOUNTS, k=9973))


def deducts(ledger: Ledger, accounts: Iterator[str] | None = None) -> Step:
    """One deduct."""
    accounts = accounts or any_account()

    async def step() -> None:
        await ledger.deduct(Deduct(account=next(accounts), amount=1, model=MODEL, by=BY))

    return step


def pairs(ledger: Ledger) -> Step:
    """A reserve, and once it is answered the confirm."""
    accounts = any_account()

    async def step() -> None:
        account = next(accounts)
        made = await ledger.new_reservation_id(account)
        await ledger.reserve(Reserve(account=account, reservation=made, amount=2, model=MODEL, by=BY))
        await ledger.confirm(Confirm(reservation=made, by=BY))

    return step


async def load(step: Step, seconds: float, in_flight: int = IN_FLIGHT) -> Loaded:
    """Take the step over and over. An error of the ledger ends the run: here none is expected."""
    times = array("d")
    clock = time.perf_counter

    async def go_on() -> None:
        while (began := clock()) < ends:
            await step()
            times.append(clock() - began)

    begun = clock()
    ends = begun + seconds
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(go_on())
    return loaded(times, 0, clock() - begun)
