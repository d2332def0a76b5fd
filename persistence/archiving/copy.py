"""The copy of a month, until it takes the month's place."""

import asyncio
from collections import Counter
from collections.abc import Callable

from app.ledger.entries import chained, genesis
from persistence import giving_way
from persistence.archiving.choosing import ArchiveRefused, tablespace_for
from persistence.archiving.tables import BOUNDS, KEYS, SHAPE, SUFFIX, literal, tablespaces_of
from persistence.calendar import Ends, Month, ends
from persistence.chain import PAGE, PAGE_ROWS, Amiss, Chain, Unchained
from persistence.pool import Connection

COPY_ROWS = 20_000
"""So many rows are copied by one statement."""


class Unproved(Exception):
    """The month is not as it was written; the text says what of it. A copy may have what it lacks."""


class Spoilt(Unproved):
    """The copy is not as it was written, and nothing is lost with it. Perhaps the month is not, either."""


class Copy:
    """Of one month, in one tablespace. `seen` is told how many more rows were copied or proved."""

    def __init__(
        self, connection: Connection, month: Month, tablespace: str, seen: Callable[[int], None]
    ) -> None:
        self.name = f"{month.name}{SUFFIX}"
        self._connection = connection
        self._month = month
        self._tablespace = tablespace
        self._seen = seen
        self._chains: dict[int, Chain] = {}

    IS_OURS = """
    SELECT EXISTS (
      SELECT FROM pg_constraint WHERE conrelid = to_regclass(quote_ident($1)) AND conname = $2
        AND conrelid NOT IN (SELECT inhrelid FROM pg_inherits)
    )
    """

    async def begin(self) -> None:
        """Have a table for the rows. One that was begun goes on, if it is where and what it should be.

        Raises:
            ArchiveRefused: Its name is taken; or what is made in this database has another tablespace.
        """
        if there := await tablespaces_of(self._connection, self.name):
            if not await self._connection.fetchval(self.IS_OURS, self.name, BOUNDS):
                raise ArchiveRefused.of(
                    self._month.name, f"there is a table {self.name} that is not its copy. Rename it."
                )
            if there == {self._tablespace} and not await self.lacks():
                return
            await self.drop()
        async with self._connection.transaction():
            await self._connection.execute(
                "SELECT set_config('default_tablespace', $1, true)", self._tablespace
            )
            await self._connection.execute("SELECT make_journal_table($1)", self.name)
            since, until = literal(self._month.since), literal(self._month.until)
            await self._connection.execute(
                f'ALTER TABLE "{self.name}" ADD CONSTRAINT {BOUNDS} CHECK (at >= {since} AND at < {until})'
            )
        elsewhere = await tablespaces_of(self._connection, self.name) - {self._tablespace}
        lacks = await self.lacks()
        if elsewhere or lacks:
            await self.drop()
        if elsewhere:
            own = await tablespace_for(self._connection, None)
            raise ArchiveRefused.of(
                self._month.name,
                f"indexes of `journal` itself have the tablespace {', '.join(sorted(elsewhere))}, and so "
                f"would those of its months. ALTER INDEX ... SET TABLESPACE {own} for the indexes of "
                "`journal` (it moves nothing), and try again.",
            )
        if lacks:
            raise ArchiveRefused.of(
                self._month.name,
                f"a new table of the journal has not what `journal` has: {'; '.join(lacks)}.",
            )

    async def lacks(self) -> list[str]:
        """What the copy has not and a month has to have. Attached without an index, it would get it while
        everybody waits.
        """
        mine, all_of_it = [
            Counter(row[0] for row in await self._connection.fetch(SHAPE, table))
            for table in (self.name, "journal")
        ]
        return sorted((all_of_it + Counter(KEYS) - mine).elements())

    async def drop(self) -> None:
        """There is no copy afterwards; one that is not ours is left alone."""
        if await self._connection.fetchval(self.IS_OURS, self.name, BOUNDS):
            await self._connection.execute(f'DROP TABLE "{self.name}"')

    async def is_whole(self) -> bool:
        """Whether it has what the month has: both have their rows without gaps, when they are proved."""
        return await ends(self._connection, self._month.name) == await ends(self._connection, self.name)

    # What no shard has is not copied; with the table it would be gone.
    STRANGER = """
    SELECT shard FROM "{table}", (SELECT coalesce(max(shards), 0) AS shards FROM ledger) AS its
    WHERE shard < 0 OR shard >= its.shards LIMIT 1
    """

    async def demand_month(self) -> None:
        """Raises `Unproved` where the month lacks rows, or has some that it cannot have."""
        stranger = await self._connection.fetchval(self.STRANGER.format(table=self._month.name))
        if stranger is not None:
            raise Unproved(f"The month has rows of shard {stranger}, and the ledger has no such shard.")
        await self._demand_all()

    async def fill(self) -> None:
        """Copy what the copy does not have.

        Raises:
            Unproved: The copy has rows that the month has not.
            Spoilt: The copy lacks some at its beginning.
        """
        there = {each.shard: each for each in await ends(self._connection, self.name)}
        for wanted in await ends(self._connection, self._month.name):
            mine = there.pop(wanted.shard, None)
            if mine is not None and mine.first != wanted.first:
                raise Spoilt(
                    f"Of shard {wanted.shard} the copy begins with row {mine.first}, not {wanted.first}."
                )
            await self._fill(wanted, wanted.first - 1 if mine is None else mine.last)
        if there:
            raise Unproved(f"The copy has rows of shard {min(there)}, the month has none.")

    # Its neighbours in each shard: in a shard time never goes back.
    NEIGHBOURS = """
    SELECT known.shard, coalesce(before.seq, 0) AS before, first.seq AS first, last.seq AS last,
      coalesce(after.seq, cursor + 1) AS after
    FROM generate_series(0, (SELECT shards FROM ledger) - 1) AS known (shard) LEFT JOIN shards USING (shard)
    LEFT JOIN LATERAL (
      SELECT seq FROM journal WHERE shard = known.shard AND at < $1 ORDER BY seq DESC LIMIT 1
    ) AS before ON true
    LEFT JOIN LATERAL (
      SELECT seq FROM journal WHERE shard = known.shard AND at >= $2 ORDER BY seq LIMIT 1
    ) AS after ON true
    LEFT JOIN LATERAL (
      SELECT seq FROM "{table}" WHERE shard = known.shard ORDER BY seq LIMIT 1
    ) AS first ON true
    LEFT JOIN LATERAL (
      SELECT seq FROM "{table}" WHERE shard = known.shard ORDER BY seq DESC LIMIT 1
    ) AS last ON true
    """

    async def _demand_all(self) -> None:
        """What stands between the months around it is all in this one: nothing was cut off at its ends."""
        month = self._month
        rows = await self._connection.fetch(
            self.NEIGHBOURS.format(table=month.name), month.since, month.until
        )
        for shard, before, first, last, after in rows:
            if (before + 1, after) != ((after, before + 1) if first is None else (first, last + 1)):
                has = "none" if first is None else f"{first} to {last}"
                raise Unproved(
                    f"Of shard {shard} the month should have the rows after {before} and before {after}, and "
                    f"has {has}."
                )

    # By their names: a table that is older than a column has it at its end.
    COLUMNS = """
    SELECT attname FROM pg_attribute
    WHERE attrelid = to_regclass(quote_ident($1)) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
    """

    async def _fill(self, wanted: Ends, at: int) -> None:
        names = [row[0] for row in await self._connection.fetch(self.COLUMNS, self._month.name)]
        columns = ", ".join(f'"{name}"' for name in names)
        statement = f"""
        INSERT INTO "{self.name}" ({columns}) SELECT {columns} FROM "{self._month.name}"
        WHERE shard = $1 AND seq > $2 AND seq <= $3 ORDER BY seq
        """  # noqa: S608 - names of ours
        while at < wanted.last:
            upto = min(at + COPY_ROWS, wanted.last)
            await self._connection.execute(statement, wanted.shard, at, upto)
            self._seen(upto - at)
            at = upto

    async def prove(self) -> None:
        """Go along the chain of the copy in each shard, from the row before it to the one after it.

        Raises:
            Spoilt: A row of the copy is not as it was written, or the row after it does not go on from it.
        """
        page = PAGE.format(table=f'"{self.name}"')
        for of in await ends(self._connection, self.name):
            chain = self._chains.get(of.shard) or await self._chain(of)
            self._chains[of.shard] = chain
            try:
                while chain.at < of.last:
                    last = min(chain.at + PAGE_ROWS, of.last)
                    rows = await self._connection.fetch(page, of.shard, chain.at + 1, last)
                    chain.prove(rows, last)
                    self._seen(len(rows))
            except (Amiss, Unchained) as error:
                raise Spoilt(str(error)) from error
            if not await self._goes_on(chain, of):
                raise Spoilt(f"What follows row {of.last} of shard {of.shard} does not go on from it.")

    FOLLOWING = """
    SELECT cursor, shards.head, next.entry, next.hash
    FROM shards LEFT JOIN journal next ON (next.shard, next.seq) = (shards.shard, $2::bigint + 1)
    WHERE shards.shard = $1
    """

    async def _goes_on(self, chain: Chain, of: Ends) -> bool:
        """Whether the row after it, or where there is none its shard, goes on from the head of the chain."""
        row = await self._connection.fetchrow(self.FOLLOWING, of.shard, of.last)
        if row is None:
            return False
        cursor, head, entry, hash_after = row
        if entry is None:
            return bool((cursor, head) == (of.last, chain.head))
        return bool(hash_after == chained(chain.head, of.shard, of.last + 1, entry.encode()))

    HASH = "SELECT hash FROM journal WHERE shard = $1 AND seq = $2"
    LEDGER = "SELECT id FROM ledger"

    async def _chain(self, of: Ends) -> Chain:
        before = of.first - 1
        if before:
            head = await self._connection.fetchval(self.HASH, of.shard, before)
            if head is None:
                raise Spoilt(f"Row {before} of shard {of.shard} is missing.")
        else:
            ledger = await self._connection.fetchval(self.LEDGER)
            head = genesis(ledger.bytes, of.shard)
        return Chain(of.shard, before, head)

    AFTER_COPY = "SELECT pg_current_xact_id()::xid::text"
    IS_OLD = """
    SELECT age(relfrozenxid) < age($2::text::xid) FROM pg_class WHERE oid = to_regclass(quote_ident($1))
    """

    async def settle(self) -> None:
        """Let everybody see its rows. A transaction that has looked at the database before they were written,
        and not yet at the journal, would find the month empty: PostgreSQL calls rows old when there is none.

        Raises:
            giving_way.StillUsed: A transaction that is older than the rows of the copy did not end.
        """
        after_copy = await self._connection.fetchval(self.AFTER_COPY)  # later than all that wrote rows of it
        for n in range(giving_way.TRIES_MAX):
            if n:
                await asyncio.sleep(giving_way.PAUSE_SECONDS)
            # Of a table of one row the same is true, and does not take reading a month to be told.
            await self._connection.execute("VACUUM (FREEZE) ledger")
            if await self._connection.fetchval(self.IS_OLD, "ledger", after_copy):
                await self._connection.execute(f'VACUUM (FREEZE, ANALYZE) "{self.name}"')
                if await self._connection.fetchval(self.IS_OLD, self.name, after_copy):
                    return
        raise giving_way.StillUsed(
            "a transaction that is older than its copy does not end, whatever it reads. It stands in "
            "pg_stat_activity (backend_xmin), pg_prepared_xacts or pg_replication_slots (xmin)"
        )
