"""Delivers what waits in the outbox: to each endpoint for itself, again after a while if need be, until it is
taken or three days are over.

A delivery is claimed by moving its next attempt on, before it is sent. Whoever dies meanwhile leaves it to
others, so that an event may come twice, under one `webhook-id`, and is never lost.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus

from asyncpg import Record

from app.ledger.backing import BackingUnavailable
from persistence.events.sending import ANSWER_SECONDS, Letter, NotSent, Sender
from persistence.pool import Pool, answering

AT_ONCE = 8
"""How many of them an endpoint gets at once, from each worker."""

CLAIMED_SECONDS = 2 * ANSWER_SECONDS
_M, _H = 60, 3600
BACKOFF_SECONDS = (5, 30, 2 * _M, 10 * _M, 30 * _M, _H, 2 * _H, 4 * _H, 8 * _H, *(12 * _H,) * 5)
"""How long after each failed attempt the next one is made: 15 attempts, within 3.2 days."""

JITTER = 0.1

_log = logging.getLogger(__name__)


def now() -> datetime:
    """By this machine's clock."""
    return datetime.now(UTC)


class Delivering:
    """Sends from one process; any number of processes may. Endpoints wait for each other nowhere."""

    def __init__(self, pool: Pool, sender: Sender, clock: Callable[[], datetime] = now) -> None:
        self._pool = pool
        self._sender = sender
        self._clock = clock
        self._serving: dict[str, asyncio.Task[None]] = {}

    # Each by its own index entry, however much waits for others.
    DUE = """
    SELECT id::text FROM event_endpoints WHERE enabled AND EXISTS (
      SELECT FROM event_deliveries
      WHERE endpoint = event_endpoints.id AND state = 'waiting' AND due_at <= $1
    )
    """

    async def go_on(self) -> None:
        """Begin to serve each endpoint for which something is due, if it is not being served."""
        async with answering(self._pool) as connection:
            due = [row["id"] for row in await connection.fetch(self.DUE, self._clock())]
        for endpoint in due:
            if endpoint not in self._serving:
                task = asyncio.create_task(self._serve(endpoint), name=f"events for {endpoint}")
                self._serving[endpoint] = task
                task.add_done_callback(partial(self._served, endpoint))

    def _served(self, endpoint: str, _: "asyncio.Task[None]") -> None:
        del self._serving[endpoint]

    async def rest(self) -> None:
        """Until nothing is under way."""
        while self._serving:
            await asyncio.wait(self._serving.values())

    async def stop(self) -> None:
        """Let go of what is under way; others take it up."""
        while self._serving:
            for task in self._serving.values():
                task.cancel()
            await asyncio.wait(self._serving.values(), timeout=0.1)

    async def _serve(self, endpoint: str) -> None:
        """Until nothing is due there any more."""
        try:
            while claimed := await self._claim(endpoint):
                sending = (self._deliver(endpoint, row) for row in claimed)
                _demand(await asyncio.gather(*sending, return_exceptions=True))
        except BackingUnavailable as error:
            _log.warning("deliveries to endpoint %s wait: %s", endpoint, error)
        except Exception:  # noqa: BLE001 (one endpoint's trouble is not another's)
            _log.exception("deliveries to endpoint %s failed; they are tried again", endpoint)

    CLAIM = """
    WITH due AS (
      SELECT event FROM event_deliveries
      WHERE endpoint = $1::uuid AND state = 'waiting' AND due_at <= $2
      ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED
    )
    UPDATE event_deliveries d SET attempts = d.attempts + 1, tried_at = $2, due_at = $4
    FROM due, events, event_endpoints endpoints
    WHERE d.event = due.event AND d.endpoint = $1::uuid
      AND events.id = d.event AND endpoints.id = d.endpoint AND endpoints.enabled
    RETURNING d.event::text, d.attempts, events.body, endpoints.url, endpoints.secret
    """

    async def _claim(self, endpoint: str) -> list[Record]:
        now = self._clock()
        until = now + timedelta(seconds=CLAIMED_SECONDS)
        async with answering(self._pool) as connection:
            return await connection.fetch(self.CLAIM, endpoint, now, AT_ONCE, until)

    async def _deliver(self, endpoint: str, row: Record) -> None:
        letter = Letter(row["event"], row["body"], row["url"], row["secret"])
        try:
            status = await self._sender.send(letter, self._clock())
        except NotSent as error:
            await self._failed(endpoint, row, None, str(error))
            return
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            await self._delivered(endpoint, row, status)
        elif status == HTTPStatus.GONE:
            await self._gone(endpoint, row)
        else:
            await self._failed(endpoint, row, status, _said(status))

    DELIVERED = """
    UPDATE event_deliveries SET state = 'delivered', status = $3, error = NULL
    WHERE event = $1::uuid AND endpoint = $2::uuid AND attempts >= $4
    """

    async def _delivered(self, endpoint: str, row: Record, status: int) -> None:
        async with answering(self._pool) as connection:
            await connection.execute(self.DELIVERED, row["event"], endpoint, status, row["attempts"])

    # Not that of somebody who has claimed it since, or to whom it was given anew.
    FAILED = """
    UPDATE event_deliveries SET state = $5, due_at = $6, status = $3, error = $4
    WHERE event = $1::uuid AND endpoint = $2::uuid AND attempts = $7 AND state = 'waiting'
    """

    async def _failed(self, endpoint: str, row: Record, status: int | None, error: str) -> None:
        attempts, now = row["attempts"], self._clock()
        is_dead = attempts > len(BACKOFF_SECONDS)
        due_at = now if is_dead else now + timedelta(seconds=_wait_seconds(attempts))
        state = "dead" if is_dead else "waiting"
        async with answering(self._pool) as connection:
            await connection.execute(
                self.FAILED, row["event"], endpoint, status, error, state, due_at, attempts
            )
        if is_dead:
            _log.error("event %s is given up for endpoint %s: %s", row["event"], endpoint, error)

    OFF = """
    UPDATE event_endpoints SET enabled = false, why_off = $2
    WHERE id = $1::uuid AND enabled AND url = $3
    """

    async def _gone(self, endpoint: str, row: Record) -> None:
        """Nobody wants to be told there any more."""
        async with answering(self._pool) as connection, connection.transaction():
            # The endpoint first, as whoever removes it locks it first.
            await connection.execute(self.OFF, endpoint, "It answered 410 (gone).", row["url"])
            what = (HTTPStatus.GONE, _said(HTTPStatus.GONE), "dead", self._clock(), row["attempts"])
            await connection.execute(self.FAILED, row["event"], endpoint, *what)
        _log.error("endpoint %s answered 410 and is off", endpoint)


def _demand(results: Sequence[BaseException | None]) -> None:
    """Raise the first error, now that all have ended."""
    for each in results:
        if each is not None:
            raise each


def _said(status: int) -> str:
    is_redirect = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
    return f"it answered {status}" + (", and redirects are not followed" if is_redirect else "")


def _wait_seconds(attempts: int) -> float:
    """After so many attempts; not all at the same moment."""
    return BACKOFF_SECONDS[attempts - 1] * random.uniform(1, 1 + JITTER)  # noqa: S311 (no secret)
