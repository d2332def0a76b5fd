"""A call as a whole: what it reads before it writes, how large it may be, which texts it carries."""

import pytest
from redis.exceptions import ResponseError

from app.ledger import keys
from app.ledger.connection import connect
from app.ledger.operations import Balance, Bind, Cancel, Confirm, Deduct, Find, Grant, Locate, Reserve, Sweep
from app.ledger.replies import Applied, Located
from app.ledger.scripts import Script
from app.ledger.shards import shard_of
from tests.lua.conftest import founded
from tests.lua.direct import ANA, BIA, SHARD, SHARDS, Direct
from tests.lua.dump import dump
from tests.lua.invariants import check_keys
from tests.lua.mutants import mutated
from tests.lua.test_atomic import OPERATIONS, ledger_of
from tests.lua.test_atomic_products import CALLS, carry, products_of

WRITES = {"XADD", "MSET", "SET", "HSET", "PEXPIRE", "ZADD", "ZREM"}
READS = {"GET", "HGET", "HMGET", "XINFO", "XRANGE", "ZCARD", "ZRANGE", "ZRANGEBYSCORE", "INFO", "EXISTS"}

TRAIL = """
local untold, trail = redis, {}
local redis = {
  call = function(...) trail[#trail + 1] = (...) return untold.call(...) end,
  pcall = function(...) trail[#trail + 1] = (...) return untold.pcall(...) end,
}
"""


def leaving_a_trail(script: Script) -> Script:
    """The script, telling under `test:trail` which commands it sent."""
    told = mutated(
        script, "closing.write(order, plan)\nreturn reply", "closing.write(order, plan)\n"
        "untold.call('SET', 'test:trail', table.concat(trail, ' '))\nreturn reply",
    )  # fmt: skip
    return mutated(told._replace(text="-- begin\n" + told.text), "-- begin\n", TRAIL)


async def entries_of_all(direct: Direct) -> int:
    sequences = [await direct.meta("sequence", shard) for shard in range(SHARDS)]
    return sum(map(int, sequences))


async def trail(direct: Direct) -> list[str]:
    return (await direct.redis.get("test:trail")).decode().split()


@pytest.mark.parametrize("name", [*OPERATIONS, *CALLS])
async def test_nothing_is_read_once_writing_has_begun_and_entries_are_written_first(fake_redis, name):
    direct = await (ledger_of if name in OPERATIONS else products_of)(fake_redis)
    before = await entries_of_all(direct)
    direct.script = leaving_a_trail(direct.script)
    if name in OPERATIONS:
        await direct.send(OPERATIONS[name](direct.now_ms))
    else:
        await carry(direct, name)
    commands = await trail(direct)
    assert set(commands) <= READS | WRITES
    first = min(commands.index(each) for each in WRITES if each in commands)
    assert set(commands[first:]) <= WRITES
    assert "GET" in commands[:first]
    written = await entries_of_all(direct) - before
    assert ["XADD"] * written == commands[first : first + written]
    assert "XADD" not in commands[first + written :]


async def test_entries_are_written_before_anything_else(fake_redis):
    direct = await ledger_of(fake_redis)
    direct.script = leaving_a_trail(direct.script)
    await direct.clock.advance(30_000)
    await direct.send(Deduct(account=ANA, amount=1), Deduct(account=BIA, amount=1))
    written = [each for each in await trail(direct) if each in WRITES]
    assert ["XADD"] * 3 == written[:3]
    assert "XADD" not in written[3:]


async def test_a_hot_account_is_read_once_in_a_call(fake_redis):
    direct = await ledger_of(fake_redis)
    direct.script = leaving_a_trail(direct.script)
    await direct.send(*(Deduct(account=ANA, amount=1) for _ in range(50)))
    commands = await trail(direct)  # one GET is for the clock of the tests
    assert (2, 1, 50) == (commands.count("GET"), commands.count("MSET"), commands.count("XADD"))


