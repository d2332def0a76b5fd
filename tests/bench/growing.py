"""A ledger of some size: made through COPY, brought into Redis by a restore, measured, loaded, counted."""

import asyncio
import itertools
import random
import time
from collections.abc import Iterator
from typing import NamedTuple

from redis import Redis

from app.embedded import Valkey
from app.ledger.ledger import Ledger
from app.ledger.operations import Deduct
from tests.bench.balances import mismatches
from tests.bench.bed import Bed, House, execute, run
from tests.bench.draining import drained
from tests.bench.engine import BY, IN_FLIGHT, MODEL, deducts, load
from tests.bench.figures import Samples
from tests.bench.filled import Size, customer, fill
from tests.bench.remaking import Reconciled, Restored, Verified, reconciled, restored, verified
from tests.bench.rows.monitoring import asked, counted
from tests.bench.weights import Weights, weigh

HOLDS_EVERY = 10
DEDUCTS = 9
DAYS = 30


class Standing(NamedTuple):
    """What a ledger costs while nobody asks it. `starts`: seconds; `questions`: milliseconds, by name."""

    restored: Restored
    weights: Weights
    starts: Samples
    reconciled: Reconciled
    verified: Verified
    questions: dict[str, Samples]

    @property
    def slowest(self) -> str:
        """The name of the question that takes longest."""
        return max(self.questions, key=lambda name: self.questions[name].median)


class Grown:
    """One ledger. Nobody journals what it is loaded with until it is counted."""

    def __init__(self, bed: Bed, accounts: int) -> None:
        self.size = Size(accounts, HOLDS_EVERY, DEDUCTS, DAYS)
        self._bed = bed
        self.valkey: Valkey
        self.valkey, self.database_url = bed.born()
        run(fill(self.database_url, self.size))
        self._answered = 0

    @property
    def entries(self) -> int:
        """What was written through COPY, and what it was loaded with."""
        return self.size.rows + self._answered

    def stand(self, rounds: int) -> Standing:
        """Bring it into Redis, and measure what is measured before anybody asks it for anything."""
        made = self.restore()
        starts = Samples([self._start() for _ in range(rounds)])
        equal = reconciled(self.database_url, self.valkey, self.size, full=False)
        proved = verified(self.database_url)
        run(counted(self.database_url))
        questions, _ = run(asked(self.database_url, rounds))
        return Standing(made, weigh(self.valkey.url), starts, equal, proved, questions)

    def restore(self) -> Restored:
        """Bring it into Redis."""
        return restored(self._bed.folder, self.database_url, self.valkey, self.size)

    def _start(self) -> float:
        """Until an API process serves."""
        begun = time.perf_counter()
        service = self._bed.api(self._house)
        seconds = time.perf_counter() - begun
        service.stop()
        return seconds

    @property
    def _house(self) -> House:
        return House(self.valkey, self.database_url, "")

    def load(self, seconds: float) -> tuple[float, float]:
        """Deducts from any of its accounts, by the engine: the rate, and p99 in milliseconds."""
        return run(self._load(seconds))

    async def _load(self, seconds: float) -> tuple[float, float]:
        async with self._house.ledger() as ledger:
            came_to = await load(deducts(ledger, self._any_account()), seconds)
        self._answered += came_to.answered
        return came_to.rate, came_to.p99_ms

    def keyed(self, operations: int) -> float:
        """Bytes by which an operation with a key costs more, in the mean of so many."""
        run(self._keyed(operations))
        self._answered += operations
        return weigh(self.valkey.url).keyed_operation

    async def _keyed(self, operations: int) -> None:
        numbers, accounts = iter(range(operations)), self._any_account()

        async def go_on(ledger: Ledger) -> None:
            for number in numbers:
                await ledger.deduct(
                    Deduct(
                        account=next(accounts), amount=1, model=MODEL, by=BY,
                        key=f"00000000-0000-4000-8000-{number:012}", fingerprint="0123456789abcdef",
                    )
                )  # fmt: skip

        async with self._house.ledger() as ledger, asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(go_on(ledger))

    def _any_account(self) -> Iterator[str]:
        draw = random.Random(7)
        return (customer(draw.randrange(self.size.accounts)) for _ in itertools.count())

    def mismatches(self) -> int:
        """Journals what it was loaded with. Entries that are missing or too many, and accounts of which Redis
        does not hold what their entries add up to.
        """
        run(drained(self.database_url, self.valkey.url, self.entries))
        return self.counted(self.database_url)

    def counted(self, database_url: str) -> int:
        """The same of a database that has all of it."""
        with Redis.from_url(self.valkey.url, protocol=2) as redis:
            return mismatches(redis, database_url, self.entries)

    def drop(self) -> None:
        """Memory and disk are for the next one."""
        self.valkey.stop()
        url, _, name = self.database_url.rpartition("/")
        run(execute(f"{url}/postgres", f"DROP DATABASE {name} WITH (FORCE)"))
