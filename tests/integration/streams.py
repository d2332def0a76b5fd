"""Writes into the streams what the journal has to cope with: real calls of the script, and forged entries."""

import itertools
import json
import secrets
from collections.abc import Sequence
from datetime import datetime

import msgspec
from redis.asyncio import Redis

from app.ledger import keys, replies, scripts
from app.ledger.backing import Terms
from app.ledger.calls import Call
from app.ledger.operations import Grant, Operation
from app.ledger.replies import Reply
from app.ledger.running import run

_encode = msgspec.json.Encoder().encode


class Caller:
    """A process that calls the script, one call at a time, without an engine around it."""

    def __init__(self, redis: Redis, terms: Terms) -> None:
        self.terms = terms
        self._redis = redis
        self._lane = keys.lane(0, secrets.token_hex(4))
        self._numbers = itertools.count(1)

    async def call(self, operations: Sequence[Operation], *, nonce: str | None = None) -> Reply:
        """Carry out `operations` (their `shard` set) in one call, under the terms this caller has."""
        seconds, microseconds = await self._redis.time()
        concerned = sorted({each.shard for each in operations})
        call = Call(
            ledger=self.terms.ledger,
            server=self.terms.server,
            nonce=nonce or secrets.token_hex(8),
            number=next(self._numbers),
            deadline_ms=seconds * 1000 + microseconds // 1000 + 30_000,
            shards=[(shard, self.terms.incarnations[shard]) for shard in concerned],
            backlog_max=1_000_000,
            backlog_bytes_max=1 << 30,
            operations=list(operations),
        )
        names = [self._lane, *map(keys.meta, concerned)]
        return replies.decode(await run(self._redis, scripts.load("apply"), names, [_encode(call).decode()]))

    async def grant(self, shard: int, calls: int = 1, entries: int = 1) -> None:
        """`calls` calls of `entries` grants each, to accounts of the shard."""
        for _ in range(calls):
            reply = await self.call(
                [Grant(shard=shard, account=f"ana{shard}", amount=1, open=True) for _ in range(entries)]
            )
            assert reply.status == "ok", reply.detail
            assert all(isinstance(each, replies.Applied) for each in reply.results)


async def forge(redis: Redis, shard: int, beside: str | None = None, **changes: object) -> str:
    """Append an entry as a call of its own would: the last one of the shard again, with `changes` to its
    members (`None` leaves one out) and `beside` as its notes. Returns its nonce.
    """
    meta = await redis.hgetall(keys.meta(shard))
    last = (await redis.xrevrange(keys.journal(shard), count=1))[0][1][b"entry"]
    entry = json.loads(last)
    nonce = secrets.token_hex(8)
    legs = sum(leg[2] for leg in entry["legs"])
    entry |= {
        "nonce": nonce,
        "previous_nonce": meta[b"link"].decode(),
        "version": entry["version"] + 1,
        "available": entry["available"] + legs,
    }
    entry = {name: value for name, value in (entry | changes).items() if value is not None}
    await append(redis, shard, json.dumps(entry, separators=(",", ":")), nonce, beside)
    return nonce


def ms(moment: datetime) -> int:
    """As entries have it."""
    return int(moment.timestamp() * 1000)


async def append(redis: Redis, shard: int, text: str | bytes, nonce: str, notes: str | None = None) -> None:
    """Append `text` as an entry, with the meta that goes with it."""
    sequence = int(await redis.hget(keys.meta(shard), "sequence")) + 1
    fields = {"entry": text} | ({"notes": notes} if notes else {})
    await redis.xadd(keys.journal(shard), fields, id=f"{sequence}-0")
    await redis.hset(keys.meta(shard), mapping={"sequence": sequence, "link": nonce})
    await redis.hincrby(keys.meta(shard), "bytes", len(text) + len(notes or ""))


async def snapshot(redis: Redis) -> dict[bytes, bytes]:
    """Everything that a Redis holds, to put it back later with `roll_back`."""
    return {key: await redis.dump(key) async for key in redis.scan_iter(count=1000)}


async def replace_server(redis: Redis) -> None:
    """What a demotion and promotion does: the connection and the data stay, the server is another one."""
    await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    await redis.execute_command("REPLICAOF", "NO", "ONE")


async def roll_back(redis: Redis, to: dict[bytes, bytes]) -> None:
    """What a crash or a failover does: the data is as it was, and the server is another one."""
    await put_back(redis, to)
    await replace_server(redis)


async def put_back(redis: Redis, to: dict[bytes, bytes]) -> None:
    """What nobody should do: the data is as it was, and nothing tells the server from what it was before."""
    await redis.flushdb()
    for key, value in to.items():
        await redis.restore(key, 0, value)
