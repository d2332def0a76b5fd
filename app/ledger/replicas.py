"""Answers that wait until replicas have what stands in them (`LASTRO_ACK=replicated=N`).

WAIT speaks of the last write of its own connection, and on one that has written nothing it answers at once.
So this has a connection of its own (on a cluster one to the server of its lane), on which it writes (the
lane's life begins anew) and waits: whatever any call was answered before is older than that write. One WAIT
serves all calls that were answered since the last one, the next call is never delayed, and a reply that was
repeated from its lane, which writes nothing, is waited for like any other.

A server that was demoted and promoted again counts offsets of another history. After each WAIT it is asked
who it is, and what was answered under another name is not acknowledged.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.ledger.connection import node_of
from app.ledger.errors import NOT_REPLICATED, LedgerUnavailable
from app.ledger.operations import Claim, Write
from app.ledger.replies import Declined, Reply
from app.ledger.tickets import Result, Ticket

log = logging.getLogger(__name__)

LANE_MS = 600_000
"""As `lua/apply.lua` has it."""

WAIT_MS_MAX = 1000
"""Below what a command may take before its connection counts as broken."""

AGAIN_SECONDS = 0.05

_SAYS_NOTHING = frozenset(
    {
        "later",
        "account_unknown",
        "ledger_fenced",
        "journal_backlogged",
        "internal_error",
        "task_elsewhere",
        "batch_failed",
    }
)
"""Words with which nothing was done and nothing is told that could be lost."""

Answered = tuple[Ticket, Result]
"""An operation and what it came to."""


class _Held(NamedTuple):
    """The answers of one call: who gave them, and under which lane they are stored there."""

    answered: list[Answered]
    reply: Reply
    server: str
    lane: str


class _Heard(NamedTuple):
    """How many replicas have all that was answered before, and who says so (empty: no primary)."""

    replicas: int
    server: str


class Replicas:
    """Holds the answers of writes back. Reads say what Redis has now, and are not held.

    Args:
        redis: Used by nobody else than those that wait.
        count: How many replicas must have acknowledged.
    """

    def __init__(self, redis: Redis, count: int) -> None:
        self.waiting = 0
        self._redis = redis
        self._count = count
        self._held: list[_Held] = []
        self._wake = asyncio.Event()
        self._calm = asyncio.Event()
        self._calm.set()
        self._task: asyncio.Task[None] | None = None

    def another(self) -> "Replicas":
        """For another lane of the same ledger."""
        return Replicas(self._redis, self._count)

    def start(self) -> None:
        """Begin to wait. Redis need not be there yet."""
        self._task = asyncio.create_task(self._run(), name="lastro-replicas")

    async def stop(self, seconds: float) -> None:
        """Let what is held be acknowledged for so long, tell the rest, and end."""
        if self._task is None:
            return
        task, self._task = self._task, None
        try:
            async with asyncio.timeout(seconds):
                await self._calm.wait()
        except TimeoutError:
            log.warning("replicas have not acknowledged what was under way", extra={"answers": self.waiting})
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for each in self._held:
            _fail(each.answered, "the service is stopping")
        self._keep([])

    def hold(self, answered: Iterable[Answered], reply: Reply, server: str, lane: str) -> list[Answered]:
        """Take over the answers that must wait; those that need not are returned.

        Args:
            answered: In the order of the call.
            reply: Of the call.
            server: `master_replid` of who gave it.
            lane: The key under which it is stored there.
        """
        at_once: list[Answered] = []
        held: list[Answered] = []
        for each in answered:
            ticket, result = each
            waits = isinstance(ticket.operation, Write | Claim) and not (
                type(result) is Declined and result.word in _SAYS_NOTHING
            )
            (held if waits else at_once).append(each)
        if held:
            self._held.append(_Held(held, reply, server, lane))
            self.waiting += len(held)
            self._calm.clear()
            self._wake.set()
        return at_once

    async def calm(self) -> None:
        """Return once nothing is held."""
        await self._calm.wait()

    async def _run(self) -> None:
        while True:
            if not self._held:
                self._wake.clear()
                await self._wake.wait()
            held = list(self._held)
            heard = None
            try:
                heard = await self._ask(held)
            except (RedisError, OSError) as error:
                log.warning("redis does not say what its replicas have", extra={"error": repr(error)})
            except Exception:
                log.exception("waiting for replicas met an error of its own")
            still = _unsettled(held, heard, self._count)
            self._keep(still + self._held[len(held) :])
            if still:
                await asyncio.sleep(AGAIN_SECONDS)

    async def _ask(self, held: list[_Held]) -> _Heard:
        """Write, wait, and ask who it was, in one go."""
        latest = max(ticket.deadline for each in held for ticket, _ in each.answered)
        wait_ms = max(1, min(WAIT_MS_MAX, int((latest - time.monotonic()) * 1000)))  # 0 would be for ever
        lane = held[-1].lane
        node = await node_of(self._redis, lane)
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.pexpire(lane, LANE_MS)
            pipe.execute_command("WAIT", self._count, wait_ms, **node.only)
            pipe.execute_command("INFO", "replication", **node.only)
            written, replicas, info = await pipe.execute()
        if node != await node_of(self._redis, lane):  # it has moved meanwhile, and the write with it
            return _Heard(0, "")
        if not written:  # the lane has gone, and with it what it stood beside
            return _Heard(0, "")
        return _Heard(replicas, info["master_replid"] if info["role"] == "master" else "")

    def _keep(self, held: list[_Held]) -> None:
        self._held = held
        self.waiting = sum(len(each.answered) for each in held)
        if not held:
            self._calm.set()


def _unsettled(held: list[_Held], heard: _Heard | None, count: int) -> list[_Held]:
    """Answer what can be answered; what remains is asked about again, until its time is up."""
    now = time.monotonic()
    still: list[_Held] = []
    for each in held:
        if heard is not None and heard.server != each.server:
            _fail(each.answered, "the server has changed before its replicas had the answer")
        elif heard is not None and heard.replicas >= count:
            for ticket, result in each.answered:
                if not ticket.answer.done():
                    ticket.answer.set_result((result, each.reply))
        else:
            _fail([one for one in each.answered if one[0].deadline <= now], "too few replicas in time")
            if waiting := [one for one in each.answered if not one[0].answer.done()]:
                still.append(each._replace(answered=waiting))
    return still


def _fail(answered: Iterable[Answered], why: str) -> None:
    """Tell whoever still waits. What was answered stands in Redis, and may be lost with it."""
    for ticket, _ in answered:
        ticket.fail(LedgerUnavailable, why, cause=NOT_REPLICATED)
