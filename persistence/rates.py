"""The rate card in PostgreSQL, and what one process knows of it.

A process prices from memory. Every `POLL_SECONDS` it asks whether anything was put since, by the last row's
number and time, and reads the card anew only then; so a new price is everywhere within 5 s, and while
PostgreSQL is away the card stays as last known. A model that is not on the card is looked for at once,
together with whatever others were asked for meanwhile, one look at a time.
"""

import asyncio
import base64
import logging
import re
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from asyncpg import Record

from app.ledger.backing import BackingUnavailable
from app.rates import MODELS_MAX, Card, CardFull, ModelNotFound, Rate, RatePage, canonical
from app.reports import PAGE_MAX, InvalidCursor
from persistence.pool import Pool, answering

POLL_SECONDS = 2.0
ANSWER_SECONDS = 2.0
SHARING_SECONDS = 0.02
WAITING_MAX = 1_000

_ADVISORY_LOCK = 0x6C617374726F07  # "lastro", 7
_CURSOR_MAX = 120
_POSITION = re.compile(r"([A-Za-z0-9._:@+/-]{1,64}) ([1-9][0-9]{0,8})", re.ASCII)
_VERSION_MAX = 2**31 - 1

_log = logging.getLogger(__name__)


class PostgresRates:
    """`app.rates.Rates` over PostgreSQL. One for each API process.

    Args:
        pages: For what people ask and put, which may be slow.
        watching: For what keeps the card up to date, which nothing should delay.
        poll_seconds: How long it is from one look to the next.
    """

    def __init__(self, pages: Pool, watching: Pool, *, poll_seconds: float = POLL_SECONDS) -> None:
        self.card = Card()
        self._pages = pages
        self._watching = watching
        self._poll_seconds = poll_seconds
        self._stamp: tuple[int, datetime] | None = None
        self._put: list[Rate] = []
        self._one_look = asyncio.Lock()
        self._next_look: asyncio.Task[None] | None = None
        self._looks: set[asyncio.Task[None]] = set()
        self._waiting = 0

    async def start(self) -> None:
        """Read the card, if PostgreSQL answers."""
        await self.refresh()

    async def watch(self) -> None:
        """Keep the card up to date. Never ends."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            await self._look()

    async def stop(self) -> None:
        """Let go of looks that are under way."""
        looks = list(self._looks)
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)

    async def learn(self, models: Iterable[str]) -> None:
        """Look once for those of the models that are not on the card; no I/O where all are.

        Raises:
            BackingUnavailable: Too many wait for it.
        """
        if all(model in self.card for model in models):
            return
        if self._waiting >= WAITING_MAX:
            raise BackingUnavailable("too many models that are not on the rate card wait to be looked for")
        self._waiting += 1
        try:
            await self._look()
        finally:
            self._waiting -= 1

    async def _look(self) -> None:
        """Refresh, beginning after this call. Whoever calls before it has begun shares it."""
        if self._next_look is None:
            self._next_look = asyncio.create_task(self._look_next(), name="rate card look")
            self._looks.add(self._next_look)
            self._next_look.add_done_callback(self._looks.discard)
        await asyncio.shield(self._next_look)

    async def _look_next(self) -> None:
        try:
            async with self._one_look:
                await asyncio.sleep(SHARING_SECONDS)
                self._next_look = None
                await self.refresh()
        except Exception:  # noqa: BLE001 (those who wait go on with the card as it is)
            self.card.is_current = False
            _log.exception("the rate card could not be read; trying again")

    STAMP = "SELECT number, at FROM rates ORDER BY number DESC LIMIT 1"

    CARD = """
    SELECT DISTINCT ON (model) model, version, base, price, ttl_seconds, by, at FROM rates
    ORDER BY model, version DESC LIMIT $1
    """

    async def refresh(self) -> bool:
        """Read the card, if anything was put since the last time. `False`: PostgreSQL is away."""
        self._put.clear()
        try:
            async with answering(self._watching, ANSWER_SECONDS) as connection:
                # What is put between the two is read now, and seen as new once more the next time.
                row = await connection.fetchrow(self.STAMP)
                stamp = None if row is None else (row["number"], row["at"])
                if stamp == self._stamp and self.card.is_seen:
                    self.card.is_current = True
                    return True
                rows = await connection.fetch(self.CARD, MODELS_MAX)
        except BackingUnavailable:
            self.card.is_current = False
            return False
        self._stamp = stamp
        self.card.replace({row["model"]: _rate(row) for row in rows})
        for rate in self._put:  # perhaps too late to be read
            self.card.put(rate)
        return True

    # Versions follow each other, and numbers come in the order of commits.
    ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock($1)"

    LATEST = """
    SELECT model, version, base, price, ttl_seconds, by, at FROM rates
    WHERE model = $1 ORDER BY version DESC LIMIT 1
    """

    COUNT = "SELECT count(*) FROM rates WHERE version = 1"

    INSERT = """
    INSERT INTO rates (model, version, base, price, ttl_seconds, by) VALUES ($1, $2, $3, $4, $5, $6)
    RETURNING model, version, base, price, ttl_seconds, by, at
    """

    async def put(self, model: str, base: str, price: str, ttl_seconds: int | None, by: str) -> Rate:
        """Make the next version; the latest one again, where it has the same values."""
        async with answering(self._pages) as connection, connection.transaction():
            await connection.execute(self.ONE_AT_A_TIME, _ADVISORY_LOCK)
            row = await connection.fetchrow(self.LATEST, model)
            latest = None if row is None else _rate(row)
            if latest is None and await connection.fetchval(self.COUNT) >= MODELS_MAX:
                raise CardFull
            if latest is None or (base, price, ttl_seconds) != (
                latest.base,
                latest.price,
                latest.ttl_seconds,
            ):
                version = 1 if latest is None else latest.version + 1
                row = await connection.fetchrow(
                    self.INSERT, model, version, Decimal(base), Decimal(price), ttl_seconds, by
                )
        assert row is not None, "a version that was found or made"
        rate = _rate(row)
        self._put.append(rate)
        self.card.put(rate)
        return rate

    LATEST_OF_EACH = """
    SELECT DISTINCT ON (model) model, version, base, price, ttl_seconds, by, at FROM rates
    WHERE model > $1 ORDER BY model, version DESC LIMIT $2
    """

    async def latest(self, *, cursor: str | None, limit: int) -> RatePage:
        """A page of `limit` (1 to 200) models, by model id."""
        after = "" if cursor is None else _position(cursor)[0]
        return await self._page(self.LATEST_OF_EACH, after, limit=limit)

    VERSIONS = """
    SELECT model, version, base, price, ttl_seconds, by, at FROM rates
    WHERE model = $1 AND version < $2 ORDER BY version DESC LIMIT $3
    """

    async def versions(self, model: str, *, cursor: str | None, limit: int) -> RatePage:
        """A page of `limit` (1 to 200) versions, newest first."""
        of, before = (model, _VERSION_MAX) if cursor is None else _position(cursor)
        if of != model:
            raise InvalidCursor("not a cursor of this model")
        page = await self._page(self.VERSIONS, model, before, limit=limit)
        if not page.data and cursor is None:
            raise ModelNotFound
        return page

    async def _page(self, statement: str, *after: object, limit: int) -> RatePage:
        if not 1 <= limit <= PAGE_MAX:
            raise ValueError(f"limit {limit}: 1 to {PAGE_MAX}")
        async with answering(self._pages) as connection:
            found = [_rate(row) for row in await connection.fetch(statement, *after, limit + 1)]
        return RatePage(found[:limit], _cursor(found[limit - 1]) if len(found) > limit else None)


def _rate(row: Record) -> Rate:
    return Rate(
        model=row["model"],
        version=row["version"],
        base=canonical(format(row["base"], "f")),
        price=canonical(format(row["price"], "f")),
        ttl_seconds=row["ttl_seconds"],
        by=row["by"],
        at=row["at"],
    )


def _values(rate: Rate) -> tuple[str, str, int | None]:
    return rate.base, rate.price, rate.ttl_seconds


def _cursor(last: Rate) -> str:
    return base64.urlsafe_b64encode(f"{last.model} {last.version}".encode()).rstrip(b"=").decode()


def _position(cursor: str) -> tuple[str, int]:
    try:
        text = cursor[:_CURSOR_MAX].encode("ascii")
        said = base64.b64decode(text + b"=" * (-len(text) % 4), b"-_", validate=True).decode()
    except ValueError as error:
        raise InvalidCursor(f"not a cursor: {error}") from error
    found = _POSITION.fullmatch(said)
    if found is None:
        raise InvalidCursor("not a cursor of the rate card")
    return found[1], int(found[2])
