"""Reservations and accounts that people look for, page by page, from the projections.

Reservations are listed by their ids, which begin with the time at which they were made, newest first;
accounts by theirs, byte by byte. These orders never change, so that whatever is made meanwhile, no page
repeats or hides what was there.
"""

from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from app.reports import PAGE_MAX
from app.searching import AccountFilter, AccountPage, AccountRow, ReservationFilter, ReservationPage
from persistence import cursors, rebuild
from persistence.conditions import Conditions
from persistence.pool import Connection, Pool, answering
from persistence.walking import Walk, walk_of

LOOKED_MAX = 50_000
"""So many ids of accounts are looked at for a page, which may be short and says where it goes on."""

WALKED_MAX = 5_000
"""The same of reservations, which are larger."""

_Part = Literal[0, 1]
_BEGINS: _Part = 0
_CONTAINS: _Part = 1

_Reservation = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$(?!\n)")]
_Account = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:@+-]{0,128}$(?!\n)")]


class PostgresSearching:
    """`app.searching.Searching`. Every method raises `BackingUnavailable` while PostgreSQL is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    RESERVATIONS = "SELECT r.id::text FROM reservations r WHERE {passed} ORDER BY {order} LIMIT $1"

    # What is walked along an index, and which of it is wanted: however few are, no page reads it all.
    WANTED = """
    SELECT r.id::text FROM (
      SELECT r.id, r.account, r.status, r.cancel_cause, r.model, r.expires_at FROM reservations r
      WHERE {passed} ORDER BY {order} LIMIT $2
    ) AS r
    WHERE {wanted} ORDER BY {order} LIMIT $1
    """

    RESERVATION_BEHIND = """
    SELECT r.id::text FROM reservations r WHERE {passed} ORDER BY {order} OFFSET $1 - 1 LIMIT 1
    """

    async def reservations(
        self, which: ReservationFilter, *, cursor: str | None = None, limit: int = 50
    ) -> ReservationPage:
        """A page of `limit` (1 to 200) reservations.

        Raises:
            InvalidCursor: `cursor` is not one that a page of the same filter gave.
        """
        _demand(limit)
        last = None if cursor is None else UUID(cursors.read(which, cursor, tuple[_Reservation])[0])
        walk = walk_of(which, last)
        async with (
            answering(self._pool) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            ids, behind = await self._ids(connection, walk, limit)
            found = await rebuild.reservations(connection, ids)
        next_cursor = None if behind is None else cursors.write(which, (behind,))
        return ReservationPage([found[each] for each in ids], next_cursor)

    async def _ids(self, connection: Connection, walk: Walk, limit: int) -> tuple[list[str], str | None]:
        """At most `limit`, and behind which id it goes on."""
        passed, wanted, order = walk
        if not wanted:
            statement = self.RESERVATIONS.format(passed=passed.numbered(2), order=order)
            ids = [row[0] for row in await connection.fetch(statement, limit + 1, *passed.values)]
            return ids[:limit], ids[limit - 1] if len(ids) > limit else None
        statement = self.WANTED.format(
            passed=passed.numbered(3), wanted=wanted.numbered(3 + len(passed.values)), order=order
        )
        values = [*passed.values, *wanted.values]
        ids = [row[0] for row in await connection.fetch(statement, limit + 1, WALKED_MAX, *values)]
        if len(ids) > limit:
            return ids[:limit], ids[limit - 1]
        statement = self.RESERVATION_BEHIND.format(passed=passed.numbered(2), order=order)
        return ids, await connection.fetchval(statement, WALKED_MAX, *passed.values)

    async def accounts(
        self, which: AccountFilter, *, cursor: str | None = None, limit: int = 50
    ) -> AccountPage:
        """A page of `limit` (1 to 200) accounts.

        Raises:
            InvalidCursor: `cursor` is not one that a page of the same filter gave.
        """
        _demand(limit)
        part, last = (_BEGINS, "") if cursor is None else cursors.read(which, cursor, tuple[_Part, _Account])
        rows: list[AccountRow] = []
        async with (
            answering(self._pool) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            if part == _BEGINS:
                rows = await self._beginning(connection, which, last, limit + 1)
                if len(rows) > limit:
                    return AccountPage(rows[:limit], cursors.write(which, (_BEGINS, rows[limit - 1].account)))
                if not which.text:
                    return AccountPage(rows, None)
                last = ""
            further, behind = await self._containing(connection, which, last, limit - len(rows))
        return AccountPage(
            rows + further, None if behind is None else cursors.write(which, (_CONTAINS, behind))
        )

    # No LIKE, so that no sign of the text means anything but itself; `~` comes after all that ids have.
    BEGINNING = """
    SELECT account, version, available, held, overdraft_limit, status, low_balance FROM accounts
    WHERE {conditions} ORDER BY account COLLATE "C" LIMIT $1
    """

    async def _beginning(
        self, connection: Connection, which: AccountFilter, after: str, limit: int
    ) -> list[AccountRow]:
        """Those whose id begins with the text."""
        conditions = _of_accounts(which, after)
        if which.text:
            conditions.add('account COLLATE "C" >= {}', which.text)
            conditions.add('account COLLATE "C" < {}', which.text + "~")
        statement = self.BEGINNING.format(conditions=conditions.numbered(2))
        return [
            AccountRow(**dict(row)) for row in await connection.fetch(statement, limit, *conditions.values)
        ]

    # Ids are all in the index; of rows only those are fetched that are found.
    CONTAINING = """
    SELECT account, version, available, held, overdraft_limit, status, low_balance FROM (
      SELECT account FROM accounts WHERE {conditions} ORDER BY account COLLATE "C" LIMIT $2
    ) AS looked JOIN accounts USING (account)
    WHERE strpos(account, $3) > 1 ORDER BY account COLLATE "C" LIMIT $1
    """

    BEHIND = """
    SELECT account FROM accounts WHERE {conditions} ORDER BY account COLLATE "C" OFFSET $1 - 1 LIMIT 1
    """

    async def _containing(
        self, connection: Connection, which: AccountFilter, after: str, limit: int
    ) -> tuple[list[AccountRow], str | None]:
        """Those that have the text further on, and behind which id it goes on: `LOOKED_MAX` are looked at."""
        conditions = _of_accounts(which, after)
        statement = self.CONTAINING.format(conditions=conditions.numbered(4))
        found = await connection.fetch(statement, limit + 1, LOOKED_MAX, which.text, *conditions.values)
        rows = [AccountRow(**dict(row)) for row in found[:limit]]
        if len(found) > limit:
            return rows, rows[-1].account if rows else after
        statement = self.BEHIND.format(conditions=conditions.numbered(2))
        return rows, await connection.fetchval(statement, LOOKED_MAX, *conditions.values)


def _of_accounts(which: AccountFilter, after: str) -> Conditions:
    given = Conditions()
    given.add('account COLLATE "C" > {}', after)
    if which.account is not None:
        given.add("account = {}", which.account)
    return given


def _demand(limit: int) -> None:
    if not 1 <= limit <= PAGE_MAX:
        raise ValueError(f"limit {limit}: 1 to {PAGE_MAX}")
