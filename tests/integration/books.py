"""Compares the two stores: whatever Redis says, the journal must add up to."""

import hashlib
import json
import random
import time
from uuid import UUID

import asyncpg
import msgspec
from redis.asyncio import Redis

from app.ledger import keys, replies
from app.ledger.entries import Entry, chained, genesis, seal
from app.ledger.operations import Bind, Cancel, Confirm, Deduct, Grant, Operation, Reserve, Sweep
from app.ledger.shards import new_reservation_id
from tests.integration.streams import Caller
from tests.integration.wishes import Wishes


async def assert_equal(database: asyncpg.Pool, redis: Redis) -> int:
    """Demand that the journal has everything that Redis has, and nothing else. Streams must not be trimmed.
    Returns how many rows there are.
    """
    ledger, shards = await database.fetchrow("SELECT id, shards FROM ledger")
    total = 0
    for shard in range(shards):
        total += await _assert_journal(database, redis, ledger, shard)
        await _assert_accounts(database, redis, shard)
        await _assert_reservations(database, redis, shard)
        await _assert_refunds(database, redis, shard)
    await assert_conserved(database)
    return total


async def _assert_journal(database: asyncpg.Pool, redis: Redis, ledger: UUID, shard: int) -> int:
    stream = await redis.xrange(keys.journal(shard))
    rows = await database.fetch("SELECT * FROM journal WHERE shard = $1 ORDER BY seq", shard)
    assert [int(entry_id.split(b"-")[0]) for entry_id, _ in stream] == [row["seq"] for row in rows]
    assert [fields[b"entry"].decode() for _, fields in stream] == [row["entry"] for row in rows]

    head = genesis(ledger.bytes, shard)
    for row in rows:
        head = chained(head, shard, row["seq"], row["entry"].encode())
        assert row["hash"] == head
        entry = msgspec.json.decode(row["entry"], type=Entry)
        columns = (
            "incarnation",
            "kind",
            "account",
            "version",
            "amount",
            "available",
            "held",
            "task",
            "model",
            "by",
        )
        assert [row[name] for name in columns] == [getattr(entry, name) for name in columns]
        assert row["operation_key"] == entry.key
        assert (row["reservation"] and str(row["reservation"])) == entry.reservation
        assert row["at"].timestamp() * 1000 == entry.at_ms

    notes = await database.fetch("SELECT seq, text FROM notes WHERE shard = $1 ORDER BY seq", shard)
    assert [(row["seq"], row["text"]) for row in notes] == [
        (int(entry_id.split(b"-")[0]), fields[b"notes"].decode())
        for entry_id, fields in stream
        if b"notes" in fields
    ]
    of_row = {row["seq"]: json.loads(row["entry"])["notes"] for row in rows if '"notes"' in row["entry"]}
    assert of_row == {row["seq"]: hashlib.sha256(row["text"].encode()).hexdigest() for row in notes}

    meta = {name.decode(): value.decode() for name, value in (await redis.hgetall(keys.meta(shard))).items()}
    standing = await database.fetchrow("SELECT * FROM shards WHERE shard = $1", shard)
    size = sum(len(fields[b"entry"]) + len(fields.get(b"notes", b"")) for _, fields in stream)
    assert (meta["sequence"], meta["journaled"]) == (str(len(rows)), str(len(rows)))
    assert (meta["bytes"], meta["journaled_bytes"]) == (str(size), str(size))
    assert meta["oldest_ms"] in ("", "0")
    assert (standing["cursor"], standing["bytes"], standing["head"]) == (len(rows), size, head)
    assert (standing["link"], standing["incarnation"]) == (meta["link"], int(meta["incarnation"]))
    return len(rows)


