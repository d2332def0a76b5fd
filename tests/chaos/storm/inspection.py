"""A ledger, its town and all that looks at them: opened together, and brought to a calm in which all is held
against all.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from redis.asyncio import Redis

from app.ledger.connection import connect
from persistence.pool import open_pool
from tests.chaos.storm.audit import Audit
from tests.chaos.storm.history import History
from tests.chaos.storm.proofs import Proofs
from tests.chaos.storm.records import Book, Findings
from tests.chaos.storm.settling import Settling
from tests.chaos.storm.stage import Stage
from tests.chaos.storm.stores import Stores
from tests.chaos.storm.town import Town


class Inspection:
    """Of one stage. `redis` and `database` are its own connections, over no bad wire."""

    def __init__(self, stage: Stage, town: Town, book: Book, redis: Redis, database: asyncpg.Pool) -> None:
        self.stage = stage
        self.town = town
        self.book = book
        self.redis = redis
        self.database = database
        self.proofs = Proofs(stage.postgres.url, redis, book.findings)
        self.settling = Settling(stage, redis, database, book.findings)
        self.history: History

    async def begin(self) -> None:
        """Wait until everything serves, and open the accounts."""
        self.history = await History.of(self.database, self.book.findings)
        self._audit = Audit(self.book, self.history)
        self._stores = Stores(self.redis, self.database, self.history, self.book.findings)
        await self.settling.well()
        await self.town.open_accounts()

    async def calm(self, *, everything: bool = False) -> None:
        """Wait until all is well and journaled, then compare what is new, or everything, with everything."""
        await self.settling.well()
        await self.town.look_later()
        await self.settling.drained()
        await self._stores.compare(everything=everything)
        if not self.book.findings.count:
            await self.proofs.check(everything=everything)
        if everything:
            self._audit.all_again()
        else:
            self._audit.check()


@asynccontextmanager
async def inspected(stage: Stage, seed: int) -> AsyncIterator[Inspection]:
    """A town of customers over an open stage, whose accounts are open."""
    book = Book(Findings())
    town = Town([api.url for api in stage.apis], stage.token, book, seed)
    database = await open_pool(stage.postgres.url, connections_max=2)
    try:
        async with connect(stage.redis_url) as redis:
            inspection = Inspection(stage, town, book, redis, database)
            await inspection.begin()
            yield inspection
    finally:
        town.close()
        await database.close()
