"""A ledger that was founded and admitted as any other, on a cluster."""

import asyncio

from redis.asyncio import Redis

from app.ledger import keys
from app.ledger.backing import Terms
from persistence.admission import admit
from persistence.birth import give_birth
from tests.cluster.calling import SHARDS, Caller
from tests.cluster.servers import Cluster


async def born(database, database_url: str, redis: Redis, cluster: Cluster) -> Terms:
    """Its terms."""
    await give_birth(database_url, cluster.url, SHARDS)
    return await admit(database, redis)


def calling(redis: Redis, cluster: Cluster, terms: Terms) -> Caller:
    """A process that has these terms."""
    caller = Caller(redis, cluster)
    caller.terms = terms
    return caller


async def statuses(caller: Caller) -> list[str]:
    """What becomes of a grant in each shard."""
    return [(await caller.grant(shard)).status for shard in range(SHARDS)]


def shards_of(cluster: Cluster, shard: int) -> list[int]:
    """Those that are with the server of a shard."""
    return [each for each in range(SHARDS) if cluster.server_of(each) is cluster.server_of(shard)]


async def sequences(redis: Redis, shards) -> list[int]:
    return [int(await redis.hget(keys.meta(shard), "sequence")) for shard in shards]


async def all_admitted(database, redis: Redis) -> Terms:
    """The terms once every shard is served: nodes take a moment to come back."""
    async with asyncio.timeout(20):
        while (terms := await admit(database, redis)).fences:  # noqa: ASYNC110 - others bring them back
            await asyncio.sleep(0.05)
    return terms
