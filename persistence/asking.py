"""Asks providers how tasks stand of which nothing is heard: from half of a reservation's time on, less and
less often, where there is a key of the provider's API.

What is finished settles as if its webhook had come, and stands in the inbox like that. What runs gets more
time when little is left. No answer, or nonsense, changes nothing: the deadline will, if nobody else does.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Self

import httpx
import msgspec
from asyncpg import Record

from app.ledger.backing import BackingUnavailable
from app.ledger.errors import LedgerError, Refused
from app.ledger.ledger import Ledger
from app.ledger.operations import Extend
from app.ledger.receipts import fingerprint
from app.webhooks.asking import ask
from app.webhooks.event import Event
from app.webhooks.inbox import OPEN, Received
from app.webhooks.settling import OURS, settle
from persistence.backing import decode_entry
from persistence.events.delivering import now
from persistence.inbox import rows
from persistence.pool import Pool, answering

AT_ONCE = 16
"""How many tasks one process asks about at once."""

FIRST_SECONDS, SECONDS_MAX, SECONDS_MIN = 15.0, 300.0, 5.0
"""How long it is to the second question, at most, and at least; never longer than half of the time left."""

PAUSE_SECONDS = 2.0
FORGET_SECONDS = 3600.0

_encode = msgspec.json.Encoder(decimal_format="number").encode
_log = logging.getLogger(__name__)


class _More(msgspec.Struct):
    """What is asked for with an extension."""

    reservation: str
    ttl_ms: int


class Asking:
    """One for each process, which may be many: each question is asked by one of them.

    Args:
        pool: At least 2 connections.
        ledger: Where it settles and extends.
        keys: Of APIs, by provider.
        units: By provider, where its answer says how many units were used.
        bases: Where an API is, if not where everybody's is.
        clock: For tests.
    """

    def __init__(
        self,
        pool: Pool,
        ledger: Ledger,
        keys: Mapping[str, str],
        units: Mapping[str, str],
        *,
        bases: Mapping[str, str] | None = None,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._pool = pool
        self._ledger = ledger
        self._keys = keys
        self._units = units
        self._bases = bases or {}
        self._clock = clock
        self._client = httpx.AsyncClient(trust_env=False)
        self._asking: set[asyncio.Task[None]] = set()
        self._next_forget: datetime | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self._client.aclose()

    async def stop(self) -> None:
        """Let go of the questions that are under way. It may be begun again."""
        while self._asking:
            for task in self._asking:
                task.cancel()
            await asyncio.wait(self._asking, timeout=0.1)

    async def rest(self) -> None:
        """Until no question is under way."""
        while self._asking:
            await asyncio.wait(self._asking)

    # Whoever asks says when it is asked again, before asking: two who would ask at once take turns here.
    CLAIM = """
    WITH silent AS (
      SELECT r.id, r.shard, r.provider, r.task, r.expires_at, r.extensions, r.reserved_seq,
        $4::float8 * 2 ^ least(coalesce(asked.times, 0), 10) AS grown,
        extract(epoch FROM r.expires_at - $2)::float8 / 2 AS half_left
      FROM reservations r LEFT JOIN asked ON asked.reservation = r.id
      WHERE r.status = 'pending' AND r.task IS NOT NULL
        AND r.provider IN ('bfl', 'luma', 'runway', 'sync') AND r.provider = ANY ($1)
        AND r.expires_at > $2 AND r.created_at + (r.expires_at - r.created_at) / 2 <= $2
        AND (asked.next_at IS NULL OR asked.next_at <= $2)
      ORDER BY r.expires_at LIMIT $3
    ),
    claimed AS (
      INSERT INTO asked (reservation, times, next_at)
      SELECT id, 1, $2 + make_interval(secs => greatest($6::float8, least(grown, $5::float8, half_left)))
      FROM silent ORDER BY id
      ON CONFLICT (reservation) DO UPDATE SET times = asked.times + 1, next_at = excluded.next_at
      WHERE asked.next_at <= $2
      RETURNING reservation
    )
    SELECT silent.id::text AS id, silent.provider, silent.task, silent.expires_at, silent.extensions,
      made.entry
    FROM claimed JOIN silent ON silent.id = claimed.reservation
    JOIN journal made ON (made.shard, made.seq) = (silent.shard, silent.reserved_seq)
    """

    FORGET = "DELETE FROM asked WHERE next_at < $1"

    async def turn(self) -> float:
        """Ask about some of those that it is time for. Returns for how many seconds nothing need be done.

        Raises:
            BackingUnavailable
        """
        at = self._clock()
        free = AT_ONCE - len(self._asking)
        if free:
            async with answering(self._pool) as connection:
                claimed = await connection.fetch(
                    self.CLAIM, list(self._keys), at, free, FIRST_SECONDS, SECONDS_MAX, SECONDS_MIN
                )
                if self._next_forget is None or at >= self._next_forget:
                    self._next_forget = at + timedelta(seconds=FORGET_SECONDS)
                    await connection.execute(self.FORGET, at - timedelta(days=1))
            for row in claimed:
                task = asyncio.create_task(self._ask(row), name=f"asking about {row['id']}")
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)
        return PAUSE_SECONDS

    async def _ask(self, row: Record) -> None:
        try:
            provider = row["provider"]
            event = await ask(
                provider, row["task"], self._keys[provider], self._client, base=self._bases.get(provider)
            )
            if event is None:
                return
            if event.outcome == "progress":
                await self._extend(row)
            else:
                await self._settle(row, event)
        except (BackingUnavailable, LedgerError) as error:
            _log.warning("reservation %s is asked about again: %s", row["id"], error)
        except Exception:  # noqa: BLE001 (one task's trouble is not another's)
            _log.exception("asking about reservation %s failed; it is asked about again", row["id"])

    async def _settle(self, row: Record, event: Event) -> None:
        """As a webhook to the reservation's callback URL would; one that comes later is then a duplicate.

        A crash between these steps leaves what was received in the inbox, which is tried again.
        """
        received = Received.of(event, row["id"], _encode(event.payload))
        async with answering(self._pool) as connection:
            kept = await rows.receive(connection, received)
        if kept.status not in OPEN:
            return
        settlement = await settle(self._ledger, self._units, event, reservation=row["id"])
        async with answering(self._pool) as connection, connection.transaction():
            await rows.settle(connection, kept.id, received, settlement)
        _log.info("reservation %s of a silent task: %s", row["id"], settlement.status)

    async def _extend(self, row: Record) -> None:
        """By its first time, when less than half of that is left; once, however many ask at once."""
        made = decode_entry(row["entry"])
        ttl_ms = (made.deadline_ms or made.at_ms) - made.at_ms
        if row["expires_at"] - self._clock() > timedelta(milliseconds=ttl_ms / 2):
            return
        more = _More(row["id"], ttl_ms)
        try:
            await self._ledger.extend(
                Extend(
                    reservation=row["id"],
                    ttl_ms=ttl_ms,
                    by=f"webhook:{row['provider']}",
                    key=f"asking{OURS}{row['id']} {row['extensions']}",
                    fingerprint=fingerprint("extend", more),
                )
            )
        except Refused as error:  # it has ended meanwhile, or may not be extended any more
            _log.info("reservation %s is not extended: %s", row["id"], error)