async def test_a_call_may_touch_thousands_of_keys(direct_valkey):
    """Lua's stack would end far below: nothing is unpacked whole."""
    direct = direct_valkey
    accounts = [f"u{i}" for i in range(1500)]
    await direct.send(
        *(Grant(account=each, amount=5, open=True, expires_at_ms=direct.now_ms + 5000) for each in accounts)
    )
    ids = [direct.new_id(each) for each in accounts]
    await direct.send(
        *(
            Reserve(account=account, reservation=id_, amount=5, task=id_, key="k", fingerprint="f" * 16)
            for account, id_ in zip(accounts, ids, strict=True)
        )
    )
    reply = await direct.send(*(Cancel(reservation=id_) for id_ in ids))
    assert 1500 == sum(isinstance(each, Applied) for each in reply.results)
    await check_keys(direct.redis)


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": "b"},
        {"1": "x", "2": "y"},
        {"": ""},
        {"k": '"\\/ \u2028 ção 😀'},
        {"k": "1e400"},
        {"null": "null"},
        {},
    ],
)
async def test_metadata_are_shown_as_they_were_given(direct, metadata):
    id_ = direct.new_id()
    await direct.do(Grant(account=ANA, amount=5, open=True))
    await direct.do(Reserve(account=ANA, reservation=id_, amount=1, metadata=metadata, resource='r"\\1'))
    _, _, shown = await direct.do(Find(reservation=id_))
    assert (metadata or None, 'r"\\1') == (shown.metadata or None, shown.resource)
    _, _, shown = await direct.do(Cancel(reservation=id_, reason='no "GPU" \\ ção'))
    assert (metadata or None, 'no "GPU" \\ ção') == (shown.metadata or None, shown.cancel_reason)


async def test_a_task_is_found_where_it_is_kept_and_forgotten_after_its_reservation(direct):
    id_ = direct.new_id()
    await direct.do(Grant(account=ANA, amount=5, open=True))
    _, _, shown = await direct.do(
        Reserve(account=ANA, reservation=id_, amount=1, task="t:1 x", provider="fal", ttl_ms=60_000)
    )
    shard = shard_of("fal:t:1 x", SHARDS)
    assert Located(id_) == await direct.ask(Locate(shard=shard, task="t:1 x", provider="fal"))
    for task, provider in (("t:1 x", None), ("t:1 X", "fal")):
        where = shard_of(f"{provider or ''}:{task}", SHARDS)
        assert (
            "reservation_not_found"
            == (await direct.refused(Locate(shard=where, task=task, provider=provider))).word
        )
    ends_at_ms = await direct.redis.pexpiretime(keys.task(shard, "fal", "t:1 x"))
    assert shown.expires_at_ms + 86_400_000 == ends_at_ms


async def test_a_task_may_be_bound_to_a_reservation_that_has_ended_and_keeps_its_ending(direct):
    id_ = direct.new_id()
    await direct.do(Grant(account=ANA, amount=5, open=True))
    await direct.do(Reserve(account=ANA, reservation=id_, amount=1))
    await direct.do(Confirm(reservation=id_))
    name = keys.reservation(SHARD, id_)
    forgotten = await direct.redis.pexpiretime(name)
    await direct.clock.advance(5000)
    _, _, shown = await direct.do(Bind(reservation=id_, task="t"))
    assert ("confirmed", "t") == (shown.status, shown.task)
    assert forgotten == await direct.redis.pexpiretime(name)
    await check_keys(direct.redis)


async def test_what_has_ended_is_forgotten_a_day_later_and_what_is_pending_never(direct):
    ids = [direct.new_id() for _ in range(3)]
    await direct.do(Grant(account=ANA, amount=5, open=True))
    for id_ in ids:
        await direct.do(Reserve(account=ANA, reservation=id_, amount=1, ttl_ms=60_000))
    await direct.do(Confirm(reservation=ids[0]))
    await direct.do(Cancel(reservation=ids[1]))
    ends = [await direct.redis.pexpiretime(keys.reservation(SHARD, id_)) for id_ in ids]
    assert [direct.now_ms + 86_400_000] * 2 + [-1] == ends
    assert -1 == await direct.redis.pttl(keys.account(SHARD, ANA))