async def _assert_accounts(database: asyncpg.Pool, redis: Redis, shard: int) -> None:
    prefix = keys.account(shard, "")
    in_redis = {
        key.decode().removeprefix(prefix): msgspec.json.decode(await redis.get(key), type=replies.Account)
        async for key in redis.scan_iter(match=prefix.replace("{", "[{]") + "*")
    }
    rows = await database.fetch(
        """
        SELECT account, version, available, held, overdraft_limit, status, low_balance FROM accounts
        WHERE shard = $1
        """,
        shard,
    )
    assert {row["account"]: tuple(row)[1:] for row in rows} == {
        name: (
            each.version, each.available, each.held, each.overdraft_limit, each.status, each.low_balance
        )
        for name, each in in_redis.items()
    }  # fmt: skip
    lots = await database.fetch(
        """
        SELECT account, bucket, priority, expires_at_ms, available, held, since FROM lots
        WHERE account = ANY($1)
        ORDER BY account, priority, expires_at_ms = 0, expires_at_ms, since, bucket COLLATE "C"
        """,
        list(in_redis),
    )
    assert {
        name: [replies.Lot(*tuple(row)[1:]) for row in lots if row["account"] == name] for name in in_redis
    } == {name: each.lots for name, each in in_redis.items()}


async def _assert_reservations(database: asyncpg.Pool, redis: Redis, shard: int) -> None:
    prefix = keys.reservation(shard, "")
    in_redis = [
        msgspec.json.decode(await redis.get(key), type=replies.Reservation)
        async for key in redis.scan_iter(match=prefix.replace("{", "[{]") + "*")
    ]
    rows = await database.fetch("SELECT * FROM reservations WHERE shard = $1", shard)
    shown = {
        str(row["id"]): (
            row["account"], row["status"], row["reserved"], row["captured"], row["charged"], row["released"],
            row["held"], row["expires_at"].timestamp() * 1000, row["created_at"].timestamp() * 1000,
            row["settled_at"] and row["settled_at"].timestamp() * 1000, row["cancel_cause"],
            row["task"], row["provider"], row["model"],
            row["reserved_seq"], row["bound_seq"], row["ended_seq"],
            row["late"], row["extensions"], json.loads(row["parts"] or "[]"),
            row["over_capture"], row["on_expired"], row["price"] and json.loads(row["price"]),
        )
        for row in rows
    }  # fmt: skip
    assert shown == {
        each.id: (
            each.account, each.status, each.reserved, each.captured, each.charged, each.released,
            each.held, each.expires_at_ms, each.created_at_ms,
            each.settled_at_ms, each.cancel_cause,
            each.task, each.provider, each.model,
            each.reserved_sequence, each.bound_sequence, each.ended_sequence,
            each.late, each.extensions, msgspec.to_builtins(each.parts),
            each.over_capture, each.on_expired, msgspec.to_builtins(each.price),
        )
        for each in in_redis
    }  # fmt: skip


async def _assert_refunds(database: asyncpg.Pool, redis: Redis, shard: int) -> None:
    prefix = keys.refunded(shard, "")
    in_redis = {
        int(key.decode().rpartition("-")[2]): int(await redis.get(key))
        async for key in redis.scan_iter(match=prefix.replace("{", "[{]") + "*")
    }
    rows = await database.fetch("SELECT seq, refunded FROM refunds WHERE shard = $1", shard)
    assert dict(map(tuple, rows)) == in_redis
    above = """
    SELECT r.* FROM refunds r LEFT JOIN journal j USING (shard, seq)
    WHERE j.kind IS NULL OR j.kind NOT IN ('deducted', 'confirmed') OR r.refunded > j.amount
    """
    assert await database.fetch(above) == []


