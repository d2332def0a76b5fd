"""Who holds which key, as one API process knows it.

A known key costs one dict look-up. An unknown one is asked of PostgreSQL together with whatever other
unknown ones arrived meanwhile, one query at a time and at most `LOOKUPS_PER_SECOND`, and what PostgreSQL does
not know is remembered for some seconds: a stream of made-up keys costs neither memory nor PostgreSQL more.
Every `POLL_SECONDS` all known keys are asked about again, so that a revocation reaches every process within
5 s. While PostgreSQL is away they stay as last known, but for those that run out of time.

A dict is looked up by a hash under a random seed of this process before bytes are compared, so that the time
of a look-up tells nothing about the keys in it.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from asyncpg import Record

from app.access import Principal, implied
from app.ledger.backing import BackingUnavailable
from persistence.api_keys import hashed, well_formed
from persistence.pool import Pool, answering

POLL_SECONDS = 2.0
ANSWER_SECONDS = 2.0
USED_SECONDS = 60.0
KNOWN_MAX = 10_000
UNKNOWN_MAX = 10_000
UNKNOWN_SECONDS = 5.0
WAITING_MAX = 1_000
LOOKUP_MAX = 256
LOOKUPS_PER_SECOND = 50

_log = logging.getLogger(__name__)


class _Known:
    """A key in force. `header`: its place in `_headers`. `used`: since `last_used_at` was last written."""

    __slots__ = ("expires_at", "header", "principal", "used")

    def __init__(self, row: Record) -> None:
        self.expires_at: datetime | None = row["expires_at"]
        accounts = None if row["account"] is None else frozenset([row["account"]])
        self.principal = Principal(row["name"], implied(row["scopes"]), accounts)
        self.header: bytes | None = None
        self.used = False


class Keyring:
    """`app.access.Keys` over PostgreSQL. One for each API process."""

    def __init__(self, pool: Pool, *, poll_seconds: float = POLL_SECONDS) -> None:
        self._pool = pool
        self._poll_seconds = poll_seconds
        self._headers: dict[bytes, _Known] = {}
        self._known: dict[bytes, _Known] = {}
        self._unknown: dict[bytes, float] = {}
        self._waiting: dict[bytes, asyncio.Future[_Known | None]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._polling: asyncio.Task[None] | None = None
        self._asked_at = datetime(2000, 1, 1, tzinfo=UTC)
        self._asked_clock = time.monotonic()
        self._used_clock = time.monotonic()

    async def start(self) -> None:
        """Learn the keys in force, if PostgreSQL answers, and keep them up to date until `stop`."""
        await self.refresh()
        self._polling = asyncio.create_task(self._poll(), name="keyring poll")

    async def stop(self) -> None:
        """Write what is still to be written of last use, and let go."""
        tasks = [task for task in (self._polling, self._looking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for digest in list(self._waiting):
            self._settle(digest, BackingUnavailable("the service stops"))
        with contextlib.suppress(BackingUnavailable):
            await self.write_used()

    def known(self, authorization: bytes) -> Principal | None:
        """The principal of an `Authorization` header seen before: one dict look-up, no I/O."""
        known = self._headers.get(authorization)
        if known is None:
            return None
        known.used = True
        return known.principal

    async def authenticate(self, authorization: bytes) -> Principal | None:
        """The principal of an `Authorization` header; `None`: not a key, revoked, or out of time.

        Raises:
            BackingUnavailable: Only PostgreSQL can tell and it does not answer, or too many wait for it.
        """
        scheme, _, token = authorization.partition(b" ")
        token = token.strip(b" ")
        if scheme.lower() != b"bearer" or not well_formed(token):
            return None
        digest = hashed(token)
        known = self._known.get(digest)
        if known is None and self._unknown.get(digest, 0.0) <= time.monotonic():
            known = await self._look_up(digest)
        if known is None:
            return None
        if self._known.get(digest) is known:
            known.header = b"Bearer " + token
            self._headers[known.header] = known
        known.used = True
        return known.principal

    async def _look_up(self, digest: bytes) -> _Known | None:
        waiting = self._waiting.get(digest)
        if waiting is None:
            if len(self._waiting) >= WAITING_MAX:
                raise BackingUnavailable("too many unknown keys wait to be looked up")
            waiting = self._waiting[digest] = asyncio.get_running_loop().create_future()
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look_up_all(), name="keyring look-up")
        return await asyncio.shield(waiting)

    LOOK_UP = """
    SELECT hash, name, scopes, account, expires_at FROM api_keys
    WHERE hash = ANY($1::bytea[]) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
    """

    async def _look_up_all(self) -> None:
        """Answer all that wait, `LOOKUP_MAX` a query, one query at a time, and end when nobody waits."""
        while self._waiting:
            batch = list(self._waiting)[:LOOKUP_MAX]
            try:
                async with answering(self._pool, ANSWER_SECONDS) as connection:
                    found = {row["hash"]: _Known(row) for row in await connection.fetch(self.LOOK_UP, batch)}
            except Exception as error:  # noqa: BLE001 (raised where the answer is awaited)
                for digest in batch:
                    self._settle(digest, error)
            else:
                for digest in batch:
                    self._settle(digest, self._learn(digest, found.get(digest)))
            await asyncio.sleep(1 / LOOKUPS_PER_SECOND)

    def _settle(self, digest: bytes, answer: _Known | Exception | None) -> None:
        waiting = self._waiting.pop(digest)
        if isinstance(answer, Exception):
            waiting.set_exception(answer)
            waiting.exception()  # whoever asked may have gone; that is no reason to log it
        else:
            waiting.set_result(answer)

    def _learn(self, digest: bytes, known: _Known | None) -> _Known | None:
        """Remember what PostgreSQL said of a key; what was learned first makes room."""
        if known is None:
            self._unknown.pop(digest, None)
            self._unknown[digest] = time.monotonic() + UNKNOWN_SECONDS
            if len(self._unknown) > UNKNOWN_MAX:
                del self._unknown[next(iter(self._unknown))]
        else:
            self._unknown.pop(digest, None)
            self._known[digest] = known
            if len(self._known) > KNOWN_MAX:
                self._forget([next(iter(self._known))])
        return known

    def _forget(self, digests: Iterable[bytes]) -> None:
        for digest in digests:
            known = self._known.pop(digest, None)
            if known is not None and known.header is not None:
                self._headers.pop(known.header, None)

    REFRESH = """
    SELECT hash, name, scopes, account, expires_at FROM api_keys
    WHERE (hash = ANY($1::bytea[]) OR created_at > $2)
      AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
    ORDER BY created_at LIMIT 20000
    """

    async def refresh(self) -> bool:
        """Ask again about every known key, and learn those made since. `False`: PostgreSQL is away."""
        asked = dict(self._known)
        since = self._asked_at - timedelta(minutes=1)  # made by then, perhaps not committed by then
        try:
            async with answering(self._pool, ANSWER_SECONDS) as connection:
                asked_at, asked_clock = await connection.fetchval("SELECT now()"), time.monotonic()
                rows = await connection.fetch(self.REFRESH, list(asked), since)
        except BackingUnavailable:
            now = self._asked_at + timedelta(seconds=time.monotonic() - self._asked_clock)
            ended = (each for each, known in asked.items() if known.expires_at and known.expires_at <= now)
            self._forget(list(ended))
            return False
        self._asked_at, self._asked_clock = asked_at, asked_clock
        fresh = {row["hash"]: _Known(row) for row in rows}
        self._forget([digest for digest in asked if digest not in fresh])
        for digest, known in fresh.items():
            held = self._known.get(digest)
            if held is None:
                self._learn(digest, known)
            else:
                held.principal, held.expires_at = known.principal, known.expires_at
        return True

    USED = """
    UPDATE api_keys SET last_used_at = now() WHERE hash IN (
      SELECT hash FROM api_keys
      WHERE hash = ANY($1::bytea[])
        AND (last_used_at IS NULL OR last_used_at < now() - make_interval(secs => $2))
      FOR UPDATE SKIP LOCKED)
    """

    async def write_used(self) -> None:
        """Write `last_used_at` of the keys used since the last time; over all processes once a minute a key.

        Raises:
            BackingUnavailable: PostgreSQL is away; the next time makes it good.
        """
        used = {digest: known for digest, known in self._known.items() if known.used}
        if used:
            async with answering(self._pool, ANSWER_SECONDS) as connection:
                await connection.execute(self.USED, list(used), USED_SECONDS - POLL_SECONDS)
            for known in used.values():
                known.used = False
        self._used_clock = time.monotonic()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            try:
                if await self.refresh() and time.monotonic() - self._used_clock >= USED_SECONDS:
                    await self.write_used()
            except BackingUnavailable:
                continue
            except Exception:  # noqa: BLE001 (a poll that ended would let revoked keys in for ever)
                _log.exception("the keyring could not be refreshed; trying again")
