"""Whether Redis holds of each account what PostgreSQL says that its entries add up to."""

from collections.abc import Iterator
from typing import Any

import asyncpg
import msgspec
from redis import Redis, RedisCluster

from app.ledger import keys
from tests.bench.bed import SHARDS, fetch, run

_PAGE = 10_000
_ENTRIES = "SELECT count(*) FROM journal"
_BALANCES = "SELECT account, version, available, held FROM accounts WHERE shard = {}"


class _Sums(msgspec.Struct, frozen=True):
    version: int
    available: int
    held: int


_sums = msgspec.json.Decoder(_Sums).decode


def mismatches(redis: "Redis | RedisCluster", database_url: str, entries: int) -> int:
    """Entries that are missing or too many, and accounts that Redis has otherwise. All is journaled."""
    wrong = abs(run(fetch(database_url, _ENTRIES))[0][0] - entries)
    for shard in range(SHARDS):
        for page in _pages(run(fetch(database_url, _BALANCES.format(shard)))):
            texts: Any = redis.mget([keys.account(shard, row["account"]) for row in page])
            for (_, *sums), text in zip(page, texts, strict=True):
                wrong += text is None or msgspec.structs.astuple(_sums(text)) != tuple(sums)
    return wrong


def _pages(rows: list[asyncpg.Record]) -> Iterator[list[asyncpg.Record]]:
    for first in range(0, len(rows), _PAGE):
        yield rows[first : first + _PAGE]
