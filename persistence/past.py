"""What an account had: its balance as of a moment, and its statement between two.

Both are made of the entries alone, of which those up to a version never change: so that they are read in
pages, each a short query of its own, and come out the same however often they are asked for. What the present
projection shows is used only where the moment asked about has the present version.

An answer about a moment is given when the journal has come as far. It has where it knows a later entry of the
account, or where the moment is older than any backlog may be. Otherwise Redis is asked for the account's
version, and the journal is waited for.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from asyncpg import Record

from app.ledger.errors import JournalBacklogged, Overloaded
from app.ledger.ledger import Ledger
from app.ledger.replies import Account, Lot
from app.reports import Standing, Statement, Transaction, Transactions
from persistence import folding, rebuild
from persistence.backing import decode_entry
from persistence.folding import Contradiction
from persistence.pool import Pool, answering

JOURNALED_FOR_SURE = timedelta(days=1)
"""What is older is in the journal: a backlog that is older than six hours stops its shard."""

BEHIND_SECONDS = 2.0
POLL_SECONDS = 0.05
SHOWN_ROWS = 500
FOLDED_ROWS = 1_000
LONG_ROWS = 20_000
LONG_AT_ONCE_MAX = 2
LONG_WAIT_SECONDS = 10.0
NOTHING = Account(format=1, version=0, available=0, held=0, lots=[])

_STEP = timedelta(microseconds=1)


class PostgresPast:
    """`app.reports.Past`. `pool`: of those who read much, so that they delay no pages."""

    def __init__(self, pool: Pool, ledger: Ledger) -> None:
        self._pool = pool
        self._ledger = ledger
        self._long = asyncio.Semaphore(LONG_AT_ONCE_MAX)

    async def balance(self, account: str, at: datetime, now: datetime) -> Account:
        """An account as its last entry at or before `at`, which is not after `now`, left it.

        Raises:
            AccountNotFound, JournalBacklogged
            Overloaded: Too many long histories are being added up.
        """
        await self._arrive(account, at, now)
        (version,) = await self._versions_before(account, at + _STEP)
        if version == 0:
            return NOTHING
        async with answering(self._pool) as connection:
            present = (await rebuild.accounts(connection, [account]))[account]
        if present.version == version:
            return present
        async with self._turn(version):
            return await self._folded(account, version)

    async def statement(self, account: str, since: datetime, until: datetime, now: datetime) -> Statement:
        """The entries with `since <= at < until` of those that are there `now`.

        Raises:
            AccountNotFound, JournalBacklogged
        """
        await self._arrive(account, min(until, now), now)
        # In one snapshot: what is journaled between two looks would be in the one and not in the other.
        first, last = await self._versions_before(account, since, until)
        return Statement(
            opening=await self._standing(account, first),
            closing=await self._standing(account, last),
            entries=self._entries(account, first, last),
        )

    async def _arrive(self, account: str, moment: datetime, now: datetime) -> None:
        """Wait until the journal has all entries of an account up to a moment that is not after `now`."""
        version, last_at = await self._journaled(account)
        if last_at is not None and (last_at > moment or now - moment > JOURNALED_FOR_SURE):
            return
        present = (await self._ledger.balance(account)).account.version
        deadline = time.monotonic() + BEHIND_SECONDS
        while version < present and (last_at is None or last_at <= moment):
            if time.monotonic() > deadline:
                raise JournalBacklogged
            await asyncio.sleep(POLL_SECONDS)
            version, last_at = await self._journaled(account)

    JOURNALED = "SELECT version, last_at FROM accounts WHERE account = $1"

    async def _journaled(self, account: str) -> tuple[int, datetime | None]:
        """The last version that the journal has, and its time."""
        async with answering(self._pool) as connection:
            row = await connection.fetchrow(self.JOURNALED, account)
        return (row["version"], row["last_at"]) if row else (0, None)

    VERSIONS_BEFORE = """
    SELECT version_before($1, moment) FROM unnest($2::timestamptz[]) WITH ORDINALITY AS asked (moment, place)
    ORDER BY place
    """

    async def _versions_before(self, account: str, *moments: datetime) -> list[int]:
        async with answering(self._pool) as connection:
            rows = await connection.fetch(self.VERSIONS_BEFORE, account, moments)
        found: list[int] = []
        for (version,) in rows:
            if version is None:
                raise Contradiction(f"The journal of {account} has no entry where one must be.")
            found.append(version)
        return found

    STANDING = "SELECT available, held, version FROM journal WHERE account = $1 AND version = $2"

    async def _standing(self, account: str, version: int) -> Standing:
        async with answering(self._pool) as connection:
            row = await connection.fetchrow(self.STANDING, account, version)
        return Standing(*row) if row else Standing(0, 0, 0)

    ENTRIES = """
    SELECT j.shard, j.seq, j.version, j.entry, notes.text FROM journal j LEFT JOIN notes USING (shard, seq)
    WHERE j.account = $1 AND j.version > $2 AND j.version <= $3
    ORDER BY j.version LIMIT $4
    """

    async def _entries(self, account: str, after: int, last: int) -> Transactions:
        async for rows in self._pages(self.ENTRIES, account, after, last, SHOWN_ROWS):
            yield [
                Transaction(row["shard"], row["seq"], decode_entry(row["entry"]), row["text"]) for row in rows
            ]

    FOLDED = """
    SELECT shard, version, entry FROM journal WHERE account = $1 AND version > $2 AND version <= $3
    ORDER BY version LIMIT $4
    """

    async def _folded(self, account: str, version: int) -> Account:
        """The account as of `version`, added up from its first entry."""
        state: folding.Account | None = None
        async for rows in self._pages(self.FOLDED, account, 0, version, FOLDED_ROWS):
            state = state or folding.Account(account, rows[0]["shard"], 0, 0)
            for row in rows:
                state.fold(decode_entry(row["entry"]))
        assert state is not None, "it has a first entry"
        return Account(
            format=1,
            version=state.version,
            available=state.available,
            held=state.held,
            lots=[
                Lot(each.bucket, each.priority, each.expires_at_ms, each.available, each.held, each.since)
                for each in state.lots
            ],
            overdraft_limit=state.overdraft_limit,
            status=state.status,
            low_balance=state.low_balance,
        )

    async def _pages(
        self, statement: str, account: str, after: int, last: int, rows_max: int
    ) -> AsyncIterator[list[Record]]:
        """The rows of the versions behind `after` up to `last`, `rows_max` at a time; none may be missing."""
        while after < last:
            async with answering(self._pool) as connection:
                rows = await connection.fetch(statement, account, after, last, rows_max)
            if not rows or rows[-1]["version"] != after + len(rows):
                raise Contradiction(f"The journal of {account} lacks an entry after version {after}.")
            yield rows
            after += len(rows)

    @asynccontextmanager
    async def _turn(self, version: int) -> AsyncIterator[None]:
        """Long histories are added up by two at a time, so that they leave the processor to others."""
        if version <= LONG_ROWS:
            yield
            return
        try:
            async with asyncio.timeout(LONG_WAIT_SECONDS):
                await self._long.acquire()
        except TimeoutError:
            raise Overloaded(cause="histories") from None
        try:
            yield
        finally:
            self._long.release()