@pytest.mark.parametrize(
    ("field", "value"),
    [("ledger", "another"), ("incarnation", "2"), ("incarnation", "0"), ("server", "f" * 40)],
)
async def test_a_server_that_is_not_what_was_admitted_refuses_before_anything_else(direct, field, value):
    await direct.do(Grant(account=ANA, amount=5, open=True))
    await direct.redis.zadd(keys.due(SHARD), {"garbage": 1})
    await direct.redis.hset(keys.meta(SHARD), field, value)
    before = await dump(direct.redis)
    reply = await direct.send(Deduct(account=ANA, amount=1), Grant(account=BIA, amount=1, open=True))
    assert ("not_admitted", []) == (reply.status, reply.results)
    assert before == await dump(direct.redis)


async def test_a_shard_without_meta_is_not_served_and_not_made(direct):
    await direct.redis.delete(keys.meta(SHARD))
    before = await dump(direct.redis)
    assert "not_admitted" == (await direct.send(Grant(account=ANA, amount=1, open=True))).status
    assert before == await dump(direct.redis)


@pytest.mark.parametrize("field", ["sequence", "journaled", "bytes", "journaled_bytes", "link", "now_ms"])
async def test_a_meta_that_lacks_a_part_serves_nobody(direct, field):
    """Never is what is missing taken for zero."""
    await direct.do(Grant(account=ANA, amount=5, open=True))
    await direct.redis.hdel(keys.meta(SHARD), field)
    before = await dump(direct.redis)
    for operation in (Deduct(account=ANA, amount=1), Grant(account=ANA, amount=1), Sweep(shard=SHARD)):
        with pytest.raises(ResponseError):
            await direct.send(operation)
        assert before == await dump(direct.redis)


async def test_a_replica_that_the_server_became_refuses_to_write(own_valkey):
    async with connect(own_valkey.url) as redis:
        direct = await founded(redis)
        await direct.do(Grant(account=ANA, amount=5, open=True))
        before = await dump(redis)
        await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        try:
            reply = await direct.send(Deduct(account=ANA, amount=1))
        except ResponseError:
            pass
        else:
            assert "not_admitted" == reply.status
        await redis.execute_command("REPLICAOF", "NO", "ONE")
        assert "not_admitted" == (await direct.send(Balance(account=ANA))).status
        assert before == await dump(redis)


async def test_the_open_reservations_that_come_with_a_balance_are_those_of_the_same_moment(direct):
    """Also when others of the same call begin and end some of them before and after."""
    await direct.do(Grant(account=ANA, amount=100, open=True))
    ids = [direct.new_id() for _ in range(4)]
    for i, id_ in enumerate(ids[:3]):
        await direct.do(Reserve(account=ANA, reservation=id_, amount=1, ttl_ms=9000 - i))
    reply = await direct.send(
        Cancel(reservation=ids[0]),
        Balance(account=ANA, open=True),
        Confirm(reservation=ids[1]),
        Reserve(account=ANA, reservation=ids[3], amount=5, ttl_ms=1000),
        Balance(account=ANA, open=True),
    )
    account = reply.accounts[reply.results[1].account]
    for shown in (reply.results[1], reply.results[4]):
        open_ = [reply.reservations[place] for place in shown.open]
        assert [(ids[3], "pending"), (ids[2], "pending")] == [(each.id, each.status) for each in open_]
        assert (account.open_holds, account.held) == (len(open_), sum(each.held for each in open_))


async def test_a_reservation_that_is_missing_among_the_open_ones_is_drift_and_not_shown_as_none(direct):
    await direct.do(Grant(account=ANA, amount=100, open=True))
    await direct.do(Reserve(account=ANA, reservation=(id_ := direct.new_id()), amount=1))
    await direct.redis.delete(keys.reservation(SHARD, id_))
    assert "ledger_fenced" == (await direct.refused(Balance(account=ANA, open=True))).word
    assert 99 == (await direct.do(Balance(account=ANA)))[1].available
