"""The inbox as the doors use it: `app.webhooks.inbox.Inbox` over a pool."""

import asyncio
from typing import Annotated

from asyncpg import Record
from msgspec import Meta

from app.ledger.backing import BackingUnavailable
from app.reports import PAGE_MAX
from app.webhooks.inbox import Granted, Kept, Lately, Received, Row, RowFilter, RowPage
from app.webhooks.settling import Settlement
from persistence import cursors
from persistence.conditions import Conditions
from persistence.inbox import rejected, rows, summary
from persistence.pool import Pool, answering

ANSWER_SECONDS = 1.5
"""How long a provider is kept waiting before it is done without PostgreSQL."""

WRITE_SECONDS = 2.0

_Id = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class PostgresInbox:
    """Every method but `reject` raises `BackingUnavailable` while PostgreSQL is away."""

    def __init__(self, pool: Pool, pages: Pool) -> None:
        """`pages` is for people who look, so that they delay no webhook."""
        self._pool = pool
        self._pages = pages
        self._rejected = rejected.Rejected()

    async def receive(self, received: Received) -> Kept:
        async with answering(self._pool, ANSWER_SECONDS) as connection:
            return await rows.receive(connection, received)

    async def settle(
        self, row: int, received: Received, settlement: Settlement, *, again: bool = False
    ) -> None:
        async with answering(self._pool, ANSWER_SECONDS) as connection, connection.transaction():
            await rows.settle(connection, row, received, settlement, again=again)

    async def keep(self, received: Received, settlement: Settlement) -> None:
        async with answering(self._pool) as connection, connection.transaction():
            kept = await rows.receive(connection, received)
            await rows.settle(connection, kept.id, received, settlement)

    async def granted(self, keys: tuple[str, ...]) -> Granted | None:
        async with answering(self._pool) as connection:
            return await rows.granted(connection, keys)

    async def claim(self, received: Received, keys: tuple[str, ...], share: int) -> int:
        async with answering(self._pool) as connection, connection.transaction():
            return await rows.claim(connection, received, keys, share)

    async def received(self, row: int) -> Received | None:
        async with answering(self._pages) as connection:
            return await rows.received(connection, row)

    def reject(self, provider: str, why: str) -> None:
        self._rejected.count(provider, why)

    async def write_rejected(self) -> None:
        """Write what was counted, every few seconds. Never ends."""
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await self.write_rejected_now()

    async def write_rejected_now(self) -> None:
        """Write what was counted, if PostgreSQL answers."""
        if taken := self._rejected.taken():
            try:
                async with answering(self._pages) as connection:
                    await rejected.write(connection, taken)
            except BackingUnavailable:
                self._rejected.put_back(taken)

    PAGE = """
    SELECT id, provider, outcome, status, why, word, task, reason, reservation, account, resource,
      transaction, credits, deliveries, received_at, last_at, settled_at
    FROM webhook_inbox WHERE {conditions} ORDER BY id DESC LIMIT $1
    """

    async def page(self, which: RowFilter, *, cursor: str | None = None, limit: int = 50) -> RowPage:
        if not 1 <= limit <= PAGE_MAX:
            raise ValueError(f"limit {limit}: 1 to {PAGE_MAX}")
        conditions = _of(which)
        if cursor is not None:
            (last,) = cursors.read(which, cursor, tuple[_Id])
            conditions.add("id < {}", last)
        statement = self.PAGE.format(conditions=conditions.numbered(2))
        async with answering(self._pages) as connection:
            found = [_row(each) for each in await connection.fetch(statement, limit + 1, *conditions.values)]
        next_cursor = cursors.write(which, (found[limit - 1].id,)) if len(found) > limit else None
        return RowPage(found[:limit], next_cursor)

    async def lately(self) -> list[Lately]:
        async with answering(self._pages) as connection:
            return await summary.lately(connection)

    ROW = """
    SELECT id, provider, outcome, status, why, word, task, reason, reservation, account, resource,
      transaction, credits, deliveries, received_at, last_at, settled_at, payload
    FROM webhook_inbox WHERE id = $1
    """

    async def row(self, row: int) -> Row | None:
        async with answering(self._pages) as connection:
            found = await connection.fetchrow(self.ROW, row)
        return None if found is None else _row(found)


def _of(which: RowFilter) -> Conditions:
    conditions = Conditions()
    if which.provider is not None:
        conditions.add("provider = {}", which.provider)
    if which.status == "duplicate":
        conditions.add("deliveries > 1 AND outcome NOT IN ('rejected', 'progress')")
    elif which.status is not None:
        conditions.add("status = {}", which.status)
    if which.reservation is not None:
        conditions.add("reservation = {}", which.reservation)
    if which.task is not None:
        conditions.add("task = {}", which.task)
    return conditions


def _row(row: Record) -> Row:
    values = dict(row)
    if values["outcome"] == "rejected":
        values["outcome"] = None
    return Row(**values)
