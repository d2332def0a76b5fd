"""Those who ask: customers with accounts of their own and some that they share, at work or at rest."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random

from tests.chaos.storm.asking import Asking
from tests.chaos.storm.jobs import Customer
from tests.chaos.storm.records import Book

CUSTOMERS = 16
OWN = 2
SHARED = 5
OWN_SHARE = 0.6
PAUSE_SECONDS_MAX = 0.1


class Town:
    """All customers of a storm."""

    def __init__(self, urls: Sequence[str], token: str, book: Book, seed: int) -> None:
        self._book = book
        self._rngs = [Random(f"{seed}-{number}") for number in range(CUSTOMERS)]
        self._asking = [Asking(urls, token, book, rng) for rng in self._rngs]
        self._customers = [
            Customer(f"c{number}", asking, book, rng)
            for number, (asking, rng) in enumerate(zip(self._asking, self._rngs, strict=True))
        ]
        self._shared = [f"shared-{number}" for number in range(SHARED)]

    async def open_accounts(self) -> None:
        """A first grant to each."""
        for account in self._shared:
            await self._customers[0].open(account)
        await asyncio.gather(
            *(customer.open(account) for customer in self._customers for account in self._own(customer))
        )

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Everybody asks; in the end everybody finishes what they began."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for customer, rng in zip(self._customers, self._rngs, strict=True):
                group.create_task(self._live(customer, rng, stop))
            try:
                yield
            finally:
                stop.set()

    async def look_later(self) -> None:
        """Ask again for everything that somebody gave up on for a while."""
        later, self._book.later = self._book.later, []
        async with asyncio.TaskGroup() as group:
            for number, record in enumerate(later):
                group.create_task(self._asking[number % CUSTOMERS].ask(record, stubborn=True))

    def forget(self) -> None:
        """Nobody remembers an answer that could be asked for again."""
        for customer in self._customers:
            customer.done.clear()

    def close(self) -> None:
        """Hang up."""
        for asking in self._asking:
            asking.close()

    def _own(self, customer: Customer) -> list[str]:
        return [f"{customer.name}-account-{number}" for number in range(OWN)]

    async def _live(self, customer: Customer, rng: Random, stop: asyncio.Event) -> None:
        own = self._own(customer)
        while not stop.is_set():
            await customer.errand(rng.choice(own if rng.random() < OWN_SHARE else self._shared))
            await asyncio.sleep(rng.uniform(0, PAUSE_SECONDS_MAX))
