"""The real engine as the machine drives it: on one loop, at a set time, with streams for a journal."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import msgspec
from redis.asyncio import Redis

from app.ledger import keys, replies
from app.ledger.entries import Entry
from app.ledger.errors import LedgerError
from app.ledger.operations import (
    Balance,
    Bind,
    Cancel,
    Confirm,
    Deduct,
    Find,
    Grant,
    Locate,
    Operation,
    Reserve,
)
from tests.engine import Clock, engine, script_with_clock


class Stored(NamedTuple):
    """What Redis holds of one shard. `due` and `holds` are sorted sets; `forgotten_at_ms`: -1 is never."""

    meta: dict[str, str]
    accounts: dict[str, replies.Account]
    reservations: dict[str, replies.Reservation]
    due: dict[str, int]
    holds: dict[str, dict[str, int]]
    forgotten_at_ms: dict[str, int]


class Engine:
    """Owns its loop, so that a state machine (which is not a coroutine) can use it."""

    def __init__(self, connect: Callable[[], Redis], shards: int) -> None:
        self.shards = shards
        self._runner = asyncio.Runner()
        self._open = AsyncExitStack()
        self._journaled = [0] * shards
        self._runner.run(self._begin(connect, shards))

    async def _begin(self, connect: Callable[[], Redis], shards: int) -> None:
        self._redis = await self._open.enter_async_context(connect())
        await self._redis.flushall()
        self._clock = Clock(self._redis)
        running = engine(self._redis, shards=shards, script=script_with_clock())
        self.ledger, _ = await self._open.enter_async_context(running)

    def close(self) -> None:
        self._runner.run(self._open.aclose())
        self._runner.close()

    def set_time(self, now_ms: int) -> None:
        self._runner.run(self._clock.set(now_ms))

    def pass_time(self, shard: int) -> None:
        self._runner.run(self.ledger.pass_time(shard))

    def apply(self, operations: Sequence[Operation]) -> list[Any]:
        """Let operations arrive at the same moment; their answers and errors in order."""
        return self._runner.run(self._apply(operations))

    async def _apply(self, operations: Sequence[Operation]) -> list[Any]:
        return await asyncio.gather(*(self._ask(operation) for operation in operations))

    async def _ask(self, operation: Operation) -> Any:
        ask: dict[type, Callable[[Any], Awaitable[Any]]] = {
            Grant: self.ledger.grant, Deduct: self.ledger.deduct, Reserve: self.ledger.reserve,
            Confirm: self.ledger.confirm, Cancel: self.ledger.cancel, Bind: self.ledger.bind,
            Balance: lambda each: self.ledger.balance(each.account, reservations=each.open),
            Find: lambda each: self.ledger.find(each.reservation),
            Locate: lambda each: self.ledger.locate(each.provider, each.task),
        }  # fmt: skip
        try:
            return await ask[type(operation)](operation)
        except LedgerError as error:
            return error

    @staticmethod
    async def _awaited(command: Awaitable[Any]) -> Any:
        return await command

    def new_lines(self, shard: int) -> list[tuple[int, Entry, str | None]]:
        """What the stream of a shard holds that was not asked for before: sequence, entry, notes."""
        found = self._runner.run(
            self._awaited(
                self._redis.xrange(keys.journal(shard), min=f"{self._journaled[shard] + 1}-0", max="+")
            )
        )
        lines = []
        for id_, fields in found:
            sequence, _, rest = id_.decode().partition("-")
            assert rest == "0"
            notes = fields.get(b"notes")
            entry = msgspec.json.decode(fields[b"entry"], type=Entry, strict=True)
            lines.append((int(sequence), entry, notes and notes.decode()))
            self._journaled[shard] = int(sequence)
        return lines

    def stored(self, shard: int) -> Stored:
        """Everything that Redis holds of a shard but its stream."""
        return self._runner.run(self._stored(shard))

    async def _stored(self, shard: int) -> Stored:
        prefix = keys.meta(shard).removesuffix("meta")
        names = sorted([name.decode() async for name in self._redis.scan_iter(f"{prefix}*", count=1000)])
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.pexpiretime(name)
                kind = name.removeprefix(prefix).partition(":")[0]
                if kind in {"account", "reservation"}:
                    pipe.get(name)
                elif kind in {"due", "holds"}:
                    pipe.zrange(name, 0, -1, withscores=True)
                elif kind == "meta":
                    pipe.hgetall(name)
                else:
                    pipe.exists(name)
            answers = await pipe.execute()
        ends = dict(zip(names, answers[0::2], strict=True))
        values = {name.removeprefix(prefix): value for name, value in zip(names, answers[1::2], strict=True)}
        account, reservation = replies.Account, replies.Reservation
        return Stored(
            meta={name.decode(): value.decode() for name, value in values["meta"].items()},
            accounts={k: msgspec.json.decode(v, type=account) for k, v in _named(values, "account:")},
            reservations={
                k: msgspec.json.decode(v, type=reservation) for k, v in _named(values, "reservation:")
            },
            due=_scores(values.get("due", [])),
            holds={name: _scores(value) for name, value in _named(values, "holds:")},
            forgotten_at_ms={name.removeprefix(prefix): at_ms for name, at_ms in ends.items()},
        )


def _named(values: dict[str, Any], prefix: str) -> list[tuple[str, Any]]:
    return [(name.removeprefix(prefix), value) for name, value in values.items() if name.startswith(prefix)]


def _scores(pairs: list[tuple[bytes, float]]) -> dict[str, int]:
    return {member.decode(): int(score) for member, score in pairs}
