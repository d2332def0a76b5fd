"""The real engine as the machine drives it: on one loop, at a set time, with streams for a journal."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import msgspec
from redis.asyncio import Redis

from app.ledger import keys
from app.ledger.entries import Entry
from app.ledger.errors import LedgerError
from app.ledger.operations import (
    Adjust,
    Balance,
    Bind,
    Cancel,
    Configure,
    Confirm,
    Deduct,
    Extend,
    Find,
    Grant,
    Locate,
    Operation,
    Original,
    Refund,
    Reserve,
    Write,
)
from app.ledger.shards import TransactionId
from tests.engine import Clock, engine, script_with_clock
from tests.property.stored import Stored, read


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

    def journal_catches_up(self) -> None:
        """As if PostgreSQL had everything: a shard whose oldest unjournaled entry is hours old stops."""
        self._runner.run(self._journal_catches_up())

    async def _journal_catches_up(self) -> None:
        for shard in range(self.shards):
            found = await self._awaited(self._redis.hmget(keys.meta(shard), ["sequence", "bytes"]))
            caught_up: Any = {"journaled": found[0], "journaled_bytes": found[1], "oldest_ms": ""}
            await self._awaited(self._redis.hset(keys.meta(shard), mapping=caught_up))

    def apply(self, operations: Sequence[Operation]) -> list[Any]:
        """Let operations arrive at the same moment; their answers and errors in order."""
        return self._runner.run(self._apply(operations))

    async def _apply(self, operations: Sequence[Operation]) -> list[Any]:
        operations = [await self._looked_up(operation) for operation in operations]
        return await asyncio.gather(*(self._ask(operation) for operation in operations))

    def batch(self, operations: Sequence[Write], *, atomic: bool) -> tuple[list[Any], int | None]:
        """Let operations arrive as one batch; their answers and errors in order, and which one failed."""
        return self._runner.run(self._batch(operations, atomic=atomic))

    async def _batch(self, operations: Sequence[Write], *, atomic: bool) -> tuple[list[Any], int | None]:
        batched = await self.ledger.batch([await self._looked_up(each) for each in operations], atomic=atomic)
        return batched.results, batched.failed

    async def _ask(self, operation: Operation) -> Any:
        ask: dict[type, Callable[[Any], Awaitable[Any]]] = {
            Grant: self.ledger.grant, Deduct: self.ledger.deduct, Reserve: self.ledger.reserve,
            Confirm: self.ledger.confirm, Cancel: self.ledger.cancel, Extend: self.ledger.extend,
            Refund: self.ledger.refund, Adjust: self.ledger.adjust, Configure: self.ledger.configure,
            Bind: self.ledger.bind,
            Balance: lambda each: self.ledger.balance(each.account, reservations=each.open),
            Find: lambda each: self.ledger.find(each.reservation),
            Locate: lambda each: self.ledger.locate(each.provider, each.task),
        }  # fmt: skip
        try:
            return await ask[type(operation)](operation)
        except LedgerError as error:
            return error

    async def _looked_up(self, operation: Any) -> Any:
        """A refund as the engine itself finds what is to be given back; everything else as it is. One that is
        asked for again names what there was to be given back then.
        """
        if not isinstance(operation, Refund) or operation.refusal:
            return operation
        first = operation.originals[0]
        found = [await self.ledger.refunding(TransactionId.parse(first.transaction), None)]
        if first.reservation is not None:
            found.append(await self.ledger.refunding(None, first.reservation))
        names = [each.transaction for each in operation.originals]
        found = [each for each in found if [original.transaction for original in each.originals] == names]
        for each in found:
            assert each.account == operation.account
            assert [spent(original) for original in each.originals] == list(map(spent, operation.originals))
            operation = msgspec.structs.replace(operation, originals=each.originals)
        return operation

    def refuses_to_refund(self, transaction: TransactionId) -> tuple[str, dict[str, Any]] | None:
        """Why a transaction cannot be given back, or `None`."""
        try:
            found = self._runner.run(self.ledger.refunding(transaction, None))
        except LedgerError as error:
            return error.word, error.facts
        return ("not_refundable", found.refusal) if found.refusal else None

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
        return self._runner.run(read(self._redis, shard))


def spent(original: Original) -> Original:
    """Without what has been given back of it, which need not be told while Redis knows it."""
    return msgspec.structs.replace(original, refunded=0)
