"""What Redis holds of a ledger and what the journal says that it must hold, in the same words."""

import json
from typing import Any, NamedTuple

import msgspec
from redis.asyncio import Redis

from app.ledger import keys, replies
from app.ledger.loading import REMEMBER_MS
from persistence import rebuild
from persistence.pool import Connection

APART_MS_MAX = 5_000
"""A record is forgotten a day after its entry by Redis' clock; between the two passes the call."""


class State(NamedTuple):
    """By name of the key: what it holds (sorted sets as dicts), and when it is forgotten."""

    values: dict[str, Any]
    forgotten: dict[str, int]


async def in_redis(redis: Redis, shards: int) -> State:
    """Everything but metas, streams, lanes, refusals that are remembered, and replays under a second key."""
    values: dict[str, Any] = {}
    forgotten: dict[str, int] = {}
    for shard in range(shards):
        prefix = keys.meta(shard).removesuffix("meta")
        for name in sorted([each.decode() async for each in redis.scan_iter(f"{prefix}*", count=1000)]):
            kind = name.removeprefix(prefix).partition(":")[0]
            if kind in ("meta", "journal", "lane"):
                continue
            value = await _value(redis, name, kind)
            if kind == "operation" and not await _is_entrys_own(redis, shard, name, value):
                continue
            values[name] = value
            if (at_ms := await redis.pexpiretime(name)) != -1:
                forgotten[name] = at_ms
    return State(values, forgotten)


async def _value(redis: Redis, name: str, kind: str) -> Any:
    if kind in ("due", "holds", "aside"):
        return {
            member.decode(): int(score) for member, score in await redis.zrange(name, 0, -1, withscores=True)
        }
    text = await redis.get(name)
    if kind == "account":
        return msgspec.json.decode(text, type=replies.Account)
    if kind == "reservation":
        return msgspec.json.decode(text, type=replies.Reservation)
    return json.loads(text) if kind == "operation" else text.decode()


async def _is_entrys_own(redis: Redis, shard: int, name: str, record: dict[str, Any]) -> bool:
    if "s" not in record:
        return False
    found = await redis.xrange(keys.journal(shard), f"{record['s']}-0", f"{record['s']}-0")
    return not found or json.loads(found[0][1][b"entry"]).get("fingerprint") == record["f"]


async def spoil(redis: Redis, name: str) -> None:
    """Give the account under a key one credit that no entry has brought."""
    account = msgspec.json.decode(await redis.get(name), type=replies.Account)
    changed = msgspec.structs.replace(account, available=account.available + 1)
    await redis.set(name, msgspec.json.encode(changed))


async def in_journal(connection: Connection, shards: int, now_ms: int) -> State:
    """What `persistence.rebuild` gives, under the names that Redis has for it."""
    state = State({}, {})
    for shard in range(shards):
        await _add_balances(state, connection, shard)
        await _add_records(state, connection, shard)
        await _add_refunds(state, connection, shard)
    async for bindings in rebuild.pages_of_bindings(connection, shards, now_ms, page=3):
        for binding in bindings:
            name = keys.task(binding.shard, binding.provider, binding.task)
            state.values[name], state.forgotten[name] = binding.reservation, binding.forgotten_at_ms
    return state


async def _add_balances(state: State, connection: Connection, shard: int) -> None:
    values, forgotten = state
    due: dict[str, int] = {}
    async for accounts in rebuild.pages_of_accounts(connection, shard, page=3):
        values |= {keys.account(shard, id_): each for id_, each in accounts.items()}
        lapsing = {f"account:{id_}": each.lapses_at_ms for id_, each in accounts.items()}
        due |= {member: at_ms for member, at_ms in lapsing.items() if at_ms}
    async for open_ones in rebuild.pages_of_open_reservations(connection, shard, page=3):
        for each in open_ones.values():
            values[keys.reservation(shard, each.id)] = each
            values.setdefault(keys.holds(shard, each.account), {})[each.id] = each.expires_at_ms
            due[f"reservation:{each.id}:{each.account}"] = each.expires_at_ms
    async for ended in rebuild.pages_of_settled_reservations(connection, shard, 0, page=3):
        for each in ended.values():
            name = keys.reservation(shard, each.id)
            values[name], forgotten[name] = each, each.settled_at_ms + REMEMBER_MS
    if due:
        values[keys.due(shard)] = due


async def _add_records(state: State, connection: Connection, shard: int) -> None:
    async for records in rebuild.pages_of_records(connection, shard, 0, page=3):
        for record in records:
            name = keys.operation(shard, record.subject, record.id, record.key)
            state.values[name] = {"f": record.fingerprint, "s": record.sequence}
            state.forgotten[name] = record.forgotten_at_ms


async def _add_refunds(state: State, connection: Connection, shard: int) -> None:
    async for refunds in rebuild.pages_of_refunds(connection, shard, 0, page=3):
        for each in refunds:
            name = keys.refunded(shard, each.transaction)
            state.values[name], state.forgotten[name] = str(each.total), each.forgotten_at_ms


def assert_same(expected: State, found: State) -> None:
    """Demand that both hold the same under the same names, and forget it at the same time."""
    assert expected.values == found.values
    assert expected.forgotten.keys() == found.forgotten.keys()
    apart = {name: found.forgotten[name] - at_ms for name, at_ms in expected.forgotten.items()}
    assert {name: ms for name, ms in apart.items() if not 0 <= ms + 1 <= APART_MS_MAX} == {}
