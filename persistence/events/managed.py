"""Who is told, and what was told, for operators: `app.events.Events` over a pool."""

import base64
import secrets
from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from asyncpg import Record
from msgspec import Meta

from app.events import (
    ENDPOINTS_MAX,
    Delivery,
    Endpoint,
    EndpointNotFound,
    EndpointsFull,
    Event,
    EventFilter,
    EventNotFound,
    EventPage,
)
from app.reports import PAGE_MAX
from persistence import cursors
from persistence.conditions import Conditions
from persistence.events.addresses import read
from persistence.events.delivering import now
from persistence.events.listening import begin, hold, listened
from persistence.pool import Connection, Pool, answering

SECRET_BYTES = 32

_ADVISORY_LOCK = 0x6C617374726F09  # "lastro", 9
_BY_OPERATOR = "An operator has turned it off."

_Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class PostgresEvents:
    """Every method raises `BackingUnavailable` while PostgreSQL is away.

    `private`: whether endpoints may have private addresses, and be told by plain HTTP.
    """

    def __init__(self, pool: Pool, *, private: bool) -> None:
        self._pool = pool
        self._private = private

    ENDPOINTS = """
    SELECT id::text, url, types, enabled, why_off, by, created_at FROM event_endpoints
    ORDER BY created_at, id
    """

    async def endpoints(self) -> list[Endpoint]:
        """All of them, oldest first."""
        async with answering(self._pool) as connection:
            return [Endpoint(**dict(row)) for row in await connection.fetch(self.ENDPOINTS)]

    COUNT = "SELECT count(*) FROM event_endpoints"

    CREATE = """
    INSERT INTO event_endpoints (url, types, secret, by, created_at) VALUES ($1, $2, $3, $4, $5)
    RETURNING id::text, url, types, enabled, why_off, by, created_at
    """

    async def create(self, url: str, types: Sequence[str], by: str) -> tuple[Endpoint, str]:
        """A new one and its secret. What happens from now on is told.

        Raises:
            EndpointRefused, EndpointsFull
        """
        read(url, private=self._private)
        secret = "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
        async with answering(self._pool) as connection, connection.transaction():
            await self._one_at_a_time(connection)
            if await connection.fetchval(self.COUNT) >= ENDPOINTS_MAX:
                raise EndpointsFull
            before = await listened(connection)
            row = await connection.fetchrow(self.CREATE, url, types, secret, by, now())
            await begin(connection, before, await listened(connection))
        return _endpoint(row), secret

    CHANGE = """
    UPDATE event_endpoints
    SET url = coalesce($2, url), types = coalesce($3, types), enabled = coalesce($4, enabled),
      why_off = CASE WHEN coalesce($4, enabled) THEN NULL ELSE coalesce(why_off, $5) END
    WHERE id = $1 RETURNING id::text, url, types, enabled, why_off, by, created_at
    """

    async def change(
        self, endpoint: str, *, url: str | None, types: Sequence[str] | None, enabled: bool | None
    ) -> Endpoint:
        """Change what is not `None`.

        Raises:
            EndpointRefused, EndpointNotFound
        """
        if url is not None:
            read(url, private=self._private)
        async with answering(self._pool) as connection, connection.transaction():
            await self._one_at_a_time(connection)
            before = await listened(connection)
            row = await connection.fetchrow(self.CHANGE, UUID(endpoint), url, types, enabled, _BY_OPERATOR)
            if row is None:
                raise EndpointNotFound
            await begin(connection, before, await listened(connection))
        return _endpoint(row)

    async def _one_at_a_time(self, connection: Connection) -> None:
        """So that each change sees the one before it, and no events are made meanwhile."""
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _ADVISORY_LOCK)
        await hold(connection)

    REMOVE = """
    DELETE FROM event_endpoints WHERE id = $1
    RETURNING id::text, url, types, enabled, why_off, by, created_at
    """

    async def remove(self, endpoint: str) -> Endpoint:
        """For good, with all that waits for it. Returns what it was.

        Raises:
            EndpointNotFound
        """
        async with answering(self._pool) as connection:
            row = await connection.fetchrow(self.REMOVE, UUID(endpoint))
        if row is None:
            raise EndpointNotFound
        return _endpoint(row)

    LOG = """
    SELECT id::text, number, type, account, at, body FROM events
    WHERE {conditions} ORDER BY number DESC LIMIT $1
    """

    async def log(self, which: EventFilter, *, cursor: str | None = None, limit: int = 50) -> EventPage:
        """A page of `limit` (1 to 200) events, newest first.

        Raises:
            InvalidCursor: `cursor` is not one that a page of the same filter gave.
        """
        if not 1 <= limit <= PAGE_MAX:
            raise ValueError(f"limit {limit}: 1 to {PAGE_MAX}")
        conditions = _conditions(which)
        if cursor is not None:
            (number,) = cursors.read(which, cursor, tuple[_Number])
            conditions.add("number < {}", number)
        async with answering(self._pool) as connection:
            rows = await connection.fetch(
                self.LOG.format(conditions=conditions.numbered(2)), limit + 1, *conditions.values
            )
            events = await self._with_deliveries(connection, rows[:limit])
        next_cursor = cursors.write(which, (rows[limit - 1]["number"],)) if len(rows) > limit else None
        return EventPage(events, next_cursor)

    DELIVERIES = """
    SELECT event::text, endpoint::text, state, attempts, due_at, tried_at, status, error
    FROM event_deliveries JOIN event_endpoints ON id = endpoint
    WHERE event = ANY ($1::uuid[]) ORDER BY created_at, id
    """

    async def _with_deliveries(self, connection: Connection, rows: Sequence[Record]) -> list[Event]:
        deliveries: dict[str, list[Delivery]] = {row["id"]: [] for row in rows}
        for row in await connection.fetch(self.DELIVERIES, list(deliveries)):
            event, *its = row
            deliveries[event].append(Delivery(**dict(zip(Delivery.__struct_fields__, its, strict=True))))
        return [
            Event(
                id=row["id"],
                type=row["type"],
                account=row["account"],
                at=row["at"],
                body=row["body"],
                deliveries=deliveries[row["id"]],
            )
            for row in rows
        ]

    EVENT = "SELECT id::text, type, account, at, body FROM events WHERE id = $1"

    AGAIN = """
    UPDATE event_deliveries
    SET state = 'waiting', attempts = 0, due_at = $2, tried_at = NULL, status = NULL, error = NULL
    WHERE event = $1
    """

    THERE = "SELECT FROM event_endpoints WHERE id = $1 FOR KEY SHARE"

    AGAIN_THERE = """
    INSERT INTO event_deliveries (event, endpoint, due_at) VALUES ($1, $3, $2)
    ON CONFLICT (event, endpoint) DO UPDATE
    SET state = 'waiting', attempts = 0, due_at = $2, tried_at = NULL, status = NULL, error = NULL
    """

    async def replay(self, event: str, endpoint: str | None) -> Event:
        """Deliver it again, from the first attempt on: to `endpoint`, else to all that it was meant for.

        Raises:
            EventNotFound, EndpointNotFound
        """
        async with answering(self._pool) as connection, connection.transaction():
            row = await connection.fetchrow(self.EVENT + " FOR KEY SHARE", UUID(event))
            if row is None:
                raise EventNotFound
            if endpoint is None:
                await connection.execute(self.AGAIN, UUID(event), now())
            elif await connection.fetchrow(self.THERE, UUID(endpoint)) is None:
                raise EndpointNotFound
            else:
                await connection.execute(self.AGAIN_THERE, UUID(event), now(), UUID(endpoint))
            return (await self._with_deliveries(connection, [row]))[0]


def _endpoint(row: Record | None) -> Endpoint:
    assert row is not None, "an endpoint that was made or changed"
    return Endpoint(**dict(row))


_DELIVERY = "EXISTS (SELECT FROM event_deliveries WHERE event = events.id{})"

# In the statement, not among its values, so that the indexes of what waits and of what is dead serve.
_OF_STATE = {
    "waiting": " AND state = 'waiting'",
    "delivered": " AND state = 'delivered'",
    "dead": " AND state = 'dead'",
}


def _conditions(which: EventFilter) -> Conditions:
    """What holds for the rows of a filter."""
    given = Conditions()
    if which.type is not None:
        given.add("type = {}", which.type)
    if which.account is not None:
        given.add("account = {}", which.account)
    of_state = "" if which.state is None else _OF_STATE[which.state]
    if which.endpoint is not None:
        given.add(_DELIVERY.format(of_state + " AND endpoint = {}"), UUID(which.endpoint))
    elif of_state:
        given.add(_DELIVERY.format(of_state))
    return given
