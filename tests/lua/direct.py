"""Calls of the script without an engine around it: every member of a call is the test's to choose."""

import itertools
import secrets

import msgspec
from redis.asyncio import Redis

from app.ledger import keys, replies
from app.ledger.calls import Call
from app.ledger.operations import Operation
from app.ledger.replies import Account, Applied, Declined, Located, Reply, Reservation
from app.ledger.running import run
from app.ledger.scripts import Script
from app.ledger.shards import new_reservation_id, shard_of, shard_of_task
from tests.engine import Clock, Streams

SHARDS = 4
ANA, BIA = "ana", "bia"
SHARD = shard_of(ANA, SHARDS)

_encode = msgspec.json.Encoder().encode


class Direct:
    """A founded ledger of four shards, at a time that stands still, and a process that calls it."""

    def __init__(self, redis: Redis, journal: Streams, script: Script) -> None:
        self.redis = redis
        self.journal = journal
        self.script = script
        self.clock = Clock(redis)
        self.lane = keys.lane(0, "direct")
        self.backlog_max = 1_000_000
        self.backlog_bytes_max = 1 << 40
        self.numbers = itertools.count(1)

    @property
    def now_ms(self) -> int:
        return self.clock.now_ms

    async def send(
        self,
        *operations: Operation,
        number: int | None = None,
        deadline_ms: int | None = None,
        lane: str | None = None,
        nonce: str | None = None,
        atomic: bool = False,
    ) -> Reply:
        """One call with these operations; each gets the shard of its account, when it names one, or 0."""
        shards = set()
        for each in operations:
            if each.shard < 0:
                each.shard = self.shard_of(each)
            shards.add(each.shard)
            task = getattr(each, "task", None)
            if task is not None and getattr(each, "task_shard", 0) < 0:
                each.task_shard = shard_of_task(each.provider, task, SHARDS)
            if getattr(each, "task_shard", -1) >= 0:
                shards.add(each.task_shard)
        terms = self.journal.terms
        call = Call(
            terms.ledger,
            terms.server,
            nonce or secrets.token_urlsafe(12),
            next(self.numbers) if number is None else number,
            self.now_ms + 30_000 if deadline_ms is None else deadline_ms,
            [(shard, terms.incarnations[shard]) for shard in shards],
            self.backlog_max,
            self.backlog_bytes_max,
            list(operations),
            atomic,
        )
        names = [lane or self.lane, *map(keys.meta, shards)]
        return replies.decode(await run(self.redis, self.script, names, [_encode(call).decode()]))

    async def together(self, *operations: Operation) -> list[Applied | Located | Declined]:
        """All of these operations or none."""
        reply = await self.send(*operations, atomic=True)
        assert reply.status == "ok", reply
        return reply.results

    async def ask(self, operation: Operation) -> Applied | Located | Declined:
        """One operation in a call of its own."""
        reply = await self.send(operation)
        assert reply.status == "ok", reply
        return reply.results[0]

    async def do(self, operation: Operation) -> tuple[Applied, Account | None, Reservation | None]:
        """One operation that must be applied, with the account and the reservation as they are then."""
        reply = await self.send(operation)
        assert reply.status == "ok", reply
        applied = reply.results[0]
        assert isinstance(applied, Applied), applied
        account = reply.accounts[applied.account] if applied.account >= 0 else None
        return applied, account, reply.reservations[applied.reservation] if applied.reservation >= 0 else None

    async def refused(self, operation: Operation) -> Declined:
        """One operation that must be refused."""
        result = await self.ask(operation)
        assert isinstance(result, Declined), result
        return result

    def shard_of(self, operation: Operation) -> int:
        """Where an operation belongs: by the reservation it names, or by its account."""
        reservation = getattr(operation, "reservation", None)
        if reservation is not None:
            return int(reservation[15:18], 16)
        account = getattr(operation, "account", None)
        return shard_of(account, SHARDS) if account is not None else 0

    def new_id(self, account: str = ANA) -> str:
        """An id for a reservation of this account."""
        return new_reservation_id(shard_of(account, SHARDS), self.now_ms)

    async def journaled(self, shard: int = SHARD) -> None:
        """The journal has everything of a shard."""
        name = keys.meta(shard)
        sequence, length = await self.redis.hmget(name, "sequence", "bytes")
        await self.redis.hset(
            name, mapping={"journaled": sequence, "journaled_bytes": length, "oldest_ms": 0}
        )

    async def meta(self, field: str, shard: int = SHARD) -> str:
        found = await self.redis.hget(keys.meta(shard), field)
        return found.decode() if found is not None else ""

    async def account(self, account: str = ANA) -> Account:
        stored = await self.redis.get(keys.account(shard_of(account, SHARDS), account))
        return msgspec.json.decode(stored, type=Account)
