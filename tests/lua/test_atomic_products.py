"""I1 for debts, parts, late confirms, extensions, refunds, adjustments, settings and groups.

As `test_atomic`, which also shows that fakeredis fails where the servers do.
"""

from collections.abc import Callable

import pytest
from redis.exceptions import ResponseError

from app.ledger import keys
from app.ledger.connection import connect
from app.ledger.operations import (
    Adjust,
    Cancel,
    Configure,
    Confirm,
    Deduct,
    Extend,
    Grant,
    Operation,
    Original,
    Refund,
    Reserve,
    Sweep,
    Trace,
)
from app.ledger.shards import shard_of_task
from tests.lua.conftest import founded
from tests.lua.direct import ANA, BIA, SHARD, SHARDS, Direct
from tests.lua.dump import difference, dump, without_traces
from tests.lua.invariants import check_keys
from tests.lua.scenes import MINUTE_MS, grant, keyed
from tests.lua.test_atomic import NEW, OPEN, whole_or_not_at_all

LATE = f"00000000-0000-7{SHARD:03x}-8000-000000000004"
TASK_SHARD = shard_of_task("fal", "t", SHARDS)
SPENT = Original(transaction=f"{SHARD}-1-5", left=[("plan", 0, 10)])
BEFORE = Original(transaction=f"{SHARD}-1-6", left=[("gone", 1, 5), ("default", 0, 5)])
PRICE = '{"model":"m","version":1,"base":"0","price":"1","units":"120"}'
NOTES = {"notes": '{"salt":"00"}', "notes_hash": "ab" * 32}

CALLS: dict[str, Callable[[int], list[Operation]]] = {
    "a renewal": lambda now: [
        Grant(account=ANA, amount=5, bucket="plan", expires_at_ms=now + 900_000, rollover=5, **keyed())
    ],
    "a deduct that is owed": lambda _: [Deduct(account=ANA, amount=120, price=PRICE, **keyed())],
    "a part": lambda _: [Confirm(reservation=OPEN, amount=5, final=False, **keyed())],
    "a confirm of more than is held": lambda _: [Confirm(reservation=OPEN, amount=90)],
    "a confirm of what was late": lambda _: [Confirm(reservation=LATE, **keyed())],
    "an extension": lambda _: [Extend(reservation=OPEN, ttl_ms=90_000, task_shard=TASK_SHARD, **keyed())],
    "an extension that lacks the shard of its task": lambda _: [
        Extend(reservation=OPEN, ttl_ms=90_000, **keyed())
    ],
    "a refund": lambda _: [Refund(account=ANA, originals=[SPENT], **keyed(), **NOTES)],
    "a refund of what was given back before": lambda _: [Refund(account=ANA, originals=[BEFORE, SPENT])],
    "an adjustment": lambda _: [Adjust(account=ANA, amount=-500, short="take", **keyed())],
    "settings": lambda _: [Configure(account=ANA, overdraft_limit=7, status="frozen", low_balance=1)],
    "settings that open": lambda _: [Configure(account="new1", low_balance=1, open=True)],
    "settings that are so": lambda _: [Configure(account=ANA, overdraft_limit=50)],
    "a trace": lambda _: [Trace(shard=SHARD, sequence=1)],
    "all of a group": lambda _: [
        Deduct(account=ANA, amount=1, **keyed()),
        Grant(account=BIA, amount=1, open=True),
        Cancel(reservation=OPEN, **keyed()),
        Reserve(account=ANA, reservation=NEW, amount=1, task="u"),
    ],
    "none of a group": lambda _: [
        Grant(account=BIA, amount=1, open=True),
        Cancel(reservation=OPEN, **keyed()),
        Deduct(account=ANA, amount=1000, **keyed("no")),
    ],
}


async def products_of(redis) -> Direct:
    """ana: a plan and a rest, may owe 50; one open reservation with a task, one that has expired."""
    direct = await founded(redis)
    await grant(direct, 50, "plan", 5 * MINUTE_MS)
    await grant(direct, 60)
    await direct.do(Reserve(account=ANA, reservation=LATE, amount=10, ttl_ms=1000, on_expired="charge"))
    await direct.do(Configure(account=ANA, overdraft_limit=50))
    for _ in range(2):
        await direct.do(Deduct(account=ANA, amount=10))
    await direct.clock.advance(1000)
    await direct.do(Sweep(shard=SHARD))
    await direct.do(
        Reserve(
            account=ANA, reservation=OPEN, amount=20, ttl_ms=20_000, task="t", provider="fal",
            over_capture="charge",
        )
    )  # fmt: skip
    await direct.do(Refund(account=ANA, originals=[BEFORE], amount=3))
    return direct


async def carry(direct: Direct, name: str):
    """One of the calls; those of a group are all or none."""
    return await direct.send(*CALLS[name](direct.now_ms), atomic=name.endswith("group"))


@pytest.mark.parametrize("any_redis", ["valkey", "redis-server"], indirect=True)
@pytest.mark.parametrize("name", CALLS)
async def test_when_a_write_fails_nothing_has_been_written(any_redis, name):
    direct = await products_of(any_redis)
    await whole_or_not_at_all(direct, lambda: carry(direct, name))


async def test_a_server_that_has_no_memory_left_has_written_nothing(own_valkey):
    async with connect(own_valkey.url) as redis:
        direct = await products_of(redis)
        beginning = await dump(redis)
        await redis.config_set("maxmemory", "1")
        for name in CALLS:
            with pytest.raises(ResponseError, match="maxmemory"):
                await carry(direct, name)
            assert beginning == await dump(redis), name
        await redis.config_set("maxmemory", "0")
        await carry(direct, "all of a group")
        await check_keys(redis)


@pytest.mark.parametrize("name", [each for each in CALLS if each != "settings that open"])
async def test_a_stream_with_a_higher_last_id_fences_its_shard_and_moves_nothing(direct_fake, name):
    direct = await products_of(direct_fake.redis)
    await direct.redis.xadd(keys.journal(SHARD), {"garbage": "1"}, id="77-0")
    before = without_traces(await dump(direct.redis))
    reply = await carry(direct, name)
    assert "ledger_fenced" in {getattr(each, "word", "ok") for each in reply.results}
    assert {keys.meta(SHARD)} == difference(before, without_traces(await dump(direct.redis)))
