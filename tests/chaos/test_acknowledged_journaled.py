"""What `Lastro-Ack: journaled` survives: the lines of its column in docs/acknowledging.md."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from redis.asyncio import Redis

from app.ledger.batcher import Limits
from app.ledger.connection import connect
from app.ledger.errors import LedgerFenced, LedgerUnavailable
from app.ledger.ledger import Ledger
from app.ledger.operations import Grant
from app.ledger.receipts import Receipt
from persistence import admission
from persistence.backing import PostgresBacking
from persistence.birth import give_birth
from persistence.journal import Journal
from persistence.journaled import Journaled
from persistence.pool import Pool, open_pool
from persistence.session import connect as session
from tests.chaos.test_acknowledged import SHARDS, cut, log_of, receipt_of, valkey
from tests.integration.journal.workers import to_the_end


class Backed:
    """A ledger whose journal is kept when the test says so."""

    def __init__(self, ledger: Ledger, pool: Pool, journal: Journal, redis: Redis) -> None:
        self.ledger = ledger
        self.pool = pool
        self.redis = redis
        self._journal = journal

    @classmethod
    @asynccontextmanager
    async def of(cls, url: str, database_url: str) -> AsyncIterator["Backed"]:
        born = await give_birth(database_url, url, SHARDS)
        async with (
            await open_pool(database_url) as pool,
            connect(url) as client,
            connect(url) as aside,
            connect(url) as reading,
        ):
            backing = PostgresBacking(pool, partial(admission.admit, pool, aside))
            ledger = Ledger(client, backing, Limits(request_seconds=2.0))
            await ledger.start()
            connection = await session(database_url)
            journal = Journal(connection, reading, str(born), keep=None)
            await journal.lock([0])
            try:
                await ledger.grant(Grant(account="ana", amount=100))
                yield cls(ledger, pool, journal, aside)
            finally:
                await connection.close()
                await ledger.stop()

    async def journaled_deduct(self) -> Receipt:
        """As `Lastro-Ack: journaled` has it: the answer is given once PostgreSQL has the entry."""
        receipt = await receipt_of(self.ledger)
        waiting = asyncio.create_task(
            Journaled(self.pool).journaled(receipt.transaction, receipt.entry.nonce)
        )
        await to_the_end(self._journal, 0)
        assert await waiting
        return receipt

    async def keep_journal(self) -> None:
        await to_the_end(self._journal, 0)

    async def has(self, receipt: Receipt) -> bool:
        """Whether PostgreSQL has this very entry."""
        return await Journaled(self.pool).wait(
            receipt.shard, receipt.sequence, receipt.entry.nonce, receipt.entry.incarnation, 1.0
        )

    async def balance(self) -> int | None:
        """What is served of ana; `None` while that is refused."""
        try:
            return (await self.ledger.balance("ana")).account.available
        except (LedgerFenced, LedgerUnavailable):
            return None


async def test_what_is_journaled_survives_a_loss_of_power_of_redis_and_is_never_served_without(
    reachable_tmp_path, database_url
):
    """Redis comes back without it: it is rolled forward or refused."""
    with valkey(reachable_tmp_path, "everysec") as server:
        async with Backed.of(server.url, database_url) as backed:
            await backed.keep_journal()
            on_disk = log_of(server).stat().st_size
            receipt = await backed.journaled_deduct()
            server.kill()
            cut(log_of(server), on_disk)
            server.start()
            seen = [await backed.balance() for _ in range(3)]
            assert set(seen) <= {None, 99}
            assert await backed.has(receipt)


async def test_what_is_journaled_survives_the_data_of_redis_and_what_is_not_is_lost(own_valkey, database_url):
    async with Backed.of(own_valkey.url, database_url) as backed:
        receipt = await backed.journaled_deduct()
        lost = await receipt_of(backed.ledger)
        await backed.redis.flushall()
        assert [None] * 3 == [await backed.balance() for _ in range(3)]
        assert await backed.has(receipt)
        assert not await backed.has(lost)


async def test_what_is_journaled_survives_the_process_of_postgresql(own_valkey, own_postgres):
    async with Backed.of(own_valkey.url, own_postgres.url) as backed:
        receipt = await backed.journaled_deduct()
        own_postgres.restart()
        assert await backed.has(receipt)


async def test_an_answer_does_not_need_postgresql_and_is_journaled_when_it_is_back(own_valkey, own_postgres):
    async with Backed.of(own_valkey.url, own_postgres.url) as backed:
        await backed.keep_journal()
        own_postgres.kill()
        receipt = await receipt_of(backed.ledger)
        own_postgres.start()
        connection = await session(own_postgres.url)
        ledger = await connection.fetchval("SELECT id FROM ledger")
        journal = Journal(connection, backed.redis, str(ledger), keep=None)
        await journal.lock([0])
        await to_the_end(journal, 0)
        await connection.close()
        assert await backed.has(receipt)
