"""What the tables have, put into a Redis that was just born: as `lastro restore` would, but without its
proofs, which read every entry.
"""

from redis.asyncio import Redis

from app.ledger.connection import connect
from app.ledger.loading import Page
from persistence import rebuild
from persistence.pool import Connection, open_pool

STANDINGS = """
SELECT shard, cursor, bytes, link, entry, (extract(epoch FROM at) * 1000)::bigint AS now_ms
FROM shards JOIN journal USING (shard) WHERE seq = cursor ORDER BY shard
"""


async def load(database_url: str, redis_url: str) -> None:
    """All accounts and open reservations, and how far each shard has come, with its last entry."""
    async with (
        await open_pool(database_url, connections_max=1) as pool,
        pool.acquire() as connection,
        connect(redis_url, answer_seconds=30.0) as redis,
    ):
        for shard, cursor, size, link, last, now_ms in await connection.fetch(STANDINGS):
            await _fill(connection, redis, shard)
            page = Page(shard)
            page.entry(cursor, last, None)
            page.meta(
                sequence=cursor, link=link, now_ms=now_ms, journaled=cursor, bytes=size, journaled_bytes=size
            )
            await _write(redis, page)


async def _fill(connection: Connection, redis: Redis, shard: int) -> None:
    async for accounts in rebuild.pages_of_accounts(connection, shard):
        page = Page(shard)
        for id_, account in accounts.items():
            page.account(id_, account)
        await _write(redis, page)
    async for reservations in rebuild.pages_of_open_reservations(connection, shard):
        page = Page(shard)
        for reservation in reservations.values():
            page.reservation(reservation)
        await _write(redis, page)


async def _write(redis: Redis, page: Page) -> None:
    async with redis.pipeline(transaction=False) as both:
        for command in page.commands():
            both.execute_command(*command)
        await both.execute()
