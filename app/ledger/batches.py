"""Many operations at once: each by itself in their order, or all of them together or none.

What Redis cannot know is looked up for all of them at once: keys that hold for ever before anything is sent,
accounts that may be opened and reservations that are forgotten only when Redis has said that it does not know
them.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from msgspec.structs import replace

from app.ledger import errors
from app.ledger.asked import Asked, Outcome, Settling, says
from app.ledger.backing import NOWHERE
from app.ledger.batcher import Batcher
from app.ledger.errors import (
    AccountNotFound,
    BatchAcrossShards,
    BatchFailed,
    LedgerError,
    LedgerFenced,
    LedgerUnavailable,
    Overloaded,
    ReservationNotFound,
    Unavailable,
)
from app.ledger.operations import Bind, Cancel, Confirm, Extend, Grant, Reserve, Write
from app.ledger.outcomes import Outcomes
from app.ledger.present import Present
from app.ledger.receipts import Batched
from app.ledger.replies import Reservation
from app.ledger.shards import shard_of, shard_of_reservation, shard_of_task
from app.ledger.tasks import Tasks, Wanted

ROUNDS_MAX = 8
"""How often an atomic batch is sent: after each failure something was looked up that can be looked up once.
More than three are only needed when the ledger changes in between.
"""

_SETTLING, _BINDING = frozenset({Confirm, Cancel, Extend, Bind}), (Reserve, Bind)

_OF_ONE = (LedgerFenced, BatchFailed)
"""Errors that say of which operation an atomic call failed; all others concern the whole."""


class Batches:
    """Carries out batches. `count`, everywhere: how many shards the ledger has."""

    def __init__(self, batcher: Batcher, present: Present, outcomes: Outcomes) -> None:
        self._batcher = batcher
        self._present = present
        self._outcomes = outcomes
        self._tasks = Tasks(batcher, present) if batcher.is_cluster else None

    async def each(self, operations: Sequence[Write], count: int) -> list[Outcome]:
        """Carry them out one after the other; none depends on what becomes of the others."""
        asked = [Asked(operation) for operation in operations]
        _place(asked, count)
        await self._recall(asked)
        async with self._having_tasks(await self._tasks_of(asked), count):
            await self._send([each for each in asked if each.is_open()])
            return await self.settle(asked, count)

    async def recalled(self, operation: Write, count: int) -> Outcome | None:
        """What was answered to the key of an operation, which is not carried out; `None`: nothing was."""
        asked = Asked(operation)
        _place([asked], count)
        await self._recall([asked])
        if asked.is_open():
            operation.journaled = NOWHERE
            await self._send([asked])
        if asked.is_unknown() and asked.away is None:
            return None
        return (await self.settle([asked], count))[0]

    async def settle(self, asked: Sequence[Asked], count: int) -> list[Outcome]:
        """The outcomes of operations that were sent by themselves."""
        if rest := self._outcomes.receive(asked):
            await self._open_accounts(rest)
            elsewhere = [each for each in rest if says(each.answer, "task_elsewhere")]
            async with self._having_tasks([_named(each) for each in elsewhere], count):
                await self._send_again([each for each in elsewhere if each.is_open()])
                await self._outcomes.settle(rest)
        return _outcomes(asked)

    async def _recall(self, asked: Sequence[Asked]) -> None:
        keyed = [each for each in asked if each.operation.key is not None and each.is_open()]
        if keyed:
            await self._batcher.clock.learn()
            await self._outcomes.recall(keyed, self._batcher.clock.now_ms)

    async def _send(self, asked: Sequence[Asked], *, atomic: bool = False) -> None:
        if asked:
            operations = [each.operation for each in asked]
            answers = await self._batcher.submit_all(operations, atomic=atomic)
            for each, answer in zip(asked, answers, strict=True):
                each.answer = answer

    async def _send_again(self, asked: Sequence[Asked]) -> None:
        """When they cannot be sent, the others have been carried out nevertheless."""
        try:
            await self._send(asked)
        except Unavailable as error:
            for each in asked:
                each.outcome = error

    async def _tasks_of(self, asked: Sequence[Asked]) -> list[Wanted]:
        """The tasks that reservations are to have, or to keep for longer.

        An extend does not name its own. Among others it must not be sent a second time for it: what stands
        behind it would be done before it.
        """
        open_ = [each for each in asked if each.is_open()]
        wanted = [
            Wanted(each, operation.provider, operation.task)
            for each in open_
            if isinstance(operation := each.operation, _BINDING) and operation.task is not None
        ]
        extends = [each for each in open_ if len(asked) > 1 and isinstance(each.operation, Extend)]
        if extends:
            shards = {each.settling.reservation: each.operation.shard for each in extends}
            found, _ = await self._present.reservations(shards)
            for each in extends:
                reservation = found.get(each.settling.reservation)
                if isinstance(reservation, Reservation) and reservation.task is not None:
                    wanted.append(Wanted(each, reservation.provider, reservation.task))
        return wanted

    async def _reach(self, wanted: Sequence[Wanted], count: int) -> list[Wanted]:
        """The calls that carry these out serve their tasks, too; or, where none can, the tasks are claimed.
        Returns those for whom that is new.
        """
        if self._tasks is not None:
            return await self._tasks.claim(wanted, count)
        for each in wanted:
            each.operation.task_shard = shard_of_task(each.provider, each.task, count)
        return []

    @asynccontextmanager
    async def _having_tasks(self, wanted: Sequence[Wanted], count: int) -> AsyncIterator[None]:
        """While these are sent. Tasks that were claimed for what was not done are given up afterwards."""
        claimed = await self._reach(wanted, count)
        try:
            yield
        except Overloaded as error:  # nothing was sent
            for each in claimed:
                each.asked.outcome = error
            raise
        finally:
            if self._tasks is not None and claimed:
                await self._tasks.give_up(claimed, count)

    async def _open_accounts(self, asked: Sequence[Asked]) -> None:
        """Send grants again, whose accounts Redis did not know, and what was asked of these accounts after
        them.
        """
        again: list[Asked] = []
        opened: dict[str, int] = {}
        for each in asked:
            if says(each.answer, "account_unknown") and not each.facts:
                if isinstance(each.operation, Grant):
                    opened[each.operation.account] = each.operation.shard
                if each.account_named in opened:
                    again.append(each)
        if again:
            await self._let_open(again, opened)
            await self._send_again([each for each in again if each.is_open()])

    async def _let_open(self, asked: Sequence[Asked], accounts: Mapping[str, int]) -> None:
        """Grants may open these accounts, unless the journal knows one: that is drift, and never opened."""
        unknown = await self._present.unknown(accounts)
        for each in asked:
            error = unknown[each.account_named]
            if not isinstance(error, AccountNotFound):
                each.outcome = error
            elif isinstance(each.operation, Grant):
                each.operation = replace(each.operation, open=True)

    async def together(self, operations: Sequence[Write], count: int) -> Batched:
        """Carry them all out in one call, or none of them.

        Raises:
            BatchAcrossShards: No call can serve all of them.
            LedgerUnavailable: No definite answer, or PostgreSQL is away where only it knows.
            InternalError: The script failed on the whole.
        """
        asked = [Asked(operation) for operation in operations]
        _place(asked, count)
        await self._recall(asked)
        shards = {each.operation.shard for each in asked if each.is_open()}
        if len(shards) > 1 and (await self._batcher.serving.agreed()).servers:
            raise BatchAcrossShards
        async with self._having_tasks(await self._tasks_of(asked), count):
            batched = await self._together(asked, count)
            for each, outcome in zip(asked, batched.results, strict=True):
                each.outcome = outcome
        return batched

    async def _together(self, asked: Sequence[Asked], count: int) -> Batched:
        for _ in range(ROUNDS_MAX):
            open_ = [each for each in asked if each.is_open()]
            if any(isinstance(each.outcome, LedgerError) for each in asked):
                return _failed(asked)
            if not open_ or await self._is_done(open_):
                await self._outcomes.settle(asked)
                return Batched(_outcomes(asked))
            await self._mend(open_, count)
        raise LedgerUnavailable(why="what the batch names changes faster than it can be looked up")

    async def _is_done(self, asked: Sequence[Asked]) -> bool:
        """Send them. Whether all were carried out; otherwise none was."""
        await self._send(asked, atomic=True)
        for each in asked:
            if isinstance(each.answer, LedgerError) and not isinstance(each.answer, _OF_ONE):
                raise each.answer
        return not any(each.has_failed() for each in asked)

    async def _mend(self, asked: Sequence[Asked], count: int) -> None:
        """None was carried out. Look up what Redis did not know of the one that failed, and the same of all
        others, so that they can be sent again; otherwise that one has its outcome.
        """
        failed = next(each for each in asked if each.has_failed())
        if says(failed.answer, "account_unknown") and isinstance(failed.operation, Grant):
            grants = [each for each in asked if isinstance(each.operation, Grant)]
            await self._let_open(grants, {each.account_named: each.operation.shard for each in grants})
        elif failed.is_forgotten():
            settling = [each for each in asked if isinstance(each.operation, Settling)]
            wanted = {each.settling.reservation: each.operation.shard for each in settling}
            _, unknown = await self._present.reservations(wanted)
            forgotten = [each for each in settling if each.settling.reservation in unknown]
            await self._outcomes.look_for_reservations(forgotten)
        elif says(failed.answer, "task_elsewhere"):
            await self._reach([_named(failed)], count)
        else:
            await self._outcomes.settle([failed])


def _place(asked: Sequence[Asked], count: int) -> None:
    """The shards by which each is decided."""
    for each in asked:
        operation = each.operation
        if type(operation) in _SETTLING:
            shard = shard_of_reservation(each.settling.reservation, count)
            if shard is None:
                each.outcome = ReservationNotFound(errors.NO_SHARD)
                continue
            operation.shard = shard
        else:
            operation.shard = shard_of(operation.account, count)  # type: ignore[attr-defined]


def _named(asked: Asked) -> Wanted:
    """The script has said which task it is that lives elsewhere. It is to be sent again."""
    provider, task = str(asked.facts["provider"]), str(asked.facts["task"])
    asked.answer = None
    return Wanted(asked, provider or None, task)


def _outcomes(asked: Sequence[Asked]) -> list[Outcome]:
    return [each.outcome for each in asked if each.outcome is not None]


def _failed(asked: Sequence[Asked]) -> Batched:
    """The first that has failed says why, the others that they were not carried out for it.

    Raises:
        LedgerUnavailable, Overloaded: That is why; it concerns the whole.
    """
    failed = next(i for i, each in enumerate(asked) if isinstance(each.outcome, LedgerError))
    results: list[Outcome] = [BatchFailed() for _ in asked]
    error = asked[failed].outcome
    if isinstance(error, LedgerUnavailable | Overloaded):
        raise error
    assert error is not None
    results[failed] = error
    return Batched(results, failed)
