"""Providers' tasks on a cluster, where no call serves two shards: a task is claimed in its own shard, before
the reservation that it belongs to is made, bound or extended.

A claim outlives the reservation's deadline as any binding does, so that mostly nothing more is to be done.
Where the reservation is refused its claim is given up. Where the process dies between the two the claim
remains, and nobody knows for a while (`young`) whether the reservation is still on its way: its own shard
refuses an operation whose claim is older (`claimed_until_ms`). After that a claim without a reservation gives
way to the next one. The repetition of a request by its key need not wait for that: it goes on with the claim,
and the reservation, of the first time. What was answered to a key is answered again, whoever has the task by
then.
"""

from collections.abc import Sequence
from typing import NamedTuple

from app.ledger.asked import Asked, says
from app.ledger.backing import NOWHERE
from app.ledger.batcher import Batcher
from app.ledger.carrier import CALL_DEADLINE_MS
from app.ledger.errors import (
    JournalBacklogged,
    LedgerError,
    LedgerUnavailable,
    Overloaded,
    ReservationNotFound,
    TaskConflict,
    Unavailable,
)
from app.ledger.lasting import REMEMBERED_MS
from app.ledger.operations import Bind, Claim, Extend, Reserve
from app.ledger.present import Present
from app.ledger.receipts import Receipt, error_of
from app.ledger.replies import Declined, Located
from app.ledger.shards import shard_of_reservation, shard_of_task
from app.ledger.tickets import Answer

TTL_MS_MAX = 86_400_000

ROUNDS_MAX = 4
"""How often a task is claimed that each time has another reservation, which was never made."""

_ON_ITS_WAY = "somebody else has just claimed this task; repeat the request in a minute"


class Wanted(NamedTuple):
    """An operation that has not been sent, and the task that it is to have."""

    asked: Asked
    provider: str | None
    task: str

    @property
    def operation(self) -> Reserve | Bind | Extend:
        operation = self.asked.operation
        assert isinstance(operation, Reserve | Bind | Extend), operation
        return operation

    def claim(self, count: int, *, keep_ms: int, young_ms: int = 0, instead_of: str | None = None) -> Claim:
        return Claim(
            shard=shard_of_task(self.provider, self.task, count),
            provider=self.provider,
            task=self.task,
            reservation=self.operation.reservation,
            keep_ms=keep_ms,
            young_ms=young_ms,
            request=_request(self.operation),
            instead_of=instead_of,
        )


class Tasks:
    """`count`, everywhere: how many shards the ledger has."""

    def __init__(self, batcher: Batcher, present: Present) -> None:
        self._batcher = batcher
        self._present = present
        self._young_ms = CALL_DEADLINE_MS + 2 * int(batcher.request_seconds * 1000)

    async def claim(self, wanted: Sequence[Wanted], count: int) -> list[Wanted]:
        """Claim them. An operation whose task has another reservation is told so; one of which that cannot be
        known has its outcome. Returns those that have the task now and had it not before.
        """
        fresh: list[Wanted] = []
        instead_of: dict[str, str] = {}
        for _ in range(ROUNDS_MAX):
            if not wanted:
                return fresh
            timely = [(each, until) for each in wanted if (until := await self._until_ms(each))]
            claims = [
                each.claim(
                    count,
                    keep_ms=_keep_ms(each.operation),
                    young_ms=self._young_ms,
                    instead_of=instead_of.get(each.operation.reservation),
                )
                for each, _ in timely
            ]
            taken: list[Wanted] = []
            for (each, until), answer in zip(timely, await self._present.ask(claims), strict=True):
                if says(answer, TaskConflict.word):
                    each.asked.answer = answer
                    taken.append(each)
                elif error := _error(answer):
                    each.asked.outcome = error
                else:
                    assert isinstance(answer, tuple), answer
                    each.operation.claimed_until_ms = until
                    if isinstance(answer[0], Located):
                        each.operation.reservation = answer[0].reservation
                    else:
                        fresh.append(each)
            wanted = await self._given_way(taken, count, instead_of)
        for each in wanted:
            each.asked.outcome = LedgerUnavailable(why="the task changes hands faster than it can be claimed")
        return fresh

    async def _until_ms(self, wanted: Wanted) -> int:
        """Until when its shard may carry it out, by that shard's clock: asked before the claim begins.
        0: nobody can tell, and that is its outcome.
        """
        try:
            return await self._batcher.now_ms_of(wanted.operation.shard) + self._young_ms
        except LedgerUnavailable as error:
            wanted.asked.outcome = error
            return 0

    async def _given_way(
        self, taken: Sequence[Wanted], count: int, instead_of: dict[str, str]
    ) -> list[Wanted]:
        """Those whose task belongs to a reservation that was never made, and never will be."""
        owners = {str(each.asked.facts["reservation"]) for each in taken}
        shards = {owner: shard_of_reservation(owner, count) for owner in owners}
        made = await self._present.all_reservations(
            {owner: shard for owner, shard in shards.items() if shard is not None}
        )
        given_way = []
        for each in taken:
            owner, is_young = str(each.asked.facts["reservation"]), each.asked.facts["young"]
            each.asked.answer = None
            found = made.get(owner) or ReservationNotFound()
            if not isinstance(found, LedgerError):
                each.operation.bound = owner
            elif not isinstance(found, ReservationNotFound):
                each.asked.outcome = found
            elif not is_young:
                instead_of[each.operation.reservation] = owner
                given_way.append(each)
            elif each.operation.key is None:
                each.asked.outcome = LedgerUnavailable(why=_ON_ITS_WAY)
            else:  # what was answered to the key is answered again; nothing is carried out
                each.operation.journaled, each.asked.away = NOWHERE, LedgerUnavailable(why=_ON_ITS_WAY)
        return given_way

    async def give_up(self, fresh: Sequence[Wanted], count: int) -> None:
        """Let go of the tasks of those that were refused, or were answered with another reservation. What
        cannot be said gives way by itself.
        """
        over = [each.claim(count, keep_ms=0) for each in fresh if _is_over(each)]
        await self._present.ask(over)


def _keep_ms(operation: Reserve | Bind | Extend) -> int:
    """As long as any task is kept: a day longer than its reservation can be open."""
    return REMEMBERED_MS + (TTL_MS_MAX if isinstance(operation, Bind) else operation.ttl_ms)


def _request(operation: Reserve | Bind | Extend) -> str | None:
    """What a repetition has in common with the first time, whose outcome nobody may have heard: it is to make
    the reservation of the same id, or none.
    """
    if not isinstance(operation, Reserve) or operation.key is None:
        return None
    return f"{operation.account}:{operation.key}"


def _error(answer: Answer | LedgerError) -> LedgerError | None:
    if isinstance(answer, LedgerError):
        return answer
    return error_of(answer[0]) if isinstance(answer[0], Declined) else None


def _is_over(wanted: Wanted) -> bool:
    """Whether it is certain that the reservation does not have the task by this operation."""
    outcome = wanted.asked.outcome
    if isinstance(outcome, Receipt):
        made = outcome.reservation
        return made is not None and made.id != wanted.operation.reservation
    return outcome is not None and (
        isinstance(outcome, Overloaded | JournalBacklogged) or not isinstance(outcome, Unavailable)
    )