async def assert_conserved(database: asyncpg.Pool) -> None:
    """I2 and I3, from PostgreSQL alone: accounts are the sums of their lots, reservations hold what accounts
    have held, what came in is there, spent or lapsed, and who owes something has nothing else to spend.
    """
    apart = """
    SELECT account FROM accounts
    LEFT JOIN (SELECT account, sum(available) AS available, sum(held) AS held FROM lots GROUP BY account)
      AS lots USING (account)
    LEFT JOIN (SELECT account, sum(held) AS held FROM reservations GROUP BY account) AS open USING (account)
    WHERE (accounts.available, accounts.held, accounts.held)
      IS DISTINCT FROM (coalesce(lots.available, 0), coalesce(lots.held, 0), coalesce(open.held, 0))
    """
    assert await database.fetch(apart) == []
    sums = dict(await database.fetch("SELECT kind, sum(amount) FROM journal GROUP BY kind"))
    there = await database.fetchval("SELECT coalesce(sum(available + held), 0) FROM accounts")
    gone = sum(sums.get(kind, 0) for kind in ("deducted", "confirmed", "lapsed"))
    assert sum(sums.get(kind, 0) for kind in ("granted", "refunded", "adjusted")) == there + gone
    owing = """
    SELECT account FROM lots debt JOIN accounts USING (account)
    WHERE bucket = 'overdraft' AND (
      debt.available >= 0 OR debt.held <> 0 OR accounts.available < -overdraft_limit
      OR accounts.available <> debt.available
    )
    """
    assert await database.fetch(owing) == []


class Shop:
    """Asks for whatever comes to its mind: accounts with buckets that lapse, debts, holds that end in every
    way, and what `Wishes` has.
    """

    def __init__(self, caller: Caller, shards: int, seed: int) -> None:
        self._caller = caller
        self._shards = shards
        self._random = random.Random(seed)
        self._wishes = Wishes(self._random, lambda task, _: int(task.split("-")[1]))

    async def trade(self, calls: int) -> None:
        """Make `calls` calls of 1 to 12 operations; most of them are carried out, the others refused."""
        for _ in range(calls):
            operations = [self._operation() for _ in range(self._random.randint(1, 12))]
            reply = await self._caller.call(operations)
            assert reply.status == "ok", reply.detail
            words = {each.word for each in reply.results if isinstance(each, replies.Declined)}
            assert "internal_error" not in words, reply
            self._wishes.learn(operations, reply)

    def _operation(self) -> Operation:
        choose = self._random.choice
        if self._wishes.reservations and self._random.random() < 0.4:
            return self._settle(self._wishes.some_reservation())
        shard = self._random.randrange(self._shards)
        account = f"account-{shard}-{self._random.randrange(4)}"
        if self._random.random() < 0.3:
            return self._wishes.about_account(shard, account, time.time_ns() // 1_000_000)
        amount = choose([1, 2, 5, 13, 51, 2**40 + 1])
        now_ms = time.time_ns() // 1_000_000
        match choose(["grant", "grant", "deduct", "reserve", "reserve", "sweep"]):
            case "grant":
                return Grant(
                    shard=shard, account=account, amount=amount * 3, open=True,
                    bucket=choose(["default", "plan", "x/y"]), priority=choose([None, None, 10, 200]),
                    expires_at_ms=choose([0, now_ms + 30, now_ms + 200, now_ms + 60_000]),
                )  # fmt: skip
            case "deduct":
                return Deduct(shard=shard, account=account, amount=amount, model=choose([None, "lip-sync"]))
            case "reserve":
                sealed = seal(resource="image-1")
                return Reserve(
                    shard=shard, account=account, reservation=new_reservation_id(shard, now_ms),
                    amount=amount, ttl_ms=choose([10, 60_000]), model=choose([None, "video"]),
                    task=choose([None, self._task(shard)]), task_shard=shard, resource="image-1",
                    notes=sealed.text, notes_hash=sealed.hash, **self._wishes.terms(),
                )  # fmt: skip
            case _:
                return Sweep(shard=shard)

    def _settle(self, seen: replies.Reservation) -> Operation:
        choose, reservation = self._random.choice, seen.id
        shard = int(reservation[15:18], 16)
        if self._random.random() < 0.5:
            return self._wishes.about_reservation(shard, seen)
        match choose(["confirm", "confirm", "cancel", "bind"]):
            case "confirm":
                return Confirm(shard=shard, reservation=reservation, amount=choose([None, None, 1]))
            case "cancel":
                return Cancel(shard=shard, reservation=reservation, cause=choose(["requested", "failed"]))
            case _:
                task = self._task(shard)
                return Bind(shard=shard, reservation=reservation, task=task, provider="fal", task_shard=shard)

    def _task(self, shard: int) -> str:
        return f"task-{shard}-{self._random.randrange(10**9)}"
