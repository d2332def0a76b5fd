"""A stream lets go of what is journaled and no longer wanted, and of nothing else (I8, I14)."""

import json

import pytest

from app.ledger import keys
from app.ledger.stream import Keep
from persistence.admission import admit
from tests.integration.journal.workers import (
    keep_journal,
    rows,
)
from tests.integration.streams import forge, replace_server


async def test_a_stream_is_trimmed_behind_the_cursor_and_never_past_it(database, redis, caller, worker):
    await caller.grant(0, calls=5)
    await caller.grant(1, calls=5)

    async def barrier(name: str) -> None:
        if name == "after commit":
            await caller.grant(0, calls=2)

    async with worker(keep=Keep(ms=0, bytes=0), barrier=barrier) as journal:
        await journal.one_batch(0)
    assert [entry_id for entry_id, _ in await redis.xrange(keys.journal(0))] == [b"6-0", b"7-0"]
    meta = await redis.hgetall(keys.meta(0))
    oldest = json.loads((await redis.xrange(keys.journal(0), count=1))[0][1][b"entry"])["at_ms"]
    assert (meta[b"journaled"], int(meta[b"oldest_ms"])) == (b"5", oldest)
    assert await redis.xlen(keys.journal(1)) == 5


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (Keep(ms=3_600_000, bytes=1 << 30), 10),
        (None, 10),
        (Keep(ms=3_600_000, bytes=0), 0),
        (Keep(ms=0, bytes=1 << 30), 0),
        (Keep(ms=0, bytes=1 << 30, trim_max=4), 6),
        (Keep(ms=3_600_000, bytes=1_000), 4),
    ],
)
async def test_what_is_young_and_fits_stays_in_the_stream(database, redis, caller, worker, keep, left):
    await caller.grant(0, calls=10)
    size = int(await redis.hget(keys.meta(0), "bytes"))
    assert 220 <= size / 10 < 240
    now_ms = int((await redis.xrange(keys.journal(0)))[-1][1][b"entry"].split(b'"at_ms":')[1].split(b",")[0])
    while (await redis.time())[0] * 1000 + (await redis.time())[1] // 1000 <= now_ms + 1:
        pass
    await keep_journal(worker, keep=keep)
    assert await redis.xlen(keys.journal(0)) == left
    assert await rows(database) == 10


async def test_old_entries_go_and_young_ones_stay(database, redis, caller, worker):
    await caller.grant(0)
    for number in range(2, 40):
        age_ms = 10_000 if number < 23 else 0
        await forge(redis, 0, at_ms=(await redis.time())[0] * 1000 - age_ms)
    await keep_journal(worker)
    await redis.xtrim(keys.journal(0), minid="2-0", approximate=False)
    await keep_journal(worker, keep=Keep(ms=5_000, bytes=1 << 30))
    assert (await redis.xrange(keys.journal(0), count=1))[0][0] == b"23-0"
    assert await redis.xlen(keys.journal(0)) == 17


async def test_nothing_is_trimmed_in_a_redis_that_was_admitted_under_another_number(
    database, redis, caller, worker
):
    await caller.grant(0, calls=3)

    async def barrier(name: str) -> None:
        if name == "after commit":
            await replace_server(redis)
            await admit(database, redis)

    async with worker(keep=Keep(ms=0, bytes=0), barrier=barrier) as journal:
        await journal.one_batch(0)
    assert await redis.xlen(keys.journal(0)) == 3
    assert await redis.hget(keys.meta(0), "journaled") == b"0"
