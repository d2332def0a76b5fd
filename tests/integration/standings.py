"""What PostgreSQL and Redis have noted of two shards, and how a test notes it."""

from app.ledger import keys

SHARDS = 2


async def shards(database, column: str) -> list[object]:
    return [row[0] for row in await database.fetch(f"SELECT {column} FROM shards ORDER BY shard")]


async def metas(redis, field: str) -> list[str]:
    return [(await redis.hget(keys.meta(shard), field)).decode() for shard in range(SHARDS)]


async def server_of(redis) -> str:
    return (await redis.info("replication"))["master_replid"]


async def journaled(database, redis, shard: int) -> None:
    """Let PostgreSQL know of all that the shard has, without the rows."""
    meta = await redis.hgetall(keys.meta(shard))
    await database.execute(
        "UPDATE shards SET cursor = $2, link = $3 WHERE shard = $1",
        shard, int(meta[b"sequence"]), meta[b"link"].decode(),
    )  # fmt: skip
